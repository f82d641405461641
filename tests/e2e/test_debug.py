"""`invoke build --debug` on a terminal: it says how to log in, and that works."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

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
        """Return the exit status."""
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


def test_debug_says_how_to_log_in_and_it_works(shared: Checkout, live: object) -> None:
    """A person who wants to inspect the builder pastes one line into another terminal."""
    assert live
    terminal = Terminal(shared, "build", "--sandbox", "--debug")
    shown = ""
    while terminal.until(r"Press enter to continue"):
        if not shown and "Connected to SSH" in terminal.said:
            line = re.search(r"^ +(ssh -i \S+ .*?)\s*$", terminal.said, flags=re.MULTILINE)
            assert line, terminal.said
            command = shlex.split(line[1])
            quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
            done = subprocess.run(
                [command[0], *quiet, *command[1:], "echo logged in as $(whoami)"],
                cwd=shared.root,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            shown = done.stdout + done.stderr
        terminal.enter()

    assert terminal.wait() == 0, terminal.said
    assert "logged in as ec2-user" in shown, terminal.said
    assert not list(Path(shared.root).rglob("ec2_*.pem")), "Packer has removed the key"
