"""`invoke cleanup --usage-reports`: shared AMIs go only when EC2 says that no other account uses them."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.cleanup import Request
from gpu_ami.cleanup.policy import Flags
from gpu_ami.cleanup.usage_reports import LIMITS, UsageReports
from gpu_ami.errors import InterruptedRunError, SafetyError, UsageError
from gpu_ami.process import interruptible
from gpu_ami.settings import Cleanup
from gpu_ami_sandbox.aws import paging
from gpu_ami_sandbox.aws.ec2 import usage_reports as local
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.ec2.usage_reports import UseElsewhere, uses_elsewhere
from gpu_ami_sandbox.aws.gate import Call, Fault
from tests.support.account import OTHER_REGION, World, other_region, task
from tests.support.clock import Clock
from tests.support.interrupts import ENDS, interrupts
from tests.support.schemas import problems

__all__ = ["interrupts"]
OTHER, THIRD = "210987654321", "111122223333"
FLAGS = Flags(older_than="30d", keep="1", include_shared=True, usage_reports=True)
WRITES = {"CreateImageUsageReport", "DeleteImageUsageReport"}
READS = {"DescribeImageUsageReports", "DescribeImageUsageReportEntries"}
NEVER_S = 1e9


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Reports are there at once, and what is waited for them takes no time."""
    clock = Clock()
    own = UsageReports.__init__.__kwdefaults__
    assert own is not None
    for name, value in {"clock": clock, "sleep": clock.sleep}.items():
        monkeypatch.setitem(own, name, value)
    monkeypatch.setattr(local, "PENDING_S", 0.0)
    return clock


def _shared(here: World, age_days: int = 200, *uses: UseElsewhere) -> SandboxAmi:
    """Make an AMI that is shared with another account and used there as *uses* say."""
    image = here.image(age_days)
    image.launch_permissions.append({"UserId": OTHER})
    uses_elsewhere(here.maker.ec2)[image.id] = list(uses)
    return image


@pytest.fixture
def account(here: World) -> World:
    """An account in use."""
    here.newest()
    here.in_use()
    return here


def _plan(here: World, root: Path, *, options: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    done = task(here, root, **(options or {}))
    cleanup.run(done.run, Request(**({"flags": FLAGS} | request)))
    document = done.document
    assert problems("cleanup", document) == []
    return document | {"err": done.err.getvalue()}


def _verdicts(document: dict[str, Any]) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    return {
        verdict["image_id"]: (
            verdict["action"],
            [(reason["code"], reason["detail"]) for reason in verdict["reasons"]],
        )
        for verdict in document["verdicts"]
    }


def _why(document: dict[str, Any], image: SandboxAmi) -> str:
    """Return the one reason for which a shared AMI stays."""
    action, reasons = _verdicts(document)[image.id]
    ((code, detail),) = reasons
    assert (action, code) == ("keep", "usage-reports")
    return detail


def _reports(here: World) -> dict[str, local.Report]:
    return local.usage_reports(here.maker.ec2)


def test_what_another_account_uses_stays_and_the_rest_goes(account: World, tmp_path: Path) -> None:
    """With the account and the counts; an AMI that is not shared needs no report."""
    used = _shared(
        account,
        300,
        UseElsewhere(OTHER, "ec2:Instance", 2),
        UseElsewhere(OTHER, "ec2:LaunchTemplate", 1),
        UseElsewhere(THIRD, "imagebuilder:ImageRecipe", 1),
    )
    unused, unshared = _shared(account), account.image()

    document = _plan(account, tmp_path)

    action, reasons = _verdicts(document)[used.id]
    assert action == "keep"
    assert [code for code, _ in reasons] == ["usage-reports"] * 2
    first, second = (detail for _, detail in reasons)
    assert first.startswith(f"used in account {THIRD}: 1 image recipe (image usage report of 20")
    assert second.startswith(f"used in account {OTHER}: 2 instances, 1 launch template (image usage report of 20")
    assert {_verdicts(document)[image.id][0] for image in (unused, unshared)} == {"delete"}
    asked = [call.parameters for call in account.aws.gate.calls if call.action == "CreateImageUsageReport"]
    assert {parameters["ImageId"] for parameters in asked} == {used.id, unused.id}


def test_what_was_made_is_named_and_deleted_again(account: World, tmp_path: Path) -> None:
    """A write inside a plan must be seen, by people and by scripts."""
    used = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1))
    unused = _shared(account)

    document = _plan(account, tmp_path)

    made = document["usage_reports"]
    assert {key: made[key] for key in ("made", "reused", "deleted", "left")} == {
        "made": 2,
        "reused": 0,
        "deleted": 2,
        "left": [],
    }
    assert made["limits"] == list(LIMITS)
    assert "Batch and Auto Scaling of other accounts" in made["limits"]
    by_image = {answer["image_id"]: answer for answer in made["answers"]}
    assert by_image[used.id]["uses"] == [{"account": OTHER, "resource_type": "ec2:Instance", "count": 1}]
    assert {key: answer["status"] for key, answer in by_image.items()} == {used.id: "used", unused.id: "unused"}
    assert all(answer["report_id"].startswith("amiur-") and answer["created"] for answer in by_image.values())
    assert _reports(account) == {}
    assert "Nothing was changed but image usage reports. Add --yes" in document["err"]


