"""Values of Packer's variables as Packer has them; tests/infra/test_effective_values.py holds them to Packer itself."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import variable_values
from gpu_ami.bake.variable_values import arithmetic, from_environment, from_file, from_texts
from gpu_ami.errors import UsageError

KINDS = {
    "text": "string",
    "number": "number",
    "flag": "bool",
    "texts": "list(string)",
    "map": "map(string)",
    "objects": "list(object({url=string,path=string}))",
    "any": "",
}


def one(tmp_path: Path, name: str, written: str) -> Any:
    """Return the value of a variable in a file of its own."""
    file = tmp_path / "a.auto.pkrvars.hcl"
    file.write_text(f"{name} = {written}")
    return from_file(file, KINDS)[name]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("80", 80),
        ("1e2", 100),
        ("1.5E+1", 15),
        ("(80)", 80),
        ("40 * 2", 80),
        ("30 + 100 / 2", 80),
        ("(30 + 10) * 2", 80),
        ("-(-80)", 80),
        ("203 % 123", 80),
        ("100 - 10 - 10", 80),
        ("0.5", 0.5),
        ('"80"', 80),
        ('"8e1"', 80),
        ("null", None),
    ],
)
def test_a_plain_number_in_any_form_is_that_number(tmp_path: Path, written: str, value: Any) -> None:
    """Packer takes all of these; a doctor that takes some for texts stops builds that would work."""
    found = one(tmp_path, "number", written)

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("20260901", "20260901"),
        ("1.10", "1.1"),
        ("1e3", "1000"),
        ("0.1", "0.1"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("true", "true"),
        ('"v1"', "v1"),
        (r'"a\"b\\c\u00e9$${x}"', 'a"b\\cé${x}'),
        ("<<EOT\n  a\n b $${c}\nEOT\n", "  a\n b ${c}\n"),
        ("<<-EOT\n  a\n   b\n  EOT\n", "a\n b\n"),
    ],
)
def test_a_text_variable_has_text(tmp_path: Path, written: str, value: str) -> None:
    """`image_tag = 20260901` is a tag: Packer makes a number text, all of its digits and no zero behind its point."""
    assert one(tmp_path, "text", written) == value


def test_what_is_in_lists_and_maps_is_converted_too(tmp_path: Path) -> None:
    """The whole value is what Packer gets."""
    assert one(tmp_path, "texts", '[1, "a", 1e1]') == ["1", "a", "10"]
    assert one(tmp_path, "map", '{ A = 1, "B-c" : true, D = "x" }') == {"A": "1", "B-c": "true", "D": "x"}
    assert one(tmp_path, "objects", '[{ url = "u", path = "p" }]') == [{"url": "u", "path": "p"}]
    assert one(tmp_path, "any", "[1, 2.5]") == [1, 2.5]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("text", '"v${1 + 1}"'),
        ("text", '"%{ if true }a%{ endif }"'),
        ("text", "<<EOT\n${1}\nEOT\n"),
        ("text", '("v1")'),
        ("number", "true ? 1 : 2"),
        ("number", "1 / 0"),
        ("number", "max(1, 2)"),
        ("flag", "!true"),
        ("flag", "1 == 1"),
        ("texts", '["a", "b${1}"]'),
        ("texts", "[for x in [1]: x]"),
        ("map", '{ A = "x", (upper("b")) = "y" }'),
        ("objects", '[{ url = "u${1}", path = "p" }]'),
    ],
)
def test_an_expression_is_refused_with_its_place(tmp_path: Path, name: str, written: str) -> None:
    """Taken as its own text it would be compared, fingerprinted and looked up in AWS; Packer makes another of it."""
    with pytest.raises(
        UsageError, match=rf"variable {name} is the expression `.+` at line \d .*write the value itself"
    ):
        one(tmp_path, name, written)


def test_a_name_that_the_template_does_not_have_is_nobodys(tmp_path: Path) -> None:
    """Packer passes over it, whatever it is."""
    file = tmp_path / "a.auto.pkrvars.hcl"
    file.write_text('other = "a${1}"\ntext = "b"\n')

    assert from_file(file, KINDS)["text"] == "b"


def test_texts_of_a_command_line_are_read_by_the_variables_type() -> None:
    """`-var` and `PKR_VAR_…` give a string's text itself, and an expression for everything but strings and numbers."""
    given = {
        "text": '"v${1}"',
        "number": "8e1",
        "flag": "true",
        "texts": '["a", "b",]',
        "map": "{ A = 1 }",
        "objects": '[{"url": "u", "path": "p"}]',
        "other": "1",
    }

    assert from_texts(given, KINDS) == {
        "text": '"v${1}"',
        "number": 80,
        "flag": True,
        "texts": ["a", "b"],
        "map": {"A": "1"},
        "objects": [{"url": "u", "path": "p"}],
        "other": "1",
    }


