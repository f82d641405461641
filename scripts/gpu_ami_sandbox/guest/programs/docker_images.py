"""Docker's commands about images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from gpu_ami_sandbox.guest.programs import registry
from gpu_ami_sandbox.guest.programs.docker_arguments import Arguments
from gpu_ami_sandbox.guest.programs.docker_login import authorization
from gpu_ami_sandbox.guest.programs.images import Image, Json, Store, normal, repository_of
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.programs.units import Units


def pull(arguments: Arguments, system: System) -> int:
    """Pull one image by tag or digest."""
    reference = registry.parse(arguments.plain[0])
    if reference is None:
        return system.fail(1, "invalid reference format")
    source = registry.Registry(reference, authorization(reference.host, system), system)
    quiet = arguments.has("--quiet")
    try:
        lines, digest = registry.pull(reference, source, Store(system), _staging(system))
    except registry.PullError as exc:
        return system.fail(1, f"Error response from daemon: {exc}")
    if not quiet:
        changed = any("Pull complete" in line for line in lines)
        status = "Downloaded newer image for" if changed else "Image is up to date for"
        system.say(f"{reference.requested}: Pulling from {reference.name}", *lines)
        system.say(f"Digest: {digest}", f"Status: {status} {reference}")
    system.say(str(reference))
    return 0


def _staging(system: System) -> Path:
    """Return where the daemon keeps layers meanwhile: DOCKER_TMPDIR of its unit, else its own folder."""
    for value in reversed(Units(system).setting("docker.service", "Service", "Environment")):
        if match := re.fullmatch(r'"?DOCKER_TMPDIR=([^"]+)"?', value):
            return system.path(match[1])
    return system.path("/var/lib/docker/tmp")


def list_images(arguments: Arguments, system: System) -> int:
    """Print the images, one line for each name."""
    rows = [row for image in Store(system).images() for row in _rows(image)]
    expected = arguments.plain[0] if arguments.plain else ""
    rows = [row for row in rows if expected in ("", row.repository, f"{row.repository}:{row.tag}")]
    if arguments.has("--quiet"):
        ids = dict.fromkeys(row.image.id for row in rows)
        system.say(*(image_id if arguments.has("--no-trunc") else _short(image_id) for image_id in ids))
        return 0
    system.say("REPOSITORY TAG IMAGE ID CREATED SIZE")
    for row in rows:
        created, size = row.image.config.get("created", "N/A"), f"{row.image.size_bytes / 1e6:.1f}MB"
        system.say(f"{row.repository} {row.tag} {_short(row.image.id)} {created} {size}")
    return 0


class _Row(NamedTuple):
    repository: str
    tag: str
    image: Image


def _rows(image: Image) -> list[_Row]:
    names = [(repository_of(tag), tag.rpartition(":")[2]) for tag in image.tags]
    tagged = {name for name, _ in names}
    names += [(repository_of(name), "<none>") for name in image.digests if repository_of(name) not in tagged]
    return [_Row(repository, tag, image) for repository, tag in names or [("<none>", "<none>")]]


def _short(image_id: str) -> str:
    return image_id.partition(":")[2][:12]


def inspect_image(arguments: Arguments, system: System) -> int:
    """Print what is known of images; with --format one field of each."""
    store, status, found = Store(system), 0, []
    for name in arguments.plain:
        image = store.find(name)
        if image is None:
            status = system.fail(1, f"Error response from daemon: No such image: {normal(name)}")
        else:
            found.append(image.inspected())
    if not arguments.has("--format"):
        system.say(json.dumps(found, indent=4))
        return status
    for row in found:
        value, problem = _field(arguments.flags["--format"], row)
        if problem:
            return system.fail(1, f"template parsing error: template: :1: {problem}")
        system.say(value)
    return status


def _field(template: str, row: Json) -> tuple[str, str]:
    """Return the field of *row* that *template* is, such as ``{{.Id}}``, and what Go says of any other template."""
    match = re.fullmatch(r"\{\{ *(.*?) *\}\}", template)
    name = match[1].partition(" ")[0] if match else ""
    if not name:
        return "", "unclosed action"
    if not name.startswith("."):
        return "", f'function "{name}" not defined'
    if not isinstance(value := row.get(name[1:]), str):
        return "", f'executing "" at <{name}>: map has no entry for key "{name[1:]}"'
    return value, ""


def tag(arguments: Arguments, system: System) -> int:
    """Give an image another name."""
    source, target = arguments.plain
    store = Store(system)
    image = store.find(source)
    if image is None:
        return system.fail(1, f"Error response from daemon: No such image: {normal(source)}")
    if registry.parse(target) is None or "@" in target:
        return system.fail(
            1, f'Error parsing reference: "{target}" is not a valid repository/tag: invalid reference format'
        )
    store.name(normal(target), image.id)
    return 0


def remove(arguments: Arguments, system: System) -> int:
    """Remove names, and images that have none left."""
    store, status = Store(system), 0
    for name in arguments.plain:
        image = store.find(name)
        if image is None:
            status = system.fail(1, f"Error response from daemon: No such image: {normal(name)}")
        elif any(c["Image"] == image.id for c in store.containers()) and not arguments.has("--force"):
            text = f'unable to remove repository reference "{name}" (must force) - container is using its image'
            status = system.fail(1, f"Error response from daemon: conflict: {text}")
        elif normal(name) in image.names and len(image.tags) > 1:
            store.unname(normal(name))
            system.say(f"Untagged: {normal(name)}")
        else:
            store.remove(image)
            system.say(*(f"Untagged: {name}" for name in image.names), f"Deleted: {image.id}")
    return status
