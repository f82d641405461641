"""`invoke build --debug` on a terminal: it says how to log in, and that works."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from tests.e2e.conftest import Checkout
from tests.e2e.terminal import Terminal


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
                timeout=300,
                check=False,
            )
            shown = done.stdout + done.stderr
        terminal.enter()

    assert terminal.wait() == 0, terminal.said
    assert "logged in as ec2-user" in shown, terminal.said
    assert not list(Path(shared.root).rglob("ec2_*.pem")), "Packer has removed the key"
