"""Locks between processes: two runs that write the same files must not meet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.locks import Work, held, in_turn, only_one, waited_for


@pytest.mark.parametrize(
    ("work", "name"), [("build", "build"), ("apply", "apply or rollback"), ("cleanup", "clean-up")]
)
def test_a_second_run_is_refused_in_one_line(tmp_path: Path, work: Work, name: str) -> None:
    """Exit code 8, at once; the file's name is what older runs of the same folder lock."""
    with FileLock(tmp_path / f"{work}.lock"), pytest.raises(SafetyError) as caught, only_one(tmp_path, work):
        raise AssertionError

    assert str(caught.value) == f"Another {name} is under way here: wait for it to end."


def test_other_work_goes_on(tmp_path: Path) -> None:
    """A clean-up may run beside a build."""
    with only_one(tmp_path / "logs", "build"), only_one(tmp_path / "logs", "cleanup"):
        assert {file.name for file in (tmp_path / "logs").iterdir()} == {"build.lock", "cleanup.lock"}


def test_a_lock_is_given_back_whatever_happens(tmp_path: Path) -> None:
    """A run that failed must not lock its own second try out."""
    file = tmp_path / "new" / "x.lock"
    with contextlib.suppress(KeyError), held(file, busy="busy"):
        raise KeyError

    with held(file, busy="busy"), pytest.raises(SafetyError, match="busy"), held(file, busy="busy"):
        raise AssertionError


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    """logs/ is a file, or of another user: every task that changes something begins with a lock there."""
    (tmp_path / "logs").write_text("")

    with pytest.raises(UsageError) as caught, only_one(tmp_path / "logs", "build"):
        raise AssertionError

    assert "build.lock cannot be locked: a file has the name of its folder" in str(caught.value)
    assert f"Make {tmp_path / 'logs'} a folder that you can write to" in str(caught.value)


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="no folder that not even root can write to")
def test_a_folder_that_cannot_be_written_to_is_one_line() -> None:
    """As a file system that is mounted read-only."""
    with (
        pytest.raises(UsageError, match=r"/sys/kernel/build\.lock cannot be locked: .+ Make /sys/kernel a folder"),
        only_one(Path("/sys/kernel"), "build"),
    ):
        raise AssertionError


def test_who_waits_says_so_only_while_it_waits(tmp_path: Path) -> None:
    """A line about another run where there is none sends people searching for it."""
    file, said = tmp_path / "x.lock", list[str]()

    @contextlib.contextmanager
    def waiting() -> Iterator[None]:
        said.append("waits")
        yield
        said.append("waited")

    with waited_for(file, waiting()):
        assert said == []
    taken = threading.Event()
    other = threading.Thread(target=_hold, args=(file, taken, said))
    other.start()
    taken.wait()
    with waited_for(file, waiting()):
        assert said == ["waits", "waited"]
    other.join()


def _hold(file: Path, taken: threading.Event, said: list[str]) -> None:
    """Hold *file* until somebody waits for it."""
    with FileLock(file):
        taken.set()
        end = time.monotonic() + 300
        while not said and time.monotonic() < end:
            time.sleep(0.01)


def test_builds_of_two_families_go_on_beside_each_other(tmp_path: Path) -> None:
    """They write other files; two of one family would overwrite each other's."""
    with only_one(tmp_path, "build", family="video"), only_one(tmp_path, "build", family="training"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["build-training.lock", "build-video.lock"]
    held_by_another = FileLock(tmp_path / "build-video.lock")
    with held_by_another, pytest.raises(SafetyError, match="Another build of video is under way"):
        only_one(tmp_path, "build", family="video").__enter__()


def test_only_several_families_take_turns(tmp_path: Path) -> None:
    """A build of one family waits for nobody, and makes no file for it."""
    with in_turn(tmp_path / "logs", "validate", family=None):
        assert not (tmp_path / "logs").exists()
    with in_turn(tmp_path / "logs", "validate", family="video"):
        other = FileLock(tmp_path / "logs" / "validate.lock")
        with pytest.raises(Timeout):
            other.acquire(timeout=0)
