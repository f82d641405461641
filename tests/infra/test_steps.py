"""The smaller provisioning steps: what each leaves, says and refuses."""

from __future__ import annotations

import json
import re

import pytest

from tests.infra.box import Box
from tests.infra.finished import DIGEST, INPUTS, REFERENCE, REGISTRY, add_fakes, finish

pytestmark = pytest.mark.infra

ECS = {
    "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
    "ECS_CONTAINER_START_TIMEOUT": "15m",
    "ECS_CONTAINER_CREATE_TIMEOUT": "15m",
    "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT": "5m",
    "ECS_EXTRA_CONFIG": "{}",
}

# What AWS Batch's user data appends at boot, from public captures.
BATCH = """ECS_CLUSTER=video_Batch_1
ECS_DISABLE_IMAGE_CLEANUP=false
ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=2m
ECS_IMAGE_CLEANUP_INTERVAL=10m
ECS_IMAGE_MINIMUM_CLEANUP_AGE=10m
ECS_NUM_IMAGES_DELETE_PER_CYCLE=5
ECS_RESERVED_MEMORY=32
ECS_AVAILABLE_LOGGING_DRIVERS=["json-file","awslogs"]
ECS_INSTANCE_ATTRIBUTES={"com.amazonaws.batch.compute-environment-revision":"0"}
"""


def effective(config: str) -> dict[str, str]:
    """Return what the agent sees: the last line of a key counts."""
    return dict(line.split("=", 1) for line in config.splitlines() if "=" in line)


def test_ecs_config_gets_our_keys_and_keeps_the_others(box: Box) -> None:
    """Batch, other tools and people write to the same file."""
    box.write("/etc/ecs/ecs.config", "# mine\nECS_LOGLEVEL=debug\nECS_CONTAINER_START_TIMEOUT=3m\n")

    result = box.run("configure-ecs.sh", **ECS)

    assert result.status == 0, result.said
    config = box.read("/etc/ecs/ecs.config")
    assert config.startswith("# mine\nECS_LOGLEVEL=debug\n")
    assert config.count("ECS_CONTAINER_START_TIMEOUT=") == 1
    assert effective(config) == {
        "ECS_LOGLEVEL": "debug",
        "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
        "ECS_ENABLE_GPU_SUPPORT": "true",
        "ECS_CONTAINER_START_TIMEOUT": "15m",
        "ECS_CONTAINER_CREATE_TIMEOUT": "15m",
        "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT": "5m",
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true",
    }
    assert box.path("/etc/ecs/ecs.config").stat().st_mode & 0o777 == 0o644


def test_ecs_config_twice_is_once(box: Box) -> None:
    """No second line of a key, no leftover temporary file."""
    box.run("configure-ecs.sh", **ECS)
    once = box.read("/etc/ecs/ecs.config")
    box.run("configure-ecs.sh", **ECS)

    assert box.read("/etc/ecs/ecs.config") == once
    assert [path.name for path in box.path("/etc/ecs").iterdir()] == ["ecs.config"]


def test_extra_ecs_settings_are_set_as_given(box: Box) -> None:
    """Values may be JSON themselves."""
    extra = {"ECS_RESERVED_MEMORY": "256", "ECS_INSTANCE_ATTRIBUTES": '{"tier":"gpu"}'}

    result = box.run("configure-ecs.sh", **ECS | {"ECS_EXTRA_CONFIG": json.dumps(extra)})

    assert result.status == 0, result.said
    assert extra.items() <= effective(box.read("/etc/ecs/ecs.config")).items()


def keeps_its_images(settings: dict[str, str]) -> bool:
    """Return whether the agent leaves images alone, as its ImageManager decides."""
    disabled = settings.get("ECS_DISABLE_IMAGE_CLEANUP", "false") == "true"
    return disabled or settings.get("ECS_IMAGE_PULL_BEHAVIOR") == "prefer-cached"


