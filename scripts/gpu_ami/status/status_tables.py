"""Renders what `invoke status` found: the JSON document for scripts, the tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpu_ami.aws import batch
from gpu_ami.console import Table
from gpu_ami.deploy import ownership
from gpu_ami.deploy.live_environments import Live, images_document
from gpu_ami.records import verification
from gpu_ami.records.receipt import StateIdentity
from gpu_ami.records.tags import DRIVER_TAG, KERNEL_TAG, VERIFIED_TAG
from gpu_ami.status import base_mps
from gpu_ami.status.base_mps import Notice
from gpu_ami.status.drift import Drift, Seen, base_of, digest_of
from gpu_ami.units import show_count


@dataclass(frozen=True, kw_only=True)
class Status:
    """What `invoke status` found.

    Attributes:
        state: The Terraform state that it is about; None when it is not known.
        seen: The answers of all queries.
        jobs: The jobs that run; None when they could not be listed.
        drifts: The differences.
        now: When.
    """

    state: StateIdentity | None
    seen: Seen
    jobs: Sequence[batch.Job] | None
    drifts: tuple[Drift, ...]
    now: datetime

    def document(self) -> dict[str, Any]:
        """Return the contract with scripts."""
        seen = self.seen
        return {
            "state": self.state.document() if self.state else None,
            "environments": [self._environment(environment) for environment in seen.environments],
            "ami_id": seen.expected_ami,
            "handed_over_in": seen.handed_over_in,
            "manifest_ami_id": seen.manifest_ami,
            "parameter": {"name": seen.parameter, "ami_id": seen.parameter_ami} if seen.parameter else None,
            "base": {"newest_ami_id": seen.newest_base, "age_days": self.age_days(seen.newest_base)},
            "job_definitions": [_definition(definition) for definition in seen.definitions],
            "jobs": None if self.jobs is None else [_job(job) for job in self.jobs],
            "next_build": None if "next-build" in {*seen.failed, *seen.skipped} else list(seen.next_build),
            "skipped": list(seen.skipped),
            "left_alone": [one.document() for one in seen.left_alone],
            "drift": [drift.document() for drift in self.drifts],
            "warnings": [notice.document() for notice in self.warnings()],
        }

    def warnings(self) -> tuple[Notice, ...]:
        """Return what is no difference and still worth a word."""
        return base_mps.notices(self.seen.live_images(), self.seen.shown)

    def _environment(self, current: Live) -> dict[str, Any]:
        there = current.environment
        image = self.seen.images.get(current.ami_id or "")
        base = base_of(image) if image else None
        return {
            "name": current.name,
            "address": current.address,
            "ami_id": current.ami_id,
            "expected_ami_id": self.seen.expected_ami,
            "recorded_ami_id": current.recorded_ami,
            "state": there.state if there else None,
            "status": there.status if there else None,
            "hydration_mib_per_s": current.rate_mib_s,
            "images": images_document(current.images),
            "instances": [_instance(volume) for volume in current.volumes],
            "base_ami_id": base,
            "base_ami_name": base_mps.base_name(image, self.seen.shown) if image else None,
            "base_age_days": self.age_days(base),
            "image_digest": digest_of(image) if image else None,
            "verified": (image.tags.get(VERIFIED_TAG) or None) if image else None,
            "nvidia_driver": (image.tags.get(DRIVER_TAG) or None) if image else None,
            "kernel": (image.tags.get(KERNEL_TAG) or None) if image else None,
            "provenance": verdict.document() if (verdict := self.seen.proven.get(current.ami_id or "")) else None,
        }

    def age_days(self, ami: str | None) -> int | None:
        """Return how old a base AMI is; None when AWS does not say."""
        made = self.seen.base_made.get(ami or "")
        return (self.now - made).days if made else None


def _detail(drift: Drift, seen: Seen) -> str:
    """Return the difference; of those that have a table of their own only how many there are."""
    if drift.code == "build-pending" and len(seen.next_build) > 1:
        return f"a build would make another image: {show_count(len(seen.next_build), 'change')}, below"
    return drift.detail


def _running(jobs: int) -> str:
    return f"{show_count(jobs, 'job')} {'runs' if jobs == 1 else 'run'}."


def _definition(definition: batch.JobDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "revision": definition.revision,
        "image": definition.image,
        "digest": definition.digest,
    }


def _instance(volume: batch.Volume) -> dict[str, Any]:
    return {"instance_id": volume.instance_id, "ami_id": volume.ami_id, "rate_mib_s": volume.rate_mib_s}


def _job(job: batch.Job) -> dict[str, Any]:
    started = job.started.strftime("%Y-%m-%dT%H:%M:%SZ") if job.started else None
    return {"job_id": job.job_id, "name": job.name, "queue": job.queue, "status": job.status, "started": started}


def _verified(seen: Seen) -> list[str]:
    """Return how the verifications of the live AMIs ended, by their own tags; nothing of the others."""
    live = dict.fromkeys(current.ami_id for current in seen.environments if current.ami_id)
    tags = {ami: image.tags.get(VERIFIED_TAG, "") for ami in live if (image := seen.images.get(ami))}
    return [f"{ami} {verification.shown(tag)}." for ami, tag in tags.items() if tag]


def _made_of(seen: Seen) -> list[str]:
    """Return on which base and with which driver each live AMI was made, by its own tags; nothing of the others."""
    lines = []
    for ami in dict.fromkeys(current.ami_id for current in seen.environments if current.ami_id):
        image = seen.images.get(ami)
        tags = image.tags if image else {}
        base = base_mps.base_name(image, seen.shown) if image else None
        facts = {"base": base, "driver": tags.get(DRIVER_TAG), "kernel": tags.get(KERNEL_TAG)}
        told = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
        if told:
            lines.append(f"{ami}: {told}.")
    return lines


def _proven(seen: Seen) -> list[str]:
    """Return what the provenance of the live AMIs came to; nothing of those without, or of what is a difference."""
    live = dict.fromkeys(current.ami_id for current in seen.environments if current.ami_id)
    found = [verdict for ami in live if (verdict := seen.proven.get(ami)) and verdict.state not in ("none", "refused")]
    by = {verdict.ami_id: f", by {verdict.detail}" if verdict.detail else "" for verdict in found}
    return [f"The provenance of {verdict.ami_id} is {verdict.state}{by[verdict.ami_id]}." for verdict in found]


def tables(found: Status) -> list[Table]:
    """Return the environments, and the differences."""
    seen = found.seen
    rows = [
        (
            current.name,
            current.shown_ami if current.environment else "gone",
            seen.expected_ami or "nothing",
            f"{current.environment.state} {current.environment.status}" if current.environment else "gone",
            f"{current.rate_mib_s} MiB/s" if current.rate_mib_s else "none",
            str(len(current.volumes)),
        )
        for current in seen.environments
    ]
    columns = ("environment", "AMI", "handed over", "state", "hydration", "instances")
    footer = ["Whether jobs run is not known." if found.jobs is None else _running(len(found.jobs))]
    if seen.newest_base:
        age = found.age_days(seen.newest_base)
        old = "" if age is None else f", {show_count(age, 'day')} old"
        footer.append(f"A build starts from {seen.newest_base}{old}.")
    footer += _made_of(seen)
    footer += _verified(seen)
    footer += _proven(seen)
    if seen.left_alone:
        footer.append(ownership.shown(seen.left_alone))
    footer += base_mps.unknown(seen.live_images(), seen.shown)
    if not found.drifts:
        footer.append("In step." if not seen.skipped else f"In step; not queried: {', '.join(seen.skipped)}.")
    shown = [Table(columns=columns, rows=rows, footer=tuple(footer), numeric=frozenset({"instances"}))]
    if found.drifts:
        lines = [(drift.code, drift.subject, _detail(drift, seen), drift.advice) for drift in found.drifts]
        shown.append(Table(columns=("code", "what", "difference", "what to do"), rows=lines))
    if warnings := found.warnings():
        said = [(notice.code, notice.subject, notice.detail, notice.advice) for notice in warnings]
        shown.append(Table(columns=("code", "what", "warning", "what to do"), rows=said))
    if len(seen.next_build) > 1:
        shown.append(Table(columns=("the next build would change",), rows=[(change,) for change in seen.next_build]))
    return shown
