"""The main job: the stations put together, from settings to the Terraform variable.

Reads from top to bottom as the README's table does: check, validate, bake, read the manifest, hand over, price.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpu_ami import __version__, git, process
from gpu_ami.aws import artifact
from gpu_ami.bake import manifest as manifests
from gpu_ami.bake import preflight, variables
from gpu_ami.bake.packer import Inputs, Packer
from gpu_ami.diagnostics import first_problem
from gpu_ami.errors import (
    BuildError,
    PipelineError,
    SafetyError,
    TerraformError,
    UsageError,
)
from gpu_ami.files import write_atomic
from gpu_ami.handover import change as changes
from gpu_ami.handover.terraform import Terraform
from gpu_ami.invocation import Invocation
from gpu_ami.jobs import baking, handing
from gpu_ami.process import Command
from gpu_ami.tools import guest_tools, packer_tools, terraform_tools

# `packer fmt -check` and `terraform fmt -check` end with this when a file has another layout.
_FMT_WOULD_CHANGE = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """One build, decided but not started.

    Attributes:
        packer: Packer and its folder.
        terraform: Terraform and its folder.
        inputs: The variables that Packer gets.
        plugin_path: Where Packer finds its amazon plugin.
        run_id: Names this build in tags, manifest and log.
    """

    packer: Packer
    terraform: Terraform
    inputs: Inputs
    plugin_path: Path
    run_id: str

    def validation(self) -> tuple[tuple[type[PipelineError], tuple[Command, ...]], ...]:
        """Return the validation commands: two chains that can run side by side, and what a failure of each is."""
        return (
            # validate first: where the template does not parse, fmt says only that it does not.
            (BuildError, (self.packer.validate(self.inputs), self.packer.fmt())),
            (TerraformError, (self.terraform.fmt(), self.terraform.init(), self.terraform.validate())),
        )

    def given(self, **more: str) -> Job:
        """Return this build with the variables *more*, which win over what was given before."""
        return dataclasses.replace(self, inputs=Inputs(self.inputs.files, {**self.inputs.variables, **more}))

    def values(self) -> dict[str, Any]:
        """Return each template variable's value as Packer will see it."""
        return dict(self._values)

    @functools.cached_property
    def _values(self) -> dict[str, Any]:
        # Reading HCL takes a second, and several steps of a build ask.
        return variables.effective(self.packer.folder, self.inputs.files, self.inputs.variables)


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a build made; `document` is the contract with scripts."""

    ami_id: str
    region: str
    amis: Mapping[str, str]
    name: str
    source_ami_id: str
    snapshot_gib: float | None
    duration_s: float
    manifest: str
    tfvars: str
    build_cost_usd: Decimal | None
    cost_line: str
    sandbox: bool
    attempts: int = 1

    def document(self) -> dict[str, Any]:
        """Return the result as JSON-ready values; an unknown figure is null."""
        return {
            "ami_id": self.ami_id,
            "region": self.region,
            "amis": dict(self.amis),
            "name": self.name,
            "source_ami_id": self.source_ami_id,
            "snapshot_gib": self.snapshot_gib,
            "duration_s": round(self.duration_s, 1),
            "manifest": self.manifest,
            "tfvars": self.tfvars,
            "build_cost_usd": None if self.build_cost_usd is None else float(self.build_cost_usd),
            "sandbox": self.sandbox,
            "attempts": self.attempts,
        }


def prepare(run: Invocation, words: Sequence[str], *, debug: bool = False) -> Job:
    """Decide one build: find the programs, stage the sandbox's copies, collect the variables.

    Args:
        run: This invocation. In a dry run nothing is started or staged.
        words: The caller's ``name=value`` variables.
        debug: Whether Packer will ask at each step.

    Raises:
        UsageError: The settings or variables cannot be used, or there is no terminal to ask on.
        ToolError: Packer, its plugin or Terraform is missing.
    """
    if debug and not run.options.dry_run and not sys.stdin.isatty():
        msg = "--debug asks at each step and needs a terminal: run it in one, or read the log of a plain build."
        raise UsageError(msg)
    given = variables.parse_given(words)
    owned = {"region": run.settings.region, "family": run.settings.family}
    run_id = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    own = {"run_id": run_id, "pipeline_version": __version__, "git_commit": git.head(run.workspace.root) or "unknown"}
    file = variables_file(run, owned)
    packer, terraform = packer_tools(), terraform_tools()
    quiet = {"CHECKPOINT_DISABLE": "1"}
    environment = (lambda _extra: {}) if run.options.dry_run else run.access.child_environment
    return Job(
        packer=Packer(
            packer.packer.path,
            run.workspace.packer,
            environment({**quiet, "PACKER_PLUGIN_PATH": str(packer.plugin_path), "PACKER_NO_COLOR": "1"}),
        ),
        terraform=Terraform(
            terraform.terraform.path,
            run.workspace.terraform,
            environment({**quiet, "TF_IN_AUTOMATION": "1"}),
            terraform.provider_mirror,
        ),
        inputs=Inputs(files=(file,), variables=owned | own | given),
        plugin_path=packer.plugin_path,
        run_id=run_id,
    )


def variables_file(run: Invocation, owned: Mapping[str, str]) -> Path:
    """Return the file with Packer's variables: the user's, or one made for the sandbox beside staged copies.

    Raises:
        UsageError: The file cannot be used, or says other than the settings about one of *owned*.
    """
    if not run.options.sandbox:
        file = run.workspace.root / run.settings.variables_file
        hint = "Run `invoke init`, which writes it."
        loaded = variables.load_hcl(file, what="Packer variables file", hint=hint)
        variables.check_owner(loaded, file, owned, run.workspace.settings)
        return file
    file = run.workspace.packer / "sandbox.pkrvars.json"
    if not run.options.dry_run:
        from gpu_ami.sandbox.inputs import packer_values
        from gpu_ami.staging import stage

        stage(run.workspace)
        values = packer_values(run.sandbox, run.workspace)
        write_atomic(file, json.dumps(values, indent=2) + "\n", what="sandbox's Packer variables")
    return file


def validation_lines(job: Job) -> list[str]:
    """Return the exact commands that `validate` runs, and the one variable they need to be pasted."""
    commands = [str(command) for _, chain in job.validation() for command in chain]
    return [f"export PACKER_PLUGIN_PATH={shlex.quote(str(job.plugin_path))}", *commands]


def build_lines(job: Job, *, debug: bool) -> list[str]:
    """Return the exact commands that `build` runs, in order."""
    return [*validation_lines(job), str(job.packer.build(job.inputs, debug=debug)), *baking.fall_back_lines(job)]


def validate(job: Job) -> None:
    """Run each chain of the job's validation commands, side by side.

    Raises:
        BuildError: The template or its variables are not valid; the line names file and line.
        TerraformError: The Terraform folder is not valid.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        for problem in list(pool.map(lambda chain: _first_failure(*chain), job.validation())):
            if problem is not None:
                raise problem


