"""Masks an HCL text before it is parsed: same length and structure, comments, strings and heredocs blanked.

Comments become spaces, the content of strings and heredocs becomes filler, letters beyond ASCII become ASCII ones. A
parser that reads the shadow gives positions that hold in the text, whatever decoys its comments and strings contain and
whichever corner of the language the parser does not know (comments between name and value, names in other scripts).

The lexical rules are those of the HCL native syntax specification and of its scanner, github.com/hashicorp/hcl/v2.
"""

from __future__ import annotations

import re

_STOP = re.compile(r'#|//|/\*|"|<<-?(?P<marker>[^\W\d][\w-]*)\r?\n|(?P<letters>[^\W\x00-\x7f]+)|\ufeff')
# The same inside ${ }, with the braces that end it.
_STOP_INSIDE = re.compile(r'#|//|/\*|"|<<-?[^\W\d][\w-]*\r?\n|[{}]')
_PLAIN_STRING = re.compile(r'(?:\\.|\$\$\{|%%\{|[$%](?!\{)|[^"\\$%\r\n]|\r(?!\n))*')
_PLAIN_HEREDOC = re.compile(r"(?:\$\$\{|%%\{|[$%](?!\{)|[^$%\n])*")


class UnreadableTextError(ValueError):
    """The text is not HCL; `position` is the offset of what is wrong."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(problem)
        self.position = position


def shadow(text: str) -> str:
    """Return the shadow of *text*.

    Raises:
        UnreadableTextError: A string, comment or heredoc does not end.
        RecursionError: Templates are nested too deeply.
    """
    parts: list[str] = []
    position = 0
    while match := _STOP.search(text, position):
        start = match.start()
        parts.append(text[position:start])
        if match["letters"]:
            position = match.end()
            parts.append("X" * (position - start))
        elif match["marker"]:
            position = _heredoc_end(text, match)
            parts.append(_heredoc_shadow(text[start:position], match))
        elif match[0] == '"':
            position = _string_end(text, start)
            parts.append('"' + "X" * (position - start - 2) + '"')
        else:
            position = _comment_end(text, start)
            parts.append(" " * (position - start))
    parts.append(text[position:])
    return "".join(parts)


def _comment_end(text: str, start: int) -> int:
    """Return where the comment (or byte-order mark) at *start* ends; a line's end is not part of it."""
    if text.startswith("\ufeff", start):
        return start + 1
    if not text.startswith("/*", start):
        end = text.find("\n", start)
        return len(text) if end < 0 else end
    end = text.find("*/", start + 2)
    if end < 0:
        problem = "a comment /* has no end"
        raise UnreadableTextError(problem, start)
    return end + 2


def _string_end(text: str, start: int) -> int:
    position = start + 1
    while True:
        match = _PLAIN_STRING.match(text, position)
        position = match.end() if match else position
        if text.startswith('"', position):
            return position + 1
        if not text.startswith(("${", "%{"), position):
            problem = "a string has no closing quote on its line"
            raise UnreadableTextError(problem, start)
        position = _template_end(text, position)


def _template_end(text: str, start: int) -> int:
    """Return where the ``${`` or ``%{`` at *start* ends, strings and braces inside it skipped."""
    depth, position = 1, start + 2
    while match := _STOP_INSIDE.search(text, position):
        position = match.end()
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0:
                return position
        elif match[0] == '"':
            position = _string_end(text, match.start())
        elif match[0].startswith("<<"):
            problem = "a heredoc is inside ${ }, which is more than this editor follows"
            raise UnreadableTextError(problem, match.start())
        else:
            position = _comment_end(text, match.start())
    problem = f"{text[start : start + 2]} has no end"
    raise UnreadableTextError(problem, start)


def _heredoc_end(text: str, opening: re.Match[str]) -> int:
    """Return where the heredoc ends: before the line feed of the line that holds its marker alone."""
    position = opening.end()
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        if text[position:end].strip() == opening["marker"]:
            return end
        while match := _PLAIN_HEREDOC.match(text, position):
            position = match.end()
            if not text.startswith(("${", "%{"), position):
                break
            position = _template_end(text, position)
        position += 1
    problem = f"a heredoc has no end {opening['marker']}"
    raise UnreadableTextError(problem, opening.start())


def _heredoc_shadow(text: str, opening: re.Match[str]) -> str:
    """Return a heredoc of the same length whose body is dots: no line of those is its marker."""
    marker = "X" * len(opening["marker"])
    head = text[: opening.start("marker") - opening.start()] + marker
    head += text[len(head) : opening.end() - opening.start()]
    body, line_feed, _last = text[len(head) :].rpartition("\n")
    tail = "." * len(body) + line_feed
    return head + tail + marker.rjust(len(text) - len(head) - len(tail))
