"""Emulates `id`, `whoami` and `hostname`.

The guest knows one user number only; who somebody is, is what `sudo` has written into the environment.
"""

from __future__ import annotations

from gpu_ami_sandbox.guest.programs.accounts import User, groups, users
from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (
    Refusal("id nobody-here", "id: ‘nobody-here’: no such user", 1),
    Refusal("id --no-such-option", "id: unrecognized option '--no-such-option'", 1),
)


def main(argv: list[str], system: System) -> int:
    """Answer one of the three."""
    name, arguments = argv[0], argv[1:]
    if name == "hostname":
        system.say(system.path("/proc/sys/kernel/hostname").read_text().strip())
        return 0
    if name == "whoami":
        system.say(_current(system).name)
        return 0
    flags = "".join(
        argument.lstrip("-") for argument in arguments if argument.startswith("-") and not argument.startswith("--")
    )
    unknown = [argument for argument in arguments if argument.startswith("--")]
    if unknown or not set(flags) <= set("ugn"):
        return system.fail(
            1, f"id: unrecognized option '{(unknown or arguments)[0]}'", "Try 'id --help' for more information."
        )
    named = [argument for argument in arguments if not argument.startswith("-")]
    user = users(system).get(named[0]) if named else _current(system)
    if user is None:
        return system.fail(1, f"{name}: ‘{named[0]}’: no such user")
    system.say(_id_line(user, flags, system))
    return 0


def _current(system: System) -> User:
    known = users(system)
    return known.get(system.env.get("USER", "root")) or known["root"]


def _groups_of(user: User, system: System) -> dict[int, str]:
    numbered = {gid: name for name, (gid, _) in groups(system).items()}
    own = {user.gid: numbered.get(user.gid, str(user.gid))}
    return own | {gid: name for name, (gid, members) in groups(system).items() if user.name in members}


def _id_line(user: User, flags: str, system: System) -> str:
    own = _groups_of(user, system)
    if "u" in flags:
        return user.name if "n" in flags else str(user.uid)
    if "g" in flags:
        return own[user.gid] if "n" in flags else str(user.gid)
    listed = ",".join(f"{gid}({name})" for gid, name in own.items())
    return f"uid={user.uid}({user.name}) gid={user.gid}({own[user.gid]}) groups={listed}"
