"""Emulates `chown`: checks its arguments as the real ones do; the guest has one owner for all files."""

from __future__ import annotations

from gpu_ami_sandbox.guest.programs.accounts import groups, users
from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (
    Refusal("chown", "chown: missing operand", 1),
    Refusal("chown root", "chown: missing operand after ‘root’", 1),
    Refusal("chown nobody-here /etc/hosts", "chown: invalid user: ‘nobody-here’", 1),
    Refusal("chown root:no-such-group /etc/hosts", "chown: invalid group: ‘root:no-such-group’", 1),
    Refusal("chown root /no/such/file", "chown: cannot access '/no/such/file': No such file or directory", 1),
)


def main(argv: list[str], system: System) -> int:
    """Check the owner and that each file is there."""
    name = argv[0]
    arguments = [argument for argument in argv[1:] if not argument.startswith("-")]
    if any(argument.startswith("--reference=") for argument in argv):
        arguments.insert(0, "")
    if not arguments:
        return system.fail(1, f"{name}: missing operand", f"Try '{name} --help' for more information.")
    if len(arguments) == 1:
        return system.fail(1, f"{name}: missing operand after ‘{arguments[0]}’")
    problem = _problem(name, arguments[0], system)
    if problem:
        return system.fail(1, f"{name}: {problem}")
    status = 0
    for file in arguments[1:]:
        if not system.path(file).exists() and not system.path(file).is_symlink():
            status = system.fail(1, f"{name}: cannot access '{file}': No such file or directory")
    return status


def _problem(name: str, owner: str, system: System) -> str:
    """Return what is wrong with USER, USER:GROUP or, for chgrp, GROUP; empty when nothing is."""
    user, _, group = owner.replace(".", ":").partition(":") if name == "chown" else ("", "", owner)
    if user and not user.isdigit() and user not in users(system):
        return f"invalid user: ‘{owner}’"
    if group and not group.isdigit() and group not in groups(system):
        return f"invalid group: ‘{owner}’"
    return ""
