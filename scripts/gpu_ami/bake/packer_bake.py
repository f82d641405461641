"""Runs Packer in the first placement that has capacity for the builder, and removes what a failed run left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami import process
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.pending_ami import snapshot_percent
from gpu_ami.bake import by_hand, leftovers, template
from gpu_ami.bake.job import Baked, Job
from gpu_ami.bake.packer_events import Progress
from gpu_ami.bake.placement import Placement, placements
from gpu_ami.errors import BuildError, InterruptedRunError, UsageError
from gpu_ami.files import check_writable
from gpu_ami.invocation import Invocation
from gpu_ami.process import Command
from gpu_ami.records import archive
from gpu_ami.records import manifest_file as manifests

if TYPE_CHECKING:
    from gpu_ami.bake.packer_run import View

_SNAPSHOT_POLL_S = 10.0


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
        InterruptedRunError: The build was cancelled; what it had started is ended, or named where it could not be.
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
    tried = "the one placement" if len(allowed) == 1 else f"any of {len(allowed)} placements"
    msg = (
        f"No room for the builder in {tried}: add fallback_subnet_ids in other zones or "
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
    if job.lists is not None:
        # Of an attempt before this one: it must not pass for this one's.
        (job.lists / archive.BILL).unlink(missing_ok=True)
    seen: _Seen | None = None
    try:
        if debug:
            _step_by_step(run, job, command)
            return None
        from gpu_ami.bake.packer_run import bake as follow
        from gpu_ami.bake.progress import build_view

        caller = Caller(run.access, run.access.region)
        run.console.say(f"Packer's log: {shown}")
        with build_view(run.console) as view:
            seen = _Seen(view)
            progress = follow(
                command,
                scripts=template.template_scripts(job.packer.folder),
                log=log,
                view=seen,
                percent=lambda ami: snapshot_percent(caller, ami),
                poll_s=run.target.poll_s(_SNAPSHOT_POLL_S),
            )
    except KeyboardInterrupt as exc:
        msg = _interrupted(run, job, seen.progress if seen else None, "" if debug else f" Packer's log: {shown}.")
        raise InterruptedRunError(msg) from exc
    except BuildError as exc:
        _say_left(exc, leftovers.after_failure(run, job, seen.progress if seen else None))
        raise
    leftovers.after_success(run, job, progress)
    return progress


def _interrupted(run: Invocation, job: Job, progress: Progress | None, where: str) -> str:
    """Remove what an interrupted run of Packer has left, and return what came of it, with *where* its log is."""
    left = leftovers.after_interrupt(run, job, progress)
    if progress is not None and progress.amis:
        how = by_hand.how_to_use(run.access.region, progress.amis)
        return f"{by_hand.named(progress.amis)} the build was interrupted. {how} {left}".rstrip() + where
    return f"The build was interrupted{f'. {left}' if left else '; what it had started is ended.'}{where}"


def _say_left(failed: BuildError, left: str) -> None:
    from gpu_ami.bake.packer_run import FailedBuildError

    if isinstance(failed, FailedBuildError):
        failed.say_left(left)
    elif left:
        failed.args = (f"{failed} {left}",)


class _Seen:
    """A view that remembers how far the build came, for what has to be done when it ends in an error."""

    def __init__(self, view: View) -> None:
        self.progress: Progress | None = None
        self.snapshot, self.failed = view.snapshot, view.failed
        self._view = view

    def update(self, progress: Progress) -> None:
        """Remember and show *progress*."""
        self.progress = progress
        self._view.update(progress)


def _step_by_step(run: Invocation, job: Job, command: Command) -> None:
    from gpu_ami.bake.login import login_lines

    run.console.say_text("\n".join(login_lines(job.variables, Path(run.workspace.shown(job.packer.folder)))))
    if process.foreground(command) != 0:
        msg = "The build failed; Packer's own output above says where."
        raise BuildError(msg)


def manifest_of(run: Invocation, job: Job) -> Path:
    """Return where Packer writes the build's manifest: as its variable ``manifest_path`` says, seen from its folder."""
    named = job.values().get("manifest_path")
    return job.packer.folder / named if isinstance(named, str) and named else run.workspace.manifest


def check_manifest(run: Invocation, job: Job) -> None:
    """Make sure that Packer can write a manifest of another place: it does so after the bake, and makes no folder.

    Raises:
        UsageError: It cannot.
    """
    path = manifest_of(run, job)
    if path == run.workspace.manifest:
        return
    if not path.parent.is_dir():
        msg = f"manifest_path names {path}, but {path.parent} is no folder: make it, or leave manifest_path out."
        raise UsageError(msg)
    check_writable(path, what="Packer manifest")


def read_manifest(run: Invocation, baked: Baked) -> manifests.Build:
    """Return this build from the manifest: the last run, which must be ours and agree with Packer's output.

    Raises:
        UsageError: The manifest cannot be used.
        BuildError: It is of another build.
    """
    job, progress = baked.job, baked.progress
    path = manifest_of(run, job)
    made = manifests.last_build(run.workspace, str(path))
    ours = (made.custom_data or {}).get("run_id")
    if ours != job.run_id or (progress is not None and progress.amis != made.amis):
        msg = f"The last run in {path} is {ours!r}, not this build {job.run_id!r}: did another build run meanwhile?"
        raise BuildError(msg)
    _note_in_the_workspace(run, path)
    return made


def _note_in_the_workspace(run: Invocation, path: Path) -> None:
    """Note the last run of the manifest *path* where the other tasks look, if that is another file.

    With an older manifest there, `status` would advise going back to the AMI before. Its earlier runs stay.
    """
    ours = run.workspace.manifest
    if path.resolve() == ours.resolve():
        return
    shown = run.workspace.shown(ours)
    try:
        manifests.add_last_run(ours, path)
    except UsageError as exc:
        run.console.warn(f"Other tasks read {shown}, which does not name this build: {exc}")
        return
    run.console.say(f"Noted in {shown} as well, which the other tasks read.")
