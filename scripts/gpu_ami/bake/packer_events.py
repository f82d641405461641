"""Parses Packer's machine-readable output and folds its events into the progress of a build."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

Phase = Literal["starting", "launching", "provisioning", "imaging", "finishing", "cancelling"]

PHASE_TITLES: dict[Phase, str] = {
    "starting": "checking inputs",
    "launching": "launching the builder",
    "provisioning": "provisioning",
    "imaging": "making the AMI",
    "finishing": "ending the builder",
    "cancelling": "cancelling: Packer ends what it started",
}

_TAIL_LINES = 12


@dataclass(frozen=True)
class Event:
    """One line of ``packer -machine-readable``: ``timestamp,target,type,data…`` with the escapes undone."""

    target: str
    kind: str
    data: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How far a build is; `advance` makes the next one.

    Attributes:
        scripts: The provisioning scripts of the template, in order, without folder and suffix.
        phase: What Packer is doing.
        step: Which script runs, from 1; 0 before the first.
        instance_id: The builder, once it exists.
        ami_id: The new AMI in the build's region, once EC2 has named it.
        amis: Region to AMI id, as the finished artifact says.
        errors: What Packer called an error, in order.
        tail: The last lines that were said.
        script_tail: The last lines of the script that failed, before Packer's clean-up talk.
    """

    scripts: tuple[str, ...]
    phase: Phase = "starting"
    step: int = 0
    instance_id: str = ""
    ami_id: str = ""
    amis: dict[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    script_tail: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The phase for people, with the script's name while provisioning."""
        if self.phase == "provisioning" and 0 < self.step <= len(self.scripts):
            return f"step {self.step} of {len(self.scripts)}: {self.scripts[self.step - 1]}"
        return PHASE_TITLES[self.phase]


def parse_line(line: str) -> Event | None:
    """Return the event that *line* holds; None for what is not machine-readable (a panic, a warning)."""
    parts = line.split(",")
    if len(parts) < 3 or not parts[0].isdigit():
        return None
    return Event(target=parts[1], kind=parts[2], data=tuple(_unescape(part) for part in parts[3:]))


def _unescape(text: str) -> str:
    return text.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n").replace("\\r", "\r")


_SCRIPT = re.compile(r"Provisioning with shell script: (?P<path>\S+)")
_INSTANCE = re.compile(r"Instance ID: (?P<id>i-[0-9a-f]+)")
_AMI = re.compile(r"^AMI: (?P<id>ami-[0-9a-f]+)")
_FAILED = "Provisioning step had errors"
_PREFIX = re.compile(r"^(?:==> [\w.-]+: ?|[\w-]+\.[\w.-]+: ?)")
_PHASES: tuple[tuple[re.Pattern[str], Phase], ...] = (
    (re.compile(r"^(Launching a (?:source|spot) AWS|Creating temporary keypair|Requesting spot)"), "launching"),
    (re.compile(r"^(Provisioning with|Connected to SSH)"), "provisioning"),
    (re.compile(r"^(Stopping the source instance|Creating AMI)"), "imaging"),
    (re.compile(r"^(Terminating the source AWS|Cleaning up any extra volumes)"), "finishing"),
    (re.compile(r"^(Cancelling build|Cancelling provisioner)"), "cancelling"),
)


def advance(progress: Progress, event: Event) -> Progress:
    """Return *progress* after *event*."""
    if event.kind == "ui" and len(event.data) >= 2:
        return _said(progress, event.data[0], event.data[1])
    if event.kind == "error" and event.data:
        return replace(progress, errors=(*progress.errors, event.data[0].strip()))
    if event.kind == "artifact" and len(event.data) >= 3 and event.data[1] == "id":
        pairs = dict(part.split(":", 1) for part in event.data[2].split(",") if ":ami-" in part)
        return replace(progress, amis={**progress.amis, **pairs})
    return progress


def _said(progress: Progress, level: str, text: str) -> Progress:
    # One UI event may hold many lines of a script's output.
    lines = [said for raw in text.splitlines() if (said := said_by(raw))]
    if not lines:
        return progress
    new = progress
    for line in lines:
        if level != "error":
            new = _understood(new, line)
        new = replace(new, tail=(*new.tail, line)[-_TAIL_LINES:])
    return new


def _understood(progress: Progress, line: str) -> Progress:
    if progress.phase != "cancelling":
        for pattern, phase in _PHASES:
            if pattern.search(line):
                progress = replace(progress, phase=phase)
                break
    if line.startswith(_FAILED):
        return replace(progress, script_tail=progress.tail)
    if script := _SCRIPT.search(line):
        # What the step before it said is no reason for this one's failure.
        return replace(progress, step=_step_of(progress, PurePosixPath(script["path"]).stem), tail=())
    if instance := _INSTANCE.search(line):
        return replace(progress, instance_id=instance["id"])
    if ami := _AMI.search(line):
        return replace(progress, ami_id=ami["id"])
    return progress


def _step_of(progress: Progress, script: str) -> int:
    """Return the position of *script*, the next one of that name if a template runs it twice."""
    later = [n for n, name in enumerate(progress.scripts, 1) if name == script and n > progress.step]
    return later[0] if later else progress.step


def said_by(line: str) -> str:
    """Return *line* without Packer's ``==> build:`` prefix and surrounding blanks."""
    return _PREFIX.sub("", line.strip(), count=1).strip()


def failure(progress: Progress) -> str:
    """Return why the build failed, in one line: Packer's first error, else the last line said."""
    # What is wrong with a template or a data source is said in several lines; the first is the one.
    headed = [line.removeprefix("Error: ") for line in progress.tail if line.startswith("Error: ")]
    said = (*progress.errors[:1], *headed[:1], *reversed(progress.tail), "Packer said nothing")
    return " ".join(said[0].split())
