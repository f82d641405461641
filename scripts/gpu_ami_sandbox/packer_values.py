"""What Packer is told in the sandbox: the demo account's ids and the guest's address."""

from __future__ import annotations

from typing import Any

from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.session import Sandbox


def packer_values(sandbox: Sandbox, workspace: Workspace, *, guest: bool = True) -> dict[str, Any]:
    """Return the values of the template's variables for a build in *sandbox*.

    The region and the family are not among them: pipeline.yaml owns those.

    Args:
        sandbox: Whose ids they are.
        workspace: Where the build's files go.
        guest: Whether Packer will run, so that the guest has to be up.
    """
    account = sandbox.account
    # The guest replaces the instance.
    port = {"ssh_port": sandbox.guest_port} if guest else {}
    return {
        "ssh_host": sandbox.guest_host,
        **port,
        "ecr_repository_url": account.ecr_repository_url,
        "image_tag": account.image_tag,
        "subnet_id": account.subnet_id,
        "security_group_id": account.security_group_id,
        "models_s3_bucket": account.models_bucket,
        "iam_instance_profile": account.instance_profile,
        # Nothing may ask the internet for our own address.
        "caller_cidrs": ["127.0.0.1/32"],
        # The local AWS needs no rest between two polls.
        "poll_delay_seconds": 1,
        "manifest_path": str(workspace.manifest),
        "release_path": str(workspace.release),
    }
