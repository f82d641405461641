"""The answer as data and as JSON."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from gpu_ami.cost.inputs import CostRequest
from gpu_ami.cost.price_table import load
from gpu_ami.cost.report import CostReport, report
from gpu_ami.errors import UsageError
from tests.cost.builders import REPORTED, REPORTED_AND_LOADED, SEOUL, TODAY


def _report(**fields: Any) -> CostReport:
    return report(CostRequest(**{"region": SEOUL, **fields}), load(), today=TODAY)


def test_the_documents_keys_are_the_contract() -> None:
    """Scripts read these; the values are numbers, and so is JSON's text of them."""
    document = _report(given=REPORTED_AND_LOADED).document()

    assert {
        "inputs",
        "build_usd",
        "storage_usd_per_month",
        "saved_per_launch_usd",
        "break_even_launches_per_month",
        "low",
        "mid",
        "high",
    } <= document.keys()
    assert document["build_usd"] == pytest.approx(0.4164)
    assert document["storage_usd_per_month"] == 4.5
    assert document["break_even_launches_per_month"] == 663.3
    assert {"name", "value", "unit", "source"} == document["inputs"][0].keys()
    assert json.loads(json.dumps(document)) == document


def test_never_and_unknown_are_words_of_their_own() -> None:
    """`never` is an answer, null is none; neither is a number."""
    never = _report(instance_type="g6.xlarge").document()
    unknown = _report(region="eu-west-1").document()

    assert never["break_even_launches_per_month"] == "never"
    assert unknown["break_even_launches_per_month"] is None
    assert unknown["storage_usd_per_month"] is None


def test_a_higher_instance_price_makes_the_ami_pay_earlier() -> None:
    """Low, middle and high are told apart by the instance's price."""
    document = _report(given=REPORTED_AND_LOADED).document()

    assert [document[name]["instance_usd_per_hour"] for name in ("low", "mid", "high")] == [0.37, 0.4607, 0.5252]
    assert [document[name]["break_even_launches_per_month"] for name in ("low", "mid", "high")] == [
        "never",
        663.3,
        191.4,
    ]


def test_every_input_is_listed_once_with_its_source() -> None:
    """A moving price shows its three values; a fixed one is one figure."""
    spot, fixed = _report().figures, _report(market="on-demand").figures

    names = [figure.name for figure in spot]
    assert names[:3] == ["instance_usd_per_hour_low", "instance_usd_per_hour", "instance_usd_per_hour_high"]
    assert len(names) == len(set(names)) == len(fixed) + 2
    assert all(figure.source for figure in spot)


def test_waiting_is_counted_over_the_month() -> None:
    """The honest headline: 10 cold starts x 17 minutes."""
    assert _report(given=REPORTED_AND_LOADED).waiting_saved_h_per_month == pytest.approx(Decimal(17) / 6)


def test_comparing_types_and_regions_gives_each_pair() -> None:
    """The requested one first; what a region does not sell is unknown, not left out."""
    found = _report(compare=("g6.xlarge",), regions=("us-east-1", "eu-west-1")).document()["compared"]

    assert [(row["region"], row["instance_type"]) for row in found] == [
        (region, name) for region in (SEOUL, "us-east-1", "eu-west-1") for name in ("g5.xlarge", "g6.xlarge")
    ]
    assert found[3]["instance_usd_per_hour"] == 0.3618
    assert found[5]["instance_usd_per_hour"] is None


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"region": "nowhere-1"}, "No prices for region 'nowhere-1'"),
        ({"instance_type": "g5.huge"}, "No price for 'g5.huge'"),
        ({"compare": ("g55.xlarge",)}, "No price for 'g55.xlarge'"),
        ({"regions": ("eu-west-9",)}, "No prices for region 'eu-west-9'"),
        ({"regions": ("cn-north-1",)}, "CNY"),
    ],
)
def test_unknown_names_are_refused(fields: dict[str, Any], problem: str) -> None:
    """A slip would otherwise be answered with "unknown"."""
    with pytest.raises(UsageError, match=problem):
        _report(**fields)


def test_with_a_given_price_any_type_and_region_can_be_asked() -> None:
    """Somebody with a private price needs no table."""
    answered = _report(region="nowhere-1", instance_type="p9.x", given={"instance_usd_per_hour": Decimal(3)})

    assert answered.document()["instance_usd_per_hour"] == 3.0
    assert answered.zones == ()


