"""What is known of one AMI for a comparison with another: by its archive, or by its tags alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_ami.errors import UsageError
from gpu_ami.records import archive, bill, build_facts, release
from gpu_ami.records.tags import (
    DRIVER_TAG,
    FINGERPRINT_PREFIX,
    KERNEL_TAG,
    SNAPSHOT_GIB_TAG,
    SOURCE_AMI_NAME_TAG,
    SOURCE_AMI_TAG,
    TAG_PREFIX,
)

# What of an archive a comparison reads.
FILES = (archive.RELEASE, archive.BILL, archive.BUILD)
TAGS = "tags"


@dataclass(frozen=True, kw_only=True)
class Value:
    """One fact.

    Attributes:
        text: For people, and what is compared.
        size_bytes: Of a file; None of anything else.
    """

    text: str
    size_bytes: int | None = None


# Name to value; None where nothing is known of that kind.
Known = Mapping[str, Value] | None


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What is known of one AMI.

    Attributes:
        ami: The AMI.
        source: Where that is from: a folder, an S3 prefix, or `TAGS`; None where nothing was looked up.
        kinds: What is known, by kind: see `image_comparison.KINDS`.
    """

    ami: str
    source: str | None
    kinds: Mapping[str, Known]


def archived(ami: str, files: Mapping[str, str], *, where: str) -> ImageFacts | None:
    """Return what the *files* of the archive of *ami* say; None where they are too few to say it.

    Args:
        ami: The AMI.
        files: Name to text.
        where: Where they are, as people write it.

    Raises:
        UsageError: One of them cannot be used, or is another AMI's.
    """
    if archive.RELEASE not in files or archive.BUILD not in files:
        return None
    shown = {name: f"{where.rstrip('/')}/{name}" for name in files}
    record = release.parse(files[archive.RELEASE], source=shown[archive.RELEASE])
    built = build_facts.parse(files[archive.BUILD], source=shown[archive.BUILD])
    if built.ami != ami:
        msg = f"{shown[archive.BUILD]} is about {built.ami}, not {ami}: it is another AMI's."
        raise UsageError(msg)
    _check_run(shown[archive.RELEASE], record.run_id, built.tags.get(f"{TAG_PREFIX}run"))
    packages: Known = None
    if archive.BILL in files:
        packages = _packages(files[archive.BILL], record, source=shown[archive.BILL])
    base = {SOURCE_AMI_TAG: record.source_ami.id, SOURCE_AMI_NAME_TAG: record.source_ami.name}
    tags = built.tags | base | release.tags(record, snapshot_gib=None)
    models = {
        model.path: Value(text=f"sha256:{model.sha256}", size_bytes=model.size_bytes) for model in record.models.files
    }
    settings = {name: Value(text=_shown(value)) for name, value in built.settings.items()}
    kinds = {**_of_tags(tags), "package": packages, "model": models, "setting": settings}
    return ImageFacts(ami=ami, source=where, kinds=kinds)


def _check_run(source: str, run_id: str, expected: str | None) -> None:
    if expected is not None and run_id != expected:
        msg = f"{source} is of the build {run_id!r}, the AMI of {expected!r}: it is another AMI's."
        raise UsageError(msg)


def _packages(text: str, record: release.Release, *, source: str) -> Mapping[str, Value]:
    found = bill.parse(text, source=source)
    _check_run(source, found.run_id, record.run_id)
    if bill.digest(text) != record.bill_sha256:
        msg = f"{source} is not the bill that the release record names by its SHA-256: it was changed since."
        raise UsageError(msg)
    return {name: Value(text=versions) for name, versions in found.packages.items()}


def tagged(ami: str, tags: Mapping[str, str]) -> ImageFacts:
    """Return what the *tags* of *ami* say."""
    return ImageFacts(ami=ami, source=TAGS, kinds=_of_tags(build_facts.own(tags)))


def _of_tags(tags: Mapping[str, str]) -> dict[str, Known]:
    def known(**named: str) -> Known:
        found = {name: Value(text=tags[tag]) for name, tag in named.items() if tags.get(tag)}
        return found or None

    def release_fact(name: str) -> str:
        return f"{TAG_PREFIX}{name}"

    return {
        "base": known(id=SOURCE_AMI_TAG, name=SOURCE_AMI_NAME_TAG),
        "os": known(os=release_fact("os")),
        "kernel": known(kernel=KERNEL_TAG),
        "driver": known(driver=DRIVER_TAG),
        "docker": known(docker=release_fact("docker")),
        "agent": known(agent=release_fact("ecs-agent")),
        "image": known(digest=release_fact("image-digest"), tag=release_fact("image-tag")),
        "models": known(digest=release_fact("models-digest"), files=release_fact("models-count")),
        "scripts": known(fingerprint=f"{FINGERPRINT_PREFIX}scripts"),
        "settings": known(fingerprint=f"{FINGERPRINT_PREFIX}settings"),
        "pipeline": known(version=release_fact("pipeline-version")),
        "snapshot": known(gib=SNAPSHOT_GIB_TAG),
    }


def _shown(value: build_facts.Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
