"""HCL read with positions: every corner of the language in which a name can be taken for an attribute."""

from __future__ import annotations

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.hcl import find, parse, parse_path
from gpu_ami.hcl.shadow import shadow

AMI = "ami-0123456789abcdef0"


def _leaves(text: str) -> list[tuple[str, str, int]]:
    return [(".".join(map(str, path)), found.value.text, found.line) for path, found in parse(text, "f").body.walk()]


@pytest.mark.parametrize(
    ("text", "kind", "literal"),
    [
        ('"x"', "string", "x"),
        ('"한\\t\\"\\\\\\u00e9 $${a} %%{b} $ % $x"', "string", '한\t"\\é ${a} %{b} $ % $x'),
        ('"$$${a}"', "string", "$${a}"),
        ("12", "number", 12),
        ("1e2", "number", 100.0),
        ("-1.5E+2", "number", -150.0),
        ("true", "bool", True),
        ("null", "null", None),
        ("9" * 5000, "number", float("inf")),
        ('["a", 1]', "list", None),
        ('{ a = 1, "b" : 2 }', "map", None),
        ("<<-EOT\n  x\n  EOT", "heredoc", None),
        ('"a${var.x}"', "expression", None),
        ('"%{ if true }a%{ endif }"', "expression", None),
        ("var.x", "expression", None),
        ('("x")', "expression", None),
        ('lower("X")', "expression", None),
        ('true ? "a" : "b"', "expression", None),
        ("[for x in y : x]", "expression", None),
        ('"\\uD800"', "string", "\ud800"),
        ('"\\UFFFFFFFF"', "string", "\\UFFFFFFFF"),
    ],
)
def test_a_value_is_known_for_what_it_is(text: str, kind: str, literal: object) -> None:
    """Only literals may be replaced; what has to be computed is an expression."""
    value = find(parse(f"a = {text}\n", "f"), ("a",))

    assert (value.kind, value.literal, value.text, value.start) == (kind, literal, text, 4)


def test_places_are_those_of_the_text() -> None:
    """Comments, tabs, wide letters and line ends move nothing."""
    text = '\ufeff# 한글 a = "x"\r\n\ta\t=\t"y" // "a = z"\r\n/* a = 1\n*/ 변수 /* c */ = /* d */ {\r\n 서울 = "s" }'

    leaves = _leaves(text)

    assert leaves == [("a", '"y"', 2), ("변수", '{\r\n 서울 = "s" }', 4)]
    inner = find(parse(text, "f"), ("변수", "서울"))
    assert text[inner.start : inner.end] == '"s"'
    assert inner.line == 5


@pytest.mark.parametrize(
    "decoy",
    [
        '# a = "no"\n',
        '// a = "no"\n',
        '/* \na = "no"\n*/',
        'b = "\\" a = \\"no\\""\n',
        'b = "$${"\nc = "} a = no"\n',
        'b = <<EOT\na = "no"\n${foo("EOT\\n", { a = "no" })}\nEOT_\n $${ EOT\nEOT  \n',
        'b = <<-E\n\ta = "no"\n"unclosed\n\tE\n',
        'b = {\n  a = "no"\n}\n',
        'b = [{ a = "no" }]\n',
        'b {\n  a = "no"\n}\n',
        'b "a" "a" {\n  c { a = "no" }\n}\n',
        'b = "${"${"a = \\"no\\""}"}"\n',
        'b = "%{ if x != "}" }a = %{ endif }"\n',
        'b = "${ /* } */ x # }\n}"\n',
        'a-b = "no"\n',
        'b = a == "no"\n',
    ],
)
def test_a_decoy_is_not_the_value(decoy: str) -> None:
    """A name in a comment, string, heredoc, map or nested block is not the top-level attribute."""
    text = f'{decoy}a = "{AMI}"\n'

    value = find(parse(text, "f"), ("a",))

    assert (value.start, value.literal) == (len(decoy) + 4, AMI)


