"""`invoke cleanup --fleet --apply PLAN --owner ACCOUNT`: carries a fleet's plan out for some of its owners alone.

What the plan was made from is not believed: the owners' accounts are read again, and those of everybody who may launch
an AMI that goes, right before the first deletion and every minute; so is the working tree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from gpu_ami import collector, process
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image, launch_permissions, own_images
from gpu_ami.cleanup import fleet_plan as plans
from gpu_ami.cleanup.carry_out import tell_unfinished
from gpu_ami.cleanup.cleanup_request import Request
from gpu_ami.cleanup.decide import newest_of
from gpu_ami.cleanup.fleet_plan import SavedFleetPlan, make_fleet_plan
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, Survey, in_parallel
from gpu_ami.cleanup.over_accounts import (
    account_reports,
    carry_out,
    check_saved,
    prices_of,
    regions_again,
    saved_file,
    show,
    usage_reports_of,
)
from gpu_ami.cleanup.scope import fast_restore_usd_per_hour, local_sources
from gpu_ami.errors import AwsError, SafetyError, UsageError
from gpu_ami.fleet.entry import Entered, Hub, Listed, enter_all, hub_of, members_by
from gpu_ami.fleet.fleet import regions_of, settings_of
from gpu_ami.fleet.fleet_list import Place
from gpu_ami.fleet.narrowing import narrowing, region_setting
from gpu_ami.invocation import Invocation
from gpu_ami.settings import Fleet
from gpu_ami.units import show_count


def run(run: Invocation, request: Request) -> None:
    """Look again, and carry out what of the plan is about the owners that were named.

    Raises:
        UsageError: Settings or files cannot be used, or the plan removes nothing in such an account.
        AwsError: The hub cannot be entered, or its accounts cannot be listed.
        SafetyError: Nothing may be changed, and why.
        PartialError: It was carried out, but some of it failed.
    """
    now = datetime.now(timezone.utc)
    file = str(request.apply)
    saved = check_saved(run, file, now)
    owners = sorted(set(request.owners))
    _check_owners(saved, owners, file)
    fleet = settings_of(run)
    acts = not run.options.dry_run
    if acts:
        run.announce()
    collector.for_many_threads()
    process.allow_many_files()
    hub = hub_of(run.access, fleet)
    saved = plans.load(saved_file(run, file), hub=hub.identity.account, now=now)
    with run.console.step(f"entering {show_count(len(owners), 'account')} and who may launch its AMIs"):
        listed = members_by(hub, fleet, now.date())
        _check_members(listed, owners, file)
        reader = _Reader(hub, listed, fleet)
        survey, entered = reader.survey(run, saved, owners)
    with run.console.step(f"querying {show_count(len(survey.locations), 'place')} and the working tree") as step:
        plan = make_fleet_plan(
            survey,
            hub.identity.account,
            now,
            names=_names(listed, survey),
            usd_per_gib_month=prices_of(survey),
            narrowed=narrowing(entered, survey.places, region_setting(run, ())),
            usage_reports=usage_reports_of(run, saved.policy, hub, fleet.cleanup_role, now, step),
            only=frozenset((region, image_id) for account, region, image_id in saved.images if account in owners),
        )
    plan = plan.cut(saved)
    if acts and not plan.decision.blocks:
        carry_out(run, request, plan, survey, hub, role=fleet.cleanup_role)
    else:
        tell_unfinished(run, survey)
        show(run, request, plan, survey)


def _check_owners(saved: SavedFleetPlan, owners: Sequence[str], file: str) -> None:
    known = sorted({account for account, _, _ in saved.images})
    if unknown := [owner for owner in owners if owner not in known]:
        wrong = unknown[0] or "''"
        others = f"it does in {', '.join(known)}" if known else "nor in any other"
        msg = f"{file} removes nothing in account {wrong}, {others}: name one of its owners with --owner."
        raise UsageError(msg)


def _check_members(listed: Listed, owners: Sequence[str], file: str) -> None:
    """Refuse owners that the fleet does not read by now: that nothing of theirs goes would look like a job well done.

    Raises:
        SafetyError: One of them is such.
    """
    members = {one.account: one for one in listed.members}
    for owner in owners:
        member = members.get(owner)
        if member is None:
            msg = f"Account {owner}, in which {file} removes something, is not in the fleet any more: make a new plan."
            raise SafetyError(msg)
        if (decision := member.left_out) is not None:
            msg = f"{member.label} is left out until {decision.until} by now: {decision.reason}. Make a new plan."
            raise SafetyError(msg)


def _names(listed: Listed, survey: Survey) -> dict[str, str]:
    """Return the accounts that are read, with their names."""
    there = {location.account for location in survey.locations}
    return {one.account: one.name for one in listed.members if one.account in there}


@dataclass(frozen=True)
class _Reader:
    """Finds out who has to be read again."""

    hub: Hub
    listed: Listed
    fleet: Fleet

    def survey(self, run: Invocation, saved: SavedFleetPlan, owners: Sequence[str]) -> tuple[Survey, Sequence[Entered]]:
        """Return a survey of the owners and of who may launch what goes, and these accounts; nothing is queried yet."""
        mine = self._enter(owners)
        chosen = regions_of(run, ())
        going = {(account, region) for account, region, _ in saved.images}
        own = [
            location
            for one in mine
            for location in _locations(one)
            if location.region in regions_again(one, chosen, saved.places | going)
        ]
        reached = self._reached()
        grantees = self._grantees(own, saved, reached)
        others = self._enter({account for account, _ in grantees} - set(owners))
        # A copy that one of them has begun is seen in the region to which it goes, and a text may be anywhere.
        theirs = [
            location
            for one in others
            for location in _locations(one, is_own=False)
            if location.region in regions_again(one, chosen, saved.places | grantees)
        ]
        locations = [*own, *theirs]
        read = frozenset(location.place for location in locations)
        off = frozenset((one.member.account, name) for one in (*mine, *others) for name in one.off)
        survey = Survey(
            locations,
            saved.policy,
            local=local_sources(run, saved.policy),
            failed_accounts=[*account_reports([*mine, *others])],
            fast_restore_usd_per_hour=fast_restore_usd_per_hour,
            reached=self._reached(read, off),
        )
        return survey, [*mine, *others]

    def _enter(self, accounts: Collection[str]) -> list[Entered]:
        chosen = [one for one in self.listed.members if one.account in accounts]
        return enter_all(self.hub, chosen, role=self.fleet.read_role)

    def _reached(self, read: Collection[Place] = (), off: Collection[Place] = ()) -> Reached:
        return Reached(
            members={one.account: one for one in self.listed.members},
            organization=self.listed.organization,
            units=self.fleet.organization.ou_paths if self.fleet.organization else (),
            read=read,
            off=off,
        )

    def _grantees(self, own: Sequence[Location], saved: SavedFleetPlan, reached: Reached) -> frozenset[Place]:
        """Return the places of whoever may launch an AMI that goes, or one of the newest of its family.

        The newest ones are what is used: where nobody is seen to use any AMI of an owner, everything of it stays.
        """
        going = {(account, region) for account, region, _ in saved.images}
        busy = [location for location in own if location.place in going]
        chosen = frozenset(image_id for _, _, image_id in saved.images)
        found = in_parallel(busy, lambda location: _grants(location, chosen, saved, reached))
        return frozenset(place for some in found for place in some)


def _locations(one: Entered, *, is_own: bool = True) -> list[Location]:
    if one.access is None:
        return []
    return [Location(Caller(one.access, region), one.member.account, is_own) for region in one.regions]


def _grants(location: Location, chosen: Collection[str], saved: SavedFleetPlan, reached: Reached) -> Iterable[Place]:
    """Return the places of whoever may launch such AMIs of *location*.

    What cannot be read here, is read again with everything else: then it is a source that failed.
    """
    found: set[Place] = set()
    with contextlib.suppress(AwsError):
        images = own_images(location.caller, location.account, is_checked=True)
        for image in _asked(images, chosen, saved):
            for permission in launch_permissions(location.caller, image.image_id):
                accounts, _ = reached.accounts(permission)
                found |= {(account, location.region) for account in accounts}
    return found


def _asked(images: Sequence[Image], chosen: Collection[str], saved: SavedFleetPlan) -> list[Image]:
    here = {image.image_id for image in images if image.image_id in chosen}
    newest = newest_of(images, here, max(saved.policy.keep, 1))
    return [image for image in images if image.image_id in here or image.image_id in newest]
