"""A fleet's clean-up over many machines: the same plan as one machine's, and nothing goes by a part that is not whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.demo_organization import demo_organization
from tests.support.spread import Spread

pytestmark = pytest.mark.slow


@pytest.fixture
def spread(aws_server: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spread]:
    """The demo organization as if just made, and nobody's workflow."""
    for name in ("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    with demo_organization(aws_server, tmp_path) as made:
        yield Spread(made)


def timeless(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan without its times."""
    rows = [row | {"recoverable_until": None} for row in plan["verdicts"]]
    return plan | {"made_at": None, "verdicts": rows}


def test_the_plan_is_that_of_one_machine(spread: Spread) -> None:
    names = spread.surveys()
    assert names == ["1/3", "2/3", "3/3"]
    merged, error = spread.merge()
    assert error is None
    one = spread.demo.cleanup()
    assert json.dumps(timeless(merged), indent=1) == json.dumps(timeless(one), indent=1)
    assert merged["owners"] == [spread.demo.hub, spread.demo.ids["video"]]
    for owner in merged["owners"]:
        done, error = spread.apply(owner)
        assert error is None
        print(done["results"])
