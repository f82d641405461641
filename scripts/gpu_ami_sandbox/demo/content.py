"""The demo account's bytes: a container image and model files, the same each time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass

_MIB = 1024 * 1024
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
# One layer per entry: the file in it and its size.
_LAYERS = (
    ("usr/lib/batch-processor/runtime.bin", 2 * _MIB),
    ("usr/lib/batch-processor/libraries.bin", _MIB),
    ("opt/batch-processor/application.bin", 256 * 1024),
)
# As in an image made from Docker's own Python: the guest has such an image run Python programs.
_ENVIRONMENT = ("PATH=/usr/local/bin:/usr/bin:/bin", "PYTHON_VERSION=3.12.11")
# Under models/ in the bucket: file and size.
_MODELS = (
    ("detector.pt", 3 * _MIB),
    ("tracker.onnx", 2 * _MIB),
    ("ocr/recognizer.bin", _MIB),
)


@dataclass(frozen=True)
class ContainerImage:
    """A container image as a registry keeps it.

    Attributes:
        manifest: The manifest, as the bytes that the digest is of.
        media_type: What kind of manifest it is.
        blobs: Configuration and layers, by digest.
    """

    manifest: str
    media_type: str
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        """What the image is pulled by."""
        return digest_of(self.manifest.encode())


def digest_of(content: bytes) -> str:
    """Return the digest of *content* as registries write it: ``sha256:...``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def container_image() -> ContainerImage:
    """Return the image ``batch-processor``: real layers that a container runtime could unpack."""
    tars = [_tar(name, _noise(name, size)) for name, size in _LAYERS]
    # Level 0 and no time stamp: noise does not shrink, and the digest must not change.
    layers = [gzip.compress(tar, compresslevel=0, mtime=0) for tar in tars]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-09-01T00:00:00Z",
            "config": {"Entrypoint": ["/opt/batch-processor/application.bin"], "Env": list(_ENVIRONMENT)},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
            "history": [{"created_by": f"COPY {name} /{name}"} for name, _ in _LAYERS],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _described(config, _CONFIG_TYPE),
            "layers": [_described(layer, _LAYER_TYPE) for layer in layers],
        },
        indent=3,
    )
    return ContainerImage(manifest, _MANIFEST_TYPE, {digest_of(blob): blob for blob in (config, *layers)})


def models() -> dict[str, bytes]:
    """Return the model files by their path under ``models/``."""
    return {name: _noise(name, size) for name, size in _MODELS}


def _described(blob: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(blob), "digest": digest_of(blob)}


def _tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = len(content), 0o755, 0
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - test data, not a secret
