"""What a boot leaves in the journal: the unit of the bake's own really runs, its times are nobody's."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_ami_sandbox.guest.programs import journal, journalctl, systemctl, systemd_analyze
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.programs.units import Units
from tests.infra.box import PACKER
from tests.sandbox.guest.parts import Inside, Watched

View = Callable[..., Inside]


def _journal(here: Inside, *arguments: str) -> list[str]:
    here.system.out = here.out = io.StringIO()
    journalctl.main(["journalctl", *arguments], here.system)
    return here.out.getvalue().splitlines()


class _Ran(Watched):
    """A system that runs nothing and says how it went."""

    ran: tuple[list[str], float] | None = None
    status = 0

    def run(self, command: Any, limit_s: float) -> tuple[int, str]:
        """Note what was to run."""
        self.ran = (list(command), limit_s)
        return self.status, "prewarm: 9 MiB\nand more\n"


def _baked(inside: View, *, configured: bool = True) -> Inside:
    """Return an instance whose AMI has the pipeline's own unit."""
    here = inside()
    here.system.__class__ = _Ran
    root = here.system.root
    shutil.copy(PACKER / "rootfs/etc/systemd/system/gpu-ami-prewarm.service", root / "etc/systemd/system")
    if configured:
        (root / "etc/gpu-ami").mkdir()
        (root / "etc/gpu-ami/prewarm.json").write_text("{}")
    assert systemctl.main(["systemctl", "enable", "gpu-ami-prewarm"], here.system) == 0
    return here


@pytest.mark.parametrize(
    ("status", "ends"), [(0, "Deactivated successfully."), (2, "'exit-code'."), (-15, "'timeout'.")]
)
def test_a_boot_runs_what_the_bake_has_put_in(inside: View, status: int, ends: str) -> None:
    """Of all units this one is really there; its lines, and systemd's about it, are what a verification reads."""
    here = _baked(inside)
    assert isinstance(here.system, _Ran)
    here.system.status = status

    systemctl.boot(here.system)

    command = "/usr/bin/python3 -I /usr/local/libexec/gpu-ami/prewarm.py /etc/gpu-ami/prewarm.json"
    assert here.system.ran == (command.split(), 60.0)
    lines = _journal(here, "--no-pager", "--output", "cat", "--unit", "gpu-ami-prewarm.service")
    assert lines[:3] == [
        "Started gpu-ami-prewarm.service - Read the baked container image and models ahead.",
        "prewarm: 9 MiB",
        "and more",
    ]
    assert lines[3:] == [lines[3]]
    assert lines[3].endswith(ends)
    assert not Units(here.system).is_active("gpu-ami-prewarm.service")
    assert Units(here.system).is_active("docker.service")


def test_its_limit_ends_a_service(inside: View) -> None:
    """The bake's drop-in has systemd end it should it not end itself; a boot here waits for it."""
    here = _baked(inside)
    assert isinstance(here.system, _Ran)
    drop_in = here.system.root / "etc/systemd/system/gpu-ami-prewarm.service.d/limit.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nRuntimeMaxSec=35\n")

    systemctl.main(["systemctl", "start", "gpu-ami-prewarm"], here.system)

    assert here.system.ran is not None
    assert here.system.ran[1] == 35.0


def test_a_service_whose_condition_is_not_met_is_skipped(inside: View) -> None:
    """An image without the configuration."""
    here = _baked(inside, configured=False)

    systemctl.boot(here.system)

    (line,) = _journal(here, "--output=cat", "-u", "gpu-ami-prewarm")
    assert line.endswith("an unmet condition check (ConditionPathExists=/etc/gpu-ami/prewarm.json).")


def test_the_journal_is_shown_as_asked(inside: View) -> None:
    """By unit, so many lines, with and without what stands before each."""
    here = inside()
    for unit, message in (("a.service", "one"), ("b.service", "two"), ("a.service", "three")):
        journal.note(unit, "python3", message, here.system)

    assert _journal(here, "-o", "cat") == ["one", "two", "three"]
    assert _journal(here, "-u", "a", "--output=cat") == ["one", "three"]
    assert _journal(here, "-u", "a", "-n", "1", "--output=cat") == ["three"]
    assert _journal(here, "--lines=0") == ["-- No entries --"]
    assert re.fullmatch(
        r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d ip-10-0-1-2 python3\[1\]: two", _journal(here, "-u", "b")[0]
    )


def test_boot_times_are_said_and_are_nobodys(inside: View) -> None:
    """Nothing boots here: each figure is one that no boot has."""
    for command in ("systemd-analyze", "systemd-analyze time", "systemd-analyze --no-pager time"):
        here = inside()
        assert systemd_analyze.main(command.split(), here.system) == 0
        times = "1.111s (kernel) + 2.222s (initrd) + 11.111s (userspace) = 14.444s"
        assert here.text.startswith(f"Startup finished in {times}")


def test_programs_run_in_the_guest_only(tmp_path: Path) -> None:
    """By call a test's instance is a folder: what its units name would be this machine's programs."""
    assert System(tmp_path, env={}).run(["touch", str(tmp_path / "made")], 5.0) == (127, "")
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_run_to_its_end_or_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service is: what it has printed is there in both cases."""
    monkeypatch.setattr("gpu_ami_sandbox.guest.programs.system._INSTANCE", str(tmp_path))
    here = System("/", env={})

    assert here.run(["sh", "-c", "echo one; echo two >&2; exit 3"], 5.0) == (3, "one\ntwo\n")
    assert here.run([str(tmp_path / "none")], 5.0) == (127, "")
    # On a busy machine it has not always begun to print by then.
    for limit_s in (0.2, 1.0, 5.0, 25.0):
        status, said = here.run(["sh", "-c", "echo one; exec sleep 60"], limit_s)
        assert status == -15
        if said:
            break
    assert said == "one\n"
