"""validate-image.sh: each check passes on a good image and fails on the fault it is there for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpu_ami.measure.power_off import boothook
from tests.infra.box import Box
from tests.infra.finished import CONFIG, DIGEST, INPUTS, PREWARM_CONFIG, PREWARM_SCRIPT, PREWARM_UNIT, finish

Fault = Callable[[Box], object]


def rows(said: str) -> dict[str, str]:
    """Return the table: check to ``ok`` or what is wrong."""
    table: dict[str, str] = {}
    for line in said.splitlines():
        text = line.removeprefix("validate-image: ")
        if text.startswith("ok "):
            table[text[3:].strip()] = "ok"
        elif text.startswith("FAIL "):
            name, _, detail = text[5:].strip().partition(": ")
            table[name] = detail
    return table


def test_good_image_passes_every_check(box: Box) -> None:
    """The faults below are told apart from a script that always fails."""
    finish(box)

    result = box.run("validate-image.sh", **INPUTS)

    assert set(rows(result.said).values()) == {"ok"}
    assert result.status == 0, result.said
    assert result.tail().startswith(f"validate-image: all {len(rows(result.said))} checks passed")


def _measured_once(box: Box) -> None:
    """Leave what the user data of an instance that is measured writes."""
    unit = boothook(45).partition("<<'END'\n")[2].partition("END\n")[0]
    assert "poweroff" in unit
    box.write("/etc/systemd/system/gpu-ami-power-off.service", unit)


def _holding(path: str) -> Fault:
    """Return the fault that the file *path* holds something."""
    return lambda box: box.write(path)


def _mps_by_file(box: Box, pipe: str) -> None:
    """Let MPS start with its pipe in *pipe*, by a file that the unit names."""
    box.write("/srv/mps-unit", "enabled\n")
    box.write("/srv/mps-files", "/etc/missing (ignore_errors=yes)\n/etc/sysconfig/mps (ignore_errors=no)\n")
    box.write("/etc/sysconfig/mps", f"# mine\nCUDA_MPS_PIPE_DIRECTORY=/opt/mps\nCUDA_MPS_PIPE_DIRECTORY='{pipe}'\n")


def _mps_behind_a_link(box: Box) -> None:
    """Let MPS start with its pipe in a folder that the runtime's folder leads to."""
    _mps_by_file(box, "/opt/pipe")
    box.path("/tmp/nvidia-mps").symlink_to("/opt/pipe")


