"""Hands a list of a task's answer on to a workflow's matrix: a fleet's shards, or accounts in which something goes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.errors import UsageError
from gpu_ami.units import show_count


@dataclass(frozen=True)
class _Kind:
    """What a list may hold.

    Attributes:
        entry: What each of its texts looks like.
        most: GitHub makes no more than 256 jobs of a matrix; of more than some 250 artifacts not all may arrive.
        task: Whose answer has it.
        else_: What to do where there are more.
    """

    entry: re.Pattern[str]
    most: int
    task: str
    else_: str


KINDS = {
    "shards": _Kind(re.compile(r"[1-9][0-9]{0,2}/[1-9][0-9]{0,2}"), 250, "invoke fleet --out", "spread it over fewer"),
    "owners": _Kind(
        re.compile(r"[0-9]{12}"), 256, "invoke cleanup --fleet --plan", "apply the plan by hand, without --owner"
    ),
}


def entries(document: Mapping[str, Any], what: str) -> list[str]:
    """Return the list *what*, of `KINDS`, of a task's *document*; an empty one is no error, but has to be looked at.

    A matrix of nothing fails on GitHub, and one of something else would start jobs that nobody asked for.

    Raises:
        UsageError: There is none, it holds something else or one of it twice, or GitHub would refuse so many.
    """
    kind, found = KINDS[what], document.get(what)
    if not isinstance(found, list):
        msg = f"The answer has no list of {what}: `{kind.task}` makes one."
        raise UsageError(msg)
    texts = [entry for entry in found if isinstance(entry, str) and kind.entry.fullmatch(entry)]
    if len(set(texts)) < len(found):
        wrong = next((entry for entry in found if entry not in texts), "one of them twice")
        msg = f"The list of {what} has {str(wrong)[:60]!r}: `{kind.task}` makes another."
        raise UsageError(msg)
    if len(texts) > kind.most:
        count = show_count(len(texts), what.removesuffix("s"))
        msg = f"{count} are more than the {kind.most} of one matrix: {kind.else_}."
        raise UsageError(msg)
    return texts
