"""Reads many accounts and regions once: ``python -m tests.bench.fleet_ours URL ACCOUNTS REGIONS MODE``.

MODE ``places`` reads every place to the end, as an earlier commit can, too, and by that commit's own code; ``fleet``
plans a clean-up of the organization as `invoke cleanup --fleet` does, and ``unused`` as it does with as many
``--skip-source`` as leave what Cloud Custodian's filter of that name reads, and without the snapshots' sizes and the
Recycle Bins, which decide nothing. It prints what it took, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from gpu_ami import collector
from gpu_ami.aws.access import Access
from gpu_ami.cleanup.inventory import Survey, locations_of
from gpu_ami.cleanup.policy import Policy, Scope
from tests.bench.fleet_aws import HUB, REGIONS, account_of, named_elsewhere

# Sources that came later than the commit that it is compared with: what they cost is not the fleet's.
LATER = frozenset({"rds-custom"})
# Instances, groups and what these launch from is what c7n's filter `unused` reads (its resources/ami.py).
ALIKE = frozenset({"instances", "auto-scaling", "launch-configurations", "launch-templates"})
# Over a fleet no flag leaves these out: who may launch an AMI decides whose reading counts.
NEVER_LEFT_OUT = frozenset({"launch-permissions", "public-snapshots"})
POLICY = Policy(older_than=timedelta(days=30), keep=1, scope=Scope(family="gpu-batch"))


def read_places(access: Access, accounts: int, regions: list[str]) -> dict[str, int]:
    """Read every place to the end; of more than one account as a fleet's are read, by a commit that knows how."""
    if accounts > 1 and (prepare := getattr(collector, "for_many_threads", None)):
        prepare()
    try:
        from gpu_ami.aws.sts import assume
    except ImportError:  # where the earlier commit has it
        from gpu_ami.aws import access as earlier

        assume = earlier.assume  # type: ignore[attr-defined]
    roles = {account: f"arn:aws:iam::{account}:role/reader" for account in map(account_of, range(accounts))}
    locations = [
        location for account, role in roles.items() for location in locations_of(assume(access, role), account, regions)
    ]
    survey = Survey(locations, replace(POLICY, skip_sources=LATER))
    survey.query()
    return {"places": len(locations), "images": len(survey.images), "failed": _failed(survey)}


def few_sources() -> Policy:
    """Return the policy that leaves out every source that a flag may leave out, but those that c7n has too."""
    from gpu_ami.aws.references.registry import SOURCES

    skipped = {source.name for source in SOURCES if not source.is_essential} - ALIKE - NEVER_LEFT_OUT
    return replace(POLICY, skip_sources=frozenset(skipped))


def plan_fleet(access: Access, regions: list[str], *, like_c7n: bool = False) -> dict[str, int]:
    """Plan a clean-up of the organization, or only find what is unused by what c7n reads, too."""
    from gpu_ami.aws.caller import Caller
    from gpu_ami.cleanup.fleet_plan import details_of, make_fleet_plan
    from gpu_ami.cleanup.grantees import Reached
    from gpu_ami.cleanup.inventory import Location
    from gpu_ami.cleanup.plan_document import Bin
    from gpu_ami.fleet.entry import enter_all, hub_of, members_by
    from gpu_ami.settings import Fleet, OrganizationScope

    collector.for_many_threads()
    now = datetime.now(timezone.utc)
    fleet = Fleet(organization=OrganizationScope())
    hub = hub_of(access, fleet)
    listed = members_by(hub, fleet, now.date())
    entered = enter_all(hub, listed.members, role=fleet.read_role)
    locations = [
        Location(Caller(one.access, name), one.member.account)
        for one in entered
        if one.access is not None
        for name in one.regions
        if name in regions
    ]
    reached = Reached(
        members={one.member.account: one.member for one in entered},
        organization=listed.organization,
        read=frozenset((location.account, location.region) for location in locations),
    )
    survey = Survey(locations, few_sources() if like_c7n else POLICY, reached=reached)
    details = (lambda *_: ({}, Bin())) if like_c7n else details_of
    plan = make_fleet_plan(survey, HUB, now, names={}, usd_per_gib_month={}, details=details)
    return {
        "places": len(locations),
        "images": len(survey.images),
        "failed": _failed(survey),
        "selected": len(plan.decision.selected),
        "wrong": sum(named_elsewhere(verdict.image.image_id) for verdict in plan.decision.selected),
        "blocks": len(plan.decision.blocks),
    }


def _failed(survey: Survey) -> int:
    return sum(report.status == "failed" for report in survey.reports)


def most_mib() -> float:
    """Return the most memory that this process has had.

    Linux counts what the process that started it had for its own in getrusage(2), by execve(2), but not here.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(url: str, accounts: str, regions: str, mode: str) -> None:
    """Read, and say what that took."""
    collector.spare()  # as the command line does
    access = Access(region=REGIONS[0], endpoint_url=url)
    chosen = list(REGIONS[: int(regions)])
    # What a first place alone costs is there before.
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    if mode == "places":
        found = read_places(access, int(accounts), chosen)
    else:
        found = plan_fleet(access, chosen, like_c7n=mode == "unused")
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    print(  # noqa: T201
        json.dumps(
            found
            | {
                "seconds": time.perf_counter() - began,
                "cpu_s": cpu_s,
                "rss_mib": most_mib(),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
