"""The cache: whole versions or nothing."""

from __future__ import annotations

import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from filelock import FileLock

from gpu_ami.errors import ToolError
from gpu_ami.tools.cache import Cache, user_cache
from tests.tools.machine import Machine

_Usage = namedtuple("_Usage", "total used free")


def staged(cache: Cache, text: str = "new") -> Path:
    """Return a complete folder, ready to be published."""
    folder = cache.root / "staged"
    folder.mkdir(parents=True)
    (folder / "packer").write_text(text, encoding="utf-8")
    return folder


def test_publish_moves_the_folder_to_its_version(machine: Machine) -> None:
    """The path says what it holds: the name, the version and the platform."""
    path = machine.cache.publish(staged(machine.cache), "packer", "1.16.0")

    assert path == machine.cache.folder("packer", "1.16.0")
    assert (path / "packer").read_text(encoding="utf-8") == "new"


def test_publish_replaces_a_folder_that_was_robbed(machine: Machine) -> None:
    """Somebody deleted the program but not its folder: `setup` must be able to fix that."""
    machine.cache.folder("packer", "1.16.0").mkdir(parents=True)

    path = machine.cache.publish(staged(machine.cache), "packer", "1.16.0")

    assert [file.name for file in path.iterdir()] == ["packer"]
    assert list((machine.cache.root / "tmp").iterdir()) == []


def test_staging_leaves_nothing_after_a_failure(machine: Machine) -> None:
    """A failed build is 4 GiB of nothing."""

    def fail() -> None:
        with machine.cache.staging() as folder:
            (folder / "half").write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert list((machine.cache.root / "tmp").iterdir()) == []


def test_locked_removes_what_a_killed_run_left(machine: Machine) -> None:
    """Nobody else would ever remove it."""
    left = machine.cache.root / "tmp" / "killed" / "file"
    left.parent.mkdir(parents=True)
    left.write_text("half", encoding="utf-8")

    with machine.cache.locked(machine.console):
        assert not left.exists()


def test_locked_waits_for_the_other_setup_and_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs in one cache would build everything twice, and trip over each other."""
    monkeypatch.setattr("gpu_ami.console._HEARTBEAT_S", 0.05)
    machine.cache.root.mkdir()
    taken = threading.Event()

    def other_setup() -> None:
        with FileLock(machine.cache.root / "setup.lock"):
            taken.set()
            end = time.monotonic() + 300
            while "Waiting" not in machine.said.getvalue() and time.monotonic() < end:
                time.sleep(0.01)

    thread = threading.Thread(target=other_setup)
    thread.start()
    taken.wait()

    with machine.cache.locked(machine.console):
        assert (machine.cache.root / "tmp").exists() is False
    thread.join()

    assert "Waiting for another `invoke setup`" in machine.said.getvalue()


def test_require_space_names_the_disk_that_is_full(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that fails at the linker after four minutes for want of space is no clear line."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10, 9, 5 * 1024**2))

    with pytest.raises(ToolError, match=r"Building x needs 1024 MiB of disk and .*cache has 5 MiB left"):
        machine.cache.require_space("Building x", 1024**3)


def test_require_space_looks_at_every_folder(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go's module cache may be on another disk than ours, and it is the one that grows."""
    full = machine.root / "other"
    full.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10, 9, 1 if path == full else 1024**4))

    with pytest.raises(ToolError, match=r"other/gomod has 0 MiB left"):
        machine.cache.require_space("Building x", 1024**3, full / "gomod")


def test_recall_holds_as_long_as_the_file_is_the_same(machine: Machine) -> None:
    """Packer is 110 MB: it is run once, and again after an update."""
    file = machine.root / "packer"
    file.write_text("1", encoding="utf-8")
    machine.cache.remember(file, "1.16.0")

    assert machine.cache.recall(file) == "1.16.0"
    file.write_text("longer", encoding="utf-8")
    assert machine.cache.recall(file) is None
    machine.cache.remember(file, "1.17.0")
    assert machine.cache.recall(file) == "1.17.0"


def test_recall_of_a_missing_file_or_a_damaged_list_is_nothing(machine: Machine) -> None:
    """The list is a convenience; its loss costs a question, never a failure."""
    file = machine.root / "packer"
    assert machine.cache.recall(file) is None

    file.write_text("1", encoding="utf-8")
    machine.cache.root.mkdir()
    (machine.cache.root / "versions.json").write_text("[not json", encoding="utf-8")

    assert machine.cache.recall(file) is None


def test_a_cache_that_cannot_be_written_forgets(machine: Machine) -> None:
    """A read-only home must not keep anybody from using a Packer that is on PATH."""
    machine.cache.root.write_text("a file where the folder should be", encoding="utf-8")
    file = machine.root / "packer"
    file.write_text("1", encoding="utf-8")

    machine.cache.remember(file, "1.16.0")

    assert machine.cache.recall(file) is None


def test_user_cache_is_the_systems_place_for_caches(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting, nothing of ours lies about in the home folder."""
    monkeypatch.delenv("GPU_AMI_CACHE_DIR")

    assert user_cache() == Cache(machine.root / "home" / ".cache" / "gpu-ami")


def test_user_cache_follows_its_variable(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuous integration keeps the cache where it can save it."""
    monkeypatch.setenv("GPU_AMI_CACHE_DIR", "~/tools")

    assert user_cache() == Cache(machine.root / "home" / "tools")
