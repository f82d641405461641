"""A scratch machine for the provisioning scripts: real bash in bubblewrap, fakes for what only an instance has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKER = ROOT / "packer"
SCRIPTS = PACKER / "scripts"

_FOLDERS = (
    "etc",
    "var",
    "root",
    "home/ec2-user",
    "opt",
    "run",
    "tmp",
    "sys",
    "srv",
    "fakes",
    "usr/local",
    "scripts",
    "dev",
    "proc",
)
_SYSTEM_LINKS = ("bin", "sbin", "lib", "lib64")


@dataclass(frozen=True)
class Result:
    """How a script ended and what it said, both streams together."""

    status: int
    said: str

    def tail(self) -> str:
        """The last line."""
        return self.said.rstrip().rpartition("\n")[2]


class Box:
    """A root folder that scripts may change as they like, and nothing else."""

    def __init__(self, folder: Path) -> None:
        """Make the root under *folder*, which must not be reachable by a symbolic link."""
        self.root = folder / "box"
        for name in _FOLDERS:
            (self.root / name).mkdir(parents=True)
        for name in _SYSTEM_LINKS:
            (self.root / name).symlink_to(f"usr/{name}")

    def path(self, inside: str) -> Path:
        """Return the host's path of the absolute path *inside* the box."""
        return self.root / inside.lstrip("/")

    def write(self, inside: str, content: str = "x\n", *, mode: int = 0o644) -> Path:
        """Write a file of the box, with its folders."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)
        return path

    def read(self, inside: str) -> str:
        """Return the text of a file of the box."""
        return self.path(inside).read_text(encoding="utf-8")

    def fake(self, name: str, body: str) -> None:
        """Put a command *name* first on the box's PATH; its calls are noted in /srv/calls."""
        self.write(f"/fakes/{name}", f'#!/bin/bash\necho "{name} $*" >>/srv/calls\n{body}\n', mode=0o755)

    def calls(self) -> list[str]:
        """Return the command lines of the fakes that were called, in order."""
        path = self.path("/srv/calls")
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def run(self, script: str, **env: str) -> Result:
        """Run packer/scripts/*script* as root of the box."""
        return self.bash(f"exec bash /scripts/{script}", env)

    def bash(self, code: str, env: Mapping[str, str] | None = None, *, mounted: str = "") -> Result:
        """Run *code* in bash as root of the box, with *env* and a PATH as its whole environment.

        Args:
            code: Shell lines.
            env: Variables.
            mounted: A folder at which another file system, an empty one, lies meanwhile.
        """
        bwrap = shutil.which("bwrap")
        assert bwrap, "bubblewrap is missing: run `invoke setup`"
        python = str(Path(os.path.realpath(sys.executable)).parents[1])
        binds = ["--bind", str(self.root), "/", "--ro-bind", "/usr", "/usr", "--ro-bind", str(SCRIPTS), "/scripts"]
        binds += ["--bind", str(self.root / "usr/local"), "/usr/local"]
        # Debian's awk is a link that leads through here.
        binds += ["--ro-bind-try", "/etc/alternatives", "/etc/alternatives"]
        # The test server's Python, where it is not the system's own.
        binds += [] if python.startswith("/usr") else ["--ro-bind", python, "/python"]
        arguments = [bwrap, "--unshare-all", "--new-session", "--clearenv", "--die-with-parent"]
        arguments += ["--uid", "0", "--gid", "0", *binds, "--proc", "/proc", "--dev", "/dev", "--chdir", "/root"]
        arguments += ["--tmpfs", mounted] if mounted else []
        for name, value in {"PATH": "/fakes:/usr/bin:/usr/sbin:/python/bin", "HOME": "/root", **(env or {})}.items():
            arguments += ["--setenv", name, value]
        done = subprocess.run(
            [*arguments, "bash", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        return Result(done.returncode, done.stdout)
