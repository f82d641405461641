"""The gate of a bench: whether the baked AMI may be promoted, by which rule, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from gpu_ami.foreign_text import limited
from gpu_ami.measure.bench_plan import Plan
from gpu_ami.measure.freshness import Verdict, failure
from gpu_ami.measure.pairs import Compared, Pair, chance, compared, pairs
from gpu_ami.measure.phases import total_s
from gpu_ami.measure.timeline import Arm
from gpu_ami.records import bench_record
from gpu_ami.records.bench_record import Against, Measured
from gpu_ami.units import show_count

Judged = Literal["plain", "rated"]
# What the judged arm is compared with, in this order.
OTHERS: tuple[Arm, ...] = ("stock", "live")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an AMI has to keep to; `promotion` of the settings.

    Attributes:
        max_regression: How much slower than the live AMI it may be, as a share of that one's median.
        target_s: What the slowest host may take; None is as long as it likes.
    """

    max_regression: float = 0.2
    target_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is said of an AMI.

    Attributes:
        passed: Whether it may be promoted; None where nothing whole was measured: neither yes nor no.
        rule: The rule in one line, with the figures.
        better: On how many pairs the baked AMI was faster than the first it was compared with, stock where it was.
        of: Of how many whole ones.
        chance: How likely that is when it is not faster at all: the one-sided sign test.
    """

    passed: bool | None
    rule: str
    better: int
    of: int
    chance: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return asdict(self) | {"chance": round(self.chance, 4)}


def judged_arm(arms: Collection[Arm], live_rate_mib_s: int | None) -> Judged | None:
    """Return the arm that jobs would get, or else stands for it; None where no baked one is among *arms*.

    Args:
        arms: Those of the bench.
        live_rate_mib_s: The rate of the launch template that jobs are started with; None without one.
    """
    order: tuple[Judged, ...] = ("rated", "plain") if live_rate_mib_s else ("plain", "rated")
    return next((arm for arm in order if arm in arms), None)


def unlike_jobs(judged: Judged, live_rate_mib_s: int | None) -> str | None:
    """Return that jobs would be started in another way than was measured; None where they would not.

    A rate makes a start several times as fast: with it nothing is said of a start without, nor the reverse.

    Args:
        judged: The arm that stands for them.
        live_rate_mib_s: The rate of the launch template that jobs are started with; None without one.
    """
    if (judged == "rated") == bool(live_rate_mib_s):
        return None
    has, wanted = (f"has {live_rate_mib_s} MiB/s", "rated") if live_rate_mib_s else ("has no rate", "plain")
    return f"the live launch template {has}, so that jobs would start as {wanted}, and only {judged} was run"


def left_open(plan: Plan, *, is_required: bool) -> tuple[str, ...]:
    """Return what a bench will leave open, for whoever can still choose other arms.

    Args:
        plan: The bench.
        is_required: Whether `apply` requires one.
    """
    arms, said = [arm.arm for arm in plan.arms], []
    judged = judged_arm(arms, plan.live_rate_mib_s)
    if judged is not None and (why := unlike_jobs(judged, plan.live_rate_mib_s)):
        said.append(f"Nothing will be judged: {why.replace('was run', 'is run')}.")
    if is_required and "live" not in arms and plan.live_ami != plan.ami_id:
        live = plan.live_ami or "Batch's own AMI, or one of several,"
        why = "promotion.bench is required"
        said.append(f"Without the arm live `invoke apply` will refuse it in place of {live}: {why}.")
    return tuple(said)


def all_pairs(verdicts: Sequence[Verdict], judged: Arm) -> tuple[Pair, ...]:
    """Return the pairs of the judged arm with each that it is compared with, void ones included."""
    arms = {one.host.arm for one in verdicts}
    return tuple(pair for other in OTHERS if other in arms for pair in pairs(verdicts, judged, other))


def measured(verdicts: Sequence[Verdict], judged: Judged) -> Measured | str:
    """Return the figures of the judged arm, or why there are none.

    Args:
        verdicts: All hosts.
        judged: The arm that jobs would get.
    """
    assert judged in get_args(Judged)
    ours = [one for one in verdicts if one.host.arm == judged]
    totals = [seconds for one in ours if one.void is None and (seconds := total_s(one.host)) is not None]
    misses = _missed(verdicts, judged)
    if not totals and not misses:
        return _first_void(f"no {judged} host counts", [one.void for one in ours])
    found = {other: compared(pairs(verdicts, judged, other)) for other in OTHERS if _amis(verdicts, other)}
    return Measured(
        arm=judged,
        rate_mib_s=ours[0].host.expected.rate_mib_s,
        hosts=len(totals),
        worst_s=round(max(totals), 3) if totals else None,
        missed=len(misses),
        missed_why=limited(misses[0]) if misses else None,
        stock=_against(verdicts, found.get("stock")),
        live=_against(verdicts, found.get("live")),
        open=_open(verdicts, judged, found),
    )


def _missed(verdicts: Sequence[Verdict], judged: Arm) -> list[str]:
    """Return what each judged host came to nothing by that its AMI or its way to start has caused.

    A job that failed in its round on another AMI, too, fails by itself: an import that the image does not have, say.
    """
    failed = {
        one.host.round for one in verdicts if one.host.arm in OTHERS and one.void is not None and failure(one.host)
    }
    return [
        one.missed
        for one in verdicts
        if one.host.arm == judged
        and one.missed is not None
        and not (one.host.round in failed and one.missed == failure(one.host))
    ]


def _open(verdicts: Sequence[Verdict], judged: Judged, found: Mapping[Arm, Compared | None]) -> str | None:
    """Return why not everything is answered.

    An arm that was run leaves its rule open until most of its rounds are whole: of three hosts of which two were lost,
    the third says little.
    """
    if not found:
        return f"nothing was compared: {judged} needs stock or live beside it"
    for other, known in found.items():
        every = pairs(verdicts, judged, other)
        whole = known.pairs if known is not None else 0
        if 2 * whole <= len(every):
            count = f"only {whole} of {show_count(len(every), 'pair')}" if whole else "no whole pair"
            said = f"{count} of {judged} and {other}{' is whole' if whole == 1 else ' are whole' if whole else ''}"
            return _first_void(said, [pair.void for pair in every])
    return None


def _first_void(said: str, reasons: Sequence[str | None]) -> str:
    first = next((reason for reason in reasons if reason is not None), None)
    return said if first is None else f"{said} ({limited(first)})"


def judge(verdicts: Sequence[Verdict], judged: Judged, limits: Limits, *, unlike: str | None = None) -> Gate:
    """Return whether the baked AMI may be promoted.

    It compares within rounds only: how fast a lazy volume is changes twofold from day to day.

    Args:
        verdicts: All hosts of the bench.
        judged: The arm that jobs would get.
        limits: What it has to keep to.
        unlike: How else jobs would be started, by `unlike_jobs`: then the figures are about no job, and say neither.
    """
    figures = measured(verdicts, judged)
    if isinstance(figures, str) or unlike is not None:
        return Gate(passed=None, rule=unlike or str(figures), better=0, of=0, chance=1.0)
    problem = bench_record.refusal(figures, max_regression=limits.max_regression, target_s=limits.target_s)
    first = figures.stock or figures.live
    better, of = (first.better, first.pairs) if first else (0, 0)
    return Gate(
        passed=False if problem else None if figures.open else True,
        rule=problem or figures.open or bench_record.praise(figures),
        better=better,
        of=of,
        chance=chance(better, of),
    )


def _amis(verdicts: Sequence[Verdict], arm: Arm) -> list[str]:
    return [one.host.expected.ami_id for one in verdicts if one.host.arm == arm]


def _against(verdicts: Sequence[Verdict], known: Compared | None) -> Against | None:
    if known is None:
        return None
    return Against(
        ami_id=_amis(verdicts, known.other)[0],
        pairs=known.pairs,
        better=known.better,
        median_difference_s=round(known.median_difference_s, 3),
        median_s=round(known.other_median_s, 3),
        until=known.until,
    )
