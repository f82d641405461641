"""`invoke validate`: lets Packer and Terraform check the template and the Terraform folder; nothing is started."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gpu_ami import process
from gpu_ami.bake.job import Job
from gpu_ami.bake.prepare import prepare
from gpu_ami.console import Table
from gpu_ami.deploy import plan
from gpu_ami.diagnostics import first_problem
from gpu_ami.errors import PipelineError, TerraformError
from gpu_ami.handover import readable
from gpu_ami.handover.change import settings_file
from gpu_ami.invocation import Invocation
from gpu_ami.process import Command
from gpu_ami.terraform import failures

# `packer fmt -check` and `terraform fmt -check` end with this when a file has another layout.
_FMT_WOULD_CHANGE = 3


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke validate`` requested.

    Attributes:
        variables: Packer variables as ``name=value``.
    """

    variables: Sequence[str] = ()


def run(run: Invocation, request: Request) -> None:
    """Validate everything and show it; `report` says what can go wrong."""
    job = prepare(run, request.variables)
    if run.options.dry_run:
        run.console.dry_run(command_lines(job))
        return
    report(run, job)


def command_lines(job: Job, *, tests: bool = True) -> list[str]:
    """Return the exact commands that `validate` runs, and the one variable they need to be pasted."""
    commands = [str(command) for _, chain in job.validation(tests=tests) for command in chain]
    if job.private:
        names = ", ".join(job.private)
        commands.insert(
            0, f"# {names}: in {job.inputs.files[-1]}, which only you may read and which is gone afterwards"
        )
    return [f"export PACKER_PLUGIN_PATH={shlex.quote(str(job.plugin_path))}", *commands]


def validate(job: Job, *, tests: bool = True) -> None:
    """Run each chain of the job's validation commands, side by side.

    Args:
        job: The build.
        tests: Whether the tests of the Terraform folder are validated, too: a build needs none.

    Raises:
        BuildError: The template or its variables are not valid; the line names file and line.
        TerraformError: The Terraform folder is not valid.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        for problem in list(pool.map(lambda chain: _first_failure(*chain), job.validation(tests=tests))):
            if problem is not None:
                raise problem


def report(run: Invocation, job: Job) -> None:
    """Validate *job* and what was handed over, and print what was found valid.

    Raises:
        UsageError: The file that was handed over cannot be read, by us or by Terraform, holds no AMI id, or is not in
            the repository.
        SafetyError: It is not in the sandbox.
        BuildError: See `validate`.
        TerraformError: See `validate`.
    """
    file, shown = settings_file(run.workspace, run.settings.handover.file), run.workspace.shown
    readable.check(file, run.workspace.terraform)
    ami = plan.handed_over(run, file)
    with run.console.step("validation"):
        validate(job)
    valid = [
        ("settings", shown(run.workspace.settings)),
        ("template", shown(job.packer.folder)),
        ("terraform", shown(job.terraform.folder)),
        ("hand-over", shown(file)),
    ]
    details = {"hand-over": ami or "no AMI yet"}
    if not run.workspace.settings.exists():  # only the sandbox goes on without
        details["settings"] = "not there: the sandbox's own"
    rows = [(what, where, details.get(what, "valid")) for what, where in valid]
    document = {"valid": dict(valid), "ami_id": ami}
    run.console.result(document, Table(columns=("checked", "where", "found"), rows=rows))


def _first_failure(kind: type[PipelineError], commands: Sequence[Command]) -> PipelineError | None:
    for command in commands:
        done = process.run(command)
        if done.returncode == 0:
            continue
        what = f"{Path(command.argv[0]).name} {command.argv[1]}"
        if command.argv[1] == "fmt" and done.returncode == _FMT_WOULD_CHANGE:
            files = [line for line in done.stdout.splitlines() if line.endswith((".hcl", ".tf")) and " " not in line]
            return kind(f"`{what}` would change the layout of {', '.join(files) or 'a file'}: run `{what}` there.")
        # Packer prints its error boxes on either stream.
        problem = (
            failures.first_problem(failures.errors(done.stdout, done.stderr))
            if kind is TerraformError
            else first_problem(done.stdout + done.stderr)
        )
        added = failures.meddled(command.argv[1], command.env or {}) if kind is TerraformError else ""
        return kind(f"`{what}` refuses: {problem}. {added}".rstrip())
    return None
