"""The demo organization in the local AWS, and invocations over it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from io import StringIO
from pathlib import Path
from typing import Any

from moto.ec2.models import ec2_backends

from gpu_ami.aws.access import Access
from gpu_ami.cleanup import cleanup, sweep
from gpu_ami.cleanup.journal import Journal
from gpu_ami.cleanup.journal_events import Begin, ImageRecord, Will
from gpu_ami.cleanup.policy import Flags
from gpu_ami.console import Console
from gpu_ami.errors import PipelineError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.settings import Fleet, Settings
from gpu_ami.status import status
from gpu_ami.target import Aws
from gpu_ami_sandbox.aws.organizations import MAKERS, Organization, forget, organization_of
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.demo_fleet import build_demo_fleet
from gpu_ami_sandbox.demo.factory import DemoLocation, Maker
from gpu_ami_sandbox.demo.images import add_bin_rules
from gpu_ami_sandbox.fleet import demo_fleet, member_ids, regions_of

REGION = "ap-northeast-2"


@dataclass(frozen=True)
class DemoOrganization:
    """The demo organization as if just made.

    Attributes:
        aws: The local AWS.
        organization: Its accounts.
        folder: The working tree of invocations.
    """

    aws: LocalAws
    organization: Organization
    folder: Path

    @property
    def access(self) -> Access:
        """The way into its hub."""
        return Access(region=REGION, endpoint_url=self.aws.endpoint_url)

    @property
    def hub(self) -> str:
        """The account that it is entered from."""
        return self.organization.management

    @property
    def ids(self) -> dict[str, str]:
        """The other accounts, by their names."""
        return member_ids(self.hub)

    @property
    def regions(self) -> tuple[str, str, str]:
        """Where it has something."""
        return regions_of(REGION)

    @property
    def fleet(self) -> Fleet:
        """The settings that leave out whom nobody can enter."""
        return demo_fleet(self.hub)

    def images(self, account: str, region: str = REGION) -> dict[str, Any]:
        """Return the AMIs of *account* that are there, by their names."""
        found = ec2_backends[account][region].amis.values()
        return {image.name: image for image in found if image.owner_id == account}

    def run(self, fleet: Fleet | None = None, **options: Any) -> Invocation:
        """Return an invocation on AWS whose settings have a fleet, the demo's unless another one is given."""
        (self.folder / "terraform").mkdir(exist_ok=True)
        made = Invocation(self.folder, Options(**options), Console("json", out=StringIO(), err=StringIO()))
        assert isinstance(made.target, Aws)
        vars(made)["access"] = self.access
        vars(made)["settings"] = Settings(region=REGION, fleet=fleet or self.fleet)
        return made

    def cleanup(self, *, fleet: Fleet | None = None, flags: Flags | None = None, **request: Any) -> dict[str, Any]:
        """Clean the fleet up; return the result's document."""
        run = self.run(fleet)
        flags = flags or Flags(include_shared=True)
        regions = () if "apply" in request else self.regions
        given: dict[str, Any] = {"fleet": True, "flags": flags, "regions": regions}
        cleanup.run(run, cleanup.Request(**given | request))
        return said(run)

    def sweep(self, *, fleet: Fleet | None = None, **request: Any) -> tuple[dict[str, Any], Exception | None]:
        """Sweep the fleet; return the result's document, and how it ended where that was not well."""
        run = self.run(fleet)
        given: dict[str, Any] = {"fleet": True, "regions": (REGION,)}
        error = None
        try:
            sweep.run(run, sweep.Request(**given | request))
        except PipelineError as exc:
            error = exc
        return said(run), error

    def status(self, *, fleet: Fleet | None = None) -> tuple[dict[str, Any], str, Exception | None]:
        """Look at the fleet; return the result's document, the table, and how it ended where that was not well."""
        texts, error = [], None
        for output in ("json", "table"):
            run = self.run(fleet, region=REGION)
            vars(run)["console"] = Console(output, out=StringIO(), err=StringIO())
            try:
                status.run(run, status.Request(fleet=True))
            except PipelineError as exc:
                error = exc
            texts.append(run.console._out.getvalue())  # type: ignore[union-attr]
        return json.loads(texts[0]), texts[1], error

    def killed_run(self, region: str) -> tuple[Maker, str]:
        """Let a run be killed after it had deleted an AMI of video's in *region*; return what it left: a snapshot."""
        make = self.maker(self.ids["video"], region)
        image = make.image(300, "gpu-batch-video-killed")
        (snapshot,) = image.snapshot_ids
        record = ImageRecord(
            image_id=image.id,
            region=region,
            name=image.name,
            state="available",
            created=None,
            deprecated_at=None,
            tags=dict(make.ec2.tags[image.id]),
            snapshot_ids=(snapshot,),
        )
        with Journal(self.folder / "logs" / "cleanup-0.jsonl") as journal:
            journal.write(Begin(account=self.ids["video"]))
            journal.write(Will(mode="delete", image=record, permissions=(), snapshots=()))
        make.ec2.deregister_image(image.id)
        return make, snapshot

    def maker(self, account: str, region: str = REGION) -> Maker:
        """Return what makes things in *account*."""
        where = DemoLocation(account, region, "", "", "")
        return Maker(where, datetime.now(timezone.utc).replace(tzinfo=None))


def said(run: Invocation) -> dict[str, Any]:
    """Return the last result that *run* printed."""
    text = run.console._out.getvalue()  # type: ignore[union-attr]
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def timeless(plan: dict[str, Any]) -> str:
    """Return a plan as text, without its times."""
    rows = [row | {"recoverable_until": None} for row in plan["verdicts"]]
    return json.dumps(plan | {"made_at": None, "verdicts": rows}, indent=1)


@contextmanager
def demo_organization(aws: LocalAws, folder: Path) -> Iterator[DemoOrganization]:
    """Make the demo organization anew."""
    aws.reset()
    forget(aws.account_id)
    MAKERS[aws.account_id] = lambda: build_demo_fleet(aws.account_id, REGION, datetime.now(timezone.utc))
    made = organization_of(aws.account_id)
    assert made is not None
    add_bin_rules(Maker(DemoLocation(aws.account_id, REGION, "", "", ""), datetime.now()))  # noqa: DTZ005 - moto's own
    try:
        yield DemoOrganization(aws, made, folder)
    finally:
        forget(aws.account_id)
