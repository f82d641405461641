"""Collects what a run hands to the next job: the file to commit, the text of the pull request and the records."""

from __future__ import annotations

import difflib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.foreign_text import in_markdown, reason, visible
from gpu_ami.github.runner import Runner, facts_table
from gpu_ami.handover import tfvars
from gpu_ami.hcl import find
from gpu_ami.records import provenance
from gpu_ami.records.tags import AMI_ID
from gpu_ami.units import show_duration
from gpu_ami.workspace import Workspace

ARTIFACTS = Path("artifacts")
HANDOVER = "handover"
BEFORE = "before"
# What goes with a hand-over of an AMI: records of what was measured of it, and its provenance.
MEASURED = "measured"
TITLE = "title.txt"
BODY = "body.md"
# As much as a clean-up's plan may have: one of some thousand AMIs has more than a megabyte.
_LIMIT_BYTES = 256 * 1024 * 1024
_AMI = re.compile(rf"{AMI_ID.pattern}\b")


@dataclass(frozen=True)
class RunFiles:
    """Where the files of one run are.

    Attributes:
        workspace: The folders that the tasks wrote to.
        handover: The file that Terraform reads, from the repository's root.
        before: The same file as it is in the repository, or None where it has none.
        artifacts: The folder to fill.
        variable: The variable that takes the AMI, where the file may name other families' AMIs; else None.
    """

    workspace: Workspace
    handover: str
    before: Path | None
    artifacts: Path
    variable: str | None = None


def document_in(path: Path) -> Mapping[str, Any]:
    """Return the JSON document that a task wrote to *path*; ``{}`` when it wrote none.

    Raises:
        UsageError: The file is missing or holds something else.
    """
    hint = "Did the step before write it?"
    text = read_text(path, what="task's result", limit_bytes=_LIMIT_BYTES, hint=hint).strip()
    last = text.rpartition("\n")[2]
    try:
        # A file that a task wrote is one document; on stdout each task has a line of its own.
        document = json.loads(last if last.startswith("{") else text) if text else {}
    except ValueError as exc:
        msg = f"{path} is not the JSON of a task: {reason(exc)}. Run the task with --output json."
        raise UsageError(msg) from exc
    if not isinstance(document, dict):
        msg = f"{path} holds a {type(document).__name__}, not the JSON object of a task."
        raise UsageError(msg)
    return document


def collect(document: Mapping[str, Any], title: str, files: RunFiles, runner: Runner) -> bool:
    """Fill the artifacts folder from a task's *document*, tell the runner, and return whether the hand-over changed.

    ``{ami}`` in *title* is replaced by the AMI's id.
    """
    folder = files.artifacts
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for record in (files.workspace.manifest, files.workspace.release):
        if record.is_file():
            shutil.copy2(record, folder / record.name)
    _take_provenance(document, files)
    old, new = _content(files.before), _content(files.workspace.state / files.handover)
    diff = _diff(old, new, files.handover)
    # A rollback's document names environments: what was handed over is in the file.
    ami = str(document.get("ami_id") or next(iter(_AMI.findall(_value(files, new))), ""))
    title = visible(title.replace("{ami}", ami or "no AMI"))
    text = f"{facts_table({'AMI': ami} | _facts(document) if ami else _facts(document))}\n"
    text += f"\n{_fenced(diff)}\n" if diff else "\nTerraform's variable is up to date.\n"
    if diff:
        target = folder / HANDOVER / files.handover
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(new)
        (folder / TITLE).write_text(f"{title}\n", encoding="utf-8")
        (folder / BODY).write_text(text, encoding="utf-8")
    runner.say(f"### {in_markdown(title)}\n\n{text}")
    runner.set(ami_id=ami, changed="true" if diff else "false")
    return bool(diff)


def _take_provenance(document: Mapping[str, Any], files: RunFiles) -> None:
    """Copy the provenance of what a build made to where the next job looks for what goes with a hand-over."""
    made = document.get("amis")
    for ami in made.values() if isinstance(made, dict) else ():
        if isinstance(ami, str) and AMI_ID.fullmatch(ami):
            path = provenance.path_of(files.workspace.terraform, ami)
            for source in (path, provenance.bundle_of(path)):
                if source.is_file():
                    target = files.artifacts / MEASURED / "terraform" / provenance.FOLDER / source.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, target)


def _content(file: Path | None) -> bytes:
    """Return the bytes of *file*, none where it is not there: a text would lose the kind of its line ends."""
    return file.read_bytes() if file is not None and file.is_file() else b""


def _value(files: RunFiles, content: bytes) -> str:
    """Return what *content*, the hand-over, gives the family's variable; all of it where it is of one family."""
    text = content.decode("utf-8", "replace")
    if files.variable is None:
        return text
    file = files.workspace.state / files.handover
    try:
        document = tfvars.load(file, text)
        return find(document, tfvars.path_in(document, file, files.variable)).text
    except UsageError:
        return ""


def _diff(old: bytes, new: bytes, name: str) -> str:
    """Return the change as a unified diff; empty only when not a byte differs."""
    before, after = (content.decode("utf-8", "backslashreplace").split("\n") for content in (old, new))
    lines = difflib.unified_diff(before, after, name, name, lineterm="")
    return "\n".join(line.rstrip("\r") for line in lines).rstrip()


def _fenced(diff: str) -> str:
    """Return *diff* as a code block of Markdown, with a fence that no line of it can close."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", diff))])
    return "\n".join([f"{fence}diff", *(visible(line, keep="\t") for line in diff.rstrip().split("\n")), fence])


def _facts(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what is worth a line on a phone; what the task did not say is left out."""
    cost, size, seconds = (document.get(name) for name in ("build_cost_usd", "snapshot_gib", "duration_s"))
    facts = {
        "Region": document.get("region"),
        "Name": document.get("name"),
        "Base AMI": document.get("source_ami_id"),
        "Snapshot": None if size is None else f"{size:.1f} GiB",
        "Took": None if seconds is None else show_duration(float(seconds)),
        "Build cost": None if cost is None else f"${cost:.2f}",
        "Why": document.get("reason"),
    }
    return {name: str(value) for name, value in facts.items() if value}
