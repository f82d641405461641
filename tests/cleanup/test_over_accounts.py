"""`invoke cleanup --fleet`: one graph over accounts and regions, and what each accident leaves in place: everything."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.registry import USES
from gpu_ami.cleanup import cleanup, over_accounts
from gpu_ami.cleanup.execute import Apply
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import read
from gpu_ami.cleanup.policy import Flags, policy_from
from gpu_ami.console import Console, Step
from gpu_ami.errors import AwsError, PipelineError, SafetyError, UsageError
from gpu_ami.fleet.entry import hub_of
from gpu_ami.invocation import Readings
from gpu_ami.settings import Cleanup, Fleet, OrganizationScope
from gpu_ami_sandbox.aws.ec2 import usage_reports as local
from gpu_ami_sandbox.aws.ec2.usage_reports import UseElsewhere, usage_reports, uses_elsewhere
from gpu_ami_sandbox.aws.gate import Fault, error_answer
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.fleet import CLEANUP_ROLE, READ_ROLE, REFUSES, SUSPENDED
from tests.support.demo_organization import REGION, DemoOrganization, demo_organization, said, timeless
from tests.support.schemas import problems

SHARED = "gpu-batch-shared-"
# It is the sandbox and the decisions over it, whatever the Python.
pytestmark = pytest.mark.slow


@pytest.fixture
def whole(aws_server: LocalAws, tmp_path: Path) -> Iterator[DemoOrganization]:
    """The demo organization as if just made."""
    with demo_organization(aws_server, tmp_path) as made:
        yield made


@pytest.fixture
def demo(whole: DemoOrganization, monkeypatch: pytest.MonkeyPatch) -> DemoOrganization:
    """The same, of which only the sources that find something are queried: the others would take most of the time."""
    few = tuple(source for source in USES if source.name in {"launch-templates", "batch", "parameters"})
    defaults: dict[str, Any] = Survey.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "uses", few)
    return whole


def going(plan: dict[str, Any]) -> set[str]:
    """Return the names of the AMIs that go."""
    return {row["name"] for row in plan["verdicts"] if row["action"] != "keep"}


def reasons(plan: dict[str, Any], name: str) -> str:
    """Return why the AMI *name* stays."""
    (row,) = [row for row in plan["verdicts"] if row["name"] == name]
    assert row["action"] == "keep", name
    return "; ".join(reason["detail"] for reason in row["reasons"])


def role_of(account: str, name: str) -> Any:
    """Return a role of *account*."""
    return next(role for role in iam_backends[account]["aws"].roles.values() if role.name == name)


def test_what_another_account_needs_stays(whole: DemoOrganization) -> None:
    """A template, a Batch environment and a parameter, in other accounts and regions: each with its account."""
    video, research = whole.ids["video"], whole.ids["research"]

    plan = whole.cleanup(regions=())

    assert len({row["region"] for row in plan["sources"] if row["name"] == "parameters"}) > 20
    assert len({row["region"] for row in plan["sources"] if row["name"] == "launch-templates"}) == 3

    assert going(plan) == {f"{SHARED}unused", f"{SHARED}unused-unit", "gpu-batch-video-unused"}
    assert f"launch template transcoder version 1: ImageId, in account {video} (video)" in reasons(
        plan, f"{SHARED}template"
    )
    assert f"in account {research} (research)" in reasons(plan, f"{SHARED}batch")
    assert f"SSM parameter /video/us-image, in account {video}" in reasons(plan, f"{SHARED}parameter")
    assert "which is not in the fleet" in reasons(plan, f"{SHARED}outside")
    assert "is left out until 2099-12-31: is suspended" in reasons(plan, f"{SHARED}suspended")
    assert "is switched off" in reasons(plan, f"{SHARED}switched-off")


def test_without_the_flag_what_is_shared_stays(demo: DemoOrganization) -> None:
    """As for one account: the fleet makes the flag safe, it does not set it."""
    plan = demo.cleanup(flags=Flags())

    assert going(plan) == {"gpu-batch-video-unused"}


def test_each_owner_has_a_journal_and_a_way_back(demo: DemoOrganization) -> None:
    """What was deleted in an account is brought back with that account's credentials."""
    video = demo.ids["video"]
    done = demo.cleanup(yes=True)

    assert {row["status"] for row in done["results"]} == {"deleted"}
    assert [row["account"] for row in done["journals"]] == [demo.hub, video]
    assert "gpu-batch-video-unused" not in demo.images(video)
    journal = done["journals"][1]["journal"]
    assert json.loads((demo.folder / journal).read_text().splitlines()[0])["account"] == video
    run = demo.run()
    cleanup.run(run, cleanup.Request(fleet=True, restore=str(demo.folder / journal)))
    assert [row["status"] for row in said(run)["results"]] == ["restored"]
    assert "gpu-batch-video-unused" in demo.images(video)


