"""Emulates `systemd-analyze time`: nothing has booted, so the times are invented and look it."""

from __future__ import annotations

from gpu_ami_sandbox.guest.programs.system import Refusal, System

REFUSALS = (
    Refusal("systemd-analyze no-such-command", "Unknown command verb no-such-command.", 1),
    Refusal("systemd-analyze --no-such-option", "systemd-analyze: unrecognized option '--no-such-option'", 1),
)

_TIMES = (
    "Startup finished in 1.111s (kernel) + 2.222s (initrd) + 11.111s (userspace) = 14.444s ",
    "multi-user.target reached after 11.111s in userspace.",
)


def main(argv: list[str], system: System) -> int:
    """Say how long the boot took; without a verb too."""
    verbs = [word for word in argv[1:] if not word.startswith("-")]
    unknown = next((word for word in argv[1:] if word.startswith("-") and word not in ("--system", "--no-pager")), None)
    if unknown:
        return system.fail(1, f"systemd-analyze: unrecognized option '{unknown}'")
    if verbs[:1] not in ([], ["time"]):
        return system.fail(1, f"Unknown command verb {verbs[0]}.")
    system.say(*_TIMES)
    return 0
