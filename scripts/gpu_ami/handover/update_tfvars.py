"""`invoke update-tfvars`: takes AMI ids of the manifest, verifies the AMIs, and writes Terraform's variable."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.console import Table
from gpu_ami.errors import DifferenceError, SafetyError, UsageError
from gpu_ami.handover import attested, conflicts, readable, tfvars
from gpu_ami.handover import change as changes
from gpu_ami.handover.attested import Verdict
from gpu_ami.handover.change import Change
from gpu_ami.handover.eligibility import Code, Expected, Problem, problems
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records import verification
from gpu_ami.records.tags import checked_ami_id

_ANY_AMI = "ami-00000000"

if TYPE_CHECKING:
    from gpu_ami.aws.images import Image
    from gpu_ami.invocation import Invocation


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke update-tfvars`` requested.

    Attributes:
        manifest: Another manifest than the last build's.
        file: Another file than the settings' one.
        variable: Another variable than the settings' one, or a path to a value.
        ami: An AMI id instead of the manifest's.
        check: Whether nothing is written and a change is exit code 9.
        verified: Whether the AMI is looked up first.
    """

    manifest: str | None = None
    file: str | None = None
    variable: str | None = None
    ami: str | None = None
    check: bool = False
    verified: bool = True


def run(run: Invocation, request: Request) -> None:
    """Hand an AMI over and show the change; `plan_hand_over` and `hand_over` say what can go wrong."""
    amis = chosen_amis(run, manifest=request.manifest, ami=request.ami)
    change = plan_hand_over(run, amis, file=request.file, variable=request.variable)
    hand_over(run, change, verified=request.verified, check=request.check)
    # Another file is another root module's: `invoke apply` is not about that.
    is_over = request.check or run.options.dry_run or {"plan", "apply"} & {*run.coming}
    if request.file is None and not is_over:
        run.console.say("Next: `invoke plan` shows what Terraform makes of it, `invoke apply` does it.")


def chosen_amis(run: Invocation, *, manifest: str | None = None, ami: str | None = None) -> dict[str, str]:
    """Return region to AMI of what is handed over: *ami* in the pipeline's region, or all of a manifest's last run.

    Raises:
        UsageError: *ami* is no id; the manifest cannot be used, or has nothing for the pipeline's region.
    """
    region = run.settings.region
    if ami is not None:
        if manifest is not None:
            msg = "--ami and --manifest name an AMI each: give one of them."
            raise UsageError(msg)
        return {region: checked_ami_id(ami, name="--ami")}
    amis = manifests.last_build(run.workspace, manifest).amis
    if region not in amis:
        path = manifest or run.workspace.shown(run.workspace.manifest)
        msg = f"The last run in {path} made no AMI for {region} but for {', '.join(amis)}: name one with --region."
        raise UsageError(msg)
    return amis


def plan_hand_over(
    run: Invocation, amis: Mapping[str, str], *, file: str | None = None, variable: str | None = None
) -> Change:
    """Return what handing *amis* over would change.

    Args:
        run: This invocation.
        amis: Region to AMI id.
        file: Another file than the settings' one.
        variable: Another variable than the settings' one, or a path to a value.

    Raises:
        UsageError: The file or an id cannot be used, or the settings' file leads out of the repository.
        SafetyError: The sandbox's AMI would get into the repository's own files.
    """
    settings = run.settings.handover
    named = Path(file) if file is not None else changes.settings_file(run.workspace, settings.file)
    real = changes.resolve(named, run.workspace.root, sandbox=run.workspace.sandbox_folder)
    run.target.check_hand_over(real)
    change = tfvars.plan(real, variable or settings.variable, amis, region=run.settings.region)
    conflicts.check(change)
    return change


def check_target(run: Invocation) -> None:
    """Refuse settings whose file could not take an AMI id: to be known before a build, not half an hour later.

    Raises:
        UsageError: The file or the variable in it cannot be used, or Terraform would not read the file.
    """
    change = plan_hand_over(run, {run.settings.region: _ANY_AMI})
    readable.check_text(change.file, change.after)


