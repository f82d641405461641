"""What is printed where."""

from __future__ import annotations

import io
import json
import re
import time
from typing import Any

import pytest

from gpu_ami import console as console_module
from gpu_ami.console import Console, Table
from gpu_ami.errors import UsageError
from gpu_ami.options import OUTPUTS, Output

TABLE = Table(
    columns=("AMI", "GiB"), rows=[("ami-1|x", "30")], title="Images", footer=("1 image",), numeric=frozenset({"GiB"})
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def _console(output: Output = "table", query: str | None = None, err: io.StringIO | None = None) -> Console:
    return Console(output, query, out=io.StringIO(), err=err or io.StringIO())


def _printed(console: Console) -> tuple[str, str]:
    assert isinstance(console.out, io.StringIO)
    assert isinstance(console.err, io.StringIO)
    return console.out.getvalue(), console.err.getvalue()


def test_json_is_one_document_on_one_line() -> None:
    """`invoke build apply --output json` gives one line per task for a script to read."""
    console = _console("json")

    console.result({"a": "한글", "b": 1.5}, TABLE)
    console.say("talk")

    assert _printed(console) == ('{"a": "한글", "b": 1.5}\n', "talk\n")


def test_a_table_shows_every_cell() -> None:
    """Without a terminal nothing is cut off."""
    console = _console()

    console.result({}, Table(columns=("a",), rows=[("x" * 300,)]), TABLE)

    out, _ = _printed(console)
    assert "x" * 300 in out
    assert out.endswith("1 image\n")


def test_tables_of_one_result_are_set_apart() -> None:
    """A footer belongs to the table above it."""
    console = _console()

    console.result([], TABLE, TABLE)

    lines = _printed(console)[0].splitlines()
    assert lines[lines.index("1 image") + 1 :][:2] == ["", "Images"]


def test_compact_tables_spend_no_line_on_rules() -> None:
    """So that several of them fit on one screen; a blank line still sets them apart."""
    console = _console()
    compact = Table(columns=("a",), rows=[("1",)], title="T", footer=("f",), compact=True)
    bare = Table(columns=("a",), rows=[("2",)], compact=True)

    console.result({}, compact, bare, TABLE)

    assert _printed(console)[0].splitlines()[:8] == ["T", "  a", "  1", "f", "", "  a", "  2", ""]


def test_wide_letters_do_not_shift_a_column() -> None:
    """Hangul takes two cells of a terminal each."""
    console = _console()

    console.result([], Table(columns=("a", "b"), rows=[("서울", "x"), ("1234", "y")]))

    assert _printed(console)[0].splitlines()[-2:-1] == ["  1234   y"]
    assert "  서울   x" in _printed(console)[0]


def test_an_indented_cell_stays_indented_when_it_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence stands below its check: half a line at the edge reads as another finding."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(out=Terminal())

    console.result([], Table(columns=("check", "found"), rows=[("gpu", "seen"), ("", "  so says a longer line of it")]))

    assert isinstance(console.out, io.StringIO)
    (above, first, second) = [line for line in console.out.getvalue().splitlines() if line.strip()][-3:]
    assert above.rstrip().endswith("seen")
    column = above.index("seen")
    assert (first[column:], second[column:]) == ("  so says a longer", "  line of it")


@pytest.mark.parametrize(("columns", "folded"), [("30", True), ("200", False)])
def test_a_table_too_wide_for_the_terminal_is_folded(
    monkeypatch: pytest.MonkeyPatch, columns: str, folded: bool
) -> None:
    """No cell is cut or runs over the edge; a table that fits is printed without loading rich."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = Console(out=Terminal())
    wide = Table(columns=("what", "note"), rows=[("a", "word " * 12)], title="Wide", footer=("end",))

    console.result([], wide)

    assert isinstance(console.out, io.StringIO)
    lines = console.out.getvalue().splitlines()
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert (max(map(len, shown)) <= 30) is folded
    assert console.out.getvalue().count("word") == 12
    assert lines[-1].strip() == "end"
    assert any("\x1b[1m" in line for line in lines)


def test_markdown_escapes_what_would_break_the_table() -> None:
    """Job summaries and pull requests show it."""
    console = _console("markdown")

    console.result({}, TABLE)

    assert _printed(console)[0] == "### Images\n\n| AMI | GiB |\n| --- | ---: |\n| ami-1\\|x | 30 |\n\n1 image\n"


@pytest.mark.parametrize("name", ["gpu-batch-2026", "\u6620\u50cf|video"], ids=["ascii", "wide"])
def test_markdown_of_a_big_plan_is_not_dropped_from_a_summary(name: str) -> None:
    """GitHub drops a summary above 1 MiB as a whole: then nobody sees what holds a plan up, or how much goes."""
    console = _console("markdown")
    said = Table(columns=("",), rows=[], footer=("85000 AMIs. 20000 go.", "Nothing may be changed: one account"))
    rows = [(f"ami-{number:017x}", "223456789012", "eu-west-1", f"{name}-{number}") for number in range(20_000)]
    going = Table(
        columns=("AMI", "account", "region", "name"), rows=rows, title="To delete", footer=("and that is all",)
    )
    kept = Table(columns=("AMI", "why"), rows=[("ami-1", "it is shared")], title="Kept")

    console.result({}, said, going, kept)

    text, _ = _printed(console)
    assert 990_000 < len(text.encode()) <= 1_000_001
    assert text.startswith("85000 AMIs. 20000 go.\nNothing may be changed: one account\n\n### To delete\n")
    left = int(re.findall(r"^(\d+) more rows left out: --output json has all\.$", text, re.MULTILINE)[0])
    assert text.count("\n| ami-0") == 20_000 - left
    assert text.endswith("and that is all\n\n### Kept\n\n| AMI | why |\n| --- | --- |\n| ami-1 | it is shared |\n")


def test_the_markdown_of_all_families_together_fits_a_summary() -> None:
    """They are written to one: two plans of a megabyte each are dropped as well."""
    console = _console("markdown")
    rows = [(f"ami-{number:017x}", "x" * 100) for number in range(9_000)]

    for family in ("films", "trailers", "videos"):
        said = Table(columns=("",), rows=[], footer=(f"9000 AMIs of {family}.",))
        plan = Table(columns=("AMI", "why"), rows=rows, title="To delete")
        console.of_family(family, labelled=True).result({}, said, plan)

    text, _ = _printed(console)
    assert len(text.encode()) < 1024 * 1024
    assert re.findall(r"^9000 AMIs of (\w+)\.$", text, re.MULTILINE) == ["films", "trailers", "videos"]
    assert text.endswith("9000 more rows left out: --output json has all.\n")
    assert "\n0 more rows" not in text


def test_a_query_answers_in_json() -> None:
    """As in the AWS CLI; the same query works for every output form."""
    for output in OUTPUTS:
        console = _console(output, "amis.eu")
        console.result({"amis": {"eu": "ami-1"}}, TABLE)

        assert json.loads(_printed(console)[0]) == "ami-1"


def test_a_broken_query_fails_before_any_work() -> None:
    """Not after half an hour of building."""
    with pytest.raises(UsageError, match="'a\\[' is not a JMESPath"):
        _console(query="a[")


@pytest.mark.parametrize(
    "query", [f"[{'9' * 5000}]", "(" * 100_000, "`" + "[" * 100_000 + "`"], ids=["long", "deep", "literal"]
)
def test_a_query_of_any_size_fails_before_any_work(query: str) -> None:
    """In one line of bounded length: Python's own errors come through the parser, too."""
    with pytest.raises(UsageError, match="is not a JMESPath") as caught:
        _console(query=query)

    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize(
    "query",
    [
        "length(@)",
        "[?a > `1`]",
        "[::`0`]",
        "[::0]",
        'to_number(`"nan"`)',
        '[].to_number(`"-inf"`)',
        'ceil(to_number(`"inf"`))',
        'floor(to_number(`"nan"`))',
        'contains(`"a"`, `1`)',
    ],
)
def test_a_query_that_does_not_fit_is_one_line(query: str) -> None:
    """Not a traceback out of jmespath, whose comparisons and slices raise Python's own errors."""
    document: Any = 3 if query == "length(@)" else [{"a": "x"}]

    with pytest.raises(UsageError, match="--query"):
        _console(query=query).result(document)


def test_warnings_and_errors_have_colour_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Escape codes in a log file are noise; NO_COLOR is respected."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, coloured = _console(), _console(err=Terminal())
    plain.warn("w")
    coloured.fail("f")
    monkeypatch.setenv("NO_COLOR", "1")
    coloured.warn("w")

    assert _printed(plain)[1] == "warning: w\n"
    assert _printed(coloured)[1] == "\x1b[31merror\x1b[0m: f\nwarning: w\n"


def test_a_step_says_how_long_it_took_and_whether_it_failed() -> None:
    """Every wait over two seconds has an end that can be read."""
    console = _console()

    with console.step("good"):
        pass
    with pytest.raises(ValueError, match="no"), console.step("bad"):
        raise ValueError("no")  # noqa: EM101

    with console.step("told") as step:
        step.fail()

    out = _printed(console)[1]
    assert re.search(r"^told: failed after \d+(\.\d)? s$", out, re.MULTILINE)
    assert re.search(r"^good: done in \d+(\.\d)? s$", out, re.MULTILINE)
    assert re.search(r"^bad: failed after \d+(\.\d)? s$", out, re.MULTILINE)


def _until(console: Console, sign: str) -> None:
    """Wait until *sign* is printed."""
    end = time.monotonic() + 300
    while not re.search(sign, _printed(console)[1]):
        assert time.monotonic() < end, f"{sign!r} was not printed"
        time.sleep(0.01)


def test_a_long_step_is_heard_of_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the seconds are counted; in a log there is a heartbeat."""
    monkeypatch.setattr(console_module, "_HEARTBEAT_S", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    for err, sign in ((io.StringIO(), r"slow: \d+(\.\d)? s so far"), (Terminal(), "\r\x1b\\[2Kslow: \\d+ s …")):
        console = _console(err=err)
        with console.step("slow"):
            _until(console, sign)


def test_a_long_step_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of nothing but seconds seem to be a hang; the last note is what is shown."""
    monkeypatch.setattr(console_module, "_HEARTBEAT_S", 0.05)
    console = _console()
    with console.step("slow") as note:
        note("1 of 9")
        note("2 of 9")
        _until(console, "so far, 2 of 9\n")

    assert "1 of 9" not in _printed(console)[1]


def test_a_dry_run_is_a_document_for_programs() -> None:
    """A script that asks for JSON must not have to read what is said to people; they see what they saw."""
    lines = ["packer build .", "# with what is looked up"]
    people, programs, asked = _console(), _console("json"), _console(query="commands[0]")
    for console in (people, programs, asked):
        console.dry_run(lines)

    talk = "packer build .\n# with what is looked up\n"
    document = {"dry_run": True, "commands": ["packer build ."], "notes": ["with what is looked up"]}
    assert _printed(people) == ("", talk)
    assert (json.loads(_printed(programs)[0]), _printed(programs)[1]) == (document, talk)
    assert json.loads(_printed(asked)[0]) == "packer build ."

    sentence = _console("json")
    sentence.would("look up the state.")
    document = {"dry_run": True, "commands": [], "notes": ["look up the state."]}
    assert (json.loads(_printed(sentence)[0]), _printed(sentence)[1]) == (
        document,
        "DRY RUN: would look up the state.\n",
    )


def test_a_note_of_a_dry_run_stays_one_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken by the terminal its rest is a command to whoever pastes it, and an id in it cannot be copied."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    console = _console(err=Terminal())

    console.dry_run([f"terraform plan -out={'x' * 40}", f"# the arms stock, plain and live with {ID} and {ID}"])

    command, *notes = _printed(console)[1].splitlines()
    assert command == f"terraform plan -out={'x' * 40}"
    assert notes == ["# the arms stock, plain and live with", f"# {ID} and", f"# {ID}"]


def test_a_diff_shows_the_file_as_it_is() -> None:
    """A command in a comment of it got --sandbox, which the file has not; what a terminal would obey is escaped."""
    console = Console(out=io.StringIO(), err=(err := io.StringIO()), sandbox=True, family="a")

    console.say_diff("+# `invoke init` makes this\x1b\n+\tx")

    assert err.getvalue() == "+# `invoke init` makes this\\x1b\n+\tx\n"


def test_streams_are_looked_up_late(capsys: pytest.CaptureFixture[str]) -> None:
    """A console made before a redirection still prints where the output goes now."""
    console = Console("json")
    console.result([1])
    console.say("x")

    assert capsys.readouterr() == ("[1]\n", "x\n")


def test_commands_that_are_named_in_the_sandbox_can_be_pasted() -> None:
    """Without the flag they would go to AWS; the JSON stays as it is."""
    console = Console(out=io.StringIO(), err=io.StringIO(), sandbox=True)
    table = Table(
        columns=("do",), rows=[("Run `invoke publish --ami ami-1`.",)], footer=("undo with `invoke cleanup`",)
    )

    console.say("Next: `invoke plan --sandbox`, `invoke apply`, `invoke sandbox` or `invoke setup`.")
    console.result({}, table)

    out, err = _printed(console)
    assert err == "Next: `invoke plan --sandbox`, `invoke apply --sandbox`, `invoke sandbox` or `invoke setup`.\n"
    assert "`invoke publish --ami ami-1 --sandbox`" in out
    assert "undo with `invoke cleanup --sandbox`" in out


def test_a_table_without_rows_is_its_last_lines() -> None:
    """A heading over nothing seems to miss something."""
    console = _console()

    console.result({}, Table(columns=("action", "what"), rows=[], footer=("No changes.",)))

    assert _printed(console)[0] == "No changes.\n"


def test_a_table_that_not_even_folding_makes_fit_is_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cropped column is not seen to be missing, and half a number is a wrong one."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = Console(out=Terminal(), err=io.StringIO())
    row = ("ami-0123456789abcdef0", "gpu-batch", "snap-0123456789abcdef0", "", "28.0", "unneeded: " + "nothing " * 12)
    columns = ("AMI", "family", "snapshot", "launched", "GiB", "reason")

    console.result({}, Table(columns=columns, rows=[row, row], title="Two", footer=("end",)))

    lines = re.sub(r"\x1b\[[0-9;]*m", "", _printed(console)[0]).splitlines()
    assert max(map(len, lines)) <= 60
    assert [line.strip() for line in lines if "ami-" in line] == [row[0], row[0]]
    assert lines[lines.index(f"  {row[0]}") + 1 :][:4] == [
        "    family    gpu-batch",
        "    snapshot  snap-0123456789abcdef0",
        "    launched  -",
        "    GiB       28.0",
    ]
    assert " ".join(lines).count("nothing") == 24
    assert (lines[0], lines[-1]) == ("Two", "end")


def test_a_command_in_a_stacked_cell_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do about a finding is there to be pasted."""
    monkeypatch.setenv("COLUMNS", "60")
    console = Console(out=Terminal(), err=io.StringIO(), sandbox=True)
    advice = "Set volume_initialization_rate, run `invoke apply` afterwards."

    console.result({}, Table(columns=("what", *"abcd"), rows=[("x" * 60, *"1234"), ("y", "1", "2", "3", advice)]))

    assert "`invoke apply --sandbox`" in _printed(console)[0]


def test_a_progress_line_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal breaks in two would scroll by instead of being written over."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    console = _console(err=Terminal())
    with console.step("서울 terraform apply") as note:
        note("module.pipeline.aws_batch_job_queue.video_analysis")
        _until(console, "module.+…\r")

    shown = [line for line in _printed(console)[1].split("\r\x1b[2K") if "module" in line]
    assert shown
    assert all(len(line) + 2 <= 39 and line.endswith("…") for line in shown)


def test_a_folded_table_breaks_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id in two halves can be neither copied nor searched for."""
    monkeypatch.setenv("COLUMNS", "60")
    console = Console(out=Terminal(), err=io.StringIO())
    terraforms = "terraform-20261130112558820600000009"
    for name in ("ami-0123456789abcdef0", "snap-0123456789abcdef0", "deregistration-protection", terraforms):
        console.result({}, Table(columns=("AMI", "reason"), rows=[(name, "nothing that was looked at needs it " * 4)]))

        assert name in _printed(console)[0]


ID = "ami-0123456789abcdef0"
COMMAND = "`invoke rollback --to AMI`"
LONG = f"No receipt of this state knows, after all that was done, of an AMI before {ID}: name one with {COMMAND}."


def test_a_terminal_gets_ids_and_commands_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an id at the right edge and half below it cannot be copied; words are easier read whole, too."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    for columns in (24, 40, 79, 80, 81):
        monkeypatch.setenv("COLUMNS", str(columns))
        console = Console(out=Terminal(), err=Terminal())
        table = Table(columns=("a",), rows=[("b",)], footer=(LONG,))
        for tell in (console.say, console.warn, console.fail):
            tell(LONG)
        console.result({}, table)
        out, err = _printed(console)

        lines = [*err.splitlines(), *out.splitlines()]
        assert max(map(len, lines)) <= max(columns, len(COMMAND) + 1)
        assert [sum(part in line for line in lines) for part in (ID, COMMAND)] == [4, 4]
        assert " ".join(err.split()) == " ".join([LONG, "warning:", LONG, "error:", LONG])


def test_a_question_has_its_answer_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever its lines end: at 80 columns the question of an apply was broken in the middle of its last word."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\nyes\n"))
    for columns, gap in (("80", " "), ("46", " "), ("45", "\n")):
        monkeypatch.setenv("COLUMNS", columns)
        console = _console(err=Terminal())
        console.ask("Apply this plan in account 1? Only `yes` does")

        assert _printed(console)[1] == f"Apply this plan in account 1? Only `yes`{gap}does: "


