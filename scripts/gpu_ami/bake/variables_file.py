"""Plans edits of Packer's variables file: what to set in it, and whose values would be replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gpu_ami import hcl
from gpu_ami.aws.ecr import REPOSITORY_URL
from gpu_ami.errors import UsageError


class Shape(NamedTuple):
    """What a value must match: the template's own rule, and its description for people."""

    pattern: re.Pattern[str]
    description: str


# What Terraform's outputs of these names, or an answer, can fill in.
SHAPES: dict[str, Shape] = {
    "ecr_repository_url": Shape(
        REPOSITORY_URL,
        "an ECR repository without tag, such as 123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/batch-processor",
    ),
    "subnet_id": Shape(re.compile(r"subnet-([0-9a-f]{8}|[0-9a-f]{17})"), "subnet- and 8 or 17 hexadecimal digits"),
    "security_group_id": Shape(
        re.compile(r"(sg-([0-9a-f]{8}|[0-9a-f]{17}))?"), "empty, or sg- and 8 or 17 hexadecimal digits"
    ),
    "models_s3_bucket": Shape(
        re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?"), "empty, or the bare name of a bucket"
    ),
    "iam_instance_profile": Shape(
        re.compile(r"[A-Za-z0-9+=,.@_-]{0,128}"), "empty, or the name (not the ARN) of an instance profile"
    ),
}


@dataclass(frozen=True)
class Setting:
    """One variable of the file.

    Attributes:
        name: Its name.
        old: Its value in the file now; None when it is not set there.
        new: The value it gets.
        source: Where that comes from, for people.
        by_hand: Whether the old value is somebody's own, not the example's.
    """

    name: str
    old: str | None
    new: str
    source: str
    by_hand: bool

    @property
    def changed(self) -> bool:
        """Whether the value is another one, or new to the file."""
        return self.old != self.new


@dataclass(frozen=True)
class Plan:
    """What the file will be; nothing is written yet.

    Attributes:
        file: The file.
        settings: Each variable that was decided.
        before: Its text now; None when there is no file.
        after: Its text then.
    """

    file: Path
    settings: tuple[Setting, ...]
    before: str | None
    after: str

    @property
    def changed(self) -> bool:
        """Whether the file would change at all."""
        return self.before != self.after

    @property
    def replaced(self) -> tuple[Setting, ...]:
        """The settings that would replace somebody's own value."""
        return tuple(setting for setting in self.settings if setting.by_hand and setting.changed)

    def diff(self, shown: str) -> str:
        """Return the change as a unified diff, empty when there is none."""
        import difflib

        lines = ((self.before or "").splitlines(), self.after.splitlines())
        return "\n".join(difflib.unified_diff(*lines, f"a/{shown}", f"b/{shown}", lineterm=""))


def checked(name: str, value: str, source: str) -> str:
    """Return *value* when the template would accept it as *name*.

    Raises:
        UsageError: It would not; *source* is named.
    """
    shape = SHAPES[name]
    if shape.pattern.fullmatch(value) is None:
        msg = f"{name} is {value[:80]!r} by {source}: it must be {shape.description}."
        raise UsageError(msg)
    return value


def own_values(text: str, example: str, *, source: str) -> dict[str, str]:
    """Return name to value of what a person set in *text*: the example's placeholders are not theirs.

    A value that is no plain string is shown as it is written.

    Raises:
        UsageError: *text* does not parse, or a variable is set twice.
    """
    placeholders = _top_level(example, source="example")
    return {name: value for name, value in _top_level(text, source=source).items() if placeholders.get(name) != value}


def missing(values: Mapping[str, str], own: Mapping[str, str], defaults: Mapping[str, Any]) -> list[str]:
    """Return the variables that nothing gives a value: not *values*, the file's *own* ones or the template's."""
    return [name for name in SHAPES if name not in values and name not in own and name not in defaults]


def plan(
    file: Path,
    text: str | None,
    example: str,
    values: Mapping[str, tuple[str, str]],
    defaults: Mapping[str, Any],
    *,
    source: str,
) -> Plan:
    """Return what setting *values* makes of *file*.

    Args:
        file: Where the text is from.
        text: What is there; None makes a new file of the example.
        example: The example file's text.
        values: Variable to its value and where that comes from.
        defaults: The template's defaults: they replace the example's placeholders.
        source: What the file is called in errors.

    Raises:
        UsageError: *text* does not parse, or a variable is set twice or is an expression.
    """
    present = _top_level(text, source=source) if text is not None else {}
    own = own_values(text, example, source=source) if text is not None else {}
    start = example if text is None else text
    # A placeholder that nothing replaces must not reach AWS.
    left = sorted(
        _top_level(start, source=source).keys() & SHAPES.keys() & defaults.keys() - own.keys() - values.keys()
    )
    chosen = dict(values) | {name: (str(defaults[name]), "the template's default") for name in left}
    settings = [Setting(name, present.get(name), new, where, name in own) for name, (new, where) in chosen.items()]
    after = hcl.set_attributes(start, {setting.name: setting.new for setting in settings}, source=source)
    return Plan(file, tuple(settings), text, after)


def _top_level(text: str, *, source: str) -> dict[str, str]:
    found: dict[str, str] = {}
    document = hcl.parse(text, source)
    for attribute in document.body.attributes:
        value = hcl.find(document, (attribute.name,))
        found[attribute.name] = value.literal if isinstance(value.literal, str) else value.text
    return found