def at_boot(box: Box) -> dict[str, str]:
    """Append Batch's lines as its user data does; return what the agent then sees: /var/lib/ecs first, /etc wins."""
    box.write("/var/lib/ecs/ecs.config", "ECS_ENABLE_GPU_SUPPORT=true\nECS_IMAGE_PULL_BEHAVIOR=default\n")
    box.write("/srv/batch", BATCH)
    done = box.bash('while IFS= read -r line; do echo "$line" >>/etc/ecs/ecs.config; done </srv/batch')
    assert done.status == 0, done.said
    return effective(box.read("/var/lib/ecs/ecs.config")) | effective(box.read("/etc/ecs/ecs.config"))


def test_batch_s_own_lines_at_boot_do_not_lose_the_baked_image(box: Box) -> None:
    """Batch turns image clean-up back on; prefer-cached, which it leaves alone, switches it off in the agent."""
    box.run("configure-ecs.sh", **ECS)
    ours = effective(box.read("/etc/ecs/ecs.config"))

    settings = at_boot(box)

    assert settings["ECS_DISABLE_IMAGE_CLEANUP"] == "false", "every line of Batch's took effect"
    assert effective(BATCH).items() <= settings.items()
    assert ours.items() <= settings.items(), "and none of ours was lost"
    assert keeps_its_images(settings)


@pytest.mark.parametrize("behavior", ["default", "once", "always"])
def test_with_another_pull_behavior_batch_would_lose_the_image(box: Box, behavior: str) -> None:
    """What the test above rests on: not even ECS_DISABLE_IMAGE_CLEANUP=true in the image would help."""
    extra = json.dumps({"ECS_DISABLE_IMAGE_CLEANUP": "true"})
    box.run("configure-ecs.sh", **ECS | {"ECS_IMAGE_PULL_BEHAVIOR": behavior, "ECS_EXTRA_CONFIG": extra})

    assert keeps_its_images(effective(box.read("/etc/ecs/ecs.config")))
    assert not keeps_its_images(at_boot(box))


@pytest.mark.parametrize(
    ("cloud_init", "status", "said"),
    [("0", 0, "cloud-init is done"), ("2", 0, "errors it recovered from"), ("1", 1, "cloud-init failed with status 1")],
)
def test_boot_is_waited_for_and_judged(box: Box, cloud_init: str, status: int, said: str) -> None:
    """Provisioning beside a running cloud-init races with it for dnf's lock and the user data's mask."""
    finish(box)
    box.write("/srv/ecs-unit", "masked\n")
    box.write("/srv/cloud-init", cloud_init)

    result = box.run("wait-for-boot.sh")

    assert result.status == status
    assert said in result.said
    assert "cloud-init status --wait" in box.calls()


def test_agent_that_user_data_did_not_mask_is_masked(box: Box) -> None:
    """A running agent joins a cluster and writes its state into the image."""
    finish(box)

    result = box.run("wait-for-boot.sh")

    assert "was not masked by user data; it is now" in result.said
    assert "systemctl mask --now ecs.service" in box.calls()


def test_system_update_brings_aws_cli_and_jq(box: Box) -> None:
    """The minimal base AMI has neither, and AL2023 updates nothing without --releasever."""
    box.fake("dnf", "exit 0")
    box.fake("aws", "echo aws-cli/2.31.0 Python/3.13")
    box.fake("jq", "echo jq-1.7.1")

    result = box.run("update-system.sh")

    assert result.status == 0, result.said
    assert box.calls()[:2] == [
        "dnf -y --quiet --releasever=latest update",
        "dnf -y --quiet --releasever=latest install awscli-2 jq",
    ]
    assert "installed aws-cli/2.31.0 and jq-1.7.1" in result.said


@pytest.mark.parametrize("fails", ["update", "install"])
def test_unreachable_mirrors_fail_with_the_network_question(box: Box, fails: str) -> None:
    """The seed's second case: the subnet has no way out."""
    box.fake("dnf", f'[[ "$*" != *{fails}* ]]')
    box.fake("aws", "echo aws-cli/2.31.0")

    result = box.run("update-system.sh")

    assert result.status == 1
    assert "can the subnet reach the internet" in result.tail()


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
    """The seed's fourth case, told with the number that mends it instead of a full disk after ten minutes."""
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
    """The first step that needs ECR says so in words."""
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
    """The tag may move between look-up and pull; job definitions look for the tag."""
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