def test_what_is_under_something_stays_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the left edge the rest of a remark would read as a remark of its own."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    console = _console(err=Terminal())

    console.say("    one two three four five")

    assert _printed(console)[1] == "    one two three\n    four five\n"


def test_what_is_pasted_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a command a line break makes two, in a log nobody knows where the edge is, and a width may be nonsense."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    terminal, log = _console(err=Terminal()), _console()
    terminal.say_text(LONG)
    log.say(LONG)
    assert {_printed(console)[1] for console in (terminal, log)} == {f"{LONG}\n"}

    for nonsense in ("", "0", "-5", "wide"):
        monkeypatch.setenv("COLUMNS", nonsense)
        unknown = _console(err=Terminal())
        unknown.say(LONG)
        assert _printed(unknown)[1] == f"{LONG}\n"


# Newline, workflow command, escape sequences of C0 and C1, a bidi mark, and what is markup to Markdown and rich.
HOSTILE = "a|b\n::error ::forged\x1b[2J\x9b2J\u202e`<b>[red](x)##[error]y"
SHOWN = "a|b\\x0a::error ::forged\\x1b[2J\\x9b2J\\u202e`<b>[red](x)\\x23#[error]y"
FORGED = Table(
    columns=("what", "why"),
    rows=[("::error ::x", HOSTILE), (HOSTILE, "::warning ::y")],
    title=HOSTILE,
    footer=(HOSTILE, "::add-mask::x"),
)


