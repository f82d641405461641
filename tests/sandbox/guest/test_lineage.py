"""An instance of an AMI that was baked here starts with what was baked, and with an identity of its own."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest

from gpu_ami_sandbox.guest import Builder, lineage, machine
from gpu_ami_sandbox.guest.userdata import UserData
from tests.sandbox.guest.parts import REGION, World

FIRST = Builder("i-0123456789abcdef0", "ssh-ed25519 AAAA first")
SECOND = Builder("i-0fedcba9876543210", "ssh-ed25519 BBBB second", parent=FIRST.instance_id)


def _root(folder: Path, builder: Builder, parent: Path | None = None) -> Path:
    root = folder / builder.instance_id
    machine.make_root(root, builder, UserData(), tools=["bash"], region=REGION, parent=parent)
    return root


def test_what_was_baked_is_there_and_the_identity_is_new(tmp_path: Path) -> None:
    """The volume is the AMI's; ids, keys and host names are the instance's."""
    parent = _root(tmp_path, FIRST)
    (parent / "opt/model.pt").write_text("weights")
    (parent / "etc/ecs/ecs.config").write_text("ECS_IMAGE_PULL_BEHAVIOR=prefer-cached\n")
    (parent / "opt/model.pt").chmod(0o640)
    (parent / "etc/machine-id").write_text("")

    root = _root(tmp_path, SECOND, parent)

    assert (root / "opt/model.pt").read_text() == "weights"
    assert stat.S_IMODE((root / "opt/model.pt").stat().st_mode) == 0o640
    assert "prefer-cached" in (root / "etc/ecs/ecs.config").read_text()
    assert "BBBB" in (root / "home/ec2-user/.ssh/authorized_keys").read_text()
    assert "AAAA" not in (root / "root/.ssh/authorized_keys").read_text()
    assert (root / "etc/machine-id").read_text().strip()
    assert (root / "etc/hostname").read_text() != (parent / "etc/hostname").read_text()
    assert (root / "var/lib/cloud/instance").readlink() == Path("instances", SECOND.instance_id)
    assert SECOND.instance_id in (root / "var/lib/ecs/data/agent.db").read_text()
    assert (root / "bin").is_symlink()
    assert not list(tmp_path.glob(".first-boot*"))


def test_a_link_in_the_image_leads_nowhere(tmp_path: Path) -> None:
    """The first boot is written by us, outside the isolation: a link of a guest's must not lead our pen."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "authorized_keys").write_text("mine")
    (outside / "hostname").write_text("mine")
    parent = _root(tmp_path, FIRST)
    for name, target in {
        "etc/hostname": outside / "hostname",
        "root/.ssh": outside,
        "home/ec2-user/.ssh/authorized_keys": outside / "authorized_keys",
        "var/log": outside,
        "var/lib/cloud": outside,
        "etc/ssh": outside,
    }.items():
        machine.remove_tree(parent / name)
        (parent / name).unlink(missing_ok=True)
        (parent / name).symlink_to(target)

    root = _root(tmp_path, SECOND, parent)

    assert sorted(path.name for path in outside.iterdir()) == ["authorized_keys", "hostname"]
    assert {path.read_text() for path in outside.iterdir()} == {"mine"}
    assert not (root / "var/log").is_symlink()
    assert "BBBB" in (root / "root/.ssh/authorized_keys").read_text()


def test_odd_files_do_not_stop_the_copy(tmp_path: Path) -> None:
    """A pipe would block the reader for ever; a file or folder that nobody may read is still the image's."""
    parent = tmp_path / "parent"
    (parent / "closed").mkdir(parents=True)
    (parent / "closed/file").write_text("x")
    (parent / "unreadable").write_text("y")
    os.mkfifo(parent / "pipe")
    (parent / "dangling").symlink_to("/nowhere")
    (parent / "unreadable").chmod(0)
    (parent / "closed").chmod(0)

    lineage.copy(parent, tmp_path / "root")

    root = tmp_path / "root"
    modes = [stat.S_IMODE((at / name).lstat().st_mode) for at in (parent, root) for name in ("closed", "unreadable")]
    assert modes == [0, 0, 0, 0]
    (root / "closed").chmod(0o700)
    assert (root / "closed/file").read_text() == "x"
    assert not os.path.lexists(root / "pipe")
    assert (root / "dangling").readlink() == Path("/nowhere")


def test_what_stands_where_the_first_boot_writes_goes(tmp_path: Path) -> None:
    """A file where a folder belongs, a folder where a file belongs."""
    boot, root = tmp_path / "boot", tmp_path / "root"
    for path in (boot / "a/b/file", root / "a/b/file/deep", root / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (boot / "x").mkdir()
    (boot / "x/y").write_text("y")
    (root / "a").chmod(0o500)

    lineage.lay_over(boot, root, ["a/b/file", "x", "not/there"])

    assert (root / "a/b/file").read_text() == "file"
    assert (root / "x/y").read_text() == "y"


def test_a_second_instance_finds_what_the_first_was_given(own_world: World) -> None:
    """By SSH, as Packer meets it: the next bake's builder has the last bake's files."""
    first = own_world.add()
    assert first.run("sudo sh -c 'echo baked >/opt/thing'").status == 0

    second = own_world.add(parent=own_world.root(first).name)

    assert second.run("cat /opt/thing; cat /etc/machine-id").stdout.startswith("baked\n")


@pytest.mark.parametrize("parent", ["i-00000000000000000", "../.."])
def test_a_parent_that_is_not_kept_any_more_is_the_ecs_ami(own_world: World, parent: str) -> None:
    """Old file systems are removed to save space: the scripts then bring again what a bake brings."""
    assert own_world.add(parent=parent).run("test ! -e /opt/thing && cat /etc/os-release").status == 0


def test_a_builder_is_frozen() -> None:
    """It is shared between threads."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        FIRST.parent = "x"  # type: ignore[misc]
