"""The steps that bring the container image: room, login, pull."""

from __future__ import annotations

import json
import re

import pytest

from tests.infra.box import Box
from tests.infra.finished import DIGEST, INPUTS, REFERENCE, REGISTRY, add_fakes, finish


def ecr(box: Box, *, size: int = 1024, digest: str = DIGEST, token: str = "t0ken") -> None:
    """Give *box* an `aws` that knows one image and a token."""
    box.fake(
        "aws",
        f"""
case "$*" in
  *get-login-password*) echo {token} ;;
  *"[imageDigest, imageSizeInBytes]"*) printf '%s\\t%s\\n' {digest} {size} ;;
  "s3 ls"*) printf '2026 1 models/a\\n\\nTotal Objects: 1\\n   Total Size: 1048576\\n' ;;
esac""",
    )


@pytest.mark.parametrize(("size", "status"), [(1024, 0), (10**15, 1)], ids=["fits", "too large"])
def test_disk_is_judged_before_the_pull(box: Box, size: int, status: int) -> None:
    """A full disk, told with the number that fixes it instead of a full disk after ten minutes."""
    add_fakes(box)
    ecr(box, size=size)

    result = box.run("check-disk.sh", **INPUTS, MODELS_S3_BUCKET="demo")

    assert result.status == status, result.said
    assert "models to copy 0.0 GiB" in result.said
    assert bool(re.search(r"too small; raise volume_size_gib by \d+", result.said)) is (status == 1)


def test_what_an_earlier_bake_left_needs_no_room(box: Box) -> None:
    """On top of an earlier image nothing is pulled: asking for four times its size would stop a bake that fits."""
    finish(box)
    ecr(box, size=10**15)

    result = box.run("check-disk.sh", **INPUTS)

    assert result.status == 0, result.said
    assert "the image is there already, of an earlier bake" in result.said


def test_disk_check_names_an_image_that_is_not_there(box: Box) -> None:
    """The first step that needs ECR says so in one line."""
    box.fake("aws", "echo 'An error occurred (ImageNotFoundException)' >&2; exit 254")

    result = box.run("check-disk.sh", **INPUTS)

    assert result.status == 1
    assert "ECR has no image v1 in batch-processor; was it pushed to ap-northeast-2?" in result.said


def test_login_keeps_the_token_in_memory_and_out_of_sight(box: Box) -> None:
    """A token in /root/.docker would be in the snapshot, one in an argument in every process list."""
    ecr(box)
    box.fake("docker", 'cat >/srv/stdin; echo "$DOCKER_CONFIG" >/srv/config')

    result = box.run("login-ecr.sh", **INPUTS)

    assert result.status == 0, result.said
    assert box.read("/srv/stdin") == "t0ken"
    assert box.read("/srv/config") == "/run/gpu-ami/docker\n"
    assert box.path("/run/gpu-ami/docker").stat().st_mode & 0o777 == 0o700
    assert "t0ken" not in result.said + "".join(box.calls())
    assert f"docker login --username AWS --password-stdin {REGISTRY}" in box.calls()


@pytest.mark.parametrize(
    ("aws", "docker", "said"),
    [
        ("exit 254", "exit 0", "may the builder's instance profile call ecr:GetAuthorizationToken"),
        ("echo t0ken", "echo 'Error response: 403 Forbidden' >&2; exit 1", "failed: Error response: 403 Forbidden"),
    ],
    ids=["no token", "refused"],
)
def test_failed_login_says_which_half_failed(box: Box, aws: str, docker: str, said: str) -> None:
    """The seed's first case: permissions, or the wrong registry."""
    box.fake("aws", aws)
    box.fake("docker", docker)

    result = box.run("login-ecr.sh", **INPUTS)

    assert result.status == 1
    assert said in result.said
    assert "t0ken" not in result.said