def _obeyed(text: str) -> list[str]:
    """Return the lines of *text* that a terminal or GitHub's runner would obey; our own colours are no such."""
    lines = re.sub(r"\x1b\[\d*m|\r\x1b\[2K", "", text).split("\n")
    return [
        line
        for line in lines
        if line.lstrip().startswith("::") or "##[" in line or not line.replace("\u2500", "").isprintable()
    ]


def test_talk_obeys_nothing_that_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may tag an AMI would else write errors, hide lines and mask words in the log of a workflow."""
    monkeypatch.setattr(console_module, "_HEARTBEAT_S", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    for err in (io.StringIO(), Terminal()):
        console = _console(err=err)
        for tell in (console.say, console.warn, console.fail):
            tell(HOSTILE)
            tell("::error ::x")
        console.say("  ::group::x")
        console.ask(HOSTILE)
        console.say_text("--- a\n+++ b\n::error ::x\x1b")
        console.say_diff("--- a\n+++ b\n::error ::x\x1b")
        with console.step(HOSTILE) as note:
            note(HOSTILE)
            _until(console, "forged.*a.b.x0a")

        _, printed = _printed(console)
        assert _obeyed(printed) == []
        assert re.sub(r"\x1b\[\d*m", "", printed).startswith(
            f"{SHOWN}\n\\x3a:error ::x\nwarning: {SHOWN}\nwarning: ::error ::x\nerror: {SHOWN}\n"
        )
        assert "\n  \\x3a:group::x\n" in printed
        assert "--- a\n+++ b\n\\x3a:error ::x\\x1b\n" in printed


@pytest.mark.parametrize("columns", range(8, 40))
def test_nothing_is_obeyed_where_a_terminal_has_a_line_broken(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """A line that begins in the middle of a tag must not begin a command."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    console = _console(err=Terminal())
    for tell in (console.say, console.warn, console.fail):
        tell(HOSTILE)
        tell(f"  {HOSTILE}")

    assert _obeyed(_printed(console)[1]) == []


