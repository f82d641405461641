"""Which AMIs go and which stay, and why: a pure function of what is there, what is needed, the policy and the time."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from gpu_ami.aws.images import Image
from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.aws.references.source import Reference
from gpu_ami.cleanup.policy import FamilyKey, Mode, Policy, family_key
from gpu_ami.records.tags import HANDOVER_TAG, KEEP_TAG, is_unfinished
from gpu_ami.units import show_count

Action = Literal["delete", "disable", "deprecate", "keep"]
Status = Literal["ok", "failed", "skipped"]

# EC2 tells of a launch up to this much later.
LAUNCH_LAG = timedelta(hours=24)
# An AMI that waits for its hand-over is protected for this long at least.
HANDOVER_WAIT = timedelta(days=30)
# Clocks differ a little; more than this is a wrong clock.
CLOCK_TOLERANCE = timedelta(minutes=5)
# So many details of one source are spelled out in a verdict.
_SHOWN_DETAILS = 3
# States in which an AMI is done: it may go, or counts among the newest of its family.
_USABLE = frozenset({"available", "disabled"})
_BROKEN = frozenset({"failed", "error", "invalid"})
_FINISHED = _USABLE | _BROKEN
_ESSENTIAL = frozenset(source.name for source in SOURCES if source.is_essential)
_LAUNCH_SHARING, _SNAPSHOT_SHARING = "launch-permissions", "public-snapshots"
_SHARING = frozenset({_LAUNCH_SHARING, _SNAPSHOT_SHARING})


# A fleet has hundreds of thousands, most of them made twice.
class SourceReport(msgspec.Struct, frozen=True, gc=False):
    """How the query of one source in one region of one account ended.

    Attributes:
        name: The source.
        region: Where; None for a source on this machine.
        account: Whose.
        status: A failed source means that nothing is deleted.
        calls: Requests sent.
        references: What it found.
        error: What went wrong, or why it was skipped.
        notes: What a reader should know.
        is_use: Whether its references show that uses are seen at all.
        denied: The action that the credentials lack, as IAM calls it, where that is why it failed; empty otherwise.
        principal: Who lacks it, by ARN; empty where AWS does not say.
    """

    name: str
    region: str | None
    status: Status
    account: str | None = None
    calls: int = 0
    references: int = 0
    error: str | None = None
    notes: tuple[str, ...] = ()
    is_use: bool = True
    denied: str = ""
    principal: str = ""

    def document(self) -> dict[str, Any]:
        """Return the report as the plan's JSON has it."""
        return {
            "name": self.name,
            "region": self.region,
            "account": self.account,
            "status": self.status,
            "calls": self.calls,
            "references": self.references,
            "error": self.error,
            "notes": list(self.notes),
            # Only where it is so: a plan's file from before must stay one.
            **({"denied": self.denied} if self.denied else {}),
        }


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of a verdict: a code for programs and a sentence for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to happen to an AMI, and every reason."""

    image: Image
    family: str
    action: Action
    reasons: tuple[Reason, ...]

    @property
    def is_selected(self) -> bool:
        """Whether anything is to happen to it."""
        return self.action != "keep"


@dataclass(frozen=True)
class Decision:
    """The verdicts on all AMIs of a scope.

    Attributes:
        verdicts: One per AMI, oldest first.
        blocks: Why nothing may be done at all; empty when the plan may be carried out.
        outside: How many own AMIs the scope leaves out.
    """

    verdicts: tuple[Verdict, ...]
    blocks: tuple[str, ...] = ()
    outside: int = 0

    @property
    def selected(self) -> tuple[Verdict, ...]:
        """The verdicts that say that something is to happen."""
        return tuple(verdict for verdict in self.verdicts if verdict.is_selected)


@dataclass(frozen=True)
class Family:
    """What an AMI's family in its account and region says about it.

    Attributes:
        newest: The AMIs that stay because they are the newest.
        applied: When the newest AMI was made that Terraform has taken; None when it has taken none.
    """

    newest: frozenset[str] = frozenset()
    applied: datetime | None = None


def decide(
    images: Sequence[Image],
    references: Iterable[Reference],
    reports: Sequence[SourceReport],
    policy: Policy,
    now: datetime,
    *,
    with_orphans: bool = False,
    reported: Collection[str] = (),
    used: Collection[str] | None = None,
    brief: bool = False,
) -> Decision:
    """Return the verdict on every AMI of the policy's scope, with all its reasons.

    Args:
        images: All AMIs of the account, in every region that was queried.
        references: What needs an AMI or a snapshot, from all regions, accounts and files.
        reports: How the query of each source ended.
        policy: What to keep.
        now: The time.
        with_orphans: Whether snapshots without an AMI may go, too.
        reported: AMIs of whose use in other accounts EC2 has been asked: with `Policy.usage_reports` that one is
            shared is a reason to stay until then. What the answer was is among *references*.
        used: Of a fleet, the accounts of whose AMIs a use was found: that nothing needs any AMI of one is judged by
            itself, or one busy account would let all the others' go. None for one account.
        brief: Whether one reason to stay will do, for who asks what goes alone: of a fleet, a third of the time.
    """
    families = _families(images, policy.keep)
    needed = by_target(references)
    covered = [image for image in images if policy.scope.covers(image.name, image.tags)]
    verdicts = [
        _verdict(image, families, needed, policy, now, reported, brief=brief)
        for image in sorted(covered, key=_oldest_first)
    ]
    is_change = with_orphans or any(verdict.is_selected for verdict in verdicts)
    if used is not None and not policy.allow_no_references:
        verdicts = [_unless_idle(verdict, used) for verdict in verdicts]
    blocks = find_blocks(reports, policy, is_change=is_change)
    if blocks:
        verdicts = [kept(verdict, Reason("blocked", blocks[0])) for verdict in verdicts]
    elif policy.max_deletions is not None:
        verdicts = _limited(verdicts, policy.max_deletions)
    return Decision(tuple(verdicts), blocks, outside=len(images) - len(covered))


def _unless_idle(verdict: Verdict, used: Collection[str]) -> Verdict:
    account = verdict.image.account
    return verdict if account in used else kept(verdict, Reason("nothing-needed", why_nothing(account)))


def why_nothing(account: str) -> str:
    """Return why nothing of *account* goes, of a fleet: no use of any of its AMIs was seen."""
    return f"nothing at all was found that needs any AMI of {account}: if that is true, plan with --allow-no-references"


def find_blocks(reports: Sequence[SourceReport], policy: Policy, *, is_change: bool = True) -> tuple[str, ...]:
    """Return why nothing may be deleted at all: sources that failed, or that saw nothing anywhere.

    That nothing was seen is no reason to alarm anybody where nothing would change (*is_change*).
    """
    failed = [report for report in reports if report.status == "failed"]
    if failed:
        denied = denied_together(failed)
        lines = [f"{_where(report)} could not be read: {report.error}" for report in failed if report not in denied]
        return (*([_denials(denied, policy)] if denied else []), *lines)
    if not is_change or policy.allow_no_references or any(report.references and report.is_use for report in reports):
        return ()
    return ("nothing at all was found that needs any AMI: if that is true, plan with --allow-no-references",)


def denied_together(reports: Iterable[SourceReport]) -> tuple[SourceReport, ...]:
    """Return those of *reports* that failed for want of a permission, if there are several: one line tells of all.

    After an upgrade that reads more there may be a dozen, and again for each region.
    """
    denied = tuple(report for report in reports if report.status == "failed" and report.denied)
    return denied if len(denied) > 1 else ()


def _denials(denied: Sequence[SourceReport], policy: Policy) -> str:
    """Return who is denied what, and the two ways out of it."""
    actions: dict[str, set[str]] = defaultdict(set)
    for report in denied:
        actions[report.principal or "these credentials"].add(report.denied)
    who = "; ".join(f"{name} may not do {', '.join(sorted(some))}" for name, some in actions.items())
    names = sorted({report.name for report in denied})
    where = sorted({report.region for report in denied if report.region})
    # With --usage-reports sharing may not be left out.
    needed = _ESSENTIAL | (_SHARING if policy.usage_reports else frozenset())
    optional = [name for name in names if name not in needed]
    ways = ["allow what docs/cleanup.md lists under Permissions"]
    # A flag of `invoke cleanup` alone would not do for `invoke sweep`.
    ways += (
        [f"leave out what you do without: cleanup.skip_sources in pipeline.yaml, of {', '.join(optional)}"]
        if optional
        else []
    )
    explicit = " (an explicit deny is among them)" if any("explicit deny" in str(r.error) for r in denied) else ""
    what = f"{show_count(len(names), 'source')} in {', '.join(where)} could not be read"
    return f"{what}: {who}{explicit}. For all of them at once, {', or '.join(ways)}"


def by_target(references: Iterable[Reference]) -> dict[str, list[Reference]]:
    """Return *references* by the AMI or snapshot that they need."""
    found: dict[str, list[Reference]] = defaultdict(list)
    for reference in references:
        found[reference.target].append(reference)
    return dict(found)


def newest_of(images: Sequence[Image], selected: Collection[str], keep: int) -> set[str]:
    """Return the AMIs that stay as the *keep* newest of the families to which the AMIs *selected* belong."""
    families = _families(images, keep)
    mine = {family_key(image) for image in images if image.image_id in selected}
    return {image_id for key in mine for image_id in families[key].newest}


def age_of(image: Image, now: datetime) -> timedelta | None:
    """Return how long ago *image* was made or last launched, whichever is later; None without a date.

    EC2 tells of launches up to a day late, so a known launch is taken to be a day younger than it seems.
    """
    if image.created is None:
        return None
    launched = image.last_launched + LAUNCH_LAG if image.last_launched else image.created
    return now - max(image.created, launched)


def _verdict(
    image: Image,
    families: Mapping[FamilyKey, Family],
    needed: Mapping[str, Sequence[Reference]],
    policy: Policy,
    now: datetime,
    reported: Collection[str],
    *,
    brief: bool,
) -> Verdict:
    key = family_key(image)
    family, relatives = key.family, families[key]
    found = itertools.chain(
        _state_reasons(image, policy.mode),
        _age_reasons(image, policy, now),
        _family_reasons(image, family, relatives, policy, now),
        _use_reasons(image, needed, policy, is_reported=image.image_id in reported, brief=brief),
    )
    if reasons := tuple(itertools.islice(found, 1 if brief else None)):
        return Verdict(image, family, "keep", reasons)
    age = age_of(image, now)
    days = age.days if age is not None else 0
    why = (
        Reason("unneeded", "no source that was queried needs it"),
        Reason("old", f"not made or launched for {show_count(days, 'day')}"),
        Reason("not-among-newest", f"not among the {policy.keep} newest of {family}"),
    )
    return Verdict(image, family, policy.mode, why)


def _state_reasons(image: Image, mode: Mode) -> Iterable[Reason]:
    for problem in image.problems:
        yield Reason("unreadable", problem)
    if image.state not in _FINISHED:
        yield Reason("not-finished", f"its state is {image.state}")
    if KEEP_TAG in image.tags and image.tags[KEEP_TAG].strip().lower() not in ("false", "no", "0"):
        yield Reason("keep-tag", f"tagged {KEEP_TAG}={image.tags[KEEP_TAG]}")
    if mode == "disable" and image.state == "disabled":
        yield Reason("already-disabled", "it is disabled already")
    if mode == "deprecate" and image.deprecated_at is not None:
        yield Reason("already-deprecated", f"it has a deprecation date, {image.deprecated_at:%Y-%m-%d}")


def _age_reasons(image: Image, policy: Policy, now: datetime) -> Iterable[Reason]:
    age = age_of(image, now)
    if image.created is None or age is None:
        yield Reason("no-date", "EC2 gives no creation date")
        return
    latest = max(image.created, image.last_launched or image.created)
    if latest > now + CLOCK_TOLERANCE:
        yield Reason("future-date", f"made or launched in the future, {latest:%Y-%m-%d %H:%M} UTC")
    elif age < policy.older_than:
        what = "made" if latest == image.created else "launched"
        yield Reason("too-young", f"{what} {latest.date()}, less than {show_span(policy.older_than)} ago")


@functools.lru_cache(maxsize=8)
def show_span(span: timedelta) -> str:
    """Return a policy's time span as people say it: ``30 days``, ``12 hours``, ``1 day``."""
    days, hours = divmod(int(span.total_seconds() // 3600), 24)
    return show_count(24 * days + hours, "hour") if hours else show_count(days, "day")


def _family_reasons(image: Image, family: str, relatives: Family, policy: Policy, now: datetime) -> Iterable[Reason]:
    if image.image_id in relatives.newest:
        yield Reason("keep-newest", f"among the {policy.keep} newest of {family}")
    if image.tags.get(HANDOVER_TAG) == "pending" and image.created is not None:
        overtaken = relatives.applied is not None and relatives.applied > image.created
        if not overtaken or now - image.created < HANDOVER_WAIT:
            yield Reason("handover-pending", "waits for its hand-over to Terraform")


def _use_reasons(
    image: Image, needed: Mapping[str, Sequence[Reference]], policy: Policy, *, is_reported: bool, brief: bool
) -> Iterable[Reason]:
    by_source: dict[str, list[Reference]] = defaultdict(list)
    for target in (image.image_id, *image.snapshot_ids):
        for reference in needed.get(target, ()):
            if reference.source not in _SHARING or not _is_accepted(reference, policy, is_reported=is_reported):
                by_source[reference.source].append(reference)
                if brief:
                    break
    for source, found in by_source.items():
        distinct = list(dict.fromkeys(reference.detail for reference in found))
        for detail in distinct[:_SHOWN_DETAILS]:
            yield Reason(source, detail)
        if len(distinct) > _SHOWN_DETAILS:
            yield Reason(source, f"and {len(distinct) - _SHOWN_DETAILS} more")


def _is_accepted(reference: Reference, policy: Policy, *, is_reported: bool) -> bool:
    """Return whether somebody's being able to use the AMI or snapshot is no reason to stay."""
    is_asked = is_reported or not policy.usage_reports
    if reference.source == _LAUNCH_SHARING:
        # Disabling takes the permissions away for good, so there no flag helps.
        return policy.include_shared and policy.mode != "disable" and is_asked
    if reference.source == _SNAPSHOT_SHARING:
        # Nothing else touches the snapshots.
        return (policy.include_shared and is_asked) or policy.mode != "delete"
    return False


def is_shared(image: Image, needed: Mapping[str, Sequence[Reference]], policy: Policy) -> bool:
    """Return whether *image* may go only because the policy includes what is shared."""
    unshared = dataclasses.replace(policy, include_shared=False)
    return any(
        _is_accepted(reference, policy, is_reported=True) and not _is_accepted(reference, unshared, is_reported=True)
        for target in (image.image_id, *image.snapshot_ids)
        for reference in needed.get(target, ())
    )


def _families(images: Iterable[Image], keep: int) -> dict[FamilyKey, Family]:
    members: dict[FamilyKey, list[Image]] = defaultdict(list)
    for image in images:
        members[family_key(image)].append(image)
    return {key: _family(some, keep) for key, some in members.items()}


def _family(members: Sequence[Image], keep: int) -> Family:
    done = [image for image in members if image.state not in _BROKEN]
    # A disabled AMI cannot be launched, so it never takes the place of one that can.
    launchable = [image for image in done if image.state == "available"]
    # Nor does one that a failed build has left.
    finished = [image for image in launchable if not is_unfinished(image.tags)]
    groups = (done, launchable, finished)
    newest = [image.image_id for some in groups for image in heapq.nsmallest(keep, some, key=_newest_first)]
    applied = [image.created for image in members if image.tags.get(HANDOVER_TAG) == "applied" and image.created]
    return Family(frozenset(newest), max(applied, default=None))


def _limited(verdicts: Sequence[Verdict], most: int) -> list[Verdict]:
    reason = Reason("max-deletions", f"only the {most} oldest go in one run")
    chosen = {id(verdict) for verdict in [verdict for verdict in verdicts if verdict.is_selected][:most]}
    return [verdict if id(verdict) in chosen else kept(verdict, reason) for verdict in verdicts]


def kept(verdict: Verdict, reason: Reason) -> Verdict:
    """Return *verdict*, its AMI kept for *reason* if it was to go."""
    if not verdict.is_selected:
        return verdict
    return Verdict(verdict.image, verdict.family, "keep", (reason, *verdict.reasons))


def _where(report: SourceReport) -> str:
    location = " ".join(filter(None, [report.region, report.account]))
    return f"{report.name} ({location})" if location else report.name


def _newest_first(image: Image) -> tuple[bool, float, str]:
    # An AMI without a date is never taken for a new one: it would push a real one out.
    return image.created is None, -(image.created.timestamp() if image.created else 0.0), image.image_id


def _oldest_first(image: Image) -> tuple[float, str]:
    return image.created.timestamp() if image.created else 0.0, image.image_id
