"""Uses that show outside the AMI's own row: in another region, by its snapshot, by what somebody pays for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.references.registry import USES
from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.cleanup import Request
from gpu_ami.cleanup.inventory import Location, Survey
from gpu_ami.cleanup.plan_document import Plan
from gpu_ami.cleanup.policy import Flags
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.demo.factory import Maker
from gpu_ami_sandbox.demo.rare_uses import RARE_USES
from gpu_ami_sandbox.demo.uses import OTHER_ACCOUNT
from tests.support.account import EVERYTHING, OTHER_REGION, REGION, World, other_region, reasons, selected, task
from tests.support.fake_caller import FakeCaller, Script


@pytest.fixture
def unused(here: World) -> SandboxAmi:
    """Return an AMI that nothing needs, in an account where something is in use."""
    here.newest()
    here.in_use()
    return here.image()


@pytest.mark.parametrize(
    ("use", "source"),
    [
        ("ecs_volume", "ecs-volumes"),
        ("agentcore_volume", "agentcore"),
        ("agentcore_ephemeral_volume", "agentcore"),
        ("root_volume_from_snapshot", "root-volumes"),
        ("beanstalk_block_device", "beanstalk"),
        ("fast_snapshot_restore", "fast-snapshot-restore"),
    ],
)
def test_an_orphan_snapshot_that_something_needs_stays(here: World, unused: SandboxAmi, use: str, source: str) -> None:
    """Its AMI is gone, and services, nodes and agents go on making volumes from it."""
    (snapshot,) = unused.snapshot_ids
    RARE_USES[use](here.maker, unused)
    here.maker.ec2.deregister_image(unused.id)

    def orphan(plan: Plan) -> Any:
        return next(orphan for orphan in plan.orphans if orphan.snapshot.snapshot_id == snapshot)

    kept = orphan(here.plan(orphans=True))

    assert kept.action == "keep"
    assert [reason.code for reason in kept.reasons] == [source]
    assert orphan(here.plan(orphans=True, without={source})).action == "delete"


@pytest.mark.parametrize("use", ["ecs_volume", "agentcore_volume", "fast_snapshot_restore"])
def test_every_ami_of_a_needed_snapshot_stays(here: World, unused: SandboxAmi, use: str) -> None:
    """Two AMIs may share a snapshot; which of them somebody meant, the snapshot does not say."""
    other = here.image(150, snapshot_ids=unused.snapshot_ids)
    assert {unused.id, other.id} <= selected(here.plan())
    RARE_USES[use](here.maker, unused)

    assert not {unused.id, other.id} & selected(here.plan())


def _copy_to(there: Maker, source: SandboxAmi) -> SandboxAmi:
    copy = SandboxAmi(there.ec2, [], name="copy", creation_date=there.now)
    copy.source_image_id, copy.source_image_region = source.id, REGION
    copy.state = "pending"
    there.ec2.amis[copy.id] = copy
    return copy


def test_the_source_of_a_copy_to_another_region_stays(here: World, unused: SandboxAmi) -> None:
    """A copy reads its source until it is done, and only the other region says that there is one."""
    copy = _copy_to(other_region(here), unused)

    def plan() -> Plan:
        return here.plan(locations=[here.location(), here.location(OTHER_REGION)])

    assert "copies" in reasons(plan(), unused.id)

    copy.state = "available"
    assert unused.id in selected(plan())


def test_a_copy_that_was_begun_since_the_plan_keeps_its_source(here: World, unused: SandboxAmi) -> None:
    """The second look reads it, too: AMIs that are not among the selected are not read again themselves."""
    survey = here.survey(locations=[here.location(), here.location(OTHER_REGION)])
    survey.query()
    other = other_region(here)
    assert unused.id in {verdict.image.image_id for verdict in survey.decide(here.now).selected}

    _copy_to(other, unused)
    survey.query_again({unused.id})

    assert unused.id not in {verdict.image.image_id for verdict in survey.decide(here.now).selected}


@pytest.mark.parametrize(
    ("region", "cost"), [(OTHER_REGION, "$1,095.00 a month"), (REGION, "at a price that is not known")]
)
def test_a_plan_says_what_fast_snapshot_restore_costs(here: World, tmp_path: Path, region: str, cost: str) -> None:
    """Two zones at $0.75 an hour in us-east-1; the table has no price for Seoul, and never says 0 for that."""
    maker = here.maker if region == REGION else other_region(here)
    maker.image(1)
    image = maker.image(200)
    maker.parameter("/in/use", maker.image(300).id)
    RARE_USES["fast_snapshot_restore"](maker, image)
    done = task(here, tmp_path)

    cleanup.run(done.run, Request(flags=Flags(older_than="30d", keep="1"), regions=(region,)))

    verdict = next(verdict for verdict in done.document["verdicts"] if verdict["image_id"] == image.id)
    zones = f"{region}a, {region}c"
    detail = f"fast snapshot restore of {image.snapshot_ids[0]} in {zones}, {cost}"
    assert verdict["reasons"] == [{"code": "fast-snapshot-restore", "detail": detail}]


def test_fast_snapshot_restore_is_no_use(here: World) -> None:
    """It keeps the AMI and does not show that uses are seen: an account with nothing else stays blocked."""
    here.newest()
    image = here.image()
    here.image(250)
    RARE_USES["fast_snapshot_restore"](here.maker, image)

    plan = here.plan()

    assert plan.decision.blocks
    assert "nothing at all was found that needs any AMI" in plan.decision.blocks[0]


def test_another_accounts_fast_snapshot_restore_keeps_the_ami(here: World, unused: SandboxAmi) -> None:
    """It is switched on for snapshots that are shared, too, and ends when their owner deletes them."""
    row = {
        "SnapshotId": unused.snapshot_ids[0],
        "AvailabilityZone": "a",
        "State": "optimizing",
        "OwnerId": OTHER_ACCOUNT,
    }

    def decided(*rows: dict[str, Any]) -> set[str]:
        script: Script = {
            "describe_parameters": [{"Parameters": []}],
            "describe_fast_snapshot_restores": [{"FastSnapshotRestores": list(rows)}],
        }
        theirs = Location(FakeCaller(script, REGION), OTHER_ACCOUNT, is_own=False)
        uses = [source for source in USES if source.name in ("parameters", "fast-snapshot-restore")]
        survey = Survey([here.location(), theirs], EVERYTHING, uses=uses, own=(), per_image=())
        survey.query()
        return {verdict.image.image_id for verdict in survey.decide(here.now).selected}

    assert decided() == {unused.id}
    assert decided(row) == set()
