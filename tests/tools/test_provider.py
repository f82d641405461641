"""Finding a local mirror of the aws provider."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.version import Version

from gpu_ami.errors import ToolError
from gpu_ami.tools.provider import find_mirror, newest_provider
from gpu_ami.tools.tool import host_platform
from tests.tools.machine import Machine


def test_without_a_mirror_the_registry_is_meant(machine: Machine) -> None:
    """None is an answer, not a failure: Terraform can fetch the provider itself."""
    assert find_mirror() is None


def test_the_named_mirror_goes_first(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who names one means it."""
    machine.provider(machine.root / "opt")
    mirror = machine.provider(machine.root / "named")
    monkeypatch.setenv("GPU_AMI_PROVIDER_MIRROR", str(mirror))

    assert find_mirror() == mirror


def test_a_named_mirror_without_the_provider_is_an_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going to the internet instead would hide the typing error."""
    monkeypatch.setenv("GPU_AMI_PROVIDER_MIRROR", str(machine.root / "nowhere"))

    with pytest.raises(ToolError, match=r"nowhere holds no aws provider 5\.100\.0 or newer"):
        find_mirror()


@pytest.mark.parametrize(
    "settings",
    [
        'provider_installation {{\n  filesystem_mirror {{\n    path = "{0}"\n    include = ["*/*/*"]\n  }}\n}}\n',
        'provider_installation {{ filesystem_mirror {{ include = ["x"], path="{0}" }} }}',
        '# path = "/elsewhere"\nfilesystem_mirror {{\n // path = "/no"\n # path = "/no"\n path = "{0}"\n}}\n',
    ],
)
@pytest.mark.parametrize("source", ["TF_CLI_CONFIG_FILE", "home"])
def test_the_users_terraform_settings_are_honoured(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, settings: str, source: str
) -> None:
    """A company that mirrors providers has said so to Terraform already."""
    mirror = machine.provider(machine.root / "company")
    file = machine.root / "home" / ".terraformrc"
    if source != "home":
        file = machine.root / "cli.tfrc"
        monkeypatch.setenv(source, str(file))
    file.write_text(settings.format(mirror), encoding="utf-8")

    assert find_mirror() == mirror


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b'/* filesystem_mirror { path = "ROOT" } */', b"plugin_cache_dir = 1"]
)
def test_settings_without_a_mirror_are_passed_over(machine: Machine, content: bytes) -> None:
    """Terraform itself tells what is wrong with its settings; a comment is not a setting."""
    mirror = machine.provider(machine.root / "company")
    (machine.root / "home" / ".terraformrc").write_bytes(content.replace(b"ROOT", str(mirror).encode()))

    assert find_mirror() is None


@pytest.mark.parametrize(
    "folder",
    ["home/.terraform.d/plugins", "home/.local/share/terraform/plugins", "share/terraform/plugins", "opt", "opt/a/b"],
)
def test_terraforms_own_folders_and_opt_are_searched(machine: Machine, folder: str) -> None:
    """Terraform would find the first three itself, but the sandbox gives it another home."""
    assert find_mirror() is None
    mirror = machine.provider(machine.root / folder)

    assert find_mirror() == mirror


def test_macos_has_its_own_folders(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Terraform searches Application Support there."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert find_mirror() is None
    mirror = machine.root / "home" / "Library" / "Application Support" / "io.terraform" / "plugins"
    machine.provider(mirror)

    assert find_mirror() == mirror


@pytest.mark.parametrize("source", ["terraform.d/plugins", "terraform.rc"])
def test_windows_has_its_own_folders(machine: Machine, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Both the settings and the implied mirror are in the roaming folder there."""
    roaming = machine.root / "roaming"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("APPDATA", str(roaming))
    assert find_mirror() is None
    mirror = machine.provider(roaming / "terraform.d" / "plugins" if source != "terraform.rc" else machine.root / "m")
    if source == "terraform.rc":
        roaming.mkdir()
        (roaming / source).write_text(f'filesystem_mirror {{ path = "{mirror}" }}', encoding="utf-8")

    assert find_mirror() == mirror


def test_the_newest_provider_of_this_platform_counts(tmp_path: Path) -> None:
    """A mirror holds several versions, packed and unpacked, and other machines' too."""
    home = tmp_path / "registry.terraform.io" / "hashicorp" / "aws"
    for version in ("5.99.0", "5.100.0", "nightly"):
        (home / version / host_platform()).mkdir(parents=True)
    (home / "7.0.0" / "plan9_mips").mkdir(parents=True)
    assert newest_provider(tmp_path) == Version("5.100.0")

    (home / f"terraform-provider-aws_6.2.0_{host_platform()}.zip").touch()

    assert newest_provider(tmp_path) == Version("6.2.0")


def test_a_mirror_with_only_older_providers_is_none(machine: Machine) -> None:
    """Before 5.100 the provider does not know what the module requires."""
    machine.provider(machine.root / "opt", "4.67.0")

    assert find_mirror() is None
