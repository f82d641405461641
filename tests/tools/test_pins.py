"""The versions and sums on record."""

from __future__ import annotations

import re

import pytest
from packaging.version import Version

from gpu_ami.tools.pins import (
    GO_MINIMUM,
    PACKER_MINIMUM,
    PLUGIN_BELOW,
    PLUGIN_MINIMUM,
    TERRAFORM_MINIMUM,
    pins,
)
from gpu_ami.tools.tool import parse_version


@pytest.mark.parametrize(
    ("product", "minimum"),
    [("packer", PACKER_MINIMUM), ("packer-plugin-amazon", PLUGIN_MINIMUM), ("terraform", TERRAFORM_MINIMUM)],
)
def test_what_setup_installs_is_new_enough_for_the_pipeline(product: str, minimum: Version) -> None:
    """Otherwise `setup` would install a tool and then call it missing."""
    version = parse_version(pins().releases[product].version)

    assert version is not None
    assert version >= minimum


def test_the_plugin_on_record_is_one_the_template_accepts() -> None:
    """The template requires `~> 1.8.1`: 1.9 would not be loaded."""
    version = parse_version(pins().releases["packer-plugin-amazon"].version)

    assert version is not None
    assert version < PLUGIN_BELOW


def test_every_sum_is_a_sha256() -> None:
    """A sum that was cut while copying would refuse every download."""
    sums = [value for release in pins().releases.values() for value in release.sha256.values()]

    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in (*sums, *pins().go_wheels.sha256))


@pytest.mark.parametrize("product", ["packer", "packer-plugin-amazon"])
def test_the_sums_of_modules_are_for_the_version_on_record(product: str) -> None:
    """After an update of the version alone, Go would start from sums of another module."""
    version = pins().releases[product].version

    assert any(line.startswith(f"github.com/hashicorp/{product} v{version} h1:") for line in pins().go_modules[product])


def test_the_toolchain_on_record_can_build_packer() -> None:
    """PyPI's Go is only of use if it is at least what Packer's go.mod requires."""
    version = parse_version(pins().go_wheels.version)

    assert version is not None
    assert version >= GO_MINIMUM