@pytest.mark.parametrize("text", ["[", "", "true\nother = 1", "a b", "subnet-1", "10.0.0.0/8", "TRUE", "a.b"])
def test_a_text_that_is_no_expression_stays_as_it_is(text: str) -> None:
    """Packer says what is wrong with it, and `typed` where a check needs the value."""
    assert from_texts({"texts": text}, KINDS) == {"texts": text}


def test_only_the_templates_variables_are_taken_from_the_environment() -> None:
    """Another project's PKR_VAR_ are no values of ours."""
    environment = {"PKR_VAR_text": "7", "PKR_VAR_flag": "false", "PKR_VAR_other": "x", "text": "y", "PATH": "z"}

    assert from_environment(environment, KINDS) == {"text": "7", "flag": False}
    with pytest.raises(UsageError, match=r"variable flag is the expression `!true` in PKR_VAR_flag"):
        from_environment({"PKR_VAR_flag": "!true"}, KINDS)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", "1"), ('"1"', True), ("TRUE", "TRUE")])
def test_a_flag_is_no_number(text: str, value: Any) -> None:
    """Packer makes the text 1 a bool, and refuses the number 1; what it refuses stays as it is."""
    found = from_texts({"flag": text}, KINDS)["flag"]

    assert str(found) == str(value)


def test_json_has_no_expressions(tmp_path: Path) -> None:
    """A text in a JSON variables file is that text, and its numbers are as exact as HCL's."""
    file = tmp_path / "a.auto.pkrvars.json"
    file.write_text('{"text": 1.10, "number": 1e2, "texts": ["a${1}", 2], "any": 12345678901234567890}')

    assert from_file(file, KINDS) == {
        "text": "1.1",
        "number": 100,
        "texts": ["a${1}", "2"],
        "any": 12345678901234567890,
    }


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("v.hcl", 'a = "b"\nb = = 3\n', "does not parse at line 2"),
        ("v.hcl", "a = [" * 3000, "does not parse"),
        ("v.json", "{", "is not JSON"),
        ("v.json", '{"a": NaN}', "is not JSON"),
        ("v.json", "[1]", "holds no object"),
    ],
)
def test_what_does_not_parse_names_the_place(tmp_path: Path, name: str, content: str, problem: str) -> None:
    """A slip in a variables file is found by its line number."""
    file = tmp_path / name
    file.write_text(content)

    with pytest.raises(UsageError, match=problem):
        variable_values.load(file)


@pytest.mark.parametrize(
    "text", ["", "1 +", "(1", "1)", "1 2", "a", "2 ** 3", "--", "1 / 0", "1 // 2", "+1", "(" * 5000]
)
def test_what_is_no_arithmetic_has_no_value(text: str) -> None:
    """Better no number than a wrong one."""
    assert arithmetic(text) is None


def test_a_huge_number_costs_nothing() -> None:
    """`1e999999999` has a billion digits: written out it would fill the memory."""
    assert arithmetic("1e999999999") == Decimal("1e999999999")
    assert variable_values.converted(Decimal("1e999999999"), "number") == float("inf")
    assert variable_values.converted(Decimal("1e999999999"), "string") == "1E+999999999"