RELEASE_INPUTS = INPUTS | {
    "FAMILY": "gpu-batch",
    "GIT_COMMIT": "0123abc",
    "PIPELINE_VERSION": "0.1.0",
    "SOURCE_AMI": "ami-0123456789abcdef0",
    "SOURCE_AMI_NAME": "al2023-ami-ecs-gpu-hvm-x",
    "STARTED_AT": "2026-11-23T20:00:00Z",
}


def test_release_record_says_what_the_image_consists_of(box: Box) -> None:
    """Months later this file answers which driver, agent, image and weights a job ran with."""
    finish(box)
    box.path("/etc/gpu-ami-release.json").unlink()
    box.write("/opt/ml/models/ocr/a b.bin", "two\n")

    result = box.run("write-release.sh", **RELEASE_INPUTS)

    assert result.status == 0, result.said
    release = json.loads(box.read("/etc/gpu-ami-release.json"))
    assert release["run_id"] == "run-1"
    assert release["source_ami"] == {"id": "ami-0123456789abcdef0", "name": "al2023-ami-ecs-gpu-hvm-x"}
    assert release["os"] == "Amazon Linux 2023.9"
    assert release["nvidia_driver"] == "580.159.03"
    assert release["docker"] == "25.0.16"
    assert release["ecs_agent"] == "1.106.2"
    assert release["image"] == {"repository": REFERENCE, "tag": "v1", "digest": DIGEST, "size_bytes": 4096}
    assert [model["path"] for model in release["models"]["files"]] == ["detector.pt", "ocr/a b.bin"]
    assert release["models"]["files"][1]["size_bytes"] == 4
    assert release["used_bytes"] > 0
    assert release["bake_seconds"] > 0
    # Packer downloads it as the login user.
    assert box.path("/etc/gpu-ami-release.json").stat().st_mode & 0o777 == 0o644


def test_release_record_satisfies_the_validation(box: Box) -> None:
    """Writer and checker agree on the file's shape."""
    finish(box)

    box.run("write-release.sh", **RELEASE_INPUTS)

    assert box.run("validate-image.sh", **INPUTS).status == 0


@pytest.mark.parametrize("image", ["", '[{"RepoDigests": ["other@sha256:1"], "Size": 1}]'], ids=["missing", "other"])
def test_release_record_needs_the_pulled_image(box: Box, image: str) -> None:
    """A record without a digest would vouch for nothing; an old one is not left half-changed."""
    finish(box)
    before = box.read("/etc/gpu-ami-release.json")
    box.write("/srv/image.json", image)

    result = box.run("write-release.sh", **RELEASE_INPUTS)

    assert result.status == 1
    assert "with its digest; did pull-image.sh run?" in result.tail()
    assert box.read("/etc/gpu-ami-release.json") == before


def test_collected_logs_hold_no_secrets(box: Box) -> None:
    """They are printed into a log that people attach to tickets."""
    box.write(
        "/var/log/cloud-init-output.log",
        "curl https://b.s3.amazonaws.com/m.pt?X-Amz-Signature=5ec2e7 failed\nAuthToken: 5ec2e7\npassword=5ec2e7 end\n"
        'Authorization: Bearer 5ec2e7\n{"auth": "5ec2e7"}\nkey ASIA5EC2E75EC2E75EC2\n',
    )

    result = box.run("collect-logs.sh")

    assert result.status == 0, result.said
    assert "curl https://b.s3.amazonaws.com/m.pt?... failed" in result.said
    assert "5ec2e7" not in result.said
    assert "password=... end" in result.said
    assert "key ASIA...\n" in result.said
    assert "5EC2E7" not in result.said


def test_collecting_logs_never_fails(box: Box) -> None:
    """It runs after a failure; a second one would hide the first."""
    for name in ("docker", "journalctl", "systemctl", "cloud-init"):
        box.fake(name, "echo broken >&2; exit 1")

    result = box.run("collect-logs.sh")

    assert result.status == 0
    assert result.said.count("--- ") == 15
    lines = result.said.splitlines()
    assert (lines[0], lines[-2]) == ("collect-logs: begin", "collect-logs: end")
