"""A presigned URL goes through a whole build: its signature must turn up nowhere."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.conftest import Checkout

MARKER = "5ec2e7-s1gnature-0f-a-presigned-url"
# Reading every process a hundred times a second was a third of these tests' processor time.
_YOUNG_S, _ALL_EVERY = 0.5, 50


class ProcessList:
    """Reads every process's command line, of the guest's too, again and again."""

    def __init__(self, typed: Sequence[str]) -> None:
        """Watch all but the command *typed*: what the user types is the user's.

        It is left out by its text: a child shows its parent's line between fork and exec.
        """
        self._typed, self._over = " ".join([*typed, ""]), threading.Event()
        self.seen: set[str] = set()
        self.with_marker: set[str] = set()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        """Read who is new each time, and all now and then: a process changes its command line as it begins, if ever."""
        since: dict[str, float] = {}
        for number in itertools.count():
            if self._over.wait(0.01):
                return
            now = time.monotonic()
            since = {path.name: since.get(path.name, now) for path in Path("/proc").iterdir() if path.name.isdigit()}
            for name, seen in since.items():
                if number % _ALL_EVERY == 0 or now - seen < _YOUNG_S:
                    self._read(name)

    def _read(self, pid: str) -> None:
        if pid == str(os.getpid()):
            return
        with contextlib.suppress(OSError):
            line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            self.seen.add(line.partition(" ")[0].rpartition("/")[2])
            if MARKER in line and line != self._typed:
                self.with_marker.add(line)

    @contextlib.contextmanager
    def watching(self) -> Iterator[ProcessList]:
        """Watch meanwhile."""
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()


def presigned(live: Any, *, key: str | None = None) -> str:
    """Return a value for model_downloads: one object of the demo bucket by a URL whose signature is the marker."""
    account = live.account
    name = next(iter(sorted(account.model_checksums)))
    url: str = live.access.client("s3").generate_presigned_url(
        "get_object", Params={"Bucket": account.models_bucket, "Key": key or f"{account.models_prefix}{name}"}
    )
    base, _, query = url.partition("?")
    pairs = [pair for pair in query.split("&") if not pair.startswith(("Signature=", "X-Amz-Signature="))]
    url = "&".join([f"{base}?X-Amz-Signature={quote(MARKER)}", *pairs])
    return json.dumps([{"url": url, "path": "private/listed.bin", "sha256": ""}])


def files_with_marker(folder: Path) -> list[Path]:
    """Return the files below *folder* that hold the marker; the memory of a builder, which ends with it, is not one."""
    found = []
    for path in folder.rglob("*"):
        if "live" in path.relative_to(folder).parts:
            continue
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink() and MARKER.encode() in path.read_bytes():
                found.append(path)
    return found


def _text(path: Path) -> str:
    """Return the text of a file that another build of this user's may be about to remove."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def run_watched(checkout: Checkout, *arguments: str, **env: str) -> tuple[int, str, ProcessList]:
    """Run a task and return its status, both streams, and what the process list showed."""
    child = checkout.popen(*arguments, **env)
    assert isinstance(child.args, list)
    with ProcessList(child.args).watching() as listed:
        out, err = child.communicate(timeout=300)
    return child.returncode, out + err, listed


def test_a_presigned_url_is_downloaded_and_its_signature_is_nowhere(shared: Checkout, live: Any) -> None:
    """Not in the log, the record, a tag, the manifest, the image, a process list; the file is there all the same."""
    value = presigned(live)

    status, said, listed = run_watched(
        shared, "build", "--sandbox", "--output", "json", "--var", f"model_downloads={value}"
    )

    assert status == 0, said
    built = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert MARKER not in said
    assert {"packer", "bwrap"} <= listed.seen, "the builder's processes were read too"
    assert listed.with_marker == set()
    state = shared.root / ".sandbox"
    assert files_with_marker(state) == []
    assert "private/listed.bin" in (state / "release.json").read_text(), "it did arrive"
    (image,) = live.access.client("ec2").describe_images(ImageIds=[built["ami_id"]])["Images"]
    tags = live.access.client("ec2").describe_tags()["Tags"]
    assert MARKER not in json.dumps([image, tags], default=str)
    left = Path(tempfile.gettempdir()).glob("gpu-ami-*/*/*/given.pkrvars.hcl")
    assert not [path for path in left if MARKER in _text(path)]


def test_a_failed_download_says_why_without_the_signature(shared: Checkout, live: Any) -> None:
    """The log is what people attach to a ticket; the builder's own logs lie beside it."""
    value = presigned(live, key="models/no-such-object.bin")

    status, said, listed = run_watched(shared, "build", "--sandbox", "--var", f"model_downloads={value}")

    assert status == 5, said
    assert "listed.bin" in said
    last = said.strip().splitlines()[-1]
    assert "download-models" in last
    assert MARKER not in said
    assert listed.with_marker == set()
    assert files_with_marker(shared.root / ".sandbox") == []
    logs = Path(last.partition("The builder's own logs are in ")[2].partition(" ")[0].rstrip("."))
    assert logs.stat().st_mode & 0o777 == 0o600
    assert "--- df -h /" in logs.read_text()


@pytest.mark.parametrize("arguments", [("build", "--dry-run"), ("validate", "--dry-run"), ("validate",), ("doctor",)])
def test_no_other_task_shows_the_signature(shared: Checkout, live: Any, arguments: tuple[str, ...]) -> None:
    """A dry run prints command lines; they name a file instead of the value."""
    status, said, listed = run_watched(shared, *arguments, "--sandbox", "--var", f"model_downloads={presigned(live)}")

    assert status == 0, said
    assert MARKER not in said
    assert listed.with_marker == set()


def test_a_value_that_packer_refuses_is_refused_without_it(shared: Checkout, live: Any) -> None:
    """Packer shows the line of a variables file that it does not like."""
    value = presigned(live).replace('"private/', '"../')

    done = shared.invoke("validate", "--sandbox", "--var", f"model_downloads={value}")

    assert done.returncode == 5
    assert "relative path inside models_dir" in done.stderr
    assert MARKER not in done.stdout + done.stderr
