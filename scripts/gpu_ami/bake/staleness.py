"""Decides whether a bake would make another image than the live AMI, and why, from their fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gpu_ami.records.tags import FINGERPRINT_PREFIX

Fact = Literal["base", "image", "models", "scripts", "settings"]

# In the order in which they are shown: what it is for people.
FACTS: dict[Fact, str] = {
    "base": "the base AMI",
    "image": "the container image",
    "models": "the models",
    "scripts": "the template, its scripts or the files that go into the image",
    "settings": "the settings that change the image",
}
_SHOWN = 24


@dataclass(frozen=True)
class Fingerprints:
    """What a bake right now would be made from.

    Attributes:
        values: Each fact as it is tagged on the AMI; one that could not be looked up is absent.
        problems: Why it could not, by fact.
    """

    values: Mapping[Fact, str] = field(default_factory=dict)
    problems: Mapping[Fact, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One reason to bake.

    Attributes:
        fact: What differs; ``live`` when there is no AMI to compare with, ``verification`` when
            the AMI failed the one that the settings want.
        live: What the AMI was made from; None when it does not say.
        wanted: What a bake would be made from now; None when it could not be looked up.
        detail: The difference for people.
    """

    fact: str
    live: str | None
    wanted: str | None
    detail: str

    def document(self) -> dict[str, Any]:
        """Return the difference as JSON-ready values."""
        return asdict(self)


def differences(live: Mapping[str, str] | None, expected: Fingerprints) -> list[Difference]:
    """Return why a bake would make another image than the live one; empty when it would not.

    What is not known on one of the two sides counts as different: better one bake too many than a stale image.

    Args:
        live: The tags of the live AMI; None when there is none.
        expected: What a bake would be made from now.
    """
    if live is None:
        return [Difference("live", None, None, "the family has no finished AMI yet")]
    found = (_difference(fact, live.get(f"{FINGERPRINT_PREFIX}{fact}"), expected) for fact in FACTS)
    return [difference for difference in found if difference is not None]


def _difference(fact: Fact, live: str | None, expected: Fingerprints) -> Difference | None:
    title, now = FACTS[fact], expected.values.get(fact)
    if now is None:
        problem = expected.problems.get(fact, "nothing says what it is").rstrip(".")
        return Difference(fact, live, None, f"{title}: could not be looked up ({problem})")
    if live is None:
        return Difference(fact, None, now, f"{title}: the AMI does not say which it was made from")
    if live == now:
        return None
    return Difference(fact, live, now, f"{title}: {_short(live)} is now {_short(now)}")


def _short(value: str) -> str:
    return value if len(value) <= _SHOWN or value.startswith("ami-") else f"{value[:_SHOWN]}…"
