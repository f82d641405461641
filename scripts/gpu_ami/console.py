"""The gateway to the terminal: results on stdout, messages and progress on stderr.

What is printed may come from AWS: every line goes through `gpu_ami.foreign_text`, which leaves nothing in it that a
terminal, Markdown or GitHub's runner would obey.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import re
import shutil
import sys
import textwrap
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from gpu_ami.errors import UsageError
from gpu_ami.foreign_text import guarded, in_json, in_markdown, limited, visible
from gpu_ami.options import Output
from gpu_ami.streams import Results, Talk
from gpu_ami.units import show_count, show_duration

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

# A quiet step says that it is still there this often when nobody can see a spinner.
_HEARTBEAT_S = 15.0
# A command of ours, as messages name it; those that are about the sandbox itself or this machine are as they are.
_COMMAND = re.compile(r"`(invoke (?!sandbox\b|setup\b|\.\.\.)(?:(?!--sandbox)[^`])+)`")
_OF_A_FAMILY = re.compile(r"`(invoke (?!sandbox\b|setup\b|\.\.\.)(?:(?!--family)[^`])+)`")
# What jmespath lets through of its comparisons, slices, ceil() and floor(), of long numbers and of deep nesting.
_PYTHONS_OWN = (TypeError, ValueError, ArithmeticError, RecursionError)
_LONGEST_QUERY = 500
# GitHub drops a step's summary above 1 MiB.
SUMMARY_BYTES = 1_000_000
# More than the line that says what was left out.
_LINE_BYTES = 100
# What people copy, ids and names of ours and of what Terraform makes, is no longer than this and never broken.
_LONGEST_ID = len("terraform-20261130112558820600000009")


@dataclass(frozen=True)
class Table:
    """Rows for people: the same cells become a terminal table or Markdown.

    Attributes:
        columns: The headings.
        rows: One tuple of cells per row, as many as there are columns.
        title: Said above the rows.
        footer: Lines said below the rows: totals, the next command.
        numeric: Headings of the columns that are set flush right.
        edge: So many columns at most on a terminal, too, and where there is none; None is as wide as it gets there.
        compact: No line is spent on rules and blanks, where several tables are to fit on one screen.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""
    footer: tuple[str, ...] = ()
    numeric: frozenset[str] = field(default_factory=frozenset)
    edge: int | None = None
    compact: bool = False


class Step:
    """A step that is under way, for who carries it out."""

    def __init__(self) -> None:
        self.note = ""
        self.verb = "done in"

    def __call__(self, note: str) -> None:
        """Take a note of how far the step is, shown with the next tick."""
        self.note = note

    def fail(self, verb: str = "failed after") -> None:
        """Let the step end as one that failed, although nothing is raised in it; *verb* says how."""
        self.verb = verb


