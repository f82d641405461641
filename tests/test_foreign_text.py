"""Text from elsewhere: everything in it is seen, and nothing in it is obeyed."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpu_ami.foreign_text import (
    bare_reason,
    guarded,
    in_json,
    in_markdown,
    limited,
    reason,
    visible,
    without_references,
)

ANY = st.text(st.characters(codec=None))
# Two halves of a pair are one character once they were JSON.
WHOLE = st.text(st.characters(codec="utf-8"))
HOSTILE = "a\n::error ::b\x1b[2J\x9b2J\u202ecod\u2028|`<b>[x](y)"


def _unseen(text: str) -> list[str]:
    return [char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 서울, é, 🚀", "plain, 서울, é, 🚀"),
        ("a\nb\r\tc\0", r"a\x0ab\x0d\x09c\x00"),
        ("\x1b[31mred\x7f", r"\x1b[31mred\x7f"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("\u202egnp.exe\u2066\u200f\u061c", r"\u202egnp.exe\u2066\u200f\u061c"),
        ("\u2028\u2029\ufeff\u200b\xad", r"\u2028\u2029\ufeff\u200b\xad"),
        ("\U000e0041\ud800", r"\U000e0041\ud800"),
        ("👩\u200d🚀 \u200c", "👩\u200d🚀 \u200c"),
        ("##[error]x ###[group]", r"\x23#[error]x #\x23#[group]"),
    ],
)
def test_what_is_unseen_is_shown(text: str, shown: str) -> None:
    """An escape sequence moves the cursor, a bidi mark turns a name round; letters of every script stay."""
    assert visible(text) == shown
    assert visible(shown) == shown


@given(ANY)
@example(HOSTILE)
def test_a_visible_text_is_one_line_that_a_log_cannot_obey(text: str) -> None:
    """Whatever somebody calls a tag."""
    line = guarded(visible(text))

    assert set(_unseen(line)) <= {"\u200c", "\u200d"}
    assert len(line.splitlines()) <= 1
    assert not line.lstrip().startswith("::")
    assert "##[" not in line
    line.encode("utf-8")


@pytest.mark.parametrize("line", ["::error ::x", "  ::add-mask::x", "\u3000::x"])
def test_a_line_is_no_command_of_the_runner(line: str) -> None:
    """The runner looks behind blanks, too."""
    assert guarded(line) == line.replace("::", "\\x3a:", 1)


def test_other_colons_stay() -> None:
    """ARNs are full of them."""
    for line in ("arn:aws:iam::123456789012:role/x", "0.0.0.0/0 or ::/0", ":", ""):
        assert guarded(line) == line


@given(st.dictionaries(WHOLE, WHOLE, max_size=2))
@example({HOSTILE: [HOSTILE, "##[error]x", "\x7f", "\ud800"]})
def test_json_stays_the_same_data(document: Any) -> None:
    """A script that compares names must find the very name; a terminal that shows the JSON obeys nothing."""
    for indent in (None, 2):
        text = in_json(json.dumps(document, ensure_ascii=False, indent=indent))

        assert json.loads(text) == document
        assert set(_unseen(text)) <= {"\n", "\u200c", "\u200d"}
        assert "##[" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("<img src=x>", r"\<img src=x>"),
        ("![x](https://evil.example)", r"!\[x](https://evil.example)"),
        ("``` a", r"\`\`\` a"),
        ("a\n| forged | row |", r"a\\x0a\| forged \| row \|"),
        ("Run `invoke plan` or `aws sso login`.", "Run `invoke plan` or `aws sso login`."),
        ("`invoke cleanup --query 'a|b[0]'`", r"`invoke cleanup --query 'a\|b[0]'`"),
        ("`evil`", r"\`evil\`"),
        ("``invoke <b>``", r"\`\`invoke \<b>\`\`"),
        ("*a* ~~b~~ __init__.py c_d &lt;", r"\*a\* \~\~b\~\~ \_\_init\_\_.py c_d \&lt;"),
        ("by @octocat, (@org/team) app@sha256:ab", "by @&#8203;octocat, (@&#8203;org/team) app@sha256:ab"),
        ("fixes #12 of o/r#3, GH-4 # 5", "fixes #&#8203;12 of o/r#&#8203;3, GH-&#8203;4 # 5"),
        ("closes https://github.com/o/r/issues/1", "closes https:&#8203;//github.com/o/r/issues/1"),
        ("caf\u00e9@octocat \u00e4gh-4", "caf\u00e9@&#8203;octocat \u00e4gh-&#8203;4"),
        ("_https://github.com/o/r/pull/1", r"\_https:&#8203;//github.com/o/r/pull/1"),
        ("https://docs.aws.amazon.com/x", "https://docs.aws.amazon.com/x"),
        ("Run `invoke x @y`.", "Run `invoke x @y`."),
        ("&#8203;", r"\&#&#8203;8203;"),
    ],
)
def test_markdown_has_no_markup_but_our_commands(text: str, shown: str) -> None:
    """A job summary is a page with the team's name on it."""
    assert in_markdown(text) == shown


