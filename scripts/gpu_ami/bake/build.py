"""`invoke build`: bakes an AMI and hands its id to Terraform.

Reads from top to bottom as the README's table does: check, validate, bake, read the manifest, hand over, price.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from gpu_ami.aws.images import Image
from gpu_ami.bake import (
    archiving,
    attest,
    base,
    by_hand,
    compare,
    models,
    packer_bake,
    preflight,
    release_tags,
    result,
    validate,
)
from gpu_ami.bake.build_tables import built_table
from gpu_ami.bake.checks import signing, verification
from gpu_ami.bake.job import Baked, Job
from gpu_ami.bake.prepare import prepare
from gpu_ami.bake.result import BuildResult
from gpu_ami.errors import InterruptedRunError, PipelineError, SafetyError, UsageError
from gpu_ami.handover import attested, update_tfvars
from gpu_ami.handover import change as changes
from gpu_ami.invocation import Invocation
from gpu_ami.locks import in_turn, only_one
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records import unfinished_build


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke build`` requested.

    Attributes:
        variables: Packer variables as ``name=value``.
        debug: Packer's step-by-step mode, on a terminal.
        incremental: Bake on the family's last AMI where that makes the same image.
        if_stale: Do nothing when the family's last AMI is what a build would make.
    """

    variables: Sequence[str] = ()
    debug: bool = False
    incremental: bool = False
    if_stale: bool = False


class Gate(Protocol):
    """What comes between the bake and the hand-over."""

    @property
    def lines(self) -> list[str]:
        """What a dry run says of it."""
        ...

    def has_passed(self, ami_id: str, tags: Mapping[str, str]) -> bool:
        """Whether an AMI that there is has passed already."""
        ...

    def agree(self, volume_gib: float) -> None:
        """Have somebody agree to it before the bake begins; *volume_gib* is the root volume of what is made."""
        ...

    def check(self, amis: Mapping[str, str], account: str, *, is_old: bool = False) -> None:
        """Check what was made (region to AMI), or *is_old*; raises what keeps it from being handed over."""
        ...


def run(run: Invocation, request: Request, gate: Gate | None = None) -> None:
    """Bake, hand over and show what was made; `build` says what can go wrong.

    Args:
        run: This invocation.
        request: What was requested.
        gate: What comes between the bake and the hand-over; None for nothing.
    """
    job = prepare(run, request.variables, debug=request.debug)
    flags = {"debug": request.debug, "incremental": request.incremental, "if_stale": request.if_stale}
    if run.options.dry_run:
        run.console.dry_run([*command_lines(job, **flags), *(gate.lines if gate is not None else ())])
        return
    built = build(run, job, gate, **flags)
    run.console.result(built.document(), built_table(built, kept=run.target.is_kept, coming=run.coming))


def command_lines(job: Job, *, debug: bool, incremental: bool = False, if_stale: bool = False) -> list[str]:
    """Return the exact commands that `build` runs, in order; what depends on AWS is said in comments."""
    notes = ["# with source_ami, image_digest and fingerprints set to what is looked up in AWS"]
    if if_stale:
        notes.append("# nothing at all when the family's last AMI was made from the same")
    if incremental:
        notes.append("# on the family's last AMI instead (source_ami, chain_length) when only image or models are new")
    if job.left_out:
        names = ", ".join(path.name for path in job.left_out)
        notes.append(f"# in a copy of the folder without {names}, which other families have")
    return [
        *validate.command_lines(job, tests=False),
        str(job.packer.build(job.inputs, debug=debug)),
        *notes,
        *packer_bake.fall_back_lines(job),
    ]


def check(run: Invocation, job: Job) -> list[preflight.Check]:
    """Return what preflight found for *job*."""
    variables = job.variables.with_listed(len(models.load(job.packer.folder / "models.yaml")))
    return preflight.run_checks(
        run.access,
        variables,
        account=run.target.account,
        sandbox=run.target.is_sandbox,
        folder=run.workspace.state if run.target.is_sandbox else None,
        verified=verification.wanted(run.settings),
        proven=signing.wanted(attested.policy(run), run.workspace.root),
    )


def build(
    run: Invocation,
    job: Job,
    gate: Gate | None = None,
    *,
    debug: bool = False,
    incremental: bool = False,
    if_stale: bool = False,
) -> BuildResult:
    """Compare, check, validate, bake, read the manifest, hand the AMI over and price the build.

    Args:
        run: This invocation.
        job: The build.
        gate: What comes between the bake and the hand-over; None for nothing.
        debug: Packer's step-by-step mode on the terminal.
        incremental: Bake on top of the family's last AMI where that makes the same image.
        if_stale: Do nothing when the family's last AMI is what a build would make.

    Raises:
        ToolError: This machine cannot have the sandbox's guest.
        SafetyError: A preflight check failed, the credentials are for the wrong account, or another build is under way.
        BuildError: Packer refused or failed.
        TerraformError: The Terraform folder is not valid.
        InterruptedRunError: The build was cancelled; what it had started is ended, or named where it could not be.
    """
    run.target.check_builder()
    with only_one(run.workspace.logs, "build", family=run.family):
        return _build(run, job, gate, debug=debug, incremental=incremental, if_stale=if_stale)


