"""systemd's units on the instance: their files, their links in /etc, and which of them run."""

from __future__ import annotations

import re
from pathlib import Path

from gpu_ami_sandbox.guest.programs.system import System

ETC = "/etc/systemd/system"
_SEARCHED = (ETC, "/run/systemd/system", "/usr/lib/systemd/system")
_ACTIVE = "/run/systemd/active"
_SUFFIXES = (".service", ".socket", ".target", ".timer", ".mount", ".path", ".slice", ".scope", ".device", ".swap")


def full_name(name: str) -> str:
    """Return *name* with ``.service`` where it has no type."""
    return name if name.endswith(_SUFFIXES) else f"{name}.service"


class Units:
    """All units of one instance."""

    def __init__(self, system: System) -> None:
        self._system = system

    def file(self, unit: str) -> str | None:
        """Return the unit's file as the instance sees it, of a template for ``name@instance``; None without one."""
        names = [unit]
        if match := re.fullmatch(r"(?P<template>[^@]+@)[^@]+(?P<kind>\.\w+)", unit):
            names.append(match["template"] + match["kind"])
        for name in names:
            for folder in _SEARCHED:
                path = self._system.path(f"{folder}/{name}")
                if path.is_symlink() or path.exists():
                    return f"{folder}/{name}"
        return None

    def is_masked(self, unit: str) -> bool:
        """Return whether the unit is linked to /dev/null."""
        file = self.file(unit)
        path = self._system.path(file) if file else None
        return path is not None and path.is_symlink() and str(path.readlink()) == "/dev/null"

    def setting(self, unit: str, section: str, key: str) -> list[str]:
        """Return the values of all *key* lines in the unit's *section*, of its drop-ins too."""
        file = self.file(unit)
        if file is None or self.is_masked(unit):
            return []
        texts = [self._read(file)]
        for folder in _SEARCHED:
            for drop_in in sorted(self._system.path(f"{folder}/{unit}.d").glob("*.conf")):
                texts.append(drop_in.read_text(encoding="utf-8"))
        values: list[str] = []
        for text in texts:
            values += _values(text, section, key)
        return values

    def is_enabled(self, unit: str) -> str | None:
        """Return systemd's state of it: enabled, disabled, static, masked, linked; None for an unknown unit."""
        file = self.file(unit)
        if file is None:
            return None
        if self.is_masked(unit):
            return "masked"
        if self._links(unit):
            return "enabled"
        return "disabled" if self._wanted_by(unit) else "static"

    def enable(self, unit: str) -> list[str]:
        """Link the unit into its targets; return systemd's lines about it."""
        file = self.file(unit)
        lines = []
        for link in self._wanted_by(unit):
            path = self._system.path(link)
            if not path.is_symlink():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(file or "")
                lines.append(f"Created symlink {link} → {file}.")
        return lines

    def disable(self, unit: str) -> list[str]:
        """Take the unit out of all targets; return systemd's lines about it."""
        links = self._links(unit)
        for link in links:
            link.unlink()
        return [f'Removed "/{link.relative_to(self._system.root)}".' for link in links]

    def mask(self, unit: str, *, runtime: bool = False) -> list[str]:
        """Link the unit to /dev/null; return systemd's lines about it."""
        folder = "/run/systemd/system" if runtime else ETC
        path = self._system.path(f"{folder}/{unit}")
        if self.is_masked(unit):
            return []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to("/dev/null")
        return [f"Created symlink {folder}/{unit} → /dev/null."]

    def unmask(self, unit: str) -> list[str]:
        """Take the links to /dev/null away; return systemd's lines about it."""
        lines = []
        for folder in _SEARCHED[:2]:
            path = self._system.path(f"{folder}/{unit}")
            if path.is_symlink() and str(path.readlink()) == "/dev/null":
                path.unlink()
                lines.append(f'Removed "{folder}/{unit}".')
        return lines

    def is_active(self, unit: str) -> bool:
        """Return whether the unit runs."""
        return self._system.path(f"{_ACTIVE}/{unit}").exists()

    def set_active(self, unit: str, active: bool) -> None:
        """Note that the unit runs, or that it does not."""
        path = self._system.path(f"{_ACTIVE}/{unit}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if active else path.unlink(missing_ok=True)

    def all_enabled(self) -> list[str]:
        """Return the units that a boot starts."""
        return sorted({path.name for path in self._system.path(ETC).glob("*.wants/*")})

    def names(self) -> list[str]:
        """Return every unit that has a file."""
        found = {path.name for folder in _SEARCHED for path in self._system.path(folder).glob("*.*")}
        return sorted(name for name in found if name.endswith(_SUFFIXES))

    def _links(self, unit: str) -> list[Path]:
        return sorted(path for path in self._system.path(ETC).glob("*.wants/*") if path.name == unit)

    def _wanted_by(self, unit: str) -> list[str]:
        return [f"{ETC}/{target}.wants/{unit}" for target in self.setting(unit, "Install", "WantedBy")]

    def _read(self, file: str) -> str:
        path = self._system.path(file)
        if path.is_symlink():
            # An absolute link means the instance's own file, also for a test that reads it from outside.
            target = str(path.readlink())
            path = self._system.path(target) if target.startswith("/") else path
        try:
            return path.read_text(encoding="utf-8")
        except OSError:
            return ""


def _values(text: str, section: str, key: str) -> list[str]:
    values: list[str] = []
    current = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            current = line[1:-1]
        elif current == section and line.partition("=")[0].strip() == key:
            values += line.partition("=")[2].split()
    return values
