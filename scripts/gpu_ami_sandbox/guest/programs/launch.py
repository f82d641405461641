#!/usr/libexec/guest/python/bin/python3 -IS
"""Starts the emulated program of the command's name: each one in /usr/bin is a link to this file."""

import importlib
import os
import sys

_LIBRARY = "/usr/libexec/guest/lib"


def main() -> int:
    """Run the emulated program and return its exit status."""
    sys.path.insert(0, _LIBRARY)
    sys.dont_write_bytecode = True
    package = "gpu_ami_sandbox.guest.programs"
    name = os.path.basename(sys.argv[0])  # noqa: PTH119 - pathlib takes a fifth of the start-up time
    module = importlib.import_module(f"{package}.{importlib.import_module(f'{package}.commands').COMMANDS[name]}")
    system = importlib.import_module(f"{package}.system").System()
    try:
        status: int = module.main([name, *sys.argv[1:]], system)
    except KeyboardInterrupt:
        status = 130
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
