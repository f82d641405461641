"""Each way of being out of step is told apart from the others, and what was not seen is never in step."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from gpu_ami.aws.batch import Environment, JobDefinition, Volume
from gpu_ami.aws.images import Image
from gpu_ami.deploy.live_environments import Live
from gpu_ami.records.batch_images import Images
from gpu_ami.status.drift import Seen, base_of, digest_of, find

A, B, BASE, NEWER = (f"ami-{number:017x}" for number in range(1, 5))
ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")


def _environment(*, exists: bool = True, **more: Any) -> Live:
    values: dict[str, Any] = {
        "name": "gpu",
        "address": "ce.gpu",
        "recorded_ami": A,
        "rate_mib_s": 300,
        "recorded_rate": 300,
    }
    there: dict[str, Any] = {
        "arn": "arn:gpu",
        "ami_id": A,
        "state": "ENABLED",
        "status": "VALID",
        "reason": "",
        "template": "lt-1",
        "version": "2",
        "cluster_arn": None,
        "tags": {},
        "images": Images(),
    }
    told = {name: more.pop(name) for name in tuple(more) if name in there}
    given = values | more
    environment = Environment(name=given["name"], **(there | told)) if exists else None
    return Live(environment=environment, **given)


def _definition(image: str, name: str = "v", revision: int = 1) -> JobDefinition:
    return JobDefinition(name=name, revision=revision, image=image, tags={})


def _volume(ami_id: str, rate_mib_s: int | None, instance_id: str = "i-1") -> Volume:
    return Volume(instance_id=instance_id, ami_id=ami_id, volume_id="vol-1", rate_mib_s=rate_mib_s)


BASE_TAG, DIGEST_TAG = "gpu-ami:source-ami", "gpu-ami:image-digest"


def _image(ami: str, state: str = "available", **tags: str) -> Image:
    return Image(image_id=ami, region="r", state=state, tags=tags)


def _seen(*environments: Live, **more: Any) -> Seen:
    values: dict[str, Any] = {
        "handed_over_in": "terraform/gpu-ami.auto.tfvars.json",
        "expected_ami": A,
        "environments": environments or (_environment(),),
        "images": {A: _image(A, **{BASE_TAG: BASE, DIGEST_TAG: ONE})},
        "manifest_ami": A,
        "parameter": "/gpu-ami/gpu-batch/ami-id",
        "parameter_ami": A,
        "newest_base": BASE,
        "base_made": {
            BASE: datetime(2026, 9, 1, tzinfo=timezone.utc),
            NEWER: datetime(2026, 10, 1, tzinfo=timezone.utc),
        },
        "definitions": (_definition(f"r@{ONE}", "video", 3),),
    }
    return Seen(**(values | more))


def test_all_in_step_is_no_difference() -> None:
    """What `invoke build apply publish` leaves."""
    assert find(_seen()) == ()


def _other(**more: Any) -> Seen:
    return _seen(_environment(**more))


@pytest.mark.parametrize(
    ("seen", "codes"),
    [
        (_other(exists=False), ["environment-gone"]),
        (_other(status="INVALID", reason="no role"), ["environment-invalid"]),
        (_other(state="DISABLED"), ["environment-disabled"]),
        (_other(status="UPDATING"), []),
        (_other(ami_id=None, recorded_ami=None), ["ami-missing"]),
        (_other(ami_id=None), ["ami-missing", "changed-outside"]),
        (_seen(expected_ami=B, manifest_ami=B, parameter_ami=B), ["not-applied"]),
        (_other(ami_id=B), ["changed-outside"]),
        (_seen(_environment(ami_id=B, recorded_ami=None, address=None)), ["not-applied"]),
        (_seen(images={A: None}), ["ami-gone"]),
        (_seen(images={A: _image(A, state="disabled")}), ["ami-gone"]),
        (_other(rate_mib_s=None, recorded_rate=None), ["not-hydrated"]),
        (_other(rate_mib_s=None), ["hydration-differs"]),
        (_other(rate_mib_s=100), ["hydration-differs"]),
        (_other(volumes=(_volume(B, 300),)), ["instances-behind"]),
        (_other(volumes=(_volume(A, None),)), ["instances-cold"]),
        (_other(volumes=(_volume(A, 300),)), []),
        (_seen(manifest_ami=B), ["not-handed-over"]),
        (_seen(manifest_ami=None), []),
        (_seen(parameter_ami=B), ["parameter-differs"]),
        (_seen(parameter_ami=None), ["parameter-differs"]),
        (_seen(parameter=None, parameter_ami=None), []),
        (_seen(definitions=(_definition(f"r@{TWO}"),)), ["image-differs"]),
        (_seen(definitions=(_definition("r:1"),)), ["image-unknown"]),
        (_seen(images={A: _image(A, **{BASE_TAG: BASE})}), ["baked-image-unknown"]),
        (_seen(newest_base=NEWER), ["base-outdated"]),
        (_seen(newest_base=None), []),
        (_seen(next_build=("the models: x is now y", "the scripts: a is now b")), ["build-pending"]),
        (_seen(unfinished=("receipts/1.json",)), ["apply-unfinished"]),
        (_seen(broken="receipts/1.json"), ["apply-failed"]),
        (_seen(failed={"jobs": "denied"}), ["look-failed"]),
        (_seen(parameter_ami=None, failed={"parameter": "denied"}), ["look-failed"]),
    ],
)
def test_each_difference_has_its_code(seen: Seen, codes: list[str]) -> None:
    """A script, and a person, must know which one it is."""
    assert [drift.code for drift in find(seen)] == codes


CPU, GPU = "ECS_AL2023", "ECS_AL2023_NVIDIA"


def _two(cpu: str | None, gpu: str | None, recorded: tuple[str | None, str | None] | None = None, **more: Any) -> Seen:
    """An environment with two image types, as Batch shows it and as Terraform gave it."""
    images = Images(overrides={CPU: cpu, GPU: gpu})
    given = images if recorded is None else Images(overrides={CPU: recorded[0], GPU: recorded[1]})
    return _other(ami_id=images.main(), recorded_ami=given.main(), images=images, recorded=given, **more)


@pytest.mark.parametrize(
    ("seen", "codes"),
    [
        (_two(B, A), []),
        (_two(None, A), []),
        (_two(B, A, volumes=(_volume(B, 300), _volume(A, 300))), []),
        (_two(B, A, volumes=(_volume(NEWER, 300),)), ["instances-behind"]),
        # Batch's own AMI for the CPU type: it does not show which.
        (_two(None, A, volumes=(_volume(NEWER, 300),)), []),
        (_two(B, NEWER), ["not-applied"]),
        (_two(B, NEWER, (B, A)), ["changed-outside"]),
        (_two(NEWER, A, (B, A)), ["changed-outside"]),
        (_two(None, None), ["ami-missing"]),
    ],
)
def test_each_image_type_is_compared(seen: Seen, codes: list[str]) -> None:
    """A CPU AMI before ours was taken for the environment's, and what changed in the second block went unseen."""
    assert [drift.code for drift in find(seen)] == codes