def verify(run: Invocation, amis: Mapping[str, str], *, accept: Collection[Code] = ()) -> list[Verdict]:
    """Look each AMI up in its region and refuse those that must not be handed over.

    Args:
        run: This invocation.
        amis: Region to AMI id.
        accept: Problems that do not count.

    Returns:
        What the provenance of each came to.

    Raises:
        SafetyError: An AMI is gone, pending, of another architecture, not ours, …, or its provenance is refused; the
            line says what to do.
        UsageError: The record of an AMI's verification cannot be read.
        AwsError: AWS refused or cannot be reached.
    """
    from gpu_ami.aws import capacity, images
    from gpu_ami.aws.caller import Caller
    from gpu_ami.aws.sts import identify

    account = identify(run.access).account
    instance_type = run.settings.cost.instance_type
    found: list[tuple[str, Problem]] = []
    there: list[Image] = []
    for region, ami in amis.items():
        caller = Caller(run.access, region)
        image = images.look_up(caller, ami)
        there += [image] if image is not None else []
        expected = Expected(
            account=account,
            family=run.settings.family,
            architectures=capacity.architectures(caller, instance_type),
            instance_type=instance_type,
            now=datetime.now(timezone.utc),
            kept=run.target.is_kept,
            failure=_failure(run, image),
        )
        found += [(ami, problem) for problem in problems(region, image, expected) if problem.code not in accept]
    if found:
        ami, first = found[0]
        more = f" ({len(found) - 1} more: {'; '.join(f'{a} {p.code}' for a, p in found[1:])})" if found[1:] else ""
        msg = f"The AMI {ami} {first.text}{more} Nothing was changed; --no-verify skips this check."
        raise SafetyError(msg)
    home = amis.get(run.settings.region)
    verdicts = [attested.judge(run, image, home=home) for image in there]
    run.console.say(f"Looked up {', '.join(f'{ami} in {region}' for region, ami in amis.items())}: available and ours.")
    return verdicts


def _failure(run: Invocation, image: Image | None) -> str | None:
    """Return how the AMI's last verification failed; nobody asks where the settings want none before anything."""
    if image is None or run.settings.verify.before == "never":
        return None
    folder, is_sandbox = run.workspace.terraform, run.target.is_sandbox
    return verification.why_failed(folder, image.image_id, image.tags, sandbox=is_sandbox)


def hand_over(run: Invocation, change: Change, *, verified: bool = True, check: bool = False) -> None:
    """Write *change* unless this is a check or a dry run, and print it.

    Raises:
        SafetyError: The AMI must not be handed over, or another run is writing the file.
        UsageError: The file cannot be written.
        DifferenceError: *check* found a difference.
    """
    verdicts = verify(run, amis_of(change, run.settings.region)) if verified else []
    is_dry = check or run.options.dry_run
    if not is_dry:
        changes.apply(change)
        attested.keep(run, verdicts)
    show_change(run, change, written=not is_dry)
    if check:
        raise_changed(run, change)


def amis_of(change: Change, region: str) -> dict[str, str]:
    """Return region to AMI of what *change* hands over; a plain variable's is for *region*."""
    return {edit.region or region: edit.new for edit in change.edits}


def show_change(run: Invocation, change: Change, *, written: bool) -> None:
    """Print the change of the Terraform variable: a diff to read, a document for programs."""
    shown = run.workspace.shown(change.file)
    if change.changed:
        if diff := change.diff(shown):
            run.console.say_diff(diff)
        run.console.say(f"{'Wrote' if written else 'Would write'} {change.variable} to {shown}.")
    else:
        new = ", ".join(edit.new for edit in change.edits)
        run.console.say(f"{shown} has {change.variable} = {new} already; left alone.")
    for note in change.notes:
        run.console.say(note)
    rows = [
        (
            shown,
            f'{change.variable}["{edit.region}"]' if edit.region else change.variable,
            edit.old or "not set",
            edit.new,
            "yes" if edit.old != edit.new else "no",
        )
        for edit in change.edits
    ]
    table = Table(columns=("file", "variable", "old", "new", "changed"), rows=rows)
    run.console.result(change.document(shown), table)


def raise_changed(run: Invocation, change: Change) -> None:
    """End with exit code 9 when the change would change something.

    Raises:
        DifferenceError: It would.
    """
    if change.changed:
        shown = run.workspace.shown(change.file)
        first = next((edit for edit in change.edits if edit.old != edit.new), None)
        if first is None:
            msg = f"{shown} begins with a byte-order mark, so Terraform cannot read it: run `invoke update-tfvars`."
            raise DifferenceError(msg)
        msg = f"{change.variable} in {shown} is {first.old or 'not set'}, not {first.new}: run `invoke update-tfvars`."
        raise DifferenceError(msg)