def _build(
    run: Invocation, job: Job, gate: Gate | None, *, debug: bool, incremental: bool, if_stale: bool
) -> BuildResult:
    _check_values(job)
    account = run.announce().account
    packer_bake.check_manifest(run, job)
    archiving.check_places(run, job)
    compared = _compare(run, job)
    if if_stale and (live := _up_to_date(run, compared, gate, account)) is not None:
        return result.unchanged(run, live)
    if gate is not None:
        gate.agree(job.variables.volume_size_gib)
    _check_and_validate(run, job)
    update_tfvars.check_target(run)
    started = time.monotonic()
    with _noted(run, job, account):
        baked = _bake(run, job, compared, debug=debug, incremental=incremental)
    duration_s = time.monotonic() - started
    home = run.access.region
    with _naming_what_was_made(home, baked.progress.amis if baked.progress else {}):
        made = packer_bake.read_manifest(run, baked)
    with _naming_what_was_made(home, made.amis):
        recorded = _archived(run, baked, made)
        untagged = release_tags.tag(run, made, recorded)
        finished = release_tags.finish(run, made)
    if gate is not None:
        gate.check(made.amis, account)
    with _naming_what_was_made(home, made.amis, is_finished=True), _in_turn(run, "hand-over"):
        change = update_tfvars.plan_hand_over(run, made.amis)
        verdicts = _judged(run, update_tfvars.amis_of(change, home), finished, recorded, untagged)
        changes.apply(change)
        attested.keep(run, verdicts)
    return result.made(run, baked, made, recorded, change, duration_s, compared.differences)


def _archived(run: Invocation, baked: Baked, made: manifests.Build) -> release_tags.Recorded:
    """Check what Packer wrote of what was made, and archive it; return the AMI, and the tags that it is to get."""
    with archiving.rescuing(run, made, attest.found(baked)):
        written = attest.read(run, baked, made)
        recorded = release_tags.record(run, baked, made, first=written.tags)
        archiving.keep(run, baked, made, recorded, written)
    return recorded


def _judged(
    run: Invocation,
    amis: Mapping[str, str],
    finished: Mapping[str, Image],
    recorded: release_tags.Recorded,
    untagged: Collection[str],
) -> list[attested.Verdict]:
    """Judge the provenance of what is handed over by the tags that it was just given: EC2 may not show them yet.

    Args:
        run: This invocation.
        amis: Region to AMI that is handed over.
        finished: What the build has made, by its region.
        recorded: The AMI of the pipeline's region, and the tags.
        untagged: The AMIs of which EC2 refused these.

    Raises:
        SafetyError: One is refused, such as one that has not got the tag: nobody could judge it any more.
    """
    verdicts = []
    for region, ami in amis.items():
        tags = finished[region].tags if ami in untagged else {**finished[region].tags, **recorded.tags}
        of_build = recorded.image.image_id
        verdicts.append(attested.judge(run, finished[region], tags=tags, home=of_build, done="It was not handed over."))
    return verdicts


def _up_to_date(run: Invocation, compared: compare.Comparison, gate: Gate | None, account: str) -> Image | None:
    """Return the AMI that a build would only make again, handed over where that was still to do; None to bake one."""
    live = compared.live
    if live is None or compared.differences:
        for difference in compared.differences:
            run.console.say(f"  stale: {difference.detail}")
        return None
    is_made = f"{live.image_id} is made from what a build would be made from"
    if gate is None or gate.has_passed(live.image_id, live.tags):
        run.console.say(f"Nothing to build: {is_made}.")
        return live
    # Its copies in other regions are handed over with it, where the manifest is at hand and about it.
    amis = _made_with(run, live.image_id)
    try:
        # What would be refused in the end is no use to pay for.
        attested.check(run, amis, done="It was neither verified nor handed over.")
    except attested.LostError as exc:
        # With the runner that had baked it, say: it would be refused every night from now on.
        run.console.warn(f"{is_made}, but one is baked anew. {exc}")
        return None
    run.console.say(f"Nothing to build: {is_made}.")
    _catch_up(run, live, amis, gate, account)
    return live