def test_a_plan_is_carried_out_as_it_was_approved(demo: DemoOrganization, tmp_path: Path) -> None:
    """Not one AMI more; a plan of one account is none of a fleet, nor the other way round."""
    path = tmp_path / "plan.json"
    plan = demo.cleanup(plan=str(path))
    assert plan["format"] == "gpu-ami-cleanup-plan-2"
    changed = json.loads(path.read_text())
    changed["verdicts"] = [row for row in changed["verdicts"] if not row["name"].startswith(SHARED)]
    path.write_text(json.dumps(changed))

    done = demo.cleanup(apply=str(path), flags=Flags())

    assert [(row["account"], row["status"]) for row in done["results"]] == [(demo.ids["video"], "deleted")]
    run = demo.run()
    with pytest.raises(UsageError, match="is the plan of a fleet"):
        cleanup.run(run, cleanup.Request(apply=str(path)))
    run.family = "training"
    with pytest.raises(SafetyError, match="is the plan of the family gpu-batch, not of training"):
        cleanup.run(run, cleanup.Request(fleet=True, apply=str(path)))
    path.write_text(json.dumps(changed | {"format": "gpu-ami-cleanup-plan-1"}))
    with pytest.raises(UsageError, match="is the plan of one account"):
        demo.cleanup(apply=str(path), flags=Flags())


@pytest.mark.parametrize(
    ("change", "said_so"),
    [
        ({"made_at": "2020-01-01T00:00:00Z"}, "more than a day ago"),
        ({"account": "999999999999"}, "was made from account 999999999999"),
        ({"blocks": ["images (r) could not be read"]}, "was blocked when it was made"),
        ({"verdicts": [{"action": "delete"}]}, "is no clean-up plan of a fleet"),
        ({"policy": {}}, "is no clean-up plan of a fleet"),
        ({"format": "x"}, "is no clean-up plan of a fleet"),
    ],
)
def test_a_plan_that_does_not_hold_is_refused(
    demo: DemoOrganization, tmp_path: Path, change: dict[str, Any], said_so: str
) -> None:
    """One line, and nothing changed."""
    path = tmp_path / "plan.json"
    demo.cleanup(plan=str(path))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(PipelineError, match=said_so):
        demo.cleanup(apply=str(path), flags=Flags())

    assert "gpu-batch-video-unused" in demo.images(demo.ids["video"])


@pytest.mark.parametrize("name", [REFUSES, SUSPENDED])
def test_an_account_that_cannot_be_entered_keeps_everything(demo: DemoOrganization, name: str) -> None:
    """Named, with the reason and what to do; the person on call needs nothing else."""
    left_out = tuple(one for one in demo.fleet.left_out if one.id != demo.ids[name])
    fleet = Fleet(organization=OrganizationScope(), left_out=left_out)

    with pytest.raises(
        SafetyError, match=rf"Everything is kept: account \({demo.ids[name]}\) could not be read: "
    ) as caught:
        demo.cleanup(fleet=fleet, yes=True)

    assert "docs/fleet.md" in str(caught.value) or "fleet.left_out" in str(caught.value)
    assert "gpu-batch-video-unused" in demo.images(demo.ids["video"])


def test_a_region_that_fails_in_one_account_keeps_everything(demo: DemoOrganization) -> None:
    """And names account, region and source."""
    demo.aws.gate.fail("UnauthorizedOperation", "No.", action="DescribeLaunchTemplates", status=403)

    with pytest.raises(SafetyError, match="Everything is kept"):
        demo.cleanup(yes=True)


