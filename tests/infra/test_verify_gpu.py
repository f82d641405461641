"""verify-gpu.sh on every kind of builder: what is read, what is said, what fails, and that nothing is set."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.infra.box import Box, Result
from tests.infra.finished import REFERENCE

IMAGE = f"{REFERENCE}:v1"
QUERIES = {
    "driver_version": "580.159.03",
    "index,name,memory.total,mig.mode.current,persistence_mode": "0, NVIDIA A10G, 23028 MiB, [N/A], Enabled",
}
BANNER = "| NVIDIA-SMI 580.159.03    Driver Version: 580.159.03    CUDA Version: 13.0     |"


@dataclass(frozen=True)
class Machine:
    """A builder: what is on its PCI bus, and how its programs answer.

    Attributes:
        devices: Address to vendor id.
        answers: Arguments of an nvidia-smi call to what it prints; None ends with 9. Any other call ends with 2: the
            script must not make it.
        nvidia_smi: Whether the program is there.
        image: Whether the image is there.
        container: Exit status of `docker run`.
    """

    devices: dict[str, str]
    answers: dict[str, str | None]
    nvidia_smi: bool = True
    image: bool = True
    container: int = 0


def query(fields: str) -> str:
    """Return the arguments of the call that queries *fields*."""
    return f"--query-gpu={fields} --format=csv,noheader"


def answers(**changed: str | None) -> dict[str, str | None]:
    """Return the answers of a driver that works, with those *changed*: list, banner, driver, gpus."""
    names = {"list": "-L", "banner": "", "driver": query("driver_version"), "gpus": query(list(QUERIES)[1])}
    good: dict[str, str | None] = {"list": "GPU 0: NVIDIA A10G (UUID: GPU-1)", "banner": BANNER}
    good |= dict(zip(("driver", "gpus"), QUERIES.values(), strict=True))
    return {names[name]: value for name, value in (good | changed).items()}


INTEL = {"0000:00:00.0": "0x8086", "0000:00:03.0": "0x1d0f"}
NVIDIA = INTEL | {"0000:00:1e.0": "0x10de"}


def put(box: Box, machine: Machine) -> None:
    """Make *box* that *machine*."""
    for address, vendor in machine.devices.items():
        box.write(f"/sys/bus/pci/devices/{address}/vendor", f"{vendor}\n")
    cases = ""
    for arguments, said in machine.answers.items():
        said_by = "exit 9" if said is None else f"cat <<'END'\n{said}\nEND"
        cases += f"  '{arguments}') {said_by if said is not None else 'echo failed >&2; exit 9'}\n ;;\n"
    if machine.nvidia_smi:
        box.fake("nvidia-smi", f'case "$*" in\n{cases}  *) echo "unexpected: $*" >&2; exit 2 ;;\nesac')
    inspect = "exit 0" if machine.image else "exit 1"
    box.fake("docker", f"case $1 in image) {inspect} ;; run) exit {machine.container} ;; *) exit 2 ;; esac")


def verify(box: Box, machine: Machine, **env: str) -> Result:
    """Run the script on *machine*."""
    put(box, machine)
    if not machine.nvidia_smi:
        # The machine that runs the tests may have one.
        box.path("/fakes/bash").symlink_to("/usr/bin/bash")
        env["PATH"] = "/fakes"
    return box.run("verify-gpu.sh", **{"REQUIRE_GPU": "0", "TEST_IMAGE": IMAGE} | env)


CPU = Machine(INTEL, {})
GOOD = Machine(NVIDIA, answers())


@pytest.mark.parametrize(
    "machine", [CPU, Machine({}, {}), Machine(INTEL, answers(list=None))], ids=["cpu", "bare", "tools"]
)
def test_builder_without_gpu_passes_and_says_so(box: Box, machine: Machine) -> None:
    """The seed's third case: a CPU builder is normal, nvidia-smi on it or not."""
    result = verify(box, machine)

    assert result.status == 0
    assert "has no GPU, which is fine" in result.said
    assert box.calls() == [], "a driver that cannot answer was not queried"


