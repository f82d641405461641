"""Timers of systemd's that switch the instance off: when is noted in memory, and the host sees to it.

Any other timer is only noted as running.
"""

from __future__ import annotations

import datetime
import re
import time

from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.programs.units import Units

_NOTE = "/run/systemd/shutdown/timer"
_POWER_OFF = (["/usr/bin/systemctl", "poweroff"], ["/usr/sbin/poweroff"])
_UNITS_S = {"": 1, "s": 1, "min": 60, "h": 3600}


def start(unit: str, units: Units, system: System) -> None:
    """Note when the timer *unit* switches the instance off, if that is what it does."""
    service = units.setting(unit, "Timer", "Unit") or [f"{unit.removesuffix('.timer')}.service"]
    due = _due(unit, units)
    if due is None or units.setting(service[0], "Service", "ExecStart") not in _POWER_OFF:
        return
    note = system.path(_NOTE)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"USEC={int(due * 1e6)}\nUNIT={unit}\n")


def stop(unit: str, system: System) -> None:
    """Forget the timer *unit*."""
    note = system.path(_NOTE)
    if note.is_file() and f"UNIT={unit}\n" in note.read_text():
        note.unlink()


def _due(unit: str, units: Units) -> float | None:
    """Return when the timer elapses first, in seconds of Unix time; None where nothing that is read here says so."""
    now = time.time()
    spans = [_seconds(text) for key in ("OnBootSec", "OnActiveSec") for text in units.setting(unit, "Timer", key)]
    # Timers start with the boot.
    times = [now + span for span in spans if span is not None]
    at = _moment(" ".join(units.setting(unit, "Timer", "OnCalendar")))
    # A moment of the past never comes again.
    return min([*times, *([at] if at is not None and at > now else [])], default=None)


def _seconds(text: str) -> float | None:
    found = re.fullmatch(r"(?P<number>\d{1,9})(?P<unit>[a-z]*)", text)
    return int(found["number"]) * _UNITS_S[found["unit"]] if found and found["unit"] in _UNITS_S else None


def _moment(text: str) -> float | None:
    try:
        return datetime.datetime.strptime(text.replace(" UTC", "+0000"), "%Y-%m-%d %H:%M:%S%z").timestamp()
    except ValueError:
        return None
