"""Measured or imagined starts as rows of a CSV file, and what the model answers to each."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gpu_ami.coldstart import model
from gpu_ami.coldstart.assumptions import ASSUMPTIONS, LEAST, Ends, Inputs, Range, ends
from gpu_ami.coldstart.model import LABELS, PHASES, VARIANTS, Host, ModelsFrom, Phase, Start, Variant
from gpu_ami.console import Table
from gpu_ami.errors import UsageError
from gpu_ami.files import read_text
from gpu_ami.units import show_count

COLUMNS = (
    *("id", "variant", "instance_type", "image_gib", "compressed_gib", "touched_gib", "models_gib", "snapshot_gib"),
    *("rate_mib_s", "throughput_mib_s", "readers", "fsr", "from", "to"),
)
_Of = TypeVar("_Of")
# Understood where a file has them, besides the columns that it must have.
FURTHER = ("models_from", "measured_s", "what")
LONGEST = 20_000
_LIMIT_BYTES = 8 * 1024 * 1024
_SIZES = ("image_gib", "compressed_gib", "touched_gib", "models_gib", "snapshot_gib")
_NUMBERS = (*_SIZES, "rate_mib_s", "throughput_mib_s", "readers")
# What gp3 has without paying for more: other people's volumes are not this pipeline's.
_THROUGHPUT_MIB_S = 125.0
_UNKNOWN = frozenset({"", "-", "?", "na", "n/a", "none", "null", "unknown"})
_YES_NO: Mapping[str, bool] = {"yes": True, "true": True, "1": True, "on": True} | dict.fromkeys(
    ("no", "false", "0", "off"), False
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_TYPE = re.compile(r"[a-z0-9-]{1,32}\.[a-z0-9-]{1,32}")
_PARTS = re.compile(r"[^a-z0-9]+")
# Tables of others say it in other words; the first that has a word of theirs is meant.
_VARIANT_WORDS: tuple[tuple[Variant, frozenset[str]], ...] = (
    ("fast_pull", frozenset({"fast_pull", "nvme", "instance_store"})),
    ("prewarmed", frozenset({"prewarm", "prewarmed"})),
    ("fsr", frozenset({"fsr", "fast_snapshot_restore"})),
    ("rated", frozenset({"rate", "rated"})),
    ("plain", frozenset({"plain", "baked", "bake", "lazy"})),
    ("stock", frozenset({"stock"})),
)
_PHASE_WORDS: tuple[tuple[Phase, frozenset[str]], ...] = (
    ("queue", frozenset({"queue", "queued"})),
    ("launch", frozenset({"launch"})),
    ("boot", frozenset({"boot"})),
    ("register", frozenset({"register", "registered"})),
    ("pull_unpack", frozenset({"pull", "unpack"})),
    ("create_start", frozenset({"create", "start"})),
    ("first_touch_imports", frozenset({"first_touch", "import", "imports"})),
    ("models", frozenset({"model", "models"})),
)


@dataclass(frozen=True)
class Point:
    """One row.

    Attributes:
        id: Its name.
        start: The way and the host.
        known: The numbers that the row gives, by the model's names.
        first: The phase with whose beginning the point begins.
        last: The phase with whose end it ends.
        measured_s: What was measured, where the file says so.
        what: What it is about, in words.
    """

    id: str
    start: Start
    known: Mapping[str, float]
    first: Phase
    last: Phase
    measured_s: float | None = None
    what: str = ""


@dataclass(frozen=True)
class Answer:
    """What the model says to a point."""

    id: str
    seconds: Range

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {"id": self.id, **self.seconds.document()}


def load(path: Path) -> list[Point]:
    """Return the points of the CSV file *path*.

    Raises:
        UsageError: The file cannot be read, lacks a column, has too many rows or none, or a field that cannot be.
    """
    text = read_text(path, what="file of points", limit_bytes=_LIMIT_BYTES)
    return parse(text, source=str(path))


def parse(text: str, *, source: str) -> list[Point]:
    """Return the points of the CSV *text*; *source* names it in errors.

    Raises:
        UsageError: As `load`.
    """
    try:
        # strict: a quote that is never closed would swallow all rows after it.
        rows = list(_rows(csv.reader(io.StringIO(text, newline=""), strict=True), source))
    except csv.Error as exc:
        msg = f"{source} is not CSV ({exc}): write one row a line, fields joined by commas."
        raise UsageError(msg) from exc
    if not rows:
        msg = f"{source} has no rows: write a line for each point under the line of columns."
        raise UsageError(msg)
    return [_point(row, f"{source}, line {line}") for line, row in rows]


def _rows(reader: Any, source: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    header = [name.strip() for name in next(reader, [])]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        msg = f"{source} has no column {', '.join(missing)}: the first line names {', '.join(COLUMNS)}."
        raise UsageError(msg)
    twice = next((name for name in header if name in (*COLUMNS, *FURTHER) and header.count(name) > 1), None)
    if twice is not None:
        msg = f"{source} has the column {twice} twice: leave one."
        raise UsageError(msg)
    count = 0
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        count += 1
        if count > LONGEST:
            msg = f"{source} has more than {LONGEST:,} rows: split it."
            raise UsageError(msg)
        if len(fields) != len(header):
            has = f"has {show_count(len(fields), 'field')}, the first line {len(header)}"
            msg = f"{source}, line {reader.line_num} {has}: leave what is not known empty."
            raise UsageError(msg)
        yield reader.line_num, {name: field.strip() for name, field in zip(header, fields, strict=True)}


def _point(row: Mapping[str, str], where: str) -> Point:
    known = {name: number for name in _NUMBERS if (number := _number(row[name], name, where)) is not None}
    variant = _variant(row["variant"], where)
    first = _phase(row["from"], "from", where) or PHASES[0]
    last = _phase(row["to"], "to", where) or PHASES[-1]
    if PHASES.index(first) > PHASES.index(last):
        msg = f"{where}: from {row['from']} comes after to {row['to']}: the order is {', '.join(PHASES)}."
        raise UsageError(msg)
    if not row["id"]:
        msg = f"{where} has no id: give each point one."
        raise UsageError(msg)
    start = Start(variant, _host(row["instance_type"], where), _fsr(row["fsr"], where), _models_from(row, where))
    measured = _number(row.get("measured_s", ""), "measured_s", where)
    return Point(row["id"], _as_hydrated(start, known), known, first, last, measured, row.get("what", ""))


def _as_hydrated(start: Start, known: Mapping[str, float]) -> Start:
    """Return *start* as the volume's own facts say: a rate goes before Fast Snapshot Restore, and both before words."""
    if start.variant not in ("plain", "fsr"):
        return start
    if known.get("rate_mib_s"):
        return Start("rated", start.host, start.has_credit, start.models_from)
    if start.variant == "plain" and start.has_credit:
        return Start("fsr", start.host, True, start.models_from)
    return start


