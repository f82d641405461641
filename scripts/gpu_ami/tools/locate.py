"""Locates installed tools of a usable version; fast, and without changing anything but a cache of known versions."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from gpu_ami.errors import ToolError
from gpu_ami.process import Command, run
from gpu_ami.tools import isolation, provider
from gpu_ami.tools.cache import Cache, user_cache
from gpu_ami.tools.pins import (
    BWRAP_MINIMUM,
    GO_MINIMUM,
    PACKER_MINIMUM,
    PLUGIN_BELOW,
    PLUGIN_MINIMUM,
    TERRAFORM_MINIMUM,
    pins,
)
from gpu_ami.tools.tool import GuestTools, PackerTools, TerraformTools, Tool, executable, host_platform, parse_version

PLUGIN = "packer-plugin-amazon"
# Where Packer keeps it below a plugin folder.
PLUGIN_HOME = Path("github.com", "hashicorp", "amazon")
GUEST_PROGRAMS = ("bwrap", "scp", "jq", "curl")
_UNRELATED = "another program"
_BROKEN = "a program that does not start here"
_ANSWER_WITHIN_S = 20.0


@dataclass(frozen=True)
class Program:
    """How to recognise a program: others share its name, and old versions of it do too little.

    Attributes:
        name: The command.
        title: Its name in a sentence.
        minimum: The oldest version that will do.
        arguments: What makes it print its version.
        says: What it prints then; the group is the version.
    """

    name: str
    title: str
    minimum: Version
    arguments: tuple[str, ...]
    says: str


# cracklib has a `packer` too, and Debian's Packer is too old for `required_plugins`.
PACKER = Program("packer", "Packer", PACKER_MINIMUM, ("version",), r"^Packer (v\S+)")
TERRAFORM = Program("terraform", "Terraform", TERRAFORM_MINIMUM, ("version",), r"^Terraform (v\S+)")
GO = Program("go", "Go", GO_MINIMUM, ("version",), r"^go version go(\S+)")
BWRAP = Program("bwrap", "bubblewrap", BWRAP_MINIMUM, ("--version",), r"^bubblewrap (\S+)")


def packer_tools() -> PackerTools:
    """Return Packer and its amazon plugin.

    Raises:
        ToolError: One of them is missing or too old.
    """
    cache = user_cache()
    packer = require(PACKER, cache)
    found = find_plugin(cache)
    if found is None:
        versions = f"{PLUGIN_MINIMUM} or newer, below {PLUGIN_BELOW}"
        msg = f"Packer's amazon plugin ({versions}) is missing: run `invoke setup`."
        raise ToolError(msg)
    plugin, folder = found
    return PackerTools(packer, plugin, folder)


def packer_program() -> Tool:
    """Return Packer alone, for what needs no plugin.

    Raises:
        ToolError: It is missing or too old.
    """
    return require(PACKER, user_cache())


def terraform_tools() -> TerraformTools:
    """Return Terraform and the local mirror of its aws provider, if there is one.

    Raises:
        ToolError: Terraform is missing or too old, or ``GPU_AMI_PROVIDER_MIRROR`` holds no usable provider.
    """
    return TerraformTools(require(TERRAFORM, user_cache()), provider.find_mirror())


def guest_tools() -> GuestTools:
    """Return what the sandbox's guest is made of, proved to work here.

    Raises:
        ToolError: A program is missing or too old, or this system refuses to isolate.
    """
    if not isolation.is_supported():
        raise ToolError(isolation.UNSUPPORTED)
    cache = user_cache()
    found = {name: tool for name in GUEST_PROGRAMS if (tool := find_borrowed(name))}
    if missing := [name for name in GUEST_PROGRAMS if name not in found]:
        msg = f"The sandbox's guest needs {', '.join(missing)} of this machine, not found on PATH: run `invoke setup`."
        raise ToolError(msg)
    found["bwrap"] = require(BWRAP, cache)
    if refusal := isolation.refusal(found["bwrap"].path):
        msg = f"{refusal.cause}: `invoke setup` says what to do." if refusal.commands else refusal.cause
        raise ToolError(msg)
    return GuestTools(**found)


def require(program: Program, cache: Cache) -> Tool:
    """Return *program* from PATH or *cache*.

    Raises:
        ToolError: It is nowhere, or only in versions that are too old; they are named.
    """
    tool, rejected = find(program, cache)
    if tool is None:
        seen = f" (found {'; '.join(rejected)})" if rejected else ""
        msg = f"{program.title} {program.minimum} or newer is missing{seen}: run `invoke setup`."
        raise ToolError(msg)
    return tool


def find(program: Program, cache: Cache) -> tuple[Tool | None, list[str]]:
    """Return the first usable *program* and what was passed over on the way: PATH goes before *cache*."""
    rejected: list[str] = []
    for path in _on_path(program.name):
        known = cache.recall(path) or _ask_once(program, path, cache)
        version = parse_version(known)
        if version is not None and version >= program.minimum:
            return Tool(program.name, known, path, "PATH"), rejected
        rejected.append(f"{path}, which is {known}")
    return _in_cache(program.name, cache), rejected


def find_plugin(cache: Cache) -> tuple[Tool, Path] | None:
    """Return the amazon plugin and its plugin folder: the user's own installation goes before *cache*."""
    ours = cache.folder(PLUGIN, pins().releases[PLUGIN].version)
    for folder in (_plugin_folder(), ours):
        usable = _plugins_in(folder)
        if usable:
            version, file = max(usable)
            return Tool(PLUGIN, str(version), file, "cache" if folder == ours else "plugins"), folder
    return None


