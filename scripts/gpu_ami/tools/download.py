"""Fetches official releases whose checksum the repository knows, and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from gpu_ami.errors import ToolError
from gpu_ami.foreign_text import limited, reason
from gpu_ami.tools.pins import pins
from gpu_ami.tools.tool import executable, host_platform
from gpu_ami.units import show_bytes

_RELEASES_URL = "https://releases.hashicorp.com"
_CHUNK_BYTES = 1024 * 1024
_LARGEST_BYTES = 1024**3
_ANSWER_WITHIN_S = 15.0


class RouteClosedError(ToolError):
    """This way of getting a tool is not open here; another may be."""


def release_url(product: str, version: str) -> str:
    """Return where the release of *product* for this machine is; ``GPU_AMI_RELEASES_URL`` names a mirror."""
    base = os.environ.get("GPU_AMI_RELEASES_URL", _RELEASES_URL).rstrip("/")
    return f"{base}/{product}/{version}/{product}_{version}_{host_platform()}.zip"


def known_sum(product: str) -> str:
    """Return the SHA-256 of the pinned release of *product* for this machine.

    Raises:
        RouteClosedError: The repository does not know it: what cannot be checked is not downloaded.
    """
    expected = pins().releases[product].sha256.get(host_platform())
    if expected is None:
        msg = f"no checksum of its release for {host_platform()} is on record"
        raise RouteClosedError(msg)
    return expected


def fetch_release(product: str, folder: Path, note: Callable[[str], None]) -> Path:
    """Download the pinned release of *product* into *folder*, check it and return its program, ready to run.

    Raises:
        RouteClosedError: The sum is not known, or the release site cannot be reached or lacks the file.
        ToolError: What came does not have the sum on record, or is not what it should be.
    """
    expected = known_sum(product)
    url = release_url(product, pins().releases[product].version)
    archive = folder / "release.zip"
    actual = _download(url, archive, note)
    if actual != expected:
        msg = (
            f"{url} has the SHA-256 {actual}, on record is {expected}: it was not installed. "
            "Something between here and the release site changes files, or the release was replaced."
        )
        raise ToolError(msg)
    program = _unpack(archive, product, folder)
    archive.unlink()
    return program


def _download(url: str, target: Path, note: Callable[[str], None]) -> str:
    """Write what is at *url* to *target* and return its SHA-256."""
    import http.client
    from urllib.request import Request, urlopen

    if not url.startswith(("https://", "http://")):
        msg = f"GPU_AMI_RELEASES_URL leads to {url}: give an address that starts with https://."
        raise ToolError(msg)
    digest = hashlib.sha256()
    with target.open("wb") as file:
        try:
            with urlopen(Request(url), timeout=_ANSWER_WITHIN_S) as answer:  # noqa: S310 - the scheme is checked above
                announced = int(answer.headers.get("Content-Length") or 0)
                received = 0
                while chunk := answer.read(_CHUNK_BYTES):
                    received += len(chunk)
                    _check_size(url, max(received, announced))
                    digest.update(chunk)
                    _write(file, chunk)
                    note(f"{show_bytes(received)} of {show_bytes(announced)}" if announced else show_bytes(received))
        except (OSError, http.client.HTTPException, ValueError) as exc:
            cause = getattr(exc, "reason", None) or exc
            msg = f"{url} cannot be fetched: {limited(getattr(cause, 'strerror', None) or cause)}"
            raise RouteClosedError(msg) from exc
    if received < announced:
        msg = f"{url} broke off after {show_bytes(received)} of {show_bytes(announced)}"
        raise RouteClosedError(msg)
    return digest.hexdigest()


def _check_size(url: str, size: int) -> None:
    if size > _LARGEST_BYTES:
        msg = f"{url} is larger than {show_bytes(_LARGEST_BYTES)}: that is no release of these tools."
        raise ToolError(msg)


def _write(file: IO[bytes], chunk: bytes) -> None:
    """Write *chunk*; a full disk is this machine's problem, not the network's."""
    try:
        file.write(chunk)
    except OSError as exc:
        msg = f"{file.name} cannot be written: {exc.strerror}. Free some space and run `invoke setup` again."
        raise ToolError(msg) from exc


def _unpack(archive: Path, product: str, folder: Path) -> Path:
    """Extract the one program in *archive*; plugins carry their version in its name."""
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(archive) as zipped:
            names = [
                name for name in zipped.namelist() if name == executable(product) or name.startswith(f"{product}_v")
            ]
            if len(names) != 1 or "/" in names[0]:
                msg = f"The release of {product} does not hold one program of that name but {zipped.namelist()[:5]}."
                raise ToolError(msg)
            program = folder / names[0]
            with zipped.open(names[0]) as source, program.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
    except BadZipFile as exc:
        msg = f"The release of {product} is not a zip file, although its checksum is right: {reason(exc)}."
        raise ToolError(msg) from exc
    program.chmod(0o755)
    return program
