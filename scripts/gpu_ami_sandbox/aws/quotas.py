"""Service Quotas: the EC2 quotas that a build runs into; moto has only those of VPC.

Codes and names: `aws service-quotas list-service-quotas --service-code ec2`. The values are those of an account that
has requested more than the start value of 5 or 0 vCPUs.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.models import ec2_backends

from gpu_ami_sandbox.aws.refusals import refuse

NAMES = {
    "L-1216C47A": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    "L-DB2E81BA": "Running On-Demand G and VT instances",
    "L-417A185B": "Running On-Demand P instances",
    "L-34B43A08": "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
    "L-3819A6DF": "All G and VT Spot Instance Requests",
    "L-7212CCBC": "All P Spot Instance Requests",
    "L-B665C33B": "AMIs",
}
_AMIS = 50_000.0
_VCPUS = 256.0


def set_quota(account: str, region: str, code: str, value: float) -> None:
    """Change the quota *code* of an account, for tests."""
    _kept(account, region)[code] = value


def _kept(account: str, region: str) -> dict[str, float]:
    kept: dict[str, float] = vars(ec2_backends[account][region]).setdefault("sandbox_quotas", {})
    return kept


class ServiceQuotas(BaseResponse):
    """The service servicequotas."""

    def __init__(self) -> None:
        super().__init__(service_name="service-quotas")
        self.automated_parameter_parsing = True

    def get_service_quota(self) -> ActionResult:
        """Show one quota with the value that applies to the account."""
        service, code = str(self._get_param("ServiceCode")), str(self._get_param("QuotaCode"))
        if service != "ec2" or code not in NAMES:
            refuse("NoSuchResourceException", f"The request failed because the quota {service}/{code} does not exist.")
        return ActionResult({"Quota": self._shown(code)})

    def _shown(self, code: str) -> dict[str, Any]:
        value = _kept(self.current_account, self.region).get(code, _AMIS if code == "L-B665C33B" else _VCPUS)
        return {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaArn": f"arn:aws:servicequotas:{self.region}:{self.current_account}:ec2/{code}",
            "QuotaCode": code,
            "QuotaName": NAMES[code],
            "Value": value,
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }
