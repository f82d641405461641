"""Finds drift: where what is live differs from what was handed over; pure, over the answers of the queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from gpu_ami.aws.batch import JobDefinition
from gpu_ami.aws.images import Image
from gpu_ami.deploy.live_environments import AFTER_INVALID, Live, shown_conflict
from gpu_ami.deploy.ownership import LeftAlone
from gpu_ami.handover.attested import Verdict
from gpu_ami.handover.eligibility import WHERE_GONE
from gpu_ami.records.tags import FINGERPRINT_PREFIX, IMAGE_DIGEST_TAG, IMAGE_TAG, SOURCE_AMI_TAG

# An incremental bake starts from its parent: there the fingerprint alone says which base AMI is underneath.
_BASE_TAGS = (f"{FINGERPRINT_PREFIX}base", SOURCE_AMI_TAG)
_IMAGE_TAGS = (f"{FINGERPRINT_PREFIX}image", IMAGE_TAG)
Code = Literal[
    "look-failed",
    "apply-unfinished",
    "apply-failed",
    "environment-gone",
    "environment-invalid",
    "environment-disabled",
    "ami-unknown",
    "ami-gone",
    "ami-missing",
    "not-applied",
    "changed-outside",
    "instances-behind",
    "not-hydrated",
    "hydration-differs",
    "instances-cold",
    "not-handed-over",
    "parameter-differs",
    "image-differs",
    "image-unknown",
    "baked-image-unknown",
    "base-outdated",
    "build-pending",
    "provenance-refused",
]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One way in which what is live differs from what it should be.

    Attributes:
        code: Which way.
        subject: What it is about: an environment, a parameter, a query.
        detail: The difference.
        advice: What to do.
    """

    code: Code
    subject: str
    detail: str
    advice: str

    def document(self) -> dict[str, Any]:
        """Return the difference as `invoke status` prints it in JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The answers of all queries. One that failed leaves its field empty and its reason in *failed*.

    Attributes:
        handed_over_in: The file that hands over, as a person would type it.
        expected_ami: The AMI that it names; None when there is none.
        environments: The compute environments of the family or the state.
        images: The AMIs that those and the file name, by id; None for one that is not there.
        manifest_ami: The AMI of the last build in this region; None without a manifest.
        kept: Whether the sandbox outlives this command; None on AWS.
        parameter: The SSM parameter's name; None when none is used.
        parameter_ami: What it says; None when it is not there.
        newest_base: The base AMI that a full build starts from now; None when it could not be looked up.
        base_made: When each base AMI was made, by id, as far as AWS still has them.
        shown: The AMIs that those of *images* were baked from, by id, as far as AWS still has them.
        definitions: The job definitions of the state.
        next_build: What the next build would change, as text.
        unfinished: Receipts of applies that were killed, or that Batch outlasted.
        broken: The newest receipt, when its apply failed.
        failed: Query to reason.
        skipped: Queries that were left out.
        left_alone: Compute environments of the state that are not the pipeline's.
        proven: What the provenance of those AMIs came to, by id.
    """

    handed_over_in: str
    expected_ami: str | None = None
    environments: Sequence[Live] = ()
    images: Mapping[str, Image | None] = field(default_factory=dict)
    manifest_ami: str | None = None
    kept: bool | None = None
    parameter: str | None = None
    parameter_ami: str | None = None
    newest_base: str | None = None
    base_made: Mapping[str, datetime] = field(default_factory=dict)
    shown: Mapping[str, Image] = field(default_factory=dict)
    definitions: Sequence[JobDefinition] = ()
    next_build: Sequence[str] = ()
    unfinished: Sequence[str] = ()
    broken: str | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    skipped: Sequence[str] = ()
    left_alone: Sequence[LeftAlone] = ()
    proven: Mapping[str, Verdict] = field(default_factory=dict)

    def live_images(self) -> tuple[Image, ...]:
        """Return the AMIs of the environments that are there, sorted by id."""
        named = {ami for found in self.environments if found.environment for ami in found.images.named}
        return tuple(image for ami in sorted(named) if (image := self.images.get(ami)) is not None)


def base_of(image: Image) -> str | None:
    """Return the AMI that *image* was baked from; None when its tags do not say."""
    return _tag(image, _BASE_TAGS)


def digest_of(image: Image) -> str | None:
    """Return the digest of the container image in *image*; None when its tags do not say."""
    _, at, digest = (_tag(image, _IMAGE_TAGS) or "").partition("@")
    return digest if at else image.tags.get(IMAGE_DIGEST_TAG) or None


