"""Emulates `cloud-init`: runs the user data's boothooks and scripts, knows its status, cleans its traces."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from gpu_ami_sandbox.guest.programs import systemctl
from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (
    Refusal("cloud-init", "usage: cloud-init", 2),
    Refusal("cloud-init no-such-command", "invalid choice: 'no-such-command'", 2),
    Refusal("cloud-init clean --no-such-option", "unrecognized arguments: --no-such-option", 2),
)

_COMMANDS = ("clean", "modules", "status")
_USAGE = f"usage: cloud-init [-h] [--version] [--debug] {{{','.join(_COMMANDS)}}} ..."
_RESULT = "/run/cloud-init/result.json"
_OUTPUT = "/var/log/cloud-init-output.log"
_LOG = "/var/log/cloud-init.log"


def main(argv: list[str], system: System) -> int:
    """Run one subcommand."""
    arguments = argv[1:]
    if not arguments:
        return system.fail(2, _USAGE, "cloud-init: error: the following arguments are required: subcommand")
    known = {"modules": _modules, "status": _status, "clean": _clean}
    if arguments[0] not in _COMMANDS:
        return system.fail(2, _USAGE, f"cloud-init: error: argument subcommand: invalid choice: {arguments[0]!r}")
    return known[arguments[0]](arguments[1:], system)


def _modules(_arguments: list[str], system: System) -> int:
    """Boot: run the boothooks, start the units, at the first boot run the scripts; failures are only noted."""
    instance = system.path("/var/lib/cloud/instance")
    is_first = instance.is_dir() and not (instance / "boot-finished").exists()
    # At the first boot once for what runs per instance, and once for what runs always (22.2.2, cmd/main.py).
    for _ in range(2 if is_first else 1):
        _run_boothooks(instance, system)
    systemctl.boot(system)
    if is_first:
        _first_boot(instance, system)
    systemctl.boot_agent(system)
    return 0


def _run_boothooks(instance: Path, system: System) -> None:
    """Run them; what they say is kept nowhere, and one that fails is no error of the boot (handlers/boot_hook.py)."""
    number = system.path("/var/lib/cloud/data/instance-id")
    env = {**system.env, "INSTANCE_ID": number.read_text().strip()} if number.is_file() else None
    for script in sorted((instance / "boothooks").glob("*")):
        if problem := _run(script, subprocess.DEVNULL, env):
            system.append(_LOG, f"util.py[WARNING]: Boothooks script {problem} execution error\n")


def _first_boot(instance: Path, system: System) -> None:
    errors = []
    with system.path(_OUTPUT).open("ab") as output:
        for script in sorted((instance / "scripts").iterdir()):
            problem = _run(script, output.fileno())
            if problem:
                errors.append(problem)
                system.append(_LOG, f"util.py[WARNING]: Failed running {problem}\n")
    if errors:
        errors.append("Runparts: failures in scripts")
    (instance / "sem" / "config_scripts_user").touch()
    (instance / "boot-finished").write_text(f"{time.time():.2f}\n")
    system.path(_RESULT).write_text(json.dumps({"v1": {"datasource": "DataSourceEc2", "errors": errors}}))


def _run(script: Path, output: int, env: Mapping[str, str] | None = None) -> str:
    try:
        status = subprocess.run(
            [script], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, check=False
        ).returncode
    except OSError as exc:
        return f"{script}: {exc.strerror}"
    return f"{script} [{status}]" if status else ""


def _status(arguments: list[str], system: System) -> int:
    """Say how the boot went; `--wait` needs no waiting, since nobody can log in before its end."""
    try:
        errors = json.loads(system.path(_RESULT).read_text())["v1"]["errors"]
    except FileNotFoundError:
        errors = []
    system.say(f"status: {'error' if errors else 'done'}")
    if "--long" in arguments or "-l" in arguments:
        system.say("detail:", *(errors or ["DataSourceEc2"]))
    return 1 if errors else 0


def _clean(arguments: list[str], system: System) -> int:
    for argument in arguments:
        if argument not in ("--logs", "-l"):
            return system.fail(2, f"{_USAGE}\ncloud-init: error: unrecognized arguments: {argument}")
    cloud = system.path("/var/lib/cloud")
    for entry in cloud.iterdir() if cloud.is_dir() else ():
        if entry.name == "seed":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if {"--logs", "-l"} & set(arguments):
        for name in (_LOG, _OUTPUT):
            system.path(name).unlink(missing_ok=True)
    return 0
