"""Pairs of hosts of one round and zone: what a bench compares, since a lazy volume is twice as slow on another day."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_ami.measure.freshness import Verdict
from gpu_ami.measure.phases import seconds_until
from gpu_ami.measure.timeline import Arm, Host
from gpu_ami.records.bench_record import Until


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two hosts of one round.

    Attributes:
        round: The round.
        baked: The arm that is judged.
        other: The arm that it is compared with.
        baked_s: The judged host's seconds from submission on; None where the pair does not count.
        other_s: The other one's; None where the pair does not count.
        until: The moment that both go to: the models, or the imports where only the judged host has any models.
        void: Why it does not count; None where it does.
    """

    round: int
    baked: Arm
    other: Arm
    baked_s: float | None = None
    other_s: float | None = None
    until: Until = "models_done"
    void: str | None = None

    @property
    def difference_s(self) -> float | None:
        """How much longer the judged host took; negative is faster; None where the pair does not count."""
        return None if self.baked_s is None or self.other_s is None else self.baked_s - self.other_s


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What whole pairs say.

    Attributes:
        other: The arm that the judged one is compared with.
        pairs: How many are whole.
        better: On how many of them the judged host was faster; no difference is not better.
        median_difference_s: The median of judged less other, seconds.
        other_median_s: The median of the other arm's seconds in these pairs.
        until: What both go to; the imports where that is so in any of these pairs.
    """

    other: Arm
    pairs: int
    better: int
    median_difference_s: float
    other_median_s: float
    until: Until


def pairs(verdicts: Sequence[Verdict], baked: Arm, other: Arm) -> tuple[Pair, ...]:
    """Return the pairs of *baked* and *other*, one for each round that has a host of either, void ones included."""
    at = {(one.host.round, one.host.arm): one for one in verdicts}
    rounds = sorted({number for number, arm in at if arm in (baked, other)})
    return tuple(_pair(number, baked, other, at.get((number, baked)), at.get((number, other))) for number in rounds)


def _pair(number: int, baked: Arm, other: Arm, ours: Verdict | None, theirs: Verdict | None) -> Pair:
    def without(why: str) -> Pair:
        return Pair(round=number, baked=baked, other=other, void=why)

    for arm, one in ((baked, ours), (other, theirs)):
        if one is None:
            return without(f"no {arm} host in this round")
        if one.void is not None:
            return without(f"{arm}: {one.void}")
    assert ours is not None
    assert theirs is not None
    zones = ours.host.facts.zone, theirs.host.facts.zone
    if zones[0] != zones[1]:
        return without(f"in two zones, {zones[0]} and {zones[1]}")
    until = _until(ours.host, theirs.host)
    baked_s, other_s = (seconds_until(one.host, until) for one in (ours, theirs))
    return Pair(round=number, baked=baked, other=other, baked_s=baked_s, other_s=other_s, until=until)


def _until(ours: Host, theirs: Host) -> Until:
    """Return how far both are compared: reading models takes time, and who has none of them is not faster by that."""
    is_alone = bool(ours.facts.models_bytes) and theirs.facts.models_bytes == 0
    return "imports_done" if is_alone else "models_done"


def compared(pairs: Sequence[Pair]) -> Compared | None:
    """Return what the whole ones of *pairs*, all of the same two arms, say; None without any."""
    whole = [pair for pair in pairs if pair.difference_s is not None]
    differences = [pair.difference_s for pair in whole if pair.difference_s is not None]
    if not differences:
        return None
    others = [pair.other_s for pair in whole if pair.other_s is not None]
    return Compared(
        other=pairs[0].other,
        pairs=len(differences),
        better=sum(difference < 0 for difference in differences),
        median_difference_s=statistics.median(differences),
        other_median_s=statistics.median(others),
        until="imports_done" if any(pair.until == "imports_done" for pair in whole) else "models_done",
    )


def chance(better: int, of: int) -> float:
    """Return the one-sided sign test's chance: that at least *better* of *of* coins fall on one side.

    All of n: 2 to the power of -n. Of no pairs it is certain.
    """
    return sum(math.comb(of, number) for number in range(better, of + 1)) / float(2**of)