class Console:
    """Prints for people and for programs, and never mixes the two.

    Args:
        output: How results are printed.
        query: A JMESPath expression that is applied to each result's JSON.
        out: Where results go.
        err: Where talk and progress go.
        sandbox: Whether the commands that are named to people need ``--sandbox``.
        family: The family that those commands need ``--family`` for; None where they do not.
    """

    def __init__(
        self,
        output: Output = "table",
        query: str | None = None,
        *,
        out: IO[str] | None = None,
        err: IO[str] | None = None,
        sandbox: bool = False,
        family: str | None = None,
    ) -> None:
        """Check the query at once, so that a slip in it never follows a half-hour build."""
        self.output = output
        self._out = out
        self._err = err
        self._sandbox = sandbox
        self._family, self._is_labelled = family, False
        self._query = _compile(query) if query is not None else None
        self._lock = threading.Lock()
        # Of all families together, as they share a summary.
        self._written = [0]

    def of_family(self, family: str, *, labelled: bool) -> Console:
        """Return this console for one of several families.

        Args:
            family: Its name.
            labelled: Whether results say whose they are, because those of others are printed, too.
        """
        made = copy.copy(self)
        made._family, made._is_labelled = family, labelled
        return made

    @property
    def out(self) -> IO[str]:
        """Where results go; looked up late, so that a redirected sys.stdout is honoured."""
        return self._out or cast("IO[str]", Results(sys.stdout))

    @property
    def err(self) -> IO[str]:
        """Where talk and progress go."""
        return self._err or cast("IO[str]", Talk(sys.stderr))

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches the talk as it comes."""
        return self.err.isatty() and os.environ.get("TERM") != "dumb"

    def say(self, message: str = "") -> None:
        """Print a line of talk; a line break in it is shown, not obeyed: it came with something from elsewhere.

        A terminal that is too narrow for it gets it in several, none of which ends within an id or a command.
        """
        self._talk(self._folded(self._shown(message)))

    def say_text(self, text: str) -> None:
        """Print a text of several lines, such as a diff, in which nothing from elsewhere can break a line.

        They are as wide as they are: of a command that is to be pasted a line break makes two.
        """
        self._talk([self._shown(line) for line in text.split("\n")])

    def say_diff(self, diff: str) -> None:
        """Print what changes in a file, as it is in the file: a command in a comment of it is no advice of ours."""
        self._talk([visible(line, keep="\t") for line in diff.split("\n")])

    def _talk(self, lines: Sequence[str]) -> None:
        """Print *lines* that are fit to be shown."""
        with self._lock:
            self.err.write("".join(f"{guarded(line)}\n" for line in lines))
            self.err.flush()

    def _shown(self, text: str) -> str:
        """Return *text* as a line of talk: tabs may stay, which only push what follows to the right."""
        return self._pasted(visible(text, keep="\t"))

    def _pasted(self, text: str) -> str:
        """Return *text* with commands that work when they are pasted: without --sandbox they would go to AWS."""
        text = _COMMAND.sub(r"`\1 --sandbox`", text) if self._sandbox else text
        return _OF_A_FAMILY.sub(rf"`\1 --family {self._family}`", text) if self._family else text

    def warn(self, message: str) -> None:
        """Print a warning; coloured on a terminal."""
        self._judge("33", "warning", message)

    def fail(self, message: str) -> None:
        """Print the one line of an error; coloured on a terminal."""
        self._judge("31", "error", message)

    def _judge(self, colour: str, word: str, message: str) -> None:
        first, *others = self._folded(f"{word}: {self._shown(message)}")
        self._talk([self._paint(colour, word) + first.removeprefix(word), *others])

    def _folded(self, line: str, *, following: str | None = None) -> list[str]:
        """Return *line* as the terminal behind the talk has room for it; one line where nobody knows how much.

        The lines after the first begin with *following*; None indents them as the first is.
        """
        columns = _known_columns(self.err) if self.is_terminal else 0
        return list(_wrapped([line], columns, following)) if columns else [line]

    def ask(self, question: str) -> str:
        """Return a person's answer; the end of the input is an empty one, and so is a terminal that was closed."""
        shown = "\n".join(guarded(line) for line in self._folded(f"{self._shown(question)}:"))
        with self._lock:
            self.err.write(f"{shown} ")
            self.err.flush()
        with contextlib.suppress(OSError):
            return sys.stdin.readline().strip()
        return ""

    def result(self, document: Any, *tables: Table) -> None:
        """Print a task's result: *tables* for people, *document* as JSON for programs.

        With a query the answer to it is printed as JSON, whatever the output form.

        Raises:
            UsageError: The query cannot be applied to this document.
        """
        if self._is_labelled:
            document = _labelled(document, str(self._family))
        if self._query is not None:
            document = _search(self._query, document)
        # On a terminal a line of talk has said it.
        if self._is_labelled and self.output != "json" and self._query is None and not self.out.isatty():
            self._head()
        if self.output == "json":
            self._write(in_json(json.dumps(document, ensure_ascii=False, default=str)))
        elif self._query is not None:
            self._write(in_json(json.dumps(document, ensure_ascii=False, default=str, indent=2)))
        elif self.output == "markdown":
            room = max(SUMMARY_BYTES - self._written[0], 0)
            self._write(markdown_of([_changed(table, self._pasted) for table in tables], most_bytes=room))
        else:
            tables = tuple(_changed(table, lambda text: self._pasted(visible(text))) for table in tables)
            for number, table in enumerate(tables):
                if number and (tables[number - 1].footer or tables[number - 1].compact):
                    self._write("")
                self._print_table(table)

    def _head(self) -> None:
        """Print above a result whose it is."""
        self._write(f"## Family {self._family}\n" if self.output == "markdown" else f"Family {self._family}")

    def relay(self, text: str) -> None:
        """Print the result of another invocation for the same family, as it is."""
        self._head()
        self._write(text.rstrip("\n"))

    def dry_run(self, lines: Sequence[str]) -> None:
        """Say which commands a task would run; for programs as the document of `docs/schemas/`, too.

        Args:
            lines: The commands; what begins with ``#`` is a note about them.

        Raises:
            UsageError: The query cannot be applied to the document.
        """
        for line in lines:
            if line.startswith("#"):
                # What the terminal breaks by itself is no comment any more when it is pasted, and an id in it is two.
                self._talk(self._folded(self._shown(line), following="# "))
            else:
                self.say_text(line)
        notes = [line.lstrip("# ") for line in lines if line.startswith("#")]
        self._dry_document([line for line in lines if not line.startswith("#")], notes)

    def would(self, what: str) -> None:
        """Say in a sentence what a task without programs would do; for programs as the same document as `dry_run`.

        Raises:
            UsageError: The query cannot be applied to the document.
        """
        self.say(f"DRY RUN: would {what}")
        self._dry_document([], [what])

    def _dry_document(self, commands: Sequence[str], notes: Sequence[str]) -> None:
        self.for_programs({"dry_run": True, "commands": list(commands), "notes": list(notes)})

    def for_programs(self, document: Any) -> None:
        """Print *document*, a result that people were told in lines, where JSON is wanted.

        Raises:
            UsageError: The query cannot be applied to it.
        """
        if self.output == "json" or self._query is not None:
            self.result(document)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show that *title* is under way, then how long it took.

        On a terminal a line that counts the seconds; elsewhere a plain line at the end, and a heartbeat
        for steps so long that a log reader would wonder.
        """
        title = visible(title)
        started = time.monotonic()
        ended = threading.Event()
        step = Step()
        watcher = threading.Thread(target=self._watch, args=(title, started, ended, step), daemon=True)
        watcher.start()
        verb = "failed after"
        try:
            yield step
            verb = step.verb
        finally:
            ended.set()
            watcher.join()
            self.say(f"{title}: {verb} {show_duration(time.monotonic() - started)}")

    def _watch(self, title: str, started: float, ended: threading.Event, step: Step) -> None:
        def far() -> str:
            return f", {visible(note[:60])}" if (note := step.note) else ""

        if not self.is_terminal:
            while not ended.wait(_HEARTBEAT_S):
                self.say(f"{title}: {show_duration(time.monotonic() - started)} so far{far()}")
            return
        while not ended.wait(0.2):
            with self._lock:
                # What the terminal breaks in two cannot be wiped away: it would scroll by, five times a second.
                line = _clipped(f"{title}: {time.monotonic() - started:.0f} s{far()} …", _columns(self.err) - 1)
                self.err.write(f"\r\x1b[2K{line}")
                self.err.flush()
        with self._lock:
            self.err.write("\r\x1b[2K")

    def rich(self) -> RichConsole:
        """Return a rich console over the talk stream, for live views."""
        from rich.console import Console as RichConsole

        return RichConsole(file=self.err, highlight=False)

    def _paint(self, colour: str, text: str) -> str:
        plain = not self.is_terminal or "NO_COLOR" in os.environ
        return text if plain else f"\x1b[{colour}m{text}\x1b[0m"

    def _write(self, text: str) -> None:
        shown = "".join(f"{guarded(line)}\n" for line in text.split("\n"))
        with self._lock:
            if self.output == "markdown":
                self._written[0] += len(shown.encode("utf-8", "replace"))
            self.out.write(shown)
            self.out.flush()

    def _print_table(self, table: Table) -> None:
        bold = self.out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        # Without a terminal nothing may be cut: a log has no right edge.
        edge = _columns(self.out) if self.out.isatty() else None
        if table.edge is not None:
            edge = min(edge or table.edge, table.edge)
        if edge is not None:
            table = dataclasses.replace(table, footer=tuple(_wrapped(table.footer, edge)))
        widths = _widths(table)
        if edge is not None and sum(widths) + 3 * len(widths) > edge:
            if sum(_longest_word(table, column) + 3 for column in table.columns) + 1 <= edge:
                self._print_folded(table, edge, _narrowed(table, widths, edge))
            else:
                self._write("\n".join(_stacked(table, edge, bold=bold)))
        else:
            self._write("\n".join(_plain(table, widths, bold=bold)))

    def _print_folded(self, table: Table, edge: int, widths: Sequence[int]) -> None:
        """Print a table that is wider than *edge*, its cells folded to *widths*."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console as RichConsole
        from rich.table import Table as RichTable
        from rich.text import Text

        # Without a height rich takes a dumb terminal for one of 80 columns.
        console = RichConsole(file=self.out, highlight=False, width=edge, height=25)
        # As Text: in a string rich would look for markup.
        title = Text(table.title, style="bold") if table.title else None
        shown = RichTable(box=SIMPLE_HEAD, title=title, title_justify="left")
        for column, width in zip(table.columns, widths, strict=True):
            justify: Literal["left", "right"] = "right" if column in table.numeric else "left"
            shown.add_column(Text(column), justify=justify, overflow="fold", width=width)
        for row in table.rows:
            shown.add_row(*(Text(_hung(cell, width)) for cell, width in zip(row, widths, strict=True)))
        with console.capture() as drawn:
            console.print(shown)
            for line in table.footer:
                console.print(Text(line), soft_wrap=True)
        # Rich fills each line with blanks up to the edge: nobody sees them, and a file is longer for them.
        self._write("\n".join(line.rstrip() for line in drawn.get().removesuffix("\n").split("\n")))