def _first_failure(kind: type[PipelineError], commands: Sequence[Command]) -> PipelineError | None:
    for command in commands:
        done = process.run(command)
        if done.returncode == 0:
            continue
        what = f"{Path(command.argv[0]).name} {command.argv[1]}"
        if command.argv[1] == "fmt" and done.returncode == _FMT_WOULD_CHANGE:
            files = [line for line in done.stdout.splitlines() if line.endswith((".hcl", ".tf")) and " " not in line]
            return kind(f"`{what}` would change the layout of {', '.join(files) or 'a file'}: run `{what}` there.")
        return kind(f"`{what}` refuses: {first_problem(done.stdout + done.stderr)}.")
    return None


def check(run: Invocation, job: Job) -> list[preflight.Check]:
    """Return what preflight found for *job*."""
    account = None if run.options.sandbox else run.settings.account
    return preflight.run_checks(run.access, job.values(), account=account, sandbox=run.options.sandbox)


def build(run: Invocation, job: Job, *, debug: bool = False) -> BuildResult:
    """Check, validate, bake, read the manifest, hand the AMI over and price the build.

    Raises:
        ToolError: This machine cannot have the sandbox's guest.
        SafetyError: A preflight check failed, or the credentials are for the wrong account.
        BuildError: Packer refused or failed.
        TerraformError: The Terraform folder is not valid.
        InterruptedRunError: The build was cancelled; what it had started is ended.
    """
    if run.options.sandbox:
        guest_tools()
    run.announce()
    _check_and_validate(run, job)
    handing.check_target(run)
    started = time.monotonic()
    baked = baking.bake(run, job, debug=debug)
    duration_s = time.monotonic() - started
    made = baking.read_manifest(run, baked)
    change = handing.plan_hand_over(run)
    changes.apply(change)
    return _result(run, baked, made, change, duration_s)


def _check_and_validate(run: Invocation, job: Job) -> None:
    with run.console.step("preflight and validation"), ThreadPoolExecutor(max_workers=1) as pool:
        checking = pool.submit(check, run, job)
        validate(job)
        checks = checking.result()
    for found in preflight.remarks(checks):
        run.console.warn(f"{found.check}: {found.detail}. {found.fix}")
    if bad := preflight.failed(checks):
        for found in bad:
            run.console.say(f"  {found.check}: {found.detail}. {found.fix}")
        names = ", ".join(found.check for found in bad)
        msg = f"Preflight failed ({names}): {bad[0].detail}; nothing was started. {bad[0].fix}"
        raise SafetyError(msg)


def _result(
    run: Invocation, baked: baking.Baked, made: manifests.Build, change: changes.Change, duration_s: float
) -> BuildResult:
    from gpu_ami.cost import build_line

    described = artifact.describe(run.access, made.amis[run.access.region])
    values = baked.job.values()
    price = build_line(
        duration_s=duration_s,
        region=run.access.region,
        instance_type=str(values.get("instance_type", "")),
        market="spot" if values.get("spot") in {True, "true"} else "on-demand",
        volume_gib=described.volume_gib,
        volume_iops=float(values["volume_iops"]),
        volume_mib_s=float(values["volume_throughput_mib_s"]),
        snapshot_gib=described.snapshot_gib,
    )
    return BuildResult(
        ami_id=made.amis[run.access.region],
        region=run.access.region,
        amis=made.amis,
        name=described.name,
        # EC2 names an intermediary AMI, gone by now, where a copy with a named key made the plugin rework the AMI.
        source_ami_id=(made.custom_data or {}).get("source_ami", "") or described.source_ami_id,
        snapshot_gib=described.snapshot_gib,
        duration_s=duration_s,
        manifest=run.workspace.shown(run.workspace.manifest),
        tfvars=run.workspace.shown(change.file),
        build_cost_usd=price.build_cost_usd,
        cost_line=price.line,
        sandbox=run.options.sandbox,
        attempts=baked.attempts,
    )
