"""Reads what a bench measured, and puts its seconds in the place of what the model assumes.

Only these members are read; others may be there. Of the whole: ``hosts``, ``arms`` for the AMI, ``instance_type``,
``judged`` (the arm that jobs would get), and ``times_are_invented`` where it was the sandbox. Of an arm (an object in a
list with its ``arm``, or the value under that name): ``ami_id``, ``rate_mib_s``. Of a host: ``arm``, ``void`` (why it
does not count, or null), and ``moments``, by name an object with ``at`` (seconds since 1970, or ISO 8601 with its
offset from UTC) or, where that is null, the reason in ``missing``. The moments are those of `MOMENTS`; what none of
them parts is fitted together, in the proportion of what the model assumes. A host on which a moment is missing that
ends or begins a phase says nothing about that phase; a void one says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu_ami.coldstart.assumptions import Range
from gpu_ami.coldstart.model import PHASES, Phase, PhaseTime, Prediction, Variant
from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.units import show_count

# Moment to the phases that lie between the one before it and it. All time is some phase's: a task that waits for its
# pull to begin is in the pull, a container that has not printed yet imports.
MOMENTS: Mapping[str, tuple[Phase, ...]] = {
    "submitted": (),
    "launched": ("queue",),
    "kernel_up": ("launch",),
    "booted": ("boot",),
    "placed": ("register",),
    "pull_stopped": ("pull_unpack",),
    "started": ("create_start",),
    "imports_done": ("first_touch_imports",),
    "models_done": ("models",),
}
# A host may be without these: nothing was pulled, or nobody looked when boot was over.
_OPTIONAL = frozenset({"booted", "pull_stopped"})
# What stands for a moment that is missing: a task is placed soon after its host is registered.
_INSTEAD = {"placed": "registered"}
_ARMS: Mapping[str, Variant] = {
    "stock": "stock",
    "plain": "plain",
    "rated": "rated",
    "fsr": "fsr",
    "prewarmed": "prewarmed",
    "fast_pull": "fast_pull",
}
# What does not depend on the AMI: each arm's hosts speak for every way to start.
_SHARED: frozenset[Phase] = frozenset({"queue", "launch"})
_LIMIT_BYTES = 16 * 1024 * 1024
# EBS takes 100 to 300 MiB/s as a volume's rate of initialization.
_MOST_MIB_S = 300
# Clocks of different services differ by so much; a span that is negative by more is a wrong file.
_SKEW_S = 2.0
_LONGEST_S = 7 * 86_400.0
_LATEST_S = 1e11
_AMI = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_BASE_ARMS = frozenset({"stock", "live"})
# Behind the names of files of which nothing was measured.
INVENTED = " (invented by the sandbox)"


@dataclass(frozen=True)
class Measured:
    """What bench results say.

    Attributes:
        spans: Arm to the spans of each of its hosts: phases to seconds.
        sources: The files.
        ami_ids: The baked AMIs that were measured.
        void: How many hosts were left out because they do not count.
        instance_types: On which types; those of files that do not say it are not among them.
        rates_mib_s: At which rates the hosts of the arm ``rated`` were; None where a file does not say it.
        judged: The arms that jobs would get, by the files that say it.
        is_invented: Whether a file is of the sandbox: then nothing of it was measured.
    """

    spans: Mapping[str, Sequence[Mapping[tuple[Phase, ...], float]]]
    sources: Sequence[str]
    ami_ids: frozenset[str]
    void: int = 0
    instance_types: frozenset[str] = frozenset()
    rates_mib_s: frozenset[float | None] = frozenset()
    judged: frozenset[str] = frozenset()
    is_invented: bool = False

    def has(self, arm: str) -> bool:
        """Whether a host of *arm* says how long its whole start took."""
        return any(host for host in self.spans.get(arm, ()))

    def without(self, arm: str) -> Measured:
        """Return it without what the hosts of *arm* say of that arm's own phases; what all share they say still."""
        shared = [
            {phases: span for phases, span in host.items() if _SHARED.issuperset(phases)} for host in self.spans[arm]
        ]
        return replace(self, spans={**self.spans, arm: shared})