def _tag(image: Image, names: Sequence[str]) -> str | None:
    return next((image.tags[name] for name in names if image.tags.get(name)), None)


def _state(image: Image | None) -> str | None:
    return image.state if image else None


def find(seen: Seen) -> tuple[Drift, ...]:
    """Return every difference, what could not be looked up first; none when all is in step."""
    return (
        *_failures(seen),
        *(difference for environment in seen.environments for difference in _environment(seen, environment)),
        *_hand_over(seen),
        *_definitions(seen),
        *_bases(seen),
        *_provenance(seen),
    )


def _provenance(seen: Seen) -> Iterator[Drift]:
    for ami, verdict in seen.proven.items():
        if verdict.state == "refused":
            advice = "Restore what the line names, or run `invoke rollback` where the AMI is live."
            yield Drift(code="provenance-refused", subject=ami, detail=verdict.detail.rstrip("."), advice=advice)


def _failures(seen: Seen) -> Iterator[Drift]:
    for query, reason in seen.failed.items():
        advice = f"Fix that, or leave the query out with --skip {query}: what is not seen is not in step."
        yield Drift(code="look-failed", subject=query, detail=f"could not be looked up: {reason}", advice=advice)
    for receipt in seen.unfinished:
        detail = "this apply was killed, or Batch took longer than it waited"
        yield Drift(code="apply-unfinished", subject=receipt, detail=detail, advice="Run `invoke apply`: it goes on.")
    if seen.broken is not None:
        advice = "Run `invoke apply` to go on, or `invoke rollback` to go back."
        yield Drift(code="apply-failed", subject=seen.broken, detail="the last apply failed", advice=advice)


def _environment(seen: Seen, found: Live) -> Iterator[Drift]:
    there = found.environment

    def drift(code: Code, detail: str, advice: str) -> Drift:
        return Drift(code=code, subject=found.name, detail=detail, advice=advice)

    if there is None:
        yield drift(
            "environment-gone", "Terraform's state has it, AWS does not", "Run `invoke apply`: it makes it anew."
        )
        return
    if there.status == "INVALID":
        detail = f"Batch calls it INVALID: {there.reason or 'it does not say why'}"
        yield drift("environment-invalid", detail, AFTER_INVALID)
    if there.state == "DISABLED":
        yield drift("environment-disabled", "it starts no jobs: its state is DISABLED", "Enable it in Terraform.")
    yield from _environments_ami(seen, found, drift)
    yield from _hydration(found, drift)


def _environments_ami(seen: Seen, found: Live, drift: Any) -> Iterator[Drift]:
    if found.images.conflict:
        detail = f"which AMI it starts instances from is not known: {shown_conflict(found.images)}"
        yield drift("ami-unknown", detail, "AWS's documents disagree on which counts: name one AMI in one place.")
        return
    if not found.images.named:
        detail = "it has no AMI of its own: jobs pull image and models at each start"
        yield drift("ami-missing", detail, "Run `invoke apply`.")
    elif (
        found.ami_id is not None
        and found.ami_id in seen.images
        and (state := _state(seen.images[found.ami_id])) != "available"
    ):
        what = f"is {state}" if state else "does not exist any more"
        yield drift("ami-gone", f"its AMI {found.ami_id} {what}: no instance can start", "Run `invoke rollback`.")
    yield from _other_amis(seen, found, drift)
    if found.behind:
        detail = f"{_some(found.behind)} still on another AMI than {found.ami_id}"
        yield drift("instances-behind", detail, "Batch replaces them when their jobs end.")


def _other_amis(seen: Seen, found: Live, drift: Any) -> Iterator[Drift]:
    apply = "Run `invoke apply`."
    differences = list(found.known_types.differences(found.images)) if found.address is not None else []
    if differences:
        for image_type, given, there in differences:
            of = f" for {image_type}" if image_type and len(found.known_types.types) > 1 else ""
            detail = f"it has {there or 'no AMI'}{of}, Terraform gave it {given}: somebody changed it"
            yield drift("changed-outside", detail, f"{apply} It sets it back.")
    elif seen.expected_ami is not None and found.images.named and not found.has(seen.expected_ami):
        detail = f"it has {found.ami_id}, {seen.handed_over_in} says {seen.expected_ami}"
        yield drift("not-applied", detail, apply)