def _labelled(document: Any, family: str) -> Any:
    """Return *document*, or each part of it, with the *family* that it is about."""
    if isinstance(document, list):
        return [_labelled(part, family) for part in document]
    return {"family": family, **document} if isinstance(document, dict) else document


def _wrapped(lines: Sequence[str], edge: int, following: str | None = None) -> Iterator[str]:
    """Yield *lines*, those longer than *edge* broken between words, *following* or their own indent before the rest."""
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip(" "))) if following is None else following
        yield from [line] if _cells(line) <= edge else _broken(line, edge, "", indent)


def _hung(cell: str, width: int) -> str:
    """Return a cell, one that is indented and too wide broken so that all its lines are."""
    indent = " " * (len(cell) - len(cell.lstrip(" ")))
    return "\n".join(_broken(cell, width, "", indent)) if indent and _cells(cell) > width else cell


def _broken(text: str, edge: int, first: str, following: str) -> list[str]:
    """Return *text* in lines of *edge* letters that begin with *first* and *following*, broken between words.

    Never within a command, an id or an address, which are for copying: a terminal may break them, we do not.
    """
    whole = re.sub(r"`[^`]+`", lambda command: command[0].replace(" ", "\0"), text)
    broken = textwrap.wrap(
        whole, edge, initial_indent=first, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in broken] or [""]


