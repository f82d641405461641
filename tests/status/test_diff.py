"""`invoke diff` as a whole: which AMIs it takes, where what is known of them comes from, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.deploy import apply
from gpu_ami.errors import AwsError, DifferenceError, UsageError
from gpu_ami.handover.build_store import BuildStore
from gpu_ami.records import archive
from gpu_ami.records.image_comparison import KINDS
from gpu_ami.status import diff
from tests.records.test_image_comparison import NEW, OLD, archived
from tests.support.account import REGION, Task, World, task
from tests.support.fake_terraform import FakeTerraform
from tests.support.schemas import problems, schemas


def _keep(root: Path, *made: tuple[str, dict[str, str]]) -> None:
    for ami, files in made:
        archive.keep(root / "packer" / "builds", ami, files)


def _diff(here: World, root: Path, old: str | None, new: str | None, **more: Any) -> Task:
    done = task(here, root, **more)
    diff.run(done.run, diff.Request(old=old, new=new))
    return done


def _differ(here: World, root: Path, old: str | None, new: str | None, **more: Any) -> Task:
    done = task(here, root, **more)
    with pytest.raises(DifferenceError, match=" differs from "):
        diff.run(done.run, diff.Request(old=old, new=new))
    assert more.get("output", "json") != "json" or problems("diff", done.document) == []
    return done


def test_two_archives_need_no_aws(here: World, tmp_path: Path) -> None:
    """Years later, and without credentials."""
    _keep(tmp_path, (OLD, archived()), (NEW, archived(NEW, "run-2", kernel="6.1.150")))
    here.aws.gate.deny("*")

    found = _differ(here, tmp_path, OLD, NEW).document

    assert [(one["kind"], one["old"], one["new"]) for one in found["differences"]] == [("kernel", "6.1.141", "6.1.150")]
    assert (found["from"], found["to"], found["unknown"]) == (OLD, NEW, [])
    assert (found["from_source"], found["summary"]) == (f"packer/builds/{OLD}", "kernel 6.1.141 → 6.1.150")


def test_the_answer_comes_first_and_fits(here: World, tmp_path: Path) -> None:
    """A hundred columns, whatever the names are; and what is in no list is said."""
    models = {f"{'deep/' * 30}{number}.pt": (1024**3, "c") for number in range(3)}
    base = {"id": "ami-0123456789abcdef9", "name": f"al2023-{'x' * 80}"}
    _keep(tmp_path, (OLD, archived()), (NEW, archived(NEW, "run-2", models=models, source_ami=base)))

    text = _differ(here, tmp_path, OLD, NEW, output="table").out.getvalue()

    assert text.startswith(f"{OLD} → {NEW}: base AMI al2023")
    assert "3 models new, 2 models gone" in text.replace("\n", " ")
    assert max(map(len, text.splitlines())) <= 100
    assert "Packages inside the container image are in no list" in text
    assert "1.0 GiB, cccccccccccc" in text


def test_the_same_ends_well(here: World, tmp_path: Path) -> None:
    """Of one AMI nothing is looked up, whether or not it has an archive."""
    _keep(tmp_path, (OLD, archived()), (NEW, archived(NEW, "run-2")))

    assert _diff(here, tmp_path, OLD, NEW).document["differences"] == []
    assert f"{OLD} → {NEW}: no difference." in _diff(here, tmp_path, OLD, NEW, output="table").out.getvalue()
    here.aws.gate.deny("*")
    same = "ami-0123456789abcdef7"
    assert problems("diff", _diff(here, tmp_path, same, same).document) == []
    assert "It is the same AMI" in _diff(here, tmp_path, same, same, output="markdown").out.getvalue()


def test_an_archive_beside_the_state_is_read(here: World, tmp_path: Path) -> None:
    """Another machine has built it."""
    bucket = "diff-states"
    here.access.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    note = tmp_path / "terraform" / ".terraform" / "terraform.tfstate"
    note.parent.mkdir(parents=True)
    config = {"bucket": bucket, "key": "gpu/terraform.tfstate", "region": REGION}
    note.write_text(json.dumps({"version": 3, "backend": {"type": "s3", "config": config}}))
    BuildStore(tmp_path / "elsewhere", tmp_path / "terraform", here.access).share(OLD, archived())
    _keep(tmp_path, (NEW, archived(NEW, "run-2", nvidia_driver="580.2")))

    found = _differ(here, tmp_path, OLD, NEW).document

    assert (found["from_source"], found["summary"]) == (f"s3://{bucket}/gpu/builds/{OLD}/", "driver 580.1 → 580.2")


def test_without_an_archive_the_tags_count(here: World, tmp_path: Path) -> None:
    """What they do not say is named; an AMI that is gone and has no archive is an error."""
    image = here.image(5)
    image.add_tags({"gpu-ami:kernel": "6.1.150"})
    _keep(tmp_path, (OLD, archived()))

    done = _differ(here, tmp_path, OLD, image.id, output="table")

    text = done.out.getvalue().replace("\n", " ")
    assert "kernel 6.1.141 → 6.1.150" in text
    assert f"{image.id}: from its tags alone" in text
    assert "not compared: base AMI, OS, driver" in text
    with pytest.raises(AwsError, match=f"{NEW} does not exist in {REGION}"):
        _diff(here, tmp_path, OLD, NEW)


def test_where_what_decides_is_unknown_nobody_says_that_it_is_the_same(here: World, tmp_path: Path) -> None:
    """Two AMIs by hand: that nothing is known to differ ends well, and looked like "the same"."""
    old, new = (str(here.image(age).id) for age in (9, 5))
    for ami in (old, new):
        here.maker.ec2.tags[ami] = {"gpu-ami:kernel": "6.1.141"}

    done = _diff(here, tmp_path, old, new)

    assert problems("diff", done.document) == []
    decides = "base AMI, container image, models, package, settings, scripts"
    assert done.document["same"] is None
    assert done.document["summary"] == f"no difference is known (not compared: {decides})"
    assert f"Nobody can say whether {new} is the same as {old}: " in done.err.getvalue()
    assert f"so not compared: {decides}." in done.err.getvalue()


def test_the_live_one_and_the_last_build_are_meant(terraform: FakeTerraform) -> None:
    """On a running pipeline nobody need name anything."""
    here, root = terraform.here, terraform.folder.parent
    live, built = here.image(5).id, here.image(1).id
    _keep(root, (live, archived(live)), (built, archived(built, "run-2", kernel="6.1.150")))
    terraform.hand_over(live)
    (root / "packer" / "manifest.json").write_text(
        json.dumps({"builds": [{"artifact_id": f"{REGION}:{built}", "builder_type": "amazon-ebs"}]})
    )
    with pytest.raises(UsageError, match=r"No AMI is live.*--from"):
        _diff(here, root, None, None)
    apply.run(task(here, root).run, apply.Request(yes=True))

    found = _differ(here, root, None, None).document

    assert (found["from"], found["to"], found["summary"]) == (live, built, "kernel 6.1.141 → 6.1.150")
    done = task(here, root, dry_run=True)
    diff.run(done.run, diff.Request())
    assert f"would compare the AMI that is live with {built}" in done.err.getvalue()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("latest", NEW, "--from 'latest' is not an AMI id"),
        (OLD, "ami-1", "--to 'ami-1' is not an AMI id"),
        (OLD, None, "Run `invoke build` first"),
    ],
)
def test_what_is_no_ami_is_one_line(here: World, tmp_path: Path, old: str | None, new: str | None, reason: str) -> None:
    """Before anything is looked up."""
    here.aws.gate.deny("*")

    with pytest.raises(UsageError, match=reason):
        _diff(here, tmp_path, old, new)


def test_a_broken_archive_is_no_reason_to_guess(here: World, tmp_path: Path) -> None:
    """A bill of 100 MB, or of another AMI, is an error that names the file: the tags would hide it."""
    _keep(tmp_path, (OLD, archived()), (NEW, archived(NEW, "run-2")))
    bill = tmp_path / "packer" / "builds" / OLD / archive.BILL
    for text, reason in ((archived(NEW, "run-2")[archive.BILL], "another AMI's"), (" " * 101_000_000, "16 MiB")):
        bill.write_text(text)
        with pytest.raises(UsageError, match=reason) as caught:
            _diff(here, tmp_path, OLD, NEW)
        assert str(caught.value).count("\n") == 0


def test_the_schema_knows_every_kind() -> None:
    """Scripts compare with them."""
    assert set(schemas()["diff"]["$defs"]["kind"]["enum"]) == set(KINDS)
