"""Line numbers of offsets in a text."""

from __future__ import annotations

import bisect
import re


class Lines:
    """The line ends of a text.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        # Found once: counting anew for each value would take ages in a long file.
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def number(self, position: int) -> int:
        """Return the number, from 1, of the line that the offset *position* is on."""
        return bisect.bisect_left(self._ends, position) + 1
