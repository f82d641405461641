"""Emulates `dnf`: installs what the toolbox has, updates version numbers.

The AWS CLI and jq are on the instance only after `dnf install awscli-2 jq`, as on the real image.
"""

from __future__ import annotations

import fnmatch
import shutil
import time

from gpu_ami_sandbox.guest.programs.packages import Package, installed, save
from gpu_ami_sandbox.guest.programs.system import Refusal, System

_NOT_ROOT = "Error: This command has to be run with superuser privileges (under the root user on most systems)."

REFUSALS = (
    Refusal("sudo dnf -y install no-such-package", "Error: Unable to find a match: no-such-package", 1),
    Refusal("sudo dnf -y install jq no-such-package", "No match for argument: no-such-package", 1),
    Refusal("sudo dnf install jq </dev/null", "Operation aborted.", 1),
    Refusal("dnf -y install jq", _NOT_ROOT, 1),
    Refusal("sudo dnf no-such-command", "No such command: no-such-command. Please use /usr/bin/dnf --help", 1),
    Refusal("sudo dnf -y --releasever=1999 update", "Error: Failed to download metadata for repo 'amazonlinux'", 1),
    Refusal("sudo dnf --no-such-option update", "dnf: error: unrecognized arguments: --no-such-option", 2),
    Refusal("sudo dnf -y --exclude=jq install jq", "All matches were filtered out by exclude filtering", 1),
    Refusal("sudo dnf versionlock add no-such-package", "No package found for: no-such-package", 0),
)

_TOOLBOX = "/usr/libexec/guest"
_LOCKS = "/etc/dnf/plugins/versionlock.list"
_NEWER_RELEASE = "2023.12.20261102"

# Package: what it adds as NAME in /usr/bin, version, release, licence.
_REPOSITORY = {
    "awscli-2": ({"aws": f"{_TOOLBOX}/aws"}, "2.30.4", "1.amzn2023.0.1", "Apache-2.0"),
    "jq": ({"jq": f"{_TOOLBOX}/packages/jq"}, "1.7.1", "51.amzn2023.0.1", "MIT and ASL 2.0 and CC-BY and GPLv3"),
}
# What `dnf update` finds newer in the latest release, unless it is locked or left out. The base AMI chooses versions of
# Docker, containerd, runc and the ECS agent, but locks none of them.
_UPDATES = {
    "containerd": "2.2.6-1.amzn2023.0.1",
    "docker": "25.0.17-1.amzn2023.0.1",
    "ecs-init": "1.107.0-1.amzn2023",
    "glibc": "2.34-231.amzn2023.0.2",
    "kernel": "6.1.158-180.294.amzn2023",
    "nvidia-driver": "580.173.02-1.amzn2023",
    "openssl-libs": "3.2.2-1.amzn2023.0.5",
    "runc": "1.3.6-1.amzn2023.0.1",
    "system-release": f"{_NEWER_RELEASE}-0.amzn2023",
}
_FLAGS = (
    "-y",
    "--assumeyes",
    "-q",
    "--quiet",
    "-v",
    "--best",
    "--nobest",
    "--allowerasing",
    "--security",
    "--refresh",
    "-r",
)
_WITH_VALUE = ("--releasever", "--setopt", "--enablerepo", "--disablerepo", "--exclude", "-x", "-d", "-e")


def main(argv: list[str], system: System) -> int:
    """Run one command."""
    arguments, flags, unknown = _read(argv[1:])
    if unknown:
        return system.fail(2, f"dnf: error: unrecognized arguments: {unknown}")
    known = {
        "install": _install,
        "update": _update,
        "upgrade": _update,
        "clean": _clean,
        "versionlock": _versionlock,
    }
    if not arguments:
        return system.fail(1, "usage: dnf [options] COMMAND")
    if arguments[0] not in known:
        return system.fail(1, f"No such command: {arguments[0]}. Please use /usr/bin/dnf --help")
    if not system.is_root:
        return system.fail(1, _NOT_ROOT)
    if flags.get("--releasever", "latest") not in ("latest", "2023") and not flags["--releasever"].startswith("2023."):
        return system.fail(
            1, "Error: Failed to download metadata for repo 'amazonlinux': Cannot prepare internal mirrorlist"
        )
    return known[arguments[0]](arguments[1:], flags, system)


def _read(argv: list[str]) -> tuple[list[str], dict[str, str], str]:
    """Return the plain arguments, the options and the first option that dnf does not have."""
    arguments: list[str] = []
    flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name, given, value = argument.partition("=")
        if not argument.startswith("-"):
            arguments.append(argument)
        elif name in _WITH_VALUE:
            value = value if given else (rest.pop(0) if rest else "")
            name = "--exclude" if name == "-x" else name
            flags[name] = f"{flags[name]},{value}" if name == "--exclude" and name in flags else value
        elif argument in _FLAGS:
            flags[argument] = ""
        else:
            return arguments, flags, argument
    return arguments, flags, ""


def _agreed(flags: dict[str, str], system: System) -> bool:
    """Return whether to go on: with -y, or when standard input says so."""
    if {"-y", "--assumeyes"} & flags.keys():
        return True
    system.say("Is this ok [y/N]: ")
    if system.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    system.fail(1, "Operation aborted.")
    return False


