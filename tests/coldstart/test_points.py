"""A file of points: what is understood, what is refused, and what the model answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.coldstart import points
from gpu_ami.coldstart.assumptions import NARROW, PLAIN_HOST, VAGUE, WIDE, Range, Width, assumed, with_given
from gpu_ami.coldstart.model import PHASES, VARIANTS, Host, Start, predict
from gpu_ami.coldstart.points import COLUMNS, LONGEST, answers, described, parse
from gpu_ami.errors import UsageError

_INPUTS = assumed()


def _csv(*rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> str:
    lines = [",".join(row.get(name, "") for name in columns) for row in rows]
    return "\n".join([",".join(columns), *lines]) + "\n"


def _row(**fields: str) -> dict[str, str]:
    return {"id": "a", "variant": "plain", **{name.rstrip("_"): value for name, value in fields.items()}}


def _answer(**fields: str) -> Range:
    (answer,) = answers(parse(_csv(_row(**fields)), source="p.csv"), _INPUTS)
    return answer.seconds


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_empty_row_is_the_whole_start_of_the_documented_image(variant: str) -> None:
    """What a field leaves open has one documented default, whoever asks: gp3's free throughput is one of them."""
    free = with_given(_INPUTS, {"throughput_mib_s": Range(125, 125, 125)}, "test")

    answer = _answer(variant=variant)

    whole = predict(Start(variant), free).total  # type: ignore[arg-type]
    assert answer.likely == pytest.approx(whole.likely)


@pytest.mark.parametrize(
    ("fields", "width"),
    [
        ({}, VAGUE),
        ({"image_gib": "12", "to": "start"}, VAGUE),
        ({"compressed_gib": "8"}, NARROW),
        ({"image_gib": "12", "from_": "pull", "to": "start"}, NARROW),
        ({"image_gib": "12", "from_": "imports"}, NARROW),
        ({"to": "register"}, WIDE),
        ({"to": "queue", "instance_type": "m5.large"}, WIDE),
        ({"from_": "launch", "to": "register", "instance_type": "m5.large"}, PLAIN_HOST),
        ({"from_": "launch", "to": "boot"}, NARROW),
    ],
)
def test_a_start_that_is_hardly_described_has_a_wide_range(fields: dict[str, str], width: Width) -> None:
    """Public starts of "a 15 GB image" were missed twice as often as those whose packed size is known."""
    answer = _answer(variant="stock", **fields)

    assert answer.high / answer.likely == pytest.approx(width.above)
    assert answer.likely / answer.low == pytest.approx(width.below)


def test_models_alone_are_read_and_loaded_and_not_warmed_up() -> None:
    """Who times the read of a file, or a framework's load, stops before the first answer."""
    alone = _answer(variant="fsr", from_="models", to="models", models_gib="2")
    after_imports = _answer(variant="fsr", from_="imports", to="models", models_gib="2", touched_gib="0")
    imports = _answer(variant="fsr", from_="imports", to="imports", touched_gib="0")

    assert after_imports.likely - imports.likely - alone.likely == pytest.approx(30, abs=1)


def test_a_part_is_from_the_beginning_of_one_phase_to_the_end_of_another() -> None:
    """Adjacent parts add up to the whole, and one phase is itself."""
    whole = _answer().likely
    parts = [
        _answer(from_="queue", to="register"),
        _answer(from_="pull", to="start"),
        _answer(from_="imports", to="imports"),
    ]

    models = whole - sum(part.likely for part in parts)
    assert models > 0
    assert _answer(from_="queue", to="imports").likely == pytest.approx(sum(part.likely for part in parts))
    assert _answer(from_="launch", to="launch").likely < _answer(from_="launch", to="boot").likely


def test_a_read_of_models_alone_is_of_models_alone() -> None:
    """Nothing is said of what was read before, so nothing was: the volume is as empty as it can be."""
    alone = _answer(variant="rated", models_gib="15", snapshot_gib="112", from_="models", to="models")
    after = _answer(variant="rated", models_gib="15", snapshot_gib="112", touched_gib="8", from_="models", to="models")

    assert alone.likely > after.likely


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"variant": "FSR"}, {"variant": "fsr", "fsr": "yes"}),
        ({"variant": "fsr", "fsr": "no"}, {"variant": "plain"}),
        ({"variant": "plain", "fsr": "1"}, {"variant": "fsr"}),
        ({"variant": "plain", "rate_mib_s": "200"}, {"variant": "rated", "rate_mib_s": "200"}),
        ({"variant": "fsr", "rate_mib_s": "200", "fsr": "yes"}, {"variant": "rated", "rate_mib_s": "200"}),
        ({"variant": "rated"}, {"variant": "rated", "rate_mib_s": "300"}),
        ({"variant": "rated", "rate_mib_s": "0"}, {"variant": "rated", "rate_mib_s": "300"}),
        ({"variant": "instance-store fast pull"}, {"variant": "fast_pull"}),
        ({"variant": "baked"}, {"variant": "plain"}),
        ({"variant": "baked AMI - provisioned rate"}, {"variant": "rated"}),
        ({"variant": "baked + FSR"}, {"variant": "fsr"}),
        ({"variant": "Prewarm"}, {"variant": "prewarmed"}),
        ({"variant": "Stock AMI"}, {"variant": "stock"}),
        ({"from": "pull + unpack", "to": "Create/Start"}, {"from": "pull_unpack", "to": "create_start"}),
        ({"from": "first touch and imports"}, {"from": "first_touch_imports"}),
        ({"image_gib": "?", "fsr": "unknown", "from": "-"}, {}),
        ({"instance_type": ""}, {"instance_type": "g5.xlarge"}),
        ({"compressed_gib": "11"}, {"compressed_gib": "11", "image_gib": "20"}),
    ],
)
def test_the_same_thing_may_be_said_in_other_words(one: dict[str, str], other: dict[str, str]) -> None:
    """Words for phases and ways differ from table to table; a rate goes before Fast Snapshot Restore, as in EBS."""
    said = [answers(parse(_csv(_row(**fields)), source="p"), _INPUTS)[0].seconds for fields in (one, other)]

    assert said[0] == said[1]


