#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["pyte>=0.8.2", "rich>=14,<16"]
# ///
"""Runs a command in a terminal and draws what a person saw: `uv run docs/record.py docs/pictures/NAME.svg COMMAND…`."""

from __future__ import annotations

import io
import itertools
import os
import pty
import re
import sys
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 118, 400
# pyte's names for what rich calls otherwise; the default colours stay the theme's.
COLOURS = {"brown": "yellow", "brightblack": "bright_black"}


def run(argv: list[str]) -> pyte.Screen:
    """Run *argv* in a terminal of its own and return the screen at its end."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"COLUMNS": str(COLUMNS), "LINES": "40", "TERM": "xterm-256color"}
        os.execvp(argv[0], argv)  # noqa: S606 - what a person would type
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        stream.feed(data)
    os.waitpid(child, 0)
    return screen


def styled(char: pyte.screens.Char) -> str:
    """Return how rich calls the style of a cell."""
    colour = "" if char.fg == "default" else COLOURS.get(char.fg, char.fg)
    if re.fullmatch(r"[0-9a-f]{6}", colour):
        colour = f"#{colour}"
    return f"{'bold ' if char.bold else ''}{colour}".strip()


def draw(screen: pyte.Screen, title: str, *, first: int = 0) -> str:
    """Return the lines of *screen* as SVG, from the line *first* on."""
    filled = [number for number, line in enumerate(screen.display) if line.strip()]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for number in range(first, max(filled) + 1):
        line = Text()
        cells = [screen.buffer[number][column] for column in range(len(screen.display[number].rstrip()))]
        # One piece per style, not per character: a tenth of the size.
        for style, piece in itertools.groupby(cells, key=styled):
            line.append("".join(cell.data for cell in piece), style=style)
        console.print(line, no_wrap=True, crop=True)
    svg = console.export_svg(title=title)
    # Without the fonts that rich would fetch from elsewhere, and its own address.
    return re.sub(r"\s*(?:@font-face \{[^}]*\}|<!--.*?-->)", "", svg)


if __name__ == "__main__":
    target, *command = sys.argv[1:]
    Path(target).write_text(draw(run(command), " ".join(command)), encoding="utf-8")
