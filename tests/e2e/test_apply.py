"""`invoke build apply`, again, and `invoke rollback`: real Packer, real Terraform, real provider, local AWS.

The job queue is left out: the provider waits 30 s before it queries it. `test_apply_slow.py` has it. The root module
holds more than the pipeline brings (`others.py`), and that goes through a life beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import scratch
from gpu_ami_sandbox.session import Sandbox
from tests.e2e import others
from tests.e2e.conftest import Checkout, make_checkout

NO_QUEUE = ("--terraform-var", "create_job_queue=false")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout of its own: the tests below go through one history, in order."""
    return make_checkout(tmp_path_factory.mktemp("apply") / "checkout")


@pytest.fixture(scope="module")
def up(checkout: Checkout) -> Iterator[Sandbox]:
    """Its running sandbox."""
    with checkout.sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def history(checkout: Checkout, up: Sandbox) -> dict[str, Any]:
    """`invoke build apply` twice and `invoke rollback`, each with what Batch shows afterwards."""
    seen: dict[str, Any] = {}
    more = others.Others(checkout.root / "terraform" / "main.tf", up)
    for name in ("first", "second"):
        more.write(name)
        done = checkout.invoke("build", "apply", *NO_QUEUE, "--sandbox", "--output", "json")
        assert done.returncode == 0, done.stderr
        built, applied = (json.loads(line) for line in done.stdout.splitlines())
        seen[name] = {"built": built, "applied": applied, "batch": _batch(up), "said": done.stderr}
    seen["status"] = checkout.invoke("status", "--sandbox", "--output", "json")
    others.leave_behind(checkout.root / ".sandbox" / "terraform" / "terraform.tfstate", up)
    more.write_refused()
    seen["refused"] = checkout.invoke("plan", *NO_QUEUE, "--sandbox", "--output", "json")
    more.write("second")
    done = checkout.invoke("rollback", *NO_QUEUE, "--allow-deposed", others.OLD, "--sandbox", "--output", "json")
    assert done.returncode == 0, done.stderr
    seen["back"] = {"applied": json.loads(done.stdout), "batch": _batch(up), "images": _images(up)}
    return seen


def _batch(sandbox: Sandbox) -> dict[str, Any]:
    """Return name to description of the environments that Terraform made."""
    rows = sandbox.access.client("batch").describe_compute_environments()["computeEnvironments"]
    return {
        row["computeEnvironmentName"]: row for row in rows if row["computeEnvironmentName"].startswith("terraform-")
    }


def _images(sandbox: Sandbox) -> dict[str, dict[str, str]]:
    """Return for each environment that Batch shows image type to AMI."""
    rows = sandbox.access.client("batch").describe_compute_environments()["computeEnvironments"]
    return {
        row["computeEnvironmentName"]: {
            block["imageType"]: block["imageIdOverride"]
            for block in row["computeResources"].get("ec2Configuration", [])
        }
        for row in rows
    }


def _ours(applied: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the pipeline's own environments."""
    return [row for row in applied["environments"] if row["ours"]]


def _ami(row: dict[str, Any]) -> str:
    return str(row["computeResources"]["ec2Configuration"][0]["imageIdOverride"])


def _receipts(checkout: Checkout) -> list[dict[str, Any]]:
    files = sorted((checkout.root / ".sandbox" / "terraform" / "receipts").glob("*.json"))
    return [json.loads(file.read_text()) for file in files]


def _refusals(checkout: Checkout, *arguments: str) -> set[str]:
    """Return the codes for which the guard refuses a plan."""
    done = checkout.invoke("plan", *NO_QUEUE, *arguments, "--sandbox", "--output", "json")
    assert done.returncode == 6, done.stderr
    return {finding["code"] for finding in json.loads(done.stdout)["findings"]}


@contextlib.contextmanager
def _changed(file: Path, old: str, new: str) -> Iterator[Path]:
    """Let *file* say something else meanwhile."""
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new))
    try:
        yield file
    finally:
        file.write_text(before)


