"""`invoke status --fleet`: which AMI of the fleet is used where, and what of that is out of step. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Literal, TypeVar

from gpu_ami.aws import batch, images
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image
from gpu_ami.aws.launched_versions import launched_versions
from gpu_ami.console import Table
from gpu_ami.errors import AwsError, DifferenceError
from gpu_ami.fleet.entry import Entered
from gpu_ami.fleet.fleet import Found, find, regions_of, settings_of
from gpu_ami.fleet.narrowing import Narrowing, narrowing, region_setting
from gpu_ami.invocation import Invocation, Once
from gpu_ami.records.tags import FAMILY_TAG, HANDOVER_TAG, VERIFIED_TAG, is_unfinished
from gpu_ami.records.verification import FAILED
from gpu_ami.units import show_count

_EDGE = 100
_WORKERS = 128
_T = TypeVar("_T")
ENVIRONMENT, TEMPLATE = "compute-environment", "launch-template"
_SHORT = {ENVIRONMENT: "environment", TEMPLATE: "template"}
Code = Literal[
    "account-unread",
    "region-unread",
    "ami-gone",
    "ami-not-shared",
    "ami-disabled",
    "ami-deprecated",
    "ami-unfinished",
    "verification-failed",
    "outdated",
]
_ADVICE: dict[Code, str] = {
    "ami-gone": "bring it back with `invoke cleanup --fleet --restore JOURNAL`, or let it name another AMI",
    "ami-not-shared": "share the AMI with that account again, or let it name another AMI",
    "ami-disabled": "enable the AMI, or let it name another one",
    "ami-deprecated": "let it name a newer AMI",
    "ami-unfinished": "let it name an AMI whose build has come to its end",
    "verification-failed": "let it name an AMI that passed its verification",
    "outdated": "let it name the newest AMI that its owner has applied",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A region of an account, as far as it was read.

    Attributes:
        account: The account.
        caller: Calls it.
        owned: Its AMIs of the family.
        uses: What names an AMI there.
        shown: The AMIs of others that EC2 shows it.
        trouble: Why it could not be read; None where it was.
    """

    account: str
    caller: Caller
    owned: tuple[Image, ...] = ()
    uses: tuple[Use, ...] = ()
    shown: frozenset[str] = frozenset()
    trouble: str | None = None

    @property
    def region(self) -> str:
        """The region."""
        return self.caller.region


@dataclass(frozen=True, kw_only=True)
class Use:
    """A compute environment or a version of a launch template that names an AMI.

    Attributes:
        account: Where it is.
        region: Where it is.
        kind: What it is.
        name: Its name.
        version: Of a launch template.
        ami_id: The AMI.
        since: When the version was made; None for environments: Batch does not say.
        is_ours: Whether the family's tag is on it.
    """

    account: str
    region: str
    kind: str
    name: str
    ami_id: str
    version: int | None = None
    since: datetime | None = None
    is_ours: bool = False

    @property
    def subject(self) -> str:
        """What it is, for people."""
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.kind.replace('-', ' ')} {self.name}{version}"


