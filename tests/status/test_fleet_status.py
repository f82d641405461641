"""`invoke status --fleet`: which AMI is used where, whose it is, and what of that is out of step."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpu_ami.aws.images import Image
from gpu_ami.errors import DifferenceError, UsageError
from gpu_ami.invocation import Readings
from gpu_ami.settings import Fleet, OrganizationScope
from gpu_ami.status import fleet_status, status
from gpu_ami.status.fleet_status import Use
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.fleet import REFUSES
from tests.support.demo_organization import REGION, DemoOrganization, demo_organization, said
from tests.support.schemas import problems

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
OWNER, OTHER = "111111111111", "222222222222"
AMI = "ami-00000001"


def image(**more: Any) -> Image:
    """Return an AMI of OWNER that was applied."""
    given: dict[str, Any] = {
        "image_id": AMI,
        "account": OWNER,
        "region": REGION,
        "created": NOW - timedelta(days=30),
        "tags": {"gpu-ami:handover": "applied"},
    }
    return Image(**given | more)


@pytest.mark.parametrize(
    ("there", "shown", "codes"),
    [
        (image(), {AMI}, []),
        (None, set(), ["ami-gone"]),
        (image(), set(), ["ami-not-shared"]),
        (image(state="disabled"), set(), ["ami-disabled"]),
        (image(state="pending"), {AMI}, ["ami-unfinished"]),
        (image(tags={"gpu-ami:finished": "false"}), {AMI}, ["ami-unfinished"]),
        (image(deprecated_at=NOW - timedelta(days=1)), {AMI}, ["ami-deprecated"]),
        (image(deprecated_at=NOW + timedelta(days=1)), {AMI}, []),
        (image(tags={"gpu-ami:verified": "2026-10-01T00:00:00Z/g5.xlarge/failed"}), {AMI}, ["verification-failed"]),
        (image(tags={"gpu-ami:verified": "2026-10-01T00:00:00Z/g5.xlarge"}), {AMI}, []),
        (image(created=NOW - timedelta(days=90)), {AMI}, ["outdated"]),
        (image(created=None), {AMI}, []),
    ],
)
def test_each_way_of_being_out_of_step(there: Image | None, shown: set[str], codes: list[str]) -> None:
    """One code each, and none for what is well; only the owner's own newest AMI makes one outdated."""
    newest = image(image_id="ami-00000002", created=NOW - timedelta(days=60))
    pending = image(image_id="ami-00000003", created=NOW, tags={"gpu-ami:handover": "pending"})
    foreign = image(image_id="ami-00000004", account=OTHER, created=NOW)
    owners = {one.image_id: one for one in (newest, pending, foreign)}
    use = Use(account=OTHER, region=REGION, kind="launch-template", name="t", ami_id=AMI, version=1)

    found = fleet_status._problems(use, there, frozenset(shown), fleet_status._newest_applied(owners), NOW)

    assert [code for code, _ in found] == codes


def test_flags_of_one_account_are_refused(tmp_path: Path) -> None:
    """Rather than half understood."""
    from gpu_ami.console import Console
    from gpu_ami.invocation import Invocation
    from gpu_ami.options import Options

    with pytest.raises(UsageError, match=r"^--skip jobs does not go with --fleet"):
        status.run(Invocation(tmp_path, Options(), Console("json")), status.Request(skip=("jobs",), fleet=True))


@pytest.fixture
def demo(aws_server: LocalAws, tmp_path: Path) -> Iterator[DemoOrganization]:
    """The demo organization as if just made."""
    with demo_organization(aws_server, tmp_path) as made:
        yield made


def uses(found: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the uses by account, kind and name."""
    return {(row["account"], row["kind"], row["name"]): row for row in found["uses"]}


@pytest.mark.slow
def test_what_uses_which_ami_and_whose_it_is(demo: DemoOrganization) -> None:
    """Across accounts; what is gone, disabled or unshared is named with its account, and the exit says so."""
    hub, video, research = demo.hub, demo.ids["video"], demo.ids["research"]

    found, text, error = demo.status()

    assert error is None
    assert problems("status", found) == []
    # What is elsewhere is not seen, and a variable that was set long ago says so as the flag does.
    assert found["narrowed"]["by"] == ["--region"]
    assert f"Read in {REGION} alone, because of --region; not read where they are on: " in " ".join(text.split())
    assert uses(found)[video, "launch-template", "transcoder"]["owner"] == hub
    assert uses(found)[research, "compute-environment", "experiments"]["owner"] == hub
    assert uses(found)[video, "launch-template", "own"]["owner"] == video
    assert max(map(len, text.splitlines())) <= 100
    assert "transcoder" in text
    assert uses(found)[video, "launch-template", "transcoder"]["ami_id"] in text

    shared = demo.images(hub)["gpu-batch-shared-template"]
    shared.launch_permissions.clear()
    demo.images(hub)["gpu-batch-shared-batch"].add_tags({"gpu-ami:verified": "2026-10-01T00:00:00Z/g5.xlarge/failed"})
    demo.maker(video).ec2.amis.pop(demo.images(video)["gpu-batch-video-used"].id)

    found, text, error = demo.status()

    assert isinstance(error, DifferenceError)
    assert problems("status", found) == []
    assert {(row["code"], row["account"], row["subject"]) for row in found["drift"]} == {
        ("ami-not-shared", video, "launch template transcoder version 1"),
        ("verification-failed", research, "compute environment experiments"),
    }
    assert max(map(len, text.splitlines())) <= 100
    assert f"not shared with {video}" in text.replace("\n", " ")


@pytest.mark.slow
def test_an_account_that_cannot_be_read_is_out_of_step(demo: DemoOrganization) -> None:
    """What nobody looked at is not in step; the rest is shown all the same."""
    left_out = tuple(one for one in demo.fleet.left_out if one.id != demo.ids[REFUSES])
    demo.aws.gate.fail("UnauthorizedOperation", "No.", action="DescribeLaunchTemplates", status=403, at=1)

    found, _, error = demo.status(fleet=Fleet(organization=OrganizationScope(), left_out=left_out))

    assert isinstance(error, DifferenceError)
    assert problems("status", found) == []
    assert [row["code"] for row in found["drift"]][:2] == ["account-unread", "region-unread"]
    assert found["drift"][0]["account"] == demo.ids[REFUSES]
    assert "docs/fleet.md" in found["drift"][0]["advice"]
    assert len(found["uses"]) >= 1
    assert {row["account"] for row in found["accounts"] if not row["read"]} >= {demo.ids[REFUSES]}


@pytest.mark.slow
def test_several_families_look_at_a_fleet_once(demo: DemoOrganization) -> None:
    """Each sees what it sees alone; what is there, and who may be entered, is the same for all."""
    readings = Readings()
    shown: list[dict[str, Any]] = []
    calls: list[set[str]] = []
    for family, shared in (("gpu-batch", None), ("training", None), ("gpu-batch", readings), ("training", readings)):
        run = demo.run(region=REGION)
        vars(run)["settings"] = msgspec.structs.replace(run.settings, family=family)
        run.readings = shared
        demo.aws.gate.calls.clear()
        status.run(run, status.Request(fleet=True))
        shown.append(said(run))
        calls.append({call.action for call in demo.aws.gate.calls})

    assert shown[:2] == shown[2:]
    assert shown[0]["uses"] != shown[1]["uses"]
    assert {"DescribeImages", "DescribeComputeEnvironments", "AssumeRole"} <= calls[2]
    assert calls[3] & {"DescribeImages", "DescribeComputeEnvironments", "AssumeRole"} == set()
