"""An AMI looked up by its id, whatever became of it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from gpu_ami.aws.calls import RefusedError, UnansweredError
from gpu_ami.aws.candidates import Candidate, architectures, look_up
from tests.support.fake_caller import FakeCaller

ROW = {"ImageId": "ami-1", "OwnerId": "1", "State": "available", "Architecture": "x86_64"}


def test_an_ami_is_read_as_ec2_shows_it() -> None:
    """Deprecated and disabled ones are asked for too: a person must hear why theirs is refused."""
    more = {
        "StateReason": {"Message": "no space"},
        "DeprecationTime": "2026-01-02T03:04:05.000Z",
        "Tags": [{"Key": "a", "Value": "b"}],
    }
    caller = FakeCaller({"describe_images": [{"Images": [{**ROW, **more}]}]})

    assert look_up(caller, "ami-1") == Candidate(
        image_id="ami-1",
        region="r",
        reason="no space",
        owner="1",
        architecture="x86_64",
        deprecated_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        tags={"a": "b"},
    )
    assert caller.asked[0][1] == {"ImageIds": ["ami-1"], "IncludeDeprecated": True, "IncludeDisabled": True}


@pytest.mark.parametrize("answer", [{"Images": []}, RefusedError("x", "InvalidAMIID.NotFound")])
def test_an_ami_that_is_gone_is_none(answer: Any) -> None:
    """EC2 says so in two ways."""
    assert look_up(FakeCaller({"describe_images": [answer]}), "ami-1") is None


@pytest.mark.parametrize("answer", [{}, {"Images": None}, {"Images": [{"ImageId": "ami-1"}]}, {"Images": ["x"]}])
def test_an_answer_that_makes_no_sense_is_an_error(answer: Any) -> None:
    """Nothing known is not nothing wrong."""
    with pytest.raises(UnansweredError, match="makes no sense"):
        look_up(FakeCaller({"describe_images": [answer]}), "ami-1")


def test_a_refusal_for_another_reason_is_passed_on() -> None:
    """A missing permission must not look like a missing AMI."""
    with pytest.raises(RefusedError, match="no rights"):
        look_up(FakeCaller({"describe_images": [RefusedError("no rights", "UnauthorizedOperation")]}), "ami-1")


def test_an_instance_type_has_its_architectures() -> None:
    """Some run two."""
    row = {"InstanceType": "x", "ProcessorInfo": {"SupportedArchitectures": ["i386", "x86_64"]}}
    assert architectures(FakeCaller({"describe_instance_types": [{"InstanceTypes": [row]}]}), "x") == ("i386", "x86_64")
    with pytest.raises(UnansweredError):
        architectures(FakeCaller({"describe_instance_types": [{"InstanceTypes": []}]}), "x")
