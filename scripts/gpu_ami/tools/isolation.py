"""Whether this machine lets bubblewrap isolate the sandbox's guest, and what to do where it does not."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.process import Command, run

# The walls of the guest, around a command that does nothing.
_WALLS = ("--unshare-all", "--new-session", "--clearenv", "--die-with-parent")
_TRIAL = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "/bin/sh", "-c", ":")
_PROC_SYS = Path("/proc/sys")

_PROFILE = """\
sudo tee /etc/apparmor.d/bwrap >/dev/null <<'END'
abi <abi/4.0>,
include <tunables/global>

profile bwrap {bwrap} flags=(unconfined) {{
  userns,
  include if exists <local/bwrap>
}}
END
sudo apparmor_parser -r /etc/apparmor.d/bwrap"""


@dataclass(frozen=True)
class Refusal:
    """Why the guest cannot be isolated here.

    Attributes:
        cause: The error, in one line.
        commands: What an administrator can run against it; may be empty.
    """

    cause: str
    commands: str = ""


UNSUPPORTED = (
    f"The sandbox's guest needs Linux, this is {sys.platform}: use a Linux machine or container for --sandbox; "
    "everything against AWS works here."
)


def is_supported() -> bool:
    """Return whether this system has bubblewrap at all."""
    return sys.platform == "linux"


def refusal(bwrap: Path) -> Refusal | None:
    """Return why *bwrap* cannot put up the guest's walls here, None when it can; takes some milliseconds."""
    trial = run(Command((str(bwrap), *_WALLS, *_TRIAL)), timeout_s=20)
    if trial.returncode == 0:
        return None
    said = trial.last_line
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1" and os.geteuid() != 0:
        return Refusal(
            f"AppArmor refuses bubblewrap its user namespace ({said})",
            _PROFILE.format(bwrap=bwrap),
        )
    for name, closed, opened in (
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "15000"),
    ):
        if _setting(name) == closed:
            key = name.replace("/", ".")
            return Refusal(
                f"The kernel refuses user namespaces ({key} = {closed}; {said})",
                f"sudo sysctl -w {key}={opened}",
            )
    docker = " ".join(f"--security-opt {name}=unconfined" for name in ("seccomp", "apparmor", "systempaths"))
    return Refusal(f"bubblewrap cannot isolate the guest here ({said}): in a container, start it with `{docker}`.")


def _setting(name: str) -> str:
    try:
        return (_PROC_SYS / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
