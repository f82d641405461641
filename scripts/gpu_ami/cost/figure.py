"""A number that says what it is, in which unit, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from gpu_ami.cost.arithmetic import Number


@dataclass(frozen=True)
class Figure:
    """One input of the arithmetic.

    Attributes:
        name: What it is, with its unit: ``pull_s``, ``snapshot_usd_per_gib_month``.
        value: The number; None is unknown, which is never the same as 0.
        unit: The unit in words: ``s``, ``USD/h``.
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
