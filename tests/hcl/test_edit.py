"""Values replaced in place: the intended bytes change, and no other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_ami.errors import UsageError
from gpu_ami.hcl import edit, find, parse, parse_path, quoted, replace, set_attributes
from gpu_ami.hcl.edit import Plain

OLD, NEW = "ami-0123456789abcdef0", "ami-12345678"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (f'a = "{OLD}"', "a"),
        (f'\ufeff\ta\t=\t"{OLD}"\t# Seoul, 한국\r\nb = 1e2', "a"),
        (f'a = /* x */ "{OLD}" /* y */ // z\n', "a"),
        (f'variable "a" {{ default = "{OLD}" }}', "variable.a.default"),
        (f'resource "t" "n" {{\n  b {{\n    id   = "{OLD}" # x\n    idid = 2\n  }}\n}}\n', "resource.t.n.b.id"),
        (f'm = {{\n  "ap-northeast-2" = "{OLD}", # x\n  us-east-1 : "{OLD}" }}\n', 'm["ap-northeast-2"]'),
        (f'l = [\n  "x", # {OLD}\n  "{OLD}" # y\n  , "z"]', "l[1]"),
    ],
)
def test_exactly_the_value_changes(text: str, path: str) -> None:
    """Comments, alignment, tabs, line ends, byte-order mark and a missing final newline stay."""
    value = find(parse(text, "f"), parse_path(path))

    after = replace(parse(text, "f"), {parse_path(path): NEW})

    assert after == text[: value.start] + f'"{NEW}"' + text[value.end :]


def test_several_values_change_at_once() -> None:
    """The entries of a region map move together; one that is right already keeps its form."""
    text = f'm = {{ a = "{OLD}", b = null, c = "\\u0061mi-12345678", d = "{OLD}" }}'

    after = replace(parse(text, "f"), {("m", name): NEW for name in "abc"})

    assert after == f'm = {{ a = "{NEW}", b = "{NEW}", c = "\\u0061mi-12345678", d = "{OLD}" }}'


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("var.x", r"a is the expression `var.x` at line 2 of f: only a literal can be replaced"),
        ('"${var.x}"', r"the expression `\"\$\{var.x\}\"` at line 2"),
        ("lookup(\n  var.m,\n  var.r)", r"the expression `lookup\( var.m, var.r\)` at line 2"),
        ("1 +\n2", "the expression"),
        (f'("{OLD}")', "the expression"),
        (f"<<X\n{OLD}\nX", "a is a heredoc at line 2 of f, not a string"),
        (f'["{OLD}"]', "a is a list at line 2"),
        (f'{{ x = "{OLD}" }}', "a is a map at line 2"),
        ("1e2", "a is 1e2 at line 2"),
        ("true", "a is true at line 2"),
    ],
)
def test_only_a_literal_string_is_replaced(value: str, problem: str) -> None:
    """An expression gets its value elsewhere: replacing it would cut that wire."""
    with pytest.raises(UsageError, match=problem):
        replace(parse(f"\na = {value}\n", "f"), {("a",): NEW})


@pytest.mark.parametrize(
    "value", ["ami-1", "", 'a"b\\c', "${x} %{y} $${z} $ %", "한\n\r\té", 1, -2, 1.5, True, None, ["a", "b"], []]
)
def test_a_quoted_value_means_the_value(value: Plain) -> None:
    """Nothing in a value can become code."""
    document = parse(f"a = {quoted(value)}\n", "f")
    found = find(document, ("a",))

    assert found.kind != "expression"
    assert (value if isinstance(value, list) else found.literal) == value
    assert [entry.value.literal for entry in found.entries] == (value if isinstance(value, list) else [])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_string_can_be_quoted(value: str) -> None:
    """Any text goes in and comes out, and what follows it stays where it is."""
    document = parse(f"a = {quoted(value)}\nb = 1\n", "f")

    assert (find(document, ("a",)).literal, find(document, ("b",)).literal) == (value, 1)


def test_attributes_are_set_and_added() -> None:
    """A variables file keeps its comments and hand edits; what is right keeps its form."""
    text = (
        '# ours\r\nsubnet_id = "old" # by hand\r\nspot=true\r\n/* region */ tags = { "a" : "b" }\r\nzones = [\r\n "a" ]'
    )

    after = set_attributes(
        text, {"subnet_id": "new", "spot": True, "zones": ["a"], "group": "sg", "size": 8}, source="f"
    )

    assert after == text.replace('"old"', '"new"') + '\r\ngroup = "sg"\r\nsize  = 8\r\n'
    assert set_attributes(after, {"subnet_id": "new", "group": "sg"}, source="f") == after


@pytest.mark.parametrize("text", ["", "\ufeff", "# only a comment", "a = 1\n", "b {\n}\n"])
def test_attributes_can_be_added_to_any_file(text: str) -> None:
    """A new file, too; one without a final newline gets one first."""
    after = set_attributes(text, {"x": "y"}, source="f")

    assert after.startswith(text)
    assert after.endswith('x = "y"\n')
    assert find(parse(after, "f"), ("x",)).literal == "y"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\nx = 2\n", "x occurs twice"),
        ("x = var.y\n", "the expression `var.y`"),
        ("x = \n", "does not parse at line 1"),
    ],
)
def test_an_attribute_that_is_not_one_plain_value_is_refused(text: str, problem: str) -> None:
    """Packer itself would refuse such a file."""
    with pytest.raises(UsageError, match=problem):
        set_attributes(text, {"x": "z"}, source="f")


def test_a_result_that_reads_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of defence: whatever goes wrong in the splicing, nothing is written."""
    document = parse(f'a = "{OLD}"\nb = 1\n', "f")
    for made in (f'"{NEW}"\nc = 2', f'"{OLD}"', f'"{NEW}" # "'):
        monkeypatch.setattr(edit, "quoted", lambda _value, made=made: made)
        with pytest.raises(UsageError, match="would not read as intended"):
            replace(document, {("a",): NEW})


