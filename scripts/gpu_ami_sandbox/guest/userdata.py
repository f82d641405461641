"""User data as cloud-init reads it: one script, or several in a MIME multi-part document."""

from __future__ import annotations

import email
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Literal

_UNPACKED_LIMIT = 16 * 1024 * 1024  # user data is 16 KiB at most; a bomb is larger


@dataclass(frozen=True)
class Script:
    """A script that cloud-init runs.

    Attributes:
        stage: ``boothooks`` run early at every boot, ``scripts`` late at the first one; also its folder's name.
        name: Its file name; within a stage the names are the order.
        content: The file.
    """

    stage: Literal["boothooks", "scripts"]
    name: str
    content: bytes


@dataclass(frozen=True)
class UserData:
    """What an instance's boots do.

    Attributes:
        scripts: To be run by stage and name.
        warnings: cloud-init's messages about the parts that it, or the sandbox, does not run.
    """

    scripts: tuple[Script, ...] = ()
    warnings: tuple[str, ...] = ()


def read_user_data(raw: bytes) -> UserData:
    """Return the scripts in *raw*; what is not understood becomes a warning, as at a real boot."""
    try:
        raw = _unpacked(raw)
    except zlib.error as exc:
        return UserData(warnings=(f"Failed to decompress user data: {exc}",))
    if not raw.strip():
        return UserData()
    scripts: list[Script] = []
    warnings: list[str] = []
    for part in _parts(raw):
        name = part.name or f"part-{part.number:03}"
        if part.kind == "text/cloud-boothook":
            scripts.append(Script("boothooks", name, _without_marker(part.body)))
        elif part.kind != "text/x-shellscript":
            start = part.body[:24].decode("utf-8", "replace")
            warnings.append(f"Unhandled non-multipart ({part.kind}) userdata: {start!r}...")
        elif part.body.startswith(b"#!"):
            scripts.append(Script("scripts", name, part.body))
        else:
            warnings.append(f"Failed to run {name}: Exec format error, it has no #! line")
    return UserData(tuple(scripts), tuple(warnings))


@dataclass(frozen=True)
class _Part:
    number: int
    kind: str
    body: bytes
    name: str = ""


def _parts(raw: bytes) -> Iterator[_Part]:
    head = raw[:4096].lower()
    if not (head.startswith((b"content-type: multipart", b"mime-version:"))):
        yield _Part(1, _kind(raw), raw)
        return
    number = 0
    for message in email.message_from_bytes(raw).walk():
        if message.is_multipart():
            continue
        number += 1
        payload = message.get_payload(decode=True)
        body = payload if isinstance(payload, bytes) else b""
        declared = message.get_content_type()
        # cloud-init trusts the first line more than a vague type.
        kind = _kind(body) if declared in ("text/plain", "text/x-not-multipart") else declared
        yield _Part(number, kind, body, _file_name(message))


def _kind(body: bytes) -> str:
    if body.startswith(b"#!"):
        return "text/x-shellscript"
    if body.startswith(b"#cloud-boothook"):
        return "text/cloud-boothook"
    if body.startswith(b"#cloud-config"):
        return "text/cloud-config"
    return "text/x-not-multipart"


def _without_marker(body: bytes) -> bytes:
    """Return a boothook as cloud-init writes it (22.2.2, handlers/boot_hook.py)."""
    return body.replace(b"\r\n", b"\n").removeprefix(b"#cloud-boothook").lstrip()


def _file_name(message: Message) -> str:
    """Return the part's file name with nothing in it that could lead out of its folder."""
    name = message.get_filename() or ""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")


def _unpacked(raw: bytes) -> bytes:
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(raw, _UNPACKED_LIMIT)
