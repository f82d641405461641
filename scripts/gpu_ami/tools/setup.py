"""`invoke setup`: installs missing tools without asking, and leaves present ones alone."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_ami import process
from gpu_ami.console import Console
from gpu_ami.errors import ToolError
from gpu_ami.process import Command
from gpu_ami.tools import download, gobuild, isolation, locate, provider, system_packages
from gpu_ami.tools.cache import Cache, user_cache
from gpu_ami.tools.pins import PROVIDER_MINIMUM, TERRAFORM_MINIMUM, pins
from gpu_ami.tools.tool import Tool, executable

_DOWNLOAD_SPACE_BYTES = 500 * 1024**2


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke setup`` requested.

    Attributes:
        guest: Whether the sandbox's isolation is installed too.
        dry_run: Whether nothing is searched for or installed.
    """

    guest: bool = True
    dry_run: bool = False


def run(console: Console, request: Request) -> None:
    """Find or install every tool and name it; `setup` says what can go wrong."""
    if request.dry_run:
        console.would("find or install Packer, its amazon plugin, Terraform and bubblewrap.")
        return
    console.for_programs({"tools": [tool.document() for tool in setup(console, guest=request.guest)]})


def setup(console: Console, *, guest: bool = True) -> list[Tool]:
    """Find every tool of the pipeline, install the missing ones and return them all.

    Problems with one tool do not keep the others from being installed; all are told in the end.

    Args:
        console: Says what is found and done.
        guest: Whether the sandbox's isolation is installed too; a machine that only works on AWS needs none.

    Raises:
        ToolError: Something could not be installed.
    """
    try:
        return _setup(user_cache(), console, guest=guest)
    except OSError as exc:
        where = f" ({exc.filename})" if exc.filename else ""
        msg = f"The tools could not be installed: {exc.strerror or exc}{where}. GPU_AMI_CACHE_DIR names another folder."
        raise ToolError(msg) from exc


def _setup(cache: Cache, console: Console, *, guest: bool) -> list[Tool]:
    tools = _present(cache, guest=guest)
    if tools is None:
        with cache.locked(console):
            tools = _install_missing(cache, console, guest=guest)
    for tool in tools:
        console.say(f"{tool.name} {tool.version}".rstrip() + f": {tool.path} ({tool.source})")
    if not any(tool.name == "terraform-provider-aws" for tool in tools):
        console.say(f"terraform-provider-aws: no mirror here, `terraform init` fetches {PROVIDER_MINIMUM} or newer")
    return tools


def _present(cache: Cache, *, guest: bool) -> list[Tool] | None:
    """Return all tools if nothing is missing: the common case, which needs no lock."""
    try:
        packer = locate.packer_tools()
        terraform = locate.require(locate.TERRAFORM, cache)
        return [packer.packer, packer.plugin, terraform, *_provider(), *(_guest() if guest else [])]
    except ToolError:
        return None


def _install_missing(cache: Cache, console: Console, *, guest: bool) -> list[Tool]:
    problems: list[str] = []
    tools: list[Tool] = []
    installers = (*((_install_guest,) if guest else ()), _install_packer, _install_terraform)
    for install in installers:
        try:
            tools += install(cache, console)
        except ToolError as exc:
            problems.append(str(exc))
    if problems:
        raise ToolError(" ".join(dict.fromkeys(problems)))
    return tools


def _install_packer(cache: Cache, console: Console) -> list[Tool]:
    packer = _installed(locate.PACKER, cache, console)
    plugin = locate.find_plugin(cache)
    found = {"packer": packer, locate.PLUGIN: plugin}
    with contextlib.ExitStack() as stack:
        folders = {name: stack.enter_context(cache.staging()) for name, tool in found.items() if tool is None}
        source = _Source(folders, cache, console)
        if packer is None:
            packer = _publish_program(locate.PACKER, source.obtain("packer"), folders["packer"], cache)
        if plugin is None:
            plugins = folders[locate.PLUGIN] / "plugins"
            _install_plugin(packer.path, source.obtain(locate.PLUGIN), plugins)
            cache.publish(plugins, locate.PLUGIN, pins().releases[locate.PLUGIN].version)
            plugin = locate.find_plugin(cache)
    if plugin is None:
        msg = f"Packer took the amazon plugin, yet none is in {cache.root}: remove that folder and try again."
        raise ToolError(msg)
    return [packer, plugin[0]]


def _install_terraform(cache: Cache, console: Console) -> list[Tool]:
    terraform = _installed(locate.TERRAFORM, cache, console)
    if terraform is None:
        with cache.staging() as folder:
            try:
                program = _download("terraform", folder, cache, console)
            except download.RouteClosedError as exc:
                msg = f"Terraform {TERRAFORM_MINIMUM} or newer is not on PATH, and {exc}: put one there."
                raise ToolError(msg) from exc
            terraform = _publish_program(locate.TERRAFORM, program, folder, cache)
    return [terraform, *_provider()]