FAULTS: dict[str, list[tuple[Fault, str]]] = {
    "no AWS credentials": [
        (lambda box: box.write("/root/.aws/credentials"), "/root/.aws"),
        (lambda box: box.write("/home/ec2-user/.aws/config"), "/home/ec2-user/.aws"),
    ],
    "no SSM registration": [
        (lambda box: box.write("/var/lib/amazon/ssm/registration"), "/var/lib/amazon/ssm/registration"),
    ],
    "no Docker login": [
        (lambda box: box.write("/root/.docker/config.json"), "/root/.docker"),
        (lambda box: box.write("/home/ec2-user/.docker/config.json"), "/home/ec2-user/.docker"),
        (lambda box: box.write("/run/gpu-ami/docker/config.json"), "/run/gpu-ami/docker"),
        (lambda box: box.write("/etc/ecs/ecs.config", CONFIG + "ECS_ENGINE_AUTH_DATA={}\n"), "/etc/ecs/ecs.config"),
    ],
    "no login keys": [
        (lambda box: box.write("/home/ec2-user/.ssh/authorized_keys"), "authorized_keys"),
        (lambda box: box.write("/root/.ssh/authorized_keys"), "/root/.ssh/authorized_keys"),
        (lambda box: box.write("/root/.ssh/id_ed25519"), "id_ed25519"),
    ],
    "no SSH host keys": [(lambda box: box.write("/etc/ssh/ssh_host_ed25519_key"), "ssh_host_ed25519_key")],
    "no shell history": [
        (lambda box: box.write("/home/ec2-user/.bash_history"), "/home/ec2-user/.bash_history"),
        (lambda box: box.write("/root/.python_history"), "/root/.python_history"),
    ],
    "empty machine id": [
        (lambda box: box.write("/etc/machine-id", "0123\n"), "has an id"),
        (lambda box: box.path("/etc/machine-id").unlink(), "is missing"),
    ],
    "no host name": [(lambda box: box.write("/etc/hostname"), "/etc/hostname")],
    "no cloud-init state": [
        (lambda box: box.write("/var/lib/cloud/instance/user-data.txt"), "/var/lib/cloud/instance"),
        (lambda box: box.write("/var/lib/cloud/instances/i-1/user-data.txt"), "instances/i-1"),
        (lambda box: box.write("/var/lib/cloud/sem/config_scripts.once"), "sem/config_scripts.once"),
        (lambda box: box.write("/var/lib/cloud/data/instance-id"), "data/instance-id"),
    ],
    "no scheduled shutdown": [
        (lambda box: box.write("/etc/cron.d/end", "0 1 * * * root /sbin/shutdown -h now\n"), "/etc/cron.d/end"),
        (lambda box: box.write("/etc/crontab", "0 1 * * * root poweroff\n"), "/etc/crontab"),
        (lambda box: box.write("/etc/anacrontab", "1 5 end shutdown now\n"), "/etc/anacrontab"),
        (lambda box: box.write("/etc/rc.d/rc.local", "shutdown -h +90\n"), "/etc/rc.d/rc.local"),
        (lambda box: box.write("/etc/cron.daily/end", "#!/bin/sh\nhalt\n"), "/etc/cron.daily/end"),
        (lambda box: box.write("/var/spool/at/a1", "shutdown -h now\n"), "/var/spool/at/a1"),
        (lambda box: box.write("/etc/systemd/system/x.service", "ExecStart=/usr/sbin/poweroff\n"), "x.service"),
        (_measured_once, "gpu-ami-power-off.service"),
        (lambda box: box.write("/var/lib/cloud/scripts/per-boot/end.sh", "shutdown -h +180\n"), "end.sh"),
    ],
    "empty logs": [
        (_holding(f"/var/log/{name}"), f"/var/log/{name}")
        for name in (
            "messages",
            "secure",
            "cron",
            "maillog",
            "wtmp",
            "btmp",
            "audit/audit.log",
            "cloud-init-output.log",
        )
    ],
    "no ECS agent state": [
        (lambda box: box.write("/var/lib/ecs/data/agent.db"), "agent.db"),
        (lambda box: box.write("/var/lib/ecs/gpu/nvidia-gpu-info.json"), "nvidia-gpu-info.json"),
    ],
    "ECS agent configured": [
        (
            lambda box: box.write("/etc/ecs/ecs.config", CONFIG + "ECS_IMAGE_PULL_BEHAVIOR=once\n"),
            "ECS_IMAGE_PULL_BEHAVIOR is 'once'",
        ),
        (lambda box: box.write("/etc/ecs/ecs.config", CONFIG + "ECS_CLUSTER=default\n"), "ECS_CLUSTER is baked in"),
        (lambda box: box.path("/var/lib/ecs/ecs.config").unlink(), "GPU support comes from it"),
        (lambda box: box.path("/var/lib/ecs/deps").rename(box.path("/var/lib/ecs/gone")), "ECS Exec needs it"),
    ],
    "ECS agent enabled": [
        (lambda box: box.write("/srv/ecs-unit", "masked\n"), "'masked'"),
        (lambda box: box.write("/srv/ecs-unit", "disabled\n"), "'disabled'"),
    ],
    "no Docker identity": [
        (lambda box: box.write("/var/lib/docker/engine-id"), "engine-id"),
        (lambda box: box.write("/etc/docker/key.json"), "key.json"),
    ],
    "container image by digest": [
        (lambda box: box.path("/srv/image.json").unlink(), f"not there with {DIGEST}"),
        (lambda box: box.write("/srv/image.json", '[{"RepoDigests": []}]'), f"not there with {DIGEST}"),
    ],
    "no containers": [(lambda box: box.write("/srv/containers", "4c01db0b339c\n"), "4c01db0b339c")],
    "release record": [
        (lambda box: box.write("/etc/gpu-ami-release.json", '{"run_id": "another"}'), "of another bake"),
        (lambda box: box.path("/etc/gpu-ami-release.json").unlink(), "is missing"),
    ],
    "models as recorded": [
        (lambda box: box.write("/opt/ml/models/detector.pt", "tampered\n"), "detector.pt is not as recorded"),
        (lambda box: box.path("/opt/ml/models/detector.pt").unlink(), "detector.pt is not as recorded"),
        (lambda box: box.path("/opt/ml").rename(box.path("/opt/gone")), "/opt/ml/models is missing"),
        (lambda box: box.write("/opt/ml/models/sub/stray.pt"), "sub/stray.pt is not recorded"),
    ],
    "models not writable for all": [
        (lambda box: box.path("/opt/ml/models").chmod(0o777), "/opt/ml/models"),
        (lambda box: box.path("/opt/ml/models/detector.pt").chmod(0o666), "/opt/ml/models/detector.pt"),
    ],
    "one NVIDIA driver version": [
        (lambda box: box.write("/srv/packages", "nvidia-driver 580.1\nkmod-nvidia-open-dkms 570.2\n"), "570.2, 580.1"),
        (
            lambda box: box.write("/srv/packages", "nvidia-driver 580.1\nnvidia-persistenced 570.2\n"),
            "driver packages of several versions: 570.2, 580.1",
        ),
        (
            lambda box: box.write(
                "/srv/packages", "nvidia-driver 580.1\nnvidia-container-toolkit 1.17\nlibnvidia-container1 1.16\n"
            ),
            "container toolkit packages of several versions: 1.16, 1.17",
        ),
        (lambda box: box.write("/srv/packages", "docker 25.0\n"), "no package of the driver is installed"),
    ],
    # What an EnvironmentFile says cannot be repaired by a drop-in; what can is in test_in_the_guest.py.
    "no MPS pipe in /tmp/nvidia-mps": [
        (lambda box: _mps_by_file(box, "/tmp/nvidia-mps"), "which EnvironmentFile of the unit says so?"),
        (
            lambda box: _mps_by_file(box, "/run/../tmp/nvidia-mps/"),
            "nvidia-mps.service has its pipe in /tmp/nvidia-mps,",
        ),
        (_mps_behind_a_link, "nvidia-mps.service has its pipe in /opt/pipe,"),
    ],
    "reading ahead as set": [
        (lambda box: box.write("/srv/prewarm-unit", "disabled\n"), "gpu-ami-prewarm.service is 'disabled'"),
        (lambda box: box.path(PREWARM_UNIT).unlink(), f"{PREWARM_UNIT} is missing"),
        (lambda box: box.path(PREWARM_SCRIPT).unlink(), f"{PREWARM_SCRIPT} is missing"),
        (lambda box: box.path(f"{PREWARM_UNIT}.d/limit.conf").unlink(), "limit.conf is missing"),
        (lambda box: box.path(PREWARM_CONFIG).unlink(), f"{PREWARM_CONFIG} is not as set"),
        (
            lambda box: box.write(PREWARM_CONFIG, '{"readers": 1, "seconds": 60, "paths": ["/opt/ml/models"]}'),
            f"{PREWARM_CONFIG} is not as set",
        ),
    ],
}


