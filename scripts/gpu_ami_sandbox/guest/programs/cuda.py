"""Emulates CUDA's driver library for a Python program in a container: runs the program with a `ctypes` that has it.

Error 805 is what CUDA says where it finds a pipe of MPS and cannot become a client (nvidia-container-toolkit #714); it
has been seen to say 205 there (enroot #206) and to crash (nvidia-docker #1396). It says 803 where its library fits no
driver that the kernel has. Numbers and texts are cuda.h's and cuGetErrorString's.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable
from typing import Any

from gpu_ami_sandbox.guest.programs.system import System

MPS_CONNECTION_FAILED = 805
MAP_FAILED = 205
# No number of CUDA's: what a shell says of a program that the kernel has ended with SIGSEGV.
CRASH = 139
SYSTEM_DRIVER_MISMATCH = 803
NO_DEVICE = 100
_NO_LIBRARY = "libcuda.so.1: cannot open shared object file: No such file or directory"
_TEXTS = {
    MAP_FAILED: "mapping of buffer object failed",
    NO_DEVICE: "no CUDA-capable device is detected",
    SYSTEM_DRIVER_MISMATCH: "system has unsupported display driver / cuda driver combination",
    MPS_CONNECTION_FAILED: "MPS client failed to connect to the MPS control daemon or the MPS server",
}


class _Value:
    """A C variable: a number, a pointer or a text."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


class Library:
    """``libcuda.so.1``.

    Args:
        devices: How many GPUs it sees.
        problem: What its first call ends with; 0 when it works. CRASH ends the program.
    """

    def __init__(self, devices: int, problem: int) -> None:
        self._devices, self._problem = devices, problem
        self._calls: dict[str, Callable[..., int]] = {
            "cuInit": lambda _flags: self._init(),
            "cuDeviceGetCount": lambda count: _put(count, self._devices),
            "cuDeviceGet": lambda device, index: _put(device, index),
            "cuCtxCreate_v2": lambda context, _flags, _device: _put(context, 1),
            "cuCtxDestroy_v2": lambda _context: 0,
            "cuGetErrorString": lambda code, text: _put(text, _TEXTS.get(code, "unknown error").encode()),
        }

    def _init(self) -> int:
        if self._problem == CRASH:
            raise SystemExit(CRASH)
        return self._problem or (0 if self._devices else NO_DEVICE)

    def __getattr__(self, name: str) -> Callable[..., int]:
        """Return the function *name*, or say as the loader does that there is none."""
        try:
            return self._calls[name]
        except KeyError:
            msg = f"libcuda.so.1: undefined symbol: {name}"
            raise AttributeError(msg) from None


def _put(variable: _Value, value: object) -> int:
    variable.value = value
    return 0


def run_python(program: str, library: Library | None, system: System) -> int:
    """Run the Python *program* with *library* as the container's libcuda; None for a container without one."""

    def load(name: str) -> Library:
        if library is None or name != "libcuda.so.1":
            raise OSError(_NO_LIBRARY.replace("libcuda.so.1", name))
        return library

    ctypes: Any = types.ModuleType("ctypes")
    ctypes.CDLL, ctypes.byref = load, lambda variable: variable
    ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p = _Value, _Value, _Value
    real = sys.modules.get("ctypes")
    sys.modules["ctypes"] = ctypes
    try:
        with contextlib.redirect_stdout(system.out):
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as `python -c` does
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.modules.pop("ctypes")
        if real is not None:
            sys.modules["ctypes"] = real
    return 0