def test_amis_that_cannot_be_listed_keep_everything(demo: DemoOrganization) -> None:
    """An account whose AMIs nobody knows is not an account without any."""
    demo.aws.gate.fail("InternalError", "No.", action="DescribeImages", status=500)

    with pytest.raises(SafetyError, match=r"Everything is kept: images \("):
        demo.cleanup(yes=True)


def test_an_answer_of_another_account_is_none(demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are shared: should ever an answer come to the wrong account, its AMIs are not that one's."""
    listed = images._own

    def mixed_up(caller: Any, **which: Any) -> list[Any]:
        return [msgspec.structs.replace(image, account="999999999999") for image in listed(caller, **which)]

    monkeypatch.setattr(images, "_own", mixed_up)

    with pytest.raises(SafetyError, match=r"AMIs of 999999999999 came where \d+'s were asked for"):
        demo.cleanup(yes=True)


def test_a_grant_between_plan_and_act_keeps_the_ami(demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may launch it is read again right before."""
    image = demo.images(demo.hub)[f"{SHARED}unused"]
    act = Apply.images

    def granted(self: Apply, verdicts: Any) -> Any:
        image.launch_permissions.append({"UserId": "998877665544"})
        return act(self, verdicts)

    monkeypatch.setattr(Apply, "images", granted)
    done = demo.cleanup(yes=True)

    (row,) = [row for row in done["results"] if row["image_id"] == image.id]
    assert row["status"] == "kept"
    assert "which is not in the fleet" in row["error"]
    assert f"{SHARED}unused" in demo.images(demo.hub)


def test_without_every_way_in_nothing_is_begun(demo: DemoOrganization) -> None:
    """Half a fleet done is what nobody wants to explain."""
    video = demo.ids["video"]
    iam_backends[video]["aws"].roles.pop(role_of(video, CLEANUP_ROLE).id)

    with pytest.raises(SafetyError, match=f"^Nothing was changed in any account: .*{video}:role/{CLEANUP_ROLE}"):
        demo.cleanup(yes=True)

    assert f"{SHARED}unused" in demo.images(demo.hub)


def test_nobody_judges_an_account_by_another(demo: DemoOrganization) -> None:
    """That uses of the hub's AMIs are seen does not show that those of video's are: its template may be hidden."""
    video = demo.ids["video"]
    (own,) = [template for template in demo_templates(video).values() if template.name == "own"]
    demo_templates(video).pop(own.id)

    plan = demo.cleanup(flags=Flags())

    assert going(plan) == set()
    assert f"nothing at all was found that needs any AMI of {video}" in reasons(plan, "gpu-batch-video-unused")
    assert going(demo.cleanup(flags=Flags(allow_no_references=True))) >= {"gpu-batch-video-unused"}


def demo_templates(account: str) -> dict[str, Any]:
    """Return the launch templates of *account*."""
    from moto.ec2.models import ec2_backends

    found: dict[str, Any] = ec2_backends[account][REGION].launch_templates
    return found


def test_a_run_that_is_killed_in_the_second_account_is_finished(
    demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run finishes what was begun there; what was done before has its journal."""
    act = Apply.images
    begun: list[int] = []

    def killed(self: Apply, verdicts: Any) -> Any:
        begun.append(1)
        if len(begun) == 2:
            act(self, verdicts)
            raise SystemExit
        return act(self, verdicts)

    monkeypatch.setattr(Apply, "images", killed)
    with pytest.raises(SystemExit):
        demo.cleanup(yes=True)
    monkeypatch.setattr(Apply, "images", act)

    done = demo.cleanup(yes=True)

    assert done["results"] == []
    assert [row["account"] for row in done["journals"]] == [demo.ids["video"]]
    assert demo.cleanup(yes=True)["journals"] == []


# A region in which no AMI of the family is left.
QUIET = "eu-central-1"


def test_what_a_killed_run_left_is_finished_only_by_what_was_read_there(demo: DemoOrganization) -> None:
    """Where no AMI is left a plan reads texts alone, and would not see the template that maps the snapshot by now."""
    make, snapshot = demo.killed_run(QUIET)
    device = {"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": snapshot}}
    make.ec2.create_launch_template("maps", "", {"BlockDeviceMappings": [device]}, {})
    regions = (REGION, QUIET)
    demo.aws.gate.add(
        Fault(
            lambda call, environ: error_answer(environ, "Broken", "No.") if call.region == QUIET else None,
            action="DescribeLaunchTemplates",
        )
    )

    with pytest.raises(SafetyError, match=r"cleanup-0\.jsonl of a killed run is to be finished, but launch-templates"):
        demo.cleanup(yes=True, regions=regions)
    assert snapshot in make.ec2.snapshots
    assert "gpu-batch-video-unused" in demo.images(demo.ids["video"])
    demo.aws.gate.clear()

    demo.cleanup(yes=True, regions=regions)

    assert snapshot in make.ec2.snapshots
    (entry,) = read(demo.folder / "logs" / "cleanup-0.jsonl").entries.values()
    assert "launch template maps version 1" in str(entry.snapshot_status[snapshot])


def test_in_a_quiet_account_a_killed_run_is_not_finished(demo: DemoOrganization) -> None:
    """Nobody sees what needs anything of video's; what goes in the hub goes all the same, and the job looks unwell."""
    make, snapshot = demo.killed_run(REGION)
    (own,) = [one for one in demo_templates(demo.ids["video"]).values() if one.name == "own"]
    demo_templates(demo.ids["video"]).pop(own.id)

    with pytest.raises(SafetyError, match=r"cleanup-0\.jsonl of a killed run is left unfinished: .*--allow-no-ref"):
        demo.cleanup(yes=True)

    assert snapshot in make.ec2.snapshots
    assert f"{SHARED}unused" not in demo.images(demo.hub)
    # A run that does not read that region has nothing to do with it.
    believed = Flags(allow_no_references=True)
    assert demo.cleanup(yes=True, flags=believed, regions=(demo.regions[1],))["journals"] == []
    # What --yes does beside the plan is said with it.
    run = demo.run()
    cleanup.run(run, cleanup.Request(fleet=True, regions=(REGION,)))
    assert "cleanup-0.jsonl is of a run that was cut off: --yes finishes it" in run.console._err.getvalue()  # type: ignore[union-attr]
    assert demo.ids["video"] in [row["account"] for row in demo.cleanup(yes=True, flags=believed)["journals"]]
    assert snapshot not in make.ec2.snapshots


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"orphans": True}, "--orphans"),
        ({"accounts": ("arn:aws:iam::1:role/x",)}, "--account"),
        ({"flags": Flags(all_owned=True)}, "--all-owned"),
    ],
)
def test_flags_of_one_account_are_refused(demo: DemoOrganization, request_: dict[str, Any], named: str) -> None:
    """Rather than half understood; before anybody is entered."""
    calls = demo.aws.gate.calls.copy()

    with pytest.raises(UsageError, match=f"^{named} does not go with --fleet"):
        demo.cleanup(**request_)

    assert demo.aws.gate.calls == calls


