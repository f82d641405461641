"""What is kept of a build: the record byte for byte, the bill that it names, and no secret."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.bake import archiving
from gpu_ami.bake.attest import Written
from gpu_ami.bake.job import Baked, Job
from gpu_ami.bake.release_tags import Recorded
from gpu_ami.errors import BuildError, UsageError
from gpu_ami.handover.build_store import BuildStore
from gpu_ami.records import archive, build_facts, provenance, release
from gpu_ami.records.manifest_file import Build
from tests.records.test_image_comparison import archived
from tests.support.account import REGION, Task, World, task

TEMPLATE = """
variable "volume_size_gib" {
  type    = number
  default = 80
}
variable "token" {
  type      = string
  default   = "hush-1"
  sensitive = true
}
variable "ecs_extra_config" {
  type    = map(string)
  default = { ECS_ENGINE_AUTH_DATA = "hush-2" }
}
variable "subnet_id" {
  type    = string
  default = "subnet-1"
}
"""


@pytest.fixture
def done(here: World, tmp_path: Path) -> Task:
    """A task in a repository of its own."""
    return task(here, tmp_path)


def _made(here: World, done: Task, **record: Any) -> tuple[Baked, Build, Recorded]:
    """Return a bake that is over, with a bill where the record names one."""
    image = here.image(1)
    image.add_tags({"gpu-ami:run": "run-1", "gpu-ami:handover": "pending", "mine": "x"})
    folder = done.run.workspace.packer
    folder.mkdir()
    (folder / "a.pkr.hcl").write_text(TEMPLATE)
    lists = done.run.workspace.root / "lists"
    lists.mkdir()
    files = archived(image.id)
    (lists / archive.BILL).write_text(files[archive.BILL])
    text = json.dumps(json.loads(files[archive.RELEASE]) | record)
    job = _job(folder, lists, done.run.workspace.terraform)
    recorded = Recorded(
        image=images.describe(Caller(here.access), image.id),
        snapshot_gib=28.0,
        release=release.parse(text, source="x"),
        text=text,
        tags={"gpu-ami:kernel": "6.1.141"},
    )
    return Baked(job, None), Build(builder_type="amazon-ebs", artifact_id=f"{REGION}:{image.id}"), recorded


def _job(folder: Path, lists: Path | None, terraform: Path) -> Job:
    from gpu_ami.bake.packer_command import Inputs, Packer
    from gpu_ami.terraform.terraform_command import Terraform

    packer = Packer(Path("packer"), folder, {})
    return Job(
        packer=packer,
        terraform=Terraform(Path("terraform"), terraform, {}),
        inputs=Inputs((), {}),
        plugin_path=folder,
        run_id="run-1",
        lists=lists,
    )


def test_what_a_build_wrote_is_kept(here: World, done: Task) -> None:
    """The record as its builder wrote it; of the variables those that say what the image is, and no secret."""
    baked, build, recorded = _made(here, done)

    archiving.keep(done.run, baked, build, recorded, Written())

    ami = recorded.image.image_id
    files = archive.read(done.run.workspace.builds, ami)
    assert set(files) == {archive.RELEASE, archive.BILL, archive.BUILD}
    assert files[archive.RELEASE] == recorded.text
    assert hashlib.sha256(files[archive.BILL].encode()).hexdigest() == recorded.release.bill_sha256
    facts = build_facts.parse(files[archive.BUILD], source="x")
    assert (facts.ami, facts.amis, facts.settings) == (ami, {REGION: ami}, {"volume_size_gib": 80})
    assert facts.tags["gpu-ami:kernel"] == "6.1.141"
    assert not {"mine", "gpu-ami:handover"} & set(facts.tags)
    assert "hush" not in "".join(files.values())
    assert done.err.getvalue() == ""


def test_the_provenance_is_kept_with_the_record_that_it_names(
    here: World, done: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one writing, to disk and to the bucket; what an ended sandbox left under the same id goes."""
    baked, build, recorded = _made(here, done)
    ami, workspace = recorded.image.image_id, done.run.workspace
    left = provenance.path_of(workspace.terraform, ami)
    for path in (left, provenance.bundle_of(left)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    archive.keep(workspace.builds, ami, {archive.SIGSTORE: "{}", archive.PROVENANCE: "{}"})
    shared: list[set[str]] = []
    monkeypatch.setattr(BuildStore, "share", lambda _self, _ami, files: shared.append(set(files)))

    archiving.keep(done.run, baked, build, recorded, Written({archive.PROVENANCE: "new"}))

    assert list(left.parent.iterdir()) == []
    kept = archive.read(workspace.builds, ami)
    assert (kept[archive.PROVENANCE], kept[archive.RELEASE]) == ("new", recorded.text)
    assert shared == [set(kept)] == [{archive.PROVENANCE, archive.RELEASE, archive.BILL, archive.BUILD}]


def test_a_provenance_that_cannot_be_kept_ends_the_build(here: World, done: Task) -> None:
    """The tag, which comes after, would name a file that is nowhere: the AMI would be refused wherever it is used."""
    baked, build, recorded = _made(here, done)
    done.run.workspace.builds.write_text("a file where the folder would be")

    with pytest.raises(BuildError, match=f"^The provenance of {recorded.image.image_id} cannot be kept: The archive "):
        archiving.keep(done.run, baked, build, recorded, Written({archive.PROVENANCE: "{}"}))


def test_a_secret_that_no_template_calls_one_is_not_kept(here: World, done: Task) -> None:
    """Packer passes over a variable of another template, and one with a user and a password in an address is a text."""
    baked, build, recorded = _made(here, done)
    (done.run.workspace.packer / "b.pkr.hcl").write_text('variable "proxy" { type = string }\n')
    text = 'db_password = "hush-3"\nproxy = "http://me:hush-4@proxy.example:3128/?signature=hush-5"\n'
    (done.run.workspace.packer / "x.auto.pkrvars.hcl").write_text(text)

    archiving.keep(done.run, baked, build, recorded, Written())

    kept = archive.read(done.run.workspace.builds, recorded.image.image_id)[archive.BUILD]
    settings = build_facts.parse(kept, source="x").settings
    assert settings == {"volume_size_gib": 80, "proxy": "http://...@proxy.example:3128/?..."}
    assert "hush" not in kept


def test_a_bake_without_a_bill_is_kept_and_said(here: World, done: Task) -> None:
    """It is paid for, and the AMI is as good; that nobody knows its packages must not pass unnoticed."""
    baked, build, recorded = _made(here, done, bill_sha256=None)

    archiving.keep(done.run, baked, build, recorded, Written())

    assert set(archive.read(done.run.workspace.builds, recorded.image.image_id)) == {archive.RELEASE, archive.BUILD}
    assert f"{recorded.image.image_id} has no bill of materials: Packer's log says why" in done.err.getvalue()


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [("{}", BuildError, "not the one whose SHA-256"), (None, UsageError, "bill of materials .* does not exist")],
)
def test_another_bill_than_the_record_s_is_refused(
    here: World, done: Task, text: str | None, error: type[Exception], reason: str
) -> None:
    """The record is in the image by then: what it names must be what is kept."""
    baked, build, recorded = _made(here, done)
    assert baked.job.lists is not None
    bill = baked.job.lists / archive.BILL
    bill.write_text(text) if text is not None else bill.unlink()

    with pytest.raises(error, match=reason):
        archiving.keep(done.run, baked, build, recorded, Written())

    assert archive.read(done.run.workspace.builds, recorded.image.image_id) == {}