@dataclass(frozen=True, kw_only=True)
class FleetDrift:
    """One thing that is out of step.

    Attributes:
        code: Which way.
        account: Where.
        region: Where; None where it is a whole account.
        subject: What it is about.
        detail: The difference.
        advice: What to do.
    """

    code: Code
    account: str
    region: str | None
    subject: str
    detail: str
    advice: str

    def document(self) -> dict[str, Any]:
        """Return it as the command prints it in JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class FleetStatus:
    """What was found.

    Attributes:
        found: The fleet, entered.
        places: What was read.
        uses: What names an AMI of the fleet, or one that nobody has any more.
        drifts: What is out of step, what could not be read first.
        owners: The AMIs of the family, by id.
        narrowed: Which regions that are on are not read, and what says so; None where all are.
    """

    found: Found
    places: tuple[Place, ...]
    uses: tuple[Use, ...]
    drifts: tuple[FleetDrift, ...]
    owners: Mapping[str, Image]
    narrowed: Narrowing | None = None

    def codes(self, use: Use) -> list[Code]:
        """Return what is out of step with *use*."""
        where = (use.account, use.region, use.subject)
        return [one.code for one in self.drifts if (one.account, one.region, one.subject) == where]

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready values; the contract with scripts."""
        return {
            "account": self.found.hub.identity.account,
            "accounts": [self._account(one) for one in self.found.entered],
            "regions": sorted({place.region for place in self.places}),
            "narrowed": None if self.narrowed is None else self.narrowed.document(),
            "uses": [self._use(use) for use in self.uses],
            "drift": [one.document() for one in self.drifts],
        }

    def _account(self, one: Entered) -> dict[str, Any]:
        decision = one.member.left_out
        troubles = [one.trouble, *(place.trouble for place in self.places if place.account == one.member.account)]
        error = next((trouble for trouble in troubles if trouble), None)
        return {
            "account": one.member.account,
            "name": one.member.name,
            "read": error is None and decision is None,
            "left_out": None if decision is None else decision.reason,
            "error": error,
        }

    def _use(self, use: Use) -> dict[str, Any]:
        image = self.owners.get(use.ami_id)
        return {
            "account": use.account,
            "region": use.region,
            "kind": use.kind,
            "name": use.name,
            "version": use.version,
            "ami_id": use.ami_id,
            "owner": image.account if image else None,
            "ami_created": _iso(image.created if image else None),
            "since": _iso(use.since),
            "drift": list(dict.fromkeys(self.codes(use))),
        }


def _iso(moment: datetime | None) -> str | None:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else None


def run(run: Invocation) -> None:
    """Show which AMI of the fleet is used where, and what of that is out of step.

    Raises:
        UsageError: The settings have no fleet.
        AwsError: The hub cannot be entered, or Organizations does not list the accounts.
        DifferenceError: Something is out of step, or could not be read.
    """
    fleet = settings_of(run)
    if run.options.dry_run:
        run.console.dry_run(["# enter each account of the fleet and list its AMIs, compute environments and templates"])
        return
    with run.console.step("entering the accounts of the fleet"):
        found = find(run, fleet)
    places = _places(found, regions_of(run, ()))
    by = region_setting(run, ())
    narrowed = narrowing(found.entered, [(place.account, place.region) for place in places], by)
    with run.console.step(f"reading {show_count(len(places), 'place')}"):
        status = read(found, places, run.settings.family, datetime.now(timezone.utc), once=run.once)
        status = replace(status, narrowed=narrowed)
    run.console.result(status.document(), table(status))
    if status.drifts:
        first = status.drifts[0]
        where = " ".join(filter(None, [first.region, first.account]))
        count = show_count(len(status.drifts), "difference")
        msg = f"Not in step: {count}. {first.subject} ({where}): {first.detail}. {_capital(first.advice)}."
        raise DifferenceError(msg)


def _places(found: Found, regions: Sequence[str]) -> list[Place]:
    return [
        Place(account=one.member.account, caller=Caller(one.access, name))
        for one in found.entered
        if one.access is not None
        for name in one.regions
        if name in (one.member.regions or regions or one.regions)
    ]


def read(
    found: Found,
    places: Sequence[Place],
    family: str,
    now: datetime,
    *,
    once: Once = lambda _what, reads: reads(),
) -> FleetStatus:
    """Read *places* and compare.

    An AMI is launched in its own region alone: launch templates are read only where the fleet has AMIs of the family.

    Args:
        found: The fleet, entered.
        places: What to read.
        family: Whose AMIs.
        now: The time.
        once: Reads what is of every family, for the first of several alone.
    """
    places = _each(places, lambda place: _with_images(place, family, once))
    owners = {image.image_id: image for place in places for image in place.owned}
    busy = {image.region for image in owners.values()}
    places = _each(places, lambda place: _with_uses(place, family, once, with_templates=place.region in busy))
    places = _each(places, lambda place: _with_shown(place, owners))
    uses = tuple(_told(places, owners))
    drifts = (*_unread(found, places), *_drifts(uses, places, owners, now))
    return FleetStatus(found=found, places=tuple(places), uses=uses, drifts=drifts, owners=owners)


