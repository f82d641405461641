"""Emulates `sync`: the real one would flush every disk of the host."""

from __future__ import annotations

from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (Refusal("sync /no/such/file", "sync: error opening '/no/such/file': No such file or directory", 1),)


def main(argv: list[str], system: System) -> int:
    """Check that each file is there; nothing needs to be flushed."""
    missing = [path for path in argv[1:] if not path.startswith("-") and not system.path(path).exists()]
    lines = [f"sync: error opening '{path}': No such file or directory" for path in missing]
    return system.fail(1, *lines) if missing else 0