@pytest.mark.parametrize(
    ("columns", "whole"),
    [(None, 4), ("300", 4), ("110", 3), ("40", 4)],
    ids=["no terminal", "plain", "folded", "stacked"],
)
def test_a_table_has_the_rows_that_it_has(monkeypatch: pytest.MonkeyPatch, columns: str | None, whole: int) -> None:
    """A line break in a tag would forge a verdict; each form of a table shows it instead."""
    console = Console(out=io.StringIO() if columns is None else Terminal(), err=io.StringIO())
    monkeypatch.setenv("TERM", "xterm")
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)

    console.result({}, FORGED)

    printed, _ = _printed(console)
    assert _obeyed(printed) == []
    # Where a line is broken before `::`, what follows is shown as it is at the start of any other.
    told = re.sub(r"\s|\x1b\[\d*m", "", printed).replace("\\x3a:", "::")
    assert told.count(re.sub(r"\s", "", SHOWN)) == whole
    assert "\\x3a:error ::x" in printed
    assert "\\x3a:add-mask::x" in printed


def test_markdown_shows_what_it_is_given() -> None:
    """A job summary and a pull request are pages: a tag must put neither a link nor a row into them."""
    console = _console("markdown")

    console.result({}, FORGED)

    printed, _ = _printed(console)
    cell = SHOWN.replace("\\", "\\\\")
    for mark in "|`<[":
        cell = cell.replace(mark, f"\\{mark}")
    assert printed.split("\n") == [
        f"### {cell}",
        "",
        "| what | why |",
        "| --- | --- |",
        f"| ::error ::x | {cell} |",
        f"| {cell} | ::warning ::y |",
        "",
        cell,
        "\\x3a:add-mask::x",
        "",
    ]