REPORTS = Flags(include_shared=True, usage_reports=True)


@pytest.fixture
def reporting(demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch) -> DemoOrganization:
    """The demo organization, whose reports are there at once."""
    monkeypatch.setattr(local, "PENDING_S", 0.0)
    return demo


def use(demo: DemoOrganization, name: str, account: str) -> str:
    """Have *account* use an AMI of the hub, as EC2's reports would say; return its id."""
    image = demo.images(demo.hub)[name]
    uses_elsewhere(image.ec2_backend)[image.id] = [UseElsewhere(account, "ec2:Instance", 2)]
    return str(image.id)


def test_what_a_usage_report_says_keeps_a_shared_ami(reporting: DemoOrganization) -> None:
    """It is made where the AMI is, by the role that may change that account, and deleted again; none but the used stay.

    A member may have copied what it launches out of our sight; a report is one more look, and never a permission.
    """
    demo, video = reporting, reporting.ids["video"]
    used = use(demo, f"{SHARED}unused", video)
    entered = Counter[str]()
    demo.aws.gate.add(Fault(lambda call, _: entered.update([str(call.parameters.get("RoleArn", ""))])))

    plan = demo.cleanup(flags=REPORTS)

    assert problems("cleanup", plan) == []
    assert going(plan) == {f"{SHARED}unused-unit", "gpu-batch-video-unused"}
    assert f"used in account {video}: 2 instances" in reasons(plan, f"{SHARED}unused")
    answers = {row["image_id"]: row for row in plan["usage_reports"]["answers"]}
    assert (answers[used]["status"], answers[used]["account"]) == ("used", demo.hub)
    made = plan["usage_reports"]["made"]
    assert made == plan["usage_reports"]["deleted"] == len(answers) == 2
    # What is not shared needs none, so nobody enters its account to change it.
    assert not [arn for arn in entered if arn.endswith(f"/{CLEANUP_ROLE}")]
    assert all(usage_reports(ec2_backends[demo.hub][region]) == {} for region in demo.regions)


