"""Durations, sizes and money."""

from __future__ import annotations

import ast
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.units import parse_duration, show_bytes, show_count, show_duration, show_minutes, show_usd

PRODUCT = Path(__file__).parents[1] / "scripts" / "gpu_ami"


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        (" 2w ", timedelta(weeks=2)),
        ("3653d", timedelta(3653)),
    ],
)
def test_parse_duration_reads_whole_units(text: str, span: timedelta) -> None:
    """The forms that the help text promises are the forms that work."""
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text", ["", "0d", "-1d", "30", "1mo", "1.5d", "d", "3654d", "9999999w", "\uff13d", "30D", "1d2h"]
)
def test_parse_duration_refuses_everything_else(text: str) -> None:
    """A wrong age must never be guessed at: it decides what is deleted."""
    with pytest.raises(UsageError, match="--older-than"):
        parse_duration(text, name="--older-than")


@pytest.mark.parametrize("text", ["3654d", "9999999w", "99999999999d", "9" * 5000 + "h"])
def test_an_age_that_is_only_too_long_is_called_so(text: str) -> None:
    """It has the right form: to be told of the form sends people searching for a slip that is not there."""
    with pytest.raises(UsageError, match="is longer than ten years: give at most 3653d") as caught:
        parse_duration(text)

    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.84, "0.8 s"), (9.94, "9.9 s"), (42.4, "42 s"), (187, "3 m 07 s"), (59.7, "1 m 00 s"), (7500, "2 h 05 m")],
)
def test_show_duration_reads_like_a_person_says_it(seconds: float, shown: str) -> None:
    """Progress lines are read at a glance, so the unit follows the size."""
    assert show_duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (17 * 1024**3, "17.0 GiB"), (2 * 1024**4, "2.0 TiB")],
)
def test_show_bytes_uses_binary_units(count: float, shown: str) -> None:
    """AWS bills and reports in GiB; a decimal GB would disagree with the console."""
    assert show_bytes(count) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(None, "unknown"), (Decimal("0"), "$0.00"), (Decimal("0.004"), "< $0.01"), (Decimal("1234.5"), "$1,234.50")],
)
def test_show_usd_never_prints_zero_for_unknown(amount: Decimal | None, shown: str) -> None:
    """An unknown price that reads as free would be believed."""
    assert show_usd(amount) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((0, "AMI"), "0 AMIs"),
        ((1, "AMI"), "1 AMI"),
        ((2, "AMI"), "2 AMIs"),
        ((1, "launch", "launches"), "1 launch"),
        ((2, "launch", "launches"), "2 launches"),
    ],
)
def test_show_count_knows_one_from_many(given: tuple[int, str], shown: str) -> None:
    """A reader of "1 AMIs" doubts the number."""
    assert show_count(*given) == shown


@pytest.mark.parametrize(
    ("ends_s", "shown"),
    [
        ((195, 479), "3.2 to 8 min"),
        ((300, 900), "5 to 15 min"),
        ((-1, 599), "0 to 10 min"),
        ((-90, 0), "-1.5 to 0 min"),
    ],
)
def test_a_range_of_minutes_fits_a_narrow_column(ends_s: tuple[float, float], shown: str) -> None:
    """As two durations it is broken within the second, which then reads as another."""
    assert show_minutes(*ends_s) == shown


def test_no_message_counts_one_amis() -> None:
    """Where a message says how many there are of something, one of it is possible: `show_count` knows that."""
    # A number of a whole ("2 of 3 checks", "all 3 actions") has a plural that is right.
    whole, plural = re.compile(r"\b(of|all) $"), re.compile(r" (?!of\b)([a-z]+ )?[A-Za-z-]+s\b")
    wrong = []
    for path in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = [ast.Constant(""), *node.values] if isinstance(node, ast.JoinedStr) else []
            for before, number, after in zip(parts, parts[1:], parts[2:], strict=False):
                is_count = isinstance(number, ast.FormattedValue) and re.match(
                    r"len\(|sum\(", ast.unparse(number.value)
                )
                if is_count and plural.match(_text(after)) and not whole.search(_text(before)):
                    wrong.append(f"{path.name}:{number.lineno}: {_text(after)}")

    assert wrong == []


def _text(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else ""
