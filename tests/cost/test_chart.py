"""The answer as a picture."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from gpu_ami import svg
from gpu_ami.cost.chart import WIDTH, draw, write
from gpu_ami.cost.inputs import CostRequest
from gpu_ami.cost.price_table import load
from gpu_ami.cost.report import CostReport, report
from gpu_ami.drawing import Area, Dot, Drawing, Line, Rectangle, Text
from gpu_ami.errors import UsageError
from gpu_ami.units import show_duration
from tests.cost.builders import REPORTED_AND_LOADED, SEOUL, TODAY

_SVG = "{http://www.w3.org/2000/svg}"


def _report(**fields: Any) -> CostReport:
    return report(CostRequest(**{"region": SEOUL, **fields}), load(), today=TODAY)


def _texts(drawing: Drawing) -> list[str]:
    return [shape.text for shape in drawing.shapes if isinstance(shape, Text)]


def test_the_break_even_is_marked_where_the_lines_cross() -> None:
    """The dot lies on both lines, or the picture lies."""
    drawing = draw(_report(market="on-demand", given=REPORTED_AND_LOADED))

    (dot,) = [shape for shape in drawing.shapes if isinstance(shape, Dot)]
    stock, baked = [shape for shape in drawing.shapes if isinstance(shape, Line) and shape.width == 2.5][:2]
    for line in (stock, baked):
        (x1, y1), (x2, y2) = line.points
        assert y1 + (y2 - y1) * (dot.x - x1) / (x2 - x1) == pytest.approx(dot.y, abs=0.01)
    assert "pays from 21.6 launches on" in _texts(drawing)


def test_without_a_break_even_nothing_is_marked() -> None:
    """Never is said as text."""
    drawing = draw(_report(instance_type="g6.xlarge"))

    assert not [shape for shape in drawing.shapes if isinstance(shape, Dot)]
    assert any("it never pays" in text for text in _texts(drawing))


def test_a_moving_price_has_bands_and_a_fixed_one_has_none() -> None:
    """Spot prices are a range, and the picture must not hide it."""
    moving, fixed = draw(_report()), draw(_report(market="on-demand"))

    assert len([shape for shape in moving.shapes if isinstance(shape, Area)]) == 2
    assert not [shape for shape in fixed.shapes if isinstance(shape, Area)]
    assert "USD a month; bands: instance at $0.37 / $0.46 / $0.53 an hour" in _texts(moving)


def _bars_s(answered: CostReport) -> list[Decimal]:
    """Return the seconds of each bar: the two ways, the AMI without a rate, and the fast pull."""
    launch = answered.mid.launch
    cold = answered.inputs.changed({"initialization_mib_s": Decimal(0)}).launch
    fast = next(other for other in answered.alternatives if other.name == "stock AMI, fast pull")
    return [seconds or Decimal(0) for seconds in (launch.stock_s, launch.baked_s, cold.baked_s, fast.cold_start_s)]


def test_the_timeline_has_a_bar_for_each_way_to_start() -> None:
    """And says that its times are assumed, or that they are not."""
    answered = _report()
    open_ = _texts(draw(answered))
    stated = _texts(draw(_report(preset="seed")))

    assert {"stock AMI", "baked, 300 MiB/s", "baked, no init. rate", "stock, fast pull"} <= set(open_)
    times = [shape.text for shape in draw(answered).shapes if isinstance(shape, Text) and shape.bold][-4:]
    assert times == [show_duration(float(seconds)) for seconds in _bars_s(answered)]
    assert any(text.startswith("Predicted, not measured: stock_boot_s, pull_s") for text in open_)
    assert "baked, no init. rate" not in stated
    assert "Times of the first two bars were measured or given." in stated


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"preset": "seed"},
        {"market": "on-demand", "given": {"jobs_per_month": Decimal(100_000)}},
        {"given": {"jobs_per_month": Decimal(1), "retained_amis": Decimal(0), "builds_per_month": Decimal(0)}},
        {"given": {"stock_boot_s": Decimal(0), "pull_s": Decimal(0), "models_s": Decimal(0)}},
    ],
    ids=["usual", "seed", "many launches", "nothing fixed", "no time at all"],
)
def test_every_shape_stays_in_the_frame(fields: dict[str, Any]) -> None:
    """Whatever the numbers: no label off the edge, no line outside."""
    drawing = draw(_report(**fields))

    for shape in drawing.shapes:
        if isinstance(shape, Line | Area):
            points = list(shape.points)
        elif isinstance(shape, Rectangle):
            points = [(shape.x, shape.y), (shape.x + shape.width, shape.y + shape.height)]
        elif isinstance(shape, Text):
            # A letter is 0.6 of its size wide at most, on average.
            width = 0.6 * shape.size * len(shape.text)
            left = {"start": shape.x, "middle": shape.x - width / 2, "end": shape.x - width}[shape.anchor]
            points = [(left, shape.y), (left + width, shape.y)]
        else:
            points = [(shape.x, shape.y)]
        for x, y in points:
            assert -0.5 <= x <= WIDTH + 0.5, shape
            assert 0 <= y <= drawing.height, shape


def test_both_kinds_of_file_are_pictures(tmp_path: Path) -> None:
    """SVG keeps its text as text, for readers and search; PNG is twice as fine as it is shown."""
    answered = _report()
    write(answered, tmp_path / "a.svg")
    write(answered, tmp_path / "a.PNG")

    tree = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert [element.text for element in tree.iter(f"{_SVG}text")] == _texts(draw(answered))
    assert tree.find(f"{_SVG}title") is not None
    picture = Image.open(io.BytesIO((tmp_path / "a.PNG").read_bytes()))
    assert picture.size == (WIDTH * 2, draw(answered).height * 2)
    colours = {picture.getpixel((x, y)) for x in range(0, picture.width, 7) for y in range(0, picture.height, 7)}
    assert len(colours) > 10


@pytest.mark.parametrize("name", ["a.gif", "a", "svg"])
def test_other_kinds_of_file_are_refused(tmp_path: Path, name: str) -> None:
    """Before anything is drawn."""
    with pytest.raises(UsageError, match=r"neither an \.svg nor a \.png"):
        write(_report(), tmp_path / name)


def test_a_picture_of_the_unknown_is_refused(tmp_path: Path) -> None:
    """A line at 0 for an unknown price would be a lie in colour."""
    with pytest.raises(UsageError, match="figures that are unknown"):
        write(_report(region="eu-west-1"), tmp_path / "a.svg")


def test_odd_characters_stay_text_in_svg() -> None:
    """An instance type from the command line ends up in the title."""
    drawing = Drawing(10, 10, "<a>", '"&"', (Text(1, 1, "<script>&"),))

    tree = ElementTree.fromstring(svg.render(drawing))

    assert [element.text for element in tree] == ["<a>", '"&"', "<script>&"]


def test_a_dashed_line_has_gaps_in_both_kinds() -> None:
    """The mark of today's launches must not be taken for a curve."""
    drawing = Drawing(20, 4, "", "", (Line(((0, 2), (20, 2)), "#000000", 2, dash=5),))

    picture = Image.open(io.BytesIO(svg.to_png(svg.render(drawing)))).convert("L")
    dark = [int(str(picture.getpixel((x, 4)))) < 64 for x in (4, 14, 24, 34)]
    assert dark == [True, False, True, False]
    assert 'stroke-dasharray="5 5"' in svg.render(drawing)


@pytest.mark.parametrize(("bold", "width"), [(False, 365), (True, 397)])
def test_the_letters_are_those_of_the_font_that_comes_with_us(bold: bool, width: int) -> None:
    """A font of this machine would make another picture on the next one: labels would run into each other."""
    drawing = Drawing(400, 100, "", "", (Text(0, 90, "IllliiiI", 100, "#000000", bold=bold),))

    picture = Image.open(io.BytesIO(svg.to_png(svg.render(drawing)))).convert("L")
    left, _, right, _ = picture.point(lambda level: 255 if level < 128 else 0).getbbox() or (0, 0, 0, 0)

    assert right - left == pytest.approx(width, abs=2)
