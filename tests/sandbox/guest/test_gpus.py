"""A guest with GPUs: what its programs read there, and what they refuse in which words."""

from __future__ import annotations

import dataclasses
import io
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_ami_sandbox.aws.ec2.gpus import gpus_of
from gpu_ami_sandbox.guest import gpus, machine
from gpu_ami_sandbox.guest.builder import FAULTS, Builder, Gpus
from gpu_ami_sandbox.guest.programs import docker, gpu, nvidia_smi, systemctl
from gpu_ami_sandbox.guest.programs.packages import installed, save
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.userdata import UserData
from tests.sandbox.guest.gpus import DRIVER, add_gpus, add_image
from tests.sandbox.guest.parts import REGION, Inside

View = Callable[..., Inside]
RUN = "run --rm --pull never --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all"
CDI = 'failed to generate CDI spec for mode "auto": failed to construct device spec generators: '


def _docker(command: str, here: Inside) -> tuple[int, str]:
    here.system.out = here.out = io.StringIO()
    here.system.err = here.err = io.StringIO()
    return docker.main(["docker", *shlex.split(command)], here.system), here.text


def _smi(here: Inside, *arguments: str) -> tuple[int, str]:
    here.system.out = here.out = io.StringIO()
    return nvidia_smi.main(["nvidia-smi", *arguments], here.system), here.text


@pytest.fixture
def here(inside: View) -> Inside:
    """An instance with two GPUs and container images of every kind."""
    found = inside()
    add_gpus(found.system.root, 2)
    add_image(found.system.root, "python:1", "PYTHON_VERSION=3.12")
    add_image(found.system.root, "plain:1")
    add_image(found.system.root, "compat:1", "PYTHON_VERSION=3.12", "LD_LIBRARY_PATH=/usr/lib:/usr/local/cuda/compat")
    add_image(found.system.root, "utility:1", "PYTHON_VERSION=3.12", "NVIDIA_DRIVER_CAPABILITIES=utility")
    add_image(found.system.root, "compute:1", "PYTHON_VERSION=3.12", "NVIDIA_DRIVER_CAPABILITIES=compute")
    return found


def test_nvidia_smi_reads_what_is_there(here: Inside) -> None:
    """The queries of the bake's check, on a machine that has something to say."""
    assert _smi(here, "-L")[1].splitlines()[1].startswith("GPU 1: NVIDIA A10G (UUID: GPU-")
    assert _smi(here, "--query-gpu=index,driver_version,mig.mode.current", "--format=csv,noheader") == (
        0,
        f"0, {DRIVER}, [N/A]\n1, {DRIVER}, [N/A]\n",
    )
    assert "CUDA Version: 13.0" in _smi(here)[1]
    assert _smi(here, "--query-gpu=nope", "--format=csv")[0] == 2


