"""Where a builder may start, and which failures another placement can avoid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpu_ami.bake.packer_events import Progress, advance, parse_line
from gpu_ami.bake.placement import Placement, placements, shortage
from gpu_ami.bake.variables import typed

CPU = {
    "subnet_id": "subnet-a",
    "fallback_subnet_ids": ["subnet-b", "subnet-a"],
    "instance_type": "c7i.4xlarge",
    "fallback_instance_types": ["m7i.4xlarge", "c7i.4xlarge"],
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {},
            [
                ("subnet-a", "c7i.4xlarge"),
                ("subnet-b", "c7i.4xlarge"),
                ("subnet-a", "m7i.4xlarge"),
                ("subnet-b", "m7i.4xlarge"),
            ],
        ),
        ({"fallback_subnet_ids": [], "fallback_instance_types": []}, [("subnet-a", "c7i.4xlarge")]),
        ({"spot": True}, [("subnet-a", ""), ("subnet-b", "")]),
        ({"spot": "true"}, [("subnet-a", ""), ("subnet-b", "")]),
        ({"spot": "false", "fallback_subnet_ids": "[]"}, [("subnet-a", "c7i.4xlarge"), ("subnet-a", "m7i.4xlarge")]),
        (
            {"fallback_subnet_ids": '["subnet-c"]', "fallback_instance_types": "[]"},
            [("subnet-a", "c7i.4xlarge"), ("subnet-c", "c7i.4xlarge")],
        ),
        ({"fallback_subnet_ids": None, "subnet_id": ""}, []),
    ],
    ids=["all", "no fall-backs", "spot", "spot as text", "lists as text", "lists as text too", "nothing given"],
)
def test_each_type_is_tried_in_every_subnet_first(changed: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """The preferred type in another zone is closer to what was requested than another type."""
    assert placements(typed(CPU | changed)) == tuple(Placement(*pair) for pair in expected)


@pytest.mark.parametrize(
    ("first", "kept"),
    [
        ("g5.xlarge", ["g6.xlarge", "p4d.24xlarge", "gr6.4xlarge"]),
        ("c7i.4xlarge", ["m7i.4xlarge", "c7gn.4xlarge"]),
    ],
)
def test_a_fall_back_of_another_kind_is_left_out(first: str, kept: list[str]) -> None:
    """A bake meant to check the GPU stack would pass on a CPU builder without having checked anything."""
    mixed = ["m7i.4xlarge", "g6.xlarge", "p4d.24xlarge", "c7gn.4xlarge", "gr6.4xlarge"]
    values = {"subnet_id": "s", "instance_type": first, "fallback_instance_types": mixed}

    assert [placement.instance_type for placement in placements(typed(values))] == [first, *kept]


def test_a_place_says_how_to_get_there() -> None:
    """As variables for Packer and as text for people; a Spot builder's type is EC2's to pick."""
    assert Placement("s", "t").variables == {"subnet_id": "s", "instance_type": "t"}
    assert Placement("s").variables == {"subnet_id": "s"}
    assert (str(Placement("s", "t")), str(Placement("s"))) == ("t in s", "a Spot builder in s")


def _progress(*lines: str) -> Progress:
    progress = Progress(scripts=("a", "b"))
    for line in lines:
        event = parse_line(line)
        assert event is not None
        progress = advance(progress, event)
    return progress


LAUNCHING = "1,,ui,say,==> amazon-ebs.gpu: Launching a source AWS instance..."
SPOT = "1,,ui,say,==> amazon-ebs.gpu: Launching a spot AWS instance..."
CLEANING = "1,,ui,say,==> amazon-ebs.gpu: Cleaning up any extra volumes..."
_COMMA = "%!(PACKER_COMMA)"


def _refused(code: str, message: str, status: int = 400) -> str:
    http = f"https response error StatusCode: {status}, RequestID: r"
    api = f"operation error EC2: RunInstances, {http}, api error {code}: {message}"
    return f"1,amazon-ebs.gpu,error,Error launching source instance: {api}".replace(", ", f"{_COMMA} ")


def _fleet(message: str) -> str:
    return f"1,amazon-ebs.gpu,error,Error waiting for fleet request (fleet-1) to become ready:{message}"


SHORTAGES = {
    "InsufficientInstanceCapacity": [
        (LAUNCHING, _refused("InsufficientInstanceCapacity", "We currently do not have sufficient c7i capacity", 500)),
        (SPOT, _fleet("There is no Spot capacity available that matches your request.")),
    ],
    "Unsupported": [
        (
            LAUNCHING,
            _refused(
                "Unsupported",
                "Your requested instance type (c7i) is not supported in your requested Availability Zone",
            ),
        )
    ],
    "InsufficientFreeAddressesInSubnet": [(LAUNCHING, _refused("InsufficientFreeAddressesInSubnet", "x"))],
    "InsufficientHostCapacity": [(LAUNCHING, _refused("InsufficientHostCapacity", "x", 500))],
    "SpotMaxPriceTooLow": [
        (
            SPOT,
            _fleet("Your price is lower than the minimum required Spot request fulfillment price of 0.2."),
        ),
        (SPOT, f"1,amazon-ebs.gpu,error,errors: Error code: SpotMaxPriceTooLow{_COMMA} Error Message: x"),
    ],
    "UnfulfillableCapacity": [
        (SPOT, _fleet("Unable to fulfill capacity due to your request configuration. Please adjust your request."))
    ],
}


@pytest.mark.parametrize(
    ("code", "first", "error"), [(code, *case) for code, cases in SHORTAGES.items() for case in cases]
)
def test_a_lack_of_room_is_told_from_packers_words(code: str, first: str, error: str) -> None:
    """Of a Spot request the plugin prints EC2's message only, of an instance the code as well."""
    assert shortage(_progress(first, error, CLEANING)) == code


