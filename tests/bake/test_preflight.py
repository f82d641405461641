"""The checks before an instance is paid for, against the local AWS."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.access import Access, Identity
from gpu_ami.bake import preflight
from gpu_ami.bake.preflight import Check, failed, run_checks
from gpu_ami.errors import AwsError
from gpu_ami.sandbox.session import Sandbox

REGISTRY = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com"
NAMES = ["credentials", "base AMI", "container image", "models", "network"]


def _values(sandbox: Sandbox, **changed: str) -> dict[str, Any]:
    account = sandbox.account
    return {
        "ecr_repository_url": account.ecr_repository_url,
        "image_tag": account.image_tag,
        "subnet_id": account.subnet_id,
        "security_group_id": account.security_group_id,
        "models_s3_bucket": account.models_bucket,
    } | changed


def _checks(sandbox: Sandbox, account: str | None = None, **changed: str) -> dict[str, Check]:
    found = run_checks(sandbox.access, _values(sandbox, **changed), account=account)
    assert [check.check for check in found] == NAMES
    return {check.check: check for check in found}


def test_everything_is_found_in_the_demo_account(local_aws: Sandbox) -> None:
    """The details are what a person compares with what they meant."""
    checks = _checks(local_aws, account=local_aws.account.account_id)

    assert {check.status for check in checks.values()} == {"ok"}
    assert local_aws.account.source_ami_id in checks["base AMI"].detail
    assert local_aws.account.image_digest in checks["container image"].detail
    assert f"{len(local_aws.account.model_checksums)} files" in checks["models"].detail
    assert failed(list(checks.values())) == []


@pytest.mark.parametrize(
    ("changed", "check", "detail"),
    [
        ({"image_tag": "nope"}, "container image", "no image nope"),
        ({"image_digest": "sha256:" + "0" * 64}, "container image", "no image sha256:0"),
        (
            {"ecr_repository_url": "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/none"},
            "container image",
            "none in",
        ),
        ({"ecr_repository_url": "docker.io/library/x"}, "container image", "is not an ECR repository"),
        ({"models_s3_bucket": "no-such-bucket-here"}, "models", "does not exist"),
        ({"subnet_id": "subnet-0123456789abcdef0"}, "network", "subnet-0123456789abcdef0 not found"),
        ({"security_group_id": "sg-0123456789abcdef0"}, "network", "sg-0123456789abcdef0 not found"),
        ({"subnet_id": ""}, "network", "subnet_id is not set"),
    ],
)
def test_each_missing_input_is_named_with_its_fix(
    local_aws: Sandbox, changed: dict[str, str], check: str, detail: str
) -> None:
    """One wrong input fails one check; the others still say what they found."""
    checks = _checks(local_aws, **changed)

    assert [found.check for found in failed(list(checks.values()))] == [check]
    assert detail in checks[check].detail
    assert checks[check].fix


def test_an_empty_models_prefix_fails(local_aws: Sandbox) -> None:
    """A forgotten upload would otherwise be found out after twenty minutes of baking."""
    local_aws.access.client("s3").create_bucket(
        Bucket="empty-models", CreateBucketConfiguration={"LocationConstraint": "ap-northeast-2"}
    )

    assert "has nothing under models/" in _checks(local_aws, models_s3_bucket="empty-models")["models"].detail


def test_optional_inputs_may_be_left_out(local_aws: Sandbox) -> None:
    """No bucket is fine (skip), an explicit AMI is taken at its word, no group means a temporary one."""
    checks = _checks(local_aws, models_s3_bucket="", source_ami="ami-12345678", security_group_id="")

    assert checks["models"].status == "skip"
    assert checks["base AMI"].detail.startswith("ami-12345678")
    assert "temporary security group" in checks["network"].detail


def test_the_wrong_account_fails(local_aws: Sandbox) -> None:
    """A build in somebody else's account is paid by them and found by nobody."""
    check = _checks(local_aws, account="999999999999")["credentials"]

    assert (check.status, "999999999999" in check.detail) == ("fail", True)


def test_a_region_without_the_parameter_says_so(local_aws: Sandbox) -> None:
    """Not every region has the ECS GPU AMI."""
    check = _checks(local_aws, base_ami_parameter="/aws/service/none/image_id")["base AMI"]

    assert (check.status, check.detail) == ("fail", "/aws/service/none/image_id names no AMI in ap-northeast-2")


def test_a_check_that_cannot_be_made_is_a_failed_check(local_aws: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is assumed to be fine because nobody could look."""

    def refuse(_access: Access) -> Identity:
        msg = "AWS refused to say whose credentials these are"
        raise AwsError(msg)

    monkeypatch.setattr(preflight, "identify", refuse)

    check = _checks(local_aws)["credentials"]

    assert (check.status, check.detail) == ("fail", "AWS refused to say whose credentials these are")
