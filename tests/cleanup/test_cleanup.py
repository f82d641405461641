"""`invoke cleanup` as a whole: plan, refuse, act, save, carry out a saved plan."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
import os
import re
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.cleanup import Request
from gpu_ami.cleanup.execute import Apply
from gpu_ami.cleanup.journal import Journal, new_path, read, unfinished
from gpu_ami.cleanup.journal_events import Begin, End, ImageRecord, Unknown, Will
from gpu_ami.cleanup.policy import LOCAL_SOURCES, Flags
from gpu_ami.errors import AwsError, InterruptedRunError, PartialError, SafetyError, UsageError
from gpu_ami.process import interruptible
from gpu_ami.settings import Cleanup
from gpu_ami.streams import Results
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.demo.uses import USES
from tests.support.account import OTHER_REGION, REGION, SNAPSHOT_CLAIMS, Task, World, other_region, task
from tests.support.interrupts import ENDS, interrupts
from tests.support.schemas import problems

__all__ = ["interrupts"]
FLAGS = Flags(older_than="30d", keep="1")


@pytest.fixture
def unused(here: World) -> SandboxAmi:
    """An AMI that nothing needs, in an account that is in use."""
    here.newest()
    here.in_use()
    return here.image()


def _terraform(folder: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> Path:
    """Put a program that prints *state* in Terraform's place."""
    program = folder / "terraform-emulated"
    program.write_text(f"#!/bin/sh\necho '{state}'\n")
    program.chmod(0o755)
    found = SimpleNamespace(terraform=SimpleNamespace(path=program), provider_mirror=None)
    monkeypatch.setattr("gpu_ami.tools.terraform_tools", lambda: found)
    return program


def _clean(here: World, root: Path, *, task_options: dict[str, Any] | None = None, **request: Any) -> Task:
    done = task(here, root, **(task_options or {}))
    cleanup.run(done.run, Request(**({"flags": FLAGS} | request)))
    return done


def test_a_role_that_lacks_much_is_told_once(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """After an upgrade that reads more: one line with all actions, and pipeline.yaml takes what may be left out."""
    here.aws.gate.deny("autoscaling:DescribeLaunchConfigurations", "imagebuilder:*", "ec2:DescribeFleets")

    with pytest.raises(SafetyError) as told:
        _clean(here, tmp_path, yes=True, permanent=True)

    assert unused.id in here.there()
    assert str(told.value).startswith("Everything is kept: 3 sources in ")
    denied = "autoscaling:DescribeLaunchConfigurations, ec2:DescribeFleets, imagebuilder:ListImageRecipes"
    assert f"may not do {denied} (an explicit deny is among them). " in str(told.value)
    names = str(told.value).rpartition("skip_sources in pipeline.yaml, of ")[2].split(", ")
    assert names == ["fleets", "image-builder", "launch-configurations"]

    options = {"cleanup": Cleanup(skip_sources=tuple(names))}
    done = _clean(here, tmp_path, task_options=options, yes=True, permanent=True)

    assert unused.id not in here.there()
    assert {s["name"] for s in done.document["sources"] if s["status"] == "skipped"} >= set(names)


def test_another_family_s_plan_is_not_carried_out(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Who names a family does not mean that other one's AMIs to go; a plan by name or tag is no family's."""
    file = tmp_path / "plan.json"
    _clean(here, tmp_path, plan=str(file))
    done = task(here, tmp_path)
    done.run.family = "training"
    request = Request(flags=Flags(), apply=str(file), permanent=True)

    with pytest.raises(SafetyError, match="is the plan of the family gpu-batch, not of training: name that"):
        cleanup.run(done.run, request)
    assert unused.id in here.there()

    _clean(here, tmp_path, plan=str(file), flags=dataclasses.replace(FLAGS, name="*"))
    cleanup.run(done.run, request)
    assert unused.id not in here.there()


def test_without_yes_nothing_changes(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """The plan is shown, with what to do next."""
    done = _clean(here, tmp_path)

    assert unused.id in here.there()
    assert done.document["applied"] is False
    assert "Add --yes" in done.err.getvalue()
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("is_shared", "status", "said"), [(True, "skipped", True), (False, "ok", False)])
def test_a_sandbox_has_no_files_elsewhere(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: Any, is_shared: bool, status: str, said: bool
) -> None:
    """A newcomer would wonder what the workflows are that were skipped; there are none, and that is known."""
    monkeypatch.setattr("gpu_ami.target.Aws.is_shared", is_shared)

    found = {source["name"]: source["status"] for source in _clean(here, tmp_path).document["sources"]}
    shown = _clean(here, tmp_path, task_options={"output": "table"}).out.getvalue()

    assert {found[name] for name in LOCAL_SOURCES} == {status}
    assert ("workflows" in shown) is said


def test_what_may_not_be_looked_up_of_the_way_back_is_no_way_back(
    here: World, tmp_path: Path, unused: SandboxAmi
) -> None:
    """Without the snapshots and the Recycle Bin's rules nobody knows that anything can be brought back."""
    here.keep_deleted()
    here.aws.gate.deny("ec2:DescribeSnapshots")
    here.aws.gate.deny("rbin:ListRules")

    flags = dataclasses.replace(FLAGS, skip_source=("public-snapshots",))
    with pytest.raises(SafetyError, match="--permanent"):
        _clean(here, tmp_path, yes=True, flags=flags)

    assert unused.id in here.there()


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        (Flags(name="web [v1]-*"), ""),
        (Flags(name="web-*", tag=("team=x",)), "--name 'web-*' with --tag team=x matches no AMI of 3 AMIs"),
        (Flags(tag=("team=x",)), "--tag team=x matches no AMI of 3 AMIs"),
        (FLAGS, ""),
    ],
)
def test_a_scope_without_an_ami_is_said(
    here: World, tmp_path: Path, unused: SandboxAmi, flags: Flags, warned: str
) -> None:
    """A slip in a pattern reads like an account in which nothing is left to do; brackets in a name are themselves."""
    unused.name = "web [v1]-2"

    said = _clean(here, tmp_path, flags=flags).err.getvalue()

    assert (warned in said, "matches no AMI" in said) == (True, bool(warned))


