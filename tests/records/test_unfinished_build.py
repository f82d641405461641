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
from gpu_ami.records.unfinished_build import CutOff, Whose, cut_off, forget, under_way

RUN, REGION = "20261130T080000Z-abcdef", "eu-west-1"
OURS = Whose(account="123456789012", family="gpu-batch")
BUILD = """
import os, signal, sys
from pathlib import Path
from gpu_ami.records.unfinished_build import Whose, under_way
logs, run_id, region, account, family, profile = sys.argv[1:]
with under_way(Path(logs), run_id, region, Whose(account=account, family=family), profile):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(logs: Path, profile: str = "") -> Path:
    """Kill a build and return its note."""
    whose = [OURS.account, OURS.family, profile]
    subprocess.run([sys.executable, "-c", BUILD, str(logs), RUN, REGION, *whose], check=False)
    (note,) = logs.iterdir()
    return note


def test_a_build_that_is_killed_leaves_its_name(tmp_path: Path) -> None:
    """Until what it left is gone."""
    note = _killed(tmp_path / "logs")

    found = cut_off(tmp_path / "logs")
    assert found == cut_off(tmp_path / "logs") == [CutOff(run_id=RUN, region=REGION, whose=OURS, profile="", note=note)]

    forget(found)
    assert cut_off(tmp_path / "logs") == []


def test_a_living_build_is_no_dead_one(tmp_path: Path) -> None:
    """And afterwards there is no note of it, whether it went well or Packer failed and cleaned up."""
    with under_way(tmp_path, RUN, REGION, OURS):
        assert cut_off(tmp_path) == []
    with pytest.raises(BuildError), under_way(tmp_path, RUN, REGION, OURS):
        raise BuildError

    assert list(tmp_path.iterdir()) == []


def test_a_clean_up_that_was_cut_off_counts_as_killed(tmp_path: Path) -> None:
    """A second Ctrl-C leaves the builder as kill -9 does."""
    with pytest.raises(KeyboardInterrupt), under_way(tmp_path, RUN, REGION, OURS):
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
        f"`invoke sweep{where}` shows what is left in account {OURS.account}, and removes it with --yes once it cannot "
        "be alive.\n"
    )


def test_the_advice_leads_to_where_the_build_was(tmp_path: Path) -> None:
    """Without its profile and family the sweep looks in another account, finds nothing, and all seems well."""
    _killed(tmp_path / "logs", "team a.prod")
    (tmp_path / "pipeline.yaml").write_text(f"region: {REGION}\nfamily: another\n")
    said = io.StringIO()

    Invocation(tmp_path, Options(), Console(err=said)).tell_cut_off_builds()

    assert "`invoke sweep --profile 'team a.prod'`, with `family: gpu-batch` in the settings, shows" in said.getvalue()


def test_a_long_name_of_a_profile_stops_no_build(tmp_path: Path) -> None:
    """A file's name has 255 bytes."""
    note = _killed(tmp_path / "logs", "é" * 80)

    assert len(note.name) < 255
    assert [(build.whose, build.profile) for build in cut_off(tmp_path / "logs")] == [(OURS, "")]


def test_a_build_of_a_sandbox_that_has_ended_is_not_named(tmp_path: Path) -> None:
    """Its builder ended with it."""
    _killed(tmp_path / ".sandbox" / "logs")
    said = io.StringIO()

    Invocation(tmp_path, Options(sandbox=True), Console(err=said)).tell_cut_off_builds()

    assert said.getvalue() == ""


def test_a_note_that_cannot_be_written_stops_the_build(tmp_path: Path) -> None:
    """Before it costs anything."""
    (tmp_path / "logs").write_text("")

    with pytest.raises(UsageError, match="cannot be locked"), under_way(tmp_path / "logs", RUN, REGION, OURS):
        raise AssertionError


def test_of_several_families_each_is_one_that_a_sweep_is_about(tmp_path: Path) -> None:
    """`invoke sweep` takes all of them: nothing has to be changed in the settings first."""
    _killed(tmp_path / "logs")
    (tmp_path / "pipeline.yaml").write_text(f"region: {REGION}\nfamilies: {{{OURS.family}: {{}}}}\n")
    said = io.StringIO()

    Invocation(tmp_path, Options(), Console(err=said)).tell_cut_off_builds()

    assert "`invoke sweep` shows" in said.getvalue()
