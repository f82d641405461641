"""Stands in for `sync`, `modprobe` and `sysctl`: the guest shares the host's kernel and must not touch it."""

from __future__ import annotations

from gpu_ami.sandbox.guest.stand_ins.system import Refusal, System

REFUSALS = (
    Refusal("sync /no/such/file", "sync: error opening '/no/such/file': No such file or directory", 1),
    Refusal("modprobe nvidia", "modprobe: ERROR: could not insert 'nvidia': No such device", 1),
    Refusal("modprobe no_such_module", "modprobe: FATAL: Module no_such_module not found", 1),
    Refusal("sysctl no.such.key", "sysctl: cannot stat /proc/sys/no/such/key: No such file or directory", 1),
    Refusal("sysctl -w no.such.key=1", "sysctl: cannot stat /proc/sys/no/such/key: No such file or directory", 1),
)


def main(argv: list[str], system: System) -> int:
    """Answer one of the three."""
    name, words = argv[0], [word for word in argv[1:] if not word.startswith("-")]
    if name == "sync":
        # The real one would flush every disk of the host.
        missing = [word for word in words if not system.path(word).exists()]
        return (
            system.fail(1, *(f"sync: error opening '{w}': No such file or directory" for w in missing))
            if missing
            else 0
        )
    if name == "modprobe":
        return _modprobe(words, system)
    return _sysctl(words, system)


def _modprobe(words: list[str], system: System) -> int:
    if words and words[0].startswith("nvidia"):
        return system.fail(1, f"modprobe: ERROR: could not insert '{words[0]}': No such device")
    return system.fail(1, f"modprobe: FATAL: Module {words[0] if words else ''} not found in directory /lib/modules")


def _sysctl(words: list[str], system: System) -> int:
    """Print values; accept new ones for keys that exist, and change nothing."""
    status = 0
    for word in words:
        key, given, value = word.replace(" ", "").partition("=")
        path = system.path("/proc/sys") / key.replace(".", "/")
        if not path.exists():
            status = system.fail(1, f"sysctl: cannot stat /proc/sys/{key.replace('.', '/')}: No such file or directory")
        else:
            system.say(f"{key} = {value if given else path.read_text().strip()}")
    return status
