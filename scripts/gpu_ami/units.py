"""Durations, sizes and money: parsing what people type and printing what they read."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from gpu_ami.errors import UsageError

_DURATION = re.compile(r"([1-9][0-9]*)([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
# Ten years: EC2's own limit for a deprecation date, and more than any retention policy needs.
_LONGEST = timedelta(days=3653)


def parse_duration(text: str, *, name: str = "duration") -> timedelta:
    """Return the time span that *text* names, such as ``30d``, ``12h`` or ``2w``.

    Args:
        text: A positive whole number followed by ``h``, ``d`` or ``w``.
        name: What to call the value in an error, such as ``--older-than``.

    Raises:
        UsageError: *text* has another form, is zero or is longer than ten years.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        msg = f"{name} {text!r} is not a duration: give a whole number with a unit, such as 12h, 30d or 2w."
        raise UsageError(msg)
    # More digits than any age within ten years has are never made a number.
    span = timedelta(**{_UNITS[match[2]]: int(match[1])}) if len(match[1]) < 7 else None
    if span is None or span > _LONGEST:
        msg = f"{name} {text.strip()[:40]!r} is longer than ten years: give at most 3653d."
        raise UsageError(msg)
    return span


def show_duration(seconds: float) -> str:
    """Return *seconds* as people say it: ``0.8 s``, ``42 s``, ``3 m 07 s``, ``2 h 05 m``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m"


def show_minutes(low_s: float, high_s: float) -> str:
    """Return a range of seconds in minutes, for a narrow column: ``3.4 to 9.6 min``, ``12 to 31 min``."""
    return f"{_minutes(low_s)} to {_minutes(high_s)} min"


def _minutes(seconds: float) -> str:
    text = f"{seconds / 60:.0f}" if abs(seconds) >= 600 else f"{seconds / 60:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def show_count(number: int, noun: str, plural: str = "") -> str:
    """Return *number* with its noun: ``1 AMI``, ``3 AMIs``.

    Args:
        number: How many.
        noun: Of what, in the singular.
        plural: The plural where an ``s`` does not make it.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def show_bytes(count: float) -> str:
    """Return *count* bytes in binary units with one decimal: ``17.0 GiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def show_usd(amount: Decimal | None) -> str:
    """Return *amount* in US dollars, to the cent; ``unknown`` for None, never 0."""
    if amount is None:
        return "unknown"
    if 0 < amount < Decimal("0.005"):
        return "< $0.01"
    return f"${amount:,.2f}"