def _each(places: Sequence[Place], work: Callable[[Place], Place]) -> list[Place]:
    """Return what *work* makes of each place; one that fails has its trouble, and is left alone from then on."""

    def tried(place: Place) -> Place:
        if place.trouble is not None:
            return place
        try:
            return work(place)
        except AwsError as exc:
            # Of half an answer nobody can say what is gone.
            return replace(place, trouble=str(exc).rstrip("."), uses=())

    if not places:
        return []
    with ThreadPoolExecutor(max_workers=min(_WORKERS, len(places))) as pool:
        return list(pool.map(tried, places))


def _with_images(place: Place, family: str, once: Once) -> Place:
    owned: list[Image] = once(
        ("AMIs", place.account, place.region),
        lambda: images.own_images(place.caller, place.account, is_checked=True),
    )
    return replace(place, owned=tuple(image for image in owned if image.tags.get(FAMILY_TAG) == family))


def _with_uses(place: Place, family: str, once: Once, *, with_templates: bool) -> Place:
    where = (place.account, place.region)
    there: list[batch.Environment] = once(("environments", *where), lambda: batch.environments(place.caller))
    uses = [use for one in there for use in _environment(place, one, family, once)]
    if with_templates:
        uses += [
            Use(
                account=place.account,
                region=place.region,
                kind=TEMPLATE,
                name=one.name,
                version=one.number,
                ami_id=one.ami_id,
                since=one.created,
            )
            for one in once(("templates", *where), lambda: launched_versions(place.caller))
        ]
    return replace(place, uses=tuple(uses))


def _environment(place: Place, environment: batch.Environment, family: str, once: Once) -> Iterator[Use]:
    """Yield each AMI that a compute environment names, itself or by a version of a launch template."""
    if environment.kind != "EC2":
        return
    pinned = [(environment.template, environment.version)] if environment.template else []
    versions = [_template(place, which, once) for which in (*pinned, *environment.template_overrides)]
    of_template = [version.ami_id for version in versions]
    found = environment.images.with_templates(
        of_template[0] if pinned else None, filter(None, of_template[len(pinned) :])
    )
    for ami in sorted(found.named or ({environment.ami_id} if environment.ami_id else ())):
        yield Use(
            account=place.account,
            region=place.region,
            kind=ENVIRONMENT,
            name=environment.name,
            ami_id=ami,
            is_ours=environment.tags.get(FAMILY_TAG) == family,
        )


def _template(place: Place, which: tuple[str, str], once: Once) -> batch.TemplateVersion:
    found: batch.TemplateVersion = once(
        ("template", place.account, place.region, which), lambda: batch.template_version(place.caller, *which)
    )
    return found


def _with_shown(place: Place, owners: Mapping[str, Image]) -> Place:
    """Ask EC2 which AMIs of others it shows here: what it does not show cannot be launched."""
    own = {image.image_id for image in place.owned}
    foreign = {use.ami_id for use in place.uses if use.ami_id not in own and (use.is_ours or use.ami_id in owners)}
    return replace(place, shown=frozenset(images.shown(place.caller, foreign))) if foreign else place


def _told(places: Sequence[Place], owners: Mapping[str, Image]) -> Iterator[Use]:
    """Yield the uses of the fleet's AMIs, and those of the family's environments that name one nobody has."""
    for place in places:
        for use in place.uses:
            is_gone = use.is_ours and use.ami_id not in place.shown
            if use.ami_id in owners or is_gone:
                yield use


def _unread(found: Found, places: Sequence[Place]) -> Iterator[FleetDrift]:
    for one in found.entered:
        if one.trouble is not None:
            account = one.member.account
            yield FleetDrift(
                code="account-unread",
                account=account,
                region=None,
                subject=one.member.label,
                detail=one.trouble,
                advice=one.fix,
            )
    for place in places:
        if place.trouble is not None:
            yield FleetDrift(
                code="region-unread",
                account=place.account,
                region=place.region,
                subject=place.region,
                detail=place.trouble,
                advice="allow the role what docs/fleet.md lists, or try again",
            )


