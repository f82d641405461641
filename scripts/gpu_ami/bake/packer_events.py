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
        part: What Packer did last after the scripts had passed, such as ``tagging the AMI ami-1``; empty until then.
        reason: What the plugin called an error then, before its clean-up: an error of that may follow.
        is_ending: Whether Packer cleans up, after a build that went well or one that failed.
        complaints: What was called an error meanwhile: of these Packer makes no failure.
        profile: The temporary instance profile, whose role has its name; empty where there is none.
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
    part: str = ""
    reason: str = ""
    is_ending: bool = False
    complaints: tuple[str, ...] = ()
    profile: str = ""

    @property
    def place(self) -> str:
        """What the build was at when it went on to its clean-up: what to name when it failed."""
        if self.part:
            return self.part
        if self.phase != "finishing":
            return self.title
        # A failed script sends Packer straight to its clean-up: the step before that is the one to name.
        return self._step_title or PHASE_TITLES["launching"]

    @property
    def title(self) -> str:
        """The phase for people, with the script's name while provisioning."""
        return (self._step_title if self.phase == "provisioning" else "") or PHASE_TITLES[self.phase]

    @property
    def _step_title(self) -> str:
        if 0 < self.step <= len(self.scripts):
            return f"step {self.step} of {len(self.scripts)}: {self.scripts[self.step - 1]}"
        return ""


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
_PROFILE = re.compile(r"^Creating temporary instance profile for this instance: (?P<name>packer-\S+)$")
_FAILED = "Provisioning step had errors"
# The first words of each step's clean-up in the amazon plugin; of a failed build they follow the error itself. A script
# may print some of them, so they are taken whole.
_ENDING = re.compile(
    rf"^({_FAILED}: Running the cleanup provisioner|Deregistering the AMI and deleting "
    r"|Terminating the source AWS instance\.\.\.$|Cleaning up any extra volumes\.\.\.$"
    r"|No volumes to clean up, skipping$|Detaching temporary role from instance profile\.\.\.$"
    r"|Removing policy from temporary role\.\.\.$"
    r"|Deleting temporary (role|instance profile|security group|keypair)\.\.\.$)"
)
# What follows the scripts, by the line with which the plugin begins it. Packer runs the error-cleanup provisioner for
# whatever fails from here on, too, and would have it a failed script.
WAITING = "waiting for the AMI"
POST_PROCESSING = "writing the manifest"
_PARTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(line), part)
    for line, part in (
        (r"^Stopping the source instance\.\.\.$", "stopping the builder"),
        (r"^Creating AMI \S+ from instance i-[0-9a-f]+$", "making the AMI"),
        (r"^Waiting for AMI to become ready\.\.\.$", WAITING),
        (r"^Copying/Encrypting AMI \(ami-[0-9a-f]+\) to other regions", "copying the AMI"),
        (r"^Enabling deprecation on AMI \((?P<ami>ami-[0-9a-f]+)\)", "setting the deprecation date of the AMI"),
        (r"^Modifying attributes on AMI \((?P<ami>ami-[0-9a-f]+)\)", "setting the attributes of the AMI"),
        (r"^Modifying: (users|groups|ami org arns|ami ou arns)$", "sharing the AMI"),
        (r"^Modifying: (description|imds_support|product codes)$", "setting the attributes of the AMI"),
        (r"^Adding tags to AMI \((?P<ami>ami-[0-9a-f]+)\)", "tagging the AMI"),
    )
)
_PROTECTING = ("failed to enable AMI deregistration protection", "protecting the AMI")
_POST_PROCESSOR = "Running post-processor: "
# What the SDK makes of an error when the cleanup provisioner fails as well, as on a builder that is stopped.
_CLEANUP_FAILED = re.compile(r"^Cleanup failed: .*?Original Provisioning error: ", re.DOTALL)
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
    if level == "error":
        new = _blamed(new, " ".join(lines))
    for line in lines:
        if level != "error":
            new = _understood(new, line)
        new = replace(new, tail=(*new.tail, line)[-_TAIL_LINES:])
    return new


def _blamed(progress: Progress, text: str) -> Progress:
    """Return *progress* after the error *text*; what a script writes to its standard error comes as one, too."""
    if progress.is_ending:
        return replace(progress, complaints=(*progress.complaints, text))
    if not progress.part:
        return progress
    beginning, protecting = _PROTECTING
    # The plugin says nothing when it begins to.
    part = protecting if text.startswith(beginning) else progress.part
    return replace(progress, part=part, reason=text)


def _understood(progress: Progress, line: str) -> Progress:
    if script := _SCRIPT.search(line):
        return _started(progress, PurePosixPath(script["path"]).stem)
    progress = _in_part(_in_phase(progress, line), line)
    if line.startswith(_FAILED):
        return replace(progress, script_tail=progress.tail)
    if instance := _INSTANCE.search(line):
        return replace(progress, instance_id=instance["id"])
    if ami := _AMI.search(line):
        return replace(progress, ami_id=ami["id"])
    if profile := _PROFILE.search(line):
        return replace(progress, profile=profile["name"])
    return progress


def _started(progress: Progress, script: str) -> Progress:
    """Return *progress* after the start of a script; the cleanup provisioner's is none of the template's steps."""
    if progress.is_ending and script not in progress.scripts:
        return progress
    phase = progress.phase if progress.phase == "cancelling" else "provisioning"
    # What the step before it said is no reason for this one's failure; nor does one begin after the end.
    return replace(progress, phase=phase, step=_step_of(progress, script), tail=(), part="", reason="", is_ending=False)


def _in_phase(progress: Progress, line: str) -> Progress:
    if progress.phase == "cancelling":
        return progress
    found = next((phase for pattern, phase in _PHASES if pattern.search(line)), None)
    if found is None or (progress.is_ending and found not in ("finishing", "cancelling")):
        return progress
    return replace(progress, phase=found)


def _in_part(progress: Progress, line: str) -> Progress:
    if progress.is_ending and line.startswith(_POST_PROCESSOR):
        return replace(progress, part=POST_PROCESSING, reason="")
    if _ENDING.search(line):
        return replace(progress, is_ending=True)
    if progress.is_ending:
        # The one refusal that the plugin does not call an error.
        told = (line,) if line.startswith("Error deleting volume: ") else ()
        return replace(progress, complaints=(*progress.complaints, *told))
    for pattern, part in _PARTS:
        if match := pattern.search(line):
            ami = match.groupdict().get("ami")
            return replace(progress, part=f"{part} {ami}" if ami else part)
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
    first = [progress.reason] if progress.reason else []
    said = (*first, *progress.errors[:1], *headed[:1], *reversed(progress.tail), "Packer said nothing")
    return " ".join(_CLEANUP_FAILED.sub("", said[0]).split())
