"""The bill of materials of an image, as CycloneDX 1.6 JSON: what of it this pipeline reads back.

`bake.bill_of_materials` composes it. Reading needs no library of CycloneDX's: the names of its properties are here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.foreign_text import reason

FORMAT, VERSION = "CycloneDX", "1.6"
# Properties of the whole bill.
RUN = "gpu-ami:run"
SCOPE = "gpu-ami:scope"
NOT_IN_IT = "The container image counts as one component, by its digest: packages inside it are not listed."
# What a component is, as CycloneDX has no types of packages: an rpm is a library, whatever is in it.
KIND = "gpu-ami:kind"
PACKAGE, IMAGE, MODEL = "rpm", "container-image", "model"
SIZE = "gpu-ami:size-bytes"

_Text = Annotated[str, msgspec.Meta(max_length=8192)]


class _Property(msgspec.Struct, frozen=True):
    name: _Text
    value: _Text = ""


class _Component(msgspec.Struct, frozen=True):
    name: _Text
    version: _Text = ""
    properties: tuple[_Property, ...] = ()


class _Metadata(msgspec.Struct, frozen=True):
    properties: tuple[_Property, ...] = ()


class _Head(msgspec.Struct, frozen=True):
    bom_format: str = msgspec.field(name="bomFormat", default="")
    spec_version: str = msgspec.field(name="specVersion", default="")


class _Document(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    components: tuple[_Component, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a bill says.

    Attributes:
        run_id: The build that it is of.
        packages: Name to version and release, of a package in several versions all of them; ``EPOCH:`` before one that
            has an epoch.
    """

    run_id: str
    packages: Mapping[str, str]


def digest(text: str) -> str:
    """Return the SHA-256 of a bill's text, as the release record has it."""
    return hashlib.sha256(text.encode()).hexdigest()


def parse(text: str, *, source: str) -> Bill:
    """Return what the bill *text* says; *source* names it in errors.

    Raises:
        UsageError: It is no bill of ours: no JSON, cut off, of another format or version.
    """
    try:
        head = msgspec.json.decode(text, type=_Head)
        if (head.bom_format, head.spec_version) != (FORMAT, VERSION):
            found = f"{head.bom_format} {head.spec_version}".strip() or "no bill of materials"
            msg = f"{source} is {found[:80]!r}, this version reads {FORMAT} {VERSION}: use the one that wrote it."
            raise UsageError(msg)
        document = msgspec.json.decode(text, type=_Document)
    except (msgspec.DecodeError, RecursionError) as exc:
        msg = f"{source} is not a bill of materials that can be used: {reason(exc)}."
        raise UsageError(msg) from exc
    run_id = _property(document.metadata.properties, RUN)
    if not run_id:
        msg = f"{source} does not say which build it is of (property {RUN}): the pipeline has not written it."
        raise UsageError(msg)
    versions: dict[str, set[str]] = {}
    for component in document.components:
        if _property(component.properties, KIND) == PACKAGE:
            versions.setdefault(component.name, set()).add(component.version)
    return Bill(run_id=run_id, packages={name: ", ".join(sorted(found)) for name, found in sorted(versions.items())})


def _property(properties: tuple[_Property, ...], name: str) -> str:
    return next((each.value for each in properties if each.name == name), "")