def _drifts(
    uses: Sequence[Use], places: Sequence[Place], owners: Mapping[str, Image], now: datetime
) -> Iterator[FleetDrift]:
    shown = {(place.account, place.region): place.shown for place in places}
    newest = _newest_applied(owners)
    for use in uses:
        image = owners.get(use.ami_id)
        for code, detail in _problems(use, image, shown[use.account, use.region], newest, now):
            yield FleetDrift(
                code=code,
                account=use.account,
                region=use.region,
                subject=use.subject,
                detail=detail,
                advice=_ADVICE[code],
            )


def _newest_applied(owners: Mapping[str, Image]) -> dict[tuple[str, str], Image]:
    """Return the newest AMI that each account has applied in each region."""
    newest: dict[tuple[str, str], Image] = {}
    for image in owners.values():
        key = (image.account, image.region)
        if image.tags.get(HANDOVER_TAG) != "applied" or image.created is None:
            continue
        if key not in newest or (newest[key].created or image.created) < image.created:
            newest[key] = image
    return newest


def _problems(
    use: Use,
    image: Image | None,
    shown: frozenset[str],
    newest: Mapping[tuple[str, str], Image],
    now: datetime,
) -> Iterator[tuple[Code, str]]:
    if image is None:
        yield "ami-gone", f"{use.ami_id} is gone: no account that was read has it, and EC2 does not show it"
        return
    if image.account != use.account and use.ami_id not in shown and image.state == "available":
        yield "ami-not-shared", f"{use.ami_id} of {image.account} is not shared with {use.account}"
    if image.state == "disabled":
        yield "ami-disabled", f"{use.ami_id} is disabled"
    elif image.state != "available" or is_unfinished(image.tags):
        yield "ami-unfinished", f"{use.ami_id} is {image.state}, and its build has not come to its end"
    if image.deprecated_at is not None and image.deprecated_at <= now:
        yield "ami-deprecated", f"{use.ami_id} is deprecated since {image.deprecated_at:%Y-%m-%d}"
    if image.tags.get(VERIFIED_TAG, "").endswith(FAILED):
        yield "verification-failed", f"{use.ami_id} failed its verification ({image.tags[VERIFIED_TAG]})"
    latest = newest.get((image.account, image.region))
    if latest is not None and image.created is not None and latest.created and image.created < latest.created:
        yield "outdated", f"{use.ami_id} is older than {latest.image_id}, the newest that {image.account} has applied"


def table(status: FleetStatus) -> Table:
    """Return it for people: what names which AMI, whose and since when; below, what is out of step and what to do."""
    names = {one.member.account: one.member.name for one in status.found.entered}
    rows = []
    for use in status.uses:
        image = status.owners.get(use.ami_id)
        made = use.since or (image.created if image else None)
        rows.append(
            (
                names.get(use.account) or use.account,
                use.region,
                f"{_SHORT[use.kind]} {use.name}" + ("" if use.version is None else f" v{use.version}"),
                use.ami_id,
                (names.get(image.account) or image.account) if image else "nobody",
                f"{made:%Y-%m-%d}" if made else "unknown",
                ", ".join(dict.fromkeys(status.codes(use))) or "ok",
            )
        )
    footer = [_sum(status), *([status.narrowed.text] if status.narrowed else [])]
    footer += [f"{_where(one)}{one.detail}. {_capital(one.advice)}." for one in status.drifts]
    columns = ("account", "region", "what", "AMI", "whose", "since", "state")
    title = "AMIs of the fleet in use"
    return Table(columns=columns, rows=rows, title=title, footer=tuple(footer), edge=_EDGE)


def _sum(status: FleetStatus) -> str:
    read_ = len({place.account for place in status.places if place.trouble is None})
    uses, ours = show_count(len(status.uses), "use"), show_count(len({use.ami_id for use in status.uses}), "AMI")
    return f"{uses} of {ours}; read: {show_count(read_, 'account')}, {show_count(len(status.places), 'place')}."


def _where(one: FleetDrift) -> str:
    return "" if one.region is None else f"{one.account} {one.region}, {one.subject}: "


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
