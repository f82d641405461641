"""`invoke plan` and `invoke apply` as a whole: what is refused, what is done, what the receipt says."""

from __future__ import annotations

import io
import json
import re
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from filelock import FileLock

from gpu_ami.aws import batch
from gpu_ami.deploy import apply, history, ownership, plan, root_module, wait
from gpu_ami.deploy.apply import Request
from gpu_ami.errors import (
    AwsError,
    InterruptedRunError,
    PartialError,
    SafetyError,
    TerraformError,
    ToolError,
    UsageError,
)
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.process import interruptible
from gpu_ami.records import receipt as receipts
from gpu_ami.records.receipt import Receipt
from gpu_ami.settings import Handover
from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.batch import service_linked_role
from gpu_ami_sandbox.demo.factory import FAMILY
from tests.support.account import OTHER_REGION, Task, World, other_region, task
from tests.support.fake_terraform import LOCKED, FakeTerraform, address
from tests.support.interrupts import ENDS, interrupts
from tests.support.plans import change, complaint, values
from tests.support.schemas import problems

__all__ = ["interrupts"]
QUEUE = "aws_batch_job_queue"


def _apply(
    terraform: FakeTerraform, *, yes: bool = True, settings: dict[str, Any] | None = None, **request: Any
) -> Task:
    done = task(terraform.here, terraform.folder.parent, **(settings or {}))
    apply.run(done.run, Request(yes=yes, **request))
    return done


def _plan(terraform: FakeTerraform, *allow: str, variables: tuple[str, ...] = ()) -> Task:
    done = task(terraform.here, terraform.folder.parent)
    plan.run(done.run, plan.Request(variables=variables, allow_replace=allow))
    return done


def _receipts(terraform: FakeTerraform) -> list[Receipt]:
    return [stored.receipt for stored in receipts.load(terraform.folder / "receipts")]


def _handed_over(terraform: FakeTerraform, age: int = 5) -> str:
    ami: str = terraform.here.image(age).id
    terraform.hand_over(ami)
    return ami


def test_an_apply_moves_reads_back_and_files(terraform: FakeTerraform) -> None:
    """The whole of it, the first time."""
    ami = _handed_over(terraform)

    done = _apply(terraform)

    assert terraform.live() == {"spot": ami, "on_demand": ami}
    assert terraform.calls == ["init", "plan", "show", "apply"]
    assert done.document["applied"] is True
    assert [
        (environment["ami_id"], environment["status"], environment["hydration_mib_per_s"])
        for environment in done.document["live"]
    ] == [(ami, "VALID", 300)] * 2
    (receipt,) = _receipts(terraform)
    assert {(c.address, c.old, c.new) for c in receipt.changes} == {
        (address("spot"), None, ami),
        (address("on_demand"), None, ami),
    }
    assert (receipt.status, receipt.action, receipt.git_commit) == ("applied", "apply", "c0ffee")
    assert receipt.plan_sha256 == done.document["plan_sha256"]
    assert receipt.who.startswith("arn:aws:")
    assert receipt.ended is not None


def test_the_document_is_the_contract(terraform: FakeTerraform) -> None:
    """Scripts read these keys."""
    _handed_over(terraform)
    planned = _plan(terraform).document
    assert set(planned) >= {
        "changes",
        "ami_id",
        "handed_over_in",
        "environments",
        "resources",
        "count",
        "outputs",
        "findings",
        "plan_sha256",
        "terraform_version",
    }
    assert planned["count"] == {
        "create": 2,
        "update": 0,
        "replace": 0,
        "delete": 0,
        "forget": 0,
        "move": 0,
        "import": 0,
        "delete-deposed": 0,
    }
    applied = _apply(terraform).document
    assert set(applied) >= {*planned, "applied", "receipt", "duration_s", "live"}
    assert (terraform.folder.parent / applied["receipt"]).is_file()


def test_the_way_back_is_named_where_there_is_one(terraform: FakeTerraform) -> None:
    """After the first apply a rollback would only say that nothing is known before."""
    first = _handed_over(terraform)
    said = _apply(terraform, settings={"output": "table"}).out.getvalue()
    assert "invoke status" in said
    assert "rollback" not in said

    _handed_over(terraform, 4)
    assert f"`invoke rollback` goes back to {first}." in _apply(terraform, settings={"output": "table"}).out.getvalue()


def test_the_second_apply_says_what_was_before(terraform: FakeTerraform) -> None:
    """What rollback needs."""
    first = _handed_over(terraform)
    _apply(terraform)
    second = _handed_over(terraform, 4)

    done = _apply(terraform)

    assert terraform.live() == {"spot": second, "on_demand": second}
    assert {(c.old, c.new) for c in _receipts(terraform)[-1].changes} == {(first, second)}
    assert {environment["old_ami"] for environment in done.document["environments"]} == {first}


def test_without_changes_nothing_is_applied_and_nothing_filed(terraform: FakeTerraform) -> None:
    """A receipt of nothing would hide the way back."""
    _handed_over(terraform)
    _apply(terraform)

    done = _apply(terraform, yes=False)

    assert done.document["applied"] is False
    assert done.document["receipt"] is None
    assert "No changes" in done.err.getvalue()
    assert len(_receipts(terraform)) == 1
    assert terraform.calls.count("apply") == 1


def test_a_plan_changes_nothing(terraform: FakeTerraform) -> None:
    """It may run with credentials that only read."""
    ami = _handed_over(terraform)
    done = _plan(terraform)

    assert terraform.live() == {}
    assert not (terraform.folder / "receipts").exists()
    assert done.document["environments"][0] == {
        "address": address("spot"),
        "name": None,
        "action": "create",
        "old_ami": None,
        "new_ami": ami,
        "ours": True,
        "previous_address": None,
        "images": [{"image_type": "ECS_AL2023_NVIDIA", "old_ami": None, "new_ami": ami}],
    }
    assert "invoke apply" in done.err.getvalue()


