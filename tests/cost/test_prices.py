"""`invoke prices`: the price table, looked up again."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_ami.console import Console
from gpu_ami.cost import prices
from gpu_ami.cost.price_table import BUNDLED, load, parse
from gpu_ami.errors import DifferenceError, PartialError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami_sandbox.session import Sandbox

_SEOUL = "ap-northeast-2"


def _run(root: Path, local_aws: Sandbox, **options: Any) -> tuple[Invocation, io.StringIO]:
    """Return an invocation on the local AWS, which writes a copy of the table, and what it says."""
    err = io.StringIO()
    run = Invocation(root, Options(sandbox=True, **options), Console(out=io.StringIO(), err=err))
    run.__dict__["access"] = local_aws.access
    return run, err


def test_the_table_is_rewritten_with_a_diff(tmp_path: Path, local_aws: Sandbox) -> None:
    """What AWS says is dated today; what it does not say stays, and is named."""
    run, err = _run(tmp_path, local_aws)
    before = BUNDLED.read_bytes()

    with pytest.raises(PartialError, match="not found and stay as they were"):
        prices.finish(run, prices.refresh(run, regions=_SEOUL))

    written = parse((tmp_path / ".sandbox" / "prices.yaml").read_text(), source="written")
    assert "live" not in written.rate(_SEOUL, "snapshot_usd_per_gib_month").source
    assert written.rate(_SEOUL, "nat_usd_per_gb") == load().rate(_SEOUL, "nat_usd_per_gb")
    assert written.hourly(_SEOUL, "g5.xlarge", "spot") != load().hourly(_SEOUL, "g5.xlarge", "spot")
    assert written.regions["us-east-1"] == load().regions["us-east-1"]
    said = err.getvalue()
    assert "-      snapshot_usd_per_gib_month: {usd: 0.05, source: aws}" in said
    assert "no price of nat_usd_per_gb" in said
    assert "Wrote .sandbox/prices.yaml." in said
    assert before == BUNDLED.read_bytes()


def test_a_second_look_starts_from_the_first(
    tmp_path: Path, local_aws: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And finds nothing new: the file is left alone."""
    # Of the same moment: at midnight the date changes, and twice a day a spot price.
    began = datetime.now(timezone.utc)
    monkeypatch.setattr(prices, "datetime", SimpleNamespace(now=lambda _zone: began))
    first, _ = _run(tmp_path, local_aws)
    with pytest.raises(PartialError):
        prices.finish(first, prices.refresh(first, regions=_SEOUL))
    second, err = _run(tmp_path, local_aws)

    refreshed = prices.refresh(second, regions=_SEOUL)
    with pytest.raises(PartialError):
        prices.finish(second, refreshed)

    assert not refreshed.changed
    assert "is up to date; left alone" in err.getvalue()


@pytest.mark.parametrize(
    ("options", "check", "error"), [({}, True, DifferenceError), ({"dry_run": True}, False, PartialError)]
)
def test_a_check_and_a_dry_run_write_nothing(
    tmp_path: Path, local_aws: Sandbox, options: dict[str, Any], check: bool, error: type[Exception]
) -> None:
    """CI may ask whether the table is old; exit 9 says yes."""
    run, err = _run(tmp_path, local_aws, **options)

    with pytest.raises(error):
        prices.finish(run, prices.refresh(run, regions="us-east-1"), check=check)

    assert "Would write .sandbox/prices.yaml." in err.getvalue()
    assert not (tmp_path / ".sandbox" / "prices.yaml").exists()


def test_a_complete_look_ends_well(tmp_path: Path, local_aws: Sandbox) -> None:
    """Without problems there is no error; the document is what programs read."""
    run, _ = _run(tmp_path, local_aws)
    refreshed = prices.Refreshed(tmp_path / "p.yaml", "a\n", "b\n", ())

    prices.finish(run, refreshed)

    assert (tmp_path / "p.yaml").read_text() == "b\n"
    assert refreshed.document("p.yaml") == {"file": "p.yaml", "changed": True, "problems": []}


@pytest.mark.parametrize(("missing", "more"), [(10, None), (11, "1 other price"), (188, "178 other prices")])
def test_many_missing_prices_do_not_bury_the_result(
    tmp_path: Path, local_aws: Sandbox, missing: int, more: str | None
) -> None:
    """The sandbox's price list is short: 188 warnings were 13 screens; programs still get each."""
    run, err = _run(tmp_path, local_aws)
    problems = [f"no price of {number}" for number in range(missing)]
    refreshed = prices.Refreshed(tmp_path / "p.yaml", "a\n", "b\n", problems)

    with pytest.raises(PartialError, match=f"{missing} prices were not found"):
        prices.finish(run, refreshed)

    warnings = [line for line in err.getvalue().splitlines() if line.startswith("warning")]
    assert warnings[:10] == [f"warning: {problem}" for problem in problems[:10]]
    assert warnings[10:] == ([f"warning: {more} not found: `--output json` names each."] if more else [])
    assert refreshed.document("p.yaml")["problems"] == problems


@pytest.mark.parametrize("region", ["cn-north-1", "eu-west-9", "-x"])
def test_a_region_without_prices_is_refused(tmp_path: Path, local_aws: Sandbox, region: str) -> None:
    """A new region is added to the table by a person, with its name."""
    run, _ = _run(tmp_path, local_aws)

    with pytest.raises(UsageError) as caught:
        prices.refresh(run, regions=region)

    assert "--live" not in str(caught.value), "invoke prices has no such flag"
