"""The record of a verification: what was checked of which AMI, kept with the code that it is about.

It is what `apply` believes, where the settings want a verification first. The AMI's tag says so to people, and to a
build on another machine; a tag is anybody's to write. So it lets nothing through an apply, but one that says of a
failure holds it up: that came from another machine, and nobody gains by writing it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from gpu_ami.records.ami_record import Records
from gpu_ami.records.tags import VERIFIED_TAG

FORMAT: Literal["gpu-ami-verification-1"] = "gpu-ami-verification-1"
# What the AMI's tag ends with where a check failed.
FAILED = "/failed"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
_TAG = re.compile(rf"(?P<when>{_TIME})/(?P<type>[^/]+)(?P<failed>{FAILED})?", re.ASCII)


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One check of a verification, as `measure.checks.Check` has it."""

    check: str
    status: Literal["ok", "failed", "not confirmed", "skipped"]
    detail: str
    evidence: tuple[str, ...] = ()


class Verification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a verification found.

    Attributes:
        format: `FORMAT`.
        ami_id: The AMI.
        region: Where it is.
        account: Whose it is.
        instance_type: What it was booted on.
        verified_at: When, UTC, ISO 8601.
        image_digest: The baked image's digest, as the AMI's tag says; empty when it says none.
        fingerprints: What the AMI was made from, as its tags say.
        checks: What was checked.
        sandbox: Whether it was the sandbox: then its times are invented, and it says nothing about AWS.
    """

    format: Literal["gpu-ami-verification-1"] = FORMAT
    ami_id: str
    region: str
    account: str
    instance_type: str
    verified_at: Annotated[str, msgspec.Meta(pattern=rf"^{_TIME}\Z")]
    image_digest: str
    fingerprints: dict[str, str]
    checks: tuple[CheckRecord, ...]
    sandbox: bool

    @property
    def failed(self) -> tuple[CheckRecord, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def is_good(self) -> bool:
        """Whether no check failed, and the GPU was seen."""
        return not self.failed and any((check.check, check.status) == ("gpu", "ok") for check in self.checks)


def shown(tag: str) -> str:
    """Return what an AMI's tag says of its last verification, as the predicate of a sentence about the AMI."""
    if (said := _TAG.fullmatch(tag)) is None:
        return f"has {VERIFIED_TAG}={tag}, which no verification wrote"
    return f"{'failed its verification' if said['failed'] else 'was verified'} {said['when']} on a {said['type']}"


RECORDS = Records(type=Verification, task="verify", of="a verification", folder="verifications")


def why_not(terraform: Path, ami_id: str, tags: Mapping[str, str], *, sandbox: bool) -> str | None:
    """Return why an AMI does not count as verified; None when it does.

    Args:
        terraform: The folder of the code that will use it.
        ami_id: The AMI.
        tags: Its tags, as EC2 shows them now.
        sandbox: Whether the question is about the sandbox: its records count there only.

    Raises:
        UsageError: There is a record that cannot be read.
    """
    record = RECORDS.fitting(terraform, ami_id, tags, sandbox=sandbox)
    if failure := _failure(record, tags):
        return failure
    if isinstance(record, str):
        return record
    if bad := record.failed:
        return f"its record here is of a verification that failed ({bad[0].check}), and a tag alone vouches for nothing"
    return None if record.is_good else "no GPU was seen on it"


def why_failed(terraform: Path, ami_id: str, tags: Mapping[str, str], *, sandbox: bool) -> str | None:
    """Return how the last verification of an AMI failed, by its record here or by its tag, whichever is newer.

    None where it did not fail, or nobody knows of one. The arguments are those of `why_not`.

    Raises:
        UsageError: There is a record that cannot be read.
    """
    return _failure(RECORDS.fitting(terraform, ami_id, tags, sandbox=sandbox), tags)


def _failure(record: Verification | str, tags: Mapping[str, str]) -> str | None:
    """Return how the last verification failed; a tag that says so and cannot be read is taken for the newest word."""
    tag = tags.get(VERIFIED_TAG, "")
    said = _TAG.fullmatch(tag)
    is_newest = said is None or isinstance(record, str) or said["when"] > record.verified_at
    if tag.endswith(FAILED) and is_newest:
        return f"its verification failed by its tag, {VERIFIED_TAG}={tag}, and nothing newer is on record here"
    if isinstance(record, str) or (said is not None and is_newest):
        return None
    bad = record.failed
    return f"its verification failed ({bad[0].check}: {bad[0].detail})" if bad else None


def outcome(
    terraform: Path, ami_id: str, tags: Mapping[str, str], *, sandbox: bool
) -> Literal["good", "failed", "unknown"]:
    """Return how the last verification of an AMI ended, by its record here or by its tag, whichever is newer.

    A build goes by this: records are local, and another machine may have verified the AMI.

    Args:
        terraform: The folder of the code that will use it.
        ami_id: The AMI.
        tags: Its tags, as EC2 shows them now.
        sandbox: Whether the question is about the sandbox: its records count there only.

    Raises:
        UsageError: There is a record that cannot be read.
    """
    record = RECORDS.fitting(terraform, ami_id, tags, sandbox=sandbox)
    if _failure(record, tags):
        return "failed"
    said = _TAG.fullmatch(tags.get(VERIFIED_TAG, ""))
    if said is not None and (isinstance(record, str) or said["when"] > record.verified_at):
        return "good"
    return "good" if isinstance(record, Verification) and record.is_good else "unknown"
