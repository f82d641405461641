"""Loads and checks models.yaml, the models to download, before Packer reads the file itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.foreign_text import limited
from gpu_ami.yamltext import parse_yaml


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model to download.

    Attributes:
        url: An http(s) address or s3://BUCKET/KEY.
        path: Where it goes, below models_dir.
        sha256: Its checksum, 64 hexadecimal digits; empty takes what arrives.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^(https?|s3)://[^\"\\\s]+\Z")]
    path: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""


_AT = re.compile(r"^(?P<what>.*?) - at `\$\[(?P<number>\d+)\](?:\.(?P<key>\w+))?`$", re.DOTALL)
_EXPECTED = {
    "url": "an http(s) or s3 address without blanks, quotes and backslashes",
    "path": "a relative path inside models_dir",
    "sha256": "64 hexadecimal digits in quotes, or empty",
}


def load(path: Path) -> tuple[Model, ...]:
    """Return the models that the file *path* lists; none where it is missing, as the template has it.

    Raises:
        UsageError: It is unreadable, not YAML, no list, or an entry cannot be used. No address is shown: it may be a
            secret.
    """
    if not path.exists():
        return ()
    raw = parse_yaml(read_text(path, what="list of models"), source=str(path))
    try:
        models = msgspec.convert(raw or [], tuple[Model, ...])
    except msgspec.ValidationError as exc:
        raise UsageError(_explain(str(exc), path)) from exc
    for number, model in enumerate(models, 1):
        if ".." in model.path.split("/"):
            raise UsageError(_refused(path, number, "path"))
    return models


def _explain(problem: str, path: Path) -> str:
    match = _AT.match(problem)
    if match is None:
        return f"{path}: {limited(problem[0].lower() + problem[1:])}: write a list of url, path and sha256."
    if match["key"]:
        return _refused(path, int(match["number"]) + 1, match["key"])
    return f"{path}, entry {int(match['number']) + 1}: {limited(match['what'][0].lower() + match['what'][1:])}."


def _refused(path: Path, number: int, key: str) -> str:
    return f"{path}, entry {number}: {key} must be {_EXPECTED[key]}."
