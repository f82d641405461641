"""`invoke prices`: refreshes the price table from the AWS Price List and spot price history."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.price_list import RATE_QUERIES, SPOT_DAYS, look_up
from gpu_ami.console import Table
from gpu_ami.cost import live_prices, price_table, price_table_yaml
from gpu_ami.cost.specs import comma_list
from gpu_ami.errors import DifferenceError, PartialError
from gpu_ami.files import write_atomic
from gpu_ami.invocation import Invocation
from gpu_ami.units import show_count

# In the sandbox, whose price list is short, it would be 200 lines, and the result below them all.
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Refreshed:
    """The price table, looked up again.

    Attributes:
        file: Where it belongs.
        old: Its text before.
        new: Its text now.
        problems: What could not be looked up and stays as it was.
    """

    file: Path
    old: str
    new: str
    problems: Sequence[str]

    @property
    def changed(self) -> bool:
        """Whether a price or its date is another one now."""
        return self.old != self.new

    def diff(self) -> str:
        """Return the change as a unified diff."""
        lines = difflib.unified_diff(self.old.splitlines(), self.new.splitlines(), "old", "new", "", "", 0, "")
        return "\n".join(lines)

    def document(self, shown: str) -> dict[str, Any]:
        """Return the result as JSON-ready values; *shown* is how the file is named."""
        return {"file": shown, "changed": self.changed, "problems": list(self.problems)}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke prices`` requests.

    Attributes:
        regions: Only these, joined by commas; all regions of the table by default.
        check: Whether nothing is written and a change is exit code 9.
    """

    regions: str | None = None
    check: bool = False


def run(run: Invocation, request: Request) -> None:
    """Look every price up again and show what changed; `refresh` and `finish` say what can go wrong."""
    finish(run, refresh(run, regions=request.regions), check=request.check)


def refresh(run: Invocation, *, regions: str | None = None) -> Refreshed:
    """Return the price table with everything that AWS says now; nothing is written.

    Args:
        run: This invocation. In the sandbox a copy of the table is refreshed.
        regions: Only these, joined by commas; all regions of the table by default.

    Raises:
        UsageError: A region has no prices in USD.
        AwsError: AWS could not be queried.
    """
    file = run.target.price_table or price_table.BUNDLED
    before = price_table.load(file) if file.exists() else price_table.load()
    after, now = before, datetime.now(timezone.utc)
    problems: list[str] = []
    chosen = comma_list(regions, "--regions") or tuple(before.regions)
    for region in chosen:
        before.check_region(region, has_live=False)  # all of them, before AWS is asked about the first
    for region in chosen:
        types = before.regions[region].instances_usd_per_hour
        with run.console.step(f"prices of {region}"):
            answers = look_up(Caller(run.access, region), types=types, rates=RATE_QUERIES, now=now)
        found = live_prices.summarise(answers, region, types=types, now=now, spot_days=SPOT_DAYS)
        after = live_prices.overlay(after, found, kind="table")
        problems += answers.problems.values()
    return Refreshed(file, price_table_yaml.render(before), price_table_yaml.render(after), problems)


def finish(run: Invocation, refreshed: Refreshed, *, check: bool = False) -> None:
    """Show what `refresh` found and write it, unless this is a check or a dry run.

    Raises:
        DifferenceError: This is a check, and something changed.
        PartialError: Some prices could not be looked up; the others were written.
    """
    shown = run.workspace.shown(refreshed.file)
    dry = check or run.options.dry_run
    if refreshed.changed:
        run.console.say_diff(refreshed.diff())
        if not dry:
            write_atomic(refreshed.file, refreshed.new, what="price table")
        run.console.say(f"{'Would write' if dry else 'Wrote'} {shown}.")
    else:
        run.console.say(f"{shown} is up to date; left alone.")
    for problem in refreshed.problems[:_SHOWN_PROBLEMS]:
        run.console.warn(problem)
    if (more := len(refreshed.problems) - _SHOWN_PROBLEMS) > 0:
        run.console.warn(f"{show_count(more, 'other price')} not found: `--output json` names each.")
    rows = [(shown, "yes" if refreshed.changed else "no", str(len(refreshed.problems)))]
    run.console.result(refreshed.document(shown), Table(columns=("file", "changed", "not found"), rows=rows))
    if check and refreshed.changed:
        msg = f"Prices in {shown} have changed: run `invoke prices`."
        raise DifferenceError(msg)
    if refreshed.problems:
        missing = len(refreshed.problems)
        fate = "was not found and stays as it was" if missing == 1 else "were not found and stay as they were"
        msg = f"{show_count(missing, 'price')} {fate} in {shown}: see the warnings."
        raise PartialError(msg)