def _number(text: str, name: str, where: str) -> float | None:
    if text.lower() in _UNKNOWN:
        return None
    item = ASSUMPTIONS.get(name)
    unit, highest = (item.unit, item.highest) if item else ("s", 31_536_000.0)
    what = f"{where}: {name} = {text[:40]!r}"
    if not _NUMBER.fullmatch(text):
        msg = f"{what} is not a number: give it in {unit} without the unit, or leave it empty."
        raise UsageError(msg)
    number = float(text)
    least_is_above_0 = item.positive if item else True
    if number < 0 or (least_is_above_0 and number == 0):
        msg = f"{what} must be {'above 0' if least_is_above_0 else '0 or more'} {unit}."
        raise UsageError(msg)
    if least_is_above_0 and number < LEAST:
        msg = f"{what} is less than {LEAST:g} {unit}, which cannot be: check the unit."
        raise UsageError(msg)
    if number > highest:
        msg = f"{what} is more than {highest:,g} {unit}, which cannot be: check the unit."
        raise UsageError(msg)
    return number


@functools.lru_cache(maxsize=256)
def _words(text: str) -> frozenset[str]:
    """Return the words of *text*, and each two and three of them that follow each other: ``first_touch``."""
    words = _PARTS.sub(" ", text.lower()).split()
    runs = (words[start : start + length] for length in (1, 2, 3) for start in range(len(words) - length + 1))
    return frozenset("_".join(run) for run in runs)


def _variant(text: str, where: str) -> Variant:
    words = _words(text)
    found = next((variant for variant, theirs in _VARIANT_WORDS if words & theirs), None)
    if found is None:
        msg = f"{where}: variant {text[:40]!r} is not known: give one of {', '.join(VARIANTS)}."
        raise UsageError(msg)
    return found


def _phase(text: str, column: str, where: str) -> Phase | None:
    if text.lower() in _UNKNOWN:
        return None
    words = _words(text)
    found = next((phase for phase, theirs in _PHASE_WORDS if words & theirs), None)
    if found is None:
        msg = f"{where}: {column} {text[:40]!r} is no phase: give one of {', '.join(PHASES)}."
        raise UsageError(msg)
    return found


@functools.lru_cache(maxsize=256)
def _host_of(name: str) -> Host:
    return Host.of(name)


