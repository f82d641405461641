"""Downloads: only what is on record, and only if it is what is on record."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_ami.errors import ToolError
from gpu_ami.tools import download, pins
from gpu_ami.tools.download import RouteClosedError, fetch_release
from gpu_ami.tools.tool import host_platform
from tests.tools.machine import Machine

Notes = tuple[list[str], Callable[[str], None]]


class Site:
    """A release site on a loopback port that serves one answer for everything."""

    def __init__(self) -> None:
        """Serve an empty file until told otherwise."""
        self.body = b""
        self.announced: int | None = None
        self.status = 200
        self.requests: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, site: Site, *args: object) -> None:
        self.site = site
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.site.requests.append(self.path)
        self.send_response(self.site.status)
        if self.site.announced is not None:
            self.send_header("Content-Length", str(self.site.announced))
        self.end_headers()
        self.wfile.write(self.site.body)

    def log_message(self, *args: object) -> None:
        """Say nothing: the test asserts on the requests."""


@pytest.fixture
def site(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A release site that the machine's settings name."""
    served = Site()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, served))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("GPU_AMI_RELEASES_URL", f"http://127.0.0.1:{server.server_port}/mirror/")
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def zipped(*names: str) -> bytes:
    """Return a zip file with a small file under each of *names*."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, f"#!/bin/sh\n# {name}\n")
    return buffer.getvalue()


def on_record(monkeypatch: pytest.MonkeyPatch, body: bytes, product: str = "packer") -> None:
    """Put the sum of *body* on record as the release of *product* for this machine."""
    sums = {host_platform(): hashlib.sha256(body).hexdigest()}
    recorded = pins.Pins({product: pins.Release("1.16.0", sums)}, {}, pins.Wheels("1.26.6", ()))
    monkeypatch.setattr(download, "pins", lambda: recorded)


def test_a_release_with_the_sum_on_record_is_unpacked(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    """The everyday case: a small download instead of minutes of compiling."""
    site.body = zipped("LICENSE.txt", "packer")
    site.announced = len(site.body)
    on_record(monkeypatch, site.body)

    program = fetch_release("packer", machine.root, notes[1])

    assert program.read_text(encoding="utf-8") == "#!/bin/sh\n# packer\n"
    assert program.stat().st_mode & 0o777 == 0o755
    assert site.requests == [f"/mirror/packer/1.16.0/packer_1.16.0_{host_platform()}.zip"]
    assert notes[0] == [f"{len(site.body)} B of {len(site.body)} B"]
    assert not (machine.root / "release.zip").exists()


def test_a_plugin_carries_its_version_in_its_name(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    """HashiCorp names plugins by version and protocol inside the zip; without a length, progress is in bytes."""
    site.body = zipped("LICENSE.txt", "packer-plugin-amazon_v1.8.2_x5.0_linux_amd64")
    on_record(monkeypatch, site.body, "packer-plugin-amazon")

    program = fetch_release("packer-plugin-amazon", machine.root, notes[1])

    assert program.name == "packer-plugin-amazon_v1.8.2_x5.0_linux_amd64"
    assert notes[0] == [f"{len(site.body)} B"]


def test_a_wrong_sum_is_refused_and_named(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    """A changed file is never run, and never quietly replaced by another way of installing."""
    site.body = zipped("packer")
    on_record(monkeypatch, b"something else")

    with pytest.raises(ToolError, match=r"packer_1\.16\.0_.* has the SHA-256 [0-9a-f]{64}, on record is") as caught:
        fetch_release("packer", machine.root, notes[1])

    assert not isinstance(caught.value, RouteClosedError)
    assert not (machine.root / "packer").exists()


def test_without_a_sum_on_record_nothing_is_downloaded(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    """What cannot be checked is not fetched."""
    recorded = pins.Pins({"packer": pins.Release("1.16.0", {})}, {}, pins.Wheels("1.26.6", ()))
    monkeypatch.setattr(download, "pins", lambda: recorded)

    with pytest.raises(RouteClosedError, match=f"no checksum of its release for {host_platform()} is on record"):
        fetch_release("packer", machine.root, notes[1])

    assert site.requests == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_by_the_site_closes_the_route(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes, status: int
) -> None:
    """A mirror without this version is no reason to stop: there is the source."""
    site.status = status
    site.announced = 0
    on_record(monkeypatch, b"")

    with pytest.raises(RouteClosedError, match="cannot be fetched"):
        fetch_release("packer", machine.root, notes[1])


def test_no_network_closes_the_route(machine: Machine, monkeypatch: pytest.MonkeyPatch, notes: Notes) -> None:
    """The machine's release site is a port where nobody listens."""
    on_record(monkeypatch, b"")

    with pytest.raises(RouteClosedError, match=r"cannot be fetched: .*refused"):
        fetch_release("packer", machine.root, notes[1])


def test_a_download_that_breaks_off_is_not_called_a_wrong_sum(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    """A flaky network and a forged file are different news."""
    site.body = zipped("packer")
    site.announced = len(site.body) + 1000
    on_record(monkeypatch, site.body)

    with pytest.raises(RouteClosedError, match="broke off after"):
        fetch_release("packer", machine.root, notes[1])


def test_a_file_of_impossible_size_is_refused_at_once(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    """A login page or a wrong address must not fill the disk."""
    site.body = b"x"
    site.announced = 2 * 1024**3
    on_record(monkeypatch, b"")

    with pytest.raises(ToolError, match=r"larger than 1\.0 GiB"):
        fetch_release("packer", machine.root, notes[1])


@pytest.mark.parametrize("names", [("README",), ("bin/packer", "packer_v1/../../etc"), ("packer_v1/x",)])
def test_an_archive_without_the_program_is_refused(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes, names: tuple[str, ...]
) -> None:
    """Only a file of the expected name is taken out, and never into another folder."""
    site.body = zipped(*names)
    on_record(monkeypatch, site.body)

    with pytest.raises(ToolError, match="does not hold one program"):
        fetch_release("packer", machine.root, notes[1])


def test_something_that_is_no_archive_is_refused(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    """Even with the right sum: then the record is of the wrong file."""
    site.body = b"<html>"
    on_record(monkeypatch, site.body)

    with pytest.raises(ToolError, match="not a zip file"):
        fetch_release("packer", machine.root, notes[1])


def test_a_full_disk_is_not_blamed_on_the_network(
    machine: Machine, site: Site, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    """Building from source instead would only fill it further."""
    site.body = zipped("packer") + bytes(64 * 1024)
    on_record(monkeypatch, site.body)
    full = Path("/dev/full")
    (machine.root / "release.zip").symlink_to(full)

    with pytest.raises(ToolError, match=r"cannot be written: No space left on device") as caught:
        fetch_release("packer", machine.root, notes[1])

    assert not isinstance(caught.value, RouteClosedError)


def test_only_web_addresses_are_fetched(machine: Machine, monkeypatch: pytest.MonkeyPatch, notes: Notes) -> None:
    """A slip in the setting must not read local files."""
    monkeypatch.setenv("GPU_AMI_RELEASES_URL", "file:///etc")
    on_record(monkeypatch, b"")

    with pytest.raises(ToolError, match=r"GPU_AMI_RELEASES_URL leads to file:///etc/packer.*https://"):
        fetch_release("packer", machine.root, notes[1])
