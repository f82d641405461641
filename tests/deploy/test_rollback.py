"""`invoke rollback` as a whole: where it goes, what it writes, what it leaves as it was."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gpu_ami.deploy import apply, rollback
from gpu_ami.deploy.rollback import Request
from gpu_ami.errors import SafetyError, TerraformError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.records import receipt as receipts
from tests.support.account import Task, task
from tests.support.fake_terraform import FakeTerraform, address
from tests.support.plans import change, complaint, values
from tests.support.schemas import problems


@pytest.fixture
def amis(terraform: FakeTerraform) -> list[str]:
    """Three AMIs that were applied one after another; the last one is live."""
    made = [terraform.here.image(age).id for age in (9, 6, 3)]
    for ami in made:
        terraform.hand_over(ami)
        apply.run(task(terraform.here, terraform.folder.parent).run, apply.Request(yes=True))
    return made


def _back(
    terraform: FakeTerraform, *, yes: bool = True, settings: dict[str, Any] | None = None, **request: Any
) -> Task:
    done = task(terraform.here, terraform.folder.parent, **(settings or {}))
    rollback.run(done.run, Request(yes=yes, **request))
    return done


def _is_on(terraform: FakeTerraform, ami: str) -> bool:
    return terraform.live() == {"spot": ami, "on_demand": ami} and terraform.handed_over == ami


def test_it_goes_back_one_and_says_so(terraform: FakeTerraform, amis: list[str]) -> None:
    """The variable, the environments and the receipt agree."""
    done = _back(terraform)

    assert _is_on(terraform, amis[1])
    assert done.document["ami_id"] == amis[1]
    receipt = receipts.load(terraform.folder / "receipts")[-1].receipt
    assert (receipt.action, receipt.status) == ("rollback", "applied")
    assert {(change.old, change.new) for change in receipt.changes} == {(amis[2], amis[1])}


def test_twice_goes_back_two_and_then_no_further(terraform: FakeTerraform, amis: list[str]) -> None:
    """A second rollback must not bring the bad AMI back."""
    _back(terraform)
    _back(terraform)
    assert _is_on(terraform, amis[0])

    # Whoever went back once too often wants to go forward again, and is told how.
    with pytest.raises(UsageError, match=f"`invoke rollback --to {amis[1]}` goes forward again"):
        _back(terraform)
    assert _is_on(terraform, amis[0])
    _back(terraform, to=amis[1])
    assert _is_on(terraform, amis[1])


def test_it_goes_to_a_named_ami(terraform: FakeTerraform, amis: list[str]) -> None:
    """Any AMI that is there."""
    _back(terraform, to=amis[0])

    assert _is_on(terraform, amis[0])


def test_another_family_s_ami_is_refused_unless_it_was_live_here(
    terraform: FakeTerraform, amis: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that was copied from the wrong line: nothing after the command's line would tell."""
    other = task(terraform.here, terraform.folder.parent).run
    vars(other)["settings"] = msgspec.structs.replace(other.settings, family="training")
    monkeypatch.setattr(Invocation, "siblings", lambda _self: iter([other]))
    theirs = terraform.here.image(1)
    for ami in (theirs.id, amis[0]):
        terraform.here.maker.ec2.tags[ami]["gpu-ami:family"] = "training"

    with pytest.raises(UsageError, match=f"{theirs.id} is of the family training .*give --family training"):
        _back(terraform, to=theirs.id)
    assert _is_on(terraform, amis[2])

    _back(terraform, to=amis[0])
    assert _is_on(terraform, amis[0])


def test_an_ami_that_is_gone_is_refused_before_anything(terraform: FakeTerraform, amis: list[str]) -> None:
    """The variable must not name what cannot start."""
    terraform.here.maker.ec2.deregister_image(amis[1])

    with pytest.raises(UsageError, match=f"{amis[1]} does not exist"):
        _back(terraform)

    assert _is_on(terraform, amis[2])


