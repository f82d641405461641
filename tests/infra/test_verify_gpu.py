"""verify-gpu.sh on every kind of builder: what is read, what is said, what fails, and that nothing is set."""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.infra.box import SCRIPTS, Box, Result
from tests.infra.finished import REFERENCE

IMAGE = f"{REFERENCE}:v1"
UNUSABLE = f"a job could not use CUDA in {IMAGE}"
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
        container: Exit status of `docker run` for nvidia-smi.
        cuda: Exit status and text of `docker run` for each Python, in the order in which they are tried.
        mps: What systemd says of nvidia-mps.service; empty where there is none.
        without_mps: Exit status of a Python that cannot reach the pipe of MPS; None where that makes no difference.
        hangs: Whether a Python that can reach it never ends, and ignores what docker's client passes on.
    """

    devices: dict[str, str]
    answers: dict[str, str | None]
    nvidia_smi: bool = True
    image: bool = True
    container: int = 0
    cuda: tuple[tuple[int, str], ...] = ((0, "CUDA contexts made: 1"),)
    mps: str = ""
    without_mps: int | None = None
    hangs: bool = False


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
    pythons = "".join(
        f"  *--entrypoint\\ {python}\\ *) echo '{said}'; exit {status} ;;\n"
        for python, (status, said) in zip(("python3", "python"), (*machine.cuda, machine.cuda[-1]), strict=False)
    )
    free = f"  *CUDA_MPS_PIPE_DIRECTORY=/run/mps-ecs*) exit {machine.without_mps} ;;\n"
    hanging = "  *--entrypoint\\ python*) trap '' TERM; while :; do sleep 1; done ;;\n"
    box.fake(
        "docker",
        f"case $1 in image) {inspect} ;; run) ;; rm) exit 0 ;; *) exit 2 ;; esac\n"
        f'case "$*" in\n{free if machine.without_mps is not None else ""}{hanging if machine.hangs else ""}'
        f"{pythons}  *) exit {machine.container} ;;\nesac",
    )
    box.fake("systemctl", f"echo '{machine.mps}'; [[ -n '{machine.mps}' && '{machine.mps}' != disabled ]]")


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
    smi, python = [call for call in box.calls() if call.startswith("docker run")]
    as_jobs = (
        "docker run --rm --pull never --name gpu-ami-verify-gpu --runtime nvidia --env NVIDIA_VISIBLE_DEVICES=all "
    )
    assert smi == f"{as_jobs}--env NVIDIA_DRIVER_CAPABILITIES=compute,utility --entrypoint nvidia-smi {IMAGE} -L"
    # What the image says of the driver's capabilities counts for a job, so it counts here.
    assert python.startswith(f"{as_jobs}--entrypoint python3 {IMAGE} -c ")
    assert f"CUDA contexts made: 1, in a container of {IMAGE}" in result.said


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
        (Machine(NVIDIA, answers(), cuda=((3, "cuInit: error 803 (mismatch)"),)), f"could not use CUDA in {IMAGE}"),
        (
            Machine(NVIDIA, answers(), cuda=((125, "unknown or invalid runtime name"),)),
            f"could not use CUDA in {IMAGE}",
        ),
        (Machine(NVIDIA, answers(), cuda=((1, "Traceback"),)), f"could not use CUDA in {IMAGE}"),
        (Machine(NVIDIA, answers(), cuda=((139, ""),), mps="enabled"), f"could not use CUDA in {IMAGE}"),
        (Machine(NVIDIA, answers(), cuda=((127, "not found"), (3, "CUDA sees no GPU"))), UNUSABLE),
    ],
)
def test_gpu_that_does_not_work_fails_the_bake(box: Box, machine: Machine, said: str) -> None:
    """With a GPU there, a broken driver or runtime is the image's fault and found now, requested or not."""
    result = verify(box, machine)

    assert result.status == 1
    assert said in result.tail()


MPS_REFUSED = ((3, "cuInit: error 805 (MPS client failed to connect to the MPS control daemon or the MPS server)"),)


@pytest.mark.parametrize(
    ("pythons", "said"),
    [
        (((127, 'exec: "python3": executable file not found'), (127, "not found")), f"no Python in {IMAGE}"),
        (((4, ""),), f"the Python in {IMAGE} has no ctypes"),
        (((127, "not found"), (4, "")), f"the Python in {IMAGE} has no ctypes"),
        (((127, "not found"), (0, "CUDA contexts made: 8")), "CUDA contexts made: 8, in a container"),
    ],
)
def test_image_without_a_python_that_can_ask_is_said_and_passes(
    box: Box, pythons: tuple[tuple[int, str], ...], said: str
) -> None:
    """An image of compiled programs is as good; that nothing was tried must be in the log."""
    result = verify(box, Machine(NVIDIA, answers(), cuda=pythons))

    assert result.status == 0, result.said
    assert said in result.said
    assert "executable file not found" not in result.said, "docker's refusal is no finding"


REPAIRED = "whose pipe validate-image.sh moves; without it CUDA works"
SEE = '"MPS client failed to connect" in docs/troubleshooting.md'


@pytest.mark.parametrize(
    ("policy", "mps", "without_mps", "status", "said"),
    [
        ("repair", "enabled", 0, 0, REPAIRED),
        ("repair", "enabled", 3, 1, SEE),
        ("repair", "disabled", 0, 1, SEE),
        ("repair", "", 0, 1, SEE),
        ("fail", "enabled", 0, 1, SEE),
    ],
)
def test_error_805_passes_only_where_the_last_step_mends_it(
    box: Box, policy: str, mps: str, without_mps: int, status: int, said: str
) -> None:
    """The unit is the base AMI's and will be repaired; anything else that leads to a pipe stays in the image."""
    machine = Machine(NVIDIA, answers(), cuda=MPS_REFUSED, mps=mps, without_mps=without_mps)

    result = verify(box, machine, MPS_PIPE=policy)

    assert result.status == status, result.said
    assert MPS_REFUSED[0][1] in result.said
    assert said in result.said