def test_what_differs_names_its_image_type() -> None:
    """Of two."""
    (found,) = find(_two(B, NEWER, (B, A)))

    assert f"it has {NEWER} for {GPU}, Terraform gave it {A}" in found.detail


def test_several_amis_for_one_instance_are_not_in_step() -> None:
    """The user guide puts imageId first, the API's model imageIdOverride: which one is live cannot be said."""
    images = Images(image_id=B, overrides={GPU: A})

    (found,) = find(_other(ami_id=None, images=images, recorded=images))

    assert found.code == "ami-unknown"
    assert A in found.detail
    assert B in found.detail


def test_an_invalid_environment_says_batchs_reason_and_the_way_out() -> None:
    """Terraform's state holds the new AMI already: to apply it again does nothing."""
    (found,) = find(_other(status="INVALID", reason="CLIENT_ERROR - no instance profile"))

    assert "CLIENT_ERROR - no instance profile" in found.detail
    assert "`invoke rollback`" in found.advice
    assert "does nothing" in found.advice


def test_a_difference_says_what_and_what_to_do() -> None:
    """Its document is part of the contract; the ages of base AMIs are in it."""
    (found,) = find(_seen(newest_base=NEWER))

    assert set(found.document()) == {"code", "subject", "detail", "advice"}
    assert (BASE in found.detail, "2026-09-01" in found.detail, "2026-10-01" in found.detail) == (True, True, True)
    assert "invoke build" in found.advice


