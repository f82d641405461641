"""The note of a build under way: one that is left without its process names a build that nobody cleaned up after."""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.errors import PipelineError
from gpu_ami.locks import held

# The name says it all; a lock on the file says that the build is alive.
_NAME = re.compile(
    r"build-(?P<run_id>[^.]+)\.(?P<region>[^.]+)\.(?P<account>[^.]+)\.(?P<family>[^.]+)(\.(?P<profile>[^.]+))?\.unfinished"
)
# A file's name has 255 bytes; a profile with a longer name is not worth a build that cannot begin.
_LONGEST_PROFILE = 100


@dataclass(frozen=True, kw_only=True)
class Whose:
    """What a build left is found by: only who looks in this account for this family sees it.

    Attributes:
        account: The account's id.
        family: The family of AMIs.
    """

    account: str
    family: str


@dataclass(frozen=True, kw_only=True)
class CutOff:
    """A build whose process is gone without having cleaned up.

    Attributes:
        run_id: Names it in tags and logs.
        region: Where it was.
        whose: In which account, and of which family.
        profile: The AWS profile that was asked for; empty where none was.
        note: The file that says so.
    """

    run_id: str
    region: str
    whose: Whose
    profile: str
    note: Path


@contextlib.contextmanager
def under_way(logs: Path, run_id: str, region: str, whose: Whose, profile: str | None = None) -> Iterator[None]:
    """Keep a note in *logs* of a build that may leave things behind; it goes when the build has cleaned up.

    Raises:
        UsageError: The note cannot be written.
    """
    parts = [run_id, region, whose.account, whose.family, profile or ""]
    *needed, asked_for = (urllib.parse.quote(part, safe="").replace(".", "%2E") for part in parts)
    named = [asked_for] if 0 < len(asked_for) <= _LONGEST_PROFILE else []
    note = logs / f"build-{'.'.join([*needed, *named])}.unfinished"
    has_tidied = False
    try:
        with held(note, busy=f"The build {run_id} is under way already: wait for it to end."):
            try:
                yield
                has_tidied = True
            except PipelineError:
                # By now nothing is left, or the error names it. What comes instead, as a second Ctrl-C, cuts that off.
                has_tidied = True
                raise
    finally:
        if has_tidied:
            with contextlib.suppress(OSError):
                note.unlink()


def cut_off(logs: Path) -> list[CutOff]:
    """Return the builds that the notes in *logs* name and that nobody is at any more, the oldest first."""
    found = []
    for note in sorted(logs.glob("build-*.unfinished")):
        # One that is held is of a living build; of one that is not ours to lock nobody knows.
        with contextlib.suppress(PipelineError), held(note, busy="alive"):
            if match := _NAME.fullmatch(note.name):
                part = {name: urllib.parse.unquote(text or "") for name, text in match.groupdict().items()}
                found.append(
                    CutOff(
                        run_id=part["run_id"],
                        region=part["region"],
                        whose=Whose(account=part["account"], family=part["family"]),
                        profile=part["profile"],
                        note=note,
                    )
                )
    return found


def forget(builds: Iterable[CutOff]) -> None:
    """Remove the notes of *builds*, of which nothing is left."""
    for build in builds:
        with contextlib.suppress(OSError):
            build.note.unlink()