@pytest.mark.parametrize(
    ("check", "fault", "detail"),
    [pytest.param(check, *case, id=f"{check}-{n}") for check, cases in FAULTS.items() for n, case in enumerate(cases)],
)
def test_fault_fails_the_bake_and_is_named(box: Box, check: str, fault: Fault, detail: str) -> None:
    """A check that cannot fail protects nothing."""
    finish(box)
    fault(box)

    result = box.run("validate-image.sh", **INPUTS)

    assert detail in rows(result.said)[check]
    assert result.status == 1
    assert "no AMI is made of this" in result.tail()


@pytest.mark.parametrize("line", CONFIG.splitlines())
@pytest.mark.parametrize("value", [None, "other"], ids=["missing", "wrong"])
def test_each_setting_of_the_agent_is_looked_at(box: Box, line: str, value: str | None) -> None:
    """One key that did not arrive makes the bake pointless, or a job's start time out."""
    finish(box)
    key, _, expected = line.partition("=")
    box.write("/etc/ecs/ecs.config", CONFIG.replace(f"{line}\n", f"{key}={value}\n" if value else ""))
    # The base AMI sets this one too; a later "other" goes before it.
    box.write("/var/lib/ecs/ecs.config", "ECS_LOGLEVEL=info\n")

    result = box.run("validate-image.sh", **INPUTS)

    assert rows(result.said)["ECS agent configured"] == f"{key} is '{value or ''}', not '{expected}'"
    assert result.status == 1


