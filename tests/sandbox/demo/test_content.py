"""The demo account's bytes are real layers and the same each time."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from gpu_ami_sandbox.demo.content import container_image, digest_of, models


def test_layers_unpack_to_the_files_of_the_configuration() -> None:
    """A container runtime could run it: diff ids are those of the unpacked layers."""
    image = container_image()
    manifest = json.loads(image.manifest)
    config = json.loads(image.blobs[manifest["config"]["digest"]])
    layers = [gzip.decompress(image.blobs[layer["digest"]]) for layer in manifest["layers"]]

    assert config["rootfs"]["diff_ids"] == [digest_of(layer) for layer in layers]
    with tarfile.open(fileobj=io.BytesIO(layers[-1])) as archive:
        assert archive.getnames() == ["opt/batch-processor/application.bin"]
    assert sum(layer["size"] for layer in manifest["layers"]) > 3 * 1024 * 1024


def test_models_are_large_and_the_same_each_time() -> None:
    """Some MB each, so that a transfer that is cut short shows."""
    first, second = models(), models()

    assert first == second
    assert len(set(first.values())) == len(first) == 3
    assert all(len(content) >= 1024 * 1024 for content in first.values())
