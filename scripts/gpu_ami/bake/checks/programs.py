"""Checks the programs that a bake runs on this machine: Packer, Terraform, the Session Manager plugin, the guest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from packaging.version import Version

from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables
from gpu_ami.errors import ToolError
from gpu_ami.process import find_program
from gpu_ami.tools import guest_tools, packer_tools, terraform_tools
from gpu_ami.tools.cache import user_cache
from gpu_ami.tools.locate import find_plugin

_SESSION_MANAGER = "session-manager-plugin"
# The last release before hashicorp/packer-plugin-amazon #700, which mends #675.
_TRIES_PROFILES = Version("1.8.2")


def programs(variables: BuildVariables, *, sandbox: bool) -> Iterator[tuple[str, Callable[[], Check]]]:
    """Yield a check per program that this bake needs; each runs when it is called."""
    yield "Packer", lambda: _found("Packer", packer_tools, _packer)
    yield "Terraform", lambda: _found("Terraform", terraform_tools, lambda tools: _shown(tools.terraform))
    if variables.ssh_interface == "session_manager":
        yield _SESSION_MANAGER, session_manager
    if sandbox:
        yield "guest", guest


def _found(name: str, find: Callable[[], Any], show: Callable[[Any], str]) -> Check:
    try:
        return Check(name, "ok", show(find()))
    except ToolError as exc:
        return Check(name, "fail", str(exc), "Run `invoke setup`: it finds or installs what is missing.")


def _packer(tools: Any) -> str:
    return f"{_shown(tools.packer)}, amazon plugin {tools.plugin.version} ({tools.plugin.source})"


def _shown(tool: Any) -> str:
    return f"{tool.version} ({tool.source})"


def plugin_tries_profiles() -> bool:
    """Return whether Packer's amazon plugin looks at a temporary profile through a launch that may fail on its own.

    True where there is no plugin yet: the one that `invoke setup` installs does.
    """
    found = find_plugin(user_cache())
    return found is None or Version(found[0].version) <= _TRIES_PROFILES


def session_manager() -> Check:
    """Judge whether Packer can open a tunnel."""
    found = find_program(_SESSION_MANAGER)
    if found is None:
        return Check(
            _SESSION_MANAGER,
            "fail",
            'not on PATH, and ssh_interface is "session_manager"',
            "Install the Session Manager plugin for the AWS CLI, or set another ssh_interface.",
        )
    return Check(_SESSION_MANAGER, "ok", str(found))


def guest() -> Check:
    """Judge whether this machine can have the sandbox's build instance; everything but a build works without."""
    try:
        guest_tools()
    except ToolError as exc:
        return Check(
            "guest", "warn", str(exc), "Run `invoke setup`; `invoke build --sandbox` needs it, the rest does not."
        )
    return Check("guest", "ok", "isolation and borrowed programs work: `invoke build --sandbox` can log in")