def test_nobody_is_there_to_confirm(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI, only --yes applies."""
    _handed_over(terraform)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    with pytest.raises(SafetyError, match="--yes"):
        _apply(terraform, yes=False)

    assert terraform.live() == {}
    assert _receipts(terraform) == []


@pytest.mark.parametrize(("answer", "applied"), [("yes\n", True), ("y\n", False), ("no\n", False), ("", False)])
def test_a_person_confirms_with_the_whole_word(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch, answer: str, applied: bool
) -> None:
    """A slip of a finger must not move a fleet."""
    _handed_over(terraform)
    stdin = io.StringIO(answer)
    stdin.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", stdin)

    if applied:
        _apply(terraform, yes=False)
    else:
        with pytest.raises(SafetyError, match="not confirmed"):
            _apply(terraform, yes=False)

    assert bool(terraform.live()) is applied


UPROOTED = [
    change("aws_s3_bucket.old", ("delete",), kind="aws_s3_bucket", before={"bucket": "films"}),
    change("aws_iam_role.job", ("delete", "create"), kind="aws_iam_role", before={}, after={}, because=[["name"]]),
    change("aws_s3_bucket.kept", ("forget",), kind="aws_s3_bucket", before={}),
    change(
        "aws_sns_topic.b", ("no-op",), kind="aws_sns_topic", before={}, after={}, previous_address="aws_sns_topic.a"
    ),
]


@pytest.mark.parametrize("asks", [False, True], ids=["--yes", "a question"])
def test_an_id_stands_below_the_address(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch, asks: bool) -> None:
    """Behind an address of 60 letters a terminal of 80 columns breaks it in two, which nobody can then copy."""
    first = _handed_over(terraform)
    _apply(terraform)
    second = _handed_over(terraform, 4)
    stdin = io.StringIO("yes\n")
    stdin.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", stdin)

    lines = _apply(terraform, yes=not asks).err.getvalue().splitlines()

    at = [number for number, line in enumerate(lines) if line.strip().startswith("ami-")]
    assert [lines[number].strip() for number in at] == [f"{first} -> {second}"] * 2
    assert {lines[number - 1].split()[-1] for number in at} == {address("spot"), address("on_demand")}


def test_nothing_goes_unnamed(terraform: FakeTerraform) -> None:
    """With --yes nobody reads a plan first: "1 to delete" named neither what went nor, in the receipt, that it had."""
    _handed_over(terraform)
    terraform.extra = UPROOTED

    said = _apply(terraform).err.getvalue()

    for line in (
        "  delete aws_s3_bucket.old",
        "  replace aws_iam_role.job (name)",
        "  forget aws_s3_bucket.kept",
        "  move aws_sns_topic.b (from aws_sns_topic.a)",
    ):
        assert line in said.splitlines()
    (receipt,) = _receipts(terraform)
    assert [(act.action, act.address, act.previous_address) for act in receipt.resources] == [
        ("delete", "aws_s3_bucket.old", None),
        ("replace", "aws_iam_role.job", None),
        ("forget", "aws_s3_bucket.kept", None),
        ("move", "aws_sns_topic.b", "aws_sns_topic.a"),
    ]


def test_the_question_says_where_and_what_an_update_changes(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account was said half a minute of output earlier, and "update" alone says nothing of what it does."""
    _handed_over(terraform)
    before = {"description": "old", "tags": {f"t{number}": "x" for number in range(20)}, "secret": "s3cret"}
    after = {"description": "new", "tags": {f"t{number}": "y" for number in range(20)}, "secret": "other"}
    row = change("aws_sns_topic.a", kind="aws_sns_topic", before=before, after=after)
    row["change"]["after_sensitive"] = {"secret": True}
    gone = change("aws_s3_bucket.old", ("delete",), kind="aws_s3_bucket", before={})
    left = change("aws_sns_topic.a", ("delete",), kind="aws_sns_topic", before={}, deposed="0a1b2c3d")
    terraform.extra = [row, gone, left]
    stdin = io.StringIO("no\n")
    stdin.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", stdin)
    done = task(terraform.here, terraform.folder.parent)

    with pytest.raises(SafetyError, match="not confirmed"):
        apply.run(done.run, Request())

    said = done.err.getvalue()
    assert f"Apply this plan in account {terraform.here.account}, region ap-northeast-2?" in said
    # Not of what was left behind at the same address as well.
    assert said.count('description: "old" -> "new"') == 1
    assert said.count("secret: (sensitive value)") == 1
    assert said.count("aws_s3_bucket.old") == 1
    assert "s3cret" not in said
    assert "… 10 more attributes: logs/terraform-plan.log" in said


def test_the_sandbox_asks_only_when_it_is_told_to(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the question can be met before it is about a fleet."""
    monkeypatch.setattr("gpu_ami.target.Aws.asks_first", False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    _handed_over(terraform)

    with pytest.raises(SafetyError, match=r"nobody is here to confirm.+ give --yes instead of --ask"):
        _apply(terraform, yes=False, ask=True)
    assert terraform.live() == {}

    _apply(terraform, yes=False)
    assert terraform.live() != {}


def test_what_is_applied_in_a_sandbox_that_ends_is_not_what_to_go_on_with(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`invoke status` would show another AWS."""
    monkeypatch.setattr("gpu_ami.target.Aws.is_kept", False)
    _handed_over(terraform)

    said = _apply(terraform, settings={"output": "table"}).out.getvalue()

    assert "This sandbox ends with the command: `invoke sandbox` in another terminal keeps one up." in said
    assert "invoke status" not in said


def test_the_ami_and_its_copies_are_tagged_applied(terraform: FakeTerraform) -> None:
    """Clean-up protects what is pending: it must learn what no longer is."""
    here = terraform.here
    first = here.image(5)
    copy = other_region(here).image(5)
    for image in (first, copy):
        image.add_tags({"gpu-ami:handover": "pending"})
    artifact = f"{here.maker.location.region}:{first.id},{OTHER_REGION}:{copy.id}"
    build = {"builder_type": "amazon-ebs", "artifact_id": artifact, "packer_run_uuid": "1"}
    manifest = terraform.folder.parent / "packer" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"builds": [build], "last_run_uuid": "1"}))
    terraform.hand_over(first.id)

    _apply(terraform)

    assert here.maker.ec2.tags[first.id]["gpu-ami:handover"] == "applied"
    assert other_region(here).ec2.tags[copy.id]["gpu-ami:handover"] == "applied"
    assert _receipts(terraform)[0].manifest == "packer/manifest.json"


def test_an_ami_that_cannot_be_tagged_is_said(terraform: FakeTerraform) -> None:
    """All is applied, one thing is not done: exit 7, and the receipt says applied."""
    _handed_over(terraform)
    terraform.here.aws.gate.deny("ec2:CreateTags")

    with pytest.raises(PartialError, match="CreateTags"):
        _apply(terraform)

    assert _receipts(terraform)[0].status == "applied"


# --- refusals


def test_a_refused_plan_is_shown_and_not_applied(terraform: FakeTerraform) -> None:
    """The table says which rule; the exit code is Terraform's."""
    _handed_over(terraform)
    terraform.extra = [change(QUEUE, ("delete",), kind=QUEUE, before={})]
    done = task(terraform.here, terraform.folder.parent)

    with pytest.raises(TerraformError, match="destroyed"):
        apply.run(done.run, Request(yes=True))

    assert done.document["findings"][0]["code"] == "destroyed"
    assert terraform.live() == {}

    _apply(terraform, allow_replace=(QUEUE,))
    assert terraform.live() != {}