def _install(names: list[str], flags: dict[str, str], system: System) -> int:
    packages = installed(system)
    missing = [name for name in names if name not in _REPOSITORY and name not in packages]
    if missing or not names:
        for name in missing:
            system.fail(1, f"No match for argument: {name}")
        return system.fail(
            1, f"Error: Unable to find a match: {' '.join(missing)}" if missing else "Error: Need to pass a list"
        )
    new = [name for name in names if name not in packages]
    if hidden := [name for name in new if _is_excluded(name, flags)]:
        text = "All matches were filtered out by exclude filtering for argument"
        system.fail(1, *(f"{text}: {name}" for name in hidden))
        return system.fail(1, f"Error: Unable to find a match: {' '.join(hidden)}")
    for name in names:
        if name in packages and "-q" not in flags and "--quiet" not in flags:
            system.say(f"Package {packages[name]} is already installed.")
    if not new:
        return _nothing(flags, system)
    if not _agreed(flags, system):
        return 1
    for name in new:
        links, version, release, license_text = _REPOSITORY[name]
        for program, target in links.items():
            link = system.path(f"/usr/bin/{program}")
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        packages[name] = Package(name, version, release, "x86_64", license_text)
    save(packages, system)
    return _done("Installed", [str(packages[name]) for name in new], flags, system)


def _update(names: list[str], flags: dict[str, str], system: System) -> int:
    packages, locked = installed(system), _locked(system)
    # Without --releasever the repositories stay at the release of the AMI: nothing is newer there.
    newer = {
        name: update
        for name, update in _UPDATES.items()
        if flags.get("--releasever") == "latest"
        and name in packages
        and f"{packages[name].version}-{packages[name].release}" != update
        and (not names or name in names)
        and not any(fnmatch.fnmatch(name, lock) for lock in locked)
        and not _is_excluded(name, flags)
    }
    if not newer:
        return _nothing(flags, system)
    if not _agreed(flags, system):
        return 1
    for name, update in newer.items():
        version, _, release = update.partition("-")
        packages[name] = packages[name]._replace(version=version, release=release)
    save(packages, system)
    if "system-release" in newer:
        for path in map(system.path, ("/etc/os-release", "/etc/system-release")):
            path.write_text(path.read_text().replace("2023.9.20260901", _NEWER_RELEASE))
    return _done("Upgraded", [str(packages[name]) for name in newer], flags, system)


def _is_excluded(name: str, flags: dict[str, str]) -> bool:
    """Return whether --exclude, a list with commas or blanks between, hides the package *name*."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in flags.get("--exclude", "").replace(",", " ").split())


def _clean(_arguments: list[str], _flags: dict[str, str], system: System) -> int:
    cache = system.path("/var/cache/dnf")
    files = [path for path in cache.rglob("*") if path.is_file()] if cache.is_dir() else []
    for entry in cache.iterdir() if cache.is_dir() else ():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    system.say(f"{len(files)} files removed")
    return 0


def _versionlock(arguments: list[str], _flags: dict[str, str], system: System) -> int:
    """List, add or delete locks."""
    path = system.path(_LOCKS)
    verb = arguments[0] if arguments else "list"
    lines = path.read_text().splitlines() if path.exists() else []
    if verb == "list":
        system.say(*(line for line in lines if line and not line.startswith("#")))
        return 0
    packages = installed(system)
    for pattern in arguments[1:]:
        found = [p for p in packages.values() if fnmatch.fnmatch(p.name, pattern)]
        if verb == "delete":
            lines = [line for line in lines if not fnmatch.fnmatch(_locked_name(line), pattern)]
        elif not found:
            system.fail(0, f"No package found for: {pattern}")
        else:
            lines += [f"{p.name}-0:{p.version}-{p.release}.*" for p in found]
    path.write_text("".join(f"{line}\n" for line in lines))
    return 0


def _locked(system: System) -> list[str]:
    path = system.path(_LOCKS)
    lines = path.read_text().splitlines() if path.exists() else []
    return [_locked_name(line) for line in lines if line and not line.startswith(("#", "!"))]


def _locked_name(line: str) -> str:
    """Return the name in NAME-EPOCH:VERSION-RELEASE.*."""
    return line.partition(":")[0].rpartition("-")[0]


def _nothing(flags: dict[str, str], system: System) -> int:
    _leave_traces(system)
    return (
        0 if {"-q", "--quiet"} & flags.keys() else _say(system, "Dependencies resolved.", "Nothing to do.", "Complete!")
    )


def _done(what: str, packages: list[str], flags: dict[str, str], system: System) -> int:
    _leave_traces(system)
    quiet = {"-q", "--quiet"} & flags.keys()
    return _say(system, "", f"{what}:", *(f"  {p}" for p in packages), *(() if quiet else ("", "Complete!")))


def _say(system: System, *lines: str) -> int:
    system.say(*lines)
    return 0


def _leave_traces(system: System) -> None:
    """Write the caches, history and log that a bake has to remove."""
    cache = system.path("/var/cache/dnf/amazonlinux-d6a5a1a2f8e3b7c9")
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "repomd.xml").write_text("<repomd/>\n")
    history = system.path("/var/lib/dnf/history.sqlite")
    history.parent.mkdir(parents=True, exist_ok=True)
    history.touch()
    system.append(
        "/var/log/dnf.log", f"{time.strftime('%Y-%m-%dT%H:%M:%S+0000', time.gmtime())} INFO --- logging ---\n"
    )