@pytest.mark.parametrize(
    "error",
    [
        _refused("VcpuLimitExceeded", "You have requested more than your vCPU limit"),
        _refused("UnauthorizedOperation", "You are not authorized to perform this operation."),
        _refused("InvalidSubnetID.NotFound", "x"),
        _refused("UnsupportedOperation", "x"),
        _fleet("You are not authorized"),
        "1,amazon-ebs.gpu,error,Timeout waiting for SSH.",
    ],
)
def test_other_failures_would_be_the_same_elsewhere(error: str) -> None:
    """A quota holds for the region, a missing permission everywhere: a second instance only costs time."""
    assert shortage(_progress(LAUNCHING, error, CLEANING)) is None


def test_what_fails_on_a_running_builder_is_no_lack_of_room() -> None:
    """A script may print anything, the code included; its instance was there."""
    error = _refused("InsufficientInstanceCapacity", "x")
    failed = _progress(LAUNCHING, error)

    assert shortage(failed) == "InsufficientInstanceCapacity"
    assert shortage(replace(failed, instance_id="i-1")) is None
    assert shortage(replace(failed, step=1)) is None


def test_an_instance_that_ec2_ends_before_it_runs_had_no_room() -> None:
    """The request is taken, the capacity is gone a moment later; the plugin prints EC2's reason for the state."""
    reason = "Server.InsufficientInstanceCapacity: Insufficient capacity to satisfy instance request"
    failed = _progress(
        LAUNCHING,
        "1,,ui,say,==> amazon-ebs.gpu: Instance ID: i-0123456789abcdef0",
        f"1,,ui,error,==> amazon-ebs.gpu: Instance state change details: Server.Internal: {reason}",
        "1,amazon-ebs.gpu,error,Error waiting for instance (i-0123456789abcdef0) to become ready: unexpected state",
        CLEANING,
    )

    assert failed.instance_id
    assert shortage(failed) == "InsufficientInstanceCapacity"