@pytest.mark.parametrize(
    ("loaded", "status", "says", "refused"),
    [
        (None, 9, "couldn't communicate with the NVIDIA driver", "failed to initialize NVML: Driver Not Loaded"),
        (
            "570.1.2",
            18,
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.159\n",
            "failed to initialize NVML: Driver/library version mismatch",
        ),
    ],
)
def test_a_driver_that_does_not_answer(inside: View, loaded: str | None, status: int, says: str, refused: str) -> None:
    """NVML's errors 9 and 18, from the host and from the runtime: which names them in words, behind containerd's."""
    here = inside()
    add_gpus(here.system.root, loaded=loaded)
    add_image(here.system.root, "python:1", "PYTHON_VERSION=3.12")

    assert _smi(here, "-L")[0] == status
    assert says in _smi(here, "-L")[1]
    for program in ("nvidia-smi", "python3"):
        answer = _docker(f"{RUN} --entrypoint {program} python:1 -L", here)
        assert answer[0] == 125
        assert (
            f"OCI runtime create failed: failed to create the automatic CDI modifier: {CDI}{refused}: unknown."
            in answer[1]
        )
    by_flag = _docker("run --gpus all --entrypoint nvidia-smi python:1", here)
    assert by_flag[0] == 125
    assert f"nvml error: {refused.rpartition(': ')[2].lower()}" in by_flag[1]


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all --entrypoint nvidia-smi plain:1 -L", 0, "GPU 1: "),
        ("--gpus all --entrypoint nvidia-smi plain:1 -L", 0, "GPU 1: "),
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=1 --entrypoint nvidia-smi plain:1 -L", 0, "GPU 0: "),
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=2 --entrypoint nvidia-smi plain:1", 125, "from index: Invalid"),
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=GPU-7 --entrypoint nvidia-smi plain:1", 125, "UUID: Not Found"),
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=x --entrypoint nvidia-smi plain:1", 125, 'UUID or index: "x"'),
        # Without devices, or with another runtime, nothing of the driver is in the container.
        ("--runtime nvidia --entrypoint nvidia-smi plain:1", 127, 'exec: "nvidia-smi": executable file not found'),
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=none --entrypoint nvidia-smi plain:1", 127, "not found in $PATH"),
        ("-e NVIDIA_VISIBLE_DEVICES=all --entrypoint nvidia-smi plain:1", 127, "not found in $PATH"),
        # The specification that the runtime makes at each start has all of the driver, whatever an image asks for.
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all --entrypoint nvidia-smi compute:1", 0, "NVIDIA-SMI"),
        ("--gpus all --entrypoint nvidia-smi compute:1", 127, "not found in $PATH"),
        ("--gpus all -e NVIDIA_DRIVER_CAPABILITIES=all --entrypoint nvidia-smi compute:1", 0, "NVIDIA-SMI"),
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all --entrypoint python3 plain:1 -c x", 127, 'exec: "python3"'),
        ("--runtime nope plain:1", 125, "docker: Error response from daemon: unknown or invalid runtime name: nope."),
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all python:1", 125, "the sandbox's guest runs no containers"),
        ("--entrypoint python3 python:1 script.py", 125, "the sandbox's guest runs no containers"),
    ],
)
def test_the_way_to_a_gpu(here: Inside, options: str, status: int, says: str) -> None:
    """Each is another mistake of a script or an image."""
    answer = _docker(f"run --rm {options}", here)

    assert answer[0] == status, answer[1]
    assert says in answer[1]


@pytest.mark.parametrize("spoil", ["unlink", "chmod"])
def test_a_runtime_that_is_not_registered(here: Inside, spoil: str) -> None:
    """Docker takes what can be run in /etc/docker-runtimes.d and knows no other."""
    file = here.system.root / "etc/docker-runtimes.d/nvidia"
    file.unlink() if spoil == "unlink" else file.chmod(0o644)

    assert _docker(f"{RUN} --entrypoint nvidia-smi plain:1", here) == (
        125,
        "docker: Error response from daemon: unknown or invalid runtime name: nvidia.\n",
    )


CUDA = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count, text = ctypes.c_int(), ctypes.c_char_p()
code = cuda.cuInit(0)
cuda.cuDeviceGetCount(ctypes.byref(count))
cuda.cuGetErrorString(code, ctypes.byref(text))
print(code, count.value, text.value.decode() if code else "")
"""


def _cuda(here: Inside, image: str, *options: str, program: str = CUDA) -> tuple[int, str]:
    return _docker(shlex.join([*RUN.split(), *options, "--entrypoint", "python3", image, "-c", program]), here)


def test_a_program_asks_cuda(here: Inside) -> None:
    """The emulated library has the functions that a context takes, and none of any other name."""
    assert _cuda(here, "python:1") == (0, "0 2 \n")
    assert _cuda(here, "python:1", "-e", "NVIDIA_VISIBLE_DEVICES=1") == (0, "0 1 \n")
    with pytest.raises(AttributeError, match="undefined symbol: cuNope"):
        _cuda(here, "python:1", program='import ctypes; ctypes.CDLL("libcuda.so.1").cuNope()')
    assert _cuda(here, "python:1", program="raise SystemExit('words')")[0] == 1


def test_an_image_that_brings_its_own_trouble(here: Inside) -> None:
    """One that puts an older library first gets error 803."""
    assert _cuda(here, "compat:1") == (0, "803 2 system has unsupported display driver / cuda driver combination\n")


def test_capabilities_keep_no_library_back(here: Inside) -> None:
    """An image that asks for utility alone has libcuda all the same; without a GPU it has none."""
    assert _cuda(here, "utility:1") == (0, "0 2 \n")
    with pytest.raises(OSError, match=r"libcuda\.so\.1: cannot open shared object file"):
        _cuda(here, "utility:1", "-e", "NVIDIA_VISIBLE_DEVICES=none")


def test_a_pipe_under_tmp_makes_every_program_a_client(here: Inside) -> None:
    """NVIDIA's runtime mounts /tmp/nvidia-mps alone; who names another folder, or has MPS elsewhere, is none."""
    unit = here.system.root / "etc/systemd/system/nvidia-mps.service"
    assert _cuda(here, "python:1")[1].startswith("0 ")

    unit.write_text(unit.read_text().replace("Environment=", "#"))

    assert _cuda(here, "python:1")[1].startswith("805 2 MPS client failed to connect to the MPS control daemon")
    assert _cuda(here, "python:1", "-e", "CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs")[1].startswith("0 ")
    unit.write_text(unit.read_text().replace("[Service]", "[Service]\nEnvironmentFile=-/etc/mps"))
    (here.system.root / "etc/mps").write_text("CUDA_MPS_PIPE_DIRECTORY=/opt/mps\n")
    assert _cuda(here, "python:1")[1].startswith("0 ")
    (here.system.root / "etc/mps").unlink()
    systemctl.main(["systemctl", "stop", "nvidia-mps"], here.system)
    assert _cuda(here, "python:1")[1].startswith("0 ")