def test_people_read_what_reports_do_not_know(account: World, tmp_path: Path) -> None:
    """Whoever trusts a report must know what is not in it."""
    _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1))
    done = task(account, tmp_path, output="table")

    cleanup.run(done.run, Request(flags=FLAGS))

    said = " ".join(done.out.getvalue().split())
    assert "Made 1 image usage report. Of 1 shared AMI that would go, other accounts use 1 and do not use 0." in said
    assert "do not tell: Batch and Auto Scaling of other accounts; " in said
    assert "Deleted 1 image usage report again." in said


def test_a_report_is_about_everything_and_carries_our_tags(account: World, tmp_path: Path) -> None:
    """All accounts, all types, all versions of templates; the tags say whose it is, and of which run."""
    image = _shared(account)

    _plan(account, tmp_path)

    (call,) = [call for call in account.aws.gate.calls if call.action == "CreateImageUsageReport"]
    asked = call.parameters
    assert asked["ImageId"] == image.id
    assert sorted(value for key, value in asked.items() if key.endswith(".ResourceType")) == [
        "ec2:Instance",
        "ec2:LaunchTemplate",
        "image-usage-report",
        "imagebuilder:ContainerRecipe",
        "imagebuilder:ImageRecipe",
    ]
    assert "10000" in asked.values()
    assert not any(key.startswith("AccountId") for key in asked)
    tags = {
        asked[key]: asked[f"{key.removesuffix('Key')}Value"]
        for key in asked
        if key.startswith("TagSpecification") and key.endswith(".Key")
    }
    assert tags.pop("gpu-ami:run").startswith("cleanup-20")
    # By it a later run knows whether the AMI was shared with the same then.
    assert len(tags.pop("gpu-ami:shared-with")) == 32
    assert tags == {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:family": "gpu-batch"}


@pytest.mark.parametrize("flags", [{"usage_reports": False}, {"include_shared": False, "usage_reports": False}])
def test_without_the_flag_all_is_as_before(account: World, tmp_path: Path, flags: dict[str, bool]) -> None:
    """No report is made, and none is needed."""
    used = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1))
    chosen = Flags(older_than="30d", keep="1", include_shared=flags.get("include_shared", True))

    document = _plan(account, tmp_path, flags=chosen)

    assert _verdicts(document)[used.id][0] == ("delete" if chosen.include_shared else "keep")
    assert "usage_reports" not in document
    assert "usage_reports" not in document["policy"]
    assert not (WRITES | READS) & set(account.calls())


def test_a_public_ami_and_a_public_snapshot_are_asked_about(account: World, tmp_path: Path) -> None:
    """Both go only because of --include-shared."""
    public, snapshot = account.image(300), account.image()
    public.launch_permissions.append({"Group": "all"})
    account.maker.ec2.snapshots[snapshot.snapshot_ids[0]].create_volume_permission_groups.add("all")
    uses_elsewhere(account.maker.ec2)[public.id] = [UseElsewhere(THIRD, "ec2:Instance", 1)]

    document = _plan(account, tmp_path, yes=True, permanent=True)

    assert f"used in account {THIRD}: 1 instance" in _why(document, public)
    assert _verdicts(document)[snapshot.id][0] == "delete"
    assert document["usage_reports"]["made"] == 2
    assert account.there() & {public.id, snapshot.id} == {public.id}
    calls = account.aws.gate.calls
    before = calls[: [call.action for call in calls].index("CreateImageUsageReport")]
    for action in ("DescribeImageReferences", "DescribeImageAttribute"):
        asked = {value for call in before if call.action == action for value in call.parameters.values()}
        assert snapshot.id in asked, "what else needs it is read before a report lets it go"


@pytest.mark.parametrize("name", ["launch-permissions", "public-snapshots"])
def test_sharing_that_the_settings_leave_out_stops_a_run_with_reports(
    account: World, tmp_path: Path, name: str
) -> None:
    """A flag is refused at once; the same name in pipeline.yaml let AMIs go that others use."""
    image = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1))
    options = {"cleanup": Cleanup(skip_sources=(name,))}

    with pytest.raises(UsageError, match=f"{name} finds: take it out of cleanup.skip_sources in pipeline.yaml"):
        _plan(account, tmp_path, options=options, yes=True, permanent=True)

    assert image.id in account.there()
    assert not WRITES & set(account.calls())


@pytest.mark.parametrize(
    "use",
    [lambda here: UseElsewhere(here.account, "ec2:Instance", 3), lambda _: UseElsewhere(OTHER, "ec2:Instance", 0)],
)
def test_neither_own_uses_nor_none_keep_it(account: World, tmp_path: Path, use: Callable[[World], Any]) -> None:
    """What the account itself uses its own sources say, and they are up to date."""
    image = _shared(account, 200, use(account))

    assert _verdicts(_plan(account, tmp_path))[image.id][0] == "delete"


