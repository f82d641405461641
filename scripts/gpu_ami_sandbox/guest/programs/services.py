"""Services that really run: of all that a boot starts, what the bake has put into the image itself.

The daemons of the AMI are not here; that they run is only noted.
"""

from __future__ import annotations

from gpu_ami_sandbox.guest.programs import journal
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.programs.units import Units

RUN = ("gpu-ami-prewarm.service",)
_LONGEST_S = 60.0
_ENDED = "Deactivated successfully."


def run(unit: str, units: Units, system: System) -> None:
    """Run *unit* to its end, which on an instance nobody waits for; what it and systemd say is in the journal."""
    conditions = units.setting(unit, "Unit", "ConditionPathExists")
    command = units.setting(unit, "Service", "ExecStart")
    title = f"{unit} - {' '.join(units.setting(unit, 'Unit', 'Description'))}"
    unmet = next((path for path in conditions if not system.path(path).exists()), None)
    if unmet is not None:
        why = f"was skipped because of an unmet condition check (ConditionPathExists={unmet})."
        journal.note(unit, "systemd", f"{title} {why}", system)
        return
    journal.note(unit, "systemd", f"Started {title}.", system)
    status, output = system.run(command, _limit_s(unit, units))
    for line in output.splitlines():
        journal.note(unit, command[0].rpartition("/")[2], line, system)
    result = f"Failed with result '{'exit-code' if status > 0 else 'timeout'}'." if status else _ENDED
    journal.note(unit, "systemd", f"{unit}: {result}", system)


def _limit_s(unit: str, units: Units) -> float:
    """Return how long it may run: as its RuntimeMaxSec says, but no boot here takes that long."""
    limits = [float(text) for text in units.setting(unit, "Service", "RuntimeMaxSec") if text.isdecimal()]
    return min([*limits, _LONGEST_S])