@pytest.mark.parametrize(("provider", "refused"), [("6.9.1", True), ("nonsense", True), ("6.10.0", False)])
def test_the_providers_version_is_asked_where_it_matters(
    terraform: FakeTerraform, provider: str, refused: bool
) -> None:
    """By `terraform version -json`, and only for the strategy that older ones cannot change in place."""
    _handed_over(terraform)
    after = values(terraform.handed_over, allocation_strategy="SPOT_PRICE_CAPACITY_OPTIMIZED")
    terraform.extra = [change("ce.cheap", ("create",), after=after)]
    terraform.provider = provider

    if refused:
        with pytest.raises(TerraformError, match="replaces the environment"):
            _plan(terraform)
    else:
        _plan(terraform)
    assert terraform.calls == ["init", "plan", "show", "version"]


def test_a_permission_for_nothing_is_said(terraform: FakeTerraform) -> None:
    """A slip in an address permits nothing; the plan that is then refused does not say why."""
    _handed_over(terraform)

    said = _plan(terraform, address("spot"), address("spto")).err.getvalue()

    assert f"warning: --allow-replace {address('spto')!r} names nothing of the plan" in said
    assert f"did you mean {address('spot')!r}?" in said
    assert said.count("--allow-replace") == 1


def test_plan_is_refused_by_the_same_guard(terraform: FakeTerraform) -> None:
    """CI sees it on the pull request."""
    _handed_over(terraform)
    terraform.extra = [change(QUEUE, ("delete",), kind=QUEUE, before={})]

    with pytest.raises(TerraformError, match="guard refuses"):
        _plan(terraform)
    _plan(terraform, QUEUE)


def test_a_variable_set_elsewhere_is_refused(terraform: FakeTerraform) -> None:
    """--terraform-var goes before the file."""
    _handed_over(terraform)
    other = terraform.here.image(9).id

    with pytest.raises(TerraformError, match="says ami-"):
        _apply(terraform, variables=(f"gpu_ami_id={other}",))


@pytest.mark.parametrize("state", ["gone", "pending", "foreign"])
def test_an_unusable_ami_is_refused(terraform: FakeTerraform, state: str) -> None:
    """Batch would wait for instances that never start."""
    image = terraform.here.image(5)
    terraform.hand_over(image.id)
    if state == "gone":
        terraform.here.maker.ec2.deregister_image(image.id)
    elif state == "pending":
        image.state = "pending"
    else:
        image.owner_id = "210987654321"

    with pytest.raises(TerraformError, match=r"the AMI that terraform/gpu-ami\.auto\.tfvars\.json names"):
        _apply(terraform)

    assert _receipts(terraform) == []


def _run_a_job(here: World, minutes: int, environment: str = "gpu-spot") -> Any:
    batch = here.maker.batch
    container = {"image": "r/video:1", "vcpus": 1, "memory": 512}
    batch.register_job_definition("video", {}, "container", {}, {}, container, None, None, {}, ["EC2"], False)
    order = [{"order": 1, "computeEnvironment": environment}]
    queue = f"to-{environment}"
    batch.create_job_queue(queue, 1, None, "ENABLED", order)
    _, job_id, _ = batch.submit_job("long", "video", queue, {})
    batch._jobs[job_id].job_started_at = clock.now() - timedelta(minutes=minutes)
    return batch._jobs[job_id]


def test_long_jobs_stop_the_apply_until_they_end(terraform: FakeTerraform) -> None:
    """The update would end them after 60 minutes."""
    _handed_over(terraform)
    _apply(terraform)
    job = _run_a_job(terraform.here, 90)
    _handed_over(terraform, 4)

    with pytest.raises(TerraformError, match=r"long \(.*running for 90 min\)") as caught:
        _apply(terraform)
    assert "60 min" in str(caught.value)

    job.terminate("done")
    _apply(terraform)