def _plugins_in(folder: Path) -> list[tuple[Version, Path]]:
    """Return the amazon plugins that Packer would load from the plugin folder *folder* and the template accepts."""
    name = re.compile(rf"{PLUGIN}_v(\d+\.\d+\.\d+)_x\d+\.\d+_{re.escape(executable(host_platform()))}")
    found = [(name.fullmatch(file.name), file) for file in (folder / PLUGIN_HOME).glob(f"{PLUGIN}_v*")]
    versions = [(parse_version(match[1]), file) for match, file in found if match]
    return [
        (version, file)
        for version, file in versions
        # Packer ignores a plugin without its sum.
        if version and PLUGIN_MINIMUM <= version < PLUGIN_BELOW and file.with_name(f"{file.name}_SHA256SUM").is_file()
    ]


def find_borrowed(name: str) -> Tool | None:
    """Return the system's own *name*, of whatever version, or None."""
    found = shutil.which(name)
    return Tool(name, "", Path(found).absolute(), "PATH") if found else None


def ask_version(program: Program, path: Path) -> str:
    """Return the version that *path* says it has, or a phrase that says why it is not *program*.

    HashiCorp's tools would check the internet for new versions meanwhile, and Go for another Go; both are switched off.
    """
    if path.resolve().name.startswith("cracklib"):
        return _UNRELATED  # not run: it would take "version" for the name of a dictionary to write
    env = {**os.environ, "CHECKPOINT_DISABLE": "1", "GOTOOLCHAIN": "local"}
    try:
        answer = run(Command((str(path), *program.arguments), env=env), timeout_s=_ANSWER_WITHIN_S)
    except ToolError:
        return _BROKEN
    match = re.search(program.says, answer.stdout, re.MULTILINE)
    if match is None or parse_version(match[1]) is None:
        return _UNRELATED
    return match[1].removeprefix("v")


def _ask_once(program: Program, path: Path, cache: Cache) -> str:
    """Ask *path* for its version and remember an answer that will hold as long as the file does.

    A script or a link to something else is a version manager's shim: its answer changes with a setting.
    """
    known = ask_version(program, path)
    real = path.resolve()
    if known != _BROKEN and real.stem == program.name and not _is_script(real):
        cache.remember(path, known)
    return known


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True  # may be run but not read: nothing is known about it


def _in_cache(name: str, cache: Cache) -> Tool | None:
    release = pins().releases.get(name)
    if release is None:
        return None
    path = cache.folder(name, release.version) / executable(name)
    return Tool(name, release.version, path, "cache") if path.is_file() else None


def _on_path(name: str) -> Iterator[Path]:
    """Yield every program *name* on PATH once, in order: the first is not always the right one."""
    seen: set[Path] = set()
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found is not None and (real := Path(found).resolve()) not in seen:
            seen.add(real)
            yield Path(found).absolute()


def _plugin_folder() -> Path:
    """Return the folder where the user's own Packer searches for plugins, by Packer's own rules."""
    env = os.environ
    if explicit := env.get("PACKER_PLUGIN_PATH"):
        return Path(explicit).absolute()
    if sys.platform == "win32":
        return Path(env.get("PACKER_CONFIG_DIR") or env.get("APPDATA") or Path.home(), "packer.d", "plugins").absolute()
    if configured := env.get("PACKER_CONFIG_DIR"):
        return Path(configured, ".packer.d", "plugins").absolute()
    if (old := Path.home() / ".packer.d").exists():
        return old / "plugins"
    return Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config", "packer", "plugins").absolute()
