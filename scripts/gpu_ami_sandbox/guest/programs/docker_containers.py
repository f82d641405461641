"""Docker's commands about containers, volumes and the daemon itself."""

from __future__ import annotations

import shutil

from gpu_ami_sandbox.guest.programs.docker_arguments import Arguments
from gpu_ami_sandbox.guest.programs.images import Json, Store
from gpu_ami_sandbox.guest.programs.system import System

_ARE_YOU_SURE = "Are you sure you want to continue? [y/N] "


def list_containers(arguments: Arguments, system: System) -> int:
    """Print the containers that run, with --all every one."""
    containers = [c for c in Store(system).containers() if arguments.has("--all") or c["State"]["Running"]]
    rows = [
        {
            "ID": container["ID"][: 64 if arguments.has("--no-trunc") else 12],
            "Image": container["Config"]["Image"],
            "Names": container["Name"].lstrip("/"),
            "Status": "Up 1 minute" if container["State"]["Running"] else "Exited (0) 1 minute ago",
        }
        for container in containers
    ]
    if arguments.has("--quiet"):
        system.say(*(row["ID"] for row in rows))
        return 0
    system.say("CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES")
    system.say(*(f"{row['ID']}   {row['Image']}   {row['Status']}   {row['Names']}" for row in rows))
    return 0


def _find(name: str, system: System) -> Json | None:
    containers = Store(system).containers()
    return next((c for c in containers if c["Name"] == f"/{name}" or c["ID"].startswith(name)), None)


def remove(arguments: Arguments, system: System) -> int:
    """Remove containers; running ones only with --force."""
    status = 0
    for name in arguments.plain:
        container = _find(name, system)
        if container is None:
            # With --force a missing container is no failure.
            status = system.fail(
                0 if arguments.has("--force") else 1, f"Error response from daemon: No such container: {name}"
            )
        elif container["State"]["Running"] and not arguments.has("--force"):
            text = f'cannot remove container "{container["Name"]}": container is running'
            status = system.fail(
                1, f"Error response from daemon: {text}: stop the container before removing or force remove"
            )
        else:
            Store(system).remove_container(container)
            system.say(name)
    return status


def prune(arguments: Arguments, system: System) -> int:
    """Remove the containers that do not run."""
    if _confirmed(arguments, system):
        store = Store(system)
        stopped = [container for container in store.containers() if not container["State"]["Running"]]
        for container in stopped:
            store.remove_container(container)
        system.say(*(["Deleted Containers:"] if stopped else []), *(container["ID"] for container in stopped))
        system.say("Total reclaimed space: 0B")
    return 0


def prune_volumes(arguments: Arguments, system: System) -> int:
    """Remove the volumes: no container uses one."""
    if _confirmed(arguments, system):
        for path in Store(system).volumes():
            shutil.rmtree(path)
        system.say("Total reclaimed space: 0B")
    return 0


def _confirmed(arguments: Arguments, system: System) -> bool:
    """Return whether to go on: with --force, or when standard input says so."""
    if arguments.has("--force"):
        return True
    system.say(_ARE_YOU_SURE)
    return system.stdin.readline().strip().lower() in ("y", "yes")
