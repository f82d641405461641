"""Versions and platforms: what everything else compares."""

from __future__ import annotations

import platform
import sys

import pytest
from packaging.version import Version

from gpu_ami.tools.tool import executable, host_platform, parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v1.16.0", Version("1.16.0")),
        ("1.6.6", Version("1.6.6")),
        ("0.8", Version("0.8.0")),
        (" 1.26.8\n", Version("1.26.8")),
        ("1.14.0-beta1", Version("1.14.0b1")),
    ],
)
def test_parse_version_reads_what_tools_print(text: str, version: Version) -> None:
    """Each tool writes its version its own way; one wrong reading turns a good tool away."""
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "1", "2026", "latest", "1.2.3.4", "1.2.3-what", "another program", "<html>"])
def test_parse_version_refuses_what_is_none(text: str) -> None:
    """Garbage must never be taken for a version that is new enough."""
    assert parse_version(text) is None


def test_versions_compare_as_numbers() -> None:
    """1.9 is older than 1.14, and a pre-release is older than its release, as HashiCorp and as Go write it."""
    written = ["1.9.5", "v1.14.0-beta1", "1.14.0", "1.27rc1", "1.27.0"]
    versions = [parse_version(text) for text in written]

    assert versions == sorted(version for version in versions if version)
    assert len(set(versions)) == len(written)


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("linux", "x86_64", "linux_amd64"),
        ("linux", "aarch64", "linux_arm64"),
        ("darwin", "arm64", "darwin_arm64"),
        ("win32", "AMD64", "windows_amd64"),
    ],
)
def test_host_platform_speaks_the_words_of_releases(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, expected: str
) -> None:
    """The platform is part of every file name that is downloaded or searched for."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)

    assert host_platform() == expected


def test_programs_end_in_exe_on_windows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows starts nothing that has no .exe."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert executable("packer") == "packer"

    monkeypatch.setattr(sys, "platform", "win32")
    assert executable("packer") == "packer.exe"