@pytest.mark.parametrize(
    ("request_", "dry_run", "advice"),
    [
        ({}, False, "Nothing was changed. Add --yes to delete 1 AMI."),
        ({}, True, "Nothing was changed. Leave out --dry-run and add --yes to delete 1 AMI."),
        ({"yes": True}, True, "Nothing was changed. Leave out --dry-run to delete 1 AMI."),
        (
            {"plan": "a plan.json"},
            False,
            "Nothing was changed. Run `invoke cleanup --apply 'a plan.json'` to delete 1 AMI.",
        ),
    ],
)
def test_a_plan_ends_with_one_advice(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: Any, request_: Any, dry_run: bool, advice: str
) -> None:
    """And with one that works: what the next command needs is in it, and nothing that another line takes back."""
    monkeypatch.chdir(tmp_path)
    here.keep_deleted()

    said = _clean(here, tmp_path, task_options={"dry_run": dry_run}, **request_).err.getvalue().splitlines()

    assert said[-1] == advice
    assert sum("--yes" in line or "--apply" in line for line in said) == (0 if request_.get("yes") else 1)
    assert ("Wrote a plan.json." in said) is ("plan" in request_)


@pytest.mark.parametrize(
    ("request_", "advice"),
    [
        ({}, "Add --yes --permanent to delete 1 AMI."),
        ({"yes": True}, "Leave out --dry-run and add --permanent to delete 1 AMI."),
        ({"yes": True, "permanent": True}, "Leave out --dry-run to delete 1 AMI."),
        ({"plan": "p"}, "Run `invoke cleanup --apply p --permanent` to delete 1 AMI."),
    ],
)
def test_an_advice_says_that_there_is_no_way_back(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: Any, request_: Any, advice: str
) -> None:
    """`--yes` alone would be refused, half a minute later."""
    monkeypatch.chdir(tmp_path)

    done = _clean(here, tmp_path, task_options={"dry_run": bool(request_.get("yes"))}, **request_)

    assert done.err.getvalue().splitlines()[-1] == f"Nothing was changed. {advice}"