def test_a_report_that_is_not_done_in_time_keeps_the_ami(
    account: World, tmp_path: Path, waits: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and what is not known counts as used; pending or not, the report is deleted."""
    monkeypatch.setattr(local, "PENDING_S", NEVER_S)
    image = _shared(account)

    document = _plan(account, tmp_path, options={"cleanup": Cleanup(usage_report_minutes=3)})

    assert _why(document, image) == (
        "no image usage report within 3 minutes (cleanup.usage_report_minutes in pipeline.yaml)"
    )
    assert document["usage_reports"]["answers"][0]["status"] == "unknown"
    assert 180 <= waits.now < 200
    assert max(waits.naps) <= 10
    assert _reports(account) == {}


def test_a_report_that_failed_keeps_the_ami_with_its_reason(account: World, tmp_path: Path) -> None:
    """EC2's own words."""
    image = _shared(account)

    def fail(_call: Call, _environ: Any) -> None:
        for report in _reports(account).values():
            report.problem = "Internal error"

    account.aws.gate.add(Fault(fail, "DescribeImageUsageReports"))

    assert _why(_plan(account, tmp_path), image) == "its image usage report has the state error: Internal error"
    assert _reports(account) == {}


def _malformed(body: str) -> Callable[[World], object]:
    return lambda here: here.aws.gate.reply(body.encode(), action="DescribeImageUsageReportEntries")


def _entries(rows: str, token: str = "") -> str:
    name = "DescribeImageUsageReportEntriesResponse"
    return f"<{name}><imageUsageReportEntrySet>{rows}</imageUsageReportEntrySet>{token}</{name}>"


ROW = "<item><resourceType>ec2:Instance</resourceType><usageCount>1</usageCount></item>"
FAULTS: dict[str, Callable[[World], object]] = {
    "denied": lambda here: here.aws.gate.deny("ec2:CreateImageUsageReport"),
    "no reports denied": lambda here: here.aws.gate.deny("ec2:DescribeImageUsageReports"),
    "no entries denied": lambda here: here.aws.gate.deny("ec2:DescribeImageUsageReportEntries"),
    "create cut": lambda here: here.aws.gate.cut(action="CreateImageUsageReport"),
    "create 500": lambda here: here.aws.gate.fail("InternalError", action="CreateImageUsageReport", status=500),
    "create malformed": lambda here: here.aws.gate.reply(b"<a/>", action="CreateImageUsageReport"),
    "unsupported": lambda here: here.aws.gate.fail("UnsupportedOperation", action="CreateImageUsageReport"),
    "reports cut": lambda here: here.aws.gate.cut(action="DescribeImageUsageReports"),
    "reports malformed": lambda here: here.aws.gate.reply(b"<a><b>", action="DescribeImageUsageReports"),
    "reports without a list": lambda here: here.aws.gate.reply(b"<a/>", action="DescribeImageUsageReports"),
    "entries cut": lambda here: here.aws.gate.cut(action="DescribeImageUsageReportEntries"),
    "entries 503": lambda here: here.aws.gate.fail("Unavailable", action="DescribeImageUsageReportEntries", status=503),
    "entries malformed": _malformed("<a><b>"),
    "entries without a list": _malformed("<a/>"),
    "entries without an account": _malformed(_entries(ROW)),
    "a repeated token": _malformed(_entries("", "<nextToken>again</nextToken>")),
    "a foreign entry": _malformed(
        _entries(
            "<item><resourceType>ec2:Instance</resourceType><reportId>amiur-1</reportId><usageCount>0</usageCount>"
            f"<accountId>{OTHER}</accountId><imageId>ami-1</imageId></item>"
        )
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_asked_keeps_the_ami(account: World, tmp_path: Path, fault: str) -> None:
    """One shared AMI of which nothing is known stays, with the reason; what is not shared goes all the same."""
    image, unshared = _shared(account), account.image(150)
    FAULTS[fault](account)

    document = _plan(account, tmp_path)

    assert "image usage report" in _why(document, image)
    assert _verdicts(document)[unshared.id][0] == "delete"
    assert document["blocks"] == []
    assert document["usage_reports"]["answers"][0]["status"] == "unknown"


@pytest.mark.parametrize("text", ["************", "", "21098765432", "\uff12" * 12])
def test_an_account_that_is_none_is_not_believed(account: World, tmp_path: Path, text: str) -> None:
    """A masked or cut-off account may be anybody's; nor is a count believed that is less than none."""
    image = _shared(account, 200, UseElsewhere(text, "ec2:Instance", 1))

    assert "makes no sense" in _why(_plan(account, tmp_path), image)


@pytest.mark.parametrize("action", sorted(WRITES | READS))
def test_one_lost_answer_changes_nothing(account: World, tmp_path: Path, action: str) -> None:
    """Networks lose a packet, and AWS throttles: it is asked again, and makes no second report."""
    used, unused = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1)), _shared(account)
    account.aws.gate.cut(action=action, at=1)
    account.aws.gate.fail("RequestLimitExceeded", action=action, at=2, status=503)

    document = _plan(account, tmp_path)

    assert f"used in account {OTHER}" in _why(document, used)
    assert _verdicts(document)[unused.id][0] == "delete"
    assert _reports(account) == {}


def test_a_report_whose_answer_was_lost_is_deleted_too(account: World, tmp_path: Path) -> None:
    """EC2 made it and nobody heard of it: the run's tag finds it."""
    image = _shared(account)
    made: list[str] = []
    create = local.ImageUsageReports.create_image_usage_report

    def lose(self: Any) -> Any:
        answer = create(self)
        made.append(answer.result["ReportId"])
        answer.result["ReportId"] = ""
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local.ImageUsageReports, "create_image_usage_report", lose)
        document = _plan(account, tmp_path)

    assert len(made) == 1
    assert "no image usage report could be made" in _why(document, image)
    assert _reports(account) == {}
    assert document["usage_reports"]["deleted"] == 1


