"""One issue that says what a clean-up would remove, kept up to date; closed when there is nothing to remove."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_ami.foreign_text import in_markdown
from gpu_ami.github.propose import said
from gpu_ami.github.runner import TEXT_LIMIT, Runner, shortened
from gpu_ami.units import show_count

LABEL = "gpu-ami-cleanup"
TITLE = "AMIs that nothing needs"


def report(document: Mapping[str, Any], runner: Runner, folder: Path) -> str:
    """Create, update or close the issue about the clean-up plan *document*; return its number, or an empty text."""
    totals = document.get("totals") or {}
    has_work = bool(totals.get("delete")) or any(
        source.get("status") == "failed" for source in document.get("sources", ())
    )
    said(("gh", "label", "create", LABEL, "--force", "--description", "Kept up to date by the pipeline"), folder)
    found = ("--label", LABEL, "--state", "open", "--json", "number", "--jq", ".[0].number // empty")
    number = said(("gh", "issue", "list", *found), folder)
    if not has_work and not number:
        runner.say("No issue: nothing is to be removed.")
        return ""
    body = folder / "cleanup-issue.md"
    body.write_text(text(document, runner), encoding="utf-8")
    if number:
        said(("gh", "issue", "edit", number, "--body-file", str(body)), folder)
    else:
        made = said(("gh", "issue", "create", "--title", TITLE, "--label", LABEL, "--body-file", str(body)), folder)
        number = made.rpartition("/")[2]
    if not has_work:
        said(("gh", "issue", "close", number, "--comment", "Nothing is to be removed any more."), folder)
    runner.say(f"Issue #{number} is up to date.")
    return number


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
    return "\n".join(
        "- " + in_markdown(f"{source.get('name')} ({source.get('region') or 'here'}): {source.get('error')}")
        for source in sources
    )


def _table(verdicts: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (verdict.get("image_id"), verdict.get("region"), str(verdict.get("created"))[:10], verdict.get("action"))
        for verdict in verdicts
    ]
    lines = [f"| {' | '.join(in_markdown(str(cell)) for cell in row)} |" for row in rows]
    return "\n".join(["| AMI | region | made | would be |", "| --- | --- | --- | --- |", *lines])
