"""A small AWS account to clean up: AMIs of chosen ages, and things that need them."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
from moto.iam.models import iam_backends

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.registry import OWN, PER_IMAGE, USES
from gpu_ami.cleanup.inventory import Location, Survey
from gpu_ami.cleanup.local_references import LocalSource
from gpu_ami.cleanup.plan_document import Plan
from gpu_ami.cleanup.planner import make_plan
from gpu_ami.cleanup.policy import Policy, Scope
from gpu_ami.console import Console
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options, Output
from gpu_ami.settings import EMBEDDED
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.ec2.recycle_bin import IMAGE, SNAPSHOT, recycle_bin
from gpu_ami_sandbox.aws.ec2.service import ensure_base_image
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo import factory

REGION = "ap-northeast-2"
OTHER_REGION = "us-east-1"
EVERYTHING = Policy(older_than=timedelta(days=30), keep=1, scope=Scope(family=factory.FAMILY))


@dataclass
class World:
    """The account, changed directly (`maker`) and reached through AWS's API (`access`).

    Attributes:
        aws: The local AWS.
        maker: Makes AMIs and what needs them.
        now: The time it is.
    """

    aws: LocalAws
    maker: factory.Maker
    now: datetime
    others: dict[str, factory.Maker] = field(default_factory=dict)

    @property
    def account(self) -> str:
        """The account's id."""
        return self.aws.account_id

    @property
    def access(self) -> Access:
        """The way to it."""
        return Access(region=REGION, endpoint_url=self.aws.endpoint_url)

    def image(self, age_days: int = 200, **more: Any) -> SandboxAmi:
        """Make an AMI that is old enough to go."""
        return self.maker.image(age_days, **more)

    def newest(self) -> SandboxAmi:
        """Make the AMI that stays because it is the newest, so that the others need other reasons."""
        return self.maker.image(1)

    def in_use(self) -> SandboxAmi:
        """Make an AMI in use, so that the account is not suspiciously quiet."""
        image = self.maker.image(300)
        self.maker.parameter("/in/use", image.id)
        return image

    def keep_deleted(self, days: int = 14, maker: factory.Maker | None = None) -> None:
        """Let the Recycle Bin of a region keep AMIs and snapshots of the family."""
        maker = maker or self.maker
        region = maker.location.region
        tag = {"ResourceTagKey": "gpu-ami:family", "ResourceTagValue": factory.FAMILY}
        for kind in (IMAGE, SNAPSHOT):
            period = {"RetentionPeriodValue": days, "RetentionPeriodUnit": "DAYS"}
            rule = {"ResourceType": kind, "RetentionPeriod": period, "ResourceTags": [tag]}
            recycle_bin(maker.ec2).add_rule(rule, f"arn:aws:rbin:{region}:{self.account}")

    def location(self, region: str = REGION) -> Location:
        """Return a region to query."""
        return Location(Caller(self.access, region), self.account)

    def survey(
        self,
        policy: Policy = EVERYTHING,
        *,
        without: Collection[str] = (),
        local: Sequence[LocalSource] = (),
        locations: Sequence[Location] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Survey:
        """Return a survey of the account that leaves out the sources *without*."""
        uses, own, per_image = (
            [source for source in table if source.name not in without] for table in (USES, OWN, PER_IMAGE)
        )
        where = [self.location()] if locations is None else locations
        return Survey(where, policy, local=lambda: local, uses=uses, own=own, per_image=per_image, clock=clock)

    def plan(self, policy: Policy = EVERYTHING, **more: Any) -> Plan:
        """Return the plan for the account as it is."""
        orphans = more.pop("orphans", False)
        return make_plan(self.survey(policy, **more), self.account, self.now, orphans=orphans)

    def there(self) -> set[str]:
        """Return the own AMIs that are there, from AWS's own books."""
        return {key for key, image in self.maker.ec2.amis.items() if image.owner_id == self.account}

    def snapshots_there(self) -> set[str]:
        """Return the own snapshots that are there, from AWS's own books."""
        return {key for key, snapshot in self.maker.ec2.snapshots.items() if snapshot.owner_id == self.account}

    def calls(self) -> list[str]:
        """Return the operations called so far."""
        return [call.action for call in self.aws.gate.calls]


def world(aws: LocalAws) -> World:
    """Return the account of *aws*, emptied."""
    aws.reset()
    now = datetime.now(timezone.utc)
    return World(aws, _maker(aws, REGION, now), now)


def other_region(here: World, region: str = OTHER_REGION) -> factory.Maker:
    """Return a maker for another *region* of the account."""
    return _maker(here.aws, region, here.now)


def selected(plan: Plan) -> set[str]:
    """Return the AMIs that *plan* would delete."""
    return {verdict.image.image_id for verdict in plan.decision.selected}


def reasons(plan: Plan, image_id: str) -> list[str]:
    """Return the codes of the reasons for the verdict on an AMI."""
    found = [verdict for verdict in plan.decision.verdicts if verdict.image.image_id == image_id]
    return [reason.code for verdict in found for reason in verdict.reasons]


def _maker(aws: LocalAws, region: str, now: datetime) -> factory.Maker:
    from moto.ec2.models import ec2_backends

    ec2 = ec2_backends[aws.account_id][region]
    ensure_base_image(ec2)
    vpc = ec2.create_vpc("10.20.0.0/16")
    subnet = ec2.create_subnet(vpc.id, "10.20.1.0/24", availability_zone=f"{region}a")
    group = ec2.create_security_group("workers", "Workers", vpc.id)
    iam = iam_backends[aws.account_id]["aws"]
    if "worker" not in {profile.name for profile in iam.instance_profiles.values()}:
        iam.create_instance_profile("worker", "/", [])
    location = factory.DemoLocation(aws.account_id, region, subnet.id, group.id, "worker")
    return factory.Maker(location, now.replace(tzinfo=None))


@dataclass
class Task:
    """A task's invocation on the account, and what it printed.

    Attributes:
        run: The invocation.
        out: Its results.
        err: Its talk.
    """

    run: Invocation
    out: io.StringIO
    err: io.StringIO

    @property
    def document(self) -> dict[str, Any]:
        """The last result, as JSON."""
        return dict(json.loads(self.out.getvalue().splitlines()[-1]))

    @property
    def journals(self) -> list[Path]:
        """The journals so far, oldest first."""
        return sorted(self.run.workspace.logs.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)


def task(here: World, root: Path, *, output: Output = "json", **settings: Any) -> Task:
    """Return an invocation of a task on the account in the repository *root*; its waits take no time."""
    out, err = io.StringIO(), io.StringIO()
    options = Options(output=output, dry_run=bool(settings.pop("dry_run", False)), region=settings.pop("region", None))
    run = Invocation(root, options, Console(output, out=out, err=err))
    run.__dict__["access"] = here.access
    run.__dict__["settings"] = msgspec.structs.replace(EMBEDDED, **settings)
    return Task(run, out, err)


# Ways to claim a snapshot, by its id, that must not be deleted then, and what is said of it.
SNAPSHOT_CLAIMS: dict[str, tuple[Callable[[World, str], object], str]] = {
    "keep tag": (
        lambda here, name: here.maker.ec2.snapshots[name].add_tags({"gpu-ami:keep": "true"}),
        "tagged gpu-ami:keep",
    ),
    "shared": (
        lambda here, name: here.access.client("ec2").modify_snapshot_attribute(
            SnapshotId=name, Attribute="createVolumePermission", OperationType="add", UserIds=["210987654321"]
        ),
        "shared with another account",
    ),
}
