"""The record of a bench: what was measured of which AMI against which, kept with the code that it is about.

It is what `apply` believes, where the settings say so. The figures are kept and not only the verdict: `apply` judges
them by the limits that the settings have by then.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from gpu_ami.records.ami_record import Records
from gpu_ami.units import show_count, show_duration

FORMAT: Literal["gpu-ami-bench-1"] = "gpu-ami-bench-1"
# What a file may say: no number beyond these was measured, and figures are shown with no more digits than people read.
_LONGEST_S = 7 * 86_400
Seconds = Annotated[float, msgspec.Meta(ge=-_LONGEST_S, le=_LONGEST_S)]
# What is compared goes from a job's submission to one of these.
Until = Literal["models_done", "imports_done"]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Against(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What whole pairs of the baked AMI and another one say.

    Attributes:
        ami_id: The other AMI.
        pairs: How many are whole.
        better: On how many of them the baked one was faster.
        median_difference_s: The median of baked less other, seconds; negative is faster.
        median_s: The other one's median, seconds.
        until: What both go to from the submission: the models, or the imports where only the baked AMI has models.
    """

    ami_id: str
    pairs: Count
    better: Count
    median_difference_s: Seconds
    median_s: Seconds
    until: Until = "models_done"


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gate judges.

    Attributes:
        arm: Which way to start was judged: ``plain`` or ``rated``.
        rate_mib_s: Its launch template's rate; None without one.
        hosts: On how many hosts that count.
        worst_s: The slowest of them, seconds from the job's submission to its models being ready; None without any.
        missed: How many more came to nothing by the AMI or its way to start.
        missed_why: By what the first of these did; None without any.
        stock: Against the AMI that it was made from; None where that was not among the arms.
        live: Against the AMI that was live; None where none, or the same one, was.
        open: Why not every arm that was run is answered; None where all are.
    """

    arm: Literal["plain", "rated"]
    rate_mib_s: Count | None
    hosts: Count
    worst_s: Seconds | None
    missed: Count = 0
    missed_why: str | None = None
    stock: Against | None
    live: Against | None
    open: str | None


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bench said: whether it passed, by which rule, and how many of how many pairs were better."""

    passed: bool
    rule: str
    better: Count
    of: Count
    chance: float


class Bench(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bench measured.

    Attributes:
        format: `FORMAT`.
        ami_id: The AMI.
        region: Where it is.
        account: Whose it is.
        instance_type: What it was measured on.
        benched_at: When, UTC, ISO 8601.
        run: The bench's run.
        image_digest: The baked image's digest, as the AMI's tag says.
        fingerprints: What the AMI was made from, as its tags say.
        measured: The figures.
        gate: What was said of them, by the limits of then.
        sandbox: Whether it was the sandbox: then its times are invented, and it says nothing about AWS.
    """

    format: Literal["gpu-ami-bench-1"] = FORMAT
    ami_id: str
    region: str
    account: str
    instance_type: str
    benched_at: str
    run: str
    image_digest: str
    fingerprints: dict[str, str]
    measured: Measured
    gate: Gate
    sandbox: bool


RECORDS = Records(type=Bench, task="bench", of="a bench", folder="benches")


def refusal(measured: Measured, *, max_regression: float, target_s: float | None) -> str | None:
    """Return which rule the AMI breaks, in one line; None when it breaks none.

    Args:
        measured: The figures.
        max_regression: How much slower than the live AMI it may be, as a share of that one's median.
        target_s: What the slowest host may take; None is as long as it likes.
    """
    stock, live = measured.stock, measured.live
    if stock is not None and stock.median_difference_s >= 0:
        pairs = _median_of(stock)
        return f"it is not faster than the stock AMI {stock.ami_id}: {_signed(stock.median_difference_s)}, {pairs}"
    if live is not None and live.median_difference_s > max_regression * live.median_s:
        most = f"more than {max_regression:.0%} of its {show_duration(live.median_s)}"
        by = _signed(live.median_difference_s)
        return f"it is slower than the live AMI {live.ami_id} by {most}: {by}, {_median_of(live)}"
    if measured.missed:
        return _miss(measured, target_s)
    if target_s is not None and measured.worst_s is not None and measured.worst_s > target_s:
        return f"its slowest host took {show_duration(measured.worst_s)}, and target_s is {target_s:g}"
    return None


def _miss(measured: Measured, target_s: float | None) -> str:
    """Return that a job would have waited for nothing: whatever the target is, such a start is over it."""
    of = show_count(measured.hosts + measured.missed, f"{measured.arm} host")
    over = "" if target_s is None else f", which is over target_s, {target_s:g}, too"
    said = f"{measured.missed} of {of} came to nothing by the AMI or its way to start"
    return f"{said}{over} ({measured.missed_why})"


def praise(measured: Measured) -> str:
    """Return what an AMI that breaks no rule has shown, in one line."""
    said = [
        f"{_signed(against.median_difference_s)} against the {name} AMI {against.ami_id}, {_median_of(against)}"
        for name, against in (("stock", measured.stock), ("live", measured.live))
        if against is not None
    ]
    worst = [] if measured.worst_s is None else [f"slowest host {show_duration(measured.worst_s)}"]
    return "; ".join([*said, *worst])


def _median_of(against: Against) -> str:
    count = "one pair" if against.pairs == 1 else f"median of {show_count(against.pairs, 'pair')}"
    return f"{count} up to the imports" if against.until == "imports_done" else count


def _signed(seconds: float) -> str:
    return f"{'-' if seconds < 0 else '+'}{show_duration(abs(seconds))}"
