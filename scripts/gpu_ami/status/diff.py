"""`invoke diff`: what differs between two AMIs, without booting either. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_ami import families
from gpu_ami.console import Table
from gpu_ami.errors import AwsError, DifferenceError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.records import archive, image_comparison, image_facts
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records.image_comparison import KINDS, Comparison, cells, summary
from gpu_ami.records.image_facts import ImageFacts
from gpu_ami.records.tags import checked_ami_id
from gpu_ami.units import show_count

_COLUMNS = 100
# Of the columns beside the kind, which takes 15: with what is between them no more than that.
_NAME, _VALUE = 25, 24


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke diff`` requested.

    Attributes:
        old: The first AMI; None for the one that is live.
        new: The second AMI; None for the last build's.
    """

    old: str | None = None
    new: str | None = None


def run(run: Invocation, request: Request) -> None:
    """Show what differs.

    Raises:
        UsageError: What is given is no AMI, nothing says which is meant, or an archive cannot be used.
        AwsError: AWS does not say what an AMI was made of, or which is live.
        DifferenceError: Something differs.
    """
    families.refuse_beside(run, {"--from": request.old is not None, "--to": request.new is not None})
    old = checked_ami_id(request.old, name="--from") if request.old is not None else None
    new = checked_ami_id(request.new, name="--to") if request.new is not None else _last_build(run)
    if run.options.dry_run:
        run.console.say(f"DRY RUN: would compare {old or 'the AMI that is live'} with {new}.")
        return
    old = old or _live(run)
    if old == new:
        same = ImageFacts(ami=new, source=None, kinds={})
        found = image_comparison.compare(same, same)
    else:
        found = image_comparison.compare(_facts(run, old), _facts(run, new))
    run.console.result(found.document(), *tables(found))
    if found.changes:
        msg = f"{new} differs from {old}: {show_count(len(found.changes), 'difference')}, above."
        raise DifferenceError(msg)
    if found.undecided:
        kinds = ", ".join(KINDS[kind] for kind in found.undecided)
        run.console.warn(
            f"Nobody can say whether {new} is the same as {old}: not known of both, so not compared: {kinds}."
        )


def _last_build(run: Invocation) -> str:
    made = manifests.last_build(run.workspace).amis
    region = run.settings.region
    if region not in made:
        msg = f"The last build made no AMI in {region}: name one with --to."
        raise UsageError(msg)
    return made[region]


def _live(run: Invocation) -> str:
    """Return the AMI of the family's compute environments.

    Raises:
        UsageError: There is none, or they have several.
        AwsError: AWS refused.
    """
    from gpu_ami.aws.caller import Caller
    from gpu_ami.deploy import live_environments, root_module

    root = root_module.prepare(run)
    caller = Caller(run.access, run.settings.region)
    environments = live_environments.of_family(caller, root_module.stored_state(root), run.settings.family)
    amis = sorted({ami for environment in environments for ami in environment.images.named})
    if len(amis) == 1:
        return amis[0]
    if not amis:
        msg = "No AMI is live: no compute environment of this family has one of its own. Name one with --from."
    else:
        msg = f"Several AMIs are live ({', '.join(amis)}): name one with --from."
    raise UsageError(msg)


def _facts(run: Invocation, ami: str) -> ImageFacts:
    """Return what is known of *ami*: by its archive in the tree, else beside the state in S3, else by its tags."""
    files = archive.read(run.workspace.builds, ami, image_facts.FILES)
    where = run.workspace.shown(run.workspace.builds / ami)
    if (found := image_facts.archived(ami, files, where=where)) is not None:
        return found
    from gpu_ami.handover.build_store import BuildStore

    store = BuildStore(run.workspace.builds, run.workspace.terraform, run.access)
    try:
        shared = store.read(ami, image_facts.FILES)
    except AwsError as exc:
        run.console.warn(f"The archive of {ami} cannot be looked for: {exc}")
    else:
        if (found := image_facts.archived(ami, shared.files, where=store.url(ami) or where)) is not None:
            return found
    from gpu_ami.aws import images
    from gpu_ami.aws.caller import Caller

    return image_facts.tagged(ami, images.describe(Caller(run.access, run.settings.region), ami).tags)


def tables(found: Comparison) -> list[Table]:
    """Return the answer in one line, then each difference, then what cannot be said."""
    if found.old.ami == found.new.ami:
        return [Table(columns=(), rows=(), footer=(f"It is the same AMI, {found.new.ami}.",), edge=_COLUMNS)]
    answer = f"{found.old.ami} → {found.new.ami}: {summary(found)}."
    footer = [f"{each.ami}: {_source(each)}." for each in (found.old, found.new)]
    if found.unknown:
        kinds = ", ".join(KINDS[kind] for kind in found.unknown)
        footer.append(f"Not known of both, so not compared: {kinds}.")
    footer.append("Packages inside the container image are in no list: its digest stands for them.")
    rows = [(KINDS[change.kind], _end(change.name), *cells(change, _VALUE)) for change in found.changes]
    return [
        Table(columns=(), rows=(), footer=(answer,), edge=_COLUMNS),
        Table(columns=("what", "name", "from", "to"), rows=rows, footer=tuple(footer), edge=_COLUMNS),
    ]


def _end(name: str) -> str:
    """Return *name* in a column's width: of a long path its end, which says more."""
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"


def _source(facts: ImageFacts) -> str:
    if facts.source != image_facts.TAGS:
        return f"from {facts.source}"
    return "from its tags alone: no archive of its build is at hand"
