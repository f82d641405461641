"""Tags an AMI, and its copies in other regions, as applied; clean-up keeps what is still pending."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_ami.aws import image_changes, images
from gpu_ami.aws.caller import Caller
from gpu_ami.deploy.live_environments import Live
from gpu_ami.errors import AwsError, PartialError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records.tags import HANDOVER_TAG


def mark_applied(run: Invocation, ami_id: str | None, live: Sequence[Live]) -> list[str]:
    """Mark the AMI and its copies as handed over, once an environment has it and works; return what went wrong."""
    if ami_id is None or not any(current.has(ami_id) and not current.is_invalid for current in live):
        return []
    problems = []
    for region, ami in _copies(run, ami_id).items():
        caller = Caller(run.access, region)
        try:
            found = images.some_images(caller, [ami])
            if found and found[0].tags.get(HANDOVER_TAG) != "applied":
                image_changes.mark_handed_over(caller, ami)
        except AwsError as exc:
            problems.append(f"{ami} in {region}: {str(exc).rstrip('.')}")
    return problems


def _copies(run: Invocation, ami_id: str) -> dict[str, str]:
    """Return region to AMI of the build that made *ami_id*, as its manifest says."""
    try:
        made = manifests.load_if_any(run.workspace.manifest).amis_with(ami_id)
    except UsageError:
        made = {}
    return made or {run.settings.region: ami_id}


def raise_untagged(problems: Sequence[str]) -> None:
    """End with exit code 7 when an AMI could not be marked.

    Raises:
        PartialError: One could not.
    """
    if problems:
        msg = (
            f"Done, but the AMI could not be tagged {HANDOVER_TAG}=applied ({'; '.join(problems)}): "
            "clean-up keeps it as pending. Grant ec2:CreateTags and run `invoke apply` again."
        )
        raise PartialError(msg)
