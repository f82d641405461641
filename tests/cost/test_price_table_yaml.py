"""The text of prices.yaml."""

from __future__ import annotations

from gpu_ami.cost.price_table import BUNDLED, load, parse
from gpu_ami.cost.price_table_yaml import render
from gpu_ami.files import read_text


def test_the_bundled_file_is_laid_out_as_it_would_be_written() -> None:
    """Otherwise the first `invoke prices` would change every line, and nobody would see which price moved."""
    assert render(load(BUNDLED)) == read_text(BUNDLED, what="price table")


def test_what_is_written_is_read_back() -> None:
    """Percentiles, unknown prices, odd characters in names: nothing gets lost on the way."""
    text = """\
currency: USD
compiled: 2026-11-01
sources:
  a: {what: 'a "quoted", {odd} name: yes', date: null, kind: assumed}
regions:
  x-1:
    name: null and void
    instances_usd_per_hour:
      g5.xlarge: {on_demand: null, source: a, spot: {z: 0.00001}, spot_p10_p50_p90: [1, 2, 3], spot_source: a}
  y-1:
    name: "null"
    rates:
      nat_usd_per_gb: {usd: null, source: a}
"""
    table = parse(text.replace('name: "null"', "name: 'No'"), source="t")

    assert parse(render(table), source="t") == table
