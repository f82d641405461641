"""Emulates `sudo`: everybody may become root, and the environment is reset as sudoers says."""

from __future__ import annotations

import re
from typing import NamedTuple

from gpu_ami_sandbox.guest.programs.accounts import User, users
from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (
    Refusal("sudo", "usage: sudo", 1),
    Refusal("sudo no-such-program", "sudo: no-such-program: command not found", 1),
    Refusal("sudo -u nobody-here true", "sudo: unknown user nobody-here", 1),
    Refusal("sudo --no-such-option true", "sudo: unrecognized option", 1),
)

# Amazon Linux 2023's sudoers: env_reset, secure_path, env_keep.
_SECURE_PATH = "/sbin:/bin:/usr/sbin:/usr/bin"
_KEPT = ("LANG", "LC_ALL", "TERM", "TZ", "PS1", "PS2", "DISPLAY", "COLORTERM", "HOSTNAME", "LS_COLORS")
_FLAGS = ("--non-interactive", "--set-home")
_USAGE = "usage: sudo -h | -K | -k | -V\nusage: sudo [-EHn] [-u user] [VAR=value] [command [arg ...]]"


def main(argv: list[str], system: System) -> int:
    """Become the requested user and run the command."""
    request = _read(argv[1:])
    if request.unknown:
        return system.fail(1, f"sudo: unrecognized option '{request.unknown}'", _USAGE)
    user = users(system).get(request.user)
    if user is None:
        return system.fail(
            1, f"sudo: unknown user {request.user}", "sudo: error initializing audit plugin sudoers_audit"
        )
    env = _environment(user, request.keep, system)
    arguments = request.command
    while arguments and re.match(r"[A-Za-z_]\w*=", arguments[0]):
        name, _, value = arguments.pop(0).partition("=")
        env[name] = value
    if not arguments:
        return system.fail(1, _USAGE)
    problem = "command not found" if system.become(arguments, env) == 127 else "permission denied"
    return system.fail(1, f"sudo: {arguments[0]}: {problem}")


class _Request(NamedTuple):
    user: str
    keep: bool
    command: list[str]
    unknown: str = ""


def _read(argv: list[str]) -> _Request:
    user, keep, arguments = "root", False, list(argv)
    while arguments and arguments[0].startswith("-"):
        argument = arguments.pop(0)
        if argument == "--":
            break
        if argument in ("-u", "--user") and arguments:
            user = arguments.pop(0)
        elif argument.startswith("--user="):
            user = argument.partition("=")[2]
        elif argument.startswith("--preserve-env") or (set(argument[1:]) <= set("EnH") and "E" in argument):
            keep = True
        elif not set(argument[1:]) <= set("nH") and argument not in _FLAGS:
            return _Request(user, keep, arguments, unknown=argument)
    return _Request(user, keep, arguments)


def _environment(user: User, keep: bool, system: System) -> dict[str, str]:
    kept = dict(system.env) if keep else {name: system.env[name] for name in _KEPT if name in system.env}
    # The instance profile's credentials do not come from the environment on a real instance: sudo cannot hide them.
    profile = system.profile()
    caller = system.env.get("USER", "ec2-user")
    return (
        kept
        | profile
        | {
            "PATH": _SECURE_PATH,
            "HOME": system.env.get("HOME", user.home) if keep else user.home,
            "USER": user.name,
            "LOGNAME": user.name,
            "SHELL": "/bin/bash",
            "SUDO_USER": caller,
            "SUDO_UID": "0" if caller == "root" else "1000",
            "SUDO_GID": "0" if caller == "root" else "1000",
        }
    )