def _catch_up(run: Invocation, live: Image, amis: Mapping[str, str], gate: Gate, account: str) -> None:
    """Have what an earlier build made pass the gate, which that build did not get to the end of, and hand it over."""
    run.console.say(f"{live.image_id} has not been verified yet, and that comes before the hand-over.")
    gate.agree(live.root_gib)
    update_tfvars.check_target(run)
    gate.check(amis, account, is_old=True)
    with _naming_what_was_made(run.access.region, amis, is_finished=True), _in_turn(run, "hand-over"):
        verdicts = attested.check(run, amis, done="It was not handed over.")
        changes.apply(update_tfvars.plan_hand_over(run, amis))
        attested.keep(run, verdicts)


def _made_with(run: Invocation, ami_id: str) -> Mapping[str, str]:
    region = run.settings.region
    try:
        amis = manifests.last_build(run.workspace, None).amis
    except UsageError:
        return {region: ami_id}
    return amis if amis.get(region) == ami_id else {region: ami_id}


def _noted(run: Invocation, job: Job, account: str) -> AbstractContextManager[None]:
    """Keep a note of the build meanwhile, for the case that it is killed; a sandbox of its own ends with it."""
    if run.target.is_kept is False:
        return nullcontext()
    whose = unfinished_build.Whose(account=account, family=run.settings.family)
    # Of the settings' own profile nobody need be told.
    profile = None if run.target.is_sandbox else run.options.profile or os.environ.get("AWS_PROFILE")
    return unfinished_build.under_way(run.workspace.logs, job.run_id, run.settings.region, whose, profile)


@contextlib.contextmanager
def _naming_what_was_made(home: str, amis: Mapping[str, str], *, is_finished: bool = False) -> Iterator[None]:
    """Name the AMIs that there are, and what hands them over, when something ends the build before it has done so.

    Args:
        home: The pipeline's region: its AMI is the one to hand over.
        amis: Region to AMI id; empty where that is not known.
        is_finished: Whether they are tagged so; as long as they are not, a sweep takes them.
    """
    made, does_it = by_hand.named(amis), f"{by_hand.hand_over_command(home, amis)} does it."
    how = does_it if is_finished else by_hand.how_to_use(home, amis)
    try:
        yield
    except KeyboardInterrupt as exc:
        msg = f"{made} the build was interrupted. {how}"
        raise InterruptedRunError(msg) from exc
    except PipelineError as exc:
        exc.args = (f"{made} {exc} {how}",)
        raise


def _check_values(job: Job) -> None:
    """Refuse values that cannot be used, before credentials are asked for."""
    try:
        _ = job.variables
    except UsageError:
        # A template that we cannot read: Packer's own error says more.
        validate.validate(job, tests=False)
        raise
    archiving.check(job)


def _compare(run: Invocation, job: Job) -> compare.Comparison:
    with run.console.step("comparing with the live AMI"):
        return compare.compare(run, job)


def _bake(run: Invocation, job: Job, compared: compare.Comparison, *, debug: bool, incremental: bool) -> Baked:
    from gpu_ami.bake.packer_run import FailedBuildError

    full = base.full(job, compared.expected)
    on_parent = base.on_parent(run, full, compared) if incremental else None
    if on_parent is None:
        return packer_bake.bake(run, full, debug=debug)
    try:
        return packer_bake.bake(run, on_parent, debug=debug)
    except FailedBuildError as exc:
        # A step that fails on the parent may do so because of it; where it does not, the full bake says so too.
        if not exc.script:
            raise
        run.console.warn(f"{exc.script} failed on top of the last AMI, so a full bake follows. {exc}")
        return packer_bake.bake(run, full, name="full")


def _in_turn(run: Invocation, what: str) -> AbstractContextManager[None]:
    """Let builds of several families, side by side, do *what* one after the other."""
    return in_turn(run.workspace.logs, what, family=run.family)


def _check_and_validate(run: Invocation, job: Job) -> None:
    with run.console.step("preflight and validation") as step, ThreadPoolExecutor(max_workers=1) as pool:
        checking = pool.submit(check, run, job)
        with _in_turn(run, "validate"):  # they have one Terraform folder
            validate.validate(job, tests=False)
        checks = checking.result()
        if preflight.failed(checks):
            step.fail()
    for found in preflight.remarks(checks):
        run.console.warn(f"{found.check}: {found.detail}. {found.fix}")
    if bad := preflight.failed(checks):
        for found in bad:
            run.console.say(f"  {found.check}: {found.detail}. {found.fix}")
        names = ", ".join(found.check for found in bad)
        msg = f"Preflight failed ({names}): {bad[0].detail}; nothing was started. {bad[0].fix}"
        raise SafetyError(msg)
