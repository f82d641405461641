"""Finding tools that are already here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gpu_ami.errors import ToolError
from gpu_ami.process import Command, Finished
from gpu_ami.tools import guest_tools, locate, packer_tools, terraform_tools
from tests.tools.machine import Machine


def in_cache(machine: Machine, name: str, version: str) -> Path:
    """Put the program *name* into the cache as `setup` would."""
    file = machine.cache.folder(name, version) / name
    file.parent.mkdir(parents=True)
    file.write_text("program", encoding="utf-8")
    return file


def test_packer_tools_finds_packer_on_path_and_the_users_plugin(machine: Machine) -> None:
    """Whoever has both installed needs nothing of ours."""
    packer = machine.says("packer", "Packer v1.16.4")
    folder = machine.root / "home" / ".config" / "packer" / "plugins"
    plugin = machine.plugin(folder, "1.8.1")

    tools = packer_tools()

    assert (tools.packer.path, tools.packer.version, tools.packer.source) == (packer, "1.16.4", "PATH")
    assert (tools.plugin.path, tools.plugin.version, tools.plugin.source) == (plugin, "1.8.1", "plugins")
    assert tools.plugin_path == folder


def test_packer_tools_falls_back_to_the_cache(machine: Machine) -> None:
    """What `setup` installed is used where PATH has nothing."""
    packer = in_cache(machine, "packer", "1.16.0")
    folder = machine.cache.folder("packer-plugin-amazon", "1.8.2")
    plugin = machine.plugin(folder)

    tools = packer_tools()

    assert (tools.packer.path, tools.packer.source) == (packer, "cache")
    assert (tools.plugin.path, tools.plugin.source, tools.plugin_path) == (plugin, "cache", folder)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Packer v1.6.6", "which is 1.6.6"),
        ("Packer v1.16.0-beta1", "1.16.0-beta1"),
        ("skipping line 1", "another prog"),
    ],
)
def test_an_unusable_packer_is_named_with_its_version(machine: Machine, answer: str, reason: str) -> None:
    """Debian's Packer is 1.6.6: "missing" alone would puzzle somebody who has just installed it."""
    path = machine.says("packer", answer)

    with pytest.raises(ToolError, match=r"Packer 1\.16\.0 or newer is missing .*invoke setup") as caught:
        packer_tools()

    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_a_packer_that_does_not_start_is_passed_over(machine: Machine) -> None:
    """A binary for another processor, or a broken download, is no reason to crash."""
    file = machine.bin / "packer"
    file.write_bytes(b"\x7fELF garbage")
    file.chmod(0o755)

    with pytest.raises(ToolError, match="does not start here"):
        packer_tools()


def test_cracklibs_packer_is_never_run(machine: Machine) -> None:
    """It takes its first argument for the name of a dictionary and writes three files."""
    ran = machine.root / "ran"
    (machine.bin / "packer").symlink_to(machine.program("cracklib-packer", f"touch {ran}"))

    with pytest.raises(ToolError, match="another program"):
        packer_tools()

    assert not ran.exists()


