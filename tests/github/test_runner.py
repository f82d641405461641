"""Summaries and outputs."""

from __future__ import annotations

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.github.runner import Runner, facts_table, runner_from, shortened
from tests.github.conftest import GitHub


def test_the_summary_grows_and_outputs_are_lines(github: GitHub) -> None:
    """A step may say more than one thing."""
    github.runner.say("# one\n\n\n")
    github.runner.say("two")
    github.runner.set(ami_id="ami-1", changed="true")

    assert github.summary == "# one\n\ntwo\n\n"
    assert github.outputs == ["ami-id=ami-1", "changed=true"]


@pytest.mark.parametrize("letter", ["x", "ä", "\u6620"], ids=["one-byte", "two", "three"])
def test_a_summary_that_github_would_drop_is_cut(github: GitHub, letter: str) -> None:
    """It counts bytes, of all that a step has said: of a plan over many accounts nothing at all would be seen."""
    for _ in range(3):
        github.runner.say((letter * 200_000 + "\n") * 2)

    size = len(github.summary.encode())
    assert size < 1024 * 1024
    assert github.summary.startswith(letter * 200_000)
    assert "see the run's artifacts" in github.summary


def test_a_line_break_in_an_output_is_refused(github: GitHub) -> None:
    """It would set another output, which a later job believes."""
    with pytest.raises(UsageError, match="line break"):
        github.runner.set(ami_id="ami-1\nchanged=true")

    assert github.outputs == []


def test_outside_of_github_nothing_is_written() -> None:
    """The same command runs on anybody's machine."""
    runner = runner_from({})
    runner.say("x")
    runner.set(a="b")

    assert runner == Runner(None, None, "", "main")


def test_a_text_that_github_would_refuse_is_cut_at_a_line_and_says_so() -> None:
    """Better a shortened plan than no pull request."""
    cut = shortened("a line\n" * 100, 50)

    assert cut.startswith("a line\n" * 6)
    assert "more characters: see the run's artifacts" in cut
    assert shortened("x" * 60, 50).startswith("x" * 50 + "\n")
    assert shortened("short", 50) == "short"


def test_the_table_has_two_columns_and_keeps_its_shape() -> None:
    """A phone shows two columns; a bar or a line break in a value would make a third."""
    assert facts_table({"Why": "a|b\nc"}) == "| | |\n| --- | --- |\n| Why | a\\|b c |"
