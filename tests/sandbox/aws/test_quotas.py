"""Service Quotas answers for the EC2 quotas that a build runs into."""

from __future__ import annotations

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws.quotas import NAMES, set_quota
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.resources import REGION, refused


@pytest.mark.parametrize("code", NAMES)
def test_a_quota_is_shown_with_each_field(access: Access, aws: LocalAws, code: str) -> None:
    """A misspelt key would be dropped silently."""
    quota = access.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]

    assert quota == {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{REGION}:{aws.account_id}:ec2/{code}",
        "QuotaCode": code,
        "QuotaName": NAMES[code],
        "Value": 50_000.0 if NAMES[code] == "AMIs" else 256.0,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def test_a_quota_can_be_lowered_until_the_account_is_emptied(access: Access, aws: LocalAws) -> None:
    """A new account has 0 or 5 vCPUs: tests need that one too."""
    quotas = access.client("service-quotas")
    set_quota(aws.account_id, REGION, "L-1216C47A", 5.0)

    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]["Value"] == 5.0
    aws.reset()
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]["Value"] == 256.0


@pytest.mark.parametrize(("service", "code"), [("ec2", "L-00000000"), ("vpc", "L-1216C47A")])
def test_an_unknown_quota_is_refused(access: Access, service: str, code: str) -> None:
    """With Service Quotas' own error."""
    with refused("NoSuchResourceException"):
        access.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