@pytest.mark.parametrize(
    ("met", "answer"),
    [("205", (0, "205 2 mapping of buffer object failed\n")), ("46", (0, "46 2 unknown error\n")), ("139", (139, ""))],
)
def test_a_pipe_is_met_in_other_ways_too(here: Inside, met: str, answer: tuple[int, str]) -> None:
    """Other errors than 805, and a crash, were seen; the script must not know the one alone."""
    unit = here.system.root / "etc/systemd/system/nvidia-mps.service"
    unit.write_text(unit.read_text().replace("Environment=", "#"))
    (here.system.root / "sys/module/nvidia/mps-client").write_text(f"{met}\n")

    assert _cuda(here, "python:1") == answer
    assert _cuda(here, "python:1", "-e", "CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs")[1].startswith("0 ")


@pytest.mark.parametrize(
    ("base", "is_there", "environment"),
    [
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260714-kernel-6.1-x86_64-ebs", False, ""),
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260721-kernel-6.1-x86_64-ebs", True, ""),
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260820-kernel-6.1-x86_64-ebs", True, ""),
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260901-kernel-6.1-x86_64-ebs", True, "CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs"),
        ("our-own", True, "CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs"),
        ("", True, "CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs"),
    ],
)
def test_each_release_has_its_mps(tmp_path: Path, base: str, is_there: bool, environment: str) -> None:
    """By the base AMI's name, as amazon-ecs-ami's changelog has it."""
    root = tmp_path / "root"
    machine.make_root(root, Builder("i-1", "", base=base), UserData(), tools=[], region=REGION)
    system = System(root, env={}, out=io.StringIO(), err=io.StringIO())

    state = systemctl.main(["systemctl", "is-enabled", "nvidia-mps"], system)
    systemctl.main(["systemctl", "show", "nvidia-mps", "--property=Environment", "--value"], system)

    assert (state == 0) is is_there
    assert isinstance(system.out, io.StringIO)
    assert system.out.getvalue() == (f"enabled\n{environment}\n" if is_there else "\n")


def _of_type(inside: View, instance_type: str, fault: str = "") -> Inside:
    """Return an instance of a GPU type that has booted."""
    here = inside()
    found = gpus_of(instance_type, None)
    assert found is not None
    rigged = dataclasses.replace(found, fault=fault)
    gpus.make_sys(here.system.root / "sys", rigged)
    gpus.rig(here.system.root / "run", rigged)
    systemctl.boot(here.system)
    add_image(here.system.root, "python:1", "PYTHON_VERSION=3.12")
    return here