def test_the_first_apply_points_batch_at_the_first_ami(history: dict[str, Any]) -> None:
    """Spot and On-Demand, hydrated, valid."""
    first = history["first"]
    rows = first["batch"].values()

    assert len(rows) == 2
    assert {_ami(row) for row in rows} == {first["built"]["ami_id"]}
    assert {row["status"] for row in rows} == {"VALID"}
    hydrated = {row["address"]: row["hydration_mib_per_s"] for row in first["applied"]["live"]}
    assert {hydrated[row["address"]] for row in _ours(first["applied"])} == {300}


def test_the_second_apply_updates_in_place(history: dict[str, Any]) -> None:
    """The same environments: a replaced one would take its jobs with it."""
    first, second = history["first"], history["second"]

    assert second["built"]["ami_id"] != first["built"]["ami_id"]
    assert second["batch"].keys() == first["batch"].keys()
    assert {_ami(row) for row in second["batch"].values()} == {second["built"]["ami_id"]}
    assert {environment["action"] for environment in _ours(second["applied"])} == {"update"}


def test_after_an_apply_all_is_in_step(history: dict[str, Any]) -> None:
    """Nothing is left to build, hand over or apply; exit 0 says so."""
    done = history["status"]

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["drift"] == []


def test_rollback_returns_to_the_first_ami(history: dict[str, Any], checkout: Checkout) -> None:
    """In place, and the variable says so too."""
    first, back = history["first"], history["back"]

    assert back["batch"].keys() == first["batch"].keys()
    assert {_ami(row) for row in back["batch"].values()} == {first["built"]["ami_id"]}
    written = json.loads((checkout.root / ".sandbox" / "terraform" / "gpu-ami.auto.tfvars.json").read_text())
    assert written == {"gpu_ami_id": first["built"]["ami_id"]}


def test_the_receipts_tell_the_story(history: dict[str, Any], checkout: Checkout) -> None:
    """Who moved what, from which AMI to which."""
    first, second = history["first"]["built"]["ami_id"], history["second"]["built"]["ami_id"]
    told = [
        (receipt["action"], receipt["status"], {(c["old"], c["new"]) for c in receipt["changes"]})
        for receipt in _receipts(checkout)
    ]

    assert told[:3] == [
        ("apply", "applied", {(None, first)}),
        ("apply", "applied", {(first, second)}),
        ("rollback", "applied", {(second, first)}),
    ]


def test_environments_of_others_are_left_alone(history: dict[str, Any], checkout: Checkout) -> None:
    """On Fargate, without an AMI, with another's: each was refused with impossible advice, and out of step for ever."""
    first, status = history["first"], json.loads(history["status"].stdout)

    assert {one["address"]: one["why"] for one in first["applied"]["left_alone"]} == others.OTHERS
    assert first["said"].count("Left alone: ") == 1
    assert {one["address"] for one in status["left_alone"]} == set(others.OTHERS)
    assert not {row["address"] for row in status["environments"]} & set(others.OTHERS)
    assert not {c["address"] for receipt in _receipts(checkout) for c in receipt["changes"]} & set(others.OTHERS)


def test_each_image_type_is_compared(history: dict[str, Any]) -> None:
    """A CPU type comes first, with somebody else's AMI: that was compared with ours, and ours not seen at all."""
    first, second = history["first"]["built"]["ami_id"], history["second"]["built"]["ami_id"]
    (ours,) = [row for row in _ours(history["second"]["applied"]) if row["address"] == others.AFTER]
    (shown,) = [row for row in history["second"]["applied"]["live"] if row["address"] == others.AFTER]

    assert (ours["old_ami"], ours["new_ami"]) == (first, second)
    assert ours["images"] == [
        {"image_type": others.CPU, "old_ami": others.THEIRS, "new_ami": others.THEIRS},
        {"image_type": others.GPU, "old_ami": first, "new_ami": second},
    ]
    assert shown["ami_id"] == second


def test_what_moves_is_imported_or_let_go_of_is_counted(history: dict[str, Any]) -> None:
    """Nothing of that was named; alone it was called "No resource changes.", and applied as "outputs only"."""
    applied = history["second"]["applied"]

    assert {word: applied["count"][word] for word in ("forget", "move", "import")} == {
        "forget": 1,
        "move": 1,
        "import": 1,
    }
    assert "1 to forget, 1 to move, 1 to import" in history["second"]["said"]
    (moved,) = [row for row in applied["resources"] if row["previous_address"]]
    assert (moved["address"], moved["previous_address"]) == (others.AFTER, others.BEFORE)