@pytest.mark.parametrize("query", [None, "[*]"])
def test_json_is_the_data_itself(query: str | None) -> None:
    """Scripts compare with AWS's own names; what shows the JSON obeys nothing in it."""
    console = _console("json" if query is None else "table", query)

    console.result([HOSTILE, "\ud800"], FORGED)

    printed, _ = _printed(console)
    assert json.loads(printed) == [HOSTILE, "\ud800"]
    assert _obeyed(printed) == []


def test_a_folded_table_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The widest columns hold what must not be broken: others have to fold, or the last one falls over the edge."""
    monkeypatch.setenv("COLUMNS", "98")
    monkeypatch.setenv("TERM", "dumb")
    console = Console(out=Terminal(), err=io.StringIO())
    columns = ("environment", "AMI", "handed over", "state", "hydration", "instances")
    row = ("batch-video-analysis-gpu", "ami-0123456789abcdef0", "nothing", "ENABLED VALID", "none", "12345")

    console.result({}, Table(columns=columns, rows=[row], numeric=frozenset({"instances"})))

    text = _printed(console)[0]
    assert all(word in text for cell in (*columns, *row) for word in cell.split())
    assert max(map(len, text.splitlines())) <= 98


def test_a_table_with_an_edge_keeps_to_it_without_a_terminal() -> None:
    """A log, a mail and a second window have no right edge either, and nobody reads lines of 273 characters there."""
    console = _console()
    ami, command = "ami-0123456789abcdef0", "`invoke cleanup --restore logs/cleanup-20261130T120000Z-abcdef.jsonl`"
    footer = (f"{'words ' * 20}{command} {'words ' * 20}", "", "short")
    table = Table(columns=("AMI", "reason"), rows=[(ami, "because " * 20)], title="Cut", footer=footer, edge=100)

    console.result({}, table)

    lines = _printed(console)[0].splitlines()
    assert max(map(len, lines)) <= 100
    assert lines == [line.rstrip() for line in lines]
    assert ami in "\n".join(lines)
    assert command in "\n".join(lines)
    assert " ".join(lines).count("because") == 20
    assert " ".join(lines).count("words") == 40
    assert lines[-2:] == ["", "short"]


def test_an_edge_widens_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The narrower of the two holds."""
    monkeypatch.setenv("COLUMNS", "60")
    console = Console(out=Terminal(), err=io.StringIO())
    footer = ("words " * 20,)

    console.result({}, Table(columns=("what", "note"), rows=[("a", "word " * 12)], footer=footer, edge=100))

    shown = re.sub(r"\x1b\[[0-9;]*m", "", _printed(console)[0]).splitlines()
    assert max(map(len, shown)) <= 60
    assert " ".join(shown).count("words") == 20