def test_a_plan_that_cannot_be_carried_out_advises_nothing(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """`--apply` would refuse a blocked plan, and an empty one does nothing."""
    USES["parameter_ami_id"](here.maker, unused)
    file = str(tmp_path / "plan.json")
    assert _clean(here, tmp_path, plan=file).err.getvalue().splitlines()[-1] == f"Wrote {file}."

    here.image()
    here.aws.gate.deny("batch:*")
    done = task(here, tmp_path)
    with pytest.raises(SafetyError):
        cleanup.run(done.run, Request(flags=FLAGS, plan=file))
    assert "--apply" not in done.err.getvalue()


def test_the_document_is_the_contract(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Scripts read these keys."""
    here.keep_deleted()
    document = _clean(here, tmp_path).document

    assert {"account", "regions", "policy", "sources", "verdicts", "totals", "applied", "results", "journal"} <= set(
        document
    )
    assert set(document["sources"][0]) >= {"name", "region", "status", "calls", "references", "error"}
    verdict = next(v for v in document["verdicts"] if v["image_id"] == unused.id)
    assert set(verdict) >= {"region", "name", "family", "created", "last_launched", "gib", "action", "reasons"}
    assert (verdict["action"], verdict["gib"]) == ("delete", 28.0)
    assert document["totals"] | {"delete": 1, "keep": 2, "gib": 28.0, "usd_per_month": 1.4} == document["totals"]
    assert verdict["recoverable_until"] is not None


def test_a_last_check_that_fails_is_exit_8(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept everything and ended with 0: a job that could not look read like one that had nothing to do."""
    images = Apply.images

    def denied(self: Apply, verdicts: Any) -> Any:
        here.aws.gate.deny("batch:*")
        return images(self, verdicts)

    monkeypatch.setattr(Apply, "images", denied)
    with pytest.raises(SafetyError, match=r"^Everything is kept: the check right before found: batch") as caught:
        _clean(here, tmp_path, yes=True, permanent=True)

    assert caught.value.exit_code == 8
    assert unused.id in here.there()


def test_what_cannot_come_back_needs_to_be_said(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Without Recycle Bin rules a deletion is for good: --yes alone does not do it."""
    with pytest.raises(SafetyError, match="--permanent"):
        _clean(here, tmp_path, yes=True)
    assert unused.id in here.there()

    done = _clean(here, tmp_path, yes=True, permanent=True)

    assert unused.id not in here.there()
    assert done.document["applied"] is True
    assert done.document["results"][0]["status"] == "deleted"


@pytest.mark.parametrize("kind", ["EC2_IMAGE", "EBS_SNAPSHOT"])
def test_a_rule_for_one_of_the_two_is_not_enough(here: World, tmp_path: Path, unused: SandboxAmi, kind: str) -> None:
    """An AMI without its snapshots, or the other way round, does not come back."""
    here.keep_deleted()
    from gpu_ami_sandbox.aws.ec2.recycle_bin import recycle_bin

    rules = recycle_bin(here.maker.ec2).rules
    for key in [key for key, rule in rules.items() if rule["ResourceType"] == kind]:
        del rules[key]

    with pytest.raises(SafetyError, match="--permanent"):
        _clean(here, tmp_path, yes=True)


def test_disabling_needs_no_recycle_bin(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """It can be undone anyway."""
    _clean(here, tmp_path, yes=True, flags=Flags(older_than="30d", keep="1", mode="disable"))

    assert unused.state == "disabled"


def test_a_blocked_plan_is_shown_and_refused(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """The reader sees which source failed; a script sees exit code 8."""
    here.aws.gate.deny("batch:*")
    done = task(here, tmp_path)

    with pytest.raises(SafetyError, match="batch"):
        cleanup.run(done.run, Request(flags=FLAGS, yes=True, permanent=True))

    assert done.document["blocks"]
    assert {v["action"] for v in done.document["verdicts"]} == {"keep"}
    assert unused.id in here.there()


def test_no_candidates_without_permission(here: World, tmp_path: Path) -> None:
    """Nothing can even be planned: that is AWS refusing, exit code 4."""
    here.aws.gate.deny("ec2:DescribeImages")

    with pytest.raises(AwsError, match="DescribeImages"):
        _clean(here, tmp_path)


def test_a_quiet_account_is_refused(here: World, tmp_path: Path) -> None:
    """Nothing needs any AMI: wrong account, or blind credentials."""
    here.newest()
    image = here.image()
    with pytest.raises(SafetyError, match="--allow-no-references"):
        _clean(here, tmp_path)

    believed = Flags(older_than="30d", keep="1", allow_no_references=True)
    assert image.id in [
        v["image_id"] for v in _clean(here, tmp_path, flags=believed).document["verdicts"] if v["action"] == "delete"
    ]


def test_in_a_quiet_account_no_orphan_goes(here: World, tmp_path: Path) -> None:
    """A launch template that nobody could see may attach it: neither at once nor by a plan of better days."""
    here.newest()
    orphan = here.image(100)
    (snapshot,) = orphan.snapshot_ids
    here.maker.ec2.deregister_image(orphan.id)
    used = here.in_use()
    plan = tmp_path / "plan.json"
    _clean(here, tmp_path, orphans=True, plan=str(plan))
    assert snapshot in plan.read_text()
    here.access.client("ssm").delete_parameter(Name="/in/use")
    here.maker.ec2.amis.pop(used.id)

    for request in ({"orphans": True, "yes": True}, {"apply": str(plan), "flags": Flags()}):
        with pytest.raises(SafetyError, match="--allow-no-references"):
            _clean(here, tmp_path, permanent=True, **request)
    assert snapshot in here.snapshots_there()


def test_in_a_quiet_account_a_killed_run_is_not_finished(here: World, tmp_path: Path) -> None:
    """Its snapshots would go although nobody sees what needs them; that no AMI would go changes nothing."""
    here.newest()
    image = here.image()
    (seen,) = [verdict.image for verdict in here.plan().decision.verdicts if verdict.image.image_id == image.id]
    journal = Journal(new_path(task(here, tmp_path).run.workspace.logs, here.now))
    journal.write(Begin(account=here.account))
    journal.write(Will(mode="delete", image=ImageRecord.of(seen), permissions=(), snapshots=()))
    journal.close()
    here.maker.ec2.deregister_image(image.id)
    (snapshot,) = image.snapshot_ids

    done = task(here, tmp_path)
    with pytest.raises(SafetyError, match=f"{journal.path.name} of a killed run .*--allow-no-references"):
        cleanup.run(done.run, Request(flags=FLAGS, yes=True, permanent=True))
    assert journal.path.name in done.document["blocks"][0]
    assert snapshot in here.snapshots_there()

    believed = Flags(older_than="30d", keep="1", allow_no_references=True)
    _clean(here, tmp_path, yes=True, permanent=True, flags=believed)
    assert snapshot not in here.snapshots_there()


@pytest.mark.parametrize("what", ["examples in files", "other people's AMIs"])
def test_what_shows_no_use_of_an_own_ami_breaks_no_silence(here: World, tmp_path: Path, what: str) -> None:
    """This repository's own tests name AMIs, and every account has instances on Amazon's: the refusal must stay."""
    here.newest()
    image = here.image()
    if what == "examples in files":
        (tmp_path / "main.tftest.hcl").write_text('image_id = "ami-0123456789abcdef0"\n')
    else:
        here.maker.parameter("/base", here.maker.filler())

    with pytest.raises(SafetyError, match="--allow-no-references"):
        _clean(here, tmp_path, yes=True, permanent=True)
    assert image.id in here.there()


@pytest.mark.parametrize("name", ["x.auto.tfvars", "receipts/1.json"])
def test_a_file_written_since_the_plan_protects_what_it_names(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A hand-over can come between the query and the act: it takes minutes in a large account."""

    def meanwhile(*given: Any) -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'ami = "{unused.id}"')
        return new_path(*given)

    monkeypatch.setattr("gpu_ami.cleanup.carry_out.new_path", meanwhile)
    done = _clean(here, tmp_path, yes=True, permanent=True)

    assert unused.id in here.there()
    assert name in done.document["results"][0]["error"]


def test_the_plan_is_the_same_with_fifty_archived_builds(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """What was built once is no reason to keep it: the archive outlives its AMI."""

    def plan() -> dict[str, Any]:
        found = _clean(here, tmp_path).document
        # Sources are queried side by side: which ends first, and after how long, says nothing.
        sources = {(one["name"], one["region"]): (one["status"], one["references"]) for one in found["sources"]}
        return {**found, "made_at": None, "sources": sources}

    before = plan()
    for number in range(50):
        ami = unused.id if number == 0 else f"ami-{number:017x}"
        folder = tmp_path / "packer" / "builds" / ami
        folder.mkdir(parents=True)
        for name in ("release.json", "build.json"):
            (folder / name).write_text(json.dumps({"ami": ami, "source_ami": {"id": unused.id}}))

    assert before["totals"]["delete"] == 1
    assert plan() == before


def test_a_wrong_clock_is_noticed(here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: Any) -> None:
    """Two years ahead, every AMI seems old enough."""
    ahead = SimpleNamespace(now=lambda zone: datetime.now(zone) + timedelta(days=700))
    monkeypatch.setattr("gpu_ami.cleanup.cleanup.datetime", ahead)

    with pytest.raises(SafetyError, match="set the clock"):
        _clean(here, tmp_path, yes=True, permanent=True)
    assert unused.id in here.there()


def test_the_wrong_account_is_never_changed(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """pipeline.yaml names the account; a plan alone may be read."""
    settings = {"account": "999999999999"}
    with pytest.raises(SafetyError, match="999999999999"):
        _clean(here, tmp_path, yes=True, permanent=True, task_options=settings)

    assert _clean(here, tmp_path, task_options=settings).document["totals"]["delete"] == 1
    assert unused.id in here.there()


def test_a_dry_run_beats_yes(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """`invoke --dry cleanup --yes` changes nothing."""
    _clean(here, tmp_path, yes=True, permanent=True, task_options={"dry_run": True})

    assert unused.id in here.there()


def test_keep_zero_is_warned_about(here: World, tmp_path: Path) -> None:
    """Then not even the newest AMI of a family stays."""
    here.in_use()
    newest = here.image(40)

    done = _clean(here, tmp_path, flags=Flags(older_than="30d", keep="0"))

    assert "--keep 0" in done.err.getvalue()
    assert [v["action"] for v in done.document["verdicts"] if v["image_id"] == newest.id] == ["delete"]


def test_a_saved_plan_is_carried_out_as_shown(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Reviewed today, carried out by somebody else: not one AMI more."""
    file = tmp_path / "plan.json"
    _clean(here, tmp_path, plan=str(file))
    later = here.image(300)

    done = _clean(here, tmp_path, flags=Flags(), apply=str(file), permanent=True)

    assert (unused.id in here.there(), later.id in here.there()) == (False, True)
    assert [result["image_id"] for result in done.document["results"]] == [unused.id]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_saved_plan_announces_what_it_names(
    here: World, tmp_path: Path, unused: SandboxAmi, *, dry_run: bool
) -> None:
    """Three AMIs could go by now, one was approved: tables and totals are of that one, before and after."""
    here.keep_deleted()
    file = tmp_path / "plan.json"
    _clean(here, tmp_path, plan=str(file))
    later = [here.image(300), here.image(310)]

    def carried_out(output: str, **more: Any) -> Task:
        return _clean(here, tmp_path, flags=Flags(), apply=str(file), task_options={"output": output, **more})

    document = carried_out("json", dry_run=True).document
    assert problems("cleanup", document) == []
    assert (document["totals"]["delete"], document["totals"]["gib"]) == (1, 28.0)
    assert {v["image_id"] for v in document["verdicts"] if v["action"] == "delete"} == {unused.id}
    text = carried_out("table", dry_run=dry_run).out.getvalue()

    said = "1 AMI to delete, of 1 in " if dry_run else "1 AMI deleted.\nSaves at most 28.0 GiB"
    assert " ".join(text.split()).startswith(" ".join(said.split()))
    assert unused.id in text
    assert not any(image.id in text for image in later)
    assert (unused.id in here.there()) is dry_run


def test_a_saved_plan_is_not_held_up_by_what_it_does_not_name(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """The approved AMI can come back; one that could go by now, too, could not, and is left alone."""
    here.keep_deleted()
    file = tmp_path / "plan.json"
    _clean(here, tmp_path, plan=str(file))
    lost = here.image(300)
    lost.root_device_type = "instance-store"

    done = _clean(here, tmp_path, flags=Flags(), apply=str(file))

    assert [result["image_id"] for result in done.document["results"]] == [unused.id]
    assert lost.id in here.there()


def test_a_saved_plan_gives_way_to_what_is_true_now(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """An AMI that is used since the plan was saved stays."""
    file = tmp_path / "plan.json"
    _clean(here, tmp_path, plan=str(file))
    USES["batch_image_id"](here.maker, unused)

    done = _clean(here, tmp_path, flags=Flags(), apply=str(file), permanent=True)

    assert unused.id in here.there()
    assert done.document["results"] == []


@pytest.mark.parametrize("where", ["flag", "settings"])
def test_a_saved_plan_remembers_the_other_accounts(here: World, tmp_path: Path, unused: SandboxAmi, where: str) -> None:
    """It may be carried out where nobody typed --account; an AMI that such an account uses by now stays."""
    from moto.ssm.models import ssm_backends

    role, file = "arn:aws:iam::210987654321:role/reader", tmp_path / "plan.json"
    if where == "flag":
        _clean(here, tmp_path, plan=str(file), accounts=(role,))
    else:
        _clean(here, tmp_path, plan=str(file), task_options={"cleanup": Cleanup(accounts=(role,))})
    assert json.loads(file.read_text())["roles"] == [role]
    theirs = ssm_backends["210987654321"][REGION]
    theirs.put_parameter("/our/image", "", unused.id, "String", "", "", True, [], "text", None, None)

    done = _clean(here, tmp_path, flags=Flags(), apply=str(file), permanent=True)

    assert unused.id in here.there()
    assert "210987654321" in {source["account"] for source in done.document["sources"]}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"account": "999999999999"}, SafetyError, "999999999999"),
        ({"made_at": "2020-01-01T00:00:00Z"}, SafetyError, "more than a day"),
        ({"made_at": "2999-01-01T00:00:00Z"}, SafetyError, "still to come"),
        ({"made_at": "soon"}, UsageError, "not a clean-up plan"),
        ({"regions": ["xx"]}, UsageError, "not a clean-up plan"),
        ({"regions": [1]}, UsageError, "not a clean-up plan"),
        ({"blocks": ["batch failed"]}, SafetyError, "blocked"),
        ({"format": "other"}, UsageError, "not a clean-up plan"),
        ({"policy": {"mode": "explode"}}, UsageError, "not a clean-up plan"),
        ({"verdicts": 3}, UsageError, "not a clean-up plan"),
        ({"roles": None}, UsageError, "not a clean-up plan"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(
    here: World, tmp_path: Path, unused: SandboxAmi, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Stale, foreign, blocked or no plan at all."""
    file = tmp_path / "plan.json"
    _clean(here, tmp_path, plan=str(file))
    file.write_text(json.dumps(json.loads(file.read_text()) | change))

    with pytest.raises(error, match=message):
        _clean(here, tmp_path, flags=Flags(), apply=str(file), permanent=True)
    assert unused.id in here.there()


@pytest.mark.parametrize(
    "given",
    [
        {"apply": "p", "plan": "q"},
        {"apply": "p", "flags": FLAGS},
        {"apply": "p", "regions": (REGION,)},
        {"apply": "p", "accounts": ("arn:aws:iam::210987654321:role/reader",)},
        {"restore": "j", "yes": True},
    ],
)
def test_flags_that_contradict_each_other_are_refused(here: World, tmp_path: Path, given: dict[str, Any]) -> None:
    """Each would promise something that is not done."""
    with pytest.raises(UsageError, match="leave out the other flags"):
        cleanup.run(task(here, tmp_path).run, Request(**given))


@pytest.mark.parametrize("change", [{"skip_sources": ["batch"]}, {"keep": -100}, {"older_than_s": -(10**6)}], ids=str)
def test_a_plan_whose_policy_was_edited_is_refused(
    here: World, tmp_path: Path, unused: SandboxAmi, change: dict[str, Any]
) -> None:
    """A file must not do what a flag may not: here, delete an AMI that Batch uses by now, or one among the newest."""
    file = tmp_path / "plan.json"
    _clean(here, tmp_path, plan=str(file))
    USES["batch_image_id"](here.maker, unused)
    plan = json.loads(file.read_text())
    verdicts = [verdict | {"action": "delete"} for verdict in plan["verdicts"]]
    file.write_text(json.dumps(plan | {"policy": plan["policy"] | change, "verdicts": verdicts}))
    before = here.there()

    with pytest.raises(UsageError, match="is not a clean-up plan"):
        _clean(here, tmp_path, flags=Flags(), apply=str(file), permanent=True)
    assert here.there() == before


def test_a_file_that_is_no_plan_is_refused(here: World, tmp_path: Path) -> None:
    """An empty file, a page, another JSON."""
    (tmp_path / "p").write_text("<html>")

    with pytest.raises(UsageError, match="not a clean-up plan"):
        _clean(here, tmp_path, flags=Flags(), apply=str(tmp_path / "p"))


@pytest.mark.parametrize("text", ['{"format": "gpu-ami-cleanup-plan-3"}', '{"format": "gpu-ami-cleanup-plan-"}'])
def test_a_plan_of_another_format_is_refused(here: World, tmp_path: Path, text: str) -> None:
    """Its members may mean something else; a new plan costs a minute."""
    (tmp_path / "p").write_text(text)

    with pytest.raises(UsageError, match="this version reads gpu-ami-cleanup-plan-1: make a new one"):
        _clean(here, tmp_path, flags=Flags(), apply=str(tmp_path / "p"))


def test_failures_end_with_seven(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Finished, but some of it failed: listed, and the exit code tells."""
    here.aws.gate.fail("OperationNotPermitted", "It is protected.", action="DeregisterImage")
    done = task(here, tmp_path)

    with pytest.raises(PartialError, match="OperationNotPermitted"):
        cleanup.run(done.run, Request(flags=FLAGS, yes=True, permanent=True))

    assert done.document["results"][0]["status"] == "failed"


def test_two_runs_at_once_are_one_too_many(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """The second would finish what the first has only begun."""
    (tmp_path / "logs").mkdir()
    with FileLock(tmp_path / "logs" / "cleanup.lock"), pytest.raises(SafetyError, match="under way"):
        _clean(here, tmp_path, yes=True, permanent=True)
    assert unused.id in here.there()


def test_the_next_run_finishes_a_killed_one(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """The journal of the killed run is closed by the one that finished it."""
    record = ImageRecord.of(here.plan().decision.selected[0].image)
    journal = Journal(tmp_path / "logs" / "cleanup-0.jsonl")
    journal.write(Begin(account=here.account))
    journal.write(Will(mode="delete", image=record, permissions=(), snapshots=()))
    journal.close()
    here.maker.ec2.deregister_image(unused.id)

    done = _clean(here, tmp_path, yes=True, permanent=True)

    assert "Finished what" in done.err.getvalue()
    assert unused.snapshot_ids[0] not in here.snapshots_there()
    assert unfinished(tmp_path / "logs", here.account) == []


def test_a_killed_run_that_was_to_set_an_ami_aside_is_over_when_that_is_gone(
    here: World, tmp_path: Path, unused: SandboxAmi
) -> None:
    """Each night's run would finish it anew, with a journal of its own, and never be done."""
    record = ImageRecord.of(here.plan().decision.selected[0].image)
    with Journal(tmp_path / "logs" / "cleanup-0.jsonl") as journal:
        journal.write(Begin(account=here.account))
        journal.write(Will(mode="disable", image=record, permissions=(), snapshots=()))
    here.maker.ec2.deregister_image(unused.id)

    _clean(here, tmp_path, yes=True)

    assert unfinished(tmp_path / "logs", here.account) == []
    assert set(unused.snapshot_ids) <= here.snapshots_there()


def test_finishing_a_killed_run_loses_nothing_for_good(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Its AMI may be in the Recycle Bin, whose rule for snapshots has gone since, and comes back with them alone."""
    journal = _killed(here, tmp_path)
    here.maker.ec2.deregister_image(unused.id)
    (snapshot,) = unused.snapshot_ids

    done = task(here, tmp_path)
    with pytest.raises(PartialError, match=f"1 of 1 failed, {unused.id} first: .*--permanent"):
        cleanup.run(done.run, Request(flags=FLAGS, yes=True))

    assert snapshot in here.snapshots_there()
    why = f"What logs/{journal.name} had begun is not finished: {snapshot}: an earlier run left it, and no rule"
    assert why in done.err.getvalue()
    here.aws.gate.deny("rbin:ListRules")
    with pytest.raises(PartialError, match="rbin:ListRules"):
        _clean(here, tmp_path, yes=True)
    assert snapshot in here.snapshots_there()
    here.aws.gate.clear()
    here.keep_deleted()
    _clean(here, tmp_path, yes=True)
    assert snapshot not in here.snapshots_there()
    assert unfinished(tmp_path / "logs", here.account) == []


def test_a_plan_says_that_a_killed_run_waits(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """`--yes` would do more than what the plan lists."""
    journal = _killed(here, tmp_path)
    assert "cut off" not in _clean(here, tmp_path).err.getvalue()

    here.maker.ec2.deregister_image(unused.id)
    done = _clean(here, tmp_path)

    said = f"{journal.name} is of a run that was cut off: --yes finishes it first (AMIs whose snapshots it left: 1)."
    assert said in done.err.getvalue()
    assert unused.snapshot_ids[0] in here.snapshots_there()


def test_a_plan_is_shown_beside_a_damaged_journal(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Querying is allowed; acting is not."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "cleanup-0.jsonl").write_text("nonsense\n")

    done = _clean(here, tmp_path)

    assert {row["image_id"] for row in done.document["verdicts"]} >= {unused.id}
    assert "cleanup-0.jsonl is not a journal" in done.err.getvalue()
    assert "Move it away" in done.err.getvalue()
    assert "--yes is refused" in done.err.getvalue()


def test_a_damaged_journal_that_was_moved_away_stops_nothing(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """What the message advises has to work."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "cleanup-0.jsonl").write_text("nonsense\n")
    with pytest.raises(UsageError, match=r"cleanup-0\.jsonl is not a journal .* Move it away"):
        _clean(here, tmp_path, yes=True, permanent=True)
    assert unused.id in here.there()

    (logs / "cleanup-0.jsonl").rename(tmp_path / "cleanup-0.jsonl")
    _clean(here, tmp_path, yes=True, permanent=True)
    assert unused.id not in here.there()


def test_a_killed_run_in_another_region_is_left_to_a_run_there(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Closing its journal now would leave its snapshots behind for ever."""
    there = other_region(here)
    there.image(1)
    abroad = there.image(200)
    plan = here.plan(locations=[here.location(), here.location(OTHER_REGION)])
    record = next(ImageRecord.of(v.image) for v in plan.decision.selected if v.image.image_id == abroad.id)
    journal = Journal(tmp_path / "logs" / "cleanup-0.jsonl")
    journal.write(Begin(account=here.account))
    journal.write(Will(mode="delete", image=record, permissions=(), snapshots=()))
    journal.close()
    there.ec2.deregister_image(abroad.id)

    _clean(here, tmp_path, yes=True, permanent=True)
    assert [replay.path.name for replay in unfinished(tmp_path / "logs", here.account)] == ["cleanup-0.jsonl"]
    assert abroad.snapshot_ids[0] in there.ec2.snapshots

    _clean(here, tmp_path, yes=True, permanent=True, regions=(f"{REGION},{OTHER_REGION}",))
    assert unfinished(tmp_path / "logs", here.account) == []
    assert abroad.snapshot_ids[0] not in there.ec2.snapshots


@pytest.mark.parametrize("is_gone", [True, False], ids=["done after all", "not done"])
def test_the_next_run_looks_what_became_of_a_lost_answer(
    here: World, tmp_path: Path, unused: SandboxAmi, *, is_gone: bool
) -> None:
    """The run came to its end without knowing; the snapshots of an AMI that went must not stay for ever."""
    record = ImageRecord.of(here.plan().decision.selected[0].image)
    journal = Journal(tmp_path / "logs" / "cleanup-0.jsonl")
    journal.write(Begin(account=here.account))
    journal.write(Will(mode="delete", image=record, permissions=(), snapshots=()))
    journal.write(Unknown(image_id=unused.id, error="no answer"))
    journal.write(End(failed=1))
    journal.close()
    if is_gone:
        here.maker.ec2.deregister_image(unused.id)

    _clean(here, tmp_path, yes=True, permanent=True)

    assert unused.id not in here.there()
    assert unused.snapshot_ids[0] not in here.snapshots_there()
    assert unfinished(tmp_path / "logs", here.account) == []
    assert read(tmp_path / "logs" / "cleanup-0.jsonl").entries[unused.id].status == ("done" if is_gone else "left")


SNAPSHOT_CHANGES = SNAPSHOT_CLAIMS | {
    "another's": (
        lambda here, name: setattr(here.maker.ec2.snapshots[name], "description", "our database, before the move"),
        "not made for",
    ),
    "unread": (lambda here, _: here.aws.gate.deny("ec2:DescribeSnapshotAttribute"), "DescribeSnapshotAttribute"),
}


@pytest.mark.parametrize("name", SNAPSHOT_CHANGES)
def test_finishing_a_killed_run_takes_nobodys_data(here: World, tmp_path: Path, unused: SandboxAmi, name: str) -> None:
    """A journal is a file: what it names goes only if EC2 itself says that it was that AMI's, and nobody kept it."""
    journal = _killed(here, tmp_path)
    here.maker.ec2.deregister_image(unused.id)
    (snapshot,) = unused.snapshot_ids
    change, why = SNAPSHOT_CHANGES[name]
    change(here, snapshot)

    # What could not be read is tried again, and no job looks well meanwhile; what stays for good is no failure.
    with pytest.raises(PartialError, match=why) if name == "unread" else contextlib.nullcontext():
        _clean(here, tmp_path, yes=True, permanent=True)

    assert snapshot in here.snapshots_there()
    assert why in str(read(journal).entries[unused.id].snapshot_status[snapshot])


def test_a_restore_that_failed_half_way_is_no_run_to_finish(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """The snapshots are back, the AMI is still in the Recycle Bin: deleting them again would lose it for good."""
    here.keep_deleted()
    journal = _killed(here, tmp_path)
    here.access.client("ec2").deregister_image(ImageId=unused.id, DeleteAssociatedSnapshots=True)
    here.aws.gate.deny("ec2:RestoreImageFromRecycleBin")
    with pytest.raises(PartialError):
        _clean(here, tmp_path, flags=Flags(), restore=str(journal))
    here.aws.gate.clear()

    _clean(here, tmp_path, yes=True)

    assert set(unused.snapshot_ids) <= here.snapshots_there()
    _clean(here, tmp_path, flags=Flags(), restore=str(journal))
    assert unused.id in here.there()


def _killed(here: World, root: Path) -> Path:
    """Return the journal of a run that was killed right after it had written down the first AMI that goes."""
    record = ImageRecord.of(here.plan().decision.selected[0].image)
    journal = Journal(root / "logs" / "cleanup-0.jsonl")
    journal.write(Begin(account=here.account))
    journal.write(Will(mode="delete", image=record, permissions=(), snapshots=()))
    journal.close()
    return journal.path


def test_nothing_to_do_leaves_no_journal(here: World, tmp_path: Path) -> None:
    """A nightly run must not fill the folder."""
    here.newest()
    here.in_use()

    done = _clean(here, tmp_path, yes=True)

    assert (done.journals, done.document["journal"]) == ([], None)


def test_regions_are_cleaned_side_by_side_and_judged_together(here: World, tmp_path: Path) -> None:
    """A parameter in one region may hold the AMI of another."""
    here.newest()
    here.in_use()
    there = other_region(here)
    there.image(1)
    abroad, named = there.image(200), there.image(210)
    here.maker.parameter("/images", json.dumps({OTHER_REGION: named.id}))

    document = _clean(here, tmp_path, regions=(f"{REGION},{OTHER_REGION}",)).document

    assert document["regions"] == [REGION, OTHER_REGION]
    gone = {v["image_id"] for v in document["verdicts"] if v["action"] == "delete"}
    assert gone == {abroad.id}


def test_settings_name_the_regions_unless_a_flag_does(here: World, tmp_path: Path) -> None:
    """--region means that one alone."""
    here.newest()
    here.in_use()
    both = {"cleanup": Cleanup(regions=(REGION, OTHER_REGION))}

    assert _clean(here, tmp_path, task_options=both).document["regions"] == [REGION, OTHER_REGION]
    assert _clean(here, tmp_path, task_options=both | {"region": REGION}).document["regions"] == [REGION]


@pytest.mark.parametrize("where", ["settings", "plan file"])
def test_a_region_that_is_named_twice_is_one(here: World, tmp_path: Path, where: str) -> None:
    """Each AMI listed twice would count twice: of the three newest only two would stay."""
    here.in_use()
    newest = {here.image(100 + n).id for n in range(3)}
    old = here.image(200)
    flags, file = Flags(older_than="30d", keep="3"), tmp_path / "plan.json"
    if where == "settings":
        twice = {"cleanup": Cleanup(regions=(REGION, REGION))}
        done = _clean(here, tmp_path, flags=flags, task_options=twice, yes=True, permanent=True)
    else:
        _clean(here, tmp_path, flags=flags, plan=str(file))
        plan = json.loads(file.read_text())
        verdicts = [verdict | {"action": "delete"} for verdict in plan["verdicts"]]
        file.write_text(json.dumps(plan | {"regions": [REGION, REGION], "verdicts": verdicts}))
        done = _clean(here, tmp_path, flags=Flags(), apply=str(file), permanent=True)

    assert done.document["regions"] == [REGION]
    assert newest <= here.there()
    assert old.id not in here.there()


def test_all_regions_are_those_of_the_account(here: World, tmp_path: Path) -> None:
    """One AMI forgotten in a region nobody queries costs as much as any."""
    here.newest()
    here.in_use()
    here.aws.gate.reply(
        b'<DescribeRegionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><regionInfo><item><regionName>'
        + REGION.encode()
        + b"</regionName></item></regionInfo></DescribeRegionsResponse>",
        action="DescribeRegions",
    )

    assert _clean(here, tmp_path, regions=("all",)).document["regions"] == [REGION]


def test_a_region_that_is_none_is_refused(here: World, tmp_path: Path) -> None:
    """A slip in its name would end in a search for a host that does not exist."""
    with pytest.raises(UsageError, match="seoul"):
        _clean(here, tmp_path, regions=("seoul",))


def test_other_accounts_are_read_and_never_changed(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """An AMI that another account launches is in use; that account's own AMIs are none of ours."""
    role = "arn:aws:iam::210987654321:role/reader"
    from moto.ssm.models import ssm_backends

    ssm_backends["210987654321"][REGION].put_parameter(
        "/our/image", "", unused.id, "String", "", "", True, [], "text", None, None
    )

    document = _clean(here, tmp_path, accounts=(role,)).document

    verdict = next(v for v in document["verdicts"] if v["image_id"] == unused.id)
    assert [reason["code"] for reason in verdict["reasons"]] == ["parameters"]
    assert {source["account"] for source in document["sources"]} >= {"210987654321", here.account}


def test_an_account_that_cannot_be_entered_blocks(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """It was named because it uses our AMIs."""
    here.aws.gate.deny("sts:AssumeRole")
    done = task(here, tmp_path)

    with pytest.raises(SafetyError, match="reader"):
        cleanup.run(done.run, Request(flags=FLAGS, accounts=("arn:aws:iam::210987654321:role/reader",)))


def test_a_role_that_is_none_is_refused(here: World, tmp_path: Path) -> None:
    """An account id alone cannot be assumed."""
    with pytest.raises(UsageError, match="ARN of a role"):
        _clean(here, tmp_path, accounts=("210987654321",))


def test_a_table_says_all_of_it(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """What was queried, what goes and why, what it saves, until when it can come back."""
    here.keep_deleted(14)
    began = datetime.now(timezone.utc)
    done = _clean(here, tmp_path, task_options={"output": "table"}, all=True)

    text = done.out.getvalue()
    # Two days where midnight came meanwhile.
    days = {moment + timedelta(days=14) for moment in (began, datetime.now(timezone.utc))}
    assert "launch-templates" in text
    assert unused.id in text
    assert "Saves at most 28.0 GiB of snapshots, $1.40 a month" in text
    assert any(f"until {until:%Y-%m-%d}" in text for until in days)
    assert text.startswith("1 AMI to delete, 2 to keep.\n")


def test_an_account_in_which_everything_is_in_use_fits_a_page(here: World, tmp_path: Path) -> None:
    """Each way to need an AMI, ten AMIs that nothing needs: the answer, then what goes, then counts."""
    here.keep_deleted()
    here.newest()
    used = {name: here.image(100 + number) for number, name in enumerate(USES)}
    for name, image in used.items():
        USES[name](here.maker, image)
    unused = [here.image(300 + number) for number in range(10)]

    def shown(output: str = "table", **more: Any) -> str:
        return _clean(here, tmp_path, task_options={"output": output}, **more).out.getvalue()

    text = shown()
    assert text.startswith(f"10 AMIs to delete, {len(used) + 1} to keep.\nEach of them: no source that was queried")
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 75
    assert all(image.id in text for image in unused)
    assert not any(image.id in text for image in used.values())
    assert sum("not made or launched for" in line for line in text.splitlines()) == 1
    every = shown(all=True)
    assert all(image.id in every for image in used.values())
    assert max(map(len, every.splitlines())) <= 100
    wide = shown(wide=True)
    # Whatever Markdown escapes.
    report = html.unescape(re.sub(r"\\(\W)", r"\1", shown("markdown")))
    document = json.loads(shown("json"))
    for verdict in document["verdicts"]:
        if verdict["action"] == "keep":
            full = "; ".join(reason["detail"] for reason in verdict["reasons"])
            assert full in wide
            assert full in report


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("backend.tf", 'terraform {\n  backend "s3" {}\n}\n'),
        ("backend.tf.json", '{"terraform": {"backend": {"s3": {}}}}'),
        (".terraform/terraform.tfstate", '{"backend": {"type": "local", "config": {"path": "/srv/gpu.state"}}}'),
    ],
)
def test_a_backends_state_is_pulled(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: Any, name: str, text: str
) -> None:
    """Where a backend is configured the state is there, not in the folder."""
    note = tmp_path / "terraform" / ".terraform" / "terraform.tfstate"
    note.parent.mkdir(parents=True)
    note.write_text('{"backend": {"type": "http", "config": {}}}')
    (tmp_path / "terraform" / name).write_text(text)
    program = _terraform(tmp_path, monkeypatch, f'{{"image": "{unused.id}"}}')

    document = _clean(here, tmp_path).document

    verdict = next(v for v in document["verdicts"] if v["image_id"] == unused.id)
    assert [reason["code"] for reason in verdict["reasons"]] == ["terraform-state"]
    program.write_text("#!/bin/sh\necho 'Error: Backend initialization required' >&2\nexit 1\n")
    with pytest.raises(SafetyError, match="terraform init"):
        _clean(here, tmp_path)


def test_receipts_beside_a_state_in_s3_are_read(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The AMI to roll back to, by a receipt that another machine stored."""
    _terraform(tmp_path, monkeypatch, "{}")
    backend = {"backend": {"type": "s3", "config": {"bucket": "states", "key": "gpu/terraform.tfstate"}}}
    initialized = tmp_path / "terraform" / ".terraform" / "terraform.tfstate"
    initialized.parent.mkdir(parents=True)
    initialized.write_text(json.dumps(backend))
    s3 = here.access.client("s3")
    region: Any = {"LocationConstraint": REGION}
    s3.create_bucket(Bucket="states", CreateBucketConfiguration=region)
    change = {"address": "a", "old": unused.id, "new": here.image(2).id}
    receipt = json.dumps({"when": "2026-01-01T00:00:00Z", "changes": [change]})
    s3.put_object(Bucket="states", Key="gpu/receipts/1.json", Body=receipt.encode())

    document = _clean(here, tmp_path).document

    verdict = next(v for v in document["verdicts"] if v["image_id"] == unused.id)
    detail = "the one to roll back to at a by s3://states/gpu/receipts/1.json"
    assert verdict["reasons"] == [{"code": "receipts", "detail": detail}]
    s3.put_object(Bucket="states", Key="gpu/receipts/2.json", Body=b"")
    with pytest.raises(SafetyError, match=r"2\.json is empty or too large"):
        _clean(here, tmp_path)
    here.aws.gate.deny("s3:*")
    with pytest.raises(SafetyError, match="receipts could not be read"):
        _clean(here, tmp_path)


def test_receipts_beside_a_state_that_was_never_connected_to_block(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh checkout knows no bucket: whether a receipt there names the AMI cannot be said."""
    _terraform(tmp_path, monkeypatch, "{}")
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "backend.tf").write_text('terraform {\n  backend "s3" {}\n}\n')

    with pytest.raises(SafetyError, match="names a backend that Terraform was not connected to"):
        _clean(
            here,
            tmp_path,
            flags=Flags(older_than="30d", keep="1", skip_source=("terraform-state",)),
        )
    assert unused.id in here.there()


def test_a_backend_of_opentofu_alone_blocks(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """Terraform does not read that file: it would say that the state is empty."""
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "backend.tofu").write_text('terraform {\n  backend "s3" {}\n}\n')

    with pytest.raises(SafetyError, match="OpenTofu"):
        _clean(here, tmp_path, yes=True, permanent=True)
    assert unused.id in here.there()


def test_a_commented_backend_is_none(here: World, tmp_path: Path, unused: SandboxAmi) -> None:
    """The example in the repository must not make every plan fail."""
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "main.tf").write_text('terraform {\n  # backend "s3" {}\n  backend "local" {}\n}\n')

    assert _clean(here, tmp_path).document["totals"]["delete"] == 1


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_says_how_to_go_on(
    here: World, tmp_path: Path, unused: SandboxAmi, monkeypatch: Any, interrupts: None, number: signal.Signals
) -> None:
    """Exit code 130, the journal's name, and what a new run does; `kill` and a closed terminal say what Ctrl-C says."""
    monkeypatch.setattr("gpu_ami.cleanup.carry_out.Apply.images", lambda *_: signal.raise_signal(number))

    with (
        interruptible(),
        pytest.raises(InterruptedRunError, match=r"cleanup-.*\.jsonl, and a new run finishes it"),
    ):
        _clean(here, tmp_path, yes=True, permanent=True)


def _refuse_from(monkeypatch: pytest.MonkeyPatch, line: int) -> None:
    """Let the disk be full from the journal's *line* on."""
    lines = iter(range(1, 10_000))
    sync = os.fsync

    def full(handle: int) -> None:
        if next(lines) >= line:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr("os.fsync", full)


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        (2, ["failed", "kept", "kept"]),  # the first AMI's intention
        (3, ["deleted", "kept", "kept"]),  # what came of it
        (6, ["deleted", "deleted", "failed"]),
        (8, ["deleted", "deleted", "deleted"]),  # the end
    ],
)
def test_a_disk_that_fills_up_shows_what_was_done(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: int, statuses: list[str]
) -> None:
    """Exit code 7 and the table: before this, a traceback and not a word of what was deleted."""
    monkeypatch.setattr("gpu_ami.cleanup.execute._WORKERS_PER_REGION", 1)
    here.newest()
    here.in_use()
    images = [here.image(100 + n) for n in range(3)]
    done = task(here, tmp_path)
    _refuse_from(monkeypatch, line)

    with pytest.raises(PartialError) as caught:
        cleanup.run(done.run, Request(flags=FLAGS, yes=True, permanent=True))

    gone = statuses.count("deleted")
    assert f"No space left on device; nothing more is changed. Done before that: {gone} of 3." in str(caught.value)
    results = done.document["results"]
    assert [result["status"] for result in results] == statuses
    assert {result["image_id"] for result in results if result["status"] == "deleted"} == {
        image.id for image in images
    } - here.there()
    # The last line may have reached this disk all the same.
    assert len(unfinished(tmp_path / "logs", here.account)) == (line < 8)


def test_a_disk_that_is_full_keeps_orphans(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that goes without a line of the journal could not be brought back."""
    here.newest()
    here.in_use()
    for number in range(2):
        here.maker.ec2.deregister_image(here.image(100 + number).id)
    left = here.snapshots_there()
    done = task(here, tmp_path)
    _refuse_from(monkeypatch, 2)

    with pytest.raises(PartialError, match="Done before that: 0 of 2"):
        cleanup.run(done.run, Request(flags=FLAGS, orphans=True, yes=True, permanent=True))

    assert [result["status"] for result in done.document["results"]] == ["failed", "kept"]
    assert here.snapshots_there() == left


def test_a_disk_that_fills_up_restores_all_the_same(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused: SandboxAmi
) -> None:
    """What is in the bin must not stay there until its time is over; the table says that it is back."""
    here.keep_deleted()
    journal = tmp_path / _clean(here, tmp_path, yes=True).document["journal"]
    done = task(here, tmp_path)
    _refuse_from(monkeypatch, 2)

    with pytest.raises(PartialError, match="Done before that: 1 of 1"):
        cleanup.run(done.run, Request(restore=str(journal)))

    assert unused.id in here.there()
    assert [result["status"] for result in done.document["results"]] == ["restored"]


def test_a_killed_run_is_not_finished_where_the_next_one_cannot_write(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last block of the old journal has room, the new one has not: what is left must not count as finished."""
    here.newest()
    here.in_use()
    images = [here.image(100 + number) for number in range(2)]
    late = here.image(110)
    old = Journal(tmp_path / "logs" / "cleanup-0.jsonl")
    old.write(Begin(account=here.account))
    for verdict in here.plan().decision.selected:
        if verdict.image.image_id != late.id:
            old.write(Will(mode="delete", image=ImageRecord.of(verdict.image), permissions=(), snapshots=()))
    old.close()
    for image in images:
        here.maker.ec2.deregister_image(image.id)
    sync, lines = os.fsync, iter(range(1, 1000))

    def full(handle: int) -> None:
        if not os.path.samestat(os.fstat(handle), old.path.stat()) and next(lines) >= 2:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr("os.fsync", full)
    done = task(here, tmp_path, output="table")
    with pytest.raises(PartialError) as caught:
        cleanup.run(done.run, Request(flags=FLAGS, yes=True, permanent=True))
    monkeypatch.undo()

    said = (
        r"cleanup-2.+ No space left on device; .* while finishing logs/cleanup-0\.jsonl; nothing of this plan was begun"
    )
    assert re.search(said, str(caught.value))
    assert done.out.getvalue().startswith("Nothing of this plan was begun: 1 AMI to delete")
    assert "Undo" not in done.out.getvalue()
    assert late.id in here.there()
    left = {key for image in images for key in image.snapshot_ids} & here.snapshots_there()
    assert len(left) == 1
    assert old.path in [replay.path for replay in unfinished(tmp_path / "logs", here.account)]

    _clean(here, tmp_path, yes=True, permanent=True)
    assert not left & here.snapshots_there()
    assert unfinished(tmp_path / "logs", here.account) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("restores", [False, True])
def test_what_failed_counts_for_more_than_its_report(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused: SandboxAmi, restores: bool
) -> None:
    """`invoke cleanup --yes > file` on a full disk: exit code 7, for what failed, and not 2 for the table."""
    here.keep_deleted()
    request = Request(flags=FLAGS, yes=True)
    if restores:
        request = Request(restore=str(tmp_path / _clean(here, tmp_path, yes=True).document["journal"]))
        here.aws.gate.deny("ec2:RestoreImageFromRecycleBin")
    else:
        here.aws.gate.deny("ec2:DeregisterImage")
    done = task(here, tmp_path)

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(done.run.console, "_out", Results(full))
        with pytest.raises(PartialError, match=r"1 of 1 .+ The result cannot be written to standard output"):
            cleanup.run(done.run, request)
