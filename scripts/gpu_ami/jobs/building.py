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
from pathlib import Path
from typing import Any

from gpu_ami import __version__, git, process
from gpu_ami.bake import models, preflight, private, variables
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
from gpu_ami.jobs import baking, basis, handing, recording, results, staleness
from gpu_ami.jobs.results import BuildResult
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
        private: Variables that were given and are secrets: the last of the inputs' files holds them.
    """

    packer: Packer
    terraform: Terraform
    inputs: Inputs
    plugin_path: Path
    run_id: str
    private: tuple[str, ...] = ()

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
    models.load(run.workspace.root / "packer" / "models.yaml")
    files = [variables_file(run, owned)]
    given, secret = private.apart(run.workspace.root / "packer", given)
    if secret:
        text = private.variables_text(run.workspace.root / "packer", secret)
        files.append(run.private_file("given.pkrvars.hcl", text))
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
        inputs=Inputs(files=tuple(files), variables=owned | own | given),
        plugin_path=packer.plugin_path,
        run_id=run_id,
        private=tuple(secret),
    )


def variables_file(run: Invocation, owned: Mapping[str, str], *, guest: bool = True) -> Path:
    """Return the file with Packer's variables: the user's, or one made for the sandbox beside staged copies.

    Args:
        run: This invocation.
        owned: What pipeline.yaml owns.
        guest: Whether Packer is going to run; only then the sandbox needs a build instance.

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
        values = packer_values(run.sandbox, run.workspace, guest=guest)
        write_atomic(file, json.dumps(values, indent=2) + "\n", what="sandbox's Packer variables")
    return file


def validation_lines(job: Job) -> list[str]:
    """Return the exact commands that `validate` runs, and the one variable they need to be pasted."""
    commands = [str(command) for _, chain in job.validation() for command in chain]
    if job.private:
        names = ", ".join(job.private)
        commands.insert(
            0, f"# {names}: in {job.inputs.files[-1]}, which only you may read and which is gone afterwards"
        )
    return [f"export PACKER_PLUGIN_PATH={shlex.quote(str(job.plugin_path))}", *commands]


def build_lines(job: Job, *, debug: bool, incremental: bool = False, if_stale: bool = False) -> list[str]:
    """Return the exact commands that `build` runs, in order; what depends on a look at AWS is said in comments."""
    notes = ["# with source_ami, image_digest and fingerprints set to what a look at AWS finds"]
    if if_stale:
        notes.append("# nothing at all when the family's last AMI was made from the same")
    if incremental:
        notes.append("# on the family's last AMI instead (source_ami, chain_length) when only image or models are new")
    return [
        *validation_lines(job),
        str(job.packer.build(job.inputs, debug=debug)),
        *notes,
        *baking.fall_back_lines(job),
    ]


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


def build(
    run: Invocation, job: Job, *, debug: bool = False, incremental: bool = False, if_stale: bool = False
) -> BuildResult:
    """Compare, check, validate, bake, read the manifest, hand the AMI over and price the build.

    Args:
        run: This invocation.
        job: The build.
        debug: Packer's step-by-step mode on the terminal.
        incremental: Bake on top of the family's last AMI where that makes the same image.
        if_stale: Do nothing when the family's last AMI is what a build would make.

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
    compared = _compare(run, job)
    if if_stale:
        if compared.live is not None and not compared.differences:
            run.console.say(f"Nothing to build: {compared.live.image_id} is made from what a build would be made from.")
            return results.unchanged(run, compared.live)
        for difference in compared.differences:
            run.console.say(f"  stale: {difference.detail}")
    _check_and_validate(run, job)
    handing.check_target(run)
    started = time.monotonic()
    baked = _bake(run, job, compared, debug=debug, incremental=incremental)
    duration_s = time.monotonic() - started
    made = baking.read_manifest(run, baked)
    described = recording.record(run, baked, made)
    change = handing.plan_hand_over(run)
    changes.apply(change)
    return results.made(run, baked, made, described, change, duration_s, compared.differences)


def _compare(run: Invocation, job: Job) -> staleness.Comparison:
    try:
        with run.console.step("comparing with the live AMI"):
            return staleness.compare(run, job)
    except UsageError:
        # A template that we cannot read: Packer's own word on it says more.
        validate(job)
        raise


def _bake(run: Invocation, job: Job, compared: staleness.Comparison, *, debug: bool, incremental: bool) -> baking.Baked:
    from gpu_ami.bake.run import FailedBuildError

    full = basis.full(job, compared.wanted)
    on_parent = basis.on_parent(run, full, compared) if incremental else None
    if on_parent is None:
        return baking.bake(run, full, debug=debug)
    try:
        return baking.bake(run, on_parent, debug=debug)
    except FailedBuildError as exc:
        # A step that fails on the parent may do so because of it; where it does not, the full bake says so too.
        if not exc.script:
            raise
        run.console.warn(f"{exc.script} failed on top of the last AMI, so a full bake follows. {exc}")
        return baking.bake(run, full, name="full")


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
