"""Detects where Terraform keeps a root module's state: in ``terraform.tfstate`` beside the code, or in a backend."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text

# Terraform takes a label without quotes, too. `backend "local" {}` says what is true without it.
_BLOCK = re.compile(r'^[ \t]*(?:backend(?:[ \t]*"[^"\n]+"|[ \t]+[\w-]+)|cloud)[ \t]*\{(?P<body>[^}]*\})?', re.MULTILINE)
_PLAIN_LOCAL = re.compile(r'^[ \t]*backend\s*"?local"?\s*\{\s*\}')
_CODE = re.compile(r"\.(?:tf|tofu)(?:\.json)?$")
_TOFU = re.compile(r"\.tofu(?:\.json)?$")
_DATA_DIR = ".terraform"
_NOTE = "terraform.tfstate"


def naming_file(folder: Path, data_dir: str | None = None) -> Path | None:
    """Return the file that says where the state of the root module in *folder* is; None when it is beside the code.

    That is a file of code with a backend, OpenTofu's first, or what `terraform init` noted: the code may hold half.

    Args:
        folder: The root module.
        data_dir: The value of ``TF_DATA_DIR``.

    Raises:
        UsageError: A file cannot be read.
    """
    code = sorted(path for path in folder.glob("*") if _CODE.search(path.name) and not path.is_dir())
    for path in sorted(code, key=lambda file: not is_tofu(file)):
        if _names_backend(path):
            return path
    note = folder / (data_dir or _DATA_DIR) / _NOTE
    return note if note.is_file() and _notes_backend(read_text(note, what="Terraform's note of its backend")) else None


def is_tofu(path: Path) -> bool:
    """Return whether OpenTofu reads the file and Terraform does not."""
    return _TOFU.search(path.name) is not None


def _names_backend(path: Path) -> bool:
    if path.exists() and not path.is_file():
        msg = f"{path} is no file"  # to read a pipe would never end
        raise UsageError(msg)
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as exc:
        msg = f"{path} cannot be read: {exc.strerror}"
        raise UsageError(msg) from exc
    if path.suffix != ".json":
        return any(_PLAIN_LOCAL.match(block[0]) is None for block in _BLOCK.finditer(text))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return True  # whatever it says is not known
    return any("cloud" in block or _is_set(block.get("backend")) for block in _objects(document, "terraform"))


def _objects(document: Any, key: str) -> list[dict[str, Any]]:
    """Return the objects at *key*: in JSON a block may also be a list of them, at any level."""
    levels = document if isinstance(document, list) else [document]
    found = [level[key] for level in levels if isinstance(level, dict) and key in level]
    flat = [block for some in found for block in (some if isinstance(some, list) else [some])]
    return [block for block in flat if isinstance(block, dict)]


def _is_set(backend: Any) -> bool:
    return backend is not None and backend not in ({"local": {}}, [], {})


def _notes_backend(text: str) -> bool:
    try:
        backend = json.loads(text).get("backend")
        return backend is not None and (backend["type"] != "local" or any(backend["config"].values()))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return True
