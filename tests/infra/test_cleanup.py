"""cleanup.sh: a used machine goes in, an image that validates comes out."""

from __future__ import annotations

from tests.infra.box import Box
from tests.infra.finished import INPUTS, finish

BUILD_FILES = (
    "/root/.aws/credentials",
    "/root/.docker/config.json",
    "/root/.bash_history",
    "/home/ec2-user/.docker/config.json",
    "/home/ec2-user/.bash_history",
    "/home/ec2-user/.python_history",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_rsa_key.pub",
    "/etc/hostname",
    "/var/lib/ecs/data/agent.db",
    "/var/lib/ecs/data/.hidden",
    "/var/lib/ecs/gpu/nvidia-gpu-info.json",
    "/var/log/ecs/ecs-agent.log",
    "/var/log/journal/0123/system.journal",
    "/var/log/messages-20260901",
    "/var/log/dnf.log.1",
    "/var/lib/cloud/instances/i-1/user-data.txt",
    "/var/lib/dhclient/lease",
    "/var/lib/amazon/ssm/registration",
    "/var/lib/docker/engine-id",
    "/var/cache/dnf/x.solv",
    "/var/lib/dnf/history.sqlite",
    "/run/gpu-ami/docker/config.json",
    "/tmp/script_1.sh",
    "/var/tmp/x",
)
KEPT = (
    "/etc/ssh/sshd_config",
    "/etc/ecs/ecs.config",
    "/var/lib/ecs/ecs.config",
    "/var/lib/ecs/deps/execute-command/bin/agent",
    "/opt/ml/models/detector.pt",
    "/etc/gpu-ami-release.json",
    "/var/lib/docker/overlay2/layer",
    "/home/ec2-user/.bashrc",
)


def used(box: Box) -> None:
    """Bring *box* into the state before clean-up."""
    finish(box)
    for path in BUILD_FILES:
        box.write(path)
    for path in ("/etc/ssh/sshd_config", "/var/lib/docker/overlay2/layer", "/home/ec2-user/.bashrc"):
        box.write(path)
    box.write("/home/ec2-user/.ssh/authorized_keys", "ssh-ed25519 AAAA packer_1\n", mode=0o600)
    box.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    box.write("/var/log/secure", "session opened\n", mode=0o600)
    box.write("/srv/ecs-unit", "masked\n")
    box.write("/srv/containers", "4c01db0b339c\n")


def test_cleanup_leaves_an_image_that_validates(box: Box) -> None:
    """The two scripts agree on what clean is."""
    used(box)

    before = box.run("validate-image.sh", **INPUTS)
    cleaned = box.run("cleanup.sh")
    after = box.run("validate-image.sh", **INPUTS)

    assert before.status == 1
    assert cleaned.status == 0, cleaned.said
    assert after.status == 0, after.said


def test_cleanup_removes_the_machine_s_own_things_and_keeps_the_image_s(box: Box) -> None:
    """Too little left leaks a token; too much removed breaks GPU support or ECS Exec."""
    used(box)

    assert box.run("cleanup.sh").status == 0
    assert [path for path in BUILD_FILES if box.path(path).exists()] == []
    assert [path for path in KEPT if not box.path(path).exists()] == []
    assert box.read("/etc/machine-id") == ""
    assert box.read("/home/ec2-user/.ssh/authorized_keys") == ""
    assert box.path("/var/log/secure").stat().st_size == 0
    assert box.path("/var/log/secure").stat().st_mode & 0o777 == 0o600
    assert box.read("/srv/ecs-unit") == "enabled\n"


def test_cleanup_never_touches_container_images(box: Box) -> None:
    """The image is what the bake is for: no prune of images, no `system prune`."""
    used(box)
    box.run("cleanup.sh")

    docker = [call for call in box.calls() if call.startswith("docker ")]
    assert docker == ["docker rm --force ecs-agent", "docker container prune --force", "docker volume prune --force"]


def test_agent_is_stopped_before_its_state_goes_and_enabled_last(box: Box) -> None:
    """It writes its state when it stops; enabled earlier it could start again."""
    used(box)
    box.run("cleanup.sh")

    ecs = [call for call in box.calls() if "ecs.service" in call]
    assert ecs == ["systemctl stop ecs.service", "systemctl unmask ecs.service", "systemctl enable ecs.service"]
    assert box.calls()[-1] == ecs[-1]
    assert box.calls()[0] == ecs[0]


def test_cleanup_twice_is_cleanup_once(box: Box) -> None:
    """A bake that is repeated by hand on a kept builder must not fail on what is gone already."""
    used(box)

    assert box.run("cleanup.sh").status == 0
    second = box.run("cleanup.sh")

    assert second.status == 0, second.said
    assert box.run("validate-image.sh", **INPUTS).status == 0
