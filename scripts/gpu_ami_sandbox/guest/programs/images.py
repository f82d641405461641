"""Docker's state on disk, in its own folders and formats: images by name and digest, containers, volumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from gpu_ami_sandbox.guest.programs.system import System

_HOME = "/var/lib/docker"
_DRIVER = f"{_HOME}/image/overlay2"

Json = dict[str, Any]


class Image:
    """One image.

    Attributes:
        id: Digest of its configuration, ``sha256:...``.
        config: The configuration, as pulled.
        names: ``REPOSITORY:TAG`` and ``REPOSITORY@DIGEST``.
        size_bytes: Its layers as stored.
    """

    def __init__(self, image_id: str, config: Json, names: list[str], size_bytes: int) -> None:
        self.id, self.config, self.names, self.size_bytes = image_id, config, names, size_bytes

    @property
    def tags(self) -> list[str]:
        """Its ``REPOSITORY:TAG`` names."""
        return [name for name in self.names if "@" not in name]

    @property
    def digests(self) -> list[str]:
        """Its ``REPOSITORY@DIGEST`` names."""
        return [name for name in self.names if "@" in name]

    def inspected(self) -> Json:
        """Return what `docker image inspect` prints."""
        return {
            "Id": self.id,
            "RepoTags": self.tags,
            "RepoDigests": self.digests,
            "Created": self.config.get("created", "1970-01-01T00:00:00Z"),
            "Architecture": self.config.get("architecture", "amd64"),
            "Os": self.config.get("os", "linux"),
            "Size": self.size_bytes,
            "VirtualSize": self.size_bytes,
            "Config": self.config.get("config", {}),
            "GraphDriver": {"Name": "overlay2", "Data": {}},
            "RootFS": {"Type": "layers", "Layers": self.config.get("rootfs", {}).get("diff_ids", [])},
        }


class Store:
    """What lies under /var/lib/docker of one instance."""

    def __init__(self, system: System) -> None:
        self._system = system

    def images(self) -> list[Image]:
        """Return all images; those without a name (dangling ones) too."""
        names: dict[str, list[str]] = {}
        for references in self._repositories().values():
            for name, image_id in references.items():
                names.setdefault(image_id, []).append(name)
        found = []
        for path in sorted(self._system.path(f"{_DRIVER}/imagedb/content/sha256").glob("*")):
            image_id = f"sha256:{path.name}"
            config = json.loads(path.read_text(encoding="utf-8"))
            found.append(Image(image_id, config, sorted(names.get(image_id, [])), self._size(image_id)))
        return found

    def find(self, reference: str) -> Image | None:
        """Return the image that *reference* (name, name with digest, or id) means."""
        expected = normal(reference)
        for image in self.images():
            hexadecimal = image.id.partition(":")[2]
            if expected in image.names or reference == image.id:
                return image
            if len(reference) >= 4 and hexadecimal.startswith(reference.removeprefix("sha256:")):
                return image
        return None

    def add(self, config: bytes, image_id: str, names: list[str], layers: list[str]) -> None:
        """Add an image whose layers lie there already; *config* is kept byte by byte, its digest is the id."""
        path = self._system.path(f"{_DRIVER}/imagedb/content/sha256/{image_id.partition(':')[2]}")
        _write(path, config)
        metadata = self._system.path(f"{_DRIVER}/imagedb/metadata/sha256/{path.name}/layers")
        _write(metadata, json.dumps(layers).encode())
        for name in names:
            self.name(name, image_id)

    def name(self, reference: str, image_id: str) -> None:
        """Give the image a name; one that had it loses it."""
        repositories = self._repositories()
        repositories.setdefault(repository_of(reference), {})[reference] = image_id
        self._save(repositories)

    def unname(self, reference: str) -> None:
        """Take a name away."""
        repositories = self._repositories()
        repositories.get(repository_of(reference), {}).pop(reference, None)
        self._save(repositories)

    def remove(self, image: Image) -> int:
        """Remove an image with its names and the layers that no other one has; return the bytes freed."""
        for name in image.names:
            self.unname(name)
        others = {layer for other in self.images() if other.id != image.id for layer in self._layers(other.id)}
        freed = 0
        for layer in set(self._layers(image.id)) - others:
            folder = self.layer(layer).parent
            freed += sum(path.stat().st_size for path in folder.glob("*"))
            shutil.rmtree(folder, ignore_errors=True)
        hexadecimal = image.id.partition(":")[2]
        self._system.path(f"{_DRIVER}/imagedb/content/sha256/{hexadecimal}").unlink(missing_ok=True)
        shutil.rmtree(self._system.path(f"{_DRIVER}/imagedb/metadata/sha256/{hexadecimal}"), ignore_errors=True)
        return freed

    def layer(self, digest: str) -> Path:
        """Return where the layer *digest* is stored."""
        return self._system.path(f"{_HOME}/overlay2/{digest.partition(':')[2]}/layer")

    def containers(self) -> list[Json]:
        """Return the containers, running or not."""
        files = sorted(self._system.path(f"{_HOME}/containers").glob("*/config.v2.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in files]

    def add_container(self, container_id: str, name: str, image: str, image_id: str) -> None:
        """Add a running container."""
        document = {"ID": container_id, "Name": f"/{name}", "Image": image_id, "Config": {"Image": image}}
        path = self._system.path(f"{_HOME}/containers/{container_id}/config.v2.json")
        _write(path, json.dumps({**document, "State": {"Running": True}}).encode())

    def remove_container(self, container: Json) -> None:
        """Remove a container."""
        shutil.rmtree(self._system.path(f"{_HOME}/containers/{container['ID']}"))

    def volumes(self) -> list[Path]:
        """Return the volumes' folders."""
        return sorted(path for path in self._system.path(f"{_HOME}/volumes").glob("*") if path.is_dir())

    def _layers(self, image_id: str) -> list[str]:
        path = self._system.path(f"{_DRIVER}/imagedb/metadata/sha256/{image_id.partition(':')[2]}/layers")
        layers: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return layers

    def _size(self, image_id: str) -> int:
        paths = [self.layer(layer) for layer in set(self._layers(image_id))]
        return sum(path.stat().st_size for path in paths if path.exists())

    def _repositories(self) -> dict[str, dict[str, str]]:
        path = self._system.path(f"{_DRIVER}/repositories.json")
        if not path.exists():
            return {}
        repositories: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))["Repositories"]
        return repositories

    def _save(self, repositories: dict[str, dict[str, str]]) -> None:
        named = {name: references for name, references in repositories.items() if references}
        _write(self._system.path(f"{_DRIVER}/repositories.json"), json.dumps({"Repositories": named}).encode())


def normal(reference: str) -> str:
    """Return *reference* with ``:latest`` where it has neither tag nor digest."""
    return reference if "@" in reference or ":" in reference.rpartition("/")[2] else f"{reference}:latest"


def repository_of(reference: str) -> str:
    """Return *reference* without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
