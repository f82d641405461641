"""Refuses to apply an AMI whose provenance is refused, or that has none where the settings require one."""

from __future__ import annotations

from collections.abc import Iterable

from gpu_ami.deploy import coming
from gpu_ami.errors import SafetyError
from gpu_ami.handover import attested
from gpu_ami.invocation import Invocation
from gpu_ami.terraform.plan_changes import EnvironmentChange


def check(run: Invocation, changes: Iterable[EnvironmentChange]) -> None:
    """Refuse to move an environment to an AMI whose provenance the judge refuses, whatever was live before.

    It goes by what the plan gives each environment, wherever that comes from. A rollback is no exception: an AMI of
    before there was provenance is let through unless the settings require one, and an altered one is what it was.

    Args:
        run: The invocation that applies it.
        changes: What the plan does to the environments that are the pipeline's.

    Raises:
        SafetyError: One is refused; or provenance is required, and the plan does not say which it is, or EC2 shows none
            in the pipeline's region.
        UsageError: A verifier of the settings cannot be used.
        AwsError: AWS or its KMS refused, or cannot be reached.
    """
    setting, is_required = "provenance.required: true", run.settings.provenance.required
    moves = [ami for change in changes for ami in coming.amis(change, setting, "proven", must_be_known=is_required)]
    for ami_id in dict.fromkeys(moves):
        region = run.settings.region
        if not attested.check(run, {region: ami_id}, done="Nothing was applied.") and is_required:
            msg = (
                f"{ami_id} is not there in {region}: nothing says where it comes from, and pipeline.yaml has "
                f"{setting}. Nothing was applied."
            )
            raise SafetyError(msg)
