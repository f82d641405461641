"""The note of a build under way, and what it says when its process is gone."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_ami.console import Console
from gpu_ami.errors import BuildError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.records.unfinished_build import CutOff, cut_off, forget, under_way

RUN, REGION = "20261130T080000Z-abcdef", "eu-west-1"
BUILD = """
import os, signal, sys
from pathlib import Path
from gpu_ami.records.unfinished_build import under_way
with under_way(Path(sys.argv[1]), sys.argv[2], sys.argv[3]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(logs: Path) -> Path:
    """Kill a build and return its note."""
    subprocess.run([sys.executable, "-c", BUILD, str(logs), RUN, REGION], check=False)
    return logs / f"build-{RUN}.{REGION}.unfinished"


def test_a_build_that_is_killed_leaves_its_name(tmp_path: Path) -> None:
    """Until what it left is gone."""
    note = _killed(tmp_path / "logs")

    found = cut_off(tmp_path / "logs")
    assert found == cut_off(tmp_path / "logs") == [CutOff(RUN, REGION, note)]

    forget(found)
    assert cut_off(tmp_path / "logs") == []


def test_a_living_build_is_no_dead_one(tmp_path: Path) -> None:
    """And afterwards there is no note of it, whether it went well or Packer failed and cleaned up."""
    with under_way(tmp_path, RUN, REGION):
        assert cut_off(tmp_path) == []
    with pytest.raises(BuildError), under_way(tmp_path, RUN, REGION):
        raise BuildError

    assert list(tmp_path.iterdir()) == []


def test_a_clean_up_that_was_cut_off_counts_as_killed(tmp_path: Path) -> None:
    """A second Ctrl-C leaves the builder as kill -9 does."""
    with pytest.raises(KeyboardInterrupt), under_way(tmp_path, RUN, REGION):
        raise KeyboardInterrupt

    assert [build.run_id for build in cut_off(tmp_path)] == [RUN]


@pytest.mark.parametrize(
    ("settings", "where"), [("us-east-1", f" --region {REGION}"), (REGION, ""), ("", f" --region {REGION}")]
)
def test_the_next_invocation_names_it_once(tmp_path: Path, settings: str, where: str) -> None:
    """With the command that shows what is left, in the region where that is."""
    _killed(tmp_path / "logs")
    if settings:
        (tmp_path / "pipeline.yaml").write_text(f"region: {settings}\n")
    said = io.StringIO()
    run = Invocation(tmp_path, Options(), Console(err=said))

    for _ in range(2):
        run.tell_cut_off_builds()

    assert said.getvalue() == (
        f"warning: Build {RUN} was killed before it had cleaned up; its builder may still run, and cost. "
        f"`invoke sweep{where}` shows what is left, and removes it with --yes once it cannot be alive.\n"
    )


def test_a_build_of_a_sandbox_that_has_ended_is_not_named(tmp_path: Path) -> None:
    """Its builder ended with it."""
    _killed(tmp_path / ".sandbox" / "logs")
    said = io.StringIO()

    Invocation(tmp_path, Options(sandbox=True), Console(err=said)).tell_cut_off_builds()

    assert said.getvalue() == ""


def test_a_note_that_cannot_be_written_stops_the_build(tmp_path: Path) -> None:
    """Before it costs anything."""
    (tmp_path / "logs").write_text("")

    with pytest.raises(UsageError, match="cannot be locked"), under_way(tmp_path / "logs", RUN, REGION):
        raise AssertionError
