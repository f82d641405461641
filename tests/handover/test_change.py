"""Symbolic links and settings: followed inside the repository, refused where they lead out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.handover.change import resolve, settings_file
from gpu_ami.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a file, beside a folder that is none of its business."""
    (tmp_path / "repo" / "terraform").mkdir(parents=True)
    (tmp_path / "repo" / "shared").mkdir()
    (tmp_path / "repo" / "shared" / "x.tfvars").write_text("")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.tfvars").write_text("")
    return tmp_path / "repo"


def test_a_plain_file_is_itself(root: Path) -> None:
    """As is one that is not there yet, and one that the caller names outside."""
    for file in (root / "shared" / "x.tfvars", root / "terraform" / "new.tfvars", root.parent / "outside" / "x.tfvars"):
        assert resolve(file, root) == file


def test_a_link_inside_the_repository_is_followed(root: Path) -> None:
    """The file that it leads to is written; the link stays a link."""
    link = root / "terraform" / "x.tfvars"
    link.symlink_to("../shared/x.tfvars")
    folder = root / "modules"
    folder.symlink_to("shared")

    assert resolve(link, root) == resolve(folder / "x.tfvars", root) == root / "shared" / "x.tfvars"


@pytest.mark.parametrize("target", ["../../outside/x.tfvars", "../../outside/new.tfvars"])
def test_a_link_out_of_the_repository_is_refused(root: Path, target: str) -> None:
    """Whoever reviews the repository's diff would not see that change."""
    link = root / "terraform" / "x.tfvars"
    link.symlink_to(target)

    with pytest.raises(UsageError, match=r"x\.tfvars leads out of the repository .*: name .*outside"):
        resolve(link, root)


def test_a_folder_that_leads_out_is_refused(root: Path) -> None:
    """A link anywhere on the way counts."""
    (root / "modules").symlink_to("../outside")

    with pytest.raises(UsageError, match="leads out of the repository"):
        resolve(root / "modules" / "x.tfvars", root)


def test_links_in_a_circle_are_refused(root: Path) -> None:
    """One line, not a crash."""
    (root / "a.tfvars").symlink_to("b.tfvars")
    (root / "b.tfvars").symlink_to("a.tfvars")

    with pytest.raises(UsageError, match="round in a circle"):
        resolve(root / "a.tfvars", root)


def test_a_repository_behind_a_link_is_still_one(root: Path) -> None:
    """A checkout in a linked home folder works as any other."""
    alias = root.parent / "alias"
    alias.symlink_to("repo")
    (root / "terraform" / "x.tfvars").symlink_to("../../outside/x.tfvars")

    file = alias / "shared" / "x.tfvars"
    assert resolve(file, alias).resolve() == root / "shared" / "x.tfvars"
    with pytest.raises(UsageError, match="leads out of the repository"):
        resolve(alias / "terraform" / "x.tfvars", alias)


@pytest.mark.parametrize("setting", ["../x.tfvars", "terraform/../../x.tfvars", "../repository/x.tfvars"])
def test_a_setting_that_leads_out_is_refused_as_a_link_is(root: Path, setting: str) -> None:
    """Before this it was written there without a word."""
    with pytest.raises(UsageError, match=r"handover\.file \S+ leads out of the repository: name /\S+x\.tfvars itself"):
        settings_file(Workspace(root), setting)


def test_a_setting_inside_or_by_its_whole_path_is_meant(root: Path) -> None:
    """Terraform's code may be a neighbour of this repository: who writes the whole path has decided that."""
    outside = root.parent / "outside" / "x.tfvars"

    assert settings_file(Workspace(root), "terraform/../shared/x.tfvars") == root / "terraform/../shared/x.tfvars"
    assert settings_file(Workspace(root), str(outside)) == outside


@pytest.mark.parametrize("setting", ["../terraform/x.tfvars", "/outside/x.tfvars"])
def test_the_sandbox_leaves_what_is_not_its_own_alone(root: Path, setting: str) -> None:
    """It would write its AMI there, or remove a file that names an AMI of AWS."""
    with pytest.raises(SafetyError, match=r"leads out of \.sandbox/"):
        settings_file(Workspace(root, sandbox=True), setting)


def test_a_file_of_a_sandbox_on_another_disk_is_in_the_sandbox(root: Path) -> None:
    """Named as messages name it, by the link."""
    (root / ".sandbox").symlink_to("../outside")
    folder = Workspace(root, sandbox=True).sandbox_folder

    assert resolve(root / ".sandbox" / "x.tfvars", root, sandbox=folder) == root.parent / "outside" / "x.tfvars"
    assert settings_file(Workspace(root, sandbox=True), "x.tfvars") == root.parent / "outside" / "x.tfvars"