@pytest.mark.parametrize("left", [PREWARM_UNIT, PREWARM_CONFIG, PREWARM_SCRIPT])
def test_reading_ahead_that_is_switched_off_must_be_gone(box: Box, left: str) -> None:
    """On top of an earlier image, `prewarm = false` has to undo what that one had."""
    finish(box)
    for path in (PREWARM_UNIT, PREWARM_CONFIG, PREWARM_SCRIPT, f"{PREWARM_UNIT}.d/limit.conf"):
        box.path(path).unlink()
    box.path(f"{PREWARM_UNIT}.d").rmdir()
    off = INPUTS | {"PREWARM": "0"}
    assert rows(box.run("validate-image.sh", **off).said)["reading ahead as set"] == "ok"
    box.write(left)

    result = box.run("validate-image.sh", **off)

    assert rows(result.said)["reading ahead as set"] == left
    assert result.status == 1


@pytest.mark.parametrize(
    ("state", "environment", "is_wrong"),
    [
        ("enabled", "", True),
        ("static", "CUDA_MPS_LOG_DIRECTORY=/var/log", True),
        ("enabled-runtime", "CUDA_MPS_PIPE_DIRECTORY=", True),
        ("enabled", 'A=b "CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps"', True),
        ("enabled", "CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps", True),
        # The runtime puts neither of these into a container.
        ("enabled", 'A=b "CUDA_MPS_PIPE_DIRECTORY=/tmp/with a blank"', False),
        ("enabled", "CUDA_MPS_PIPE_DIRECTORY=/tmp/mine", False),
        ("enabled", "CUDA_MPS_PIPE_DIRECTORY=/tmp", False),
        ("enabled", "CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs", False),
        ("enabled", "A=/tmp CUDA_MPS_PIPE_DIRECTORY=/tmpfs/mps", False),
        ("disabled", "", False),
        ("masked", "", False),
        ("masked-runtime", "", False),
        ("not-found", "", False),
    ],
)
def test_mps_is_judged_by_what_a_boot_would_start(box: Box, state: str, environment: str, is_wrong: bool) -> None:
    """What no boot starts has no pipe, and of what it starts the effective value counts: read as systemd shows it."""
    finish(box)
    box.write("/srv/mps-unit", f"{state}\n")
    box.write("/srv/mps-environment", f"{environment}\n")

    result = box.run("validate-image.sh", **INPUTS | {"MPS_PIPE": "fail"})

    assert (rows(result.said)["no MPS pipe in /tmp/nvidia-mps"] != "ok", result.status) == (is_wrong, int(is_wrong)), (
        result.said
    )
    assert not box.path("/etc/systemd/system/nvidia-mps.service.d").exists(), "fail changes nothing"


def test_mps_of_which_systemd_says_nothing_is_a_failed_check(box: Box) -> None:
    """An image that could not be judged is not passed."""
    finish(box)
    box.write("/srv/mps-unit", "enabled\n")
    box.fake("systemctl", "[[ $1 == is-enabled ]] && echo enabled || { echo 'Failed to connect to bus' >&2; exit 1; }")

    result = box.run("validate-image.sh", **INPUTS)

    assert rows(result.said)["no MPS pipe in /tmp/nvidia-mps"].startswith("could not be checked")
    assert result.status == 1


def test_check_that_cannot_be_made_is_a_failed_check(box: Box) -> None:
    """A missing program is no proof that all is well."""
    finish(box)
    box.fake("rpm", "echo 'rpmdb: damaged' >&2; exit 3")

    result = box.run("validate-image.sh", **INPUTS)

    assert rows(result.said)["one NVIDIA driver version"].startswith("could not be checked (status 3)")
    assert result.status == 1


def test_too_little_free_space_fails_the_bake(box: Box) -> None:
    """A root volume that is full at the first job helps nobody."""
    finish(box)

    result = box.run("validate-image.sh", **INPUTS | {"MIN_FREE_GIB": "1000000"})

    assert "wanted 1000000 GiB; raise volume_size_gib" in rows(result.said)["free space"]
    assert result.status == 1


def test_another_digest_than_asked_for_fails_the_bake(box: Box) -> None:
    """The release record alone must not vouch for the image when the caller named a digest."""
    finish(box)
    expected = "sha256:" + "cd" * 32

    result = box.run("validate-image.sh", **INPUTS | {"IMAGE_DIGEST": expected})

    assert expected in rows(result.said)["container image by digest"]


def test_every_check_but_free_space_has_a_fault(box: Box) -> None:
    """A check that is added gets its fault here."""
    finish(box)

    table = rows(box.run("validate-image.sh", **INPUTS).said)

    assert set(table) == set(FAULTS) | {"free space"}
