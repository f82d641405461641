"""What Terraform is told in the sandbox: the local AWS, local state, and the demo account's ids."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_ami.files import write_atomic

if TYPE_CHECKING:
    from gpu_ami_sandbox.session import Sandbox

_OVERRIDE = "sandbox_override.tf.json"
_VARIABLES = "sandbox.auto.tfvars.json"
_MARK = ".sandbox-session"
_DECLARED = re.compile(r'^\s*variable\s+"([^"]+)"', re.MULTILINE)
# Whatever backend the code names, the sandbox's state is a file beside it. The endpoint is in the environment.
_SETTINGS = {
    "terraform": {"backend": {"local": {}}},
    "provider": {
        "aws": {"s3_use_path_style": True, "skip_metadata_api_check": "true", "skip_region_validation": True},
    },
}


def prepare_terraform(sandbox: Sandbox, folder: Path, handed_over: Path) -> None:
    """Make the copy of the root module in *folder* one for this sandbox.

    State and receipts that another sandbox left are dropped: its AWS is gone, and a new one has the same ids for other
    things. So is a handed-over AMI that this one does not have.

    Raises:
        UsageError: A file cannot be written.
        AwsError: The local AWS does not answer.
    """
    if not was_prepared(sandbox, folder):
        for state in folder.glob("terraform.tfstate*"):
            state.unlink()
        shutil.rmtree(folder / "receipts", ignore_errors=True)
        if handed_over.is_file() and not _names_an_own_image(sandbox, handed_over):
            handed_over.unlink()
        write_atomic(folder / _MARK, sandbox.identity, what="sandbox's mark")
    _write(folder / _OVERRIDE, _SETTINGS, what="sandbox's Terraform settings")
    values = {name: value for name, value in variables(sandbox).items() if name in _declared(folder)}
    _write(folder / _VARIABLES, values, what="sandbox's Terraform variables")


def was_prepared(sandbox: Sandbox, folder: Path) -> bool:
    """Whether the root module in *folder* was made one for this sandbox: only then its state is about what is there."""
    mark = folder / _MARK
    return mark.is_file() and mark.read_text(encoding="utf-8") == sandbox.identity


def _write(file: Path, document: dict[str, Any], *, what: str) -> None:
    text = json.dumps(document, indent=2) + "\n"
    # Each write waits for the disk: only what differs is written.
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_atomic(file, text, what=what)


def variables(sandbox: Sandbox) -> dict[str, Any]:
    """Return values for the root module's variables, as far as the demo account has them."""
    account = sandbox.account
    return {
        "region": account.region,
        "family": account.family,
        "subnet_ids": [account.subnet_id],
        "security_group_ids": [account.security_group_id],
        "builder_security_group_id": account.security_group_id,
        "ecr_repository_url": account.ecr_repository_url,
        "models_bucket": account.models_bucket,
        "job_image": f"{account.ecr_repository_url}@{account.image_digest}",
    }


def _declared(folder: Path) -> set[str]:
    """Return the names of the root module's variables; setting another one makes Terraform warn."""
    return {name for file in folder.glob("*.tf") for name in _DECLARED.findall(file.read_text(encoding="utf-8"))}


def _names_an_own_image(sandbox: Sandbox, file: Path) -> bool:
    from gpu_ami.aws.caller import Caller
    from gpu_ami.aws.images import some_images
    from gpu_ami.aws.references.source import ids_in

    named = {found for found in ids_in(file.read_text(encoding="utf-8")) if found.startswith("ami-")}
    return (
        bool(named)
        and {image.image_id for image in some_images(Caller(sandbox.access, sandbox.access.region), named)} == named
    )