def test_image_is_pulled_by_digest_tagged_and_logged_out(box: Box) -> None:
    """The tag may move between look-up and pull; job definitions name the tag."""
    add_fakes(box)
    ecr(box)
    box.write("/run/gpu-ami/docker/config.json")

    result = box.run("pull-image.sh", **INPUTS)

    assert result.status == 0, result.said
    changes = [call for call in box.calls() if call.startswith(("docker pull", "docker tag", "docker log"))]
    assert changes == [
        f"docker pull {REFERENCE}@{DIGEST}",
        f"docker tag {REFERENCE}@{DIGEST} {REFERENCE}:v1",
        f"docker logout {REGISTRY}",
    ]
    assert not [call for call in box.calls() if call.startswith("docker image rm")]
    assert not box.path("/run/gpu-ami/docker").exists()


def test_image_that_is_there_is_not_pulled_and_what_an_earlier_bake_left_goes(box: Box) -> None:
    """A bake on top of an earlier image ends with the same images as one from the base AMI."""
    finish(box)
    ecr(box)
    box.write("/etc/gpu-ami-release.json", json.dumps({"image": {"repository": f"{REGISTRY}/renamed"}}))
    box.write("/srv/ids", "sha256:old\nsha256:wanted\n")
    box.write(
        "/srv/image.json", json.dumps([{"Id": "sha256:wanted", "RepoTags": [f"{REFERENCE}:v0", f"{REFERENCE}:v1"]}])
    )

    result = box.run("pull-image.sh", **INPUTS)

    assert result.status == 0, result.said
    assert "is there already; nothing to pull" in result.said
    assert not [call for call in box.calls() if call.startswith(("docker pull", "systemctl restart"))]
    assert [call for call in box.calls() if call.startswith("docker image rm")] == [
        "docker image rm --force sha256:old",
        "docker image rm --force sha256:old",
        f"docker image rm {REFERENCE}:v0",
    ]
    listed = [call.rpartition(" ")[2] for call in box.calls() if call.startswith("docker image ls")]
    assert listed == [REFERENCE, f"{REGISTRY}/renamed"]


def test_given_digest_is_looked_up_instead_of_the_tag(box: Box) -> None:
    """The caller's preflight has pinned what it checked."""
    add_fakes(box)
    ecr(box)

    box.run("pull-image.sh", **INPUTS | {"IMAGE_DIGEST": DIGEST})

    lookups = [call for call in box.calls() if "describe-images" in call]
    assert lookups
    assert all(f"--image-ids imageDigest={DIGEST} " in call for call in lookups)


def test_pull_is_tried_again_and_then_fails_with_the_question(box: Box) -> None:
    """One reset connection among forty layers is normal; a full disk stays full."""
    add_fakes(box)
    ecr(box)
    box.fake("docker", '[[ $1 == pull ]] && echo "no space left on device" >&2; exit 1')
    box.fake("sleep", "exit 0")

    result = box.run("pull-image.sh", **INPUTS)

    assert result.status == 1
    assert len([call for call in box.calls() if call.startswith("docker pull")]) == 3
    assert "no space left on device" in result.said
    assert "is the disk full (volume_size_gib)" in result.tail()


def test_layers_are_staged_in_memory_and_nothing_of_it_stays(box: Box) -> None:
    """Compressed layers on the volume would be in the snapshot, deleted or not."""
    add_fakes(box)
    ecr(box)
    box.fake("mount", "exit 0")
    box.fake("umount", "exit 0")
    box.fake(
        "docker",
        """
case "$1 $2" in
  pull*) cp -r /run/systemd/system/docker.service.d /srv/during ;;
  "image inspect") [[ -d /srv/during ]] || exit 1; [[ $3 != --format ]] || { echo sha256:wanted; exit; }; echo '[{}]' ;;
esac""",
    )

    result = box.run("pull-image.sh", **INPUTS)

    assert result.status == 0, result.said
    assert "Environment=DOCKER_TMPDIR=/run/gpu-ami/layers" in box.read("/srv/during/gpu-ami-layers.conf")
    assert not box.path("/run/systemd/system/docker.service.d/gpu-ami-layers.conf").exists()
    assert not box.path("/run/gpu-ami/layers").exists()
    restarts = [call for call in box.calls() if call == "systemctl restart docker.service"]
    assert len(restarts) == 2