def test_the_preset_is_led_to_the_real_thing_step_by_step() -> None:
    """The last step is exactly what the question without a preset answers."""
    document = _report(preset="seed").document()

    steps = [step["break_even_launches_per_month"] for step in document["bridge"]]
    assert steps[0] == document["break_even_launches_per_month"] == 10.1
    assert steps[-1] == _report().document()["break_even_launches_per_month"]
    assert _report().bridge == ()


def test_old_prices_are_warned_about() -> None:
    """Over 90 days; the warning names them and what to do."""
    fresh = _report()
    old = report(CostRequest(region=SEOUL), load(), today=date(2027, 3, 1))

    assert fresh.warnings == []
    assert len(old.warnings) == 1
    assert "151 days old" in old.warnings[0]
    assert "snapshot_usd_per_gib_month" in old.warnings[0]
    assert "`invoke prices`" in old.warnings[0]


def test_unknown_prices_are_warned_about_by_name() -> None:
    """Else nobody knows which figure to give."""
    (warning,) = _report(region="eu-west-1").warnings

    assert "snapshot_usd_per_gib_month" in warning
    assert "--set" in warning


def test_no_figure_of_the_alternatives_is_made_up() -> None:
    """Fast Snapshot Restore has no known price in Seoul, but has one in Virginia."""
    seoul, virginia = (_report(region=region).document()["alternatives"] for region in (SEOUL, "us-east-1"))

    restore = [row["usd_per_month"] for row in seoul if "Restore" in row["name"]]
    assert restore == [None, None]
    assert all(row["usd_per_month"] is not None for row in virginia)
    assert seoul[0]["name"] == "stock AMI"
    assert seoul[0]["cold_start_s"] == float(_report().mid.launch.stock_s or 0)


def test_keeping_instances_for_twenty_minutes_costs_what_is_published() -> None:
    """20 minutes at $0.46 are $0.15 a burst, on top of one cold start."""
    answered = _report(given={"instance_usd_per_hour": Decimal("0.46"), "jobs_per_burst": Decimal(10)})
    kept = next(row for row in answered.alternatives if "kept" in row.name)

    assert answered.mid.launch.stock_usd is not None
    assert kept.usd_per_month is not None
    assert round(kept.usd_per_month - answered.mid.launch.stock_usd, 2) == Decimal("0.15")


def test_other_initialization_rates_are_offered_unless_the_wait_is_stated() -> None:
    """With a stated wait nothing is known about other rates."""
    open_, stated = _report(given=REPORTED), _report(given=REPORTED_AND_LOADED)

    assert [row.note for row in open_.alternatives if row.name == "baked AMI"] == [
        "initialized at 300 MiB/s",
        "volume not initialized",
        "initialized at 100 MiB/s",
    ]
    assert len([row for row in stated.alternatives if row.name == "baked AMI"]) == 1
    assert len(stated.sensitivities) == len(open_.sensitivities) - 3
    assert not [row for row in stated.alternatives if "prewarmed" in row.name]


def test_the_spread_of_the_model_is_in_the_document() -> None:
    """Programs must not take a prediction for a measurement either."""
    spread = _report().document()["cold_start"]

    for part in ("stock", "baked", "saved"):
        assert spread[part]["low_s"] < spread[part]["likely_s"] < spread[part]["high_s"]
    assert spread["saved"]["likely_s"] == spread["stock"]["likely_s"] - spread["baked"]["likely_s"]
    assert _report(preset="seed").document()["cold_start"]["saved"] == {"low_s": 1020, "likely_s": 1020, "high_s": 1020}


def test_what_both_ways_share_is_no_reason_to_doubt_their_difference() -> None:
    """A slow boot is slow with and without the AMI: what is saved is surer than both ways together."""
    spread = _report().inputs.spread

    assert spread.saved.high - spread.saved.low < (spread.stock.high - spread.stock.low) + (
        spread.baked.high - spread.baked.low
    )


def test_a_prewarmed_ami_pays_no_rate() -> None:
    """It is the way that makes the money turn: nearly as fast, and free."""
    answered = _report()
    ways = {row.name: row for row in answered.alternatives}
    rated = next(row for row in answered.alternatives if row.note == "initialized at 300 MiB/s")

    assert ways["baked AMI, prewarmed"].usd_per_month is not None
    assert rated.usd_per_month is not None
    assert ways["baked AMI, prewarmed"].usd_per_month < rated.usd_per_month
    assert ways["baked AMI, prewarmed"].cold_start_s is not None
    assert ways["stock AMI"].cold_start_s is not None
    assert ways["baked AMI, prewarmed"].cold_start_s < ways["stock AMI"].cold_start_s
