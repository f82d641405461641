"""User data of a bench's hosts: what production's have, and what switches them off whoever has forgotten them."""

from __future__ import annotations

import base64
import binascii
import gzip
from email import message_from_bytes
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

from gpu_ami.errors import UsageError
from gpu_ami.units import show_count

# Of what begins so cloud-init knows what it is; in a multi-part document the type has to say it.
_KINDS = (
    ("#!", "x-shellscript"),
    ("#cloud-config", "cloud-config"),
    ("#cloud-boothook", "cloud-boothook"),
    ("#include", "x-include-url"),
)
# A launch template takes so many bytes of user data before they are encoded (EC2's guide, "Run commands at launch").
_MOST_BYTES = 16 * 1024


def merged(boothook: str, own: str | None) -> str:
    """Return both as one MIME multi-part document in base64, which is all that Batch takes.

    Args:
        boothook: The script of `power_off`.
        own: User data of production's launch template, in base64; None without any.

    Raises:
        UsageError: Production's cannot be read, or both are too long together.
    """
    whole = MIMEMultipart()
    for part in (*_parts(own), _text(boothook)):
        whole.attach(part)
    encoded = whole.as_bytes()
    if len(encoded) > _MOST_BYTES:
        size = f"{show_count(len(encoded), 'byte')} with the bench's own"
        msg = f"The live launch template's user data is {size}, and EC2 takes {_MOST_BYTES}: shorten it."
        raise UsageError(msg)
    return base64.b64encode(encoded).decode("ascii")


def _parts(own: str | None) -> list[Message]:
    if not own:
        return []
    try:
        raw = base64.b64decode(own, validate=True)
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        text = raw.decode("utf-8")
    except (binascii.Error, OSError, EOFError, UnicodeDecodeError) as exc:
        msg = "The user data of the live launch template cannot be read: it is neither text nor MIME multi-part."
        raise UsageError(msg) from exc
    if text.startswith(tuple(start for start, _ in _KINDS)):
        return [_text(text)]
    document = message_from_bytes(raw)
    if not document.is_multipart():
        return [document] if document["Content-Type"] else [_text(text)]
    parts = document.get_payload()
    return [part for part in parts if isinstance(part, Message)] if isinstance(parts, list) else []


def _text(text: str) -> MIMEText:
    kind = next((kind for start, kind in _KINDS if text.startswith(start)), "plain")
    return MIMEText(text, kind, "us-ascii" if text.isascii() else "utf-8")