def test_a_job_elsewhere_that_shows_no_cluster_is_no_reason(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of Fargate, EKS and several nodes show none: somebody else's would stop every hand-over of the account."""
    _handed_over(terraform)
    _apply(terraform)
    monkeypatch.setattr(batch, "_cluster_of", lambda _instance: None)
    maker = terraform.here.maker
    role = service_linked_role(maker.location.account_id)
    maker.batch.create_compute_environment("theirs", "MANAGED", "ENABLED", maker.location.compute_resources(), role, {})
    job = _run_a_job(terraform.here, 90, "theirs")
    _handed_over(terraform, 4)
    _apply(terraform)
    job.terminate("done")

    _run_a_job(terraform.here, 90)
    _handed_over(terraform, 5)
    with pytest.raises(TerraformError, match="running for 90 min"):
        _apply(terraform)


def test_jobs_that_begin_while_somebody_confirms_count(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts are looked up again right before the act."""
    _handed_over(terraform)
    _apply(terraform)
    _handed_over(terraform, 4)
    monkeypatch.setattr(apply, "_confirm", lambda *_args: _run_a_job(terraform.here, 90))

    with pytest.raises(TerraformError, match="running for 90 min"):
        _apply(terraform)

    assert len(_receipts(terraform)) == 1


def test_jobs_that_cannot_be_listed_stop_an_update(terraform: FakeTerraform) -> None:
    """Nobody knows what would be ended; a first apply has nothing to end."""
    _handed_over(terraform)
    terraform.here.aws.gate.deny("batch:DescribeJobQueues")
    _apply(terraform)
    _handed_over(terraform, 4)

    with pytest.raises(AwsError, match="DescribeJobQueues"):
        _apply(terraform)


def test_a_plan_file_that_changes_is_not_applied(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly what was judged is applied."""
    _handed_over(terraform)

    def confirm(_run: Any, review: Any, *_more: Any) -> None:
        review.saved.file.write_text("{}")

    monkeypatch.setattr(apply, "_confirm", confirm)

    with pytest.raises(SafetyError, match="changed after it was checked"):
        _apply(terraform)

    assert terraform.live() == {}
    assert [receipt.status for receipt in _receipts(terraform)] == ["failed"]


def test_two_applies_at_once(terraform: FakeTerraform) -> None:
    """The second one is kept out before it queries anything."""
    _handed_over(terraform)
    logs = terraform.folder.parent / "logs"
    logs.mkdir()
    with FileLock(logs / "apply.lock"), pytest.raises(SafetyError, match="under way"):
        _apply(terraform)
    assert terraform.calls == []


@pytest.mark.parametrize(
    ("command", "output", "kind", "message"),
    [
        ("init", complaint("Failed to query available provider packages"), ToolError, "no aws provider"),
        ("plan", LOCKED, TerraformError, "774796fc"),
        ("plan", complaint("No value for required variable"), TerraformError, "update-tfvars"),
        ("show", "Error: plan file is broken\n", TerraformError, "plan file is broken"),
    ],
)
def test_a_failure_before_the_act_leaves_nothing(
    terraform: FakeTerraform, command: str, output: str, kind: type[Exception], message: str
) -> None:
    """No receipt, no change; the line says what to do."""
    _handed_over(terraform)
    terraform.fails = {command: output}

    with pytest.raises(kind, match=message):
        _apply(terraform)

    assert _receipts(terraform) == []
    assert terraform.live() == {}


def test_a_folder_that_is_initialized_is_not_again(terraform: FakeTerraform) -> None:
    """It takes over a second, and as long as the backend is far away."""
    _handed_over(terraform)
    _plan(terraform)
    terraform.calls.clear()

    _plan(terraform)

    assert terraform.calls == ["plan", "show"]


def test_a_plan_that_asks_for_init_gets_it(terraform: FakeTerraform) -> None:
    """A module came in, or the lock file names another provider: Terraform knows, and says so."""
    _handed_over(terraform)
    _plan(terraform)
    terraform.calls.clear()
    terraform.fails = {"plan": complaint("Inconsistent dependency lock file", "run:\n  terraform init -upgrade")}

    done = _plan(terraform)

    assert terraform.calls == ["plan", "init", "plan", "show"]
    assert done.document["findings"] == []
    steps = re.findall(r"^(terraform \w+: .+?) [\d.]+ s$", done.err.getvalue(), re.MULTILINE)
    assert steps == ["terraform plan: asked for `init` after", "terraform init: done in", "terraform plan: done in"]


def test_a_plan_that_init_does_not_mend_fails_in_inits_words(terraform: FakeTerraform) -> None:
    """Nothing is requested twice."""
    _handed_over(terraform)
    _plan(terraform)
    terraform.calls.clear()
    terraform.fails = {
        "plan": complaint("Required plugins are not installed", "run:\n  terraform init"),
        "init": complaint("Failed to query available provider packages"),
    }

    with pytest.raises(ToolError, match="no aws provider"):
        _plan(terraform)

    assert terraform.calls == ["plan", "init"]


def test_a_hand_over_that_terraform_does_not_take_is_not_called_missing(terraform: FakeTerraform) -> None:
    """`invoke update-tfvars` had been run, and was what the line sent to."""
    (terraform.folder.parent / "gpu.tfvars").write_text(f'gpu_ami_id = "{terraform.here.image(5).id}"\n')
    unset = complaint("No value for required variable", 'The root module input variable "gpu_ami_id" is not set.')
    terraform.fails = {"plan": unset}
    done = task(terraform.here, terraform.folder.parent, handover=Handover(file="gpu.tfvars"))

    with pytest.raises(TerraformError, match=r"Terraform does not take gpu.tfvars by itself: let handover\.file"):
        plan.run(done.run, plan.Request())


def test_a_backend_that_is_not_connected_is_initialized(terraform: FakeTerraform) -> None:
    """`invoke validate` initializes without the backend: the state would be looked for in the wrong place."""
    _handed_over(terraform)
    _plan(terraform)
    (terraform.folder / "backend.tf").write_text('terraform {\n  backend "s3" {}\n}\n')
    terraform.calls.clear()

    _plan(terraform)

    assert terraform.calls == ["init", "plan", "show"]


@pytest.mark.parametrize("text", ["{", "[]", '{"gpu_ami_id": 3}', '{"gpu_ami_id": "ami-x"}'])
def test_a_broken_variables_file_is_named(terraform: FakeTerraform, text: str) -> None:
    """Nothing can be compared with it."""
    (terraform.folder / "gpu-ami.auto.tfvars.json").write_text(text)

    with pytest.raises(UsageError, match=r"gpu-ami\.auto\.tfvars\.json"):
        _apply(terraform)


@pytest.mark.parametrize("variable", ["", "x", "=1", "1x=2", "a b=c"])
def test_a_variable_that_is_none_is_refused(terraform: FakeTerraform, variable: str) -> None:
    """Terraform would take it for something else."""
    with pytest.raises(UsageError, match="name=value"):
        _apply(terraform, variables=(variable,))


def test_the_wrong_account_is_refused_before_anything_is_planned(terraform: FakeTerraform) -> None:
    """As every task that changes AWS does."""
    _handed_over(terraform)

    with pytest.raises(SafetyError, match="999999999999"):
        _apply(terraform, settings={"account": "999999999999"})

    assert terraform.calls == ["init"]


def test_the_wrong_account_is_what_a_failed_init_is_about(terraform: FakeTerraform) -> None:
    """A backend that the other account may not read fails first, with a message that leads astray."""
    _handed_over(terraform)
    terraform.fails = {"init": complaint("AccessDenied")}

    with pytest.raises(SafetyError, match="999999999999"):
        _apply(terraform, settings={"account": "999999999999"})


def test_a_dry_run_prints_the_commands(terraform: FakeTerraform) -> None:
    """They can be pasted; nothing is run."""
    done = _apply(terraform, settings={"dry_run": True}, variables=("a=b",))

    said = done.err.getvalue()
    for arguments in ("terraform init", "plan -out=gpu-ami.tfplan", "-var=a=b", "show -json", "apply -input=false"):
        assert arguments in said
    assert terraform.calls == []
    assert problems("apply", done.document) == []
    assert "\n".join(done.document["commands"]) + "\n" == said


def test_a_plans_dry_run_is_the_same_but_for_its_end(terraform: FakeTerraform) -> None:
    """A script that asks for JSON got nothing to read."""
    planned, applied = (task(terraform.here, terraform.folder.parent, dry_run=True) for _ in range(2))

    plan.run(planned.run, plan.Request())
    apply.run(applied.run, Request())

    assert problems("plan", planned.document) == []
    assert planned.document["commands"] == applied.document["commands"][:-1]
    assert terraform.calls == []


# --- other environments, other words


def _others() -> list[dict[str, Any]]:
    """Environments of the same root module that are not ours."""
    fargate = values(None, name="fargate", type="FARGATE", ec2_configuration=[])
    return [change("ce.fargate", ("create",), after=fargate)]


def test_others_are_left_alone_and_that_is_said_once(terraform: FakeTerraform) -> None:
    """They take no AMI of ours: no finding, no receipt, one line."""
    _handed_over(terraform)
    terraform.extra = _others()

    planned = _plan(terraform)

    assert planned.document["findings"] == []
    assert planned.document["left_alone"] == [
        {"address": "ce.fargate", "name": "fargate", "why": "Fargate takes no AMI"}
    ]
    assert planned.err.getvalue().count("Left alone: ce.fargate (Fargate takes no AMI).") == 1
    assert [one["ours"] for one in planned.document["environments"]] == [True, True, False]


def test_only_an_apply_needs_the_buckets_receipts(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another team's AMI in the root: a role that may only plan could not even do that any more."""
    _handed_over(terraform)
    theirs = terraform.here.image(9).id
    monkeypatch.setattr(ownership, "undecided", lambda *_given: frozenset({theirs}))

    def denied(_store: ReceiptStore) -> Any:
        msg = "s3:ListBucket: AccessDenied."
        raise AwsError(msg)

    monkeypatch.setattr(ReceiptStore, "shared", denied)

    planned = _plan(terraform)

    assert planned.document["findings"] == []
    assert "only tags and this machine's receipts say: s3:ListBucket: AccessDenied." in planned.err.getvalue()
    with pytest.raises(AwsError, match="AccessDenied"):
        _apply(terraform)
    assert not terraform.live()


@pytest.mark.parametrize("action", ["forget", "move", "import"])
def test_what_is_done_without_a_change_is_said(terraform: FakeTerraform, action: str) -> None:
    """Twelve resources were let go of under the words "outputs only"."""
    _handed_over(terraform)
    _apply(terraform)
    kind = "aws_s3_bucket"
    rows = {
        "forget": change("aws_s3_bucket.a", ("forget",), kind=kind, before={}),
        "move": change(
            "aws_s3_bucket.a", ("no-op",), kind=kind, before={}, after={}, previous_address="aws_s3_bucket.b"
        ),
        "import": change("aws_s3_bucket.a", ("no-op",), kind=kind, before={}, after={}, importing={"id": "bucket-a"}),
    }
    terraform.extra = [rows[action]]
    done = task(terraform.here, terraform.folder.parent, output="table")

    plan.run(done.run, plan.Request())

    said = done.out.getvalue()
    assert f"1 to {action}" in said
    assert "No resource changes" not in said
    assert any(line.split()[:2] == [action, "aws_s3_bucket.a"] for line in said.splitlines())
    assert f"1 to {action}" in _summary_of(terraform)


def test_what_the_command_line_goes_on_with_is_no_advice(terraform: FakeTerraform) -> None:
    """Of `invoke plan apply status` each would tell to run the one that comes a moment later."""
    terraform.hand_over(str(terraform.here.image(5).id))
    for coming, said in (((), True), (("apply", "status"), False)):
        planned = task(terraform.here, terraform.folder.parent, output="table")
        planned.run.coming = coming
        plan.run(planned.run, plan.Request())
        assert ("Next: `invoke apply`." in planned.err.getvalue()) is said

    done = task(terraform.here, terraform.folder.parent, output="table")
    done.run.coming = ("status",)
    apply.run(done.run, Request(yes=True))

    text = " ".join(done.out.getvalue().split())
    assert "Next: commit the receipt and the variable." in text
    assert "invoke status" not in text


def _summary_of(terraform: FakeTerraform) -> str:
    """Apply, and return what was said before it began."""
    done = task(terraform.here, terraform.folder.parent)
    terraform.during = lambda: terraform.extra.clear()
    apply.run(done.run, Request(yes=True))
    return done.err.getvalue()


def test_outputs_alone_are_still_outputs_only(terraform: FakeTerraform) -> None:
    """Nothing else happens then."""
    _handed_over(terraform)
    _apply(terraform)
    terraform.outputs = {"url": {"actions": ["update"]}}

    assert "outputs only" in _summary_of(terraform)


def test_a_moved_environment_is_in_the_receipt(terraform: FakeTerraform) -> None:
    """Nothing else would lead from its new address to what was live before."""
    first = _handed_over(terraform)
    _apply(terraform)
    second = _handed_over(terraform, 4)
    _apply(terraform)
    terraform.rename("spot", "cheap")

    _apply(terraform)

    moved = next(c for c in _receipts(terraform)[-1].changes if c.address == address("cheap"))
    assert (moved.old, moved.new, moved.previous_address, moved.name) == (second, second, address("spot"), "gpu-spot")
    steps = history.steps_back(receipts.load(terraform.folder / "receipts"), {address("cheap"): second})
    assert [step.back for step in steps] == [first]


def test_what_was_left_behind_is_in_no_receipt(terraform: FakeTerraform) -> None:
    """Under the live address it said "new": null, and the rollback after next broke."""
    _handed_over(terraform)
    _apply(terraform)
    second = _handed_over(terraform, 4)
    old = values(terraform.here.image(9).id, name="gpu-old", arn="arn:old", ecs_cluster_arn="old")
    terraform.extra = [change(address("spot"), ("delete",), before=old, deposed="0a1b2c3d")]

    with pytest.raises(TerraformError, match="--allow-deposed 'gpu-old'"):
        _apply(terraform)
    with pytest.raises(TerraformError, match="--allow-deposed 'gpu-old'"):
        _apply(terraform, allow_replace=(address("spot"),))
    done = _apply(terraform, allow_deposed=("gpu-old",))

    assert {(c.address, c.new) for c in _receipts(terraform)[-1].changes} == {
        (address("spot"), second),
        (address("on_demand"), second),
    }
    assert [row["action"] for row in done.document["resources"]] == ["update", "update", "delete-deposed"]
    assert "1 left behind to delete" in done.err.getvalue()


# --- an environment that Batch calls INVALID


@pytest.fixture
def invalid(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that an update has left INVALID: Terraform's state has the new AMI, and finds nothing to do."""
    _handed_over(terraform)
    _apply(terraform)
    real = batch.environments

    def environments(*given: Any) -> list[batch.Environment]:
        return [
            replace(found, status="INVALID", reason="no instance profile") if found.name == "gpu-spot" else found
            for found in real(*given)
        ]

    monkeypatch.setattr(batch, "environments", environments)


@pytest.mark.usefixtures("invalid")
@pytest.mark.parametrize("command", [_plan, _apply])
def test_no_changes_is_not_all_well_where_batch_says_invalid(terraform: FakeTerraform, command: Any) -> None:
    """With Batch's reason, and what to do: to apply the same again does nothing."""
    with pytest.raises(TerraformError, match=r"gpu-spot is INVALID \(no instance profile\)\. Mend .*`invoke rollback`"):
        command(terraform)


@pytest.mark.usefixtures("invalid")
def test_what_moves_on_from_invalid_is_let_through(terraform: FakeTerraform) -> None:
    """Another AMI is the way out; that it is INVALID is said."""
    _handed_over(terraform, 4)

    done = _plan(terraform)

    assert done.document["findings"] == []
    (said,) = done.document["invalid"]
    assert (said["name"], said["reason"]) == ("gpu-spot", "no instance profile")
    assert said["advice"].startswith("This plan goes to another AMI")


def test_an_ami_that_only_an_invalid_environment_has_is_not_called_applied(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The apply after the one that failed has nothing to do, and tagged it: clean-up kept it as a good one."""
    ami = _handed_over(terraform)
    _apply(terraform)
    real = batch.environments
    monkeypatch.setattr(
        batch, "environments", lambda *given: [replace(found, status="INVALID") for found in real(*given)]
    )
    terraform.here.maker.ec2.tags[ami]["gpu-ami:handover"] = "pending"

    with pytest.raises(TerraformError, match="is INVALID"):
        _apply(terraform)
    assert terraform.here.maker.ec2.tags[ami]["gpu-ami:handover"] == "pending"
    monkeypatch.setattr(batch, "environments", real)
    _apply(terraform)
    assert terraform.here.maker.ec2.tags[ami]["gpu-ami:handover"] == "applied"


@pytest.mark.usefixtures("invalid")
def test_an_invalid_environment_that_is_not_touched_is_said_after_an_apply(terraform: FakeTerraform) -> None:
    """Something else was applied, and is; exit 7."""
    kind = "aws_iam_role"
    terraform.extra = [change("aws_iam_role.x", ("create",), kind=kind, after={})]

    with pytest.raises(PartialError, match=r"Applied, but gpu-spot is INVALID \(no instance profile\)"):
        _apply(terraform)

    assert _receipts(terraform)[-1].status == "applied"


def test_who_may_not_ask_batch_can_still_plan(terraform: FakeTerraform) -> None:
    """That it is not known is said."""
    _handed_over(terraform)
    _apply(terraform)
    terraform.here.aws.gate.deny("batch:DescribeComputeEnvironments")

    assert "INVALID is not known" in _plan(terraform).err.getvalue()


# --- failures of the act


def test_a_failed_apply_says_how_things_stand(terraform: FakeTerraform) -> None:
    """One environment has moved, the other has not: a person must know, and so must the next run."""
    first = _handed_over(terraform)
    _apply(terraform)
    second = _handed_over(terraform, 4)
    terraform.stops_after = 1

    with pytest.raises(TerraformError) as caught:
        _apply(terraform)

    said = str(caught.value)
    assert "no capacity" in said
    assert f"{address('spot')} has moved to {second}" in said
    assert f"{address('on_demand')} is still on {first}" in said
    assert "invoke apply" in said
    assert "invoke rollback" in said
    receipt = _receipts(terraform)[-1]
    assert receipt.status == "failed"
    assert "still on" in (receipt.note or "")

    _apply(terraform)
    assert terraform.live() == {"spot": second, "on_demand": second}
    assert [receipt.status for receipt in _receipts(terraform)] == ["applied", "failed", "applied"]


def test_a_first_apply_that_fails_offers_no_rollback(terraform: FakeTerraform) -> None:
    """It would only say that nothing is known before."""
    _handed_over(terraform)
    terraform.stops_after = 1

    with pytest.raises(TerraformError, match="Run `invoke apply` again to go on; Terraform's log") as caught:
        _apply(terraform)

    assert "rollback" not in str(caught.value)


def test_a_terraform_that_failed_is_not_called_done(terraform: FakeTerraform) -> None:
    """The step's last word is what a person reads first."""
    _handed_over(terraform)
    done = task(terraform.here, terraform.folder.parent)
    terraform.stops_after = 1

    with pytest.raises(TerraformError):
        apply.run(done.run, Request(yes=True))

    assert "terraform plan: done in" in done.err.getvalue()
    assert "terraform apply: failed after" in done.err.getvalue()


def test_a_log_that_cannot_be_rewritten_fails_no_apply(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terraform has done its work by then: a full disk must not call it failed, in the receipt least of all."""

    def full(path: Path, _text: str, **_more: object) -> None:
        msg = f"{path} cannot be written: No space left on device."
        raise UsageError(msg)

    _handed_over(terraform)
    monkeypatch.setattr(root_module, "write_atomic", full)

    assert _apply(terraform).document["applied"] is True
    assert [receipt.status for receipt in _receipts(terraform)] == ["applied"]


def test_terraforms_log_is_for_people(terraform: FakeTerraform) -> None:
    """The line of a failure sends them there; Terraform itself writes JSON."""
    ami = _handed_over(terraform)
    terraform.stops_after = 0
    with pytest.raises(TerraformError, match=r"log: (logs/\S+\.log)") as caught:
        _apply(terraform)
    name = str(caught.value).split("Terraform's log: ")[1].split(",")[0]

    assert (terraform.folder.parent / name).read_text() == (
        "\nError: updating Batch Compute Environment: no capacity\n\n"
    )
    planned = (terraform.folder.parent / "logs" / "terraform-plan.log").read_text()
    assert planned.startswith(f"fine\n\ncreate {address('spot')}\n")
    assert f'  compute_resources[0].ec2_configuration[0].image_id_override: null -> "{ami}"\n' in planned


def test_a_disk_that_is_full_after_the_act_shows_what_is_live(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 7 and the table; the receipt stays open, and the next run completes it."""
    ami = _handed_over(terraform)
    write = receipts.write

    def full(path: Path, receipt: Receipt) -> None:
        if receipt.status == "applied":
            msg = f"The receipt {path} was not written: No space left on device."
            raise UsageError(msg)
        write(path, receipt)

    monkeypatch.setattr("gpu_ami.records.receipt.write", full)
    done = task(terraform.here, terraform.folder.parent)

    with pytest.raises(PartialError, match=r"is applied, but its receipt is not complete: .+No space left on device"):
        apply.run(done.run, Request(yes=True))

    assert {row["ami_id"] for row in done.document["live"]} == {ami}
    assert [receipt.status for receipt in _receipts(terraform)] == ["started"]


def test_receipts_that_cannot_be_read_after_the_act_hide_nothing(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that is out of reach just then: all is applied, and the table was not printed."""
    ami = _handed_over(terraform)
    real = ReceiptStore.all

    def out_of_reach(store: ReceiptStore) -> Any:
        if "apply" in terraform.calls:
            msg = "s3:ListBucket: Could not connect."
            raise AwsError(msg)
        return real(store)

    monkeypatch.setattr(ReceiptStore, "all", out_of_reach)

    assert {row["ami_id"] for row in _apply(terraform).document["live"]} == {ami}
    assert [receipt.status for receipt in _receipts(terraform)] == ["applied"]


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_during_the_act_is_a_failed_act(
    terraform: FakeTerraform, interrupts: None, number: signal.Signals
) -> None:
    """Terraform has ended and noted what it did; `kill` and a closed terminal have the exit code of Ctrl-C."""
    _handed_over(terraform)
    terraform.during = lambda: signal.raise_signal(number)

    with interruptible(), pytest.raises(InterruptedRunError, match="is not there"):
        _apply(terraform)

    assert _receipts(terraform)[-1].status == "failed"


def test_a_killed_apply_is_found_and_finished(terraform: FakeTerraform) -> None:
    """Kill -9 leaves a started receipt; the next run says so and goes on."""
    _handed_over(terraform)
    _apply(terraform)
    second = _handed_over(terraform, 4)

    class Killed(BaseException):
        """What no handler of ours catches, as no handler catches SIGKILL."""

    def kill() -> None:
        raise Killed

    terraform.during = kill
    with pytest.raises(Killed):
        _apply(terraform)
    assert [receipt.status for receipt in _receipts(terraform)] == ["applied", "started"]

    terraform.during = lambda: None
    done = _apply(terraform)

    assert "was cut short" in done.err.getvalue()
    assert terraform.live()["spot"] == second
    assert [receipt.status for receipt in _receipts(terraform)] == ["applied", "applied", "applied"]


def test_a_killed_apply_that_terraform_finished_is_completed(terraform: FakeTerraform) -> None:
    """Terraform goes on without us: the next run finds no changes, and the receipt its end."""
    ami = _handed_over(terraform)
    _apply(terraform)
    (stored,) = receipts.load(terraform.folder / "receipts")
    started = Receipt(
        when=stored.receipt.when,
        who="x",
        account="1",
        region="r",
        changes=stored.receipt.changes,
        status="started",
        state=stored.receipt.state,
    )
    receipts.write(stored.path, started)
    terraform.here.maker.ec2.tags[ami]["gpu-ami:handover"] = "pending"

    done = _apply(terraform, yes=False)

    (receipt,) = _receipts(terraform)
    assert (receipt.status, receipt.ended is not None) == ("applied", True)
    assert "cut short" in (receipt.note or "")
    assert done.document["applied"] is False
    assert terraform.here.maker.ec2.tags[ami]["gpu-ami:handover"] == "applied"


def test_an_apply_that_nobody_completed_is_known_before_the_next(terraform: FakeTerraform) -> None:
    """Afterwards its AMI is not live any more: a rollback would go past it, and clean-up take what is behind."""
    _handed_over(terraform)
    _apply(terraform)
    second = _handed_over(terraform, 4)
    _apply(terraform)
    stored = receipts.load(terraform.folder / "receipts")[-1]
    receipts.write(stored.path, msgspec.structs.replace(stored.receipt, status="started", ended=None))
    _handed_over(terraform, 3)

    _apply(terraform)

    assert [receipt.status for receipt in _receipts(terraform)] == ["applied", "applied", "applied"]
    steps = history.steps_back(receipts.load(terraform.folder / "receipts"), _live_by_address(terraform))
    assert {step.back for step in steps} == {second}


@pytest.mark.parametrize(("has_more", "status"), [(True, "failed"), (False, "applied")])
def test_a_killed_apply_that_moved_no_ami_was_applied_where_nothing_is_left_to_do(
    terraform: FakeTerraform, *, has_more: bool, status: str
) -> None:
    """It replaced a queue, say: no AMI tells how far it came, and the next plan may hold the rest of it."""
    _handed_over(terraform)
    _apply(terraform)
    (stored,) = receipts.load(terraform.folder / "receipts")
    opened = msgspec.structs.replace(stored.receipt, status="started", ended=None, changes=())
    receipts.write(stored.path.with_name("20270101T000000Z-apply-a.json"), opened)
    if has_more:
        _handed_over(terraform, 4)

    _apply(terraform)

    (ended,) = [receipt for receipt in _receipts(terraform) if not receipt.changes]
    assert (ended.status, "cut short" in str(ended.note)) == (status, True)


def _live_by_address(terraform: FakeTerraform) -> dict[str, str | None]:
    return {address(market): ami for market, ami in terraform.live().items()}


def test_a_killed_publication_is_not_an_apply(terraform: FakeTerraform) -> None:
    """`invoke publish` completes its own receipts, by what the parameter says."""
    _handed_over(terraform)
    moved = (receipts.Change(address="ssm:/x", old=None, new="ami-00000001"),)
    path = terraform.folder / "receipts" / "0.json"
    receipt = Receipt(
        when=terraform.here.now,
        who="x",
        account="1",
        region="r",
        changes=moved,
        action="publish",
        status="started",
    )
    receipts.write(path, receipt)

    done = _apply(terraform)

    assert "cut short" not in done.err.getvalue()
    assert receipts.load(path.parent)[0].receipt.status == "started"


# --- updates that take longer than the provider waits


@pytest.fixture
def polls(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An update that a job holds up, and how often Batch was polled meanwhile; the job ends at the third poll."""
    _handed_over(terraform)
    _apply(terraform)
    _handed_over(terraform, 4)
    job = _run_a_job(terraform.here, 1)
    terraform.outwaited = {"spot"}
    statuses: list[str] = []
    real = batch.environments

    def environments(*given: Any) -> list[batch.Environment]:
        if len(statuses) == 2:
            job.terminate("done")
        found = real(*given)
        statuses.append({environment.name: environment.status for environment in found}["gpu-spot"])
        return found

    # The look while planning, whether one is INVALID, has tests of its own.
    monkeypatch.setattr(plan, "_there", lambda *_args: [])
    monkeypatch.setattr(batch, "environments", environments)
    monkeypatch.setattr(wait, "_POLL_S", 0.01)
    return statuses


def test_an_update_that_outlasts_the_provider_is_waited_for(terraform: FakeTerraform, polls: list[str]) -> None:
    """Jobs get up to six hours, the provider waits 20 minutes: Terraform's failure is none."""
    done = _apply(terraform)

    assert polls == ["UPDATING", "UPDATING", "VALID", "VALID"]
    assert terraform.live() == dict.fromkeys(["spot", "on_demand"], terraform.handed_over)
    assert {environment["status"] for environment in done.document["live"]} == {"VALID"}
    said = done.err.getvalue()
    assert f"Terraform stopped waiting for {address('spot')}" in said
    assert "gpu-spot as their jobs end: 1 h 00 m at most" in said
    assert "waiting for Batch: done in" in said
    assert "terraform apply: done in" in said
    receipt = _receipts(terraform)[-1]
    assert receipt.status == "applied"
    assert "Batch then showed gpu-spot VALID" in (receipt.note or "")
    assert terraform.here.maker.ec2.tags[terraform.handed_over]["gpu-ami:handover"] == "applied"


def test_batch_may_have_ended_just_then(terraform: FakeTerraform) -> None:
    """Nothing is left to wait for."""
    _handed_over(terraform)
    _apply(terraform)
    _handed_over(terraform, 4)
    terraform.outwaited = {"spot", "on_demand"}

    done = _apply(terraform)

    assert _receipts(terraform)[-1].status == "applied"
    assert "waiting for Batch" not in done.err.getvalue()


def test_an_update_that_batch_gives_up_is_a_failure(
    terraform: FakeTerraform, polls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Batch shows counts."""
    patched = batch.environments

    def environments(*given: Any) -> list[batch.Environment]:
        found = patched(*given)
        return [
            replace(environment, status="INVALID", reason="no role") if polls[-1] == "VALID" else environment
            for environment in found
        ]

    monkeypatch.setattr(batch, "environments", environments)

    with pytest.raises(TerraformError, match=r"gpu-spot is INVALID \(no role\)"):
        _apply(terraform)

    assert _receipts(terraform)[-1].status == "failed"


def test_at_the_end_of_the_wait_it_is_neither_applied_nor_failed(terraform: FakeTerraform, polls: list[str]) -> None:
    """The line and the receipt say that Batch goes on; the next apply waits again, and completes the receipt."""
    with pytest.raises(TerraformError, match=r"gpu-spot is still UPDATING .*`invoke status`") as caught:
        _apply(terraform, wait_minutes=0)

    assert "failed" not in str(caught.value)
    receipt = _receipts(terraform)[-1]
    assert (receipt.status, receipt.ended) == ("started", None)
    assert "still UPDATING" in (receipt.note or "")
    assert "gpu-ami:handover" not in terraform.here.maker.ec2.tags.get(terraform.handed_over, {})

    done = _apply(terraform)

    assert done.document["applied"] is False
    assert "No changes" in done.err.getvalue()
    assert _receipts(terraform)[-1].status == "applied"
    assert terraform.here.maker.ec2.tags[terraform.handed_over]["gpu-ami:handover"] == "applied"


def test_a_receipt_stays_open_while_batch_replaces(terraform: FakeTerraform, polls: list[str]) -> None:
    """Batch shows the new AMI from the first moment; that is no reason to call it applied."""
    for _ in range(2):
        with pytest.raises(TerraformError, match="still UPDATING"):
            _apply(terraform, wait_minutes=0)
        del polls[:]  # the job goes on

    assert _receipts(terraform)[-1].status == "started"


@pytest.mark.parametrize(
    ("cause", "kind", "message"),
    [
        (KeyboardInterrupt(), InterruptedRunError, "Interrupted while Batch still replaced"),
        (
            AwsError("ExpiredToken: sign in."),
            TerraformError,
            r"could not be queried any more \(ExpiredToken: sign in\)",
        ),
    ],
)
def test_who_stops_waiting_does_not_make_it_fail(
    terraform: FakeTerraform,
    polls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    cause: BaseException,
    kind: type[Exception],
    message: str,
) -> None:
    """Ctrl-C, and a sign-in that ends before six hours do: Batch goes on."""

    def raises(*_args: Any, **_more: Any) -> None:
        raise cause

    monkeypatch.setattr(wait, "wait_until_ended", raises)

    with pytest.raises(kind, match=rf"{message}.*`invoke status`"):
        _apply(terraform)

    assert _receipts(terraform)[-1].status == "started"


def test_what_waits_for_the_environment_is_said_to_be_left(terraform: FakeTerraform, polls: list[str]) -> None:
    """Terraform leaves out all that depends on what failed: to call that applied would be a lie."""
    terraform.skipped = [change(QUEUE, ("create",), kind=QUEUE, after={})]

    with pytest.raises(PartialError, match=f"has not got to {QUEUE}: run `invoke apply` again"):
        _apply(terraform)

    assert _receipts(terraform)[-1].status == "applied"


def test_that_nobody_knows_what_is_left_is_said(terraform: FakeTerraform, polls: list[str]) -> None:
    """The AMI is applied all the same."""
    terraform.during = lambda: terraform.fails.update(plan=LOCKED)

    with pytest.raises(PartialError, match=r"not known \(.*locked"):
        _apply(terraform)

    assert _receipts(terraform)[-1].status == "applied"


def test_an_environment_that_is_made_is_not_waited_for(terraform: FakeTerraform) -> None:
    """Terraform has tainted it: the next plan replaces it, whatever Batch makes of it."""
    _handed_over(terraform)
    terraform.outwaited = {"spot"}

    with pytest.raises(TerraformError, match="timeout while waiting"):
        _apply(terraform)

    assert _receipts(terraform)[-1].status == "failed"


@pytest.mark.parametrize("text", ["", "-1", "1.5", "²", "soon"])
def test_a_wait_that_is_no_number_is_refused(text: str) -> None:
    """Before anything is queried."""
    with pytest.raises(UsageError, match="--wait 90"):
        wait.minutes(text)
    assert (wait.minutes(None), wait.minutes("90")) == (None, 90)


def test_no_changes_is_a_result_too(terraform: FakeTerraform) -> None:
    """A step summary of a workflow shows results, not talk."""
    _handed_over(terraform)
    _apply(terraform)
    done = task(terraform.here, terraform.folder.parent, output="markdown")

    plan.run(done.run, plan.Request())

    assert "No changes: what terraform describes is what there is." in done.out.getvalue()


def test_no_changes_is_said_once(terraform: FakeTerraform) -> None:
    """Twice in other words reads like two findings."""
    _handed_over(terraform)
    _apply(terraform)
    done = task(terraform.here, terraform.folder.parent, output="table")

    plan.run(done.run, plan.Request())

    said = done.err.getvalue() + done.out.getvalue()
    assert re.findall("No .*changes.*", said) == ["No changes: what terraform describes is what there is."]


def test_before_anything_is_handed_over_the_plan_says_so(terraform: FakeTerraform) -> None:
    """A first plan read "none -> known after the apply", and an apply of it would have let Batch choose."""
    lacks = "No AMI is handed over yet in terraform/gpu-ami.auto.tfvars.json"
    done = task(terraform.here, terraform.folder.parent, output="table")
    plan.run(done.run, plan.Request())
    assert f"{lacks}: Batch would choose one. `invoke build` makes one and hands it over." in done.out.getvalue()
    assert lacks in _summary_of(terraform)

    # Whoever lives with Batch's own AMI need not be told so each time.
    done = task(terraform.here, terraform.folder.parent, output="table")
    plan.run(done.run, plan.Request())
    assert lacks not in done.out.getvalue()


def test_what_batch_shows_counts_not_what_terraform_says(terraform: FakeTerraform) -> None:
    """An update that did not stick must not be called applied."""
    _handed_over(terraform)
    _apply(terraform)
    second = _handed_over(terraform, 4)
    move = terraform._move

    def forget(market: str, ami: str | None) -> None:
        move(market, ami)
        environment = terraform.here.maker.batch.get_compute_environment(f"gpu-{market}")
        assert environment is not None
        environment.compute_resources["ec2Configuration"] = [{"imageIdOverride": "ami-00000000"}]

    terraform._move = forget  # type: ignore[method-assign]

    with pytest.raises(TerraformError, match=f"has ami-00000000, not {second}"):
        _apply(terraform)

    assert _receipts(terraform)[-1].status == "failed"


def test_a_template_without_the_rate_is_not_called_applied(terraform: FakeTerraform) -> None:
    """Jobs would start cold: the rate is what the AMI pays off by."""
    _handed_over(terraform)
    terraform.template(rate=None)

    with pytest.raises(TerraformError, match="hydrates at None, not 300"):
        _apply(terraform)


def test_a_receipt_that_cannot_be_written_stops_the_act(terraform: FakeTerraform) -> None:
    """What nobody could go back from is not done."""
    _handed_over(terraform)
    (terraform.folder / "receipts").write_text("in the way")

    with pytest.raises(UsageError, match="receipt"):
        _apply(terraform)

    assert terraform.live() == {}
    assert "apply" not in terraform.calls


def test_a_broken_receipt_stops_the_act(terraform: FakeTerraform, tmp_path: Path) -> None:
    """The history would have a hole."""
    _handed_over(terraform)
    (terraform.folder / "receipts").mkdir()
    (terraform.folder / "receipts" / "1.json").write_text("{")

    with pytest.raises(UsageError, match="is not a receipt"):
        _apply(terraform)

    assert terraform.live() == {}


def test_the_family_of_the_world_is_the_settings(terraform: FakeTerraform) -> None:
    """The tests above tag nothing by hand."""
    assert task(terraform.here, terraform.folder.parent).run.settings.family == FAMILY
