"""The programs that a bake runs here: found, or named with what brings them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.bake.checks import programs
from gpu_ami.bake.checks.check import Check
from gpu_ami.errors import ToolError
from gpu_ami.tools import PackerTools, TerraformTools, Tool
from tests.bake.checks.bakes import a_bake


def checks_of(*, sandbox: bool = False, ssh_interface: str = "public_ip") -> dict[str, Check]:
    """Return every check of programs by name."""
    rows = programs.programs(a_bake(ssh_interface=ssh_interface), sandbox=sandbox)
    return {name: run() for name, run in rows}


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    packer = Tool("packer", "1.16.0", Path("/packer"), "cache")
    plugin = Tool("packer-plugin-amazon", "1.8.2", Path("/plugin"), "plugins")
    terraform = Tool("terraform", "1.11.4", Path("/terraform"), "PATH")
    monkeypatch.setattr(programs, "packer_tools", lambda: PackerTools(packer, plugin, Path("/")))
    monkeypatch.setattr(programs, "terraform_tools", lambda: TerraformTools(terraform, None))
    monkeypatch.setattr(programs, "guest_tools", lambda: None)


def _missing() -> None:
    msg = "Packer 1.14.0 or newer is missing (found /usr/bin/packer, which is 1.6.6): run `invoke setup`."
    raise ToolError(msg)


def test_versions_are_said_with_their_place() -> None:
    """Which of several Packers it is, is the first question."""
    assert {name: check.detail for name, check in checks_of().items()} == {
        "Packer": "1.16.0 (cache), amazon plugin 1.8.2 (plugins)",
        "Terraform": "1.11.4 (PATH)",
    }


def test_a_missing_program_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an error that hides all other checks."""
    monkeypatch.setattr(programs, "packer_tools", _missing)

    check = checks_of()["Packer"]

    assert (check.status, "1.6.6" in check.detail, "invoke setup" in check.fix) == ("fail", True, True)


def test_the_sandbox_asks_for_its_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning without: only a build logs in."""
    assert checks_of(sandbox=True)["guest"].status == "ok"
    monkeypatch.setattr(programs, "guest_tools", _missing)
    assert checks_of(sandbox=True)["guest"].status == "warn"


def test_a_tunnel_asks_for_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packer would find out after the instance is up."""
    monkeypatch.setattr(programs, "find_program", lambda _name: None)
    missing = checks_of(ssh_interface="session_manager")["session-manager-plugin"]
    monkeypatch.setattr(programs, "find_program", lambda name: Path("/usr/bin") / name)
    there = checks_of(ssh_interface="session_manager")["session-manager-plugin"]

    assert (missing.status, there.status) == ("fail", "ok")
    assert "session-manager-plugin" not in checks_of()
