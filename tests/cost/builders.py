"""Small inputs for the tests of cost/."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from gpu_ami.cost.inputs import CostRequest, gather
from gpu_ami.cost.model import Case
from gpu_ami.cost.price_table import load

SEOUL = "ap-northeast-2"
TODAY = date(2026, 11, 23)


# What was reported of a cold start, given as if it were measured: tests of the arithmetic rest on no model.
REPORTED = {
    name: Decimal(seconds)
    for name, seconds in (("stock_boot_s", 120), ("pull_s", 1020), ("models_s", 60), ("baked_boot_s", 120))
}
REPORTED_AND_LOADED = {**REPORTED, "lazy_load_s": Decimal(60)}


def seed_case(**changes: str | float) -> Case:
    """Return the original estimate's case with *changes*: it has no volume, address, failures or hydration."""
    given = {name: Decimal(str(value)) for name, value in changes.items()}
    request = CostRequest(region=SEOUL, preset="seed", given=given)
    return gather(request, load()).case()


def real_case(region: str = SEOUL, **changes: str | float) -> Case:
    """Return the case of everyday use with *changes*."""
    given = {name: Decimal(str(value)) for name, value in changes.items()}
    return gather(CostRequest(region=region, given=given), load()).case()