def _hydration(found: Live, drift: Any) -> Iterator[Drift]:
    advice = "Set volume_initialization_rate in Terraform and run `invoke apply`."
    there = found.environment
    where = f"launch template {there.template} version {there.version}" if there and there.template else "its instances"
    if found.recorded_rate is not None and found.rate_mib_s != found.recorded_rate:
        now = f"{found.rate_mib_s} MiB/s" if found.rate_mib_s else "no rate"
        detail = f"{where} has {now}, Terraform gave it {found.recorded_rate} MiB/s"
        yield drift("hydration-differs", detail, "Run `invoke apply`.")
    elif found.rate_mib_s is None:
        yield drift("not-hydrated", f"{where} sets no volume initialization rate: first reads wait for S3", advice)
    cold = [volume.instance_id for volume in found.volumes if found.rate_mib_s and not volume.rate_mib_s]
    if cold:
        detail = f"{_some(cold)} without the rate on the volume: Batch's copy of the template lacks it"
        yield drift("instances-cold", detail, "Change the template's version, so that Batch copies it anew.")


def _hand_over(seen: Seen) -> Iterator[Drift]:
    if seen.manifest_ami is not None and seen.expected_ami != seen.manifest_ami:
        says = f"{seen.handed_over_in} says {seen.expected_ami or 'nothing'}"
        detail, advice = f"the last build made {seen.manifest_ami}, {says}", "Run `invoke update-tfvars`, or leave it."
        if seen.manifest_ami in seen.images and seen.images[seen.manifest_ami] is None:
            detail = f"the last build made {seen.manifest_ami}, which does not exist any more; {says}"
            advice = "Run `invoke build`, or leave it." if seen.kept is None else _sentence(WHERE_GONE[seen.kept])
        yield Drift(code="not-handed-over", subject="manifest", detail=detail, advice=advice)
    if seen.parameter is not None and "parameter" not in seen.failed:
        expected = seen.expected_ami
        if expected is not None and seen.parameter_ami != expected:
            detail = f"it says {seen.parameter_ami or 'nothing'}, {seen.handed_over_in} says {expected}"
            advice = f"Run `invoke publish --ami {expected}`."
            yield Drift(code="parameter-differs", subject=seen.parameter, detail=detail, advice=advice)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _definitions(seen: Seen) -> Iterator[Drift]:
    live = {environment.ami_id for environment in seen.environments if environment.ami_id}
    images = [image for ami in sorted(live) if (image := seen.images.get(ami)) is not None]
    baked = {digest_of(image) for image in images} - {None}
    expected = [
        f"{definition.name}:{definition.revision}" for definition in seen.definitions if definition.digest is not None
    ]
    for image in images:
        # Of one that is disabled something graver is said.
        if expected and digest_of(image) is None and image.state == "available":
            names = _some(expected)
            detail = f"its tags give no digest of the image in it: whether that is the one of {names} cannot be said"
            advice = "Bake with `invoke build`, which tags the digest."
            yield Drift(code="baked-image-unknown", subject=image.image_id, detail=detail, advice=advice)
    for definition in seen.definitions:
        subject = f"{definition.name}:{definition.revision}"
        if definition.digest is None:
            detail = f"it names {definition.image}, a tag: whether the AMI holds that image cannot be said"
            yield Drift(code="image-unknown", subject=subject, detail=detail, advice="Name the image by its digest.")
        elif baked and definition.digest not in baked:
            shown = ", ".join(sorted(_short(digest) for digest in baked if digest))
            detail = f"it runs {_short(definition.digest)}, the live AMI holds {shown}: each start pulls it anew"
            advice = "Bake that image, or set job_image to the one that is baked."
            yield Drift(code="image-differs", subject=subject, detail=detail, advice=advice)


def _bases(seen: Seen) -> Iterator[Drift]:
    for ami in sorted({environment.ami_id for environment in seen.environments if environment.ami_id}):
        image = seen.images.get(ami)
        base = base_of(image) if image else None
        if base is None or seen.newest_base in (None, base):
            continue
        newest = f"{seen.newest_base}{_dated(seen, seen.newest_base)}"
        detail = f"it was baked from {base}{_dated(seen, base)}, a build starts from {newest}"
        yield Drift(code="base-outdated", subject=ami, detail=detail, advice="Run `invoke build apply`.")
    if seen.next_build:
        more = f" and {len(seen.next_build) - 1} more" if len(seen.next_build) > 1 else ""
        detail = f"a build would make another image ({seen.next_build[0]}{more})"
        yield Drift(code="build-pending", subject="next build", detail=detail, advice="Run `invoke build apply`.")


def _dated(seen: Seen, ami: str | None) -> str:
    made = seen.base_made.get(ami or "")
    return f" of {made:%Y-%m-%d}" if made else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(digest: str) -> str:
    return digest if len(digest) <= 19 else f"{digest[:19]}…"
