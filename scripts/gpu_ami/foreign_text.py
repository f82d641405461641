"""Makes text from elsewhere fit to be shown: AWS's strings, programs' output and what exceptions say.

Whoever may set a tag or a name in the account chooses such text. Raw, it could move the cursor, turn the reading
direction round, break a table, forge a row, or give GitHub's runner a command.
"""

from __future__ import annotations

import json
import re
import unicodedata

# Of what an exception says: two sentences.
LONGEST_REASON = 200

# Controls (C0, C1), format characters such as bidi marks, halves of surrogate pairs, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SUSPECT = re.compile(r"[^ -~]")
# They join letters of some scripts and the parts of some emoji.
_JOINERS = "\u200c\u200d"
# What GitHub's runner takes for a command: `::` at the start of a line, blanks aside, and `##[` anywhere in it
# (actions/runner, src/Runner.Common/ActionCommand.cs). Our own colours may come before it.
_COMMAND_AT_START = re.compile(r"^((?:\s|\x1b\[\d*m)*):(?=:)")
_COMMAND_ANYWHERE = "##["
# A command that a message of ours tells people to run stays code in Markdown; nothing in there is markup.
_CODE = re.compile(r"(?<!`)`(?:invoke|aws|docker|git|packer|terraform|timedatectl|uv)(?: [^`]*)?`(?!`)")
# An underscore within a word is none.
_MARKUP = re.compile(r"[\\`<\[|&*~]|(?<![^\W_])_|_(?![^\W_])")
# What GitHub makes a link of once the Markdown is read, so that a backslash is no help: whom it mentions, and what it
# may close when a pull request is merged ("fixes #1"). A space of no width behind it is (github/markup#1168). A letter
# that is none of ASCII's does not make a word of it there (html-pipeline's mention filter asks Ruby's \W).
_REFERENCE = re.compile(
    r"(?<![a-z0-9])@(?=[a-z0-9])|#(?=\d)|\bgh-(?=\d)|https?:(?=//\S{1,200}?/(?:issues|pull|discussions|commit)/)",
    re.IGNORECASE | re.ASCII,
)
_NO_WIDTH = "&#8203;"
_KEY = re.compile(r"[A-Za-z][\w.:-]{0,63}")


def visible(text: str, *, keep: str = "") -> str:
    r"""Return *text* as one line that shows everything in it: ``\x1b``, ``\u202e`` and the like for what is unseen.

    Args:
        text: From wherever.
        keep: Characters that stay as they are.
    """
    if not text.isprintable():
        text = _SUSPECT.sub(lambda found: _escaped(found[0], keep), text)
    return text.replace(_COMMAND_ANYWHERE, "\\x23#[")


def guarded(line: str) -> str:
    """Return *line* so that a log of GitHub Actions shows it, and does not take it for a command."""
    return _COMMAND_AT_START.sub(r"\1\\x3a", line)


def in_markdown(text: str) -> str:
    """Return *text* as one line of Markdown, also in a cell of a table, in which only our commands are markup.

    On GitHub it mentions nobody, refers to no issue and closes none.
    """
    text = visible(text)
    parts, end = [], 0
    for found in _CODE.finditer(text):
        parts += [_without_markup(text[end : found.start()]), found[0].replace("|", "\\|")]
        end = found.end()
    return "".join([*parts, _without_markup(text[end:])])


def without_references(line: str) -> str:
    """Return the plain *line*, a commit's subject, with a blank in what GitHub would take for a name or an issue."""
    return _REFERENCE.sub(r"\g<0> ", line)


def in_json(text: str) -> str:
    """Return the JSON *text*, which stays the same data, with its unseen characters escaped; line breaks stay."""
    if not text.isprintable():
        text = _SUSPECT.sub(lambda found: _json_escaped(found[0]), text)
    return text.replace(_COMMAND_ANYWHERE, "##\\u005b")


def limited(text: object, limit: int = LONGEST_REASON) -> str:
    """Return *text* in one line of at most *limit* characters; the middle is left out, as the end often says why."""
    line = " ".join(str(text).split())
    if len(line) <= limit:
        return line
    gap = " […] "
    end = (limit - len(gap)) // 3
    return f"{line[: limit - len(gap) - end]}{gap}{line[-end:]}"


def reason(exc: BaseException) -> str:
    """Return what *exc* says, in one line of at most 200 characters; its kind where it says nothing."""
    return limited(exc) or type(exc).__name__


def bare_reason(exc: BaseException) -> str:
    """Return the kind of *exc* and what it says, as far as that quotes nothing of the answer that it is about.

    What Python says of a wrong value has the value in it, which may be a password.
    """
    kind = type(exc).__name__
    if isinstance(exc, KeyError):
        key = str(exc.args[0]) if exc.args else ""
        return f"{kind}: {key!r}" if _KEY.fullmatch(key) else kind
    says_no_value = (json.JSONDecodeError, UnicodeError, TypeError, AttributeError, IndexError)
    return f"{kind}: {reason(exc)}" if isinstance(exc, says_no_value) and str(exc) else kind


def _is_unseen(char: str, keep: str) -> bool:
    return not char.isprintable() and unicodedata.category(char) in _UNSEEN and char not in keep + _JOINERS


def _escaped(char: str, keep: str) -> str:
    if not _is_unseen(char, keep):
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escaped(char: str) -> str:
    if not _is_unseen(char, "\n"):
        return char
    return json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"


def _without_markup(text: str) -> str:
    return _REFERENCE.sub(rf"\g<0>{_NO_WIDTH}", _MARKUP.sub(r"\\\g<0>", text))