# Lines among which the value is: whatever they contain, none of them is it.
_TOKENS = st.sampled_from(
    [
        *("gpu_ami_id", "variable", "default", "EOT", "한국", "😀", " ", "\t", "\\", '= "ami-0123456789abcdef0"'),
        *("}", "{", '"', "#", "*/", "${", "$${", "%{", "=", "//"),
    ]
)
_JUNK = st.lists(_TOKENS, max_size=8).map(" ".join)
_STRING = _JUNK.map(quoted)
_NUMBER = st.integers(0, 99).map(str)
_HEREDOC = """\
h = {}
.{}
gpu_ami_id = "x"
 "
{}"""
_BLOCK = """\
b "gpu_ami_id" {{
  gpu_ami_id = {}
  c {{ default = "x" }}
}}"""


def _heredoc(marker: str, junk: str) -> str:
    return _HEREDOC.format(marker, junk.replace("${", "$$${").replace("%{", "%%{"), marker.lstrip("<-"))


_DECOYS = st.one_of(
    _JUNK.map("# {}".format),
    _JUNK.map("\t// {}".format),
    _JUNK.map(lambda text: f'/* {text.replace("*/", "")}\ngpu_ami_id = "x" */'),
    st.builds("s{} = {}".format, _NUMBER, _STRING),
    st.builds('m{} = {{ gpu_ami_id = "x", y : {} # c\n}}'.format, _NUMBER, _STRING),
    st.builds(_heredoc, st.sampled_from(["<<EOT", "<<-EOT", "<<-끝"]), _JUNK),
    _STRING.map(_BLOCK.format),
    st.sampled_from(['f = [for x in ["gpu_ami_id"] : "${x} = "]', "n = 1e2", ""]),
)
_TARGETS = st.sampled_from(
    [
        ("gpu_ami_id", 'gpu_ami_id = "', '"'),
        ("gpu_ami_id", '\tgpu_ami_id\t=\t/* "x" */"', '" // gpu_ami_id = "'),
        ("variable.gpu_ami_id.default", 'variable "gpu_ami_id" { default = "', '" }'),
        ("variable.gpu_ami_id.default", 'variable "gpu_ami_id" {\n  # default = "x"\n  default = "', '" # }\n}'),
        ('gpu_ami_ids["ap-northeast-2"]', 'gpu_ami_ids = {\n  us-east-1 = "x"\n  "ap-northeast-2" : "', '",\n}'),
        ("resource.t.n.b[1].c.id", 'resource "t" "n" {\n  b {}\n  b { c {\n    id = "', '"\n  } }\n}'),
    ]
)


_FLAG = st.booleans()


@settings(max_examples=300, deadline=None)
@given(st.lists(_DECOYS, max_size=6), _TARGETS, st.lists(_DECOYS, max_size=6), _FLAG, _FLAG, _FLAG)
def test_in_hostile_files_exactly_the_intended_bytes_change(
    before: list[str], target: tuple[str, str, str], behind: list[str], crlf: bool, bom: bool, final: bool
) -> None:
    """Whatever a person has written around it: one value goes, every other byte stays."""
    path, left, right = target
    head, tail = "\n".join([*before, left]), "\n".join([right, *behind]) + ("\n" if final else "")
    if crlf:
        head, tail = head.replace("\n", "\r\n"), tail.replace("\n", "\r\n")
    head = "\ufeff" * bom + head

    after = replace(parse(f"{head}{OLD}{tail}", "f"), {parse_path(path): NEW})

    assert after == f"{head}{NEW}{tail}"


_PIECES = [
    'a = "x"',
    "<<E\n",
    "E",
    "a",
    "한",
    "\ufeff",
    "\n",
    "\r",
    '"',
    "{",
    "}",
    "${",
    "#",
    "/*",
    "*/",
    "=",
    "[",
    ",",
    ".",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join))
def test_any_text_is_either_edited_or_refused(text: str) -> None:
    """Hostile input ends in our own error, never in another exception, and never in a text that lost something."""
    try:
        document = parse(text, "f")
        after = replace(document, {("a",): NEW})
    except UsageError:
        return
    value = find(document, ("a",))
    assert after == text[: value.start] + f'"{NEW}"' + text[value.end :]
