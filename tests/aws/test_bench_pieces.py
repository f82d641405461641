"""What a bench asks of AWS in its own words: time limits of queues, lines of logs, templates, and listings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpu_ami.aws import batch_resources, bench_hosts, build_resources, instances, launch_templates, log_lines
from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, RefusedError
from tests.support.fake_caller import FakeCaller


def _reasons(parameters: dict[str, Any]) -> list[str]:
    return [action["reason"].partition(":")[2] for action in parameters["jobStateTimeLimitActions"]]


def test_a_queue_cancels_for_all_that_batch_cancels_for() -> None:
    """A job that waits in vain is cancelled; where Batch does not know the youngest reason, for the others."""
    known = FakeCaller({"create_job_queue": [{}]})
    old = FakeCaller({"create_job_queue": [RefusedError("no such reason", "ClientException"), {}]})

    for caller in (known, old):
        batch_resources.create_queue(caller, "q", "e", {}, stuck_s=1200)

    three = ["INSUFFICIENT_INSTANCE_CAPACITY", "COMPUTE_ENVIRONMENT_MAX_RESOURCE", "JOB_RESOURCE_REQUIREMENT"]
    assert [_reasons(asked) for _, asked in known.requests] == [[*three, "EC2_INSTANCE_CONFIGURATION_UNSUPPORTED"]]
    assert _reasons(old.requests[-1][1]) == three


@pytest.mark.parametrize(("code", "may_have_acted"), [("AccessDeniedException", False), ("ClientException", True)])
def test_other_refusals_of_a_queue_are_told(code: str, may_have_acted: bool) -> None:
    """Whether it is there after all is the caller's to look for: it needs the first refusal."""
    refusal = RefusedError("Object already exists", code)
    refusal.may_have_acted = may_have_acted
    caller = FakeCaller({"create_job_queue": [refusal]})

    with pytest.raises(RefusedError) as caught:
        batch_resources.create_queue(caller, "q", "e", {}, stuck_s=1200)

    assert caught.value is refusal
    assert len(caller.requests) == 1


def _events(count: int, token: str) -> dict[str, Any]:
    return {"events": [{"timestamp": 1000, "message": "x"}] * count, "nextForwardToken": token}


def test_lines_are_read_to_the_streams_end() -> None:
    """An answer may be empty and not the last: only the same token once more is the end."""
    caller = FakeCaller({"get_log_events": [_events(2, "a"), _events(0, "b"), _events(1, "c"), _events(0, "c")]})

    found = log_lines.first_lines(caller, "g", "s")

    assert found is not None
    assert len(found) == 3
    assert [asked.get("nextToken") for _, asked in caller.requests] == [None, "a", "b", "c"]


def test_an_image_that_talks_for_ever_is_heard_so_far() -> None:
    """What imported modules print goes to the same stream."""
    tokens = iter(range(10_000))
    caller = FakeCaller({"get_log_events": lambda **asked: _events(min(4000, asked["limit"]), str(next(tokens)))})

    found = log_lines.first_lines(caller, "g", "s")

    assert found is not None
    assert len(found) == 10_000
    assert len(caller.requests) == 3


def _filled(shape: Any, depth: int = 0) -> Any:
    """Return a value of a shape with every member that it has."""
    if shape.type_name == "structure":
        return {name: _filled(member, depth + 1) for name, member in shape.members.items()}
    if shape.type_name == "list":
        return [_filled(shape.member, depth + 1)]
    kinds = {"integer": 1, "boolean": True, "double": 1.0, "timestamp": "2026-11-30T12:00:00Z"}
    return kinds.get(shape.type_name, "x")


def test_what_ec2_shows_of_a_template_is_what_it_takes() -> None:
    """Its answers have members that its requests lack: sent back, botocore refuses them all, and so the bench."""
    from botocore.validate import ParamValidator

    caller = Caller(Access(region="eu-west-1", endpoint_url="http://127.0.0.1:9"))
    with caller.access.calling("ec2", "eu-west-1") as client:
        model = client.meta.service_model
    shown = model.operation_model("DescribeLaunchTemplateVersions").output_shape
    full = _filled(shown.members["LaunchTemplateVersions"].member.members["LaunchTemplateData"])
    taken = model.operation_model("CreateLaunchTemplate").input_shape.members["LaunchTemplateData"]
    assert ParamValidator().validate(full, taken).has_errors()

    found = launch_templates.as_request(caller, full)

    assert not ParamValidator().validate(found, taken).has_errors()
    assert "State" in full["MetadataOptions"]
    assert "State" not in found["MetadataOptions"]
    assert found["NetworkInterfaces"][0]["Ipv6Addresses"] == [{"Ipv6Address": "x"}]
    assert found["MetadataOptions"]["HttpTokens"] == "x"


_ROWS: dict[str, dict[str, Any]] = {
    "describe_instances": {"Reservations": []},
    "describe_volumes": {"Volumes": []},
    "describe_volume_status": {"VolumeStatuses": []},
    "describe_launch_templates": {"LaunchTemplates": []},
}


@pytest.mark.parametrize(
    "look",
    [
        lambda caller: bench_hosts.kinds(caller, ["vol-1"]),
        lambda caller: launch_templates.named(caller, "x"),
        lambda caller: instances.volumes_of_run(caller, "r"),
        lambda caller: instances.of_run(caller, "r"),
        lambda caller: instances.state_of(caller, "i-1"),
        lambda caller: build_resources.find(caller, "instance", "f"),
        lambda caller: build_resources.find(caller, "volume", "f"),
        lambda caller: build_resources.find(caller, "launch-template", "f"),
        lambda caller: build_resources.volumes_of(caller, ["i-1"]),
        lambda caller: build_resources.wait_until_terminated(caller, ["i-1"]),
    ],
)
def test_what_aws_services_manage_is_listed_too(look: Callable[[Caller], object]) -> None:
    """An account may hide Batch's own instances and templates: what is not seen is not taken away, and is paid."""
    caller = FakeCaller({operation: [answer] for operation, answer in _ROWS.items()})

    look(caller)

    assert [asked.get("IncludeManagedResources") for _, asked in caller.requests] == [True]