def test_a_refused_plan_leaves_the_variable_as_it_was(terraform: FakeTerraform, amis: list[str]) -> None:
    """Otherwise the next apply would do what was refused."""
    before = (terraform.folder / "gpu-ami.auto.tfvars.json").read_bytes()
    terraform.extra = [change("aws_batch_job_queue.q", ("delete",), kind="aws_batch_job_queue", before={})]

    with pytest.raises(TerraformError, match="guard refuses"):
        _back(terraform)

    assert (terraform.folder / "gpu-ami.auto.tfvars.json").read_bytes() == before
    assert _is_on(terraform, amis[2])


def test_an_unconfirmed_rollback_leaves_the_variable_as_it_was(
    terraform: FakeTerraform, amis: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing happened, so nothing may look as if it had."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    with pytest.raises(SafetyError, match="--yes"):
        _back(terraform, yes=False)

    assert _is_on(terraform, amis[2])


def test_what_was_handed_over_meanwhile_stays(
    terraform: FakeTerraform, amis: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build ended while the question waited: to put the file back as it was would take its AMI away."""
    newest = terraform.here.image(1).id
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    done = task(terraform.here, terraform.folder.parent)

    def answer(_question: str) -> str:
        terraform.hand_over(newest)
        return "no"

    monkeypatch.setattr(done.run.console, "ask", answer)

    with pytest.raises(SafetyError, match="not confirmed"):
        rollback.run(done.run, Request(ask=True))

    assert terraform.handed_over == newest
    assert "is not put back as it was: " in done.err.getvalue()
    assert "is as it was" not in done.err.getvalue()


def test_a_file_that_was_not_there_is_not_left_behind(terraform: FakeTerraform, amis: list[str]) -> None:
    """A refused rollback with --to in a checkout without the file."""
    file = terraform.folder / "gpu-ami.auto.tfvars.json"
    file.unlink()
    terraform.fails = {"plan": complaint("no")}

    with pytest.raises(TerraformError):
        _back(terraform, to=amis[0])

    assert not file.exists()


def test_a_failed_act_keeps_the_variable(terraform: FakeTerraform, amis: list[str]) -> None:
    """Half of it is done: the next apply must go on to the same AMI."""
    terraform.stops_after = 1

    with pytest.raises(TerraformError, match="has moved to"):
        _back(terraform)

    assert terraform.handed_over == amis[1]
    assert terraform.live() == {"spot": amis[1], "on_demand": amis[2]}


def test_after_a_failed_apply_it_goes_back_to_what_was_before(terraform: FakeTerraform, amis: list[str]) -> None:
    """One environment has moved, the other has not; both go back to the same AMI."""
    terraform.hand_over(terraform.here.image(1).id)
    terraform.stops_after = 1
    with pytest.raises(TerraformError):
        apply.run(task(terraform.here, terraform.folder.parent).run, apply.Request(yes=True))

    _back(terraform)

    assert _is_on(terraform, amis[2])


def test_without_an_environment_there_is_nothing_to_roll_back(terraform: FakeTerraform) -> None:
    """The state is empty."""
    with pytest.raises(UsageError, match="nothing to roll back"):
        _back(terraform)


def test_in_a_sandbox_that_ends_with_the_command_the_advice_is_to_keep_one(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `invoke apply` of its own would be to another AWS, and the next rollback to a third."""
    monkeypatch.setattr("gpu_ami.target.Aws.is_kept", False)

    for to in (None, "ami-0123456789abcdef0"):
        with pytest.raises(UsageError, match="run `invoke sandbox` in another terminal, which keeps one up") as caught:
            _back(terraform, to=to)
        assert "invoke apply`" not in str(caught.value)


@pytest.mark.parametrize("ami", ["", "ami-", "i-0123456789abcdef0", "ami-<x>"])
def test_what_is_no_ami_id_is_refused(terraform: FakeTerraform, ami: str) -> None:
    """Before Terraform runs."""
    with pytest.raises(UsageError, match="not an AMI id"):
        _back(terraform, to=ami)
    assert terraform.calls == []


def test_a_dry_run_prints_the_commands(terraform: FakeTerraform) -> None:
    """Nothing is run."""
    done = _back(terraform, settings={"dry_run": True})

    assert "apply -input=false" in done.err.getvalue()
    assert terraform.calls == []
    assert problems("rollback", done.document) == []
    assert "apply -input=false" in done.document["commands"][-1]


def test_each_id_stands_below_its_address(terraform: FakeTerraform, amis: list[str]) -> None:
    """Behind a long address a terminal breaks it in two; what is not known is said once, by the error."""
    lines = _back(terraform).err.getvalue().splitlines()
    for name in ("spot", "on_demand"):
        assert lines[lines.index(f"  {address(name)}") + 1] == f"    {amis[2]}, before it {amis[1]}"

    _back(terraform)
    done = task(terraform.here, terraform.folder.parent)
    with pytest.raises(
        UsageError, match=f"No receipt of this state knows of an AMI before {amis[0]}: `invoke rollback --to"
    ):
        rollback.run(done.run, Request(yes=True))
    lines = done.err.getvalue().splitlines()
    assert lines[lines.index(f"  {address('spot')}") + 1] == f"    {amis[0]}"
    assert "known" not in done.err.getvalue()


def test_after_the_state_moved_the_way_back_is_named(terraform: FakeTerraform, amis: list[str]) -> None:
    """`terraform init -migrate-state` makes it another state, of which no receipt knows."""
    folder = terraform.folder / "receipts"
    for stored in receipts.load(folder):
        assert stored.receipt.state is not None
        moved = msgspec.structs.replace(stored.receipt.state, backend="s3", bucket="b", key="k", family="old")
        receipts.write(stored.path, msgspec.structs.replace(stored.receipt, state=moved))

    with pytest.raises(UsageError, match=f"s3://b/k, workspace default, family old name {amis[1]}.*--to {amis[1]}"):
        _back(terraform)
    assert _is_on(terraform, amis[2])


def test_other_environments_do_not_stop_it(terraform: FakeTerraform, amis: list[str]) -> None:
    """A CPU environment, which no receipt knows, would have to go back to "nothing known"."""
    state = json.loads(terraform.state_file.read_text())
    attributes = {"compute_environment_name": "cpu", "compute_resources": [{"type": "EC2", "ec2_configuration": []}]}
    kind = "aws_batch_compute_environment"
    state["resources"].append(
        {"mode": "managed", "type": kind, "name": "cpu", "instances": [{"attributes": attributes}]}
    )
    terraform.state_file.write_text(json.dumps(state))

    _back(terraform)

    assert terraform.handed_over == amis[1]


def test_it_follows_an_environment_to_its_new_address(terraform: FakeTerraform, amis: list[str]) -> None:
    """After a `moved` block it said that no receipt knows of an AMI before."""
    terraform.rename("spot", "cheap")
    apply.run(task(terraform.here, terraform.folder.parent).run, apply.Request(yes=True))

    _back(terraform)

    assert terraform.live() == {"cheap": amis[1], "on_demand": amis[1]}


def test_it_takes_what_was_left_behind_by_its_own_permission(terraform: FakeTerraform, amis: list[str]) -> None:
    """An old environment that Batch would not delete must not stand in the way back."""
    old = values(amis[0], name="gpu-old", arn="arn:old", ecs_cluster_arn="old")
    at = address("spot")
    terraform.extra = [change(at, ("delete",), before=old, deposed="0a1b2c3d")]

    with pytest.raises(TerraformError, match="--allow-deposed 'gpu-old'"):
        _back(terraform)
    _back(terraform, allow_deposed=("gpu-old",))

    assert _is_on(terraform, amis[1])