def load(paths: Sequence[Path], *, shown: Sequence[str], built: Collection[str]) -> Measured:
    """Return what the bench results *paths* say together.

    Args:
        paths: The files.
        shown: How each is named to people.
        built: The AMIs of the last build, one a region; when there are any, a result of another one is refused.

    Raises:
        UsageError: A file cannot be read, is no bench result, is cut off, or is of another AMI.
    """
    spans: dict[str, list[Mapping[tuple[Phase, ...], float]]] = {}
    amis: set[str] = set()
    void, is_invented = 0, False
    about: list[Mapping[str, Any]] = []
    for path, name in zip(paths, shown, strict=True):
        document = _document(path, name)
        is_invented = is_invented or _flag(document.get("times_are_invented"), f"{name}, times_are_invented")
        found = _ami_ids(document, name)
        _check_ami(found, amis, built, name)
        amis |= found
        about.append(document)
        for arm, host in _hosts(document, name):
            if host is None:
                void += 1
            else:
                spans.setdefault(arm, []).append(host)
    if not any(host for hosts in spans.values() for host in hosts):
        why = f"; {show_count(void, 'host')} {'is' if void == 1 else 'are'} void" if void else ""
        msg = f"{', '.join(shown)}: no host has two moments of one phase{why}: nothing can be fitted, bench again."
        raise UsageError(msg)
    return Measured(
        spans,
        tuple(shown),
        frozenset(amis),
        void,
        instance_types=frozenset(kind for one in about if isinstance(kind := one.get("instance_type"), str)),
        rates_mib_s=frozenset(rate for one in about for rate in _rates(one)),
        judged=frozenset(named for one in about if isinstance(named := one.get("judged"), str)),
        is_invented=is_invented,
    )


def _rates(document: Mapping[str, Any]) -> list[float | None]:
    """Return the rate of the arm ``rated``, MiB/s; None where it does not say one that can be, nothing without it."""
    return [_rate(arm.get("rate_mib_s")) for name, arm in _arms(document) if name == "rated"]


def _rate(value: object) -> float | None:
    # A flag is an int in Python; and no comparison with NaN is true.
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 < value <= _MOST_MIB_S else None