def test_a_report_that_nobody_may_make_keeps_the_ami(reporting: DemoOrganization) -> None:
    """The role that plans writes nothing, and an owner may have none that changes something: the others go on."""
    demo, video = reporting, reporting.ids["video"]
    demo.images(video)["gpu-batch-video-unused"].launch_permissions.append({"UserId": demo.ids["research"]})
    role = role_of(video, CLEANUP_ROLE)
    iam_backends[video]["aws"].roles.pop(role.id)

    plan = demo.cleanup(flags=REPORTS)

    assert going(plan) == {f"{SHARED}unused", f"{SHARED}unused-unit"}
    why = reasons(plan, "gpu-batch-video-unused")
    assert "no image usage report could be made: " in why
    assert CLEANUP_ROLE in why
    assert {row["account"]: row["status"] for row in plan["usage_reports"]["answers"]}[video] == "unknown"


def test_reports_that_are_left_in_several_accounts_are_all_named(reporting: DemoOrganization) -> None:
    """Somebody has to delete each where it is; of two accounts that cannot be asked for more, one went unsaid."""
    demo, run = reporting, reporting.run()
    video = demo.ids["video"]
    demo.images(video)["gpu-batch-video-unused"].launch_permissions.append({"UserId": demo.ids["research"]})
    demo.aws.gate.deny("ec2:DeleteImageUsageReport")
    cleanup.run(run, cleanup.Request(fleet=True, flags=REPORTS, regions=demo.regions))
    plan = said(run)

    assert problems("cleanup", plan) == []
    left = {(row["account"], row["region"], row["report_id"]) for row in plan["usage_reports"]["left"]}
    there = {
        (account, region, name)
        for account in (demo.hub, video)
        for region in demo.regions
        for name in usage_reports(ec2_backends[account][region])
    }
    assert left == there
    assert {account for account, _, _ in left} == {demo.hub, video}

    (image, *_) = images.own_images(Caller(run.access, REGION), demo.hub)
    policy, now = policy_from(run.settings, REPORTS), datetime.now(timezone.utc)
    made = over_accounts.usage_reports_of(run, policy, hub_of(run.access, demo.fleet), CLEANUP_ROLE, now, Step())
    assert made is not None
    demo.aws.gate.deny("ec2:DescribeImageUsageReports")
    with contextlib.suppress(KeyError), made:
        for account in (demo.hub, video):
            made._region(msgspec.structs.replace(image, account=account))
        raise KeyError
    assert [one.account for one in made.asked.left] == [demo.hub, video]


