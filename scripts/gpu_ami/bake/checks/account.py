"""Whose credentials these are, and whether the clock lets AWS believe them."""

from __future__ import annotations

from datetime import timedelta

from gpu_ami.aws.sts import Identity
from gpu_ami.bake.checks.check import Check

# AWS refuses what was signed more than five minutes off.
_REFUSED = timedelta(minutes=5)
_NOTICED = timedelta(minutes=1)


def credentials(who: Identity, region: str, account: str | None) -> Check:
    """Judge whose credentials these are; *account* is the one that the settings insist on, if any."""
    if account is not None and who.account != account:
        return Check(
            "credentials",
            "fail",
            f"these are for account {who.account}, pipeline.yaml says {account}",
            "Choose another profile with --profile, or fix `account` in pipeline.yaml.",
        )
    if who.arn.endswith(":root"):
        return Check(
            "credentials",
            "warn",
            f"the root user of account {who.account}, in {region}",
            "Use a role that may bake and nothing more: the root user cannot be limited.",
        )
    return Check("credentials", "ok", f"{who.arn} in {region}")


def clock(ahead: timedelta | None) -> Check:
    """Judge how far this machine's clock is *ahead* of AWS's."""
    if ahead is None:
        return Check("clock", "skip", "AWS's answer had no date to compare with")
    seconds = round(abs(ahead).total_seconds())
    said = f"{seconds} s {'ahead of' if ahead > timedelta(0) else 'behind'} AWS's"
    fix = "Set the clock (`timedatectl set-ntp true`, or restart the virtual machine)."
    if abs(ahead) > _REFUSED:
        return Check("clock", "fail", f"{said}: signed requests are refused after 5 minutes", fix)
    if abs(ahead) > _NOTICED:
        return Check("clock", "warn", said, fix)
    return Check("clock", "ok", "in step with AWS's" if seconds < 2 else said)