def _arms(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return name and object of each arm."""
    arms = document.get("arms")
    if isinstance(arms, dict):
        pairs = list(arms.items())
    elif isinstance(arms, list):
        pairs = [(arm.get("arm"), arm) for arm in arms if isinstance(arm, dict)]
    else:
        pairs = []
    return [(str(name), arm) for name, arm in pairs if isinstance(arm, dict)]


def _document(path: Path, name: str) -> Mapping[str, Any]:
    text = read_text(path, what="bench result", limit_bytes=_LIMIT_BYTES)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        msg = f"The bench result {name} is not JSON, or was cut off: give the file that the bench wrote."
        raise UsageError(msg) from exc
    if not isinstance(document, dict) or not isinstance(document.get("hosts"), list):
        msg = f"{name} is not a bench result: it has no list of hosts."
        raise UsageError(msg)
    return document


def _ami_ids(document: Mapping[str, Any], name: str) -> frozenset[str]:
    """Return the baked AMIs; a result that does not say which it measured cannot be told from another one's."""
    # As text: whatever stands there, an object in a changed file included, can be compared.
    ids = {str(arm.get("ami_id")) for name, arm in _arms(document) if name not in _BASE_ARMS}
    known = frozenset(one for one in ids if _AMI.fullmatch(one))
    hosts = [host for host in document["hosts"] if isinstance(host, dict)]
    if not known and any(str(host.get("arm")) not in _BASE_ARMS for host in hosts):
        msg = f"{name} does not say which AMI it measured (arms, ami_id): give the file that the bench wrote."
        raise UsageError(msg)
    return known


def _check_ami(found: frozenset[str], before: Collection[str], built: Collection[str], name: str) -> None:
    for ami in sorted(found):
        expected = built or before or found
        if ami not in expected or (not built and len({*before, *found}) > 1):
            whose = "the last build made" if built else "another file measured"
            others = ", ".join(sorted({*expected} - {ami}))
            msg = f"{name} measured {ami}, and {whose} {others}: give results of one AMI."
            raise UsageError(msg)


def _flag(value: object, where: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    msg = f"{where} is neither true nor false: the file was changed or cut off."
    raise UsageError(msg)


def _hosts(document: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[tuple[Phase, ...], float] | None]]:
    """Return each host's arm and spans; None for a host that does not count."""
    for number, host in enumerate(document["hosts"], start=1):
        where = f"{name}, host {number}"
        is_void = isinstance(host, dict) and _is_void(host.get("void"), where)
        # A host that never came up has no moments.
        moments = host.get("moments") if isinstance(host, dict) and not is_void else {}
        if not isinstance(host, dict) or not isinstance(host.get("arm"), str) or not isinstance(moments, dict):
            msg = f"{where} has no arm and moments: the file was changed or cut off."
            raise UsageError(msg)
        yield host["arm"], None if is_void else _spans(moments, where)


def _is_void(reason: object, where: str) -> bool:
    if reason is None or isinstance(reason, str):
        return bool(reason and reason.strip())
    msg = f"{where}: void is neither null nor a reason: the file was changed or cut off."
    raise UsageError(msg)


def _spans(moments: Mapping[str, Any], where: str) -> dict[tuple[Phase, ...], float]:
    """Return the seconds between moments that are there, by the phases between them."""
    found: dict[tuple[Phase, ...], float] = {}
    since: float | None = None
    between: list[Phase] = []
    for name, phases in MOMENTS.items():
        between += phases
        at = _at(moments.get(name), f"{where}, {name}")
        if at is None and name in _INSTEAD:
            at = _at(moments.get(_INSTEAD[name]), f"{where}, {_INSTEAD[name]}")
        if at is None:
            if name not in _OPTIONAL:
                since, between = None, []
            continue
        if since is not None and between:
            found[tuple(between)] = _seconds(at - since, f"{where}, {name}")
        since, between = at, []
    return found


def _seconds(span: float, where: str) -> float:
    if not -_SKEW_S <= span <= _LONGEST_S:
        msg = f"{where} is {span:,.0f} s after the moment before it, which cannot be: the file is no bench result."
        raise UsageError(msg)
    return max(span, 0.0)


def _at(moment: object, where: str) -> float | None:
    """Return a moment as seconds since 1970; None where it is missing."""
    at = moment.get("at") if isinstance(moment, dict) else None
    if at is None:
        return None
    seconds = _parsed(at) if isinstance(at, str) else at
    # Neither NaN nor a number of 400 digits is between these.
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < _LATEST_S:
        return float(seconds)
    msg = f"{where}: at = {str(at)[:40]!r} is neither seconds since 1970 nor ISO 8601 with an offset."
    raise UsageError(msg)


def _parsed(text: str) -> float | None:
    try:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return parsed.astimezone(timezone.utc).timestamp() if parsed.tzinfo is not None else None
    except (ValueError, OverflowError):
        # The first and last days of the calendar have no time in UTC.
        return None


def fitted(prediction: Prediction, measured: Measured) -> Prediction:
    """Return *prediction* with the phases that *measured* knows: best, median and worst host.

    Of fewer than three hosts neither end is known; they are moved apart by a fifth.
    """
    times = {phase.name: phase for phase in prediction.phases}
    for phases, seconds in _of(prediction.variant, measured).items():
        # What no moment parts shares its seconds as the model assumes.
        assumed = sum(times[name].seconds.likely for name in phases) or 1.0
        for name in phases:
            share = times[name].seconds.likely / assumed if len(phases) > 1 else 1.0
            times[name] = _replaced(times[name], _range(seconds).times(share), measured, len(seconds), phases)
    return Prediction(prediction.variant, [times[name] for name in PHASES], widths=None)


def _of(variant: Variant, measured: Measured) -> dict[tuple[Phase, ...], list[float]]:
    found: dict[tuple[Phase, ...], list[float]] = {}
    for arm, hosts in measured.spans.items():
        for host in hosts:
            for phases, seconds in host.items():
                if _ARMS.get(arm) == variant or _SHARED.issuperset(phases):
                    found.setdefault(phases, []).append(seconds)
    # The finer of two that speak about the same phase: hosts may differ in what was seen on them.
    taken: set[Phase] = set()
    finest: dict[tuple[Phase, ...], list[float]] = {}
    for phases in sorted(found, key=len):
        if taken.isdisjoint(phases):
            finest[phases] = found[phases]
            taken.update(phases)
    return finest


def _range(seconds: Sequence[float]) -> Range:
    ordered = sorted(seconds)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    if len(ordered) < 3:
        return Range(ordered[0] / 1.2, median, ordered[-1] * 1.2)
    return Range(ordered[0], median, ordered[-1])


def _replaced(time: PhaseTime, seconds: Range, measured: Measured, hosts: int, phases: Sequence[Phase]) -> PhaseTime:
    together = f", with {' and '.join(name for name in phases if name != time.name)}" if len(phases) > 1 else ""
    count = "1 host" if hosts == 1 else f"{hosts} hosts"
    named = f"{', '.join(measured.sources)}{INVENTED if measured.is_invented else ''}"
    return replace(time, seconds=seconds, source=f"fitted: {count} of {named}{together}")
