"""Installing what comes from the system's packages."""

from __future__ import annotations

import pytest

from gpu_ami.errors import ToolError
from gpu_ami.tools import system_packages
from tests.tools.machine import Machine

LOG = 'echo "$(basename "$0") $DEBIAN_FRONTEND $@" >> "$STOCK/log"\n'


def log(machine: Machine) -> list[str]:
    """Return what the fake package managers were called with."""
    file = machine.stock / "log"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


@pytest.mark.parametrize(
    ("manager", "line"),
    [
        ("apt-get", "apt-get noninteractive install -y --no-install-recommends bubblewrap openssh-client jq"),
        ("dnf", "dnf noninteractive install -y bubblewrap openssh-clients jq"),
        ("apk", "apk noninteractive add bubblewrap openssh-client jq"),
    ],
)
def test_root_installs_without_being_asked(machine: Machine, as_root: None, manager: str, line: str) -> None:
    """`setup` asks nothing, and each system calls scp's package its own way."""
    machine.program(manager, LOG)

    system_packages.install(["bwrap", "scp", "jq"], machine.console)

    assert log(machine) == [line]


def test_stale_package_lists_are_refreshed_once(machine: Machine, as_root: None) -> None:
    """A fresh container image has no package lists at all."""
    machine.program("apt-get", f'{LOG}[ "$1" = update ] && touch "$STOCK/lists"; [ -e "$STOCK/lists" ]')

    system_packages.install(["jq"], machine.console)

    assert [line.split()[2] for line in log(machine)] == ["install", "update", "install"]


def test_the_package_managers_last_words_are_told(machine: Machine, as_root: None) -> None:
    """Its log is long; the reason is its last line."""
    machine.program("apt-get", 'echo "Reading package lists..."; echo "E: Unable to locate package jq"; echo; exit 100')

    with pytest.raises(ToolError, match="apt-get could not install jq: E: Unable to locate package jq"):
        system_packages.install(["jq"], machine.console)


def test_a_manager_without_lists_is_tried_once(machine: Machine, as_root: None) -> None:
    """Some managers, dnf for one, refresh by themselves."""
    machine.program("dnf", f"{LOG}exit 1")

    with pytest.raises(ToolError, match="dnf could not install jq: no output"):
        system_packages.install(["jq"], machine.console)

    assert len(log(machine)) == 1


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo apt-get update && sudo apt-get install -y --no-install-recommends bubblewrap"),
        ("dnf", "sudo dnf install -y bubblewrap"),
    ],
)
def test_without_root_the_one_command_is_printed(machine: Machine, as_user: None, manager: str, command: str) -> None:
    """Nothing is tried with sudo behind anybody's back."""
    machine.program(manager, LOG)

    with pytest.raises(ToolError) as caught:
        system_packages.install(["bwrap"], machine.console)

    assert f"run `{command}`, then `invoke setup` again" in str(caught.value)
    assert log(machine) == []


def test_an_unknown_system_is_told_what_to_install(machine: Machine) -> None:
    """There are more package managers than we know."""
    with pytest.raises(ToolError, match="bwrap, jq missing, and none of apt-get, dnf, apk is here"):
        system_packages.install(["bwrap", "jq"], machine.console)
