"""The release record of an image: what the bake says that the image consists of, and the same as tags."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from gpu_ami.errors import BuildError, UsageError
from gpu_ami.files import read_text
from gpu_ami.foreign_text import reason
from gpu_ami.records.base_release import has_mps_under_tmp
from gpu_ami.records.tags import TAG_PREFIX

LIMIT_BYTES = 16 * 1024 * 1024
# EC2's limit for the value of a tag, in characters, and those that each AWS service takes in one.
_TAG_CHARACTERS = 256
_NOT_IN_TAGS = re.compile(r"[^\w .:/=+@-]", re.ASCII)

_Line = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the record; fields that a later version of the scripts adds are left alone."""


class Source(_Part, frozen=True):
    """The AMI that the bake started from."""

    id: _Line
    name: _Line = ""


class BakedImage(_Part, frozen=True):
    """The container image in it: size as Docker unpacked it, bytes."""

    repository: _Line
    tag: _Line
    digest: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    size_bytes: _Count


class Model(_Part, frozen=True):
    """One model file: path from the models' folder on."""

    path: Annotated[str, msgspec.Meta(max_length=4096)]
    size_bytes: _Count
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Moved(_Part, frozen=True):
    """A package that the bake has moved: None for old where it came new, for new where it went."""

    name: _Line
    old: _Line | None
    new: _Line | None


class Models(_Part, frozen=True):
    """All model files."""

    dir: _Line
    files: tuple[Model, ...]


class Measured(_Part, frozen=True, kw_only=True):
    """What a record measured; all that a price needs of it, also of a record that lacks the rest.

    Attributes:
        run_id: The build.
        bake_seconds: From the start of the build until the record was written.
        used_bytes: On the root volume at that moment.
    """

    run_id: _Line
    bake_seconds: _Count
    used_bytes: _Count = 0


class Release(Measured, frozen=True, kw_only=True):
    """What ``/etc/gpu-ami-release.json`` says, as far as this pipeline uses it.

    Records of version 0.1.0 lack ``mps_pipe`` (what the last step did about MPS with its pipe under /tmp) and
    ``packages_moved``, which is None as well where nothing noted what the base AMI had; those of before there was one
    lack ``containerd`` and ``bill_sha256``, of the bill of materials, which is None as well where none was composed.
    """

    os: _Line
    kernel: _Line
    nvidia_driver: _Line
    docker: _Line
    ecs_agent: _Line
    source_ami: Source
    image: BakedImage
    models: Models
    mps_pipe: _Line = ""
    packages_moved: tuple[Moved, ...] | None = None
    containerd: _Line = ""
    bill_sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None


_Kind = TypeVar("_Kind", bound=Measured)


def load(path: Path, *, run_id: str) -> Release:
    """Return the record in *path*, which a builder wrote: it is validated as untrusted input.

    Raises:
        BuildError: It is missing, not a release record, of another build, or holds what no bake writes.
    """
    try:
        release = _decoded(read_text(path, what="release record", limit_bytes=LIMIT_BYTES), Release, source=str(path))
    except UsageError as exc:
        raise BuildError(str(exc)) from exc
    if release.run_id != run_id:
        msg = f"The release record {path} is of the build {release.run_id!r}, not of {run_id!r}: did another one run?"
        raise BuildError(msg)
    return release


def parse(text: str, *, source: str) -> Release:
    """Return the record *text*, of whichever build; *source* names it in errors.

    Raises:
        UsageError: It is not a release record, and why.
    """
    return _decoded(text, Release, source=source)


def measured(text: str, *, source: str) -> Measured:
    """Return what the record *text* measured; *source* names it in errors.

    Raises:
        UsageError: It is not a release record, and why.
    """
    return _decoded(text, Measured, source=source)


def _decoded(text: str, kind: type[_Kind], *, source: str) -> _Kind:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as exc:
        msg = f"{source} is not a release record that can be used: {reason(exc)}."
        raise UsageError(msg) from exc


def completed(text: str, *, snapshot_gib: float | None) -> str:
    """Return the record *text* with what only EC2 knows: how much data the snapshot holds; null while unknown."""
    document: dict[str, Any] = json.loads(text)
    return json.dumps(document | {"snapshot_gib": snapshot_gib}, indent=2) + "\n"


def tags(release: Release, *, snapshot_gib: float | None) -> dict[str, str]:
    """Return the record as tags of the AMI, each within EC2's limits; what is not known has none."""
    files = release.models.files
    facts: dict[str, object] = {
        "os": release.os,
        "kernel": release.kernel,
        "nvidia-driver": release.nvidia_driver,
        "docker": release.docker,
        "ecs-agent": release.ecs_agent,
        "image-tag": release.image.tag,
        "image-digest": release.image.digest,
        "image-bytes": release.image.size_bytes,
        "models-digest": models_digest(files),
        "models-count": len(files),
        "models-bytes": sum(file.size_bytes for file in files),
        "bake-seconds": release.bake_seconds,
        # Of a base that cannot have it nobody need know that it was looked for.
        "mps-pipe": "" if has_mps_under_tmp(release.source_ami.name) is False else release.mps_pipe,
        "snapshot-gib": "" if snapshot_gib is None else f"{snapshot_gib:.2f}",
    }
    values = {
        f"{TAG_PREFIX}{name}": _NOT_IN_TAGS.sub("_", str(value))[:_TAG_CHARACTERS] for name, value in facts.items()
    }
    return {name: value for name, value in values.items() if value}


def models_digest(files: tuple[Model, ...]) -> str:
    """Return one digest for all models, of their checksums and paths; write-release.sh has the same in the record."""
    lines = sorted(f"{file.sha256}  {file.path}" for file in files)
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"