def test_rollback_follows_a_renamed_environment(history: dict[str, Any], checkout: Checkout) -> None:
    """No receipt knew of an AMI before at the new address: it would have refused to go back at all."""
    first, second = history["first"]["built"]["ami_id"], history["second"]["built"]["ami_id"]
    (change,) = [c for c in _receipts(checkout)[2]["changes"] if c["address"] == others.AFTER]

    assert (change["old"], change["new"]) == (second, first)
    assert history["back"]["images"][others.OURS] == {others.CPU: others.THEIRS, others.GPU: first}


def test_what_was_left_behind_has_its_own_word_and_permission(history: dict[str, Any], checkout: Checkout) -> None:
    """It stands in the plan at the live address, and was taken for the live environment: plan, jobs and receipt."""
    refused, back = json.loads(history["refused"].stdout), history["back"]
    (found,) = [finding for finding in refused["findings"] if finding["code"] == "deposed"]

    assert others.OLD in found["detail"]
    assert f"--allow-deposed '{others.OLD}'" in found["advice"]
    assert refused["count"]["delete-deposed"] == 1
    assert others.OLD not in back["images"]
    assert {c["new"] for c in _receipts(checkout)[2]["changes"]} == {history["first"]["built"]["ami_id"]}


def test_another_number_of_image_types_and_letting_go_are_refused(history: dict[str, Any]) -> None:
    """The provider replaces the environment for it, whatever role and strategy; forgetting asks like destroying."""
    assert history["refused"].returncode == 6
    found = {finding["code"]: finding for finding in json.loads(history["refused"].stdout)["findings"]}

    assert set(found) == {"deposed", "replaced", "forgotten"}
    assert found["replaced"]["address"] == others.AFTER
    assert "the number of ec2_configuration blocks, 2 and then 1" in found["replaced"]["detail"]
    assert found["forgotten"]["address"] == others.FARGATE


def test_the_amis_are_tagged_applied(history: dict[str, Any], up: Sandbox) -> None:
    """Clean-up waits for that."""
    ids = [history[name]["built"]["ami_id"] for name in ("first", "second")]
    images = up.access.client("ec2").describe_images(ImageIds=ids)["Images"]

    tags = [{tag["Key"]: tag["Value"] for tag in image["Tags"]}["gpu-ami:handover"] for image in images]
    assert tags == ["applied", "applied"]


def test_again_there_is_nothing_to_do(history: dict[str, Any], checkout: Checkout) -> None:
    """A clean plan: the provider reads back what it wrote."""
    before = len(_receipts(checkout))

    done = checkout.invoke("apply", *NO_QUEUE, "--sandbox", "--output", "json")

    assert done.returncode == 0, done.stderr
    assert "No changes" in done.stderr
    assert len(_receipts(checkout)) == before


