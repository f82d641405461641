"""Composes the bill of materials of an image, CycloneDX 1.6 as JSON, of what list-contents.sh has listed in it.

Packer runs it between that step and the release record, which takes the bill's digest: as a process of its own, because
the libraries for it would cost every other task their import. `python -m gpu_ami.bake.bill_of_materials CONTENTS BILL`.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from gpu_ami.console import Console
from gpu_ami.errors import BuildError, PipelineError, UsageError
from gpu_ami.files import read_text, write_atomic
from gpu_ami.foreign_text import limited, reason
from gpu_ami.records import archive, bill, release
from gpu_ami.records.bill import IMAGE, KIND, MODEL, PACKAGE, SIZE
from gpu_ami.units import show_bytes, show_count

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

# Of the list: a builder wrote it.
_LIMIT_BYTES = 32 * 1024 * 1024
_NONE = "(none)"

_Line = Annotated[str, msgspec.Meta(max_length=4096)]
# Of a kernel or a firmware a whole expression of them: some have thousands of characters.
_License = Annotated[str, msgspec.Meta(max_length=64 * 1024)]


class Package(msgspec.Struct, frozen=True):
    """One package, as rpm has it; the licence is text of its packager's, in AL2023 seldom SPDX's."""

    name: _Line
    epoch: _Line
    version: _Line
    release: _Line
    arch: _Line
    license: _License


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What an image consists of, as list-contents.sh found it on the builder."""

    run_id: _Line
    family: _Line
    pipeline_version: _Line
    started_at: Annotated[datetime, msgspec.Meta(tz=True)]
    source_ami: release.Source
    os: _Line
    os_id: _Line
    os_version: _Line
    kernel: _Line
    nvidia_driver: _Line
    image: release.BakedImage
    models: release.Models
    packages: tuple[Package, ...]


def main(argv: Sequence[str]) -> int:
    """Compose the bill of the list in the first file, write it to the second, and return the exit code."""
    console = Console()
    try:
        source, target = (Path(argument) for argument in argv)
        contents = load(source)
        write_atomic(target, compose(contents), what="bill of materials")
    except PipelineError as exc:
        console.fail(str(exc))
        return exc.exit_code
    # Packer calls an error what comes on standard error.
    Console(err=sys.stdout).say(f"bill of materials: {show_count(len(contents.packages), 'package')}, in {target.name}")
    return 0


def command(contents: Path, target: Path) -> str:
    """Return what has a shell of this machine compose the bill of *contents*, into *target*."""
    # -I: neither the folder that Packer runs in nor the caller's PYTHON… variables decide what is imported.
    argv = (sys.executable, "-I", "-m", "gpu_ami.bake.bill_of_materials", str(contents), str(target))
    return shlex.join(argv) if sys.platform != "win32" else " ".join(f'"{argument}"' for argument in argv)


def load(path: Path) -> Contents:
    """Return the list in *path*, which a builder wrote: it is validated as untrusted input.

    Raises:
        UsageError: It is missing, or not such a list.
    """
    text = read_text(path, what="list of the image's contents", limit_bytes=_LIMIT_BYTES)
    try:
        return msgspec.json.decode(text, type=Contents)
    except (msgspec.DecodeError, RecursionError) as exc:
        msg = f"{path} is not a list of an image's contents: {reason(exc)}."
        raise UsageError(msg) from exc


def compose(contents: Contents) -> str:
    """Return the bill of *contents*: the same text for the same contents, in ASCII.

    Packer's file(), of which the record has the digest, composes letters (NFC): of other text it would be another's.

    Raises:
        BuildError: No valid bill can be made of them.
    """
    from cyclonedx.exception import CycloneDxException
    from cyclonedx.output.json import JsonV1Dot6
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    try:
        text: str = JsonV1Dot6(_bom(contents)).output_as_string(indent=1) + "\n"
    except (CycloneDxException, ValueError) as exc:
        msg = f"No bill of materials can be made of the image's contents: {reason(exc)}."
        raise BuildError(msg) from exc
    if len(text) > archive.LIMITS[archive.BILL]:
        msg = f"The bill of materials would have {show_bytes(len(text))}, and no archive takes one of that size."
        raise BuildError(msg)
    judge = JsonStrictValidator(SchemaVersion.V1_6)
    # jsonschema compares each of these with each other one, minutes of a builder's time for 10,000 models. `_bom` has
    # each once, by its reference.
    schema: Any = judge._validator.schema  # this object's own copy
    for name in ("components", "dependencies"):
        schema["properties"][name].pop("uniqueItems", None)
    found = judge.validate_str(text)
    if found is not None:
        msg = f"The bill of materials is not valid {bill.FORMAT} {bill.VERSION}: {limited(found)}."
        raise BuildError(msg)
    return text