def test_an_account_that_nobody_enters_is_tried_once(
    reporting: DemoOrganization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have hundreds of AMIs, and the reports of all others wait meanwhile."""
    run, now = reporting.run(), datetime.now(timezone.utc)
    tried: list[str] = []

    def shut(_hub: object, _role: str, account: str) -> Any:
        tried.append(account)
        msg = "AWS refused to enter it."
        raise AwsError(msg)

    monkeypatch.setattr(over_accounts, "with_right_to_change", shut)
    found = images.own_images(Caller(run.access), reporting.hub)[:3]
    hub: Any = None
    made = over_accounts.usage_reports_of(run, policy_from(run.settings, REPORTS), hub, CLEANUP_ROLE, now, Step())
    assert made is not None

    with made:
        answers = made.ask(found)

    assert [answer.status for answer in answers.values()] == ["unknown"] * 3
    assert tried == [reporting.hub]


def test_a_use_since_the_plan_keeps_the_ami_that_it_names(reporting: DemoOrganization, tmp_path: Path) -> None:
    """The plan's reports are as old as it is: whoever carries it out asks anew, about what it names alone."""
    demo, path = reporting, tmp_path / "plan.json"
    assert going(demo.cleanup(flags=REPORTS, plan=str(path))) >= {f"{SHARED}unused", f"{SHARED}unused-unit"}
    changed = json.loads(path.read_text())
    changed["verdicts"] = [row for row in changed["verdicts"] if row["name"] != f"{SHARED}unused-unit"]
    path.write_text(json.dumps(changed))
    used = use(demo, f"{SHARED}unused", demo.ids["research"])

    done = demo.cleanup(apply=str(path), owners=(demo.hub,), flags=Flags())

    assert [row["image_id"] for row in done["usage_reports"]["answers"]] == [used]
    assert done["results"] == []
    assert f"{SHARED}unused" in demo.images(demo.hub)
    done = demo.cleanup(apply=str(path), flags=Flags())
    assert [row["account"] for row in done["results"]] == [demo.ids["video"]]
    assert f"{SHARED}unused" in demo.images(demo.hub)


def test_people_are_told_what_was_made(reporting: DemoOrganization) -> None:
    """A plan that writes says so; a dry run makes none, and so keeps what is shared."""
    for dry_run, lines in (
        (False, ("Made 2 image usage reports.", "Deleted 2 image usage reports again.")),
        (True, ("No image usage report was made, as --dry-run makes none: 2 shared AMIs stay for that.",)),
    ):
        run = reporting.run(dry_run=dry_run)
        vars(run)["console"] = Console("table", out=StringIO(), err=StringIO())
        cleanup.run(run, cleanup.Request(fleet=True, flags=REPORTS, regions=reporting.regions))
        text = " ".join(run.console._out.getvalue().split())  # type: ignore[union-attr]
        assert all(line in text for line in lines)
        assert ("Nothing was changed but image usage reports" in run.console._err.getvalue()) is not dry_run  # type: ignore[union-attr]


def test_whoever_puts_parts_together_makes_no_reports(demo: DemoOrganization, tmp_path: Path) -> None:
    """They have no right to anything; nor have those who read a part."""
    parts: dict[str, Any] = {"list": str(tmp_path / "fleet.json"), "references": (str(tmp_path),), "regions": ()}
    with pytest.raises(UsageError, match=r"^--usage-reports does not go with --list"):
        demo.cleanup(flags=REPORTS, **parts)
    with pytest.raises(UsageError, match=r"^--usage-reports does not go with --fleet"):
        over_accounts.check_survey_flags(REPORTS)


@pytest.mark.parametrize("source", ["launch-permissions", "public-snapshots"])
def test_who_may_launch_an_ami_is_not_left_out(demo: DemoOrganization, tmp_path: Path, source: str) -> None:
    """Not by a flag, the settings, or a plan's file: what a stranger uses would go as if it were not shared."""
    path = tmp_path / "plan.json"
    demo.cleanup(plan=str(path))
    changed = json.loads(path.read_text())
    changed["policy"]["skip_sources"] = [source]
    path.write_text(json.dumps(changed))
    run = demo.run()
    vars(run)["settings"] = msgspec.structs.replace(run.settings, cleanup=Cleanup(skip_sources=(source,)))

    with pytest.raises(UsageError, match=f"leaves out {source}, by which a fleet decides"):
        demo.cleanup(flags=Flags(skip_source=(source,)), yes=True)
    with pytest.raises(UsageError, match=f"leaves out {source}, by which a fleet decides"):
        cleanup.run(run, cleanup.Request(fleet=True, yes=True))
    with pytest.raises(UsageError, match=rf"plan\.json leaves out {source}, by which a fleet decides"):
        demo.cleanup(apply=str(path), flags=Flags())
    assert f"{SHARED}outside" in demo.images(demo.hub)


def test_only_the_regions_that_are_named_are_read(demo: DemoOrganization) -> None:
    """Then what is shared with somebody stays unless that very region was read there; and the plan says so."""
    plan = demo.cleanup(regions=(REGION,))

    assert problems("cleanup", plan) == []
    assert (plan["narrowed"]["by"], plan["narrowed"]["read"]) == (["--regions"], [REGION])
    assert len(plan["narrowed"]["unread"]) > 20
    assert {row["region"] for row in plan["verdicts"]} == {REGION}
    assert going(plan) == {f"{SHARED}unused", "gpu-batch-video-unused"}


def families(demo: DemoOrganization) -> Callable[..., dict[str, Any]]:
    """Return what cleans up for a family, as one of several of a task."""
    readings = Readings()

    def clean_up(family: str, *, alone: bool = False, **request: Any) -> dict[str, Any]:
        run = demo.run()
        vars(run)["settings"] = msgspec.structs.replace(run.settings, family=family)
        run.readings = None if alone else readings
        demo.aws.gate.calls.clear()
        flags = Flags(include_shared=True, keep="1")
        given: dict[str, Any] = {"fleet": True, "flags": flags, "regions": demo.regions}
        cleanup.run(run, cleanup.Request(**given | request))
        return said(run)

    return clean_up


@pytest.fixture
def two(demo: DemoOrganization) -> DemoOrganization:
    """The demo organization, where two AMIs are another family's: one that goes, and one that is used."""
    video = demo.images(demo.ids["video"])
    for name in ("gpu-batch-video-unused", "gpu-batch-video-used"):
        video[name].add_tags({"gpu-ami:family": "training"})
    return demo


def test_several_families_read_a_fleet_once(two: DemoOrganization) -> None:
    """Each by its own rules, and with the very plan that it has alone; of a fleet the reading takes minutes."""
    clean_up, gate = families(two), two.aws.gate
    alone = {name: clean_up(name, alone=True) for name in ("gpu-batch", "training")}

    first = clean_up("gpu-batch")
    calls = Counter(call.action for call in gate.calls)
    second = clean_up("training")
    again = Counter(call.action for call in gate.calls)

    assert going(first) == {f"{SHARED}unused", f"{SHARED}unused-unit"}
    assert going(second) == {"gpu-batch-video-unused"}
    assert timeless(first) == timeless(alone["gpu-batch"])
    assert timeless(second) == timeless(alone["training"])
    assert second["made_at"] == first["made_at"]
    assert problems("cleanup", second) == []
    for action in ("DescribeLaunchTemplateVersions", "DescribeParameters", "AssumeRole", "ListAccounts"):
        assert calls[action] > 0
        assert again[action] == 0
    # What EC2 says AMI by AMI is asked about those of each.
    assert again["DescribeImageAttribute"] > 0


def test_what_a_family_has_changed_is_read_anew_for_the_next(two: DemoOrganization) -> None:
    """A deletion takes minutes, and meanwhile an account may have joined, or begun to use what is the next family's."""
    clean_up = families(two)
    done = clean_up("gpu-batch", yes=True, permanent=True)

    second = clean_up("training", yes=True, permanent=True)

    assert {row["status"] for row in (*done["results"], *second["results"])} == {"deleted"}
    assert going(second) == {"gpu-batch-video-unused"}
    assert "ListAccounts" in {call.action for call in two.aws.gate.calls}
    journals = [row["journal"] for row in (*done["journals"], *second["journals"])]
    assert len(journals) == len(set(journals)) == 2


def test_what_goes_goes_by_the_accounts_that_there_are(two: DemoOrganization) -> None:
    """One may have joined since a family that kept everything was read; the last check reads the accounts it knows."""
    clean_up = families(two)
    two.aws.gate.fail("UnauthorizedOperation", "No.", action="DescribeImages", at=2, status=403)
    with pytest.raises(SafetyError, match="Everything is kept: images"):
        clean_up("gpu-batch", yes=True, permanent=True)

    done = clean_up("training", yes=True, permanent=True)

    assert [row["status"] for row in done["results"]] == ["deleted"]
    assert "ListAccounts" in {call.action for call in two.aws.gate.calls}


def test_a_family_that_reads_otherwise_reads_for_itself(two: DemoOrganization) -> None:
    """What one leaves out must not be missing for another."""
    clean_up = families(two)
    left_out = clean_up("gpu-batch", flags=Flags(include_shared=True, skip_source=("snapshot-locks",)))
    whole = clean_up("training")
    clean_up("training", flags=Flags(include_shared=True, template_versions="1"))

    statuses = [
        {row["status"] for row in plan["sources"] if row["name"] == "snapshot-locks"} for plan in (left_out, whole)
    ]
    assert statuses == [{"skipped"}, {"ok"}]
    assert "DescribeLaunchTemplateVersions" in {call.action for call in two.aws.gate.calls}


def test_an_old_reading_is_not_believed(two: DemoOrganization, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family may have waited for long; a part of a survey is not believed after an hour either.

    Nor is one that was made in its place, once that is old: a third family took it for new, whatever its age.
    """
    clean_up = families(two)
    clean_up("gpu-batch")
    monkeypatch.setattr(over_accounts, "FRESH", timedelta(0))

    for name in ("training", "gpu-batch"):
        clean_up(name)
        assert {"ListAccounts", "DescribeLaunchTemplateVersions"} <= {call.action for call in two.aws.gate.calls}


def test_who_acts_has_read_everything_himself(two: DemoOrganization) -> None:
    """A family's plan came to nothing, minutes ago; who has joined since may launch what is the next family's.

    The check before the act reads uses again, not which accounts there are.
    """
    clean_up = families(two)
    two.aws.gate.fail("UnauthorizedOperation", "No.", action="DescribeImageAttribute", status=403)
    with pytest.raises(SafetyError, match="DescribeImageAttribute"):
        clean_up("gpu-batch", yes=True, permanent=True)
    two.aws.gate.clear()

    done = clean_up("training", yes=True, permanent=True)

    assert "ListAccounts" in {call.action for call in two.aws.gate.calls}
    assert {row["status"] for row in done["results"]} == {"deleted"}


def test_what_failed_for_one_family_keeps_the_next_ones_too(two: DemoOrganization) -> None:
    """It is the same reading: what could not be listed then is not known now, whoever asks."""
    clean_up = families(two)
    two.aws.gate.fail("UnauthorizedOperation", "No.", action="DescribeImages", at=2, status=403)

    for name in ("gpu-batch", "training"):
        with pytest.raises(SafetyError, match="Everything is kept: images"):
            clean_up(name)


@pytest.mark.parametrize("acts", [False, True])
def test_a_variable_that_narrows_a_fleet_is_named_in_what_people_see(demo: DemoOrganization, acts: bool) -> None:
    """It is set for a repository of one account, and whoever reads the plan thinks that all was read."""
    run = demo.run(region=REGION, region_by="GPU_AMI_REGION")
    vars(run)["console"] = Console("table", out=StringIO(), err=StringIO())

    cleanup.run(run, cleanup.Request(fleet=True, yes=acts, flags=Flags(mode="deprecate")))

    text = " ".join(run.console._out.getvalue().split())  # type: ignore[union-attr]
    assert f"Read in {REGION} alone, because of GPU_AMI_REGION; not read where they are on: " in text
    assert "A text there may name an AMI, and is not seen." in text
    assert ("Results" in text) is acts


def test_who_was_left_out_too_long_is_read_again(demo: DemoOrganization) -> None:
    """A decision ends; then the account blocks until somebody decides again."""
    old = tuple(msgspec.structs.replace(one, until=date(2026, 1, 31)) for one in demo.fleet.left_out)

    with pytest.raises(SafetyError, match="Everything is kept: account"):
        demo.cleanup(fleet=Fleet(organization=OrganizationScope(), left_out=old))


def test_reading_needs_no_right_to_change(demo: DemoOrganization) -> None:
    """The role of every member may read; only owners have one that may delete."""
    demo.aws.gate.enforcing = True
    try:
        plan = demo.cleanup()
    finally:
        demo.aws.gate.enforcing = False

    assert going(plan)
    assert role_of(demo.ids["video"], READ_ROLE) is not None