OTHERWISE = {
    "205": (3, "cuInit: error 205 (mapping of buffer object failed)"),
    "46": (3, "cuCtxCreate_v2: error 46 (CUDA-capable device(s) is/are busy or unavailable)"),
    "segmentation fault": (139, ""),
    "another exception": (1, "Traceback"),
}


@pytest.mark.parametrize("outcome", OTHERWISE)
@pytest.mark.parametrize(("policy", "status", "said"), [("repair", 0, REPAIRED), ("fail", 1, SEE)])
def test_whatever_a_job_meets_at_the_pipe_it_is_tried_without(
    box: Box, outcome: str, policy: str, status: int, said: str
) -> None:
    """Of a daemon outside the container error 805 is but one outcome; each has been reported."""
    machine = Machine(NVIDIA, answers(), cuda=(OTHERWISE[outcome],), mps="enabled", without_mps=0)

    result = verify(box, machine, MPS_PIPE=policy)

    assert result.status == status, result.said
    assert f"{OTHERWISE[outcome][1] or 'nothing was said'} (status {OTHERWISE[outcome][0]})" in result.said
    assert said in result.said


@pytest.mark.parametrize(
    ("policy", "without_mps", "status", "said"),
    [("repair", 0, 0, REPAIRED), ("fail", 0, 1, SEE), ("repair", 3, 1, UNUSABLE)],
)
def test_a_container_that_hangs_is_ended_and_taken_for_a_failure(
    box: Box, policy: str, without_mps: int, status: int, said: str
) -> None:
    """Nobody would know otherwise why the bake ran into its timeout; and the container must not stay in the image."""
    machine = Machine(NVIDIA, answers(), hangs=True, mps="enabled", without_mps=without_mps)

    result = verify(box, machine, MPS_PIPE=policy, CONTAINER_SECONDS="1")

    assert result.status == status, result.said
    assert "the container did not end within 1 s (status 124)" in result.said
    assert said in result.said
    assert "docker rm --force gpu-ami-verify-gpu" in box.calls()


class _Cuda:
    """CUDA's library as the real `ctypes` calls it: what is passed by reference is written to.

    Attributes:
        calls: What was called, in order.
    """

    def __init__(self, count: int, failing: dict[str, int]) -> None:
        self.calls: list[str] = []
        self._count, self._failing = count, failing

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            values = {"cuDeviceGetCount": self._count, "cuCtxCreate_v2": 1}
            if name == "cuGetErrorString":
                arguments[1]._obj.value = None if arguments[0] == 9999 else b"what it means"
            elif name == "cuDeviceGet":
                arguments[0]._obj.value = arguments[1]
            elif name in values:
                arguments[0]._obj.value = values[name]
            return self._failing.get(name, 0)

        return call


def _source() -> str:
    """Return the Python program in the script."""
    script = (SCRIPTS / "verify-gpu.sh").read_text(encoding="utf-8")
    found = re.search(r"CUDA_PROGRAM='\n(.*?)\n'\n", script, re.DOTALL)
    assert found is not None
    return found[1]


def _program(library: _Cuda | None, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Run the script's Python program with the real `ctypes` and *library*; return its exit status and last line."""

    def load(name: str) -> _Cuda:
        if library is None or name != "libcuda.so.1":
            msg = f"{name}: cannot open shared object file"
            raise OSError(msg)
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    out, status = io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(_source(), "cuda", "exec"), {})
        except SystemExit as ended:
            status = int(str(ended.code))
    return status, out.getvalue().strip()


@pytest.mark.parametrize(
    ("library", "status", "said"),
    [
        (_Cuda(2, {}), 0, "CUDA contexts made: 2"),
        (None, 3, "libcuda.so.1 cannot be loaded: libcuda.so.1: cannot open shared object file"),
        (_Cuda(0, {}), 3, "CUDA sees no GPU"),
        (_Cuda(1, {"cuInit": 803}), 3, "cuInit: error 803 (what it means)"),
        (_Cuda(1, {"cuDeviceGetCount": 9999}), 3, "cuDeviceGetCount: error 9999 (unknown)"),
        (_Cuda(1, {"cuCtxCreate_v2": 805}), 3, "cuCtxCreate_v2: error 805 (what it means)"),
    ],
)
def test_the_program_says_what_cuda_says(
    library: _Cuda | None, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its status and its last line reach the script; types and references are those of the real `ctypes`."""
    assert _program(library, monkeypatch) == (status, said)


def test_a_context_is_made_on_each_gpu_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """One GPU of eight may be the broken one; a context that stays holds memory."""
    library = _Cuda(2, {})

    _program(library, monkeypatch)

    each = ["cuDeviceGet", "cuCtxCreate_v2", "cuCtxDestroy_v2"]
    assert library.calls == ["cuInit", "cuDeviceGetCount", *each, *each]


def test_a_python_without_ctypes_cannot_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some builds leave it out."""
    monkeypatch.setitem(sys.modules, "ctypes", None)

    with pytest.raises(SystemExit) as ended:
        exec(compile(_source(), "cuda", "exec"), {})

    assert ended.value.code == 4
