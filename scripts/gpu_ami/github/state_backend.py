"""Points Terraform at the state that all runs share; a runner's own disk ends with the job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami import process
from gpu_ami.errors import SafetyError, TerraformError, UsageError
from gpu_ami.files import write_atomic

if TYPE_CHECKING:
    from gpu_ami.terraform.terraform_command import Terraform

DEFAULT_KEY = "gpu-ami/terraform.tfstate"
_VALUES = {
    "bucket": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "key": re.compile(r"[A-Za-z0-9][A-Za-z0-9/_.=-]{0,511}"),
    "region": re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}"),
}
# The provider alone is hundreds of megabytes.
_CONNECTED_WITHIN_S = 900.0


def configure(terraform: Path, env: Mapping[str, str], *, region: str) -> Path:
    """Write ``backend.tf`` into the folder *terraform* and return it; one that is there already is left alone.

    Args:
        terraform: The root module.
        env: ``STATE_BUCKET``, and optionally ``STATE_KEY`` and ``STATE_REGION``.
        region: The bucket's region where the environment names none.

    Raises:
        SafetyError: No bucket is named: state and receipts would be lost with the runner.
        UsageError: A value cannot be what it should be.
    """
    path = terraform / "backend.tf"
    if path.is_file():
        return path
    values = location(env, region=region)
    if values is None:
        msg = (
            "Terraform has no S3 backend here, so its state and the receipts would end with this runner: set the "
            "repository variable GPU_AMI_STATE_BUCKET to the state's bucket, or commit terraform/backend.tf."
        )
        raise SafetyError(msg)
    lines = [f'    {name:<12} = "{value}"' for name, value in values.items()]
    text = "\n".join(["terraform {", '  backend "s3" {', *lines, "    use_lockfile = true", "  }", "}", ""])
    write_atomic(path, text, what="Terraform backend")
    return path


def location(env: Mapping[str, str], *, region: str) -> dict[str, str] | None:
    """Return bucket, key and region of the state that the environment *env* names; None where it names none.

    Raises:
        UsageError: A value cannot be what it should be.
    """
    if not env.get("STATE_BUCKET"):
        return None
    values = {
        "bucket": env["STATE_BUCKET"],
        "key": env.get("STATE_KEY") or DEFAULT_KEY,
        "region": env.get("STATE_REGION") or region,
    }
    for name, value in values.items():
        if not _VALUES[name].fullmatch(value):
            msg = f"The state's {name} is {value!r}, which no {name} can be: check the repository's variables."
            raise UsageError(msg)
    return values


def connect(terraform: Terraform) -> None:
    """Connect the root module to the backend that its code names.

    Until then `terraform state pull` fails ("Backend initialization required", Terraform 1.11), and nobody knows in
    which bucket the receipts lie.

    Raises:
        TerraformError: It cannot be reached.
    """
    from gpu_ami.terraform import failures

    done = process.run(terraform.init(backend=True), timeout_s=_CONNECTED_WITHIN_S)
    if done.returncode != 0:
        problem = failures.first_problem(failures.errors(done.stdout, done.stderr))
        msg = f"`terraform init` failed: {problem}. Check the variables GPU_AMI_STATE_*, and what the role may read."
        raise TerraformError(msg)
