"""`docker run` of the emulated docker: no containers, but the way of one with a GPU to nvidia-smi and to CUDA.

That way is the ECS agent's: the runtime ``nvidia`` and NVIDIA_VISIBLE_DEVICES. What is refused on it, with which text:

- a runtime that the daemon does not know: moby's "unknown or invalid runtime name" (nvidia-container-toolkit #150);
- a driver that does not answer, a device that is not there: the runtime of toolkit 1.18 makes the CDI specification at
  each start; its chain of messages is in internal/modifier/cdi.go and pkg/nvcdi/lib-nvml.go, behind containerd's;
- ``--gpus`` on such a driver: the hook of libnvidia-container (nvidia-container-toolkit #394);
- a program that the image does not have: runc's "executable file not found in $PATH", status 127.

That specification has all of the driver: internal/modifier/cdi.go does not read NVIDIA_DRIVER_CAPABILITIES. Only the
hook of ``--gpus`` picks by it.
"""

from __future__ import annotations

import os

from gpu_ami_sandbox.guest.programs import cuda, gpu, nvidia_smi
from gpu_ami_sandbox.guest.programs.docker_arguments import Arguments
from gpu_ami_sandbox.guest.programs.images import Image, Store, normal
from gpu_ami_sandbox.guest.programs.system import System

_RUNTIMES = "/etc/docker-runtimes.d"
_BUILT_IN = ("runc", "io.containerd.runc.v2")
_DAEMON = "docker: Error response from daemon: "
_CREATE = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
_RUNC = "runc create failed: unable to start container process: error during container init: "
_HOOK = "error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\n"
_CDI = 'failed to create the automatic CDI modifier: failed to generate CDI spec for mode "auto": '
_SPEC = "failed to construct device spec generators: "
_PYTHONS = ("python3", "python")
# Where images have a libcuda of their own for older drivers; it goes before the host's where an image says so.
_COMPAT = "/usr/local/cuda/compat"
_NO_GPUS = ("", "none", "void")
# What a client meets here at the pipe of the instance's MPS, if not error 805: nobody has said on what that hangs.
_CLIENT = "/sys/module/nvidia/mps-client"


def run(arguments: Arguments, system: System) -> int:
    """Run nvidia-smi or a Python program as a container could; refuse as Docker does, and any other program."""
    if not arguments.plain:
        return system.fail(1, '"docker run" requires at least 1 argument.', "See 'docker run --help'.")
    image = Store(system).find(arguments.plain[0])
    if image is None:
        name = normal(arguments.plain[0])
        return system.fail(125, f"Unable to find image '{name}' locally", f"{_DAEMON}pull it first.")
    runtime = arguments.flags.get("--runtime", "runc")
    if runtime not in _BUILT_IN and not os.access(system.path(f"{_RUNTIMES}/{runtime}"), os.X_OK):
        return system.fail(125, f"{_DAEMON}unknown or invalid runtime name: {runtime}.")
    environment = _environment(image, arguments)
    devices = environment.get("NVIDIA_VISIBLE_DEVICES", "") if runtime == "nvidia" else ""
    devices = "all" if arguments.has("--gpus") else devices
    if devices not in _NO_GPUS and (refused := _no_gpu(devices, arguments, system)):
        return system.fail(125, f"{_DAEMON}{_CREATE}{refused}: unknown.")
    return _start(image, arguments, environment, devices, system)


def _environment(image: Image, arguments: Arguments) -> dict[str, str]:
    """Return the container's environment: the image's, then the command line's."""
    lines = [*(image.config.get("config", {}).get("Env") or ()), *arguments.repeated.get("--env", ())]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _no_gpu(devices: str, arguments: Arguments, system: System) -> str:
    """Return why the container does not get *devices*; empty when it does."""
    problem = gpu.problem(system)
    if problem is not None and arguments.has("--gpus"):
        text = f"nvidia-container-cli: initialization error: nvml error: {problem[1].lower()}"
        return f"{_RUNC}{_HOOK}{text}"
    if problem is not None:
        return f"{_CDI}{_SPEC}failed to initialize NVML: {problem[1]}"
    known = gpu.uuids(system)
    for device in devices.split(","):
        if device.startswith("GPU-") and device not in known:
            return f"{_CDI}{_SPEC}failed to get device handle from UUID: Not Found"
        if device.isdecimal() and int(device) >= len(known):
            return f"{_CDI}{_SPEC}failed to get device handle from index: Invalid Argument"
        if device != "all" and not device.isdecimal() and device not in known:
            return f'{_CDI}{_SPEC}identifier is not a valid UUID or index: "{device}"'
    return ""


def _start(image: Image, arguments: Arguments, environment: dict[str, str], devices: str, system: System) -> int:
    entrypoint = arguments.flags.get("--entrypoint", "")
    command = [entrypoint] if entrypoint else list(image.config.get("config", {}).get("Entrypoint") or ())
    command += arguments.plain[1:]
    has_gpu, parts = devices not in _NO_GPUS, _parts(arguments, environment)
    if command[:1] == ["nvidia-smi"]:
        return nvidia_smi.main(command, system) if has_gpu and "utility" in parts else _not_found("nvidia-smi", system)
    if command[:1] and command[0] in _PYTHONS:
        # Docker's own Python images, and those made from them, say the version so.
        if "PYTHON_VERSION" not in environment:
            return _not_found(command[0], system)
        if command[1:2] == ["-c"] and len(command) == 3:
            has_cuda = has_gpu and "compute" in parts
            return cuda.run_python(command[2], _library(environment, devices, system) if has_cuda else None, system)
    return system.fail(125, f"{_DAEMON}the sandbox's guest runs no containers.")


def _parts(arguments: Arguments, environment: dict[str, str]) -> set[str]:
    """Return which parts of the driver a container with a GPU is given."""
    everything = {"compute", "utility"}
    wanted = set((environment.get("NVIDIA_DRIVER_CAPABILITIES") or "compute,utility").split(","))
    return wanted if arguments.has("--gpus") and "all" not in wanted else everything


def _not_found(program: str, system: System) -> int:
    text = f'{_RUNC}exec: "{program}": executable file not found in $PATH'
    return system.fail(127, f"{_DAEMON}{_CREATE}{text}: unknown.")


def _library(environment: dict[str, str], devices: str, system: System) -> cuda.Library:
    """Return the container's libcuda. The runtime puts /tmp/nvidia-mps of the host, and no other folder, into it."""
    wanted = environment.get("CUDA_MPS_PIPE_DIRECTORY") or gpu.MPS_DEFAULT
    is_client = wanted == gpu.MPS_DEFAULT == gpu.mps_pipe(system)
    count = len(gpu.uuids(system)) if devices == "all" else len(devices.split(","))
    if _COMPAT in environment.get("LD_LIBRARY_PATH", "").split(":"):
        return cuda.Library(count, cuda.SYSTEM_DRIVER_MISMATCH)
    return cuda.Library(count, _met(system) if is_client else 0)


def _met(system: System) -> int:
    path = system.path(_CLIENT)
    return int(path.read_text(encoding="utf-8")) if path.exists() else cuda.MPS_CONNECTION_FAILED
