"""Queries git for the commit of the working tree."""

from __future__ import annotations

from pathlib import Path

from gpu_ami import process
from gpu_ami.process import Command


def head(root: Path) -> str | None:
    """Return the commit that is checked out in *root*; None without git or a commit."""
    if process.find_program("git") is None:
        return None
    done = process.run(Command(("git", "rev-parse", "HEAD"), cwd=root))
    return done.stdout.strip() if done.returncode == 0 else None