def test_the_right_packer_is_found_behind_the_wrong_one(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Fedora /usr/sbin/packer is cracklib's and comes first."""
    second = machine.says("packer", "Packer v1.16.0", folder=machine.root / "second")
    machine.says("packer", "usage: packer dictionary")
    monkeypatch.setenv("PATH", f"{machine.bin}::{machine.bin}:{second.parent}")
    machine.plugin(machine.root / "home" / ".config" / "packer" / "plugins")

    assert packer_tools().packer.path == second


def test_a_binary_is_asked_once_and_again_after_an_update(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Packer costs a quarter of a second on every task."""
    runs: list[Command] = []

    def answer(command: Command, *, timeout_s: float) -> Finished:
        runs.append(command)
        return Finished(0, "Packer v1.16.0\n", "")

    monkeypatch.setattr(locate, "run", answer)
    file = machine.bin / "packer"
    file.write_bytes(b"\x7fELF")
    file.chmod(0o755)

    assert [locate.require(locate.PACKER, machine.cache).version for _ in range(3)] == ["1.16.0"] * 3
    assert len(runs) == 1
    os.utime(file, ns=(1, 1))
    locate.require(locate.PACKER, machine.cache)
    assert len(runs) == 2


def test_a_version_managers_script_is_asked_every_time(machine: Machine) -> None:
    """Its answer changes with a setting, not with the file."""
    switch = machine.root / "version"
    machine.program("terraform", f"cat {switch}")
    switch.write_text("Terraform v1.11.4", encoding="utf-8")
    assert terraform_tools().terraform.version == "1.11.4"

    switch.write_text("Terraform v1.5.7", encoding="utf-8")

    with pytest.raises(ToolError, match=r"which is 1\.5\.7"):
        terraform_tools()


def test_a_program_that_may_be_run_but_not_read_is_not_remembered(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is a script cannot be seen, so its answer may change."""
    machine.says("terraform", "Terraform v1.11.4")

    def refuse(self: Path, mode: str = "r") -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert locate.require(locate.TERRAFORM, machine.cache).version == "1.11.4"

    assert not (machine.cache.root / "versions.json").exists()


@pytest.mark.parametrize("version", ["1.8.0", "1.9.0", "1.3.2"])
def test_a_plugin_the_template_does_not_accept_is_missing(machine: Machine, version: str) -> None:
    """1.8.0 loses new AMIs, and `~> 1.8.1` does not load 1.9."""
    machine.says("packer", "Packer v1.16.0")
    machine.plugin(machine.root / "home" / ".config" / "packer" / "plugins", version)

    with pytest.raises(ToolError, match=r"amazon plugin \(1\.8\.1 or newer, below 1\.9\.0\) is missing"):
        packer_tools()


def test_a_plugin_without_its_sum_is_missing(machine: Machine) -> None:
    """Packer does not load it."""
    machine.says("packer", "Packer v1.16.0")
    machine.plugin(machine.root / "home" / ".config" / "packer" / "plugins", with_sum=False)

    with pytest.raises(ToolError, match="amazon plugin"):
        packer_tools()


def test_the_newest_usable_plugin_counts(machine: Machine) -> None:
    """As for Packer, which compares numbers, not texts."""
    folder = machine.root / "home" / ".config" / "packer" / "plugins"
    for version in ("1.8.9", "1.8.10", "1.9.0"):
        machine.plugin(folder, version)
    found = locate.find_plugin(machine.cache)

    assert found is not None
    assert found[0].version == "1.8.10"


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"PACKER_PLUGIN_PATH": "ROOT/own"}, "own"),
        ({"PACKER_CONFIG_DIR": "ROOT/config"}, "config/.packer.d/plugins"),
        ({"XDG_CONFIG_HOME": "ROOT/xdg"}, "xdg/packer/plugins"),
    ],
)
def test_the_users_plugin_folder_is_found_by_packers_rules(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    """Packer and `setup` must search the same folder, or one calls missing what the other finds."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("ROOT", str(machine.root)))
    machine.plugin(machine.root / folder)
    found = locate.find_plugin(machine.cache)

    assert found is not None
    assert found[1] == machine.root / folder


def test_an_old_packer_folder_in_the_home_goes_first(machine: Machine) -> None:
    """Packer still prefers ~/.packer.d where there is one."""
    folder = machine.root / "home" / ".packer.d" / "plugins"
    machine.plugin(folder)
    found = locate.find_plugin(machine.cache)

    assert found is not None
    assert found[1] == folder


def test_windows_keeps_plugins_in_the_roaming_folder(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packer's rules differ there."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("APPDATA", str(machine.root / "roaming"))
    plugin = machine.plugin(machine.root / "roaming" / "packer.d" / "plugins")
    found = locate.find_plugin(machine.cache)

    assert found is not None
    assert found[0].path == plugin


def test_terraform_tools_names_the_mirror(machine: Machine) -> None:
    """With a mirror, `terraform init` needs no network."""
    machine.says("terraform", "Terraform v1.11.4\non linux_amd64")
    mirror = machine.provider(machine.root / "opt" / "plugins")

    tools = terraform_tools()

    assert (tools.terraform.version, tools.provider_mirror) == ("1.11.4", mirror)


def test_guest_tools_returns_the_walls_and_what_is_borrowed(machine: Machine) -> None:
    """The sandbox starts from these paths."""
    machine.guest()

    guest = guest_tools()

    assert [tool.path for tool in (guest.bwrap, guest.scp, guest.jq, guest.curl)] == [
        machine.bin / name for name in ("bwrap", "scp", "jq", "curl")
    ]
    assert guest.bwrap.version == "0.8.0"


def test_guest_tools_names_everything_that_is_missing(machine: Machine) -> None:
    """One run of `setup` should be enough."""
    machine.program("scp", ":")

    with pytest.raises(ToolError, match="needs bwrap, jq, curl of this machine"):
        guest_tools()


def test_guest_tools_refuses_a_bubblewrap_without_clearenv(machine: Machine) -> None:
    """Before 0.5 the host's secrets would be visible in the guest."""
    machine.guest()
    machine.says("bwrap", "bubblewrap 0.4.1")

    with pytest.raises(ToolError, match=r"bubblewrap 0\.5\.0 or newer is missing .*0\.4\.1"):
        guest_tools()


def test_guest_tools_refuses_a_system_that_does_not_isolate(machine: Machine) -> None:
    """Scripts that delete host keys never run without walls."""
    machine.guest()
    machine.program("bwrap", '[ "$1" = --version ] && echo "bubblewrap 0.8.0" && exit; echo "bwrap: no" >&2; exit 1')

    with pytest.raises(ToolError, match=r"cannot isolate the guest here \(bwrap: no\)"):
        guest_tools()


def test_guest_tools_needs_linux(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no bubblewrap on macOS or Windows."""
    machine.guest()
    monkeypatch.setattr(sys, "platform", "darwin")

    with pytest.raises(ToolError, match="needs Linux"):
        guest_tools()