def _host(text: str, where: str) -> Host:
    if text.lower() in _UNKNOWN:
        return Host()
    if not _TYPE.fullmatch(text.lower()):
        msg = f"{where}: instance_type {text[:40]!r} is not one: give a name such as g5.xlarge, or leave it empty."
        raise UsageError(msg)
    return _host_of(text.lower())


def _fsr(text: str, where: str) -> bool | None:
    if text.lower() in _UNKNOWN:
        return None
    if text.lower() not in _YES_NO:
        msg = f"{where}: fsr {text[:40]!r} is neither yes nor no: no is without a credit."
        raise UsageError(msg)
    return _YES_NO[text.lower()]


def _models_from(row: Mapping[str, str], where: str) -> ModelsFrom | None:
    text = row.get("models_from", "").lower()
    if text in _UNKNOWN:
        return None
    if text not in ("ami", "s3"):
        msg = f"{where}: models_from {text[:40]!r} is neither ami nor s3."
        raise UsageError(msg)
    return "ami" if text == "ami" else "s3"


def answers(points: Iterable[Point], inputs: Inputs) -> list[Answer]:
    """Return what the model says to each of *points*, with *inputs* for what they leave open."""
    three = ends(inputs)
    # A point that says nothing of sizes is of the default image, not of one that --set described.
    blank = Ends(*(_without_sizes(values) for values in (three.fast, three.likely, three.slow)))
    return [Answer(point.id, _answer(point, blank)) for point in points]


def likely_s(points: Iterable[Point], inputs: Inputs) -> list[float]:
    """Return the likely value of `answers` alone."""
    blank = _without_sizes(ends(inputs).likely)
    return [sum(_wanted(point, model.likely_s(point.start, {**blank, **_known(point)}))) for point in points]


def _without_sizes(values: Mapping[str, float]) -> dict[str, float]:
    rest = {name: value for name, value in values.items() if name not in _SIZES}
    return {**rest, "throughput_mib_s": _THROUGHPUT_MIB_S}


def _known(point: Point) -> dict[str, float]:
    """Return what a point says of itself, by the model's names, and what follows from its silence."""
    known = dict(point.known)
    if "readers" in known:
        known["prewarm_readers"] = known["readers"]
    if point.start.variant == "rated" and not known.get("rate_mib_s"):
        known.pop("rate_mib_s", None)
    if point.first == "models":
        # Reading and loading alone; and nothing is said of what was read before: nothing was.
        known["warm_up_s"] = 0.0
        known.setdefault("touched_gib", 0.0)
    return known


def _answer(point: Point, blank: Ends) -> Range:
    known = _known(point)
    three = Ends({**blank.fast, **known}, {**blank.likely, **known}, {**blank.slow, **known})
    known_widths = model.widths(point.start, three.likely, is_vague=_is_vague(point))
    seconds = model.spread(model.times(point.start, three), known_widths)
    return model.in_all(point.first, point.last, seconds, known_widths)


def _is_vague(point: Point) -> bool:
    """Return whether a row is of a whole start whose packed size it does not give.

    One size "of the image" is now the packed and now the unpacked one, half or twice the other; and who gives none
    tells little else of what runs there. Public rows of this kind were missed twice as often as those with the packed
    size.
    """
    around = point.first != "pull_unpack" or point.last not in ("pull_unpack", "create_start")
    return around and "pull_unpack" in _wanted(point, PHASES) and "compressed_gib" not in point.known


def _wanted(point: Point, phases: Sequence[_Of]) -> Sequence[_Of]:
    return phases[PHASES.index(point.first) : PHASES.index(point.last) + 1]


def document(answered: Sequence[Answer]) -> dict[str, Any]:
    """Return the answers as JSON-ready values."""
    return {"points": [answer.document() for answer in answered]}


def table(answered: Sequence[Answer]) -> Table:
    """Return the answers as a table."""
    columns = ("id", "low_s", "likely_s", "high_s")
    rows = [(one.id, *(f"{seconds:.1f}" for seconds in one.seconds.document().values())) for one in answered]
    return Table(columns=columns, rows=rows, numeric=frozenset(columns[1:]))


def described(point: Point) -> str:
    """Return in words which way and which phases a point is about."""
    over = LABELS[point.first] if point.first == point.last else f"{LABELS[point.first]} to {LABELS[point.last]}"
    whole = (point.first, point.last) == (PHASES[0], PHASES[-1])
    return f"{LABELS[point.start.variant]}: {'the whole start' if whole else over}"


def measured(points: Sequence[Point]) -> list[tuple[Point, float]]:
    """Return the points whose measured time is known, with it."""
    return [(point, point.measured_s) for point in points if point.measured_s is not None]
