"""Prepares one build without starting it: the programs, their folders and every variable."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from gpu_ami import __version__, git, scratch
from gpu_ami.bake import attest, bill_of_materials, models, own_records, secret_values, template, variable_values
from gpu_ami.bake.job import Job
from gpu_ami.bake.packer_command import Inputs, Packer
from gpu_ami.errors import UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.records import archive
from gpu_ami.terraform.terraform_command import terraform_in
from gpu_ami.tools import packer_tools, terraform_tools
from gpu_ami.workspace import auto_variables

# Where Packer makes temporary files: Go's os.TempDir, which is below the one that the caller may have set.
_TEMPORARY = "TMP" if sys.platform == "win32" else "TMPDIR"
# Packer's plugins answer at sockets there, whose paths macOS cuts at 104 bytes; their names take some 30.
_LONGEST_FOLDER = 72
# What builds leave in Packer's folder itself, and none reads; below it, in rootfs/, such a name is the image's.
_HOW_TO_GET_ONE = "Run `invoke init`, which writes it, or add --sandbox, which needs none and no AWS account."
_LEFTOVERS = shutil.ignore_patterns(
    *("packer_cache", ".packer.d", "crash.log", "ec2_*.pem"),
    *("manifest.json", "manifest-*.json", "manifest*.json.lock", "release.json", "release-*.json"),
    *("contents.json", archive.BILL, archive.FOLDER),
)


def prepare(run: Invocation, variables: Sequence[str], *, debug: bool = False) -> Job:
    """Decide one build: find the programs, stage the sandbox's copies, collect the variables.

    Args:
        run: This invocation. In a dry run nothing is started or staged.
        variables: The caller's ``name=value`` variables.
        debug: Whether Packer will ask at each step.

    Raises:
        UsageError: The settings or variables cannot be used, or there is no terminal for questions.
        ToolError: Packer, its plugin or Terraform is missing.
    """
    if debug and not run.options.dry_run and not sys.stdin.isatty():
        msg = "--debug asks at each step and needs a terminal: run it in one, or read the log of a plain build."
        raise UsageError(msg)
    given, signing = template.parse_given(variables), attest.variables(run)
    # By another signer than the settings' the AMI would be refused once it is baked.
    template.check_owner(given, Path("--packer-var"), signing, run.workspace.settings)
    owned = {"region": run.settings.region, "family": run.settings.family, **signing}
    run_id = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    own = {"run_id": run_id, "pipeline_version": __version__, "git_commit": git.head(run.workspace.root) or "unknown"}
    models.load(run.workspace.root / "packer" / "models.yaml")
    files = [variables_file(run, owned)]
    given, secret = secret_values.apart(run.workspace.root / "packer", given)
    if secret:
        text = secret_values.variables_text(run.workspace.root / "packer", secret)
        files.append(run.private_file("given.pkrvars.hcl", text))
    owned |= own_records.variables(run, files[0], given)
    if not run.options.dry_run:
        # Of its own for each build, and not the caller's to choose: what is found in there is this build's.
        given[attest.FOLDER_VARIABLE] = str(run.private_folder())
    packer, terraform = packer_tools(), terraform_tools()
    own_environment = {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_PLUGIN_PATH": str(packer.plugin_path),
        "PACKER_NO_COLOR": "1",
        **_temporary_files(run),
    }
    lists = None if run.options.dry_run else run.private_folder()
    own_environment |= _listing(lists)
    environment = (lambda _extra: {}) if run.options.dry_run else run.access.child_environment
    left_out = _left_out(run)
    staged = None if run.options.dry_run or not left_out else _staged(run)
    return Job(
        packer=Packer(
            packer.packer.path,
            run.workspace.packer,
            _without_strangers(environment(own_environment), run.workspace.root / "packer"),
            staged,
        ),
        terraform=terraform_in(run.workspace.terraform, terraform, environment),
        inputs=Inputs(files=tuple(files), variables=owned | own | given),
        plugin_path=packer.plugin_path,
        run_id=run_id,
        private=tuple(secret),
        environment=run.target.environment,
        found=run.target.auto_variables,
        left_out=left_out,
        lists=lists,
    )


def _without_strangers(environment: Mapping[str, str], folder: Path) -> Mapping[str, str]:
    """Return Packer's *environment* without values of variables that the template in *folder* does not have."""
    if not any(name.startswith(variable_values.ENVIRONMENT_PREFIX) for name in environment):
        return environment
    try:
        kinds = template.template_kinds(folder)
    except UsageError:
        return environment  # Packer's own error says more, and it comes to no provenance
    return variable_values.without_strangers(environment, kinds)


def _left_out(run: Invocation) -> tuple[Path, ...]:
    """Return the variables files of other families that Packer would find by itself in its folder."""
    return tuple(path for path in auto_variables(run.workspace.packer) if path not in run.target.auto_variables)


def _staged(run: Invocation) -> Path:
    """Return a copy of Packer's folder without the variables files of other families, and no build's leftovers.

    Packer has no switch to leave such a file unread: what is in the folder that it is given, counts.

    Raises:
        UsageError: It cannot be made.
    """
    folder, out = run.workspace.packer, set(_left_out(run))

    def ignored(where: str, names: list[str]) -> set[str]:
        others = {name for name in names if Path(where, name) in out}
        return others | (set(_LEFTOVERS(where, names)) if Path(where) == folder else set())

    try:
        copy = run.private_folder() / folder.name
        shutil.copytree(folder, copy, ignore=ignored)
    except (OSError, shutil.Error) as exc:
        msg = f"A copy of {run.workspace.shown(folder)} without the other families' variables cannot be made: {exc}."
        raise UsageError(msg) from exc
    return copy


def _listing(folder: Path | None) -> dict[str, str]:
    """Return what leads Packer's list of the image's contents, and the bill of materials of it, to *folder*.

    In the environment, which a template without these variables, one from before them say, leaves alone.
    """
    if folder is None:
        return {}
    contents, target = folder / "contents.json", folder / archive.BILL
    named = {
        "contents_path": str(contents),
        "bill_path": str(target),
        "bill_command": bill_of_materials.command(contents, target),
    }
    return {f"PKR_VAR_{name}": value for name, value in named.items()}


def _temporary_files(run: Invocation) -> dict[str, str]:
    """Return what leads Packer's temporary files, logs among them, to where a kill does not leave them for good."""
    if run.options.dry_run:
        return {}
    folder = str(scratch.folder())
    return {_TEMPORARY: folder} if len(folder) <= _LONGEST_FOLDER else {}


def variables_file(run: Invocation, owned: Mapping[str, str], *, guest: bool = True) -> Path:
    """Return the file with Packer's variables: the user's, or one made for the sandbox beside staged copies.

    Args:
        run: This invocation.
        owned: What pipeline.yaml owns.
        guest: Whether Packer is going to run; only then the sandbox needs a build instance.

    Raises:
        UsageError: The file cannot be used, or it or one that Packer finds by itself says other than the settings about
            one of *owned*.
    """
    staged = run.target.staged_variables(builder=guest)
    if staged is not None:
        return staged
    file = run.workspace.root / run.settings.variables_file
    loaded = {file: variable_values.load(file, hint=_HOW_TO_GET_ONE)}
    for path in run.target.user_variables:
        if path not in loaded:
            loaded[path] = variable_values.load(path)
    for path, values in loaded.items():
        template.check_owner(values, path, owned, run.workspace.settings)
    return file