def test_entries_come_in_pages(account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the first page alone deletes what the second one names."""
    monkeypatch.setitem(paging.PAGE_SIZES, "DescribeImageUsageReportEntries", 1)
    monkeypatch.setitem(paging.PAGE_SIZES, "DescribeImageUsageReports", 1)
    images = [_shared(account, 200 + n, UseElsewhere(OTHER, "ec2:Instance", n + 1)) for n in range(3)]

    document = _plan(account, tmp_path)

    assert ["1 instance (" in _why(document, images[0]), "3 instances (" in _why(document, images[2])] == [True, True]


def _left_by_a_killed_run(here: World, image: SandboxAmi, **changed: Any) -> local.Report:
    """Leave a report of ours behind."""
    ec2 = here.access.client("ec2")
    who = sorted(value for entry in image.launch_permissions for value in entry.values())
    mark = hashlib.sha256("\n".join(who).encode()).hexdigest()[:32]
    given = {"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:run": "cleanup-0", "gpu-ami:shared-with": mark}
    tags = [{"Key": key, "Value": value} for key, value in given.items()]
    depth = [{"OptionName": "version-depth", "OptionValues": ["10000"]}]
    others = ("ec2:Instance", "imagebuilder:ImageRecipe", "imagebuilder:ContainerRecipe")
    types = [{"ResourceType": name} for name in others]
    made = ec2.create_image_usage_report(
        ImageId=image.id,
        ResourceTypes=[*types, {"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": depth}],
        TagSpecifications=[{"ResourceType": "image-usage-report", "Tags": tags}],
    )
    report = _reports(here)[made["ReportId"]]
    for name, value in changed.items():
        setattr(report, name, value)
    here.aws.gate.calls.clear()
    return report


def test_a_report_that_a_killed_run_left_is_taken_over(account: World, tmp_path: Path) -> None:
    """It is found, read and deleted; another one is not made."""
    image = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1))
    left = _left_by_a_killed_run(account, image)

    document = _plan(account, tmp_path)

    assert f"used in account {OTHER}" in _why(document, image)
    (answer,) = document["usage_reports"]["answers"]
    assert (answer["report_id"], answer["reused"]) == (left.report_id, True)
    assert {key: document["usage_reports"][key] for key in ("made", "reused", "deleted")} == {
        "made": 0,
        "reused": 1,
        "deleted": 1,
    }
    assert "CreateImageUsageReport" not in account.calls()
    assert _reports(account) == {}


def test_a_report_that_is_older_than_the_sharing_says_nothing(account: World, tmp_path: Path) -> None:
    """Whoever was let in after it was made may use the AMI, and is not in it: another one is made."""
    image = _shared(account, 300)
    left = _left_by_a_killed_run(account, image, ready_at=0.0)
    image.launch_permissions.append({"UserId": "333333333333"})
    uses_elsewhere(account.maker.ec2)[image.id] = [UseElsewhere("333333333333", "ec2:Instance", 7)]

    document = _plan(account, tmp_path)

    assert "used in account 333333333333: 7 instances" in _why(document, image)
    (answer,) = document["usage_reports"]["answers"]
    assert (answer["report_id"] == left.report_id, answer["reused"]) == (False, False)
    assert _reports(account) == {}


def _ago(**span: float) -> datetime:
    """Return when that was, as the local AWS keeps it."""
    return datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(**span)


def _dated(changed: dict[str, Any]) -> dict[str, Any]:
    """Return *changed* with when a report some "hours" old was made: counted now, not while tests are collected."""
    return {"created": _ago(hours=changed["hours"])} if "hours" in changed else changed


def _once(here: World, action: str, at: int, work: Callable[[], object]) -> None:
    """Have *work* done right before the call of *action* with the number *at*."""
    seen: list[int] = []

    def look(_call: Call, _environ: Any) -> None:
        seen.append(1)
        if len(seen) == at:
            work()

    here.aws.gate.add(Fault(look, action))


def _delete(here: World) -> None:
    """Do as another run that ends: delete every report."""
    for report_id in list(_reports(here)):
        del _reports(here)[report_id]


def test_a_report_of_a_run_that_may_be_alive_is_read_and_not_deleted(account: World, tmp_path: Path) -> None:
    """No lock holds two plans off each other, least of all on two machines: whoever made it waits for it."""
    image = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1))
    theirs = _left_by_a_killed_run(account, image, ready_at=NEVER_S)
    _once(account, "DescribeImageUsageReports", 2, lambda: setattr(theirs, "ready_at", 0.0))

    document = _plan(account, tmp_path)

    assert f"used in account {OTHER}" in _why(document, image)
    made = document["usage_reports"]
    assert {key: made[key] for key in ("made", "reused", "deleted", "left")} == {
        "made": 0,
        "reused": 1,
        "deleted": 0,
        "left": [],
    }
    assert made["answers"][0]["reused"] is True
    assert not WRITES & set(account.calls())
    assert set(_reports(account)) == {theirs.report_id}
    assert "Nothing was changed but" not in document["err"]


@pytest.mark.parametrize("is_theirs", [False, True], ids=["its own", "one that was lent"])
def test_a_report_that_another_run_deletes_is_made_anew(
    account: World, tmp_path: Path, waits: Clock, is_theirs: bool
) -> None:
    """The run would wait out its time for a report that is gone, and keep an AMI that nobody uses."""
    image = _shared(account)
    ready: list[int] = []

    def delete() -> None:
        assert len(_reports(account)) == 1
        ready.append(1)
        _delete(account)
        patch.setattr(local, "PENDING_S", 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "PENDING_S", NEVER_S)
        if is_theirs:
            _left_by_a_killed_run(account, image)
        # The first listing looks for other runs' reports; in the last one before this it was there.
        _once(account, "DescribeImageUsageReports", 5, delete)
        document = _plan(account, tmp_path)

    assert ready == [1]
    assert _verdicts(document)[image.id][0] == "delete"
    assert document["usage_reports"]["made"] == (1 if is_theirs else 2)
    assert waits.now < 60
    assert _reports(account) == {}


def test_a_report_that_is_deleted_while_it_is_read_spoils_no_other(account: World, tmp_path: Path) -> None:
    """EC2 refuses to show any of several reports when one of them is gone."""
    used, unused = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1)), _shared(account)

    def delete() -> None:
        reports = _reports(account)
        assert len(reports) == 2
        del reports[next(report.report_id for report in reports.values() if report.image_id == unused.id)]

    _once(account, "DescribeImageUsageReportEntries", 1, delete)

    document = _plan(account, tmp_path)

    assert f"used in account {OTHER}" in _why(document, used)
    assert _verdicts(document)[unused.id][0] == "delete"
    assert document["usage_reports"]["made"] == 3
    assert _reports(account) == {}


def test_what_another_run_has_made_since_is_read(account: World, tmp_path: Path) -> None:
    """It had taken ours over, was killed, and a third run asks already: EC2 would refuse one more report."""
    image = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1))
    theirs: list[local.Report] = []

    def replace() -> None:
        _delete(account)
        theirs.append(_left_by_a_killed_run(account, image, ready_at=NEVER_S))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "PENDING_S", NEVER_S)
        _once(account, "DescribeImageUsageReports", 5, replace)
        _once(account, "DescribeImageUsageReports", 8, lambda: setattr(theirs[0], "ready_at", 0.0))
        document = _plan(account, tmp_path)

    assert f"used in account {OTHER}" in _why(document, image)
    assert document["usage_reports"]["answers"][0]["report_id"] == theirs[0].report_id
    assert set(_reports(account)) == {theirs[0].report_id}


def test_a_report_that_is_lost_again_and_again_ends_with_the_time(
    account: World, tmp_path: Path, waits: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another tool that deletes them all must not keep a run for ever."""
    monkeypatch.setattr(local, "PENDING_S", NEVER_S)
    image = _shared(account)
    seen: list[int] = []

    def look(_call: Call, _environ: Any) -> None:
        seen.append(1)
        if len(seen) % 4 == 0:
            _delete(account)

    account.aws.gate.add(Fault(look, "DescribeImageUsageReports"))

    document = _plan(account, tmp_path, options={"cleanup": Cleanup(usage_report_minutes=3)})

    assert "no image usage report within 3 minutes" in _why(document, image)
    assert 180 <= waits.now < 200
    assert document["usage_reports"]["made"] > 1


@pytest.mark.parametrize(
    "changed",
    [{"hours": 3}, {"types": [{"ResourceType": "ec2:Instance"}]}],
    ids=["too old to read", "of one type"],
)
def test_a_pending_report_that_says_too_little_is_left_to_its_run(
    account: World, tmp_path: Path, changed: dict[str, Any]
) -> None:
    """A run may wait for twelve hours; EC2 makes no second report meanwhile, so the AMI stays."""
    image = _shared(account)
    theirs = _left_by_a_killed_run(account, image, ready_at=NEVER_S, **_dated(changed))

    document = _plan(account, tmp_path, options={"cleanup": Cleanup(usage_report_minutes=2)})

    assert f"another run's, {theirs.report_id}, was pending" in _why(document, image)
    assert set(_reports(account)) == {theirs.report_id}


def test_a_pending_report_that_is_older_than_any_run_makes_room(account: World, tmp_path: Path) -> None:
    """Nobody can be waiting for it, and as long as it is there no other one can be made."""
    image = _shared(account)
    left = _left_by_a_killed_run(account, image, ready_at=NEVER_S, created=_ago(hours=14))

    document = _plan(account, tmp_path)

    assert _verdicts(document)[image.id][0] == "delete"
    assert document["usage_reports"]["made"] == 1
    assert left.report_id not in _reports(account)


@pytest.mark.parametrize(("minutes", "made"), [(15, 1), (720, 0)])
def test_a_left_report_may_be_as_old_as_a_run_may_wait(account: World, tmp_path: Path, minutes: int, made: int) -> None:
    """A run's own report would be believed at that age."""
    image = _shared(account)
    _left_by_a_killed_run(account, image, created=_ago(hours=11))

    document = _plan(account, tmp_path, options={"cleanup": Cleanup(usage_report_minutes=minutes)})

    assert _verdicts(document)[image.id][0] == "delete"
    assert (document["usage_reports"]["made"], document["usage_reports"]["reused"]) == (made, 1 - made)
    assert _reports(account) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"hours": 2},
        {"hours": -2},
        {"accounts": [THIRD]},
        {"types": [{"ResourceType": "ec2:Instance"}]},
        {"problem": "Internal error"},
    ],
    ids=["old", "of the future", "of one account", "of one type", "failed"],
)
def test_a_left_report_that_says_too_little_makes_room_for_another(
    account: World, tmp_path: Path, changed: dict[str, Any]
) -> None:
    """What was launched since an old one, or is of another account or type, is not in it."""
    image = _shared(account)
    left = _left_by_a_killed_run(account, image, **_dated(changed), entries=[])
    uses_elsewhere(account.maker.ec2)[image.id] = [UseElsewhere(OTHER, "ec2:Instance", 1)]

    document = _plan(account, tmp_path)

    assert f"used in account {OTHER}" in _why(document, image)
    assert document["usage_reports"]["made"] == 1
    assert left.report_id not in _reports(account)
    assert _reports(account) == {}


