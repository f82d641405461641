"""The garbage collector stays away from short commands and works in the one that lasts; threads are patient."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import pytest

from gpu_ami import collector


def _without_setting(_name: object) -> object:
    return object()


def _without_library(_name: object) -> object:
    raise OSError


def test_a_pause_ends_as_it_began() -> None:
    """Also inside another one."""
    assert gc.isenabled()
    with collector.paused():
        with collector.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_pause_ends_when_the_block_fails() -> None:
    """Or a sandbox that could not start would leave its process without one."""
    with pytest.raises(KeyError), collector.paused():
        raise KeyError
    assert gc.isenabled()


def test_a_short_process_does_without_it_to_its_end() -> None:
    """Nothing is left for the last collection to go through; a process that lasts takes it back."""
    program = (
        "import atexit, gc;"
        "atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 0));"
        "from gpu_ami import collector;"
        "collector.spare(); print(gc.isenabled()); collector.resume(); print(gc.isenabled())"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert child.stdout.split() == ["False", "True", "True", "True"]


@pytest.mark.parametrize("there", [_without_setting, _without_library])
def test_a_c_library_without_the_setting_is_left_alone(there: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saves memory where it can: macOS, Windows and musl have nothing of the kind."""
    monkeypatch.setattr("ctypes.CDLL", there)

    collector.for_many_threads()


def test_many_threads_ask_for_the_interpreter_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds that wait for it would wake up two hundred times a second each; who has set more keeps it."""
    intervals = [0.005, 0.2]
    monkeypatch.setattr("sys.getswitchinterval", lambda: intervals[0])
    said: list[float] = []
    monkeypatch.setattr("sys.setswitchinterval", said.append)

    collector.for_many_threads()
    intervals.pop(0)
    collector.for_many_threads()

    assert said == [0.05, 0.2]