def test_required_gpu_that_is_not_there_fails(box: Box) -> None:
    """Who requests the check in the bake must not get a pass without it."""
    result = verify(box, CPU, REQUIRE_GPU="1")

    assert result.status == 1
    assert "choose an instance_type with a GPU" in result.tail()


@pytest.mark.parametrize("required", ["0", "1"])
def test_gpu_is_read_on_host_and_in_a_container_and_nothing_is_set(box: Box, required: str) -> None:
    """Driver, CUDA, name, memory, MIG and persistence are printed; a GPU that is there is checked, requested or not."""
    result = verify(box, GOOD, REQUIRE_GPU=required)

    assert result.status == 0, result.said
    assert "driver 580.159.03, CUDA 13.0" in result.said
    assert "GPU (index, name, memory, MIG, persistence): 0, NVIDIA A10G, 23028 MiB, [N/A], Enabled" in result.said
    assert f"a container of {IMAGE} sees the GPU" in result.said
    # The fake knows reading calls alone and ends with 2 on any other.
    called = {call.removeprefix("nvidia-smi").strip() for call in box.calls() if call.startswith("nvidia-smi")}
    assert called == set(answers())
    (run,) = [call for call in box.calls() if call.startswith("docker run")]
    assert "--rm --pull never --gpus all" in run
    assert run.endswith(f"--entrypoint nvidia-smi {IMAGE} -L")


def test_every_gpu_is_described(box: Box) -> None:
    """Eight GPUs, one of them in MIG mode, is eight lines."""
    gpus = "\n".join(f"{n}, NVIDIA H100, 81559 MiB, {'Enabled' if n == 3 else 'Disabled'}, Disabled" for n in range(8))
    driver = "\n".join(["580.159.03"] * 8)

    result = verify(box, Machine(NVIDIA, answers(gpus=gpus, driver=driver)))

    assert result.status == 0, result.said
    assert result.said.count("GPU (index") == 8
    assert "3, NVIDIA H100, 81559 MiB, Enabled, Disabled" in result.said
    assert "driver 580.159.03, CUDA" in result.said


def test_cuda_version_that_is_not_printed_is_unknown(box: Box) -> None:
    """Its place in the banner has changed before; that is no reason to fail a bake."""
    result = verify(box, Machine(NVIDIA, answers(banner="| NVIDIA-SMI 600 |")))

    assert result.status == 0, result.said
    assert "driver 580.159.03, CUDA unknown" in result.said


def test_without_an_image_only_the_host_is_checked(box: Box) -> None:
    """The script by itself, on a machine that has none."""
    result = verify(box, GOOD, TEST_IMAGE="")

    assert result.status == 0, result.said
    assert "no image was named to try containers with" in result.said
    assert not [call for call in box.calls() if call.startswith("docker")]


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine(NVIDIA, {}, nvidia_smi=False), "nvidia-smi is missing; is the base AMI a GPU one?"),
        (Machine(NVIDIA, answers(list=None)), "its driver does not answer"),
        (Machine(NVIDIA, answers(driver=None)), "the driver does not say its version"),
        (Machine(NVIDIA, answers(driver="580.1\n570.2")), "several versions or of none: '570.2,580.1'"),
        (Machine(NVIDIA, answers(driver="")), "several versions or of none: ''"),
        (Machine(NVIDIA, answers(gpus=None)), "the driver does not describe its GPUs"),
        (Machine(NVIDIA, answers(), image=False), f"{IMAGE} is not there to try the GPU with"),
        (Machine(NVIDIA, answers(), container=125), "a container does not see the GPU; is the NVIDIA runtime"),
    ],
)
def test_gpu_that_does_not_work_fails_the_bake(box: Box, machine: Machine, said: str) -> None:
    """With a GPU there, a broken driver or runtime is the image's fault and found now, requested or not."""
    result = verify(box, machine)

    assert result.status == 1
    assert said in result.tail()