def test_somebody_elses_report_is_left_alone(account: World, tmp_path: Path) -> None:
    """Without our tag it is not ours to delete, nor to read."""
    image = _shared(account)
    theirs = _left_by_a_killed_run(account, image)
    account.maker.ec2.tags[theirs.report_id].clear()

    document = _plan(account, tmp_path)

    assert _verdicts(document)[image.id][0] == "delete"
    assert document["usage_reports"]["made"] == 1
    assert set(_reports(account)) == {theirs.report_id}


def test_no_more_are_pending_than_ec2_takes(account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quota is the account's: others' reports count, and each of ours waits for its turn."""
    monkeypatch.setattr("gpu_ami.aws.usage_reports.MOST_PENDING", 3)
    monkeypatch.setattr(local, "MOST_PENDING", 3)
    busy = _shared(account, 400)
    theirs = _left_by_a_killed_run(account, busy, ready_at=NEVER_S)
    account.maker.ec2.tags[theirs.report_id].clear()
    monkeypatch.setattr(local, "PENDING_S", NEVER_S)
    images = [_shared(account, 200 + n) for n in range(5)]
    pending: list[int] = []

    def look(_call: Call, _environ: Any) -> None:
        reports = _reports(account).values()
        pending.append(sum(report.state == "pending" for report in reports))
        for report in reports:
            report.ready_at = 0.0 if report is not theirs else NEVER_S

    account.aws.gate.add(Fault(look, "DescribeImageUsageReports"))

    document = _plan(account, tmp_path, options={"cleanup": Cleanup(usage_report_minutes=2)})

    assert {image.id for image in images} == {
        key for key, (action, _) in _verdicts(document).items() if action == "delete"
    }
    assert "within 2 minutes" in _why(document, busy)
    assert max(pending) == 3


def test_a_quota_that_stays_full_is_named(account: World, tmp_path: Path) -> None:
    """Nobody would know otherwise that more time does not help."""
    image = _shared(account)
    account.aws.gate.fail("ImageUsageReportLimitExceeded", "Too many are pending", action="CreateImageUsageReport")

    document = _plan(account, tmp_path, options={"cleanup": Cleanup(usage_report_minutes=1)})

    assert "within 1 minute" in _why(document, image)
    assert "Too many are pending" in _why(document, image)


def test_a_full_quota_is_waited_for(account: World, tmp_path: Path) -> None:
    """Somebody else makes reports at the same time: the refusal is no answer about the AMI."""
    image = _shared(account)
    account.aws.gate.fail("ImageUsageReportLimitExceeded", action="CreateImageUsageReport", at=1)

    assert _verdicts(_plan(account, tmp_path))[image.id][0] == "delete"


@pytest.mark.parametrize("number", ENDS)
def test_an_interrupt_deletes_the_reports(
    account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupts: None, number: signal.Signals
) -> None:
    """Ctrl-C, `kill` and a closed terminal while EC2 works: nothing of ours is left."""
    monkeypatch.setattr(local, "PENDING_S", NEVER_S)
    _shared(account, 300)
    _shared(account)
    made: list[int] = []

    def interrupt(_seconds: float) -> None:
        made.append(len(_reports(account)))
        signal.raise_signal(number)

    monkeypatch.setitem(UsageReports.__init__.__kwdefaults__, "sleep", interrupt)  # type: ignore[arg-type]

    with interruptible(), pytest.raises(KeyboardInterrupt):
        _plan(account, tmp_path)

    assert made == [2]
    assert _reports(account) == {}


def test_an_interrupt_while_reports_are_made_deletes_those_too(
    account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way when Ctrl-C comes is made all the same, and must not be forgotten."""
    monkeypatch.setattr(local, "PENDING_S", NEVER_S)
    for n in range(3):
        _shared(account, 200 + n)
    monkeypatch.setattr(UsageReports, "_all", _interrupted(UsageReports._all))

    with pytest.raises(KeyboardInterrupt):
        _plan(account, tmp_path)

    assert account.calls().count("CreateImageUsageReport") == 3
    assert _reports(account) == {}


def _interrupted(work: Callable[..., None]) -> Callable[..., None]:
    def done(*given: Any) -> None:
        work(*given)
        raise KeyboardInterrupt

    return done


def test_what_an_interrupted_run_could_not_delete_is_named(
    account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has to know of it; the next run takes it over."""
    monkeypatch.setattr(local, "PENDING_S", NEVER_S)
    image = _shared(account)

    def interrupt(_seconds: float) -> None:
        account.aws.gate.deny("ec2:DeleteImageUsageReport")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(UsageReports.__init__.__kwdefaults__, "sleep", interrupt)  # type: ignore[arg-type]
        with pytest.raises(InterruptedRunError, match=r"report amiur-\w+ in \S+ of \d+ could not .*takes it over"):
            _plan(account, tmp_path)

    (left,) = _reports(account).values()
    left.ready_at = 0.0
    account.aws.gate.clear()
    document = _plan(account, tmp_path)
    assert _verdicts(document)[image.id][0] == "delete"
    assert document["usage_reports"]["reused"] == 1
    assert _reports(account) == {}


def test_a_report_that_cannot_be_deleted_is_named(account: World, tmp_path: Path) -> None:
    """The plan itself stands: it is what EC2 said."""
    image = _shared(account)
    account.aws.gate.deny("ec2:DeleteImageUsageReport")

    document = _plan(account, tmp_path)

    ((report_id, _),) = _reports(account).items()
    assert [left["report_id"] for left in document["usage_reports"]["left"]] == [report_id]
    assert "DeleteImageUsageReport" in document["usage_reports"]["left"][0]["error"]
    assert _verdicts(document)[image.id][0] == "delete"
    done = task(account, tmp_path, output="table")
    cleanup.run(done.run, Request(flags=FLAGS))
    assert f"could not be deleted: {report_id}" in " ".join(done.out.getvalue().split())


@pytest.mark.parametrize("more", [{}, {"yes": True, "permanent": True}])
def test_a_dry_run_makes_nothing(account: World, tmp_path: Path, more: dict[str, Any]) -> None:
    """It promises so; what would need a report stays, and it is said why."""
    image = _shared(account)

    document = _plan(account, tmp_path, options={"dry_run": True}, **more)

    assert "--dry-run makes none" in _why(document, image)
    assert document["usage_reports"]["made"] == 0
    assert not (WRITES | READS) & set(account.calls())
    done = task(account, tmp_path, output="table", dry_run=True)
    cleanup.run(done.run, Request(flags=FLAGS))
    assert "as --dry-run makes none: 1 shared AMI stay for that" in " ".join(done.out.getvalue().split())


def test_a_plan_with_reports_changes_nothing_in_another_account(account: World, tmp_path: Path) -> None:
    """Making a report is a change: the settings' account is held to before it."""
    _shared(account)

    with pytest.raises(SafetyError, match="999999999999"):
        _plan(account, tmp_path, options={"account": "999999999999"})

    assert "CreateImageUsageReport" not in account.calls()


def test_with_yes_the_unused_go_and_the_used_stay(account: World, tmp_path: Path) -> None:
    """The whole way."""
    used, unused = _shared(account, 300, UseElsewhere(OTHER, "ec2:Instance", 1)), _shared(account)

    document = _plan(account, tmp_path, yes=True, permanent=True)

    assert unused.id not in account.there()
    assert used.id in account.there()
    assert [(result["image_id"], result["status"]) for result in document["results"]] == [(unused.id, "deleted")]


def test_what_is_shared_with_more_accounts_since_its_report_stays(
    account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were not able to use it when the report was made."""
    monkeypatch.setattr("gpu_ami.cleanup.recheck._FRESH_S", -1.0)
    image = _shared(account)

    def share(_call: Call, _environ: Any) -> None:
        if {"UserId": THIRD} not in image.launch_permissions:
            image.launch_permissions.append({"UserId": THIRD})

    account.aws.gate.add(Fault(share, "DeleteImageUsageReport"))

    document = _plan(account, tmp_path, yes=True, permanent=True)

    assert image.id in account.there()
    assert f"needed since the plan: shared with {THIRD}, {OTHER}" in document["results"][0]["error"]


def test_what_is_shared_since_the_plan_without_a_report_stays(
    account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was asked about it, as it was not shared then."""
    monkeypatch.setattr("gpu_ami.cleanup.recheck._FRESH_S", -1.0)
    _shared(account, 300)
    image = account.image()

    def share(_call: Call, _environ: Any) -> None:
        image.launch_permissions[:] = [{"UserId": THIRD}]

    account.aws.gate.add(Fault(share, "DeleteImageUsageReport"))

    _plan(account, tmp_path, yes=True, permanent=True)

    assert image.id in account.there()


def test_carrying_a_plan_out_asks_again(account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day may lie between the two; and only what the plan names is asked about."""
    monkeypatch.chdir(tmp_path)
    stays, goes = _shared(account, 300), _shared(account)
    _plan(account, tmp_path, plan="plan.json")
    later = _shared(account, 250)
    uses_elsewhere(account.maker.ec2)[stays.id].append(UseElsewhere(OTHER, "ec2:Instance", 1))
    account.aws.gate.calls.clear()

    document = _plan(account, tmp_path, flags=Flags(), apply="plan.json", permanent=True)

    assert account.there() & {stays.id, goes.id, later.id} == {stays.id, later.id}
    assert f"used in account {OTHER}: 1 instance" in _why(document, stays)
    assert "the plan that is carried out does not name it" in _why(document, later)
    asked = [call for call in account.aws.gate.calls if call.action == "CreateImageUsageReport"]
    assert {call.parameters["ImageId"] for call in asked} == {stays.id, goes.id}
    assert _reports(account) == {}


def test_a_plan_file_that_was_edited_makes_no_other_policy(account: World, tmp_path: Path) -> None:
    """Reports without --include-shared are what no flags could say."""
    path = tmp_path / "plan.json"
    _plan(account, tmp_path, plan=str(path))
    raw = json.loads(path.read_text())
    assert raw["policy"]["usage_reports"] is True
    for change, why in (
        ({"include_shared": False}, "add --include-shared"),
        ({"skip_sources": ["launch-permissions"]}, "take it out of the plan's skip_sources"),
    ):
        path.write_text(json.dumps(raw | {"policy": raw["policy"] | change}))

        with pytest.raises(UsageError, match=f"is not a clean-up plan that flags could make .*{why}"):
            _plan(account, tmp_path, flags=Flags(), apply=str(path))


def test_of_a_limited_run_a_batch_is_asked_after_the_other(
    account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports are made for the oldest, until as many as may go were found."""
    monkeypatch.setattr("gpu_ami.cleanup.planner._AT_ONCE", 2)
    used = _shared(account, 400, UseElsewhere(OTHER, "ec2:Instance", 1))
    first, *others = [_shared(account, 300 - n) for n in range(4)]
    flags = Flags(older_than="30d", keep="1", include_shared=True, usage_reports=True, max_deletions="1")

    document = _plan(account, tmp_path, flags=flags)

    assert {key for key, (action, _) in _verdicts(document).items() if action == "delete"} == {first.id}
    assert f"used in account {OTHER}" in _why(document, used)
    assert {_why(document, image) for image in others} == {
        "shared, and nobody was asked who uses it: enough others go in this run"
    }
    assert document["usage_reports"]["made"] == 2


def test_a_limited_run_ends_when_the_time_is_up(
    account: World, tmp_path: Path, waits: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each AMI after the first would wait as long again."""
    monkeypatch.setattr(local, "PENDING_S", NEVER_S)
    for n in range(4):
        _shared(account, 300 - n)
    flags = Flags(older_than="30d", keep="1", include_shared=True, usage_reports=True, max_deletions="1")

    document = _plan(account, tmp_path, flags=flags, options={"cleanup": Cleanup(usage_report_minutes=5)})

    assert document["totals"]["delete"] == 0
    assert waits.now < 330
    assert account.calls().count("CreateImageUsageReport") == 4


def test_a_limited_run_gets_past_the_oldest_that_are_in_use(
    account: World, tmp_path: Path, waits: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 takes minutes for a report: one after the other, the time was up before the first unused AMI, every day."""
    made: dict[str, float] = {}

    def state(report: local.Report) -> str:
        return "available" if waits.now - made.setdefault(report.report_id, waits.now) >= 120 else "pending"

    monkeypatch.setattr(local.Report, "state", property(state))
    for n in range(9):
        _shared(account, 400 - n, UseElsewhere(OTHER, "ec2:Instance", 1))
    unused = _shared(account, 300)
    flags = Flags(older_than="30d", keep="1", include_shared=True, usage_reports=True, max_deletions="1")

    document = _plan(account, tmp_path, flags=flags, options={"cleanup": Cleanup(usage_report_minutes=15)})

    assert [key for key, (action, _) in _verdicts(document).items() if action == "delete"] == [unused.id]


def test_nothing_is_made_where_nothing_could_go(account: World, tmp_path: Path) -> None:
    """A source that failed keeps everything: a report would be for nothing."""
    _shared(account)
    account.aws.gate.deny("batch:DescribeComputeEnvironments")
    done = task(account, tmp_path)

    with pytest.raises(SafetyError):
        cleanup.run(done.run, Request(flags=FLAGS))

    assert not (WRITES | READS) & set(account.calls())
    assert done.document["usage_reports"]["made"] == 0


@pytest.mark.parametrize(("mode", "made"), [("deprecate", 1), ("disable", 0)])
def test_modes(account: World, tmp_path: Path, mode: str, made: int) -> None:
    """Disabling takes the permissions away for good, so a shared AMI stays whatever a report says."""
    image = _shared(account)
    flags = Flags(older_than="30d", keep="1", include_shared=True, usage_reports=True, mode=mode)

    document = _plan(account, tmp_path, flags=flags)

    assert document["usage_reports"]["made"] == made
    assert _verdicts(document)[image.id][0] == (mode if made else "keep")


def test_every_region_is_asked(account: World, tmp_path: Path) -> None:
    """A report is of its region; each has a quota of its own."""
    elsewhere = other_region(account)
    elsewhere.image(1)
    image = elsewhere.image(200)
    image.launch_permissions.append({"UserId": OTHER})
    uses_elsewhere(elsewhere.ec2)[image.id] = [UseElsewhere(OTHER, "ec2:Instance", 1)]
    here = _shared(account)

    document = _plan(account, tmp_path, regions=("ap-northeast-2", OTHER_REGION))

    assert f"used in account {OTHER}" in _why(document, image)
    assert _verdicts(document)[here.id][0] == "delete"
    assert local.usage_reports(elsewhere.ec2) == {}


def test_progress_is_told(account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes without a word look like a hang."""
    told: list[str] = []
    monkeypatch.setattr("gpu_ami.console.Step.__call__", lambda _step, note: told.append(note))
    _shared(account)
    _shared(account, 300)

    _plan(account, tmp_path)

    assert told[0] == "0 of 2 image usage reports"
    assert told[-1] == "2 of 2 image usage reports"
