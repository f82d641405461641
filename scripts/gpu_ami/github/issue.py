"""One issue each for a clean-up's plan and for what is new at AWS, kept up to date; closed when nothing is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_ami.errors import UsageError
from gpu_ami.foreign_text import in_markdown
from gpu_ami.github.propose import said
from gpu_ami.github.runner import TEXT_LIMIT, Runner, shortened
from gpu_ami.units import show_count

LABEL = "gpu-ami-cleanup"
TITLE = "AMIs that nothing needs"
# A list that nobody would read to its end is in the run's artifact.
_SHOWN_MEMBERS = 200


@dataclass(frozen=True)
class _Issue:
    """The one open issue with a label.

    Attributes:
        label: By which it is found again.
        title: Its title when it is made.
        quiet: What there is nothing of, as in ``nothing is to be removed``.
    """

    label: str
    title: str
    quiet: str

    def update(self, body: str, runner: Runner, folder: Path, *, has_work: bool) -> str:
        """Create, update or close it; return its number, or an empty text."""
        described = ("--force", "--description", "Kept up to date by the pipeline")
        said(("gh", "label", "create", self.label, *described), folder)
        found = ("--label", self.label, "--state", "open", "--json", "number", "--jq", ".[0].number // empty")
        number = said(("gh", "issue", "list", *found), folder)
        if not has_work and not number:
            runner.say(f"No issue: {self.quiet}.")
            return ""
        file = folder / f"{self.label.removeprefix('gpu-ami-')}-issue.md"
        file.write_text(body, encoding="utf-8")
        if number:
            said(("gh", "issue", "edit", number, "--body-file", str(file)), folder)
        else:
            words = ("--title", self.title, "--label", self.label, "--body-file", str(file))
            number = said(("gh", "issue", "create", *words), folder).rpartition("/")[2]
        if not has_work:
            closing = f"{self.quiet[0].upper()}{self.quiet[1:]} any more."
            said(("gh", "issue", "close", number, "--comment", closing), folder)
        runner.say(f"Issue #{number} is up to date.")
        return number


_CLEANUP = _Issue(LABEL, TITLE, "nothing is to be removed")
_MEMBERS = _Issue("gpu-ami-members", "New at AWS: members that may name an AMI", "nothing is new at AWS")


def _cleanup_of(family: str | None) -> _Issue:
    # A label has 50 letters at most, a family's name 40.
    return _CLEANUP if family is None else _Issue(f"cleanup-{family}", f"{TITLE}, of {family}", _CLEANUP.quiet)


def report(document: Mapping[str, Any], runner: Runner, folder: Path, *, family: str | None = None) -> str:
    """Create, update or close the issue about the clean-up plan *document*; return its number, or an empty text.

    Args:
        document: The plan.
        runner: Tells the run's page.
        folder: The repository.
        family: Whose plan it is, of several families, of which each has an issue of its own.
    """
    totals = document.get("totals") or {}
    has_work = bool(totals.get("delete")) or any(
        source.get("status") == "failed" for source in document.get("sources", ())
    )
    return _cleanup_of(family).update(text(document, runner), runner, folder, has_work=has_work)


def report_members(document: Mapping[str, Any], runner: Runner, folder: Path) -> str:
    """Create, update or close the issue about members that docs/references.md lacks; return its number or ``""``.

    Args:
        document: What ``python -m tests.support.naming_members FILE`` wrote: ``botocore``, a version, and ``new``.
        runner: Tells the run's page.
        folder: The repository.

    Raises:
        UsageError: The document is another one: without its list nothing would seem new.
    """
    new = document.get("new")
    if not isinstance(new, list):
        msg = 'The comparison with the newest botocore has no list "new": run `nox -s models -- FILE` first.'
        raise UsageError(msg)
    return _MEMBERS.update(_members_text(document, new, runner), runner, folder, has_work=bool(new))


def _members_text(document: Mapping[str, Any], new: Sequence[object], runner: Runner) -> str:
    shown = [f"- {in_markdown(str(member))}" for member in new[:_SHOWN_MEMBERS]]
    more = len(new) - len(shown)
    has = f"botocore {in_markdown(str(document.get('botocore')))} has {show_count(len(new), 'member')}"
    what_to_do = (
        "Give each a row there, with its class; where one of our AMIs can be named, clean-up needs a source that reads "
        "it (.github/CONTRIBUTING.md). Until then an AMI that only this needs can be deleted: tag it `gpu-ami:keep`."
    )
    parts = [
        f"{has} that may name an AMI or a snapshot and that docs/references.md does not name:",
        "\n".join([*shown, *([f"- and {more} more"] if more else [])]),
        what_to_do,
    ]
    if runner.run_url:
        parts.append(f"From [this run]({runner.run_url}).")
    return shortened("\n\n".join(parts) + "\n", TEXT_LIMIT)


def text(document: Mapping[str, Any], runner: Runner) -> str:
    """Return the issue's text: the sum, what could not be queried, the AMIs, how to go on."""
    totals = document.get("totals") or {}
    selected = [verdict for verdict in document.get("verdicts", ()) if verdict.get("action") != "keep"]
    failed = [source for source in document.get("sources", ()) if source.get("status") == "failed"]
    monthly = totals.get("usd_per_month")
    saved = "" if monthly is None else f", ${float(monthly):.2f} a month"
    size = f"{float(totals.get('gib') or 0):.0f} GiB{saved}"
    kept = totals.get("keep", 0)
    unneeded = show_count(totals.get("delete", 0), "AMI")
    parts = [f"Nothing needs {unneeded} ({size}); {kept} {'is' if kept == 1 else 'are'} kept."]
    if failed:
        parts += ["Everything is kept while this cannot be queried:", _failures(failed)]
    if selected:
        parts.append(_table(selected))
    parts.append(
        "Run the workflow *Clean up* by hand with the action `apply` to remove them; it plans again first. "
        "The tag `gpu-ami:keep=true` keeps an AMI for good."
    )
    if runner.run_url:
        parts.append(f"From [this run]({runner.run_url}), which has every verdict with its reason.")
    return shortened("\n\n".join(parts) + "\n", TEXT_LIMIT)


def _failures(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each source that failed; those for want of a permission share one, if there are several."""
    denied = [source for source in sources if source.get("denied")]
    denied = denied if len(denied) > 1 else []
    actions, names = (", ".join(sorted({str(source.get(key)) for source in denied})) for key in ("denied", "name"))
    lines = [f"the role may not do {actions} ({names}): docs/cleanup.md lists what to allow"] if denied else []
    lines += [
        f"{source.get('name')} ({source.get('region') or 'here'}): {source.get('error')}"
        for source in sources
        if source not in denied
    ]
    return "\n".join("- " + in_markdown(line) for line in lines)


def _table(verdicts: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (verdict.get("image_id"), verdict.get("region"), str(verdict.get("created"))[:10], verdict.get("action"))
        for verdict in verdicts
    ]
    lines = [f"| {' | '.join(in_markdown(str(cell)) for cell in row)} |" for row in rows]
    return "\n".join(["| AMI | region | made | would be |", "| --- | --- | --- | --- |", *lines])