def test_readers_are_those_of_prewarm_too() -> None:
    """A row has one number of readers."""
    few, many = (
        _answer(variant="prewarmed", models_gib="100", readers=count, throughput_mib_s="1000") for count in ("4", "64")
    )

    assert many.likely < few.likely


def test_models_may_come_from_s3_although_the_image_is_baked() -> None:
    """Half of those who bake keep their weights in a bucket; a column says so where a file has it."""
    columns = (*COLUMNS, "models_from", "something")
    rows = [_row(models_gib="40", from_="models", models_from=where) for where in ("s3", "ami")]

    bucket, volume = (answer.seconds for answer in answers(parse(_csv(*rows, columns=columns), source="p"), _INPUTS))

    assert bucket.likely < volume.likely


def test_columns_may_stand_in_any_order_and_blank_lines_are_no_rows() -> None:
    """Spreadsheets do both."""
    text = _csv(_row(id="x"), columns=tuple(reversed(COLUMNS))) + "\n,,\n  \n"

    assert [point.id for point in parse(text, source="p")] == ["x"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"variant": "warm"}, "p.csv, line 2: variant 'warm' is not known: give one of stock, plain"),
        ({"variant": ""}, "variant '' is not known"),
        ({"variant": "prewarmer"}, "variant 'prewarmer' is not known"),
        ({"to": "bootstrap"}, "to 'bootstrap' is no phase"),
        ({"id": ""}, "line 2 has no id"),
        ({"image_gib": "17 GiB"}, "image_gib = '17 GiB' is not a number: give it in GiB without the unit"),
        ({"image_gib": "nan"}, "image_gib = 'nan' is not a number"),
        ({"image_gib": "inf"}, "image_gib = 'inf' is not a number"),
        ({"image_gib": "1e999"}, "is more than 65,536 GiB"),
        ({"image_gib": "-1"}, "image_gib = '-1' must be 0 or more GiB"),
        ({"rate_mib_s": "301"}, "is more than 300 MiB/s, which cannot be"),
        ({"throughput_mib_s": "0"}, "must be above 0 MiB/s"),
        ({"throughput_mib_s": "1e-308", "image_gib": "65536"}, "is less than 0.001 MiB/s, which cannot be"),
        ({"readers": "0"}, "must be above 0 readers"),
        ({"fsr": "maybe"}, "fsr 'maybe' is neither yes nor no"),
        ({"from": "lunch"}, "from 'lunch' is no phase: give one of queue, launch"),
        ({"from": "models", "to": "boot"}, "from models comes after to boot"),
        ({"instance_type": "a GPU"}, "instance_type 'a GPU' is not one"),
        ({"id": "a", "image_gib": "1,5"}, "has 15 fields, the first line 14"),
    ],
)
def test_a_field_that_cannot_be_is_refused_with_its_line(fields: dict[str, str], problem: str) -> None:
    """One line that says where and what to do: nobody looks through ten thousand rows."""
    with pytest.raises(UsageError, match=problem) as caught:
        parse(_csv(_row(**fields)), source="p.csv")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "p.csv has no column id, variant, instance_type"),
        (_csv(columns=COLUMNS), "p.csv has no rows"),
        (_csv(_row(), columns=tuple(name for name in COLUMNS if name != "readers")), "p.csv has no column readers:"),
        (_csv(_row(), columns=(*COLUMNS, "fsr")), "has the column fsr twice"),
        (_csv(*[_row()] * (LONGEST + 1)), "has more than 20,000 rows: split it"),
        (_csv(_row()) + '"a', "p.csv is not CSV"),
        (_csv(_row(models_from="disk"), columns=(*COLUMNS, "models_from")), "models_from 'disk' is neither ami nor s3"),
        (_csv(_row(measured_s="-3"), columns=(*COLUMNS, "measured_s")), "measured_s = '-3' must be above 0 s"),
    ],
    ids=["empty", "no rows", "column missing", "column twice", "too many", "cut", "models", "measured"],
)
def test_a_file_that_cannot_be_is_refused(text: str, problem: str) -> None:
    """Before anything is predicted."""
    with pytest.raises(UsageError, match=problem):
        parse(text, source="p.csv")


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "does not exist"), (b"\xff\xfe", "not UTF-8"), (b"a" * 9_000_000, "larger than")]
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A spreadsheet saved in another form is the usual case."""
    path = tmp_path / "p.csv"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=problem):
        points.load(path)


def test_a_point_says_what_it_is_about() -> None:
    """For the table of measured ones."""
    whole, part, one = parse(_csv(_row(), _row(from_="launch", to="boot"), _row(from_="pull", to="pull")), source="p")

    assert described(whole) == "baked, plain: the whole start"
    assert described(part) == "baked, plain: launch to boot"
    assert described(one) == "baked, plain: pull + unpack"
    assert one.first == PHASES[4]
    assert part.start.host == Host()
