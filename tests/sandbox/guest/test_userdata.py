"""What cloud-init would make of user data."""

from __future__ import annotations

import gzip
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest

from gpu_ami.measure.power_off import boothook, user_data
from gpu_ami_sandbox.guest.userdata import Script, read_user_data

_SCRIPT = b"#!/bin/sh\ntrue\n"


def _multipart(*parts: tuple[str, str, str]) -> bytes:
    """Return a MIME document of (type, file name, text)."""
    document = MIMEMultipart()
    for kind, name, text in parts:
        part = MIMEText(text, kind.partition("/")[2])
        part.replace_header("Content-Type", f'{kind}; charset="us-ascii"')
        if name:
            part.add_header("Content-Disposition", "attachment", filename=name)
        document.attach(part)
    return document.as_bytes()


def test_nothing_runs_nothing() -> None:
    """An instance without user data boots all the same."""
    assert read_user_data(b"").scripts == ()
    assert read_user_data(b" \n").warnings == ()


@pytest.mark.parametrize("raw", [_SCRIPT, gzip.compress(_SCRIPT)], ids=["plain", "gzip"])
def test_a_script_is_kept_byte_by_byte(raw: bytes) -> None:
    """The kernel reads its first line."""
    assert read_user_data(raw).scripts == (Script("scripts", "part-001", _SCRIPT),)


def test_parts_go_to_their_stages() -> None:
    """Batch joins its own part with the launch template's; boothooks run earlier than scripts."""
    data = read_user_data(
        _multipart(
            ("text/x-shellscript", "b.sh", "#!/bin/sh\nb"),
            ("text/cloud-boothook", "", "#cloud-boothook\n#!/bin/sh\nhook"),
            ("text/plain", "", "#!/bin/sh\nplain"),
        )
    )

    assert [(script.stage, script.name) for script in data.scripts] == [
        ("scripts", "b.sh"),
        ("boothooks", "part-002"),
        ("scripts", "part-003"),
    ]
    assert data.scripts[1].content == b"#!/bin/sh\nhook"  # the kernel reads its first line: cloud-init cuts the marker
    assert data.warnings == ()


def test_the_power_off_of_a_measurement_is_a_boothook() -> None:
    """Only a boothook runs at every boot; Batch takes nothing but multi-part documents, and adds its own part."""
    alone, document = read_user_data(boothook(45).encode()), read_user_data(user_data(45).encode())

    assert user_data(45).startswith("MIME-Version: 1.0\nContent-Type: multipart/mixed;")
    assert user_data(45).isascii()
    assert [script.stage for data in (alone, document) for script in data.scripts] == ["boothooks", "boothooks"]
    assert document.scripts[0].content.strip() == alone.scripts[0].content.strip()
    assert alone.scripts[0].content.startswith(b"#!/bin/bash\n")
    assert alone.warnings == document.warnings == ()


@pytest.mark.parametrize(
    ("raw", "warning"),
    [
        (b"echo no first line\n", "Unhandled non-multipart (text/x-not-multipart) userdata: 'echo no first line"),
        (b"#cloud-config\nruncmd: []\n", "Unhandled non-multipart (text/cloud-config)"),
        (_multipart(("text/x-shellscript", "a.sh", "echo")), "Failed to run a.sh: Exec format error"),
        (b"\x1f\x8bnot gzip", "Failed to decompress user data"),
        (b"\xff\xfe", "Unhandled non-multipart"),
    ],
    ids=["text", "cloud-config", "no shebang", "gzip", "bytes"],
)
def test_what_does_not_run_is_a_warning(raw: bytes, warning: str) -> None:
    """A real boot goes on and says so in cloud-init.log."""
    data = read_user_data(raw)

    assert data.scripts == ()
    assert warning in data.warnings[0]


def test_a_file_name_cannot_leave_its_folder() -> None:
    """Names come from whoever wrote the user data, and files are written on the host."""
    data = read_user_data(_multipart(("text/x-shellscript", "../../../etc/cron.d/x", "#!/bin/sh\n")))

    assert data.scripts[0].name == "_.._.._etc_cron.d_x"


def test_a_gzip_bomb_is_cut() -> None:
    """16 KiB of user data unpack to 16 MiB and no further."""
    assert len(read_user_data(gzip.compress(b"#!" + bytes(40 * 1024 * 1024))).scripts[0].content) == 16 * 1024 * 1024