def test_a_locked_state_is_named(history: dict[str, Any], checkout: Checkout) -> None:
    """Another run holds it, by the operating system's own lock."""
    state = checkout.root / ".sandbox" / "terraform" / "terraform.tfstate"
    with state.open("r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        done = checkout.invoke("apply", *NO_QUEUE, "--sandbox")

    assert done.returncode == 6
    assert "is locked" in done.stderr


def test_a_replacement_is_refused_with_the_attribute_that_forces_it(
    history: dict[str, Any], checkout: Checkout
) -> None:
    """The real provider below 6.10 replaces the environment when its strategy becomes this one."""
    setting = "spot_allocation_strategy=SPOT_PRICE_CAPACITY_OPTIMIZED"
    done = checkout.invoke("plan", *NO_QUEUE, "--var", setting, "--sandbox", "--output", "json")

    assert done.returncode == 6, done.stderr
    codes = [finding["code"] for finding in json.loads(done.stdout)["findings"]]
    assert codes == ["replaced", "provider-too-old"]
    assert "allocation_strategy" in done.stderr


def test_an_environment_is_not_destroyed(history: dict[str, Any], checkout: Checkout) -> None:
    """Left out of the code, it would go with the jobs in it."""
    assert _refusals(checkout, "--var", "on_demand_max_vcpus=0") == {"destroyed"}


def test_another_ami_than_the_one_handed_over_is_refused(history: dict[str, Any], checkout: Checkout) -> None:
    """A variable that somebody left in the shell beats the file."""
    other = history["second"]["built"]["ami_id"]

    assert _refusals(checkout, "--var", f"gpu_ami_id={other}") == {"ami-differs"}


def test_an_ami_that_is_gone_is_refused(history: dict[str, Any], checkout: Checkout) -> None:
    """Terraform itself would take it, and Batch would start nothing."""
    named = checkout.root / ".sandbox" / "terraform" / "gpu-ami.auto.tfvars.json"
    with _changed(named, history["first"]["built"]["ami_id"], "ami-0123456789abcdef0"):
        assert _refusals(checkout) == {"ami-unusable"}


def test_environments_that_do_not_take_the_variable_are_refused(history: dict[str, Any], checkout: Checkout) -> None:
    """Somebody has pinned another AMI in the code: the hand-over would change nothing, and nobody would notice."""
    other = history["second"]["built"]["ami_id"]

    with _changed(checkout.root / "terraform" / "main.tf", "= var.gpu_ami_id", f'= "{other}"'):
        assert _refusals(checkout) == {"ami-differs", "ami-unused"}


def test_an_ami_that_only_the_apply_knows_is_refused(history: dict[str, Any], checkout: Checkout) -> None:
    """What cannot be compared is not applied."""
    with _changed(checkout.root / "terraform" / "main.tf", "= var.gpu_ami_id", "= terraform_data.ami.output") as main:
        main.write_text(main.read_text() + '\nresource "terraform_data" "ami" {\n  input = timestamp()\n}\n')

        assert _refusals(checkout) == {"ami-unknown"}


def test_a_killed_apply_is_finished_by_the_next(history: dict[str, Any], checkout: Checkout, up: Sandbox) -> None:
    """Kill -9 at its worst moment: Terraform goes on, the receipt says started, a re-run completes it."""
    second = history["second"]["built"]["ami_id"]
    assert checkout.invoke("update-tfvars", "--ami", second, "--sandbox").returncode == 0
    child = checkout.popen("apply", *NO_QUEUE, "--sandbox")
    end = time.monotonic() + 300
    while not any(receipt["status"] == "started" for receipt in _receipts(checkout)):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end, "no receipt came"
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    root = Path(tempfile.gettempdir()) / f"gpu-ami-{os.getuid()}"
    (plan,) = root.glob(f"{child.pid}-*/*/plan")

    while (done := checkout.invoke("apply", *NO_QUEUE, "--sandbox")).returncode == 6 and "is locked" in done.stderr:
        assert time.monotonic() < end, done.stderr
        time.sleep(0.5)

    assert done.returncode == 0, done.stderr
    assert "was cut short" in done.stderr
    scratch.remove_dead()  # as each start does; at the last one Terraform may not have been quite gone
    assert not plan.exists(), "it holds every variable's value"
    assert {receipt["status"] for receipt in _receipts(checkout)} == {"applied"}
    assert {_ami(row) for row in _batch(up).values()} == {second}


def test_another_sandbox_starts_with_an_empty_state(
    history: dict[str, Any], checkout: Checkout, tmp_path: Path
) -> None:
    """Its ids are the same: a state left behind would seem to fit, and environments that are gone would be updated."""
    other = make_checkout(tmp_path / "other")
    old, new = checkout.root / ".sandbox" / "terraform", other.root / ".sandbox" / "terraform"
    new.mkdir(parents=True)
    for name in ("terraform.tfstate", "gpu-ami.auto.tfvars.json", ".sandbox-session"):
        (new / name).write_bytes((old / name).read_bytes())

    done = other.invoke("plan", *NO_QUEUE, "--sandbox", "--output", "json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {environment["action"] for environment in document["environments"]} == {"create"}
    assert document["ami_id"] is None
