"""YAML that people write: each key once."""

from __future__ import annotations

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.yamltext import as_written, parse_yaml


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' twice, in lines 1 and 3"),
        ("a: 1\n'a': 2\n", "'a' twice, in lines 1 and 2"),
        ("{a: 1, a: 2}", "'a' twice, in line 1:"),
        ("- x: {b: {c: 1,\n  c: 2}}\n", "'c' twice, in lines 1 and 2"),
        ("a: &a {x: 1}\nb: {<<: *a, y: 1,\n y: 2}\n", "'y' twice, in lines 2 and 3"),
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, where: str) -> None:
    """Where the last one wins in silence, a family that nobody meant is baked and cleaned up."""
    with pytest.raises(UsageError, match=f"^f has the key {where}"):
        parse_yaml(text, source="f")


def test_what_only_looks_like_a_second_key_is_taken() -> None:
    """A key of another mapping or type, one that overrides a merged one, and an alias."""
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {d: {<<: *b, x: 3}, e: *b}\n1: 0\n'1': 0\nself: &s [*s]\n"

    found = parse_yaml(text, source="f")

    assert (found["b"], found["c"]) == ({"x": 2, "y": 1}, {"d": {"x": 3, "y": 1}, "e": {"x": 2, "y": 1}})
    assert found[1] == found["1"] == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\n", "f, line 2 is not YAML: "),
        ("a: \x01\n", "f is not YAML: "),
        ("a: 1\n---\nb: 2\n", "f, line 2 is not YAML: "),
        ("[" * 100_000, "f is nested too deeply"),
        ("? [a, b]\n: 1\n? {c: d}\n: 2\n", "f, line 1 is not YAML: found unhashable key"),
    ],
)
def test_what_is_no_yaml_is_one_line(text: str, problem: str) -> None:
    """With the file and, where it is known, the line."""
    with pytest.raises(UsageError) as caught:
        parse_yaml(text, source="f")

    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["until: 2027-02-30", "at: 2027-01-01 25:00:00"])
def test_a_day_that_there_is_not_is_one_line(text: str) -> None:
    """YAML makes a date of it by itself; a slip in pipeline.yaml ended in a traceback."""
    with pytest.raises(UsageError, match=r"^f has a value in the form of a day"):
        parse_yaml(text, source="f")


def test_values_as_they_are_written() -> None:
    """A number that begins with 0 is read in octal."""
    assert as_written("a: 0123\nb: [yes]\n") == {"a": "0123", "b": ["yes"]}
    assert parse_yaml("a: 0123\n", source="f") == {"a": 83}
    assert parse_yaml("# nothing\n", source="f") is None
