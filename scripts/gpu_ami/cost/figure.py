"""A number that says what it is, in which unit, and where it comes from."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One input of the arithmetic.

    Attributes:
        name: What it is, with its unit: ``pull_s``, ``snapshot_usd_per_gib_month``.
        value: The number; None is unknown, which is never the same as 0.
        unit: The unit as text: ``s``, ``USD/h``.
        source: ``measured: …``, ``live price of DATE …``, ``table of DATE …``, ``assumed: …``, ``computed: …``
            or ``given: …``.
        as_of: The day a price is known to have held; None for what is not a price.
    """

    name: str
    value: Number
    unit: str
    source: str
    as_of: date | None = None

    def document(self) -> dict[str, Any]:
        """Return the figure as JSON-ready values: the number as a number, unknown as null."""
        value = None if self.value is None else float(self.value)
        return {"name": self.name, "value": value, "unit": self.unit, "source": self.source}


@dataclass(frozen=True)
class Range:
    """A price that moves: what it is when low, in the middle and when high."""

    low: Figure
    mid: Figure
    high: Figure


# None is unknown.
Number = Decimal | None


def total(*parts: Number) -> Number:
    """Return the sum of *parts*; unknown when one of them is."""
    known = [part for part in parts if part is not None]
    return sum(known, Decimal(0)) if len(known) == len(parts) else None


def product(*factors: Number) -> Number:
    """Return the product of *factors*; unknown when one of them is, unless another one is 0.

    Nothing bought at an unknown price costs nothing.
    """
    if any(factor == 0 for factor in factors):
        return Decimal(0)
    known = [factor for factor in factors if factor is not None]
    return functools.reduce(operator.mul, known, Decimal(1)) if len(known) == len(factors) else None


def negative(number: Number) -> Number:
    """Return *number* with the other sign."""
    return None if number is None else -number


def as_json(number: Number, digits: int = 4) -> float | None:
    """Return *number* as JSON has it: a number rounded to *digits*, or null."""
    return None if number is None else round(float(number), digits)
