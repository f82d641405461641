"""The sandbox's copies of packer/ and terraform/."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.staging import stage


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_nobodys_variables_state_or_backend_travel(repository: Path) -> None:
    """Each of these files would lead a sandbox run to a real account."""
    stage(Workspace(repository, sandbox=True))

    assert _files(repository / ".sandbox") == {
        "packer/a.pkr.hcl",
        "packer/scripts/a.sh",
        "terraform/main.tf",
        "terraform/modules/m/main.tf",
    }


def test_the_records_of_families_stay_and_files_of_that_name_travel(repository: Path) -> None:
    """What lies in rootfs/ goes into the image, and Terraform may read any file, whatever they are called."""
    mine = ("packer/rootfs/opt/release-a.json", "terraform/manifest-a.json", "terraform/modules/release-a.json")
    for name in (*mine, "packer/manifest-a.json", "packer/release-a.json", "packer/builds/ami-0/build-a.json"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("{}")

    stage(Workspace(repository, sandbox=True))

    assert {name for name in _files(repository / ".sandbox") if name.endswith("-a.json")} == set(mine)


def test_staging_again_follows_the_sources_and_keeps_the_sandboxs_own(repository: Path) -> None:
    """A removed file must not linger, and the handed-over variable must not be lost."""
    workspace = Workspace(repository, sandbox=True)
    (repository / "terraform" / "old.tf").write_text("")
    stage(workspace)
    (workspace.terraform / "gpu-ami.auto.tfvars.json").write_text("{}")
    (workspace.terraform / "terraform.tfstate").write_text("{}")
    (repository / "terraform" / "old.tf").unlink()
    (repository / "terraform" / "modules" / "m" / "main.tf").unlink()
    (repository / "packer" / "scripts" / "a.sh").unlink()

    stage(workspace)

    assert _files(workspace.state) == {
        "packer/a.pkr.hcl",
        "terraform/main.tf",
        "terraform/gpu-ami.auto.tfvars.json",
        "terraform/terraform.tfstate",
    }


def test_what_another_build_is_about_to_put_there_is_left_to_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds of several families begin together: one that lost its copy before it was in place would not start."""
    workspace = Workspace(repository, sandbox=True)
    stage(workspace)
    theirs = workspace.packer / "scripts" / ".a.sh.1.new"
    theirs.write_text("")

    stage(workspace)
    assert theirs.exists()

    now = time.time()
    monkeypatch.setattr("gpu_ami_sandbox.staging.time.time", lambda: now + 3600)
    stage(workspace)
    assert not theirs.exists()


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    """A checkout without packer/ is not a checkout of this repository."""
    with pytest.raises(UsageError, match="copies under"):
        stage(Workspace(tmp_path, sandbox=True))


def test_files_are_named_as_a_person_would_type_them(tmp_path: Path) -> None:
    """Paths in messages are relative to the repository, others are whole."""
    workspace = Workspace(tmp_path, sandbox=True)

    assert workspace.shown(workspace.manifest) == ".sandbox/manifest.json"
    assert workspace.shown(workspace.release) == ".sandbox/release.json"
    assert workspace.shown(workspace.builds) == ".sandbox/builds"
    assert Workspace(tmp_path).shown(Workspace(tmp_path).builds) == "packer/builds"
    assert workspace.shown(Path("/elsewhere")) == "/elsewhere"
    assert Workspace(tmp_path).shown(Workspace(tmp_path).manifest) == "packer/manifest.json"
    assert Workspace(tmp_path).shown(Workspace(tmp_path).release) == "packer/release.json"
    assert Workspace(tmp_path).shown(Workspace(tmp_path).logs) == "logs"


def test_what_has_not_changed_is_not_touched(repository: Path) -> None:
    """A build in another terminal reads its scripts there, one after another."""
    workspace = Workspace(repository, sandbox=True)
    stage(workspace)
    made = [workspace.packer / f"{family}sandbox.pkrvars.json" for family in ("", "video.", "training.")]
    for path in made:
        path.write_text("{}")
    before = {path: path.stat().st_ino for path in workspace.state.rglob("*")}
    (repository / "packer" / "a.pkr.hcl").write_text("# changed\n")

    stage(workspace)

    after = {path: path.stat().st_ino for path in workspace.state.rglob("*")}
    assert {path.name for path in before if after.get(path) != before[path]} == {"a.pkr.hcl"}
    assert (workspace.packer / "a.pkr.hcl").read_text() == "# changed\n"
    assert all(path.exists() for path in made), "of another family, whose Packer is about to read it"
