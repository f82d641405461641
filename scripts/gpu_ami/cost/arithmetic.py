"""Sums and products in which an unknown part makes the whole unknown, never 0."""

from __future__ import annotations

import functools
import operator
from decimal import Decimal

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
