"""Pictures as data: shapes in a frame of pixels, drawn by svg.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Rectangle:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    radius: float = 0


@dataclass(frozen=True)
class Line:
    """A line through *points*; dashes and gaps of *dash* pixels when it is not 0."""

    points: tuple[Point, ...]
    stroke: str
    width: float = 1
    dash: float = 0


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: tuple[Point, ...]
    fill: str


@dataclass(frozen=True)
class Dot:
    """A filled circle with a white rim."""

    x: float
    y: float
    radius: float
    fill: str


@dataclass(frozen=True)
class Text:
    """A line of text; *y* is its baseline."""

    x: float
    y: float
    text: str
    size: float = 13
    fill: str = "#1f2933"
    anchor: Anchor = "start"
    bold: bool = False


Shape = Rectangle | Line | Area | Dot | Text


@dataclass(frozen=True)
class Drawing:
    """A picture of *width* x *height* pixels; *title* and *description* are for those who cannot see it."""

    width: int
    height: int
    title: str
    description: str
    shapes: tuple[Shape, ...]
