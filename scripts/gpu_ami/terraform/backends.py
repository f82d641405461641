"""Detects where Terraform keeps a root module's state: in ``terraform.tfstate`` beside the code, or in a backend."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
_DEFAULT_WORKSPACE = "default"
# What the backends of Terraform 1.11 call the parts of a state's address; a member that is no text says nothing.
# Two states must never look the same, so every part counts.
_BUCKETS = (
    "hostname", "organization", "bucket", "storage_account_name", "container_name", "host", "config_context",
    "namespace",
)  # fmt: skip
_KEYS = ("address", "path", "prefix", "key", "schema_name", "secret_suffix")
_URLS = ("address", "host")
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)?(?:[^/?#]*@)?(?P<rest>[^?#]*)(?:\?(?P<query>[^#]*))?")
_PASSWORD = re.compile(r"(?<=:)[^:/@]*(?=@)|\bpassword\s*=\s*(?:'(?:[^'\\]|\\.)*'|[^\s&]*)", re.IGNORECASE)
_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class StateLocation:
    """Where Terraform keeps the state of a root module, in the workspace that is selected.

    Attributes:
        backend: Terraform's name of the backend; ``local`` without one.
        bucket: What holds the state: a bucket, a storage account's container, an organization; None for ``local``.
        key: The state in it, that of the workspace: an object's key, or a path seen from the root module. Without
            passwords; of a database's connection string and of an address's query a digest.
        workspace: The workspace.
        config: The backend's configuration, as `terraform init` noted it.
    """

    backend: str
    bucket: str | None
    key: str | None
    workspace: str
    config: Mapping[str, Any]

    def shown(self, folder: str) -> str:
        """Return it as people write it; *folder* is the root module as a person would type it."""
        if self.backend == "local":
            return self.key or folder if (self.key or "").startswith("/") else f"{folder}/{self.key}"
        inside = "/".join(part for part in (self.bucket, self.key) if part)
        return f"{self.backend}://{inside}" if self.backend == "s3" else f"{self.backend} {inside}".strip()


def data_folder(folder: Path, environment: Mapping[str, str]) -> Path:
    """Return where Terraform keeps what `init` made of the root module in *folder*, by the child's *environment*."""
    return folder / (environment.get("TF_DATA_DIR") or _DATA_DIR)


def is_connected(folder: Path, environment: Mapping[str, str]) -> bool:
    """Return whether `terraform init` has noted a backend for the root module in *folder*."""
    return (data_folder(folder, environment) / _NOTE).is_file()


def selected_workspace(folder: Path, environment: Mapping[str, str]) -> str:
    """Return the workspace that Terraform uses in *folder*: ``TF_WORKSPACE``, else what was selected there.

    Raises:
        UsageError: The selection cannot be read.
    """
    if named := environment.get("TF_WORKSPACE"):
        return named
    file = data_folder(folder, environment) / "environment"
    return (read_text(file, what="selected workspace").strip() if file.is_file() else "") or _DEFAULT_WORKSPACE


def location(folder: Path, environment: Mapping[str, str]) -> StateLocation:
    """Return where the initialized root module in *folder* keeps its state.

    What `terraform init` noted is read: the code may hold half of a backend.

    Args:
        folder: The root module.
        environment: Terraform's environment; ``TF_DATA_DIR`` and ``TF_WORKSPACE`` count.

    Raises:
        UsageError: What Terraform noted cannot be read.
    """
    workspace = selected_workspace(folder, environment)
    kind, config = _noted(data_folder(folder, environment) / _NOTE)
    if kind == "s3":
        return StateLocation(
            backend=kind,
            bucket=_text(config, "bucket"),
            key=_in_workspace(config, workspace),
            workspace=workspace,
            config=config,
        )
    if kind == "local":
        path = _text(config, "path") or "terraform.tfstate"
        if workspace != _DEFAULT_WORKSPACE:
            path = f"{_text(config, 'workspace_dir') or 'terraform.tfstate.d'}/{workspace}/terraform.tfstate"
        return StateLocation(backend=kind, bucket=None, key=path, workspace=workspace, config=config)
    return StateLocation(
        backend=kind,
        bucket=_joined(_part(config, name) for name in _BUCKETS),
        key=_joined([_database(config), *(_part(config, name) for name in _KEYS), _remote_workspace(config)]),
        workspace=workspace,
        config=config,
    )


def _in_workspace(config: Mapping[str, Any], workspace: str) -> str | None:
    """Return the key of an S3 object, which for a workspace lies under a prefix of its own."""
    key = _text(config, "key")
    if key is None or workspace == _DEFAULT_WORKSPACE:
        return key
    return f"{_text(config, 'workspace_key_prefix') or 'env:'}/{workspace}/{key}"


def _text(config: Mapping[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := config.get(name), str) and value), None)


def _joined(parts: Iterable[str | None]) -> str | None:
    return "/".join(part for part in parts if part) or None


def _part(config: Mapping[str, Any], name: str) -> str | None:
    """Return a part of a state's address as anybody may read it, for it goes into receipts, which are committed.

    A URL is without who asks, and has a digest for a query, which may hold a token.
    """
    text = _text(config, name)
    found = _ADDRESS.match(text) if text and name in _URLS else None
    if found is None:
        return text
    query = f"?{_digest(found['query'])}" if found["query"] else ""
    return f"{found['scheme'] or ''}{found['rest']}{query}"


def _database(config: Mapping[str, Any]) -> str | None:
    """Return what tells the database of the ``pg`` backend; a connection string has many forms, and a password."""
    text = _text(config, "conn_str")
    return _digest(_PASSWORD.sub("", text)) if text else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _remote_workspace(config: Mapping[str, Any]) -> str | None:
    """Return the workspace of HCP Terraform, or the prefix of several; `remote` notes a list, `cloud` an object."""
    blocks = config.get("workspaces")
    first = next(iter(blocks), None) if isinstance(blocks, list) else blocks
    return _text(first, "name", "prefix") if isinstance(first, dict) else None


def _noted(note: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the backend's name and configuration; ``local`` where nothing is noted, or nothing that makes sense."""
    try:
        backend = json.loads(note.read_text(encoding="utf-8"))["backend"]
        kind, config = backend["type"], backend.get("config") or {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "local", {}
    return (kind, config) if isinstance(kind, str) and isinstance(config, dict) else ("local", {})


def naming_file(folder: Path, environment: Mapping[str, str]) -> Path | None:
    """Return the file that says where the state of the root module in *folder* is; None when it is beside the code.

    That is a file of code with a backend, OpenTofu's first, or what `terraform init` noted: the code may hold half.

    Args:
        folder: The root module.
        environment: Terraform's environment; ``TF_DATA_DIR`` counts.

    Raises:
        UsageError: A file cannot be read.
    """
    code = sorted(path for path in folder.glob("*") if _CODE.search(path.name) and not path.is_dir())
    for path in sorted(code, key=lambda file: not is_tofu(file)):
        if _names_backend(path):
            return path
    note = data_folder(folder, environment) / _NOTE
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
