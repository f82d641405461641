"""Fingerprints of what a bake is made from: equal where a new bake would make the same image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from gpu_ami.errors import UsageError
from gpu_ami.foreign_text import reason
from gpu_ami.records import archive

# Files of packer/ that do not reach the image: what a bake leaves there, values (they are settings), texts for people.
_NO_INPUT = (
    ".*",
    "*.auto.pkrvars.hcl",
    "*.pkrvars.hcl",
    "*.pkrvars.json",
    "*.example",
    "*.md",
    "*.pem",
    "*.provenance.json",
    "*.provenance.sigstore.json",
    "models.yaml",  # the models are a fact of their own
    "manifest.json",
    "manifest.json.lock",
    "release.json",
    "packer_cache",
    "__pycache__",
)
# The records of several families, in the folder itself: below it, such a name is a file of the image's.
_RECORDS = (
    *("manifest-*.json", "manifest-*.json.lock", "release-*.json"),
    *("contents.json", "bill.cdx.json"),  # of a build by hand
)
# Variables that say where, when and by whom an image is baked, not what it is; and those that have a fact of their own.
ELSEWHERE = frozenset(
    {
        "base_ami_parameter",
        "bill_command",
        "bill_path",
        "caller_cidrs",
        "chain_length",
        "contents_path",
        "fallback_instance_types",
        "fallback_subnet_ids",
        "fingerprints",
        "finished",
        "git_commit",
        "iam_instance_profile",
        "image_digest",
        "image_tag",
        "instance_type",
        "manifest_path",
        "max_build_minutes",
        "model_downloads",
        "mps_pipe",  # whatever it says, an AMI that is made has the pipe elsewhere
        "pipeline_version",
        "poll_delay_seconds",
        "poll_max_attempts",
        "provenance_folder",
        "provenance_identity",
        "provenance_issuer",
        "provenance_signer",
        "region",
        "release_path",
        "require_gpu",
        "run_id",
        "security_group_id",
        "snapshot_copy_duration_minutes",
        "source_ami",
        "spot",
        "spot_allocation_strategy",
        "spot_instance_types",
        "ssh_host",
        "ssh_interface",
        "ssh_port",
        "subnet_id",
    }
)
_DIGITS = 32


def of_settings(values: Mapping[str, Any]) -> str:
    """Return the fingerprint of the template's variables that change the image.

    ``80``, ``"80"`` and a default of 80 are one value: Packer makes the same of them.
    """
    return _digest({name: _plain(value) for name, value in values.items() if name not in ELSEWHERE})


def of_folder(folder: Path) -> str:
    """Return the fingerprint of the template, the provisioning scripts and the files that go into the image.

    Raises:
        UsageError: A file cannot be read.
    """
    found: dict[str, list[str]] = {}
    try:
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            if not path.is_file() or _is_no_input(parts):
                continue
            executable = "x" if path.stat().st_mode & 0o100 else "-"
            found["/".join(parts)] = [executable, hashlib.sha256(path.read_bytes()).hexdigest()]
    except OSError as exc:
        msg = f"The template's folder {folder} cannot be read: {reason(exc)}."
        raise UsageError(msg) from exc
    return _digest(found)


def _is_no_input(parts: Sequence[str]) -> bool:
    """Whether the file with these *parts* of its path in the template's folder does not reach the image."""
    if parts[0] == archive.FOLDER or (len(parts) == 1 and any(fnmatchcase(parts[0], skipped) for skipped in _RECORDS)):
        return True
    return any(fnmatchcase(part, skipped) for part in parts for skipped in _NO_INPUT)


def of_models(objects: Iterable[tuple[str, int, str]], *downloads: object) -> str:
    """Return the fingerprint of the models: of the bucket's listing and of the lists of downloads.

    Args:
        objects: Key, size in bytes and ETag of each object; a new upload has a new ETag.
        downloads: The value of ``model_downloads`` and what ``models.yaml`` holds. The query of an address is left
            out: in a presigned one it is new each time, and a secret. What lies behind an address without a SHA-256
            cannot be known.
    """
    lists = [_plain(entries) for entries in downloads]
    bare = [[_without_query(entry) for entry in entries] if isinstance(entries, list) else entries for entries in lists]
    found = sorted([key, size, etag] for key, size, etag in objects)
    return _digest({"objects": found, "downloads": [entries for entries in bare if entries]})


def _without_query(entry: Any) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
        return entry
    try:
        bare = urlunsplit(urlsplit(entry["url"])._replace(query="", fragment=""))
    except ValueError:
        bare = entry["url"].partition("?")[0]
    return {**entry, "url": bare}


def _plain(value: Any) -> Any:
    """Return *value* as the JSON value that its text is, where it is one."""
    if isinstance(value, str):
        try:
            document = json.loads(value)
        except ValueError:
            return value
        return document if isinstance(document, str) else _plain(document)
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return value


def _digest(document: Any) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
