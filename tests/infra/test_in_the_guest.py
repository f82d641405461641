"""The provisioning scripts on the sandbox's guest, whose programs answer and refuse as an ECS GPU AMI's do."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_ami_sandbox.guest.builder import Gpus
from tests.infra.box import PACKER, SCRIPTS
from tests.infra.finished import INPUTS, PREWARM_SCRIPT, PREWARM_UNIT, REFERENCE
from tests.infra.test_validate_image import rows
from tests.sandbox.guest.gpus import add_gpus, add_image
from tests.sandbox.guest.parts import Answer, Client, World, running_guest

NAME = "al2023-ami-ecs-gpu-hvm-2023.0.{}-kernel-6.1-x86_64-ebs"
UNDER_TMP, MOVED = NAME.format("20260813"), NAME.format("20260901")
CHECK = "no MPS pipe in /tmp/nvidia-mps"
DROP_IN = "etc/systemd/system/nvidia-mps.service.d/zz-gpu-ami.conf"
IMAGE = "app:1"
PYTHON = "PYTHON_VERSION=3.12"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A guest for the tests of this file; nothing in it asks the local AWS."""
    with running_guest(tmp_path_factory.mktemp("guest"), 8080) as running:
        yield running


def _run(client: Client, script: str, **env: str) -> Answer:
    """Run packer/scripts/*script* as root of the instance, as Packer does: its own file, its inputs as variables."""
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
    command = f"cat >/tmp/script.sh && sudo env {given} bash /tmp/script.sh"
    return client.run(command, stdin=(SCRIPTS / script).read_bytes())


@pytest.mark.parametrize(
    ("base", "policy", "says", "is_repaired"),
    [
        (UNDER_TMP, "repair", "ok", True),
        (UNDER_TMP, "fail", "nvidia-mps.service has its pipe in /tmp/nvidia-mps", False),
        (MOVED, "repair", "ok", False),
        (MOVED, "fail", "ok", False),
        (NAME.format("20260714"), "repair", "ok", False),
    ],
    ids=["repaired", "failed", "healthy", "healthy, strict", "absent"],
)
def test_mps_of_each_base(world: World, base: str, policy: str, says: str, is_repaired: bool) -> None:
    """A base that starts MPS under /tmp makes every job its client; the others are left as they are."""
    client = world.add(base=base)

    result = _run(client, "validate-image.sh", **INPUTS | {"MPS_PIPE": policy})

    assert rows(result.stdout)[CHECK].startswith(says), result.text
    assert ("nvidia-mps.service is to have its pipe in /run/mps-ecs" in result.stdout) is is_repaired
    drop_in = world.root(client) / DROP_IN
    assert drop_in.exists() is is_repaired
    if is_repaired:
        assert drop_in.read_text() == "[Service]\nEnvironment=CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs\n"
        assert drop_in.stat().st_mode & 0o777 == 0o644
        # A bake on top of the image finds nothing to do, however strict.
        again = _run(client, "validate-image.sh", **INPUTS | {"MPS_PIPE": "fail"})
        assert rows(again.stdout)[CHECK] == "ok"


def _with_gpu(world: World, *env: str, base: str = MOVED, loaded: str | None = "580.159.03") -> tuple[Client, Path]:
    """Add an instance with a GPU and the image that is to be tried."""
    client = world.add(base=base)
    client.run("true")
    root = world.root(client)
    add_gpus(root, loaded=loaded)
    add_image(root, IMAGE, *env)
    return client, root


def _verify(client: Client, policy: str = "repair") -> Answer:
    return _run(client, "verify-gpu.sh", REQUIRE_GPU="1", TEST_IMAGE=IMAGE, MPS_PIPE=policy)


@pytest.mark.parametrize(
    ("env", "says"),
    [((PYTHON,), f"CUDA contexts made: 1, in a container of {IMAGE}"), ((), f"no Python in {IMAGE}")],
    ids=["python", "no python"],
)
def test_gpu_that_works(world: World, env: tuple[str, ...], says: str) -> None:
    """Host, container and CUDA, each by the way that a job takes."""
    client, _ = _with_gpu(world, *env)

    result = _verify(client)

    assert result.status == 0, result.text
    assert "driver 580.159.03, CUDA 13.0" in result.stdout
    assert f"a container of {IMAGE} sees the GPU" in result.stdout
    assert says in result.stdout


@pytest.mark.parametrize(
    ("env", "loaded", "says", "ends"),
    [
        ((PYTHON,), None, "couldn't communicate with the NVIDIA driver", "its driver does not answer"),
        ((PYTHON,), "570.1.2", "NVML library version: 580.159", "its driver does not answer"),
        (
            (PYTHON, "LD_LIBRARY_PATH=/usr/local/cuda/compat"),
            "580.159.03",
            "cuInit: error 803 (system has unsupported display driver / cuda driver combination)",
            "a job could not use CUDA",
        ),
    ],
    ids=["not loaded", "NVML 18", "error 803"],
)
def test_gpu_that_does_not_work_is_named(
    world: World, env: tuple[str, ...], loaded: str | None, says: str, ends: str
) -> None:
    """The real programs' own words are in the log, with what to look at behind them."""
    client, _ = _with_gpu(world, *env, loaded=loaded)

    result = _verify(client)

    assert result.status == 1, result.text
    assert says in result.text
    assert ends in result.stderr


