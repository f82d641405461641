"""Pairs of hosts of one round and zone: what a bench compares, since a lazy volume is twice as slow on another day."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_ami.measure.freshness import Verdict
from gpu_ami.measure.phases import total_s
from gpu_ami.measure.timeline import Arm


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two hosts of one round.

    Attributes:
        round: The round.
        baked: The arm that is judged.
        other: The arm that it is compared with.
        baked_s: The judged host's total; None where the pair does not count.
        other_s: The other one's; None where the pair does not count.
        void: Why it does not count; None where it does.
    """

    round: int
    baked: Arm
    other: Arm
    baked_s: float | None = None
    other_s: float | None = None
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
        other_median_s: The median of the other arm's totals in these pairs, seconds.
    """

    other: Arm
    pairs: int
    better: int
    median_difference_s: float
    other_median_s: float


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
    return Pair(round=number, baked=baked, other=other, baked_s=total_s(ours.host), other_s=total_s(theirs.host))


def compared(pairs: Sequence[Pair]) -> Compared | None:
    """Return what the whole ones of *pairs*, all of the same two arms, say; None without any."""
    whole = [(pair, pair.difference_s) for pair in pairs]
    differences = [difference for _, difference in whole if difference is not None]
    if not differences:
        return None
    others = [pair.other_s for pair, difference in whole if difference is not None and pair.other_s is not None]
    return Compared(
        other=pairs[0].other,
        pairs=len(differences),
        better=sum(difference < 0 for difference in differences),
        median_difference_s=statistics.median(differences),
        other_median_s=statistics.median(others),
    )


def chance(better: int, of: int) -> float:
    """Return the one-sided sign test's chance: that at least *better* of *of* coins fall on one side.

    All of n: 2 to the power of -n. Of no pairs it is certain.
    """
    return sum(math.comb(of, number) for number in range(better, of + 1)) / float(2**of)