@pytest.mark.parametrize(
    ("instance_type", "count", "describes"),
    [
        ("g4dn.xlarge", 1, "Tesla T4, 15360 MiB, [N/A], Enabled"),
        ("g5.xlarge", 1, "NVIDIA A10G, 23028 MiB, [N/A], Enabled"),
        ("g5.48xlarge", 8, "NVIDIA A10G, 23028 MiB, [N/A], Enabled"),
        ("g6.12xlarge", 4, "NVIDIA L4, 23034 MiB, [N/A], Enabled"),
        ("g6e.2xlarge", 1, "NVIDIA L40S, 46068 MiB, [N/A], Enabled"),
        ("g6f.large", 1, "NVIDIA L4, 2861 MiB, [N/A], Enabled"),
        ("p4d.24xlarge", 8, "NVIDIA A100-SXM4-40GB, 40960 MiB, Disabled, Enabled"),
        ("p4de.24xlarge", 8, "NVIDIA A100-SXM4-80GB, 81920 MiB, Disabled, Enabled"),
        ("p5.4xlarge", 1, "NVIDIA H100 80GB HBM3, 81559 MiB, Disabled, Enabled"),
        ("p5en.48xlarge", 8, "NVIDIA H200, 143771 MiB, Disabled, Enabled"),
    ],
)
def test_each_type_has_its_gpus(inside: View, instance_type: str, count: int, describes: str) -> None:
    """As many as EC2 says, with the names and the memory that nvidia-smi has for them, behind the AMI's driver."""
    here = _of_type(inside, instance_type)

    name = describes.partition(",")[0]
    listed = _smi(here, "-L")[1].splitlines()
    assert [line.partition(" (")[0] for line in listed] == [f"GPU {number}: {name}" for number in range(count)]
    asked = "--query-gpu=index,name,memory.total,mig.mode.current,persistence_mode"
    rows = _smi(here, asked, "--format=csv,noheader")[1].splitlines()
    assert rows == [f"{number}, {describes}" for number in range(count)]
    assert _smi(here, "--query-gpu=driver_version", "--format=csv,noheader")[1].split() == [DRIVER] * count
    table = _smi(here)[1]
    assert "CUDA Version: 13.0" in table
    assert table.count(name) == count
    assert len({len(line) for line in table.splitlines()}) == 1
    assert _cuda(here, "python:1") == (0, f"0 {count} \n")


def test_a_type_without_nvidia_gpus_has_none() -> None:
    """AMD's in g4ad, a video transcoder, a builder's CPU type, a type that nobody knows."""
    for name in ("g4ad.xlarge", "vt1.3xlarge", "c7i.4xlarge", "x9.nope"):
        assert gpus_of(name, None) is None


def test_the_bus_has_more_than_gpus(inside: View) -> None:
    """A script that takes the first device for the GPU is wrong on every instance."""
    here = _of_type(inside, "g5.xlarge")

    vendors = sorted((here.system.root / "sys/bus/pci/devices").glob("*/vendor"))

    assert [path.read_text() for path in vendors] == ["0x8086\n", "0x1d0f\n", "0x10de\n"]


def test_the_driver_that_is_loaded_is_the_amis(inside: View) -> None:
    """A bake that moves the module's package without its libraries has every instance of its AMI fail."""
    here = inside()
    packages = installed(here.system)
    packages["nvidia-kmod-common"] = packages["nvidia-kmod-common"]._replace(version="590.1")
    save(packages, here.system)
    gpus.make_sys(here.system.root / "sys", Gpus("A10G", 22888, 1))

    systemctl.boot(here.system)

    assert gpu.loaded(here.system) == "590.1"
    assert _smi(here)[0] == 18


def test_without_its_unit_nothing_loads_the_driver(inside: View) -> None:
    """A bake can take the unit out; then no instance has a GPU."""
    here = inside()
    systemctl.main(["systemctl", "disable", "nvidia-kmod-load"], here.system)
    gpus.make_sys(here.system.root / "sys", Gpus("A10G", 22888, 1))

    systemctl.boot(here.system)

    assert _smi(here)[0] == 9


TRIED = (
    ("missing", 0, 9, 125),
    ("not-loaded", 1, 9, 125),
    ("driver-mismatch", 1, 18, 125),
    ("two-drivers", 2, 0, 0),
    ("error-805", 1, 0, 0),
    ("no-runtime", 1, 0, 0),
)


@pytest.mark.parametrize(("fault", "count", "smi", "cuda"), TRIED)
def test_each_fault_is_another(inside: View, fault: str, count: int, smi: int, cuda: int) -> None:
    """What is on the bus, what the driver says and what a container gets; no-runtime takes its file away by a mount."""
    here = _of_type(inside, "g5.xlarge", fault)

    assert len(gpu.devices(here.system)) == count
    assert _smi(here)[0] == smi
    status, said = _cuda(here, "python:1")
    assert status == cuda
    assert said.startswith("805 ") is (fault == "error-805")
    versions = _smi(here, "--query-gpu=driver_version", "--format=csv,noheader")[1].split()
    assert (len(set(versions)) == 2 and DRIVER in versions) is (fault == "two-drivers")


def test_every_fault_is_tried() -> None:
    """A fault that is added to the table and forgotten here would be one that nobody has seen."""
    assert {row[0] for row in TRIED} == set(FAULTS)
