"""Docker's commands about containers, volumes and the daemon itself."""

from __future__ import annotations

import json

from gpu_ami.sandbox.guest.stand_ins.docker_images import confirmed, formatted, prune_images
from gpu_ami.sandbox.guest.stand_ins.docker_words import Words
from gpu_ami.sandbox.guest.stand_ins.images import Json, Store, normal
from gpu_ami.sandbox.guest.stand_ins.system import System

VERSION = "25.0.16"
_NO_DRIVER = (
    "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime "
    "create failed: runc create failed: unable to start container process: error during container init: error running "
    "prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\n"
    "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown."
)


def list_containers(words: Words, system: System) -> int:
    """Print the containers that run, with --all every one."""
    containers = [c for c in Store(system).containers() if words.has("--all") or c["State"]["Running"]]
    rows = [
        {
            "ID": container["ID"][: 64 if words.has("--no-trunc") else 12],
            "Image": container["Config"]["Image"],
            "Names": container["Name"].lstrip("/"),
            "Status": "Up 1 minute" if container["State"]["Running"] else "Exited (0) 1 minute ago",
        }
        for container in containers
    ]
    if words.has("--quiet"):
        system.say(*(row["ID"] for row in rows))
        return 0
    if words.has("--format"):
        return formatted(words.flags["--format"], rows, system)
    system.say("CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES")
    system.say(*(f"{row['ID']}   {row['Image']}   {row['Status']}   {row['Names']}" for row in rows))
    return 0


def _find(name: str, system: System) -> Json | None:
    containers = Store(system).containers()
    return next((c for c in containers if c["Name"] == f"/{name}" or c["ID"].startswith(name)), None)


def stop(words: Words, system: System) -> int:
    """Stop containers."""
    status = 0
    for name in words.plain:
        container = _find(name, system)
        if container is None:
            status = system.fail(1, f"Error response from daemon: No such container: {name}")
            continue
        container["State"]["Running"] = False
        Store(system).save_container(container)
        system.say(name)
    return status


def remove(words: Words, system: System) -> int:
    """Remove containers; running ones only with --force."""
    status = 0
    for name in words.plain:
        container = _find(name, system)
        if container is None:
            # With --force a missing container is no failure.
            status = system.fail(
                0 if words.has("--force") else 1, f"Error response from daemon: No such container: {name}"
            )
        elif container["State"]["Running"] and not words.has("--force"):
            text = f'cannot remove container "{container["Name"]}": container is running'
            status = system.fail(
                1, f"Error response from daemon: {text}: stop the container before removing or force remove"
            )
        else:
            Store(system).remove_container(container)
            system.say(name)
    return status


def prune(words: Words, system: System) -> int:
    """Remove the containers that do not run."""
    if confirmed(words, system):
        _prune_containers(system)
        system.say("Total reclaimed space: 0B")
    return 0


def _prune_containers(system: System) -> None:
    store = Store(system)
    stopped = [container for container in store.containers() if not container["State"]["Running"]]
    for container in stopped:
        store.remove_container(container)
    system.say(*(["Deleted Containers:"] if stopped else []), *(container["ID"] for container in stopped))


def list_volumes(words: Words, system: System) -> int:
    """Print the volumes."""
    names = [path.name for path in Store(system).volumes()]
    system.say(*names) if words.has("--quiet") else system.say(
        "DRIVER    VOLUME NAME", *(f"local     {n}" for n in names)
    )
    return 0


def prune_volumes(words: Words, system: System) -> int:
    """Remove the volumes: no container uses one."""
    import shutil

    if confirmed(words, system):
        for path in Store(system).volumes():
            shutil.rmtree(path)
        system.say("Total reclaimed space: 0B")
    return 0


def prune_nothing(words: Words, system: System) -> int:
    """Prune what the instance never has: build caches, networks."""
    if confirmed(words, system):
        system.say("Total:\t0B")
    return 0


def prune_system(words: Words, system: System) -> int:
    """Remove stopped containers and dangling images; with --all every image that no container uses."""
    if not confirmed(words, system):
        return 0
    _prune_containers(system)
    freed, lines = prune_images(words.has("--all"), system)
    system.say(*lines, f"Total reclaimed space: {freed}B")
    return 0


def disk_usage(_words: Words, system: System) -> int:
    """Print how much the images take."""
    images = Store(system).images()
    size = sum(image.size_bytes for image in images)
    system.say("TYPE TOTAL ACTIVE SIZE RECLAIMABLE", f"Images {len(images)} 0 {size}B {size}B", "Containers 0 0 0B 0B")
    return 0


def info(words: Words, system: System) -> int:
    """Print what the daemon says of itself."""
    store = Store(system)
    containers = store.containers()
    values = {
        "ServerVersion": VERSION,
        "Driver": "overlay2",
        "DockerRootDir": "/var/lib/docker",
        "CgroupDriver": "systemd",
        "DefaultRuntime": "runc",
        "Runtimes": {
            "io.containerd.runc.v2": {"path": "runc"},
            "nvidia": {"path": "/etc/docker-runtimes.d/nvidia"},
            "runc": {"path": "runc"},
        },
        "Images": len(store.images()),
        "Containers": len(containers),
        "OperatingSystem": "Amazon Linux 2023",
        "Architecture": "x86_64",
    }
    template = words.flags.get("--format", "")
    if template:
        return formatted(template, [values], system)
    system.say("Server:")
    for name, value in values.items():
        system.say(f" {name}: {' '.join(value) if isinstance(value, dict) else value}")
    return 0


def version(words: Words, system: System) -> int:
    """Print the client's and the daemon's version."""
    one = {"Version": VERSION, "ApiVersion": "1.44", "Os": "linux", "Arch": "amd64"}
    template = words.flags.get("--format", "")
    if template:
        return formatted(template, [{"Client": one, "Server": one}], system)
    system.say("Client:", f" Version: {VERSION}", "Server:", f" Version: {VERSION}", json.dumps(one))
    return 0


def run(words: Words, system: System) -> int:
    """Refuse, as a machine without GPU does; or say that the guest has no container engine."""
    if not words.plain:
        return system.fail(1, '"docker run" requires at least 1 argument.', "See 'docker run --help'.")
    if Store(system).find(words.plain[0]) is None:
        name = normal(words.plain[0])
        return system.fail(
            125, f"Unable to find image '{name}' locally", "docker: Error response from daemon: pull it first."
        )
    if words.has("--gpus") or words.flags.get("--runtime") == "nvidia":
        return system.fail(125, _NO_DRIVER)
    return system.fail(125, "docker: Error response from daemon: the sandbox's guest runs no containers.")
