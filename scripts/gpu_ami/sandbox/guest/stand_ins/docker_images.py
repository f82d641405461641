"""Docker's commands about images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from gpu_ami.sandbox.guest.stand_ins import registry
from gpu_ami.sandbox.guest.stand_ins.docker_login import authorization
from gpu_ami.sandbox.guest.stand_ins.docker_words import Words
from gpu_ami.sandbox.guest.stand_ins.gotemplate import TemplateError, render
from gpu_ami.sandbox.guest.stand_ins.images import Image, Json, Store, normal, repository_of
from gpu_ami.sandbox.guest.stand_ins.system import System
from gpu_ami.sandbox.guest.stand_ins.units import Units

ARE_YOU_SURE = "Are you sure you want to continue? [y/N] "


def pull(words: Words, system: System) -> int:
    """Pull one image by tag or digest."""
    reference = registry.parse(words.plain[0])
    if reference is None:
        return system.fail(1, "invalid reference format")
    source = registry.Registry(reference, authorization(reference.host, system), system)
    quiet = words.has("--quiet")
    try:
        lines, digest = registry.pull(reference, source, Store(system), _staging(system))
    except registry.PullError as exc:
        return system.fail(1, f"Error response from daemon: {exc}")
    if not quiet:
        changed = any("Pull complete" in line for line in lines)
        status = "Downloaded newer image for" if changed else "Image is up to date for"
        system.say(f"{reference.wanted}: Pulling from {reference.name}", *lines)
        system.say(f"Digest: {digest}", f"Status: {status} {reference}")
    system.say(str(reference))
    return 0


def _staging(system: System) -> Path:
    """Return where the daemon keeps layers meanwhile: DOCKER_TMPDIR of its unit, else its own folder."""
    for word in reversed(Units(system).setting("docker.service", "Service", "Environment")):
        if match := re.fullmatch(r'"?DOCKER_TMPDIR=([^"]+)"?', word):
            return system.path(match[1])
    return system.path("/var/lib/docker/tmp")


def list_images(words: Words, system: System) -> int:
    """Print the images, one line for each name."""
    rows = [row for image in Store(system).images() for row in _rows(image)]
    wanted = words.plain[0] if words.plain else ""
    rows = [row for row in rows if wanted in ("", row["Repository"], f"{row['Repository']}:{row['Tag']}")]
    if words.has("--quiet"):
        size = 71 if words.has("--no-trunc") else 12
        system.say(*dict.fromkeys(row["FullID"][:71] if size == 71 else row["ID"] for row in rows))
        return 0
    template = words.flags.get("--format", "")
    if template and template not in ("table", "json"):
        return formatted(template, rows, system)
    digests = words.has("--digests")
    system.say("REPOSITORY TAG " + ("DIGEST " if digests else "") + "IMAGE ID CREATED SIZE")
    for row in rows:
        middle = f"{row['Digest']} " if digests else ""
        system.say(f"{row['Repository']} {row['Tag']} {middle}{row['ID']} {row['CreatedAt']} {row['Size']}")
    return 0


def _rows(image: Image) -> list[Json]:
    digest_of = {repository_of(name): name.partition("@")[2] for name in image.digests}
    names = [(repository_of(tag), tag.rpartition(":")[2]) for tag in image.tags]
    names += [(repo, "<none>") for repo in digest_of if repo not in {name for name, _ in names}]
    return [
        {
            "Repository": repository,
            "Tag": tag,
            "Digest": digest_of.get(repository, "<none>"),
            "ID": image.id.partition(":")[2][:12],
            "FullID": image.id,
            "CreatedAt": image.config.get("created", "N/A"),
            "Size": f"{image.size_bytes / 1e6:.1f}MB",
        }
        for repository, tag in names or [("<none>", "<none>")]
    ]


def inspect_image(words: Words, system: System) -> int:
    """Print what is known of images."""
    return _inspect(words, system, lambda name: f"Error response from daemon: No such image: {normal(name)}", [])


def inspect_any(words: Words, system: System) -> int:
    """Print what is known of images or containers."""
    return _inspect(words, system, lambda name: f"Error: No such object: {name}", Store(system).containers())


def _inspect(words: Words, system: System, missing: Callable[[str], str], containers: list[Json]) -> int:
    found: list[Json] = []
    errors = []
    for name in words.plain:
        container = next((c for c in containers if c["Name"] == f"/{name}" or c["ID"].startswith(name)), None)
        image = Store(system).find(name)
        if container is not None:
            found.append(container)
        elif image is not None:
            found.append(image.inspected())
        else:
            errors.append(missing(name))
    template = words.flags.get("--format", "")
    if template:
        status = formatted(template, found, system)
    else:
        system.say(json.dumps(found, indent=4))
        status = 0
    return system.fail(1, *errors) if errors else status


def formatted(template: str, rows: list[Json], system: System) -> int:
    """Print each row as the Go template says."""
    for row in rows:
        try:
            system.say(render(template, row))
        except TemplateError as exc:
            return system.fail(1, f"template parsing error: template: :1: {exc}")
    return 0


def tag(words: Words, system: System) -> int:
    """Give an image another name."""
    source, target = words.plain
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


def remove(words: Words, system: System) -> int:
    """Remove names, and images that have none left."""
    store, status = Store(system), 0
    for name in words.plain:
        image = store.find(name)
        if image is None:
            status = system.fail(1, f"Error response from daemon: No such image: {normal(name)}")
        elif any(c["Image"] == image.id for c in store.containers()) and not words.has("--force"):
            text = f'unable to remove repository reference "{name}" (must force) - container is using its image'
            status = system.fail(1, f"Error response from daemon: conflict: {text}")
        elif normal(name) in image.names and len(image.tags) > 1:
            store.unname(normal(name))
            system.say(f"Untagged: {normal(name)}")
        else:
            store.remove(image)
            system.say(*(f"Untagged: {name}" for name in image.names), f"Deleted: {image.id}")
    return status


def prune(words: Words, system: System) -> int:
    """Remove dangling images, with --all every image that no container uses."""
    if not confirmed(words, system):
        return 0
    freed, lines = prune_images(words.has("--all"), system)
    system.say(*lines, f"Total reclaimed space: {freed}B")
    return 0


def prune_images(everything: bool, system: System) -> tuple[int, list[str]]:
    """Remove dangling images, or all that no container uses; return the bytes freed and Docker's lines."""
    store = Store(system)
    used = {container["Image"] for container in store.containers()}
    gone = [image for image in store.images() if image.id not in used and (everything or not image.names)]
    lines = [line for image in gone for line in (*(f"untagged: {n}" for n in image.names), f"deleted: {image.id}")]
    return sum(store.remove(image) for image in gone), (["Deleted Images:", *lines] if lines else [])


def confirmed(words: Words, system: System) -> bool:
    """Return whether to go on: with --force, or when standard input says so."""
    if words.has("--force"):
        return True
    system.say(ARE_YOU_SURE)
    return system.stdin.readline().strip().lower() in ("y", "yes")
