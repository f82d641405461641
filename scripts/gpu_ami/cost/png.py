"""A drawing as a PNG picture, at twice its size for sharp text."""

from __future__ import annotations

import io
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gpu_ami.cost.drawing import Anchor, Area, Dot, Drawing, Line, Point, Rectangle, Shape, Text

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

# Pixels of the picture per pixel of the drawing; shapes are drawn larger still and brought down, which smooths edges.
SCALE = 2
_SMOOTHING = 2
_ANCHORS: dict[Anchor, str] = {"start": "ls", "middle": "ms", "end": "rs"}


def render(drawing: Drawing) -> bytes:
    """Return *drawing* as PNG. The font is Pillow's own: it is the same on every machine."""
    from PIL import Image, ImageDraw

    fine = SCALE * _SMOOTHING
    canvas = Image.new("RGB", (drawing.width * fine, drawing.height * fine), "#ffffff")
    pen = ImageDraw.Draw(canvas)
    for shape in drawing.shapes:
        if not isinstance(shape, Text):
            _draw(pen, shape, fine)
    picture = canvas.resize((drawing.width * SCALE, drawing.height * SCALE), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    for shape in drawing.shapes:
        if isinstance(shape, Text):
            _write(pen, shape)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True, dpi=(72 * SCALE, 72 * SCALE))
    return out.getvalue()


def _draw(pen: ImageDraw, shape: Shape, scale: int) -> None:
    if isinstance(shape, Rectangle):
        box = [shape.x * scale, shape.y * scale, (shape.x + shape.width) * scale, (shape.y + shape.height) * scale]
        pen.rounded_rectangle(box, radius=shape.radius * scale, fill=shape.fill)
    elif isinstance(shape, Line):
        for piece in _pieces(shape):
            points = [(x * scale, y * scale) for x, y in piece]
            pen.line(points, fill=shape.stroke, width=round(shape.width * scale), joint="curve")
    elif isinstance(shape, Area):
        pen.polygon([(x * scale, y * scale) for x, y in shape.points], fill=shape.fill)
    elif isinstance(shape, Dot):
        _disc(pen, shape, shape.radius + 1, "#ffffff", scale)
        _disc(pen, shape, shape.radius - 1, shape.fill, scale)


def _disc(pen: ImageDraw, dot: Dot, radius: float, fill: str, scale: int) -> None:
    left, top = (dot.x - radius) * scale, (dot.y - radius) * scale
    pen.ellipse([left, top, left + 2 * radius * scale, top + 2 * radius * scale], fill=fill)


def _write(pen: ImageDraw, text: Text) -> None:
    place = (text.x * SCALE, text.y * SCALE)
    # The font has one weight; a stroke of its own colour makes it bolder.
    stroke = text.size * SCALE / 45 if text.bold else 0
    font, anchor = _font(text.size * SCALE), _ANCHORS[text.anchor]
    pen.text(place, text.text, fill=text.fill, font=font, anchor=anchor, stroke_width=stroke, stroke_fill=text.fill)


def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _pieces(line: Line) -> list[tuple[Point, ...]]:
    """Return the line itself, or its dashes."""
    if not line.dash:
        return [line.points]
    dashes: list[tuple[Point, ...]] = []
    for (x1, y1), (x2, y2) in pairwise(line.points):
        length = math.hypot(x2 - x1, y2 - y1)
        for number in range(0, math.ceil(length / line.dash), 2):
            ends = (number * line.dash / length, min((number + 1) * line.dash / length, 1))
            dashes.append(tuple((x1 + (x2 - x1) * end, y1 + (y2 - y1) * end) for end in ends))
    return dashes
