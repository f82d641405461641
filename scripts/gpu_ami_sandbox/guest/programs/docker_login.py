"""`docker login` and `docker logout`: the token is checked with the registry, then kept in DOCKER_CONFIG."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from gpu_ami_sandbox.guest.programs.docker_arguments import Arguments
from gpu_ami_sandbox.guest.programs.registry import PullError, Reference, Registry
from gpu_ami_sandbox.guest.programs.system import System

_DOCKER_HUB = "https://index.docker.io/v1/"


def config_path(system: System) -> Path:
    """Return the client's configuration file."""
    folder = system.env.get("DOCKER_CONFIG") or f"{system.env.get('HOME', '/root')}/.docker"
    return system.path(f"{folder}/config.json")


def authorization(host: str, system: System) -> str:
    """Return what a login has stored for *host*; empty without one."""
    entry = _read(config_path(system)).get("auths", {}).get(host, {})
    return str(entry.get("auth", ""))


def login(arguments: Arguments, system: System) -> int:
    """Check user and password with the registry and store them."""
    host = arguments.plain[0].removeprefix("https://").rstrip("/") if arguments.plain else _DOCKER_HUB
    user = arguments.flags.get("--username", "")
    if arguments.has("--password-stdin"):
        if not user:
            return system.fail(1, "Must provide --username with --password-stdin")
        password = system.stdin.read().rstrip("\r\n")
    elif arguments.has("--password"):
        password = arguments.flags["--password"]
        system.fail(0, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    else:
        return system.fail(1, "Error: Cannot perform an interactive login from a non TTY device")
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    try:
        refused = Registry(Reference(host, "", "", ""), encoded, system).check_login()
    except PullError as exc:
        return system.fail(1, f"Error response from daemon: {exc}")
    if refused:
        return system.fail(
            1, f"Error response from daemon: login attempt to https://{host}/v2/ failed with status: {refused}"
        )
    path = config_path(system)
    config = _read(path)
    config.setdefault("auths", {})[host] = {"auth": encoded}
    _write(path, config)
    shown = f"{system.env.get('DOCKER_CONFIG') or system.env.get('HOME', '/root') + '/.docker'}/config.json"
    system.fail(
        0,
        f"WARNING! Your password will be stored unencrypted in {shown}.",
        "Configure a credential helper to remove this warning.",
    )
    system.say("Login Succeeded")
    return 0


def logout(arguments: Arguments, system: System) -> int:
    """Forget the registry's login."""
    host = arguments.plain[0] if arguments.plain else _DOCKER_HUB
    path = config_path(system)
    config = _read(path)
    if host not in config.get("auths", {}):
        system.say(f"Not logged in to {host}")
        return 0
    del config["auths"][host]
    _write(path, config)
    system.say(f"Removing login credentials for {host}")
    return 0


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _write(path: Path, config: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(json.dumps(config, indent="\t"), encoding="utf-8")
    path.chmod(0o600)
