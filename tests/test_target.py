"""Where an invocation works: what differs between AWS and the sandbox, each in its one place."""

from __future__ import annotations

import errno
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_ami import families
from gpu_ami.console import Console
from gpu_ami.errors import SafetyError, ToolError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.target import Aws, LocalSandbox, target_class


def _run(root: Path, *, sandbox: bool, **options: str) -> Invocation:
    (root / "pipeline.yaml").write_text("region: eu-west-1\naccount: '123456789012'\n")
    return Invocation(root, Options(sandbox=sandbox, **options), Console(err=io.StringIO()))  # type: ignore[arg-type]


def test_the_options_choose_the_target() -> None:
    """Once, for the whole invocation."""
    assert target_class(Options()) is Aws
    assert target_class(Options(sandbox=True)) is LocalSandbox


def test_on_aws_people_are_asked_and_the_account_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong there cannot be undone."""
    monkeypatch.setenv("HOME", "/here")
    run = _run(tmp_path, sandbox=False, profile="team")
    target = run.target

    assert (target.asks_first, target.account, target.label) == (True, "123456789012", "profile team")
    assert (target.has_backend, target.is_shared, target.is_kept, target.needs_settings) == (True, True, None, True)
    assert target.poll_s(10.0) == 10.0
    assert (target.environment["HOME"], target.user_variables) == ("/here", ())
    (tmp_path / "packer").mkdir()
    for name in ("z.auto.pkrvars.hcl", "variables.auto.pkrvars.hcl"):
        (tmp_path / "packer" / name).write_text("")
    assert [path.name[0] for path in target.user_variables] == ["v", "z", "v"]
    assert (target.staged_variables(builder=True), target.init_values()) == (None, ({}, ""))
    target.check_hand_over(tmp_path / "terraform" / "x.auto.tfvars.json")


def test_in_the_sandbox_nothing_is_asked_and_nothing_leaves_its_folder(tmp_path: Path) -> None:
    """It costs nothing, and its AMIs exist nowhere else."""
    run = _run(tmp_path, sandbox=True)
    target = run.target

    assert (target.asks_first, target.account, target.label) == (False, None, "the sandbox")
    assert (target.has_backend, target.is_shared, target.needs_settings) == (False, False, False)
    assert target.poll_s(10.0) < 1.0
    assert (target.user_variables, target.environment) == ((), {})
    target.check_hand_over(tmp_path / ".sandbox" / "terraform" / "x.auto.tfvars.json")
    with pytest.raises(SafetyError, match="no file of the sandbox's"):
        target.check_hand_over(tmp_path / "terraform" / "x.auto.tfvars.json")


def _disk(root: Path) -> Path:
    disk = root.parent / f"{root.name}-disk"
    disk.mkdir()
    (root / ".sandbox").symlink_to(disk)
    return disk


def test_a_sandbox_may_be_on_another_disk(tmp_path: Path) -> None:
    """A new disk, or one to which the folder was moved."""
    disk = _disk(tmp_path)
    (disk / "lost+found").mkdir()
    assert _run(tmp_path, sandbox=True).workspace.state == disk
    (disk / "packer").mkdir()
    for name in ("lock", "home/empty"):
        (disk / name).parent.mkdir(exist_ok=True)
        (disk / name).write_text("")

    assert _run(tmp_path, sandbox=True).workspace.packer == disk / "packer"
    assert _run(tmp_path, sandbox=False).workspace.state == tmp_path


def test_a_link_to_a_folder_of_the_users_is_refused_before_anything_goes(tmp_path: Path) -> None:
    """The sandbox's copies would take the place of what is there; before this that was said half a minute after it."""
    disk = _disk(tmp_path)
    mine = disk / "packer" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")

    with pytest.raises(UsageError, match=r"\.sandbox is a link to \S+-disk, which holds other things than a sandbox"):
        _run(tmp_path, sandbox=True)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("left", ["lock", "packer/x.pkr.hcl", "terraform/main.tf"])
def test_a_first_sandbox_that_did_not_start_locks_nobody_out(tmp_path: Path, left: str) -> None:
    """A disk that was too small, a kill: what is there then is ours, although a whole sandbox has more."""
    disk = _disk(tmp_path)
    assert _run(tmp_path, sandbox=True).workspace.state == disk
    (disk / left).parent.mkdir(exist_ok=True)
    (disk / left).write_text("")

    assert _run(tmp_path, sandbox=True).workspace.state == disk


def test_a_folder_that_is_not_marked_says_how_to(tmp_path: Path) -> None:
    """One that was moved after such a start has no mark: the message has a way out."""
    disk = _disk(tmp_path)
    (disk / "lock").write_text("")

    with pytest.raises(UsageError) as caught:
        _run(tmp_path, sandbox=True)
    (command,) = re.findall("`(touch .+?)`", str(caught.value))
    subprocess.run(shlex.split(command), check=True)

    assert _run(tmp_path, sandbox=True).workspace.state == disk


def test_an_empty_folder_of_another_user_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a new disk, which belongs to root; root itself may write anywhere, so the refusal is made up."""
    _disk(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "touch", refuse)

    with pytest.raises(UsageError, match="cannot be written to"):
        _run(tmp_path, sandbox=True)


@pytest.mark.parametrize("target", ["nowhere", ".sandbox", "pipeline.yaml"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, target: str) -> None:
    """A disk that is not there: everything would be made anew on the small one."""
    (tmp_path / ".sandbox").symlink_to(target)

    with pytest.raises(UsageError, match=r"\.sandbox is a link to .+, which cannot be read \(.+\): is its disk there"):
        _run(tmp_path, sandbox=True)


@pytest.mark.parametrize("module", ["gpu_ami_sandbox.session", "gpu_ami_sandbox.aws.server"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """The sandbox's packages are a group of their own: one line says how to get it, wherever its import fails."""
    monkeypatch.setitem(sys.modules, module, None)
    run = _run(tmp_path, sandbox=True)

    with pytest.raises(ToolError, match="uv sync"):
        _ = run.access
    run.close()


def test_no_family_s_build_reads_another_s_variables(tmp_path: Path) -> None:
    """Packer would read every *.auto.pkrvars.hcl in its folder, also by a link."""
    names = ("common", "training", "video")
    (tmp_path / "packer").mkdir()
    for name in names:
        (tmp_path / "packer" / f"{name}.auto.pkrvars.hcl").write_text("")
    (tmp_path / "packer" / "z.auto.pkrvars.hcl").symlink_to("training.auto.pkrvars.hcl")
    (tmp_path / "pipeline.yaml").write_text(
        "region: eu-west-1\nfamilies:\n"
        "  video: {variables_file: packer/video.auto.pkrvars.hcl, handover: {variable: v}}\n"
        "  training: {variables_file: packer/training.auto.pkrvars.hcl}\n"
    )
    run = Invocation(tmp_path, Options(), Console(err=io.StringIO()))

    runs = families.chosen(run)
    found = {str(one.family): one.target for one in runs}

    assert [path.name.split(".")[0] for path in found["video"].auto_variables] == ["common", "video"]
    assert [path.name.split(".")[0] for path in found["training"].auto_variables] == ["common", "training", "z"]
    assert [path.name.split(".")[0] for path in found["video"].user_variables] == ["common", "video", "video"]
    (sandbox, _) = families.chosen(Invocation(tmp_path, Options(sandbox=True), Console(err=io.StringIO())))
    assert sandbox.target.init_file.name == "video-video.auto.pkrvars.hcl"