def test_runtime_that_is_not_registered_is_named(world: World) -> None:
    """By --gpus it would have gone unseen: that does not need the runtime that jobs are started with."""
    client, root = _with_gpu(world, PYTHON)
    (root / "etc/docker-runtimes.d/nvidia").unlink()

    result = _verify(client)

    assert result.status == 1
    assert "unknown or invalid runtime name: nvidia." in result.stderr
    assert "is the NVIDIA runtime in /etc/docker-runtimes.d" in result.stderr


@pytest.mark.parametrize(("met", "says"), [("205", "cuInit: error 205"), ("139", "(status 139)")])
@pytest.mark.parametrize(("policy", "status"), [("repair", 0), ("fail", 1)])
def test_other_outcomes_of_the_base_amis_mps(world: World, met: str, says: str, policy: str, status: int) -> None:
    """Error 205 and a crash were reported of a daemon outside the container, too: the repair mends them alike."""
    client, root = _with_gpu(world, PYTHON, base=UNDER_TMP)
    (root / "sys/module/nvidia/mps-client").write_text(f"{met}\n")

    result = _verify(client, policy)

    assert result.status == status, result.text
    assert says in result.text
    assert ("without it CUDA works" in result.text) is (policy == "repair")


@pytest.mark.parametrize(
    ("policy", "status", "ends"),
    [("repair", 0, "without it CUDA works"), ("fail", 1, '"MPS client failed to connect" in docs/troubleshooting.md')],
)
def test_error_805_of_the_base_ami(world: World, policy: str, status: int, ends: str) -> None:
    """On a GPU builder of such a base every job's container shows it, which nvidia-smi never does."""
    client, _ = _with_gpu(world, PYTHON, base=UNDER_TMP)

    result = _verify(client, policy)

    assert f"a container of {IMAGE} sees the GPU" in result.stdout
    assert "cuInit: error 805 (MPS client failed to connect to the MPS control daemon or the MPS server)" in result.text
    assert (result.status, ends in result.text) == (status, True), result.text


def _instance_type(fault: str = "") -> Gpus:
    """Return what a g4dn.12xlarge has."""
    return Gpus("T4", 16384, 4, fault)


@pytest.fixture(scope="module")
def baked(world: World) -> tuple[str, str]:
    """An instance that an AMI was made of, with prewarm and the image as bakes leave them; its id, and the image."""
    client = world.add(base=MOVED)
    client.run("mkdir -p /tmp/rootfs/etc/systemd/system /tmp/rootfs/usr/local/libexec/gpu-ami")
    for path in (PREWARM_UNIT, PREWARM_SCRIPT):
        client.run(f"cat >/tmp/rootfs{path}", stdin=(PACKER / "rootfs" / path.lstrip("/")).read_bytes())
    root = world.root(client)
    given = {name: value for name, value in INPUTS.items() if name.startswith("PREWARM")}
    client.run("sudo dnf -y install jq")
    installed = _run(client, "install-prewarm.sh", **given, ROOTFS="/tmp/rootfs")
    assert installed.status == 0, installed.text
    (root / "opt/ml/models").mkdir(parents=True)
    (root / "opt/ml/models/detector.pt").write_bytes(bytes(3 * 1024 * 1024))
    image = f"{REFERENCE}@sha256:{'b' * 64}"
    add_image(root, image, PYTHON)
    return root.name, image


def test_an_instance_of_a_gpu_type_proves_its_ami(world: World, baked: tuple[str, str]) -> None:
    """What `invoke verify` has run there: the GPUs are the type's, the image and prewarm the AMI's."""
    parent, image = baked
    client, unit = world.add(parent=parent, base=MOVED, gpus=_instance_type()), Path(PREWARM_UNIT).name

    result = _run(client, "verify-gpu.sh", REQUIRE_GPU="1", TEST_IMAGE=image)
    inspected, prewarm, bus = client.run_all(
        [
            f"sudo docker image inspect {image}",
            f"systemctl is-enabled {unit} && journalctl --no-pager --output cat --unit {unit}",
            "cat /sys/bus/pci/devices/*/vendor; cat /sys/module/nvidia/version",
        ]
    )

    assert result.status == 0, result.text
    assert "3, Tesla T4, 15360 MiB, [N/A], Enabled" in result.stdout
    assert "driver 580.159.03, CUDA 13.0" in result.stdout
    assert f"CUDA contexts made: 4, in a container of {image}" in result.stdout
    assert json.loads(inspected.stdout)[0]["RepoDigests"] == [image]
    assert bus.stdout.split() == ["0x8086", "0x1d0f", *["0x10de"] * 4, "580.159.03"]
    state, _, said, ended = prewarm.stdout.splitlines()
    assert state == "enabled"
    assert re.match(r"prewarm: 3 MiB of 1 files in [\d.]+ s by 32 readers, everything there is; 0 could not", said)
    assert ended == "gpu-ami-prewarm.service: Deactivated successfully."


