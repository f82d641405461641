"""One SSM parameter: what SSM says is not what it did until it is read back."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.caller import RefusedError, UnansweredError
from gpu_ami.aws.parameters import IMAGE, Parameter, owning_stack, put_image, read, wait_for
from gpu_ami.errors import AwsError
from tests.support.fake_caller import FakeCaller

ROW = {"Name": "/p", "Value": "ami-1", "Type": "String", "DataType": IMAGE, "Version": 3}
GONE = RefusedError("x", "ParameterNotFound")


def _shows(*rows: Any) -> FakeCaller:
    return FakeCaller({"get_parameter": [row if isinstance(row, Exception) else {"Parameter": row} for row in rows]})


def test_a_parameter_is_read_as_ssm_shows_it() -> None:
    """Without a data type it is text."""
    assert read(_shows(ROW), "/p") == Parameter(name="/p", value="ami-1", type="String", data_type=IMAGE, version=3)
    found = read(_shows({**ROW, "DataType": None}), "/p")
    assert found is not None
    assert found.data_type == "text"


def test_a_missing_parameter_is_none_and_a_refusal_is_not() -> None:
    """Without the permission nothing is known."""
    assert read(_shows(GONE), "/p") is None
    with pytest.raises(RefusedError, match="no rights"):
        read(_shows(RefusedError("no rights", "AccessDeniedException")), "/p")
    with pytest.raises(UnansweredError, match="makes no sense"):
        read(_shows({}), "/p")


def test_a_new_parameter_gets_tags_and_an_old_one_is_overwritten() -> None:
    """SSM refuses both at once."""
    caller = FakeCaller({"put_parameter": [{"Version": 1}]})

    assert put_image(caller, "/p", "ami-1", exists=False, tags={"a": "b"}) == 1
    put_image(caller, "/p", "ami-1", exists=True, tags={"a": "b"})

    common = {"Name": "/p", "Value": "ami-1", "Type": "String", "DataType": IMAGE}
    assert [request for _, request in caller.requests] == [
        {**common, "Tags": [{"Key": "a", "Value": "b"}]},
        {**common, "Overwrite": True},
    ]


def test_a_parameter_that_came_into_being_meanwhile_is_read_back() -> None:
    """It is ours when the first answer was lost; whose it is shows in its value."""
    caller = FakeCaller({"put_parameter": [RefusedError("x", "ParameterAlreadyExists")]})
    assert put_image(caller, "/p", "ami-1", exists=False, tags={}) == 1
    with pytest.raises(RefusedError):
        put_image(FakeCaller({"put_parameter": [RefusedError("x", "TooManyUpdates")]}), "/p", "a", exists=True, tags={})


def test_the_value_is_waited_for() -> None:
    """SSM answers first and validates the AMI afterwards."""
    pauses: list[float] = []
    caller = _shows(GONE, {**ROW, "Value": "ami-0", "Version": 2}, ROW)

    found = wait_for(caller, "/p", "ami-1", 3, sleep=pauses.append)

    assert (found.value, pauses) == ("ami-1", [0.25, 0.5])


@pytest.mark.parametrize(("row", "shown"), [(GONE, "is not there"), ({**ROW, "Value": "ami-0"}, "still shows ami-0")])
def test_a_value_that_never_comes_is_an_error(row: Any, shown: str) -> None:
    """The answer was a success all the same; the error says what is missing."""
    with pytest.raises(AwsError, match=f"after 60 s the parameter {shown}: .*ec2:DescribeImages"):
        wait_for(_shows(row), "/p", "ami-1", 4, sleep=lambda _seconds: None)


def test_somebody_elses_value_is_not_taken_for_ours() -> None:
    """Two publications at once: the second one holds, and the first one says so."""
    with pytest.raises(AwsError, match="Somebody else set /p in r to ami-9 meanwhile, as version 5"):
        wait_for(_shows({**ROW, "Value": "ami-9", "Version": 5}), "/p", "ami-1", 4)


def test_a_stack_that_owns_the_parameter_is_found() -> None:
    """Whoever may not read tags learns nothing, and publishes all the same."""
    tags = [{"Key": "a", "Value": "b"}, {"Key": "aws:cloudformation:stack-name", "Value": "net"}]
    assert owning_stack(FakeCaller({"list_tags_for_resource": [{"TagList": tags}]}), "/p") == "net"
    assert owning_stack(FakeCaller({"list_tags_for_resource": [{"TagList": tags[:1]}]}), "/p") is None
    denied = RefusedError("x", "AccessDeniedException")
    assert owning_stack(FakeCaller({"list_tags_for_resource": [denied]}), "/p") is None
    with pytest.raises(RefusedError):
        owning_stack(FakeCaller({"list_tags_for_resource": [RefusedError("x", "InternalServerError")]}), "/p")
