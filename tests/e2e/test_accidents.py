"""Disks that are full, for real: a tiny one lies where the pipeline writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gpu_ami.tools import guest_tools
from tests.e2e.conftest import Checkout

_KIB = 1024


def _on_a_small_disk(checkout: Checkout, folder: Path, kib: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a task for which *folder* is a disk of its own of *kib* KiB."""
    folder.mkdir(parents=True)
    disk = ("--size", str(kib * _KIB), "--tmpfs", str(folder))
    return subprocess.run(
        [str(guest_tools().bwrap.path), "--dev-bind", "/", "/", *disk, sys.executable, "-m", "invoke", *arguments],
        cwd=checkout.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_disk_that_fills_up_in_a_clean_up_shows_what_was_deleted(checkout: Checkout) -> None:
    """The journal was true before, but a traceback came instead of the table, and exit code 1 instead of 7."""
    logs = checkout.root / ".sandbox" / "logs"
    cleanup = ("cleanup", "--older-than", "30d", "--yes", "--permanent", "--sandbox", "--output", "json")

    # Room for what is to be done to each AMI, not for what came of it.
    done = _on_a_small_disk(checkout, logs, 8, *cleanup)

    assert done.returncode == 7, done.stderr
    results = [result["status"] for result in json.loads(done.stdout)["results"]]
    deleted = results.count("deleted")
    assert deleted > 0
    last = done.stderr.splitlines()[-1]
    assert "No space left on device; nothing more is changed." in last
    assert f"Done before that: {deleted} of {len(results)}." in last
    assert "Traceback" not in done.stderr


def test_a_sandbox_that_does_not_fit_says_so(checkout: Checkout) -> None:
    """One line that names the file, and a way out."""
    done = _on_a_small_disk(checkout, checkout.root / ".sandbox", 16, "sandbox")

    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: The sandbox cannot start: No space left on device (")
    assert "or a link to one on another disk." in last
    assert "Traceback" not in done.stderr
