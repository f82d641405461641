"""Which parameters may be set to an AMI."""

from __future__ import annotations

import pytest

from gpu_ami.aws.parameters import IMAGE, Parameter
from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.handover.publication import checked_name, old_ami

AMI = "ami-0123456789abcdef0"


def _parameter(value: str = AMI, type_: str = "String", data_type: str = IMAGE) -> Parameter:
    return Parameter(name="/p", value=value, type=type_, data_type=data_type, version=1)


@pytest.mark.parametrize("name", ["/gpu-ami/gpu-batch/ami-id", "golden", "/golden", "/a.b/c_d", "/gpu/aws"])
def test_a_name_that_ssm_takes(name: str) -> None:
    """With levels it begins with a slash."""
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/", "a/b", "/a//b", "/a/", "/aws/x", "AWS-x", "/ssm-x", "a b", "한", "/a:1", "/x" * 16, "a" * 1012]
)
def test_a_name_that_ssm_refuses_is_refused_first(name: str) -> None:
    """Before anything is looked up."""
    with pytest.raises(UsageError, match="is no parameter name"):
        checked_name(name)


def test_what_is_replaced_is_an_ami() -> None:
    """Or nothing, the first time."""
    assert old_ami("r", None) is None
    assert old_ami("r", _parameter()) == AMI


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (_parameter(type_="SecureString", value="AQIC"), "is a SecureString"),
        (_parameter(type_="StringList", value=f"{AMI},{AMI}"), "is a StringList"),
        (_parameter(value="v1.2"), "holds 'v1.2', no AMI id: it is somebody's other parameter"),
        (_parameter(data_type="text"), "has the data type text, which SSM never changes to aws:ec2:image"),
    ],
)
def test_somebodys_other_parameter_is_left_alone(found: Parameter, problem: str) -> None:
    """A name that is taken must not cost somebody a value."""
    with pytest.raises(SafetyError, match=problem):
        old_ami("r", found)
