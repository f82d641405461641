"""Emulates `rpm`: queries only."""

from __future__ import annotations

import fnmatch

from gpu_ami_sandbox.guest.programs.packages import Package, installed
from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (
    Refusal("rpm -q no-such-package", "package no-such-package is not installed", 1),
    Refusal("rpm -q", "rpm: no arguments given for query", 1),
    Refusal("rpm --no-such-option", "rpm: --no-such-option: unknown option", 1),
    Refusal("rpm -q --queryformat '%{NO_SUCH_TAG}' docker", 'error: incorrect format: unknown tag: "NO_SUCH_TAG"', 1),
)

_TAGS = {
    "NAME": "name",
    "EPOCHNUM": "epoch",
    "VERSION": "version",
    "RELEASE": "release",
    "ARCH": "arch",
    "LICENSE": "license",
}


def main(argv: list[str], system: System) -> int:
    """Answer a query."""
    arguments = argv[1:]
    query_all = is_query = False
    pattern, names = "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n", []
    while arguments:
        argument = arguments.pop(0)
        if argument in ("--queryformat", "--qf") and arguments:
            pattern = arguments.pop(0).replace("\\n", "\n").replace("\\t", "\t")
        elif argument.startswith(("--queryformat=", "--qf=")):
            pattern = argument.partition("=")[2].replace("\\n", "\n").replace("\\t", "\t")
        elif argument in ("-q", "--query", "-qa", "-aq", "-a", "--all"):
            is_query, query_all = True, query_all or "a" in argument.lstrip("-")
        elif argument.startswith("-"):
            return system.fail(1, f"rpm: {argument}: unknown option")
        else:
            names.append(argument)
    if not is_query or not (names or query_all):
        return system.fail(1, "rpm: no arguments given for query")
    if unknown := _unknown_tag(pattern):
        return system.fail(1, f'error: incorrect format: unknown tag: "{unknown}"')
    return _query(names, query_all, pattern, system)


def _query(names: list[str], query_all: bool, pattern: str, system: System) -> int:
    packages, status = installed(system), 0
    if query_all:
        chosen = [p for p in packages.values() if not names or any(fnmatch.fnmatch(p.name, name) for name in names)]
        system.out.write("".join(_format(package, pattern) for package in chosen))
        return 0
    for name in names:
        if name in packages:
            system.out.write(_format(packages[name], pattern))
        else:
            system.say(f"package {name} is not installed")  # rpm says so on standard output
            status = 1
    return status


def _format(package: Package, pattern: str) -> str:
    for tag, field in _TAGS.items():
        pattern = pattern.replace(f"%{{{tag}}}", getattr(package, field))
    return pattern


def _unknown_tag(pattern: str) -> str:
    tags = [part.partition("}")[0] for part in pattern.split("%{")[1:]]
    return next((tag for tag in tags if tag not in _TAGS), "")
