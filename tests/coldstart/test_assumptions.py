"""What a person may give as an input of the model, and what its own inputs have to be like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.coldstart.assumptions import (
    ASSUMPTIONS,
    FITTED,
    WIDE,
    Range,
    Width,
    assumed,
    ends,
    held,
    parse_ranges,
    widened,
    with_given,
)
from gpu_ami.errors import UsageError


def test_inputs_are_given_as_numbers_and_ranges() -> None:
    """One number is certain; of two the likely one is in the middle of their proportion."""
    assert parse_ranges(["image_gib= 9 ", "code_mb_s=5..20", "queue_s=1..2..9", "load_s=1e1"], flag="--set") == {
        "image_gib": Range(9, 9, 9),
        "code_mb_s": Range(5, 10, 20),
        "queue_s": Range(1, 2, 9),
        "load_s": Range(10, 10, 10),
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["queue_s"], "'queue_s' is not name=value: write for example --set reader_mb_s=4..7..14"),
        (["queue_s=1", "queue_s=2"], "gives queue_s twice"),
        (["queues=1"], "no input 'queues': did you mean queue_s"),
        (["x=1"], "no input 'x': `invoke coldstart --inputs` prints all of them"),
        (["queue_s="], "'' is not a number or range: give one in s without the unit"),
        (["queue_s=5 s"], "'5 s' is not a number or range"),
        (["image_gib=17GB"], "'17GB' is not a number or range"),
        (["queue_s=nan"], "'nan' is not a number or range"),
        (["queue_s=inf"], "'inf' is not a number or range"),
        (["queue_s=1..nan..9"], "is not a number or range"),
        (["queue_s=1..2..3..4"], "is not a number or range"),
        (["queue_s=1-9"], "is not a number or range"),
        (["queue_s=-1"], "'-1' must be 0 or more s"),
        (["queue_s=-1..5"], "must be 0 or more s"),
        (["code_mb_s=0..5"], "must be above 0 MB/s"),
        (["queue_s=9..1"], "'9..1' is upside down: give the low end first"),
        (["queue_s=1..9..5"], "is upside down"),
        (["rate_mib_s=301"], "more than 300 MiB/s, which cannot be: check the unit"),
        (["queue_s=1e999"], "more than 86,400 s"),
        (["image_gib=17000000000"], "more than 65,536 GiB"),
        ([f"queue_s={'9' * 400}"], "more than 86,400 s"),
    ],
)
def test_what_cannot_be_is_refused_with_the_value(arguments: list[str], problem: str) -> None:
    """A slip would be answered with a confident number otherwise; the message is one line."""
    with pytest.raises(UsageError, match=problem) as caught:
        parse_ranges(arguments, flag="--set")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ASSUMPTIONS)
def test_no_assumption_is_wider_than_a_factor_of_two_either_way(name: str) -> None:
    """The bound of the whole prediction rests on it; shares and powers are no seconds."""
    item = ASSUMPTIONS[name]

    assert item.source
    if item.range is not None:
        assert 0 <= item.range.low <= item.range.likely <= item.range.high <= item.highest
    if item.range is not None and item.unit in ("s", "MB/s", "GiB", "MiB/s"):
        assert item.range.high <= 2.01 * item.range.likely
        assert item.range.likely <= 2.01 * item.range.low


def test_what_is_divided_by_is_no_millionth_of_its_unit() -> None:
    """1e-308 MiB/s gave infinite seconds, which are no JSON; 0.2 for 200 is seen by whoever reads the answer."""
    for name, item in ASSUMPTIONS.items():
        if item.positive:
            with pytest.raises(UsageError, match=r"is less than 0\.001 .*: check the unit\.$"):
                parse_ranges([f"{name}=1e-308..1"], flag="--set")


def test_no_input_is_named_after_a_source() -> None:
    """A number of one measurement is no input: inputs are physics and hold for anybody."""
    assert not [name for name in ASSUMPTIONS if any(word in name for word in ("vllm", "lab", "eks", "dlc"))]


def test_the_fit_moves_the_inputs_of_its_group_and_no_other() -> None:
    """A factor above 1 is slower: more seconds, fewer MB/s."""
    moved = assumed({"host": 2.0, "data": 2.0})
    plain = assumed({})

    boot, reader = (ASSUMPTIONS[name].range for name in ("boot_s", "reader_mb_s"))
    assert boot is not None
    assert reader is not None
    assert moved["boot_s"].range == boot.times(2)
    assert moved["reader_mb_s"].range == reader.times(1 / 2)
    assert moved["queue_s"].range == plain["queue_s"].range
    assert "moved by the fit" in moved["boot_s"].source
    assert "moved by the fit" not in moved["queue_s"].source
    assert assumed() == assumed(FITTED)


def test_what_is_given_is_used_as_it_is() -> None:
    """The fit is about what is assumed."""
    inputs = with_given(assumed({"host": 2.0}), {"boot_s": Range(30, 30, 30)}, "--set")

    assert inputs["boot_s"].range == Range(30, 30, 30)
    assert inputs["boot_s"].source == "given: --set"


def test_the_fast_end_has_fast_rates_and_short_times() -> None:
    """Else low would be no lower bound of anything."""
    three = ends(assumed({}))

    assert three.fast["queue_s"] < three.likely["queue_s"] < three.slow["queue_s"]
    assert three.fast["code_mb_s"] > three.likely["code_mb_s"] > three.slow["code_mb_s"]
    assert "compressed_gib" not in three.likely


@given(low=st.floats(0, 1e5), more=st.floats(0, 1e5), most=st.floats(0, 1e5))
def test_a_held_range_keeps_its_likely_value(low: float, more: float, most: float) -> None:
    """It is narrowed from outside, never moved."""
    wide = Range(low, low + more, low + more + most)

    narrow = held(wide, WIDE)

    assert narrow.likely == wide.likely
    assert wide.low <= narrow.low <= narrow.likely <= narrow.high <= wide.high
    assert narrow.high <= 4 * narrow.low + 1e-9


def test_a_widened_range_is_so_wide_whatever_its_inputs_say() -> None:
    """Neither the ends of several inputs together nor one narrow input say how often the model misses."""
    width = Width(2, 3)

    assert widened(Range(9, 10, 11), width) == widened(Range(1, 10, 100), width) == Range(5, 10, 30)
    assert widened(Range(10, 10, 10), width) == Range(10, 10, 10)
