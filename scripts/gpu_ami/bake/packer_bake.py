"""Runs Packer in the first placement that has capacity for the builder, and removes what a failed run left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami import process
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.pending_ami import snapshot_percent
from gpu_ami.bake import template
from gpu_ami.bake.packer_events import Progress
from gpu_ami.bake.placement import Placement, placements
from gpu_ami.errors import AwsError, BuildError, InterruptedRunError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.process import Command
from gpu_ami.records import manifest_file as manifests

if TYPE_CHECKING:
    from gpu_ami.bake.prepare import Job

_SNAPSHOT_POLL_S = 10.0


@dataclass(frozen=True)
class Baked:
    """A bake that came to its end.

    Attributes:
        job: The build as Packer got it, with the placement that had room.
        progress: What Packer said; None after ``--debug``, which talks to the terminal.
        attempts: How many placements were tried.
    """

    job: Job
    progress: Progress | None
    attempts: int = 1


def bake(run: Invocation, job: Job, *, debug: bool = False, name: str = "") -> Baked:
    """Run Packer, in the next placement where one has no room for the builder, and return what it made.

    Args:
        run: This invocation.
        job: The build.
        debug: Packer's step-by-step mode on the terminal: one attempt, because nobody reads what it says.
        name: Part of the log's name, where a build bakes twice.

    Raises:
        FailedBuildError: Packer failed, or no placement had room.
        BuildError: Packer failed step by step, or its log could not be written.
        InterruptedRunError: The build was cancelled; what it had started is ended.
    """
    if debug:
        return Baked(job, _attempt(run, job, run.workspace.logs, debug=True))
    from gpu_ami.bake.packer_run import FailedBuildError

    allowed, last = placements(job.variables), None
    for number, placement in enumerate(allowed, 1):
        placed = job.given(**placement.variables)
        parts = ["build", job.run_id, name, str(number) if number > 1 else ""]
        log = run.workspace.logs / f"{'-'.join(filter(None, parts))}.log"
        if number > 1:
            run.console.say(f"Attempt {number} of {len(allowed)}: {placement}.")
        try:
            return Baked(placed, _attempt(run, placed, log), number)
        except FailedBuildError as exc:
            if exc.shortage is None:
                raise
            last = exc
            run.console.warn(f"Attempt {number} of {len(allowed)}, {placement}: {exc.shortage}. {exc}")
    msg = (
        f"No room for the builder in any of {len(allowed)} placements: add fallback_subnet_ids in other zones or "
        f"fallback_instance_types to the Packer variables, or try again later. {last or ''}".rstrip()
    )
    raise BuildError(msg) from last


def fall_back_lines(job: Job) -> list[str]:
    """Return, as comments, where the build would be tried in turn; nothing where the variables are not known yet."""
    if not all(file.exists() for file in job.inputs.files):
        return []
    try:
        allowed = placements(job.variables)
    except UsageError:
        # Nothing runs in a dry run: a build says what is wrong with a variable.
        return []
    return [f"# without room there: the same with {_flags(placement)}" for placement in allowed[1:]]


def _flags(placement: Placement) -> str:
    return " ".join(f"-var={name}={value}" for name, value in placement.variables.items())


def _attempt(run: Invocation, job: Job, log: Path, *, debug: bool = False) -> Progress | None:
    command = replace(job.packer.build(job.inputs, debug=debug), needs_us=run.target.is_kept is False)
    shown = run.workspace.shown(log)
    try:
        if debug:
            _step_by_step(run, job, command)
            return None
        from gpu_ami.bake.packer_run import bake as follow
        from gpu_ami.bake.progress import build_view

        caller = Caller(run.access, run.access.region)
        run.console.say(f"Packer's log: {shown}")
        with build_view(run.console) as view:
            return follow(
                command,
                scripts=template.template_scripts(job.packer.folder),
                log=log,
                view=view,
                percent=lambda ami: snapshot_percent(caller, ami),
                poll_s=run.target.poll_s(_SNAPSHOT_POLL_S),
            )
    except KeyboardInterrupt as exc:
        _tidy(run, job)
        where = "" if debug else f" Packer's log: {shown}."
        msg = f"The build was interrupted; what it had started is ended.{where}"
        raise InterruptedRunError(msg) from exc
    except BuildError:
        _tidy(run, job)
        raise


def _step_by_step(run: Invocation, job: Job, command: Command) -> None:
    from gpu_ami.bake.login import login_lines

    run.console.say("\n".join(login_lines(job.variables, Path(run.workspace.shown(job.packer.folder)))))
    if process.foreground(command) != 0:
        msg = "The build failed; Packer's own output above says where."
        raise BuildError(msg)


def _tidy(run: Invocation, job: Job) -> None:
    """Remove what Packer itself left of this run.

    An interrupt can cut the answer to a call that AWS has carried out: Packer then knows of no key pair or instance
    to end. Only what carries this run's own id is touched, and what cannot be removed is named for later.
    """
    from gpu_ami.aws import build_resources
    from gpu_ami.aws.caller import Caller

    caller = Caller(run.access, run.settings.region)
    try:
        for kind in ("instance", "volume", "security-group", "key-pair"):
            mine = [left for left in build_resources.find(caller, kind, run.settings.family) if left.run == job.run_id]
            for left in mine:
                build_resources.remove(caller, left)
                run.console.say(f"Removed the {left.kind} {left.identifier} that Packer had left.")
            if kind == "instance" and mine:
                build_resources.wait_until_terminated(caller, [left.identifier for left in mine])
    except AwsError as exc:
        run.console.warn(f"Something of run {job.run_id} may be left: {exc} Run `invoke sweep` later.")


def read_manifest(run: Invocation, baked: Baked) -> manifests.Build:
    """Return this build from the manifest: the last run, which must be ours and agree with Packer's output.

    Raises:
        UsageError: The manifest cannot be used.
        BuildError: It is of another build.
    """
    job, progress = baked.job, baked.progress
    made = manifests.last_build(run.workspace)
    ours = (made.custom_data or {}).get("run_id")
    if ours != job.run_id or (progress is not None and progress.amis != made.amis):
        path = run.workspace.manifest
        msg = f"The last run in {path} is {ours!r}, not this build {job.run_id!r}: did another build run meanwhile?"
        raise BuildError(msg)
    return made
