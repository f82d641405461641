"""What only the pipeline knows of an AMI when its build has ended: a file of the AMI's archive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.foreign_text import reason
from gpu_ami.records.tags import AMI_ID, FINISHED_TAG, HANDOVER_TAG, KEEP_TAG, TAG_PREFIX

FORMAT = 1
_LONGEST = 1024
_Text = Annotated[str, msgspec.Meta(max_length=_LONGEST)]
Scalar = bool | int | float | str


class BuildFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the archive of an AMI has beside the record and the bill that the build wrote.

    Attributes:
        format: Of this file.
        ami: The AMI of the pipeline's region.
        amis: Region to AMI id, its copies among them.
        tags: Those of its tags that the pipeline gave it.
        settings: The template's variables that change the image, as far as they are a number, a truth value or a text
            and no secret.
    """

    format: int = FORMAT
    ami: Annotated[str, msgspec.Meta(pattern=rf"^{AMI_ID.pattern}\Z")]
    amis: dict[str, str] = {}
    tags: dict[_Text, _Text] = {}
    settings: dict[_Text, bool | int | float | _Text] = {}


def encode(facts: BuildFacts) -> str:
    """Return the text of the file."""
    return msgspec.json.format(msgspec.json.encode(facts, order="sorted"), indent=2).decode() + "\n"


def parse(text: str, *, source: str) -> BuildFacts:
    """Return what the file's *text* says; *source* names it in errors.

    Raises:
        UsageError: It is no such file, or one of another version's format.
    """
    try:
        facts = msgspec.json.decode(text, type=BuildFacts)
    except (msgspec.DecodeError, RecursionError) as exc:
        msg = f"{source} is not what a build has noted of its AMI: {reason(exc)}."
        raise UsageError(msg) from exc
    if facts.format != FORMAT:
        msg = f"{source} is of format {facts.format}, this version reads {FORMAT}: use the one that wrote it."
        raise UsageError(msg)
    return facts


def own(tags: Mapping[str, str]) -> dict[str, str]:
    """Return those of an AMI's *tags* that are the pipeline's and say what it is, not what has become of it."""
    return {
        name: value
        for name, value in tags.items()
        if name.startswith(TAG_PREFIX) and name not in (FINISHED_TAG, HANDOVER_TAG, KEEP_TAG)
    }


def plain(values: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return those of the *values* that are a number, a truth value or a short text."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= _LONGEST)
    }