def test_a_bucket_that_cannot_be_written_is_a_warning(here: World, done: Task) -> None:
    """The tree has it all; that other machines do not, is said."""
    baked, build, recorded = _made(here, done)
    note = done.run.workspace.terraform / ".terraform" / "terraform.tfstate"
    note.parent.mkdir(parents=True)
    config = {"bucket": "no-such-bucket", "key": "t", "region": REGION}
    note.write_text(json.dumps({"backend": {"type": "s3", "config": config}}))

    archiving.keep(done.run, baked, build, recorded, Written())

    ami = recorded.image.image_id
    assert f"Other machines cannot read what was built into {ami}: " in done.err.getvalue()
    assert f"s3://no-such-bucket/builds/{ami}/" in done.err.getvalue()
    assert archive.BILL in archive.read(done.run.workspace.builds, ami)


def test_a_folder_that_cannot_be_written_is_a_warning(here: World, done: Task) -> None:
    """A full disk, or a folder of root's: the bake is paid for, and without this it would not even be finished."""
    baked, build, recorded = _made(here, done)
    done.run.workspace.builds.write_text("a file where the folder would be")

    archiving.keep(done.run, baked, build, recorded, Written())

    assert f"What was built into {recorded.image.image_id} is not kept here: The archive " in done.err.getvalue()


def test_a_backend_that_cannot_be_read_is_a_warning(here: World, done: Task) -> None:
    """The selected workspace may be damaged: a reason to keep the AMI in the tree alone."""
    baked, build, recorded = _made(here, done)
    note = done.run.workspace.terraform / ".terraform" / "environment"
    note.parent.mkdir(parents=True)
    note.write_bytes(b"\xff\xfe")

    archiving.keep(done.run, baked, build, recorded, Written())

    ami = recorded.image.image_id
    assert f"Other machines cannot read what was built into {ami}: " in done.err.getvalue()
    assert archive.BILL in archive.read(done.run.workspace.builds, ami)


def test_where_nothing_can_be_kept_is_said_before_the_bake(here: World, done: Task) -> None:
    """A folder that root has made, a selection of a workspace that is damaged: after it, an hour is paid for."""
    baked, _build, _recorded = _made(here, done)
    builds, selected = done.run.workspace.builds, done.run.workspace.terraform / ".terraform" / "environment"

    archiving.check_places(done.run, baked.job)

    assert list(builds.iterdir()) == []
    builds.rmdir()
    builds.write_text("a file where the folder would be")
    with pytest.raises(UsageError, match=rf"No archive of a build can be kept in {builds} \(File exists\)"):
        archiving.check_places(done.run, baked.job)
    builds.unlink()
    selected.parent.mkdir(parents=True)
    selected.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="selected workspace"):
        archiving.check_places(done.run, baked.job)


@pytest.mark.parametrize("name", ["contents_path", "bill_path", "bill_command"])
def test_variables_that_lead_the_bill_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    """They are documented, for a bake by hand; found out after the bake they would cost it."""
    text = "".join(
        f'variable "{each}" {{\n  type    = string\n  default = null\n}}\n'
        for each in ("contents_path", "bill_path", "bill_command")
    )
    (tmp_path / "a.pkr.hcl").write_text(text)
    archiving.check(_job(tmp_path, None, tmp_path))
    (tmp_path / "a.auto.pkrvars.hcl").write_text(f'{name} = "bills/x"\n')

    with pytest.raises(UsageError, match=f"variables say {name}, which is for `packer build` by hand"):
        archiving.check(_job(tmp_path, None, tmp_path))