def test_a_shadow_has_the_texts_length_and_lines_of_code() -> None:
    """Positions in the one are positions in the other."""
    text = 'a = "x # y" # z\nb = <<끝\n한 ${"}"}\n 끝\t\nc = 1\n'

    made = shadow(text)

    assert made == 'a = "XXXXX"    \nb = <<X\n........\n  X\nc = 1\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = \n", 2),
        ('a = "x\n', 1),
        ('a = 1\n\nb = "${x"\n', 3),
        ('a = "${x', 1),
        ("a = 1\n/* x", 2),
        ("a = <<EOT\nx\n", 1),
        ("a = {\n b = 1\n", 2),
        ("a = }", 1),
        ("{}", 1),
        ('a = 1\n"b" = 2\n', 2),
        ("a = “x”\n", 1),
        ("a = 1\x00\n", 1),
        ('a = 1\nb = "x" c = 2\n', 2),
        ("a {\n} b = 1\n", 2),
        ("a = 1 /*\n*/ b = 1\n", 2),
        ("/*\n\n*/ a = \x0c1\n", 3),
        ('a = 1\nb = "${<<EOT\nEOT\n}"\n', 2),
        ("a = <<EOT\n${\nEOT\n", 2),
        ("[" * 100_000, 1),
        ("a = " + "[" * 20_000 + "]" * 20_000, 1),
        ('a = "' + '${"' * 50_000, 1),
    ],
)
def test_what_does_not_parse_is_refused_with_its_line(text: str, line: int) -> None:
    """A file that Terraform would refuse is not changed."""
    with pytest.raises(UsageError, match=f"^f does not parse at line {line}: "):
        parse(text, "f")


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("variable.gpu_ami_id.default", 1),
        ('resource.t."n.x".b[0].id', 2),
        ('resource.t."n.x".b[1].id', 3),
        ('locals.amis["ap-northeast-2"]', 4),
        ("locals.list[1].id", 5),
    ],
)
def test_a_path_leads_into_blocks_lists_and_maps(path: str, start: int) -> None:
    """Each of five values is reached by its own path."""
    text = """\
variable gpu_ami_id { default = "1" }
resource "t" "n.x" {
  b { id = "2" }
  b { id = "3" }
}
locals {
  amis = { us-east-1 = "0", "ap-northeast-2" = "4" }
  list = [{ id = "0" }, { id = "5" }]
}
"""
    assert find(parse(text, "f"), parse_path(path)).literal == str(start)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("x", "has no x but a, m, e, h, t.u, b and 1 more: check the name"),
        ("image_id", r"has no image_id, but t.u.image_id \(line 8\), b\[0\].image_id \(line 9\), b\[1\].image_id"),
        ("a", "a occurs twice in f, at lines 1 and 2: keep one"),
        ("b.image_id", r"b occurs twice in f, at lines 9 and 10: choose one by its number, b\[0\] to \[1\]"),
        ("b[2].image_id", "f has 2 b, no number 2: count from 0"),
        ("b[0]", r"b\[0\] is a block in f, not a value"),
        ("t.image_id", r"has no t.image_id, but t.u.image_id \(line 8\)"),
        ("t.u.x", "has no x in t.u but image_id"),
        ('m["z"]', "m at line 3 of f has no 'z' but x, y, y: add it by hand"),
        ('m["y"]', "m.y occurs twice in f, at lines 3 and 4: keep one"),
        ("m.x.z", "m.x is 1 at line 3 of f: it has no 'z'"),
        ("e.x", "e is the expression `var.x` at line 5 of f"),
        ("h.x", "h is a heredoc at line 6"),
        ("c", "c occurs 3 times"),
    ],
)
def test_a_path_that_leads_nowhere_or_to_several_places_is_refused(path: str, problem: str) -> None:
    """The error names the lines, or the paths that are there."""
    text = """\
a = "1"
a = "2"
m = { x = 1, y = 2,
 y = 3 }
e = var.x
h = <<E
E
t "u" { image_id = "1" }
b { image_id = "2" }
b { image_id = "3" }
c {}
c {}
c {}
"""
    with pytest.raises(UsageError, match=problem):
        find(parse(text, "f"), parse_path(path))