@pytest.mark.parametrize(
    ("kept", "advice"),
    [
        (None, "Run `invoke build`, or leave it."),
        (True, "A sandbox that has ended made it; run `invoke build`."),
        (False, "Each --sandbox command starts a fresh AWS; run `invoke sandbox` in another terminal"),
    ],
)
def test_an_ami_that_is_gone_is_not_to_be_handed_over(kept: bool | None, advice: str) -> None:
    """`invoke update-tfvars` would refuse it."""
    gone = {A: _image(A), B: None}

    there = {**gone, B: _image(B)}

    (found,) = [drift for drift in find(_seen(manifest_ami=B, images=gone, kept=kept)) if drift.subject == "manifest"]
    (other,) = [drift for drift in find(_seen(manifest_ami=B, images=there, kept=kept)) if drift.subject == "manifest"]

    assert found.code == "not-handed-over"
    assert found.advice.startswith(advice)
    assert "which does not exist any more; " in found.detail
    assert other.advice == "Run `invoke update-tfvars`, or leave it."


def test_each_environment_is_looked_at() -> None:
    """One of two may have been left behind."""
    second = _environment(name="spot", ami_id=B, recorded_ami=B)
    images = {ami: _image(ami, **{DIGEST_TAG: ONE}) for ami in (A, B)}

    found = find(_seen(_environment(), second, images=images))

    assert [(drift.code, drift.subject) for drift in found] == [("not-applied", "spot")]


def test_an_image_that_is_not_known_is_said_of_the_ami() -> None:
    """An AMI baked by hand has a tag where the digest would be: silence would mean that jobs find their image in it."""
    unknown = _image(A, **{BASE_TAG: BASE})
    digests = [_definition(f"r@{ONE}", name) for name in ("a", "b")]
    tagged = _definition("r:1")

    (found,) = find(_seen(_environment(), _environment(name="spot"), images={A: unknown}, definitions=digests))
    assert (found.subject, "a:1, b:1" in found.detail, "invoke build" in found.advice) == (A, True, True)
    # Nothing to compare with, or said already.
    assert find(_seen(images={A: unknown}, definitions=())) == ()
    assert [drift.code for drift in find(_seen(images={A: unknown}, definitions=[tagged]))] == ["image-unknown"]


def test_an_ami_that_was_not_looked_up_is_not_called_unknown() -> None:
    """The query that failed is said, once."""
    assert [drift.code for drift in find(_seen(images={}, failed={"images": "denied"}))] == ["look-failed"]


def test_without_a_hand_over_nothing_is_expected() -> None:
    """A checkout that never handed over: the environments are still queried."""
    assert find(_seen(expected_ami=None, manifest_ami=None)) == ()


def test_many_instances_are_counted() -> None:
    """The line stays a line."""
    (found,) = find(_other(volumes=tuple(_volume(B, 300, f"i-{n}") for n in range(9))))

    assert "i-2 and 6 more" in found.detail


@pytest.mark.parametrize(
    ("tags", "base", "digest"),
    [
        ({}, None, None),
        ({"gpu-ami:source-ami": A}, A, None),
        # An incremental bake's source is its parent; what is underneath is in the fingerprint.
        ({"gpu-ami:source-ami": A, "gpu-ami:fingerprint-base": BASE}, BASE, None),
        ({"gpu-ami:image": f"r@{ONE}", "gpu-ami:image-digest": "sha256:other"}, None, ONE),
        ({"gpu-ami:image": "r:1", "gpu-ami:image-digest": ONE}, None, ONE),
        ({"gpu-ami:fingerprint-image": f"1@{ONE}", "gpu-ami:image": "r@sha256:other"}, None, ONE),
    ],
)
def test_an_ami_says_what_it_was_made_of_by_its_tags(
    tags: dict[str, str], base: str | None, digest: str | None
) -> None:
    """Each build of the last year left other tags: the surest one counts."""
    image = _image(A, **tags)

    assert (base_of(image), digest_of(image)) == (base, digest)


@pytest.mark.parametrize(("template", "where"), [("lt-1", "launch template lt-1 version 2"), (None, "its instances")])
def test_the_template_that_does_not_hydrate_is_named(template: str | None, where: str) -> None:
    """There is where to fix it."""
    (found,) = find(_other(template=template, rate_mib_s=None, recorded_rate=None))

    assert found.detail.startswith(f"{where} sets no volume initialization rate")
