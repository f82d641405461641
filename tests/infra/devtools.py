"""Development tools that exist as Go modules only: built once into the user's cache, by pinned version and sum.

A user of the pipeline needs none of them, so `invoke setup` does not know them.
"""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.console import Console
from gpu_ami.process import Command, become, run
from gpu_ami.tools import gobuild, packer_tools, terraform_tools
from gpu_ami.tools.cache import user_cache
from gpu_ami.tools.tool import executable

_BUILT_WITHIN_S = 900.0


@dataclass(frozen=True)
class GoTool:
    """A program that is built from a Go module.

    Attributes:
        name: The program.
        module: The module that holds it.
        package: The program's package below the module.
        version: The module's version, without the v.
        sums: Lines of go.sum that the build starts from; the rest of the module graph follows from them.
    """

    name: str
    module: str
    package: str
    version: str
    sums: tuple[str, ...]


ACTIONLINT = GoTool(
    "actionlint",
    "github.com/rhysd/actionlint",
    "cmd/actionlint",
    "1.7.12",
    (
        "github.com/rhysd/actionlint v1.7.12 h1:vQ4GeJN86C0QH+gTUQcs8McmK62OLT3kmakPMtEWYnY=",
        "github.com/rhysd/actionlint v1.7.12/go.mod h1:krOUhujIsJusovkaYzQ/VNH8PFexjNKqU0q5XI/4w+g=",
    ),
)

TFLINT = GoTool(
    "tflint",
    "github.com/terraform-linters/tflint",
    "",
    "0.64.0",
    (
        "github.com/terraform-linters/tflint v0.64.0 h1:v0KwryBjBeo79uqFrYQOllZk3l/nQvH/e4SZW45jhA8=",
        "github.com/terraform-linters/tflint v0.64.0/go.mod h1:hjXBiZYAGYT0+eha03nbQc6LxuFd8+TgQS7gSDBLyq4=",
    ),
)


def go_tool(tool: GoTool) -> Path:
    """Return the pinned *tool*, built first where the user's cache has none."""
    cache = user_cache()
    program = cache.folder(tool.name, tool.version) / executable(tool.name)
    if program.is_file():
        return program
    console = Console(err=io.StringIO())
    with cache.locked(console):
        if program.is_file():  # another run built it while this one waited
            return program
        go = gobuild.toolchain(cache, console)
        with cache.staging() as folder:
            _build(tool, go, folder)
            return cache.publish(folder / "bin", tool.name, tool.version) / program.name


def _build(tool: GoTool, go: Path, folder: Path) -> None:
    lines = ("module gpu-ami/devtool", "go 1.24.0", f"require {tool.module} v{tool.version}")
    (folder / "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "go.sum").write_text("".join(f"{line}\n" for line in tool.sums), encoding="utf-8")
    target = folder / "bin" / executable(tool.name)
    arguments = ("build", "-mod=mod", "-trimpath", "-o", str(target), f"{tool.module}/{tool.package}".rstrip("/"))
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
    done = run(Command((str(go), *arguments), cwd=folder, env=env), timeout_s=_BUILT_WITHIN_S)
    assert done.returncode == 0, done.stderr


def program(name: str) -> Path:
    """Return the program *name* that a pre-commit hook runs: as the tests find it, also where it is not on PATH."""
    if name == "packer":
        return packer_tools().packer.path
    if name == "terraform":
        return terraform_tools().terraform.path
    return go_tool({"actionlint": ACTIONLINT}[name])


if __name__ == "__main__":
    # `python -m tests.infra.devtools PROGRAM ARGUMENTS…`
    become((str(program(sys.argv[1])), *sys.argv[2:]))