def _bom(contents: Contents) -> Bom:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.dependency import Dependency

    image = Component(
        name=contents.family,
        version=contents.run_id,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="ami",
        description=f"AMI of {contents.family} on {contents.os}",
    )
    facts = {
        bill.RUN: contents.run_id,
        bill.SCOPE: bill.NOT_IN_IT,
        "gpu-ami:source-ami": contents.source_ami.id,
        "gpu-ami:source-ami-name": contents.source_ami.name,
        "gpu-ami:os": contents.os,
        "gpu-ami:kernel": contents.kernel,
        "gpu-ami:nvidia-driver": contents.nvidia_driver,
    }
    tool = Component(name="gpu-ami-pipeline", version=contents.pipeline_version, type=ComponentType.APPLICATION)
    # rpm lists a key that was imported twice twice.
    parts = list({str(part.bom_ref): part for part in _components(contents)}.values())
    bom = Bom(
        components=parts,
        # Neither chance nor the clock is in it: who composes it anew gets the same bytes.
        serial_number=uuid.UUID(hashlib.sha256(msgspec.json.encode(contents)).hexdigest()[:32], version=5),
        metadata=BomMetaData(
            component=image,
            properties=[Property(name=name, value=value) for name, value in facts.items() if value],
            timestamp=contents.started_at,
        ),
    )
    bom.metadata.tools.components.add(tool)
    # Not by register_dependency, which goes through all of them for each.
    alone = [Dependency(ref=part.bom_ref) for part in parts]
    bom.dependencies = [Dependency(ref=image.bom_ref, dependencies=alone), *alone]
    return bom


def _components(contents: Contents) -> Iterator[Component]:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from packageurl import PackageURL

    for package in contents.packages:
        purl = PackageURL("rpm", contents.os_id, package.name, _version(package), _qualifiers(contents, package))
        yield Component(
            name=package.name,
            version=f"{package.epoch}:{_version(package)}" if _has_epoch(package) else _version(package),
            type=ComponentType.LIBRARY,
            bom_ref=str(purl),
            purl=purl,
            licenses=[DisjunctiveLicense(name=package.license)] if package.license not in ("", _NONE) else None,
            properties=[Property(name=KIND, value=PACKAGE)],
        )
    image = contents.image
    name = image.repository.rpartition("/")[2]
    qualifiers = {"repository_url": image.repository, "tag": image.tag}
    yield Component(
        name=image.repository,
        version=image.tag,
        type=ComponentType.CONTAINER,
        bom_ref=f"image:{image.digest}",
        purl=PackageURL("oci", None, name.lower(), image.digest, qualifiers),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image.digest.removeprefix("sha256:"))],
        properties=[Property(name=KIND, value=IMAGE), Property(name=SIZE, value=str(image.size_bytes))],
    )
    for model in contents.models.files:
        yield Component(
            name=model.path,
            type=ComponentType.FILE,
            bom_ref=f"model:{model.path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=model.sha256)],
            properties=[Property(name=KIND, value=MODEL), Property(name=SIZE, value=str(model.size_bytes))],
        )


def _version(package: Package) -> str:
    return f"{package.version}-{package.release}"


def _has_epoch(package: Package) -> bool:
    return package.epoch not in ("", "0", _NONE)


def _qualifiers(contents: Contents, package: Package) -> dict[str, str]:
    """Return the qualifiers of a package's URL, as the purl specification has them for rpm."""
    found = {"distro": f"{contents.os_id}-{contents.os_version}"}
    if package.arch != _NONE:
        found["arch"] = package.arch
    return {**found, "epoch": package.epoch} if _has_epoch(package) else found


if __name__ == "__main__":  # pragma: no cover - Packer runs it as a process
    sys.exit(main(sys.argv[1:]))
