"""Emulates `shutdown`, `reboot` and `poweroff`: a schedule lives in memory, as systemd's does."""

from __future__ import annotations

import datetime
import re

from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (
    Refusal("shutdown -h tomorrow", "Failed to parse time specification: tomorrow", 1),
    Refusal("shutdown --no-such-option", "shutdown: unrecognized option '--no-such-option'", 1),
)

_FOLDER = "/run/systemd/shutdown"


def main(argv: list[str], system: System) -> int:
    """Schedule, cancel, or switch off at once."""
    name, arguments = argv[0], argv[1:]
    if name != "shutdown":
        return switch(name, system)
    unknown = [argument for argument in arguments if re.match("--(?!(halt|poweroff|reboot|no-wall|show)$)", argument)]
    if unknown:
        return system.fail(1, f"shutdown: unrecognized option '{unknown[0]}'")
    scheduled = system.path(_FOLDER) / "scheduled"
    if "-c" in arguments:
        scheduled.unlink(missing_ok=True)
        return 0
    power = "reboot" if {"-r", "--reboot"} & set(arguments) else "poweroff"
    times = [argument for argument in arguments if not argument.startswith("-")]
    now = datetime.datetime.now(datetime.timezone.utc)
    when = _when(times[0] if times else "+1", now)
    if when is None:
        return system.fail(1, f"Failed to parse time specification: {times[0]}")
    if when <= now:
        return switch(power, system)
    scheduled.parent.mkdir(parents=True, exist_ok=True)
    scheduled.write_text(f"USEC={int(when.timestamp() * 1e6)}\nWARN_WALL=1\nMODE={power}\n")
    verb = "Reboot" if power == "reboot" else "Shutdown"
    return system.fail(0, f"{verb} scheduled for {when:%a %Y-%m-%d %H:%M:%S} UTC, use 'shutdown -c' to cancel.")


def switch(power: str, system: System) -> int:
    """Tell the host that the power goes, and end every process: the connection breaks, as it does on an instance."""
    folder = system.path(_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / power).touch()
    system.end_everything()
    return 0


def _when(text: str, now: datetime.datetime) -> datetime.datetime | None:
    if text == "now":
        return now
    if match := re.fullmatch(r"\+(\d{1,7})", text):
        return now + datetime.timedelta(minutes=int(match[1]))
    return None
