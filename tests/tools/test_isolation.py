"""Whether this system lets bubblewrap isolate, and what to do if not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.tools import isolation
from tests.tools.machine import Machine

REFUSES = 'echo "bwrap: setting up uid map: Permission denied" >&2; exit 1'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's settings, as files of the test."""
    folder = tmp_path / "sys"
    (folder / "kernel").mkdir(parents=True)
    (folder / "user").mkdir()
    monkeypatch.setattr(isolation, "_PROC_SYS", folder)
    return folder


def test_a_bubblewrap_that_works_is_not_refused(machine: Machine) -> None:
    """The trial puts up the very walls that the guest gets."""
    arguments = machine.root / "arguments"
    bwrap = machine.program("bwrap", f'echo "$@" > {arguments}')

    assert isolation.refusal(bwrap) is None
    assert arguments.read_text(encoding="utf-8").startswith("--unshare-all --new-session --clearenv --die-with-parent ")


def test_apparmor_gets_a_profile_to_install(machine: Machine, settings: Path, as_user: None) -> None:
    """Ubuntu 24.04, where most of our users are: the error alone would leave them searching."""
    (settings / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("1\n", encoding="ascii")
    bwrap = machine.program("bwrap", REFUSES)

    refusal = isolation.refusal(bwrap)

    assert refusal is not None
    assert "AppArmor refuses bubblewrap" in refusal.cause
    assert "uid map: Permission denied" in refusal.cause
    assert f"profile bwrap {bwrap} flags=(unconfined) {{" in refusal.commands
    assert refusal.commands.endswith("apparmor_parser -r /etc/apparmor.d/bwrap")


def test_apparmor_is_not_blamed_for_what_root_meets(machine: Machine, settings: Path, as_root: None) -> None:
    """The restriction is for unprivileged users; root's problem is another, a container as a rule."""
    (settings / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("1\n", encoding="ascii")

    refusal = isolation.refusal(machine.program("bwrap", REFUSES))

    assert refusal is not None
    assert "--security-opt seccomp=unconfined" in refusal.cause
    assert refusal.commands == ""


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("kernel/unprivileged_userns_clone", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "sudo sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_a_kernel_setting_gets_its_command(machine: Machine, settings: Path, name: str, command: str) -> None:
    """Older Debian and RHEL switch user namespaces off there."""
    (settings / name).write_text("0\n", encoding="ascii")

    refusal = isolation.refusal(machine.program("bwrap", REFUSES))

    assert refusal is not None
    assert refusal.commands == command
