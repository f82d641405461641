"""The price table as the text of prices.yaml, always laid out the same way, so that a diff shows prices only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from gpu_ami.cost.price_table import InstancePrice, PriceTable, Region, Source

_HEAD = """\
# What AWS charges, in USD; null is unknown, never 0. `invoke prices` rewrites this file; what it cannot look up stays.
# A source without a date is as old as the day the table was compiled, at least.
"""
# Text that YAML could take for something else is put in quotes.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ._/()%-]*")


def render(table: PriceTable) -> str:
    """Return the text that `gpu_ami.cost.price_table.parse` reads back as *table*."""
    lines = [_HEAD.rstrip("\n"), f"currency: {table.currency}", f"compiled: {table.compiled}", "sources:"]
    lines += [f"  {key}: {_source(source)}" for key, source in table.sources.items()]
    lines.append("regions:")
    for code, region in table.regions.items():
        lines += _region(code, region)
    return "\n".join(lines) + "\n"


def _source(source: Source) -> str:
    entries = {"what": _text(source.what), "date": str(source.date or "null")}
    return _flow(entries if source.kind == "table" else {**entries, "kind": source.kind})


def _region(code: str, region: Region) -> list[str]:
    lines = [f"  {code}:", f"    name: {_text(region.name)}"]
    if region.instances_usd_per_hour:
        lines.append("    instances_usd_per_hour:")
        lines += [f"      {name}: {_instance(price)}" for name, price in region.instances_usd_per_hour.items()]
    if region.rates:
        lines.append("    rates:")
        for name, rate in region.rates.items():
            usd = "null" if rate.usd is None else f"{rate.usd:f}"
            lines.append(f"      {name}: {_flow({'usd': usd, 'source': rate.source})}")
    return lines


def _instance(price: InstancePrice) -> str:
    entries = {"on_demand": "null" if price.on_demand is None else f"{price.on_demand:f}", "source": price.source}
    if price.spot:
        entries["spot"] = _flow({zone: f"{usd:f}" for zone, usd in price.spot.items()})
    if price.spot_p10_p50_p90:
        entries["spot_p10_p50_p90"] = "[" + ", ".join(f"{usd:f}" for usd in price.spot_p10_p50_p90) + "]"
    if price.spot_source:
        entries["spot_source"] = price.spot_source
    return _flow(entries)


def _flow(entries: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in entries.items()) + "}"


def _text(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text != "null" else json.dumps(text, ensure_ascii=False)