def _install_guest(cache: Cache, console: Console) -> list[Tool]:
    if not isolation.is_supported():
        console.warn(isolation.UNSUPPORTED)
        return []
    if missing := [name for name in locate.GUEST_PROGRAMS if not locate.find_borrowed(name)]:
        system_packages.install(missing, console)
    bwrap = locate.require(locate.BWRAP, cache)
    if refusal := isolation.refusal(bwrap.path):
        if not refusal.commands:
            raise ToolError(refusal.cause)
        console.say_text(refusal.commands)
        msg = f"{refusal.cause}: run the commands above, then `invoke setup` again."
        raise ToolError(msg)
    return _guest()


def _guest() -> list[Tool]:
    if not isolation.is_supported():
        return []
    guest = locate.guest_tools()
    return [guest.bwrap, guest.scp, guest.jq, guest.curl]


def _provider() -> list[Tool]:
    mirror = provider.find_mirror()
    version = provider.newest_provider(mirror) if mirror else None
    return [Tool("terraform-provider-aws", str(version), mirror, "mirror")] if mirror and version else []


def _installed(program: locate.Program, cache: Cache, console: Console) -> Tool | None:
    """Return *program* if a usable one is here, and say which ones are passed over if not."""
    tool, rejected = locate.find(program, cache)
    if tool is None:
        for line in rejected:
            console.say(f"Passing over {line}.")
    return tool


class _Source:
    """Where the missing products come from: the official release of each, or else its source.

    Args:
        folders: The folder that each missing product is made in, by product.
        cache: Where they are published in the end.
        console: Says what is done.
    """

    def __init__(self, folders: Mapping[str, Path], cache: Cache, console: Console) -> None:
        self._folders = folders
        self._cache = cache
        self._console = console
        self._releases: dict[str, Path | ToolError] = {}

    def obtain(self, product: str) -> Path:
        """Return the pinned *product* as a program in its folder.

        Before the first one is built, the modules of all that will be are fetched side by side.

        Raises:
            ToolError: The release is not what it should be, or neither it nor a build can be had.
        """
        release = self._release(product)
        if isinstance(release, Path):
            return release
        if not isinstance(release, download.RouteClosedError):
            raise release
        try:
            return gobuild.build(product, self._folders[product], self._cache, self._console, self._go)
        except ToolError as exc:
            msg = f"{exc} (Not downloaded either: {release}.)"
            raise ToolError(msg) from exc

    @functools.cached_property
    def _go(self) -> Path:
        """The Go that builds, with the modules of what it will build."""
        go = gobuild.toolchain(self._cache, self._console)
        releases = {product: self._release(product) for product in self._folders}
        closed = [product for product in releases if isinstance(releases[product], download.RouteClosedError)]
        gobuild.fetch({product: self._folders[product] for product in closed}, self._cache, self._console, go)
        return go

    def _release(self, product: str) -> Path | ToolError:
        """Return the official release of *product*, or why it cannot be had; it is tried once."""
        if product not in self._releases:
            try:
                self._releases[product] = _download(product, self._folders[product], self._cache, self._console)
            except download.RouteClosedError as exc:
                self._console.say(f"{product}: {exc}; it is built from source instead.")
                self._releases[product] = exc
            except ToolError as exc:
                self._releases[product] = exc
        return self._releases[product]


def _download(product: str, folder: Path, cache: Cache, console: Console) -> Path:
    download.known_sum(product)
    version = pins().releases[product].version
    cache.require_space(f"Downloading {product} {version}", _DOWNLOAD_SPACE_BYTES)
    with console.step(f"Downloading {product} {version}") as note:
        return download.fetch_release(product, folder, note)


def _publish_program(program: locate.Program, file: Path, folder: Path, cache: Cache) -> Tool:
    """Put the *file* in the cache after it has proved that it runs here and is what it should be."""
    version = pins().releases[program.name].version
    if (says := locate.ask_version(program, file)) != version:
        msg = f"The {program.title} {version} that was installed turned out to be {says}: install it yourself on PATH."
        raise ToolError(msg)
    ready = folder / "ready"
    ready.mkdir()
    file.rename(ready / executable(program.name))
    home = cache.publish(ready, program.name, version)
    return Tool(program.name, version, home / executable(program.name), "cache")


def _install_plugin(packer: Path, plugin: Path, folder: Path) -> None:
    """Have *packer* check the *plugin* and put it into the plugin folder *folder*, with its checksum file."""
    folder.mkdir()
    env = {**os.environ, "PACKER_PLUGIN_PATH": str(folder), "CHECKPOINT_DISABLE": "1"}
    argv = (str(packer), "plugins", "install", "--path", str(plugin), locate.PLUGIN_HOME.as_posix())
    done = process.run(Command(argv, env=env), timeout_s=120)
    if done.returncode != 0:
        msg = f"Packer refused the amazon plugin: {done.last_line}"
        raise ToolError(msg)
