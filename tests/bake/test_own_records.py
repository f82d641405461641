"""What a family's bake is given, and kept from: another family's variables, and its manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpu_ami import families
from gpu_ami.aws.access import Access
from gpu_ami.bake import build, own_records, prepare
from gpu_ami.errors import UsageError
from gpu_ami.invocation import Invocation
from tests.terraform.test_terraform_command import PACKER, ROOT, TERRAFORM
from tests.test_families import TWO, invocation

DECLARED = "".join(
    f'variable "{name}" {{\n  type = string\n  default = null\n}}\n' for name in ("manifest_path", "release_path", "x")
)

# Files that go into the image, named as what builds leave in the folder above.
IN_THE_IMAGE = (
    "rootfs/etc/pki/team-ca.pem",
    "rootfs/opt/manifest-v2.json",
    "rootfs/opt/release.json",
    "rootfs/builds/x",
)


@pytest.fixture
def video(tmp_path: Path) -> Invocation:
    """The family video; that of training, and what both have, is there, too."""
    folder = tmp_path / "packer"
    (folder / "scripts").mkdir(parents=True)
    (folder / "a.pkr.hcl").write_text(DECLARED)
    for name in ("video.auto.pkrvars.hcl", "training.auto.pkrvars.hcl", "common.auto.pkrvars.hcl"):
        (folder / name).write_text(f'x = "{name[0]}"\n')
    for name in ("manifest-video.json", "release.json", "crash.log", "contents.json", "scripts/a.sh", "models.yaml"):
        (folder / name).write_text("")
    for name in (*IN_THE_IMAGE, "builds/ami-0123456789abcdef0/bill.cdx.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return families.chosen(invocation(tmp_path, TWO))[0]


def _variables(run: Invocation, **given: str) -> dict[str, str]:
    return own_records.variables(run, run.workspace.root / run.settings.variables_file, given)


def _write(run: Invocation, family: str, text: str) -> None:
    (run.workspace.packer / f"{family}.auto.pkrvars.hcl").write_text(text)


def test_packer_gets_a_copy_without_what_is_another_family_s(video: Invocation) -> None:
    """It reads every *.auto.pkrvars.hcl of its folder, the last one by name counts: training's would be baked."""
    copy = prepare._staged(video)

    found = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    own = ["a.pkr.hcl", "common.auto.pkrvars.hcl", "models.yaml", "scripts/a.sh", "video.auto.pkrvars.hcl"]
    assert found == sorted([*own, *IN_THE_IMAGE])
    assert [path.name for path in prepare._left_out(video)] == ["training.auto.pkrvars.hcl"]
    assert copy.name == "packer"
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    video.close()
    assert not copy.exists()


def test_manifest_and_release_record_are_the_family_s_own(video: Invocation, tmp_path: Path) -> None:
    """The template's own names are for one; a path that somebody gives stays."""
    folder = tmp_path / "packer"
    assert _variables(video) == {
        "manifest_path": str(folder / "manifest-video.json"),
        "release_path": str(folder / "release-video.json"),
    }
    assert _variables(video, manifest_path="mine.json") == {"release_path": str(folder / "release-video.json")}
    _write(video, "video", 'manifest_path = "a.json"\nrelease_path = "b.json"\n')
    assert _variables(video) == {}
    assert own_records.variables(invocation(tmp_path, "region: eu-west-1\n"), folder / "x", {}) == {}


@pytest.mark.parametrize(
    ("ours", "theirs", "problem"),
    [
        ('manifest_path = "a.json"', 'manifest_path = "./a.json"', "the same manifest_path, a.json"),
        ('manifest_path = "manifest-training.json"', "", "the same manifest_path, manifest-training.json"),
        ('release_path = "/r.json"', 'release_path = "/x/../r.json"', "the same release_path, /r.json"),
    ],
)
def test_two_families_with_one_record_are_refused(video: Invocation, ours: str, theirs: str, problem: str) -> None:
    """The one built last would take the other's place, and its AMI be handed over for both."""
    _write(video, "video", f"{ours}\n")
    _write(video, "training", f"{theirs}\n")

    with pytest.raises(UsageError, match=f"The families video and training have {problem}: give each its own"):
        _variables(video)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_build_of_one_family_reads_its_own_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    """What we judge by and what Packer is given agree; a dry run makes no copy, and says that there would be one."""
    shutil.copytree(ROOT / "packer", tmp_path / "packer")
    example = (tmp_path / "packer" / "variables.auto.pkrvars.hcl.example").read_text()
    for number, family in enumerate(("video", "training"), 1):
        values = f"{example}volume_size_gib = {number}00\n"
        (tmp_path / "packer" / f"{family}.auto.pkrvars.hcl").write_text(values)
    monkeypatch.setattr(prepare, "terraform_tools", lambda: TERRAFORM)
    monkeypatch.setattr(prepare, "packer_tools", lambda: PACKER)
    run = families.chosen(invocation(tmp_path, dry_run=dry_run))[0]
    run.__dict__["access"] = Access(region="ap-northeast-2")

    job = prepare.prepare(run, ())

    command = job.packer.build(job.inputs)
    named = [argument.rpartition("/")[2] for argument in command.argv if argument.startswith("-var-file=")]
    assert named == ["video.auto.pkrvars.hcl"]
    assert job.values()["volume_size_gib"] == 100
    assert job.inputs.variables["manifest_path"] == str(tmp_path / "packer" / "manifest-video.json")
    assert command.cwd == tmp_path / "packer"
    folder = Path(command.argv[-1])
    lines = "\n".join(build.command_lines(job, debug=False))
    assert ("in a copy of the folder without training.auto.pkrvars.hcl" in lines) is True
    if dry_run:
        assert str(folder) == "."
    else:
        assert [path.name for path in folder.glob("*.auto.pkrvars.hcl")] == ["video.auto.pkrvars.hcl"]
        assert (folder / "scripts" / "cleanup.sh").is_file()
    run.close()