@pytest.mark.parametrize(
    ("fault", "says", "ends"),
    [
        ("driver-mismatch", "Driver/library version mismatch", "its driver does not answer"),
        ("error-805", "cuInit: error 805", "docs/troubleshooting.md"),
        ("no-runtime", "unknown or invalid runtime name: nvidia.", "a container does not see the GPU"),
    ],
)
def test_a_rigged_ami_is_refused_for_its_fault(
    world: World, baked: tuple[str, str], fault: str, says: str, ends: str
) -> None:
    """Each is in a place of its own: the kernel, memory, a mount. The AMI's files are the good one's."""
    parent, image = baked
    client = world.add(parent=parent, base=MOVED, gpus=_instance_type(fault))

    result = _run(client, "verify-gpu.sh", REQUIRE_GPU="1", TEST_IMAGE=image)

    assert result.status == 1
    assert says in result.text
    assert ends in result.stderr


def test_gpus_stay_through_a_reboot_and_do_not_get_into_the_image(world: World, baked: tuple[str, str]) -> None:
    """The bus is the machine's: the next start finds it, an AMI of the instance on a CPU type does not."""
    parent, _ = baked
    client = world.add(parent=parent, base=MOVED, gpus=_instance_type())
    before = client.run("nvidia-smi -L")

    client.run("sudo reboot")
    after = client.run("nvidia-smi -L")

    assert (before.status, before.stdout) == (after.status, after.stdout)
    assert before.stdout.count("Tesla T4") == 4
    assert list((world.root(client) / "sys").iterdir()) == []


RECORDED = {
    **{
        name: INPUTS[name]
        for name in ("ECR_REGISTRY", "ECR_REPOSITORY", "IMAGE_TAG", "MODELS_DIR", "MPS_PIPE", "RUN_ID")
    },
    "FAMILY": "gpu-batch",
    "GIT_COMMIT": "0123abc",
    "PIPELINE_VERSION": "0.1.0",
    "SOURCE_AMI": "ami-0123456789abcdef0",
    "SOURCE_AMI_NAME": MOVED,
    "STARTED_AT": "2026-11-23T20:00:00Z",
}
STACK = {"containerd": "2.2.5", "docker": "25.0.16", "ecs-init": "1.106.2", "runc": "1.3.5"}


@pytest.mark.parametrize("moves", [False, True], ids=["held", "let go"])
def test_what_the_base_pins_moves_only_when_it_may(world: World, moves: bool) -> None:
    """AWS tests these four together; what moved, and what did not, is in the record of the image."""
    client = world.add()
    client.run("true")
    name = f"{RECORDED['ECR_REGISTRY']}/{RECORDED['ECR_REPOSITORY']}"
    add_image(world.root(client), f"{name}@sha256:{'a' * 64}")
    tag = f"{name}@sha256:{'a' * 64} {name}:{RECORDED['IMAGE_TAG']}"
    client.run(f"sudo docker tag {tag}; sudo mkdir -p {RECORDED['MODELS_DIR']}")

    updated = _run(client, "update-system.sh", UPDATE_CONTAINER_STACK=str(int(moves)))
    listed = _run(client, "list-contents.sh", **RECORDED)
    recorded = _run(client, "write-release.sh", **RECORDED)

    assert (updated.status, listed.status, recorded.status) == (0, 0, 0), updated.text + listed.text + recorded.text
    contents = json.loads(client.run("cat /run/gpu-ami/contents.json").stdout)
    (jq,) = (package for package in contents["packages"] if package["name"] == "jq")
    assert (jq["epoch"], jq["license"]) == ("0", "MIT and ASL 2.0 and CC-BY and GPLv3")
    release = json.loads((world.root(client) / "etc/gpu-ami-release.json").read_text())
    moved = {row["name"]: (row["old"], row["new"]) for row in release["packages_moved"]}
    assert moved["openssl-libs"] == ("3.2.2-1.amzn2023.0.2", "3.2.2-1.amzn2023.0.5")
    assert moved["jq"][0] is None
    assert {package for package in STACK if package in moved} == (set(STACK) if moves else set())
    assert release["docker"].startswith("25.0.17" if moves else "25.0.16")
    assert not {"kernel", "nvidia-driver"} & set(moved), "the base AMI's own locks hold"
    for package, version in STACK.items():
        is_there = client.run(f"rpm -q --queryformat '%{{VERSION}}' {package}").stdout
        assert (is_there == version) is not moves
