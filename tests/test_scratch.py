"""Files that nobody else may read: they go with their process, or at the next start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_ami import scratch

SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"
# A process that keeps a secret while a program of its own runs, as `invoke apply` does.
OWNER = f"""
import sys
from gpu_ami import scratch
from gpu_ami.process import Command, stream
with scratch.subfolder() as folder:
    (folder / "plan").write_text("secret")
    print(folder / "plan", flush=True)
    command = Command((sys.executable, "-c", {SLEEPER!r}), needs_us=sys.argv[1] == "alone")
    if sys.argv[1] != "none":
        stream(command, lambda line: print(line, flush=True), on_interrupt=lambda: None)
    elif sys.argv[2:] != ["end"]:
        print("ready", flush=True)
        sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def _owner(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _started(*arguments: str) -> tuple[subprocess.Popen[str], Path]:
    """Start an owner and return it with its secret when its program runs."""
    owner = _owner(*arguments)
    assert owner.stdout is not None
    plan = Path(owner.stdout.readline().strip())
    assert owner.stdout.readline() == "ready\n"
    return owner, plan


def _kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    for stream in (owner.stdin, owner.stdout):
        if stream is not None:
            stream.close()


def _program_of(plan: Path) -> int:
    (note,) = plan.parent.parent.glob("child-*")
    return int(note.name.removeprefix("child-"))


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_process_that_ends_leaves_nothing(temporary: Path) -> None:
    """And meanwhile nobody else could enter."""
    owner = _owner("none", "end")
    said, _ = owner.communicate(timeout=300)
    root = Path(said.strip()).parents[2]

    assert root == temporary / f"gpu-ami-{os.getuid()}"
    assert root.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in root.iterdir()] == ["lock"]


def test_what_a_killed_process_left_goes_at_the_next_start() -> None:
    """Terraform's plan holds every variable's value; before this it lay there for good."""
    dead, plan = _started("none")
    alive, other = _started("none")
    _kill(dead)
    assert plan.read_text() == "secret"

    scratch.remove_dead()

    assert not plan.parent.parent.exists()
    assert other.read_text() == "secret"
    _kill(alive)


def test_a_program_that_goes_on_keeps_what_it_reads() -> None:
    """Terraform finishes what it has begun when we are killed, and starts its provider once more for that."""
    owner, plan = _started("beside")
    program = _program_of(plan)
    _kill(owner)

    scratch.remove_dead()
    assert plan.read_text() == "secret"
    assert not _is_gone(program)

    os.kill(program, signal.SIGKILL)
    _wait_for(lambda: _is_gone(program))
    scratch.remove_dead()
    assert not plan.exists()


def test_a_program_that_works_in_vain_is_ended() -> None:
    """A Packer whose sandbox died with us asks it for minutes, and holds the files of the next build."""
    owner, plan = _started("alone")
    program = _program_of(plan)
    _kill(owner)

    scratch.remove_dead()

    _wait_for(lambda: _is_gone(program))
    assert not plan.exists()


def test_a_later_process_of_the_same_number_is_left_alone(temporary: Path) -> None:
    """Numbers of processes are used again: what is ended must be the very program."""
    folder = temporary / f"gpu-ami-{os.getuid()}" / "1-x"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, start_new_session=True)
    (folder / f"child-{stranger.pid}").write_text("1 needs-us")

    scratch.remove_dead()

    assert stranger.poll() is None
    assert not folder.exists()
    with stranger:
        stranger.kill()


def test_where_no_start_is_known_a_living_number_counts(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc nobody can tell two processes of one number apart: then nothing is ended, and little removed."""
    monkeypatch.setattr(scratch, "_start_of", lambda _pid: "?")
    root = temporary / f"gpu-ami-{os.getuid()}"
    for pid in (os.getpid(), 4_000_000):
        (root / f"{pid}-x").mkdir(parents=True, mode=0o700)
        (root / f"{pid}-x" / f"child-{pid}").write_text("? needs-us")
    root.chmod(0o700)

    scratch.remove_dead()

    assert [path.name for path in root.iterdir() if path.is_dir()] == [f"{os.getpid()}-x"]


@pytest.mark.parametrize("how", ["open to all", "a link", "a file"])
def test_a_folder_that_somebody_else_made_is_not_used(temporary: Path, how: str) -> None:
    """In a folder for everybody's temporary files anybody can take a name before us."""
    root = temporary / f"gpu-ami-{os.getuid()}"
    elsewhere = temporary / "elsewhere"
    (elsewhere / "1-x").mkdir(parents=True)
    if how == "a link":
        elsewhere.chmod(0o700)
        root.symlink_to(elsewhere)
    elif how == "a file":
        root.write_text("")
    else:
        root.mkdir()
        root.chmod(0o755)

    said, _ = _owner("none", "end").communicate(timeout=300)
    scratch.remove_dead()

    used = Path(said.strip()).parents[1]
    assert used.parent == temporary
    assert used.name.startswith(root.name + "-")
    assert not used.exists()
    assert (elsewhere / "1-x").exists()


def test_two_starts_at_once_do_not_meet(temporary: Path) -> None:
    """A start that removes must not take a folder that another one is just making."""
    code = textwrap.dedent(
        """
        from gpu_ami import scratch
        for _ in range(10):
            scratch.remove_dead()
            folder = scratch.folder()
            (folder / "x").write_text("x")
            scratch.remove_dead()
            assert (folder / "x").exists()
            scratch.folder.cache_clear()
        """
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]

    assert [child.communicate(timeout=300)[1] for child in both] == ["", ""]
    assert [child.returncode for child in both] == [0, 0]