def test_a_subject_tells_nobody_and_closes_nothing() -> None:
    """A squashed merge makes the pull request's title a commit's: "fixes #1" of an image's tag would close an issue."""
    subject = "image v1 → @octocat fixes #12, GH-3 at https://github.com/o/r/pull/1, a@b"

    assert without_references(subject) == (
        "image v1 → @ octocat fixes # 12, GH- 3 at https: //github.com/o/r/pull/1, a@b"
    )


@given(ANY)
@example("`invoke a|b`|\\")
def test_a_cell_of_markdown_stays_one_cell(text: str) -> None:
    """A bar that is not escaped, or whose backslash is, would begin another one."""
    cell = in_markdown(text)

    assert re.sub(r"\\[!-/:-@\[-`{-~]", "", cell).count("|") == 0
    assert "\n" not in cell


@given(ANY, st.integers(20, 300))
def test_a_limited_text_is_no_longer_than_its_limit(text: str, limit: int) -> None:
    """35 kB in "one line" hide what was wrong."""
    assert len(limited(text, limit)) <= limit


def test_a_limited_text_keeps_its_end() -> None:
    """AWS says last which policy lacks the action."""
    text = limited(f"User: {'x' * 300} because no identity-based policy allows the ec2:RunInstances action")

    assert text.startswith("User: xxx")
    assert text.endswith("no identity-based policy allows the ec2:RunInstances action")
    assert " […] " in text


def test_an_exception_without_words_says_its_kind() -> None:
    """Nothing at all would be said else."""
    assert (reason(TimeoutError()), reason(ValueError("a\n b"))) == ("TimeoutError", "a b")


@pytest.mark.parametrize(
    "act",
    [
        lambda: int("hunter2"),
        lambda: float("hunter2"),
        lambda: dict[str, str]()["hunter2 is no name"],
        lambda: __import__("datetime").datetime.fromisoformat("hunter2"),
        lambda: __import__("botocore.utils").utils.parse_timestamp("hunter2"),
        lambda: json.loads('{"hunter2": hunter2'),
        lambda: b"hunter2\xff".decode(),
    ],
)
def test_a_bare_reason_quotes_nothing(act: Any) -> None:
    """What could not be read may be a password."""
    with pytest.raises(Exception, match=r".") as caught:
        act()

    assert "hunter2" not in bare_reason(caught.value)
    assert bare_reason(caught.value).startswith(type(caught.value).__name__)


def test_a_bare_reason_names_what_is_missing() -> None:
    """Without the name nobody could tell what AWS left out."""
    assert bare_reason(KeyError("LaunchTemplateData")) == "KeyError: 'LaunchTemplateData'"
    assert bare_reason(TypeError("'NoneType' object is not iterable")).endswith("object is not iterable")
    assert bare_reason(KeyError()) == "KeyError"