def _changed(table: Table, change: Callable[[str], str]) -> Table:
    """Return *table* with each of its texts changed."""
    return dataclasses.replace(
        table,
        columns=tuple(map(change, table.columns)),
        rows=[tuple(map(change, row)) for row in table.rows],
        title=change(table.title),
        footer=tuple(map(change, table.footer)),
        numeric=frozenset(map(change, table.numeric)),
    )


def _widths(table: Table) -> list[int]:
    """Return how wide each column must be, in the terminal's cells."""
    rows = [table.columns, *table.rows]
    return [max(_cells(row[number]) for row in rows) for number in range(len(table.columns))]


def _narrowed(table: Table, widths: Sequence[int], edge: int) -> list[int]:
    """Return *widths*, the widest that can be folded made narrower until all fit; the longest words must.

    Rich would narrow the widest of all, give them their room back, and let the last column fall over the edge.
    """
    least = [_longest_word(table, column) for column in table.columns]
    narrowed = list(widths)
    while sum(narrowed) + 3 * len(narrowed) + 1 > edge:
        foldable = [number for number, width in enumerate(narrowed) if width > least[number]]
        narrowed[max(foldable, key=narrowed.__getitem__)] -= 1
    return narrowed


def _longest_word(table: Table, column: str) -> int:
    """Return the width below which a column would break ids and dates, which nobody could then copy."""
    number = table.columns.index(column)
    parts = [part for row in [table.columns, *table.rows] for part in row[number].split()]
    return min(max(map(_cells, parts), default=1), _LONGEST_ID)


def _cells(text: str) -> int:
    """Return how many cells of a terminal *text* takes: wide characters, such as Hangul, take two."""
    return len(text) if text.isascii() else sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _columns(stream: IO[str]) -> int:
    """Return how wide the terminal behind *stream* is: the other stream may go to a file."""
    return _known_columns(stream) or shutil.get_terminal_size().columns


def _known_columns(stream: IO[str]) -> int:
    """Return how wide the terminal behind *stream* says that it is, or the environment says; 0 where neither does."""
    with contextlib.suppress(ValueError):
        if (told := int(os.environ.get("COLUMNS", ""))) > 0:
            return told
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns
    return 0


def _clipped(text: str, cells: int) -> str:
    """Return *text*, or as much of it as *cells* of a terminal hold, with a sign that there is more."""
    if _cells(text) <= cells:
        return text
    while text and _cells(text) >= cells:
        text = text[:-1]
    return f"{text}…"


