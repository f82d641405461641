"""Renders a drawing as SVG text, and SVG text as a PNG picture; writes either to a file."""

from __future__ import annotations

from html import escape
from pathlib import Path

from gpu_ami.drawing import Area, Dot, Drawing, Line, Point, Rectangle, Shape, Text
from gpu_ami.errors import UsageError
from gpu_ami.files import write_atomic

# Pixels of the PNG picture per pixel of the drawing: sharp text on today's screens.
SCALE = 2
_FONT = "Roboto"
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def write(drawing: Drawing, path: Path) -> None:
    """Write *drawing* to *path*, whose name ends with ``.svg`` or ``.png``.

    Raises:
        UsageError: The name ends otherwise, or the file cannot be written.
    """
    check_path(path)
    picture = render(drawing)
    write_atomic(path, picture if path.suffix.lower() == ".svg" else to_png(picture), what="chart")


def check_path(path: Path) -> None:
    """Refuse a file that would be neither of the two kinds of picture.

    Raises:
        UsageError: The name of *path* ends with neither ``.svg`` nor ``.png``.
    """
    if path.suffix.lower() not in {".svg", ".png"}:
        msg = f"--chart {str(path)!r} is neither an .svg nor a .png file: give a name that ends so."
        raise UsageError(msg)


def render(drawing: Drawing) -> str:
    """Return *drawing* as an SVG document, text as text."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{drawing.width}" height="{drawing.height}" '
        f'viewBox="0 0 {drawing.width} {drawing.height}" role="img" font-family="{escape(_FONTS)}">'
    )
    names = f"<title>{escape(drawing.title)}</title><desc>{escape(drawing.description)}</desc>"
    return "\n".join([head, names, *map(_shape, drawing.shapes), "</svg>", ""])


def to_png(text: str) -> bytes:
    """Return the SVG document *text* as PNG, twice as large.

    The fonts of this machine take no part: one that comes with the pipeline replaces all that *text* names.
    """
    import fontpkg
    import resvg_py

    font = str(fontpkg.path(_FONT))
    return resvg_py.svg_to_bytes(
        svg_string=text,
        zoom=SCALE,
        background="#ffffff",
        skip_system_fonts=True,
        font_files=[font],
        sans_serif_family=_FONT,
    )


def _shape(shape: Shape) -> str:
    if isinstance(shape, Rectangle):
        size = f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
        return f'<rect {size} rx="{_n(shape.radius)}" fill="{shape.fill}"/>'
    if isinstance(shape, Line):
        dashes = f' stroke-dasharray="{_n(shape.dash)} {_n(shape.dash)}"' if shape.dash else ""
        style = f'stroke="{shape.stroke}" stroke-width="{_n(shape.width)}" stroke-linejoin="round"{dashes}'
        return f'<polyline points="{_points(shape.points)}" fill="none" {style}/>'
    if isinstance(shape, Area):
        return f'<polygon points="{_points(shape.points)}" fill="{shape.fill}"/>'
    if isinstance(shape, Dot):
        centre = f'cx="{_n(shape.x)}" cy="{_n(shape.y)}" r="{_n(shape.radius)}"'
        return f'<circle {centre} fill="{shape.fill}" stroke="#ffffff" stroke-width="2"/>'
    return _text(shape)


def _text(text: Text) -> str:
    weight = ' font-weight="600"' if text.bold else ""
    style = f'font-size="{_n(text.size)}" fill="{text.fill}" text-anchor="{text.anchor}"{weight}'
    return f'<text x="{_n(text.x)}" y="{_n(text.y)}" {style}>{escape(text.text)}</text>'


def _points(points: tuple[Point, ...]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(number: float) -> str:
    """Return *number* with at most two decimals."""
    return f"{number:.2f}".rstrip("0").rstrip(".")
