"""What an emulated program sees of its instance: files, environment, streams; tests give it another root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

# What replaces a real instance's metadata service; see toolbox.py.
_INSTANCE = "/usr/libexec/guest/instance.json"


class Refusal(NamedTuple):
    """One row of an emulated program's table of what it refuses, as the real program does.

    Attributes:
        command: A command line that is refused on a fresh instance.
        says: Part of what is printed then.
        status: The exit status.
    """

    command: str
    says: str
    status: int


class System:
    """One instance, seen from inside."""

    def __init__(
        self,
        root: str | Path = "/",
        *,
        env: Mapping[str, str] | None = None,
        stdin: IO[str] | None = None,
        out: IO[str] | None = None,
        err: IO[str] | None = None,
    ) -> None:
        """Use the process's own streams and environment where none are given."""
        self.root = Path(root)
        self.env = dict(os.environ if env is None else env)
        self.stdin = stdin or sys.stdin
        self.out = out or sys.stdout
        self.err = err or sys.stderr

    @property
    def is_root(self) -> bool:
        """Whether the caller has become root; the guest's one user number does not say."""
        return self.env.get("USER", "root") == "root"

    def path(self, absolute: str) -> Path:
        """Return where the instance's *absolute* path is."""
        return self.root / absolute.lstrip("/")

    def say(self, *lines: str) -> None:
        """Print *lines* to standard output."""
        for line in lines:
            print(line, file=self.out)

    def fail(self, status: int, *lines: str) -> int:
        """Print *lines* to standard error and return *status*."""
        for line in lines:
            print(line, file=self.err)
        return status

    def profile(self) -> dict[str, str]:
        """Return the variables that replace the instance's metadata service: how the local AWS is reached."""
        profile: dict[str, str] = json.loads(self.path(_INSTANCE).read_text(encoding="utf-8"))
        return profile

    def append(self, absolute: str, text: str) -> None:
        """Add *text* to the log file *absolute*."""
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    def end_everything(self) -> None:
        """Kill every process of the instance, this one too. Does nothing anywhere but in the guest."""
        self.out.flush()
        if self.root == Path("/") and Path(_INSTANCE).exists():
            os.kill(-1, signal.SIGKILL)

    def run(self, command: Sequence[str], limit_s: float) -> tuple[int, str]:
        """Run *command* to its end, or kill it at its limit; return its status and all that it has printed.

        Nothing runs anywhere but in the guest: there it ends with 127.
        """
        if self.root != Path("/") or not Path(_INSTANCE).exists():
            return 127, ""
        try:
            done = subprocess.run(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            return -signal.SIGTERM, (exc.stdout or b"").decode(errors="replace")
        except OSError:
            return 127, ""
        return done.returncode, done.stdout.decode(errors="replace")

    def become(self, command: Sequence[str], env: Mapping[str, str]) -> int:
        """Turn into *command* with *env*; returns 127 only when there is no such command."""
        self.out.flush()
        try:
            os.execvpe(command[0], list(command), dict(env))  # noqa: S606 - as sudo does
        except FileNotFoundError:
            return 127
        except PermissionError:
            return 126
