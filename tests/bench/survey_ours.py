"""The steps of a fleet read in parts, each in a process of its own; prints what it took, as JSON.

python -m tests.bench.survey_ours make FOLDER               500 busy parts of one account each
python -m tests.bench.survey_ours list FOLDER URL SHARDS    the list of the organization at URL
python -m tests.bench.survey_ours shard FOLDER URL K/N      one part of it
python -m tests.bench.survey_ours merge FOLDER [URL]        the plan by the parts
python -m tests.bench.survey_ours one FOLDER URL            the plan by one run
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from gpu_ami import collector
from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image
from gpu_ami.aws.organizations import Organization
from gpu_ami.aws.references.registry import OWN, PER_IMAGE, USES
from gpu_ami.cleanup import fleet_part
from gpu_ami.cleanup.fleet_merge import Expected, MergedSurvey, files_of, merge, opened
from gpu_ami.cleanup.fleet_part import Header, PlacePart, SourcePart, policy_digest
from gpu_ami.cleanup.fleet_plan import FleetPlan, make_fleet_plan
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, Survey
from gpu_ami.cleanup.plan_document import Bin
from gpu_ami.cleanup.survey import look
from gpu_ami.fleet import fleet_list
from gpu_ami.fleet.entry import Entered, enter_all, hub_of, members_by
from gpu_ami.fleet.fleet_list import FleetList, HubRow, Run, list_of
from gpu_ami.fleet.members import Member
from gpu_ami.settings import Fleet, OrganizationScope
from tests.bench.fleet_aws import HUB, ORGANIZATION, REGIONS, account_of, image_id
from tests.bench.fleet_ours import POLICY

ACCOUNTS, IMAGES, REFERENCES = 500, 10, 80
ARN = f"arn:aws:organizations::{HUB}:organization/{ORGANIZATION}"
OURS = Organization(organization_id=ORGANIZATION, arn=ARN, management_account=HUB)
FLEET = Fleet(organization=OrganizationScope())
Said = dict[str, Any]


def _listed(entered: list[Entered], shards: int, as_of: datetime) -> FleetList:
    hub, run = HubRow(HUB, "arn"), Run("bench")
    return list_of(entered, OURS, units=(), regions=REGIONS, hub=hub, run=run, as_of=as_of, shards=shards)


def _header(listed: FleetList, shard: str, now: datetime) -> Header:
    return Header(
        run=listed.run.id,
        attempt=listed.run.attempt,
        repository=listed.run.repository,
        list_sha256="l",
        shard=shard,
        code=fleet_part.code(),
        policy_sha256=policy_digest(POLICY),
        caller="arn",
        began=now,
        aws_time=now,
    )


def make(folder: Path) -> Said:
    """Write a part for each account: 10 AMIs and 80 references in each of 17 regions."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    entered = [
        Entered(member=Member(account=account_of(number), name="bench", state="ACTIVE"), regions=tuple(sorted(REGIONS)))
        for number in range(ACCOUNTS)
    ]
    listed = _listed(entered, 250, now)
    # One more than a matrix may have jobs, for the measure alone.
    shards = tuple((row.account,) for row in listed.members)
    listed = FleetList(
        run=listed.run,
        as_of=now,
        hub=listed.hub,
        organization=listed.organization,
        members=listed.members,
        shards=shards,
    )
    (folder / "fleet.json").write_bytes(listed.encoded())
    size = 0
    for number, shard in enumerate(listed.names):
        path = folder / f"part-{number}{fleet_part.ENDING}"
        size += fleet_part.write(path, _header(listed, shard, now), _places(number, now)).bytes
    return {"parts": len(shards), "mib": size / 1024**2}


