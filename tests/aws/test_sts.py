"""STS: the credentials of a role are another account's, and show nowhere."""

from __future__ import annotations

import traceback

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.aws.sts import assume, identify
from gpu_ami.errors import AwsError
from gpu_ami_sandbox.aws.server import LocalAws

REGION = "ap-northeast-2"
SECRET = "cGFzc3dvcmQ9aHVudGVyMg"


@pytest.fixture
def aws(aws_server: LocalAws, over_http: None) -> LocalAws:
    """An empty local AWS, behind a network that can fail."""
    aws_server.reset()
    return aws_server


def test_a_role_in_another_account_is_entered(aws: LocalAws) -> None:
    """Its credentials are another account's, and do not show in a traceback."""
    own = Access(region=REGION, endpoint_url=aws.endpoint_url)

    theirs = assume(own, "arn:aws:iam::210987654321:role/reader")

    assert (identify(theirs).account, identify(own).account) == ("210987654321", aws.account_id)
    assert "session_token" not in repr(theirs)


def test_a_malformed_answer_about_ones_own_credentials_is_not_shown(aws: LocalAws) -> None:
    """Not in a traceback either, which a workflow would print with GPU_AMI_TRACEBACK=1."""
    aws.gate.reply(f"<AssumeRoleResponse><AssumeRoleResult><Credentials>{SECRET}".encode(), action="AssumeRole")
    own = Access(region=REGION, endpoint_url=aws.endpoint_url)

    with pytest.raises(AwsError, match="malformed") as caught:
        assume(own, "arn:aws:iam::210987654321:role/reader")

    assert SECRET not in "".join(traceback.format_exception(caught.value))
