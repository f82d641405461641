"""A task on a terminal: what a person sees, types and closes."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time

from tests.e2e.conftest import Checkout


class Terminal:
    """A task on a terminal of its own, which it controls: Packer asks there and nowhere else."""

    def __init__(self, checkout: Checkout, *arguments: str) -> None:
        """Start it."""
        self.said = ""
        command = [sys.executable, "-m", "invoke", *arguments]
        env = {**os.environ, "GPU_AMI_SANDBOX": ""}
        self.pid, self._ours = pty.fork()
        if not self.pid:  # pragma: no cover - the child
            os.chdir(checkout.root)
            os.execve(command[0], command, env)

    def wait(self) -> int:
        """Close the terminal, of which a task that still runs hears by SIGHUP, and return the exit status."""
        os.close(self._ours)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def until(self, pattern: str) -> bool:
        """Read on until *pattern* is in what was said since the last call, or the end has come."""
        mark, end = len(self.said), time.monotonic() + 300
        while not re.search(pattern, self.said[mark:]):
            assert time.monotonic() < end, self.said
            if not select.select([self._ours], [], [], 1)[0]:
                continue
            try:
                part = os.read(self._ours, 65536)
            except OSError:
                return False
            self.said += part.decode(errors="replace")
            if not part:
                return False
        return True

    def enter(self) -> None:
        """Press Enter: what that key sends to a program which reads key by key."""
        os.write(self._ours, b"\r")