def _places(number: int, now: datetime) -> Iterator[PlacePart]:
    account, before = account_of(number), account_of((number - 1) % ACCOUNTS)
    for region in sorted(REGIONS):
        images = tuple(_image(account, region, other, now) for other in range(IMAGES))
        asked = tuple(image.image_id for image in images[1:])
        # Two thirds of the AMIs of the account before are needed here, each by many.
        needed = [image_id(before, region, other) for other in range(IMAGES) if other % 3]
        details = -(-REFERENCES // len(needed))
        references = {
            key: tuple(f"launch template {key[-4:]}-{count} version 1: ImageId" for count in range(details))
            for key in needed
        }
        sources = {source.name: SourcePart(calls=1) for source in (*USES, *OWN, *PER_IMAGE)}
        sources[USES[1].name] = SourcePart(calls=2, references=references)
        sources[PER_IMAGE[-1].name] = SourcePart(calls=len(asked), permissions=dict.fromkeys(asked, ()))
        yield PlacePart(
            account=account,
            region=region,
            aws_time=now,
            images=images,
            sources=sources,
            asked=asked,
            bin=Bin(),
        )


def _image(account: str, region: str, number: int, now: datetime) -> Image:
    key = image_id(account, region, number)
    return Image(
        image_id=key,
        account=account,
        region=region,
        name=f"gpu-batch-{number}",
        created=now - timedelta(days=40 + number),
        tags={"gpu-ami:family": "gpu-batch", "gpu-ami:pipeline": "gpu-ami-pipeline", "Name": f"gpu-batch-{number}"},
        snapshot_ids=(f"snap-{key[4:]}",),
        volume_gib=80,
        root_gib=80,
        architecture="x86_64",
    )


def _entered(url: str) -> tuple[list[Entered], Any]:
    hub = hub_of(Access(region=REGIONS[0], endpoint_url=url), FLEET)
    members = members_by(hub, FLEET, datetime.now(timezone.utc).date()).members
    return enter_all(hub, members, role=FLEET.read_role), hub


def lists(folder: Path, url: str, shards: str) -> Said:
    """Write the list of an organization."""
    entered, _ = _entered(url)
    listed = _listed(entered, int(shards), datetime.now(timezone.utc).replace(microsecond=0))
    (folder / "fleet.json").write_bytes(listed.encoded())
    return {"shards": list(listed.names)}


def shard(folder: Path, url: str, name: str) -> Said:
    """Write one part."""
    collector.for_many_threads()
    listed, _ = fleet_list.load(folder / "fleet.json")
    rows = listed.members_of(name)
    hub = hub_of(Access(region=REGIONS[0], endpoint_url=url), FLEET)
    seen = look(rows, enter_all(hub, [row.member for row in rows], role=FLEET.read_role), listed, POLICY)
    assert not seen.failed, seen.failed[0]
    path = folder / f"part-{name.replace('/', '-of-')}{fleet_part.ENDING}"
    fleet_part.write(path, _header(listed, name, datetime.now(timezone.utc)), seen.places)
    return {"places": len(seen.places)}


def merged(folder: Path) -> Said:
    """Put the parts together and decide; what that took is without writing the plan for the comparison."""
    began = time.perf_counter()
    collector.for_many_threads()
    listed, _ = fleet_list.load(folder / "fleet.json")
    expected = Expected(
        listed=listed,
        list_sha256="l",
        policy_sha256=policy_digest(POLICY),
        code=fleet_part.code(),
        run=None,
        now=datetime.now(timezone.utc),
    )
    found = merge([opened(path) for path in files_of([folder])], expected)
    survey = MergedSurvey(listed, found, POLICY)
    plan = _plan(survey, listed, details=survey.details)
    took = _took(began)
    _write(folder / "merged.json", plan)
    return _said(survey, plan) | took


def _took(began: float) -> Said:
    rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - began, "cpu_s": time.process_time(), "rss_mib": rss_mib}


def one(folder: Path, url: str) -> Said:
    """Do the same in one run, of the same moment."""
    collector.for_many_threads()
    listed, _ = fleet_list.load(folder / "fleet.json")
    entered, _ = _entered(url)
    locations = [
        Location(Caller(found.access, name), found.member.account)
        for found in entered
        if found.access is not None
        for name in found.regions
    ]
    reached = Reached(
        members={found.member.account: found.member for found in entered},
        organization=OURS,
        read=frozenset(location.place for location in locations),
    )
    survey = Survey(locations, POLICY, reached=reached)
    plan = _plan(survey, listed)
    _write(folder / "one.json", plan)
    return _said(survey, plan)


def _plan(survey: Survey, listed: FleetList, **details: Any) -> FleetPlan:
    names = {row.account: row.name for row in listed.members}
    return make_fleet_plan(survey, HUB, listed.as_of, names=names, usd_per_gib_month={}, **details)


def _write(path: Path, plan: FleetPlan) -> None:
    path.write_text(json.dumps(plan.document(), indent=1))


def _said(survey: Survey, plan: FleetPlan) -> Said:
    return {
        "images": len(survey.images),
        "references": len(survey.references),
        "failed": sum(report.status == "failed" for report in survey.reports),
        "selected": len(plan.decision.selected),
    }


STEPS = {"make": make, "list": lists, "shard": shard, "one": one}


def main(step: str, folder: str, *more: str) -> None:
    """Do one step, and say what that took."""
    collector.spare()  # as the command line does
    began = time.perf_counter()
    said = merged(Path(folder)) if step == "merge" else STEPS[step](Path(folder), *more)  # type: ignore[operator]
    took = _took(began)
    print(json.dumps(took | said))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
