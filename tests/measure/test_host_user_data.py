"""User data of a bench's hosts: production's own, and what switches them off."""

from __future__ import annotations

import base64
import gzip
from email import message_from_bytes
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.measure.host_user_data import merged
from gpu_ami.measure.power_off import boothook

ROOT = Path(__file__).parents[2]
TEMPLATE = (ROOT / "terraform" / "modules" / "pipeline" / "user-data.mime.tftpl").read_text()


def parts(own: bytes | None) -> list[tuple[str, str]]:
    """Return the types and texts of the merged document's parts."""
    given = None if own is None else base64.b64encode(own).decode()
    document = message_from_bytes(base64.b64decode(merged(boothook(75), given)))
    assert document.get_content_type() == "multipart/mixed"
    found = []
    for part in document.walk():
        if not part.is_multipart():
            text = part.get_payload(decode=True)
            assert isinstance(text, bytes)
            found.append((part.get_content_type(), text.decode()))
    return found


def test_productions_own_comes_first_and_the_end_with_it() -> None:
    """The Terraform module's document, as Batch gets it: hosts start as production's do, and end by themselves."""
    text = TEMPLATE.split("%{")[0] + "ECS_DISABLE_IMAGE_CLEANUP=true\nSETTINGS\n\n--==GPU-AMI==--\n"

    own, end = parts(text.encode())

    assert own[0] == "text/x-shellscript"
    assert "ECS_DISABLE_IMAGE_CLEANUP=true" in own[1]
    assert end[0] == "text/cloud-boothook"
    assert end[1].strip() == boothook(75).strip()


@pytest.mark.parametrize(
    ("own", "kind"),
    [
        (b"#!/bin/sh\necho \xc3\xa4\n", "text/x-shellscript"),
        (b"#cloud-config\npackages: []\n", "text/cloud-config"),
        (gzip.compress(b"#!/bin/sh\ntrue\n", mtime=0), "text/x-shellscript"),
        (b"just words", "text/plain"),
        (b"Content-Type: text/cloud-config\n\npackages: []\n", "text/cloud-config"),
    ],
)
def test_every_form_of_user_data_stays_what_it_is(own: bytes, kind: str) -> None:
    """cloud-init goes by the type once it is a part of a document."""
    assert [one for one, _ in parts(own)] == [kind, "text/cloud-boothook"]
    assert [one for one, _ in parts(None)] == ["text/cloud-boothook"]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("not base64!", "cannot be read"),
        (base64.b64encode(b"\x1f\x8bbroken").decode(), "cannot be read"),
        (base64.b64encode(b"\xff\xfe\x00").decode(), "cannot be read"),
        (base64.b64encode(b"#!/bin/sh\n" + b"#" * 17_000).decode(), "EC2 takes 16384"),
    ],
)
def test_what_could_not_be_started_with_is_refused_first(own: str, said: str) -> None:
    """A launch that EC2 refuses would look like missing capacity."""
    with pytest.raises(UsageError, match=said):
        merged(boothook(75), own)