def _plain(table: Table, widths: Sequence[int], *, bold: bool) -> list[str]:
    """Return the lines of a table that fits; done here because importing rich takes longer than the task."""

    def strong(text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if bold else text

    def line(cells: Sequence[str]) -> str:
        padded = [
            " " * (width - _cells(cell)) + cell if column in table.numeric else cell + " " * (width - _cells(cell))
            for cell, width, column in zip(cells, widths, table.columns, strict=True)
        ]
        return f"  {'   '.join(padded)}".rstrip()

    if table.footer and not table.rows:
        return list(table.footer)
    if table.compact:
        head = [strong(table.title)] if table.title else []
        return [*head, strong(line(table.columns)), *map(line, table.rows), *table.footer]
    rule = "\u2500" * (sum(widths) + 3 * len(widths) - 1)
    head = [strong(table.title), ""] if table.title else [""]
    return [*head, strong(line(table.columns)), f" {rule}", *map(line, table.rows), "", *table.footer]


def _stacked(table: Table, edge: int, *, bold: bool) -> list[str]:
    """Return the lines of a table that not even folding makes narrow enough: a block for each row, nothing left out."""
    if table.footer and not table.rows:
        return list(table.footer)
    label = max(map(_cells, table.columns))
    lines = [table.title] if table.title else []
    for row in table.rows:
        first, *others = (cell if cell.strip() else "-" for cell in row)
        lines += ["", f"  \x1b[1m{first}\x1b[0m" if bold else f"  {first}"]
        for column, cell in zip(table.columns[1:], others, strict=True):
            head = f"    {column}{' ' * (label - _cells(column))}  "
            lines += _broken(cell, max(edge - 1, label + 20), head, " " * (label + 6))
    return [*lines, "", *table.footer]


def markdown_of(tables: Sequence[Table], *, most_bytes: int = SUMMARY_BYTES) -> str:
    """Return *tables* as Markdown of *most_bytes* at most: what is too much of their rows is left out, and that said.

    What is said around the rows stays; of each table those at the top do, too.
    """
    text = "\n\n".join(markdown(table) for table in tables)
    left = len(text.encode("utf-8")) - most_bytes
    if left <= 0:
        return text
    # From the longest on: the others are read for what is in them.
    cut = list(tables)
    for number in sorted(range(len(cut)), key=lambda number: -len(cut[number].rows)):
        if left <= 0 or not cut[number].rows:
            break
        cut[number], gone = _without_last(cut[number], left)
        left -= gone
    return "\n\n".join(markdown(table) for table in cut)


def _without_last(table: Table, most_bytes: int) -> tuple[Table, int]:
    """Return *table* without so many of its last rows that *most_bytes* of Markdown go with them, and how many do."""
    rows, gone = list(table.rows), -_LINE_BYTES
    while rows and gone < most_bytes:
        cells = map(in_markdown, rows.pop())
        gone += sum(len(cell.encode("utf-8")) + 3 for cell in cells) + 2
    count = show_count(len(table.rows) - len(rows), "more row")
    return replace(table, rows=rows, footer=(f"{count} left out: --output json has all.", *table.footer)), gone


def markdown(table: Table) -> str:
    """Return *table* as Markdown, in which no cell can become markup."""
    table = _changed(table, in_markdown)

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    if table.footer and not table.rows:
        return "\n".join([*([f"### {table.title}", ""] if table.title else []), *table.footer])
    rule = ["---:" if column in table.numeric else "---" for column in table.columns]
    lines = [f"### {table.title}", ""] if table.title else []
    lines += [row(table.columns), "| " + " | ".join(rule) + " |", *map(row, table.rows)]
    if table.footer:
        lines += ["", *table.footer]
    return "\n".join(lines)


def _compile(query: str) -> Any:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.compile(query)
    except (JMESPathError, *_PYTHONS_OWN) as exc:
        shown = query if len(query) <= _LONGEST_QUERY else f"{query[:_LONGEST_QUERY]}…"
        msg = f"--query {shown!r} is not a JMESPath expression: {limited(exc)}"
        raise UsageError(msg) from exc


def _search(query: Any, document: Any) -> Any:
    from jmespath.exceptions import JMESPathError

    try:
        found = query.search(document)
        json.dumps(found, allow_nan=False, default=str)  # to_number() makes NaN, which is no JSON
        return found
    except (JMESPathError, *_PYTHONS_OWN) as exc:
        msg = f"--query cannot be applied to this result: {limited(exc)}"
        raise UsageError(msg) from exc
