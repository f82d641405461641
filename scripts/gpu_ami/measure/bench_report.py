"""The answer of `invoke bench`: as data, as JSON for programs, as tables and Markdown for people.

`coldstart.bench_result` reads the same JSON back, for `invoke coldstart --fit` and `invoke cost --measured`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from gpu_ami.console import Table, markdown
from gpu_ami.foreign_text import in_markdown
from gpu_ami.measure import bench_gate, phases, settled
from gpu_ami.measure.bench_gate import Gate, Judged, Limits
from gpu_ami.measure.freshness import Verdict, verdicts
from gpu_ami.measure.pairs import Pair
from gpu_ami.measure.phases import Spread, spreads
from gpu_ami.measure.timeline import NAMES, Arm, Host
from gpu_ami.records import bench_record
from gpu_ami.units import show_count, show_duration, show_usd

# On a terminal, and in a log: what the reports of the other tasks keep to.
_EDGE = 100
_MS = 3
INVENTED = "The sandbox invents instances and their times: this says nothing about AWS."
_NO_MODELS = (
    "{other} read no models, for there are none there: with {judged} it is compared up to the imports. "
    "What fetching the models takes is not in it."
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a bench saw.

    Attributes:
        run: Its run, ``bench-…``.
        region: Where.
        account: Whose.
        instance_type: The hosts' type.
        ami_id: The baked AMI.
        image_digest: The image in it, as its tag says.
        fingerprints: What it was made from, as its tags say.
        has_models: Whether there are models to read on hosts of the baked AMI.
        judged: The arm that jobs would get, or that stands for it.
        live_rate_mib_s: The rate of the launch template that jobs are started with; None without one.
        limits: What the AMI has to keep to.
        hosts: All hosts, those that came to nothing included.
        benched_at: When, UTC, ISO 8601.
        cost_usd: What it cost by list prices; None when a price is unknown.
        times_are_invented: Whether it was the sandbox.
    """

    run: str
    region: str
    account: str
    instance_type: str
    ami_id: str
    image_digest: str
    fingerprints: Mapping[str, str]
    has_models: bool
    judged: Judged
    live_rate_mib_s: int | None
    limits: Limits
    hosts: Sequence[Host]
    benched_at: str
    cost_usd: Decimal | None
    times_are_invented: bool

    @functools.cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Each host, and why it does not count."""
        return verdicts(self.hosts, has_models=self.has_models)

    @functools.cached_property
    def gate(self) -> Gate:
        """Whether the AMI may be promoted."""
        unlike = bench_gate.unlike_jobs(self.judged, self.live_rate_mib_s)
        return bench_gate.judge(self.verdicts, self.judged, self.limits, unlike=unlike)

    @functools.cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The judged arm's pairs, void ones included."""
        return bench_gate.all_pairs(self.verdicts, self.judged)

    @functools.cached_property
    def spreads(self) -> tuple[Spread, ...]:
        """Every phase of every arm, over the hosts that count."""
        return spreads([one.host for one in self.verdicts if one.void is None])

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms that have hosts, in the order in which they come."""
        return tuple(dict.fromkeys(host.arm for host in self.hosts))

    @property
    def zones(self) -> tuple[str, ...]:
        """Where hosts were seen."""
        return tuple(sorted({host.facts.zone for host in self.hosts if host.facts.zone}))


def document(result: Result) -> dict[str, Any]:
    """Return *result* as JSON-ready values; seconds are numbers, moments seconds since 1970."""
    return {
        "run": result.run,
        "region": result.region,
        "account": result.account,
        "instance_type": result.instance_type,
        "ami_id": result.ami_id,
        "benched_at": result.benched_at,
        "zones": list(result.zones),
        "judged": result.judged,
        "arms": [_arm(result, arm) for arm in result.arms],
        "pairs": [_pair(pair) for pair in result.pairs],
        "hosts": [_host(one) for one in result.verdicts],
        "phases": [_spread(spread) for spread in result.spreads],
        "gate": result.gate.document(),
        "settled": [asdict(item) for item in settled.settled(result.hosts)],
        "cost_usd": None if result.cost_usd is None else round(float(result.cost_usd), 4),
        "times_are_invented": result.times_are_invented,
    }


def _arm(result: Result, arm: Arm) -> dict[str, Any]:
    expected = next(host.expected for host in result.hosts if host.arm == arm)
    return {
        "arm": arm,
        "ami_id": expected.ami_id,
        "digest": expected.digest,
        "is_baked": expected.is_baked,
        "rate_mib_s": expected.rate_mib_s,
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "round": pair.round,
        "baked": pair.baked,
        "other": pair.other,
        "baked_s": _rounded(pair.baked_s),
        "other_s": _rounded(pair.other_s),
        "difference_s": _rounded(pair.difference_s),
        "until": pair.until,
        "void": pair.void,
    }


def _host(one: Verdict) -> dict[str, Any]:
    host = one.host
    return {
        "arm": host.arm,
        "round": host.round,
        "void": one.void,
        "missed": one.missed,
        "facts": {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(host.facts).items()},
        "moments": {name: _moment(host, name) for name in dict.fromkeys((*NAMES, *host.moments))},
        "phases": {
            span.phase: {
                "seconds": _rounded(span.seconds),
                "from": span.begins,
                "to": span.ends,
                "exact": span.is_exact,
                "missing": span.missing,
            }
            for span in phases.spans(host)
        },
    }


def _moment(host: Host, name: str) -> dict[str, Any]:
    moment = host.moments.get(name)
    if moment is None:
        trouble = host.trouble or "was not seen"
        return {"at": None, "clock": None, "source": None, "resolution_s": None, "missing": trouble}
    why = None if moment.at is not None else moment.missing or "was not seen"
    return asdict(moment) | {"at": _rounded(moment.at), "missing": why}


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "arm": spread.arm,
        "phase": spread.phase,
        "hosts": spread.hosts,
        "best_s": _rounded(spread.best_s),
        "median_s": _rounded(spread.median_s),
        "worst_s": _rounded(spread.worst_s),
        "exact": spread.is_exact,
        "judged": phases.is_judged(spread.median_s),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, _MS)


def record(result: Result) -> bench_record.Bench | None:
    """Return what `apply` believes later; None where nothing is known of the AMI, which replaces nothing that is."""
    measured, gate = bench_gate.measured(result.verdicts, result.judged), result.gate
    if gate.passed is None or isinstance(measured, str):
        return None
    return bench_record.Bench(
        ami_id=result.ami_id,
        region=result.region,
        account=result.account,
        instance_type=result.instance_type,
        benched_at=result.benched_at,
        run=result.run,
        image_digest=result.image_digest,
        fingerprints=dict(result.fingerprints),
        measured=measured,
        gate=bench_record.Gate(
            passed=gate.passed, rule=gate.rule, better=gate.better, of=gate.of, chance=round(gate.chance, 4)
        ),
        sandbox=result.times_are_invented,
    )


def tables(result: Result) -> list[Table]:
    """Return the answer for people: phase by phase, then round by round with what does not count."""
    return [_phases(result), _rounds(result)]


def as_markdown(result: Result, picture: str | None = None) -> str:
    """Return the answer as a page: the verdict, the picture if any, the tables and what the run has settled.

    Args:
        result: The answer.
        picture: The chart's file, as the page is to name it.
    """
    title = f"## A cold start through AWS Batch: {result.ami_id} on {result.instance_type}"
    head = [title, in_markdown(headline(result))]
    drawn = [f"![Each arm's cold start, phase by phase]({picture})"] if picture else []
    rest = [markdown(table) for table in (*tables(result), settled_table(result))]
    return "\n\n".join([*head, *drawn, *rest]) + "\n"


def headline(result: Result) -> str:
    """Return the verdict in one line."""
    gate = result.gate
    word = {True: "passed", False: "refused", None: "not judged"}[gate.passed]
    return f"Gate {word}: {gate.rule}.{_sure(gate)}"


def _sure(gate: Gate) -> str:
    """Return how sure the gain is; nothing where no pair was compared."""
    if not gate.of:
        return ""
    return f" {gate.better} of {show_count(gate.of, 'pair')} better; by chance that happens in {gate.chance:.1%}."


def _phases(result: Result) -> Table:
    by = {(spread.arm, spread.phase): spread for spread in result.spreads}
    columns = tuple(_heading(result, arm) for arm in result.arms)
    rows = [(phases.LABELS[name], *(_cell(by.get((arm, name))) for arm in result.arms)) for name in phases.PHASES]
    totals = [by.get((arm, "total")) for arm in result.arms]
    rows.append(("median in all", *(phases.show(one.median_s) if one else "" for one in totals)))
    return Table(
        columns=("seconds", *columns),
        rows=rows,
        title=f"A cold start through Batch on {result.instance_type}, {result.region}: median / worst",
        footer=(headline(result), *_remarks(result)),
        numeric=frozenset(columns),
        edge=_EDGE,
    )


def _heading(result: Result, arm: Arm) -> str:
    count = sum(one.void is None and one.host.arm == arm for one in result.verdicts)
    rate = next(host.expected.rate_mib_s for host in result.hosts if host.arm == arm)
    how = f" {rate}" if rate and arm != "rated" else ""
    return f"{arm}{how} ({count})"


def _cell(spread: Spread | None) -> str:
    if spread is None or spread.median_s is None or spread.worst_s is None:
        return "none"
    return f"{_short(spread.median_s)} / {_short(spread.worst_s)}"


def _short(seconds: float) -> str:
    return "≤ 1" if seconds < 0 else f"{seconds:.1f}"


def _remarks(result: Result) -> list[str]:
    said = ["In brackets the hosts that count. Below 2 s nothing is judged; ≤ 1 is what two clocks disagree on."]
    for other in dict.fromkeys(pair.other for pair in result.pairs if pair.until == "imports_done"):
        said.append(_NO_MODELS.format(other=other, judged=result.judged))
    restored = sum(bool(host.facts.is_fast_restored) for host in result.hosts)
    if restored:
        hosts = show_count(restored, "host")
        said.append(f"Fast Snapshot Restore filled the volume of {hosts}: once its credits are spent it is lazy.")
    said.append(f"Cost, by list prices: {show_usd(result.cost_usd)}.")
    if result.times_are_invented:
        said.append(INVENTED)
    return said


def _rounds(result: Result) -> Table:
    at = {(one.host.round, one.host.arm): one for one in result.verdicts}
    found = {(pair.round, pair.other): pair for pair in result.pairs}
    others = tuple(dict.fromkeys(pair.other for pair in result.pairs))
    gains = tuple(f"{result.judged} - {other}" for other in others)
    rows = [
        (
            str(number),
            _zone(result, number),
            *(_total(at.get((number, arm))) for arm in result.arms),
            *(_difference(found.get((number, other))) for other in others),
        )
        for number in sorted({host.round for host in result.hosts})
    ]
    void = [f"Round {one.host.round}, {one.host.arm}: {one.void}." for one in result.verdicts if one.void is not None]
    columns = ("round", "zone", *result.arms, *gains)
    return Table(
        columns=columns,
        rows=rows,
        title="From the job's submission to its models being ready, round by round",
        footer=tuple(void),
        numeric=frozenset(columns) - {"zone"},
        edge=_EDGE,
    )


def _zone(result: Result, number: int) -> str:
    zones = sorted({host.facts.zone for host in result.hosts if host.round == number and host.facts.zone})
    return ", ".join(zones)


def _total(one: Verdict | None) -> str:
    if one is None:
        return ""
    return "void" if one.void is not None else phases.show(phases.total_s(one.host))


def _difference(pair: Pair | None) -> str:
    if pair is None or pair.difference_s is None:
        return "void"
    return f"{'-' if pair.difference_s < 0 else '+'}{show_duration(abs(pair.difference_s))}"


def settled_table(result: Result) -> Table:
    """Return what only a run on AWS could say, and what this one says."""
    rows = [(item.question, item.answer or "open", item.evidence) for item in settled.settled(result.hosts)]
    footer = (INVENTED,) if result.times_are_invented else ()
    return Table(
        columns=("question", "answer", "by"),
        rows=rows,
        title="What the first real run settles",
        footer=footer,
        edge=_EDGE,
    )
