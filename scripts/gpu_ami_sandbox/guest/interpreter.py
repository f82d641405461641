"""The Python that runs the guest's emulated programs and its AWS CLI: this process's own, bound read-only."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from gpu_ami.errors import ToolError
from gpu_ami_sandbox.guest import layout
from gpu_ami_sandbox.guest.bubblewrap import Bind

_MAPS = Path("/proc/self/maps")
_AWS_CLI = "awscli"
_HOME = str(Path(layout.INTERPRETER).parent.parent)


# Debian's own libpython lies where the loader looks first, and is another build of the same version.
_WRAPPER = f"""\
#!{layout.PROGRAMS}/bash
LD_LIBRARY_PATH={_HOME}/lib exec -a "$0" {layout.INTERPRETER}.real "$@"
"""


def python_binds() -> list[Bind]:
    """Return the interpreter, its standard library and, where it has one, its shared library.

    Python finds its library from where its executable lies, so the three keep their positions relative to each other:
    pyenv's, the system's and uv's Pythons all do.
    """
    # In a virtual environment sys.executable is a link to this one.
    executable = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    library = Path(os.__file__).resolve().parent
    shared = shared_library()
    binds = [
        Bind(executable, layout.INTERPRETER if shared is None else f"{layout.INTERPRETER}.real"),
        Bind(library, f"{_HOME}/{sys.platlibdir}/{library.name}"),
    ]
    return binds if shared is None else [*binds, Bind(shared, f"{_HOME}/lib/{shared.name}")]


def wrapper() -> str | None:
    """Return the script to bind as the interpreter where the loader has to be told of its shared library."""
    return None if shared_library() is None else _WRAPPER


def shared_library() -> Path | None:
    """Return the libpython that this process runs on; None where it is part of the executable or the system's own.

    What the build's settings say of it is of no use: a moved Python (uv's are) keeps those of its build machine.
    """
    mapped = re.search(r"(/\S*/libpython[\w.]*\.so[\w.]*)$", _MAPS.read_text(encoding="utf-8"), re.MULTILINE)
    return None if mapped is None or mapped[1].startswith("/usr/lib") else Path(mapped[1])


def aws_cli_binds() -> list[Bind]:
    """Return the packages of the AWS CLI and of what it depends on, and nothing else of this environment.

    Raises:
        ToolError: The AWS CLI is not installed in this environment.
    """
    try:
        names = sorted(_closure(_AWS_CLI))
    except importlib.metadata.PackageNotFoundError as exc:
        msg = f"The guest's AWS CLI is missing ({exc.args[0]} is not installed): run `uv sync --group sandbox`."
        raise ToolError(msg) from exc
    return [
        Bind(path, f"{layout.SITE}/{path.name}")
        for name in names
        for path in _top_level(importlib.metadata.distribution(name))
    ]


def uncompiled() -> list[Path]:
    """Return the packages of the AWS CLI that lack bytecode; without it each call compiles for a second.

    uv installs packages without, and the guest, which sees them read-only, cannot add it.
    """
    return [bind.source for bind in aws_cli_binds() if bind.source.is_dir() and not _is_compiled(bind.source)]


def _is_compiled(package: Path) -> bool:
    return all(Path(importlib.util.cache_from_source(str(file))).exists() for file in package.rglob("*.py"))


def _closure(name: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return *name* and all distributions it requires here, without extras."""
    seen |= {name}
    for requirement in importlib.metadata.distribution(name).requires or ():
        required = re.match(r"[A-Za-z0-9._-]+", requirement)
        if required is None or "extra ==" in requirement:
            continue
        name = required[0].lower()
        if name not in seen and _applies(name):
            seen = _closure(name, seen)
    return seen


def _applies(name: str) -> bool:
    """Return whether *name* is installed: what a marker excludes on this machine is not."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _top_level(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    """Yield the packages and modules that *distribution* brings."""
    names = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    for name in sorted(names):
        if not name.endswith((".dist-info", ".pth", "__pycache__")):
            yield Path(str(distribution.locate_file(name))).resolve()
