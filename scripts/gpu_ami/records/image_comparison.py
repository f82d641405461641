"""Compares two AMIs by what is known of each: what differs, what cannot be said, and all of it in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_ami.records.image_facts import ImageFacts, Known, Value
from gpu_ami.units import show_bytes, show_count

# Each kind of difference, in the order in which they are shown: what it is for people.
KINDS = {
    "base": "base AMI",
    "os": "OS",
    "kernel": "kernel",
    "driver": "driver",
    "docker": "Docker",
    "agent": "ECS agent",
    "image": "container image",
    "model": "model",
    "models": "models",
    "package": "package",
    "setting": "setting",
    "settings": "settings",
    "scripts": "scripts",
    "pipeline": "pipeline",
    "snapshot": "snapshot",
}
# Packages whose version is a fact of its own already.
_TOLD = frozenset({"docker", "ecs-init"})
# Where one of these is not known of both, nobody can say that two AMIs are the same.
_DECISIVE = frozenset({"base", "image", "models", "package", "settings", "scripts"})
# Of these one word says it: that the whole differs, where its parts are not known or do not show it.
_WHOLE = {"models": "model", "settings": "setting"}
# Those of which one line for people has no room for the value.
_COUNTED = {"model": "model", "package": "package", "setting": "setting"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between two AMIs.

    Attributes:
        kind: One of `KINDS`.
        name: What differs.
        old: What it is in the first one; None where it is not there.
        new: What it is in the second one; None where it is not there.
    """

    kind: str
    name: str
    old: Value | None
    new: Value | None

    @property
    def verb(self) -> str:
        """What has become of it."""
        return "new" if self.old is None else "gone" if self.new is None else "changed"

    def document(self) -> dict[str, Any]:
        """Return the difference as JSON-ready values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "old": self.old.text if self.old else None,
            "new": self.new.text if self.new else None,
            "old_bytes": self.old.size_bytes if self.old else None,
            "new_bytes": self.new.size_bytes if self.new else None,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two AMIs differ.

    Attributes:
        old: The first one.
        new: The second one.
        changes: The differences, by kind and name.
        unknown: The kinds of which nothing can be said: of one of the two nothing is known.
    """

    old: ImageFacts
    new: ImageFacts
    changes: Sequence[Change] = field(default_factory=tuple)
    unknown: Sequence[str] = ()

    @property
    def undecided(self) -> tuple[str, ...]:
        """The kinds for which nobody can say whether they are the same; none where they differ anyway."""
        return () if self.changes else tuple(kind for kind in self.unknown if kind in _DECISIVE)

    @property
    def same(self) -> bool | None:
        """Whether they are the same; None where nobody can say."""
        return None if self.undecided else not self.changes

    def document(self) -> dict[str, Any]:
        """Return the contract with scripts."""
        return {
            "from": self.old.ami,
            "to": self.new.ami,
            "from_source": self.old.source,
            "to_source": self.new.source,
            "same": self.same,
            "summary": summary(self),
            "differences": [change.document() for change in self.changes],
            "unknown": list(self.unknown),
        }


def compare(old: ImageFacts, new: ImageFacts) -> Comparison:
    """Return how *new* differs from *old*; of the same AMI nothing does, whatever is known of it."""
    if old.ami == new.ami:
        return Comparison(old=old, new=new)
    found = {kind: _changes(kind, old.kinds.get(kind), new.kinds.get(kind)) for kind in KINDS}
    changes = {kind: made for kind, made in found.items() if made is not None}
    unknown = [kind for kind, made in found.items() if made is None]
    for whole, part in _WHOLE.items():
        if changes.get(part):
            changes.pop(whole, None)  # its parts say it
        elif part in unknown and changes.get(whole) == []:
            unknown.remove(part)  # they are the same, whichever they are
        if part in changes and whole in unknown:
            unknown.remove(whole)
    shown = [change for kind in KINDS for change in changes.get(kind, ())]
    return Comparison(old=old, new=new, changes=shown, unknown=unknown)


def _changes(kind: str, old: Known, new: Known) -> list[Change] | None:
    """Return how one kind differs; None where that cannot be said."""
    if old is None or new is None:
        return None
    # A fact that one of them has not is no difference: some have no tag where an AMI has all that EC2 allows.
    names = {*old, *new} if kind in _COUNTED else set(old) & set(new)
    if not names and kind not in _COUNTED:
        return None
    return [
        Change(kind=kind, name=name, old=old.get(name), new=new.get(name))
        for name in sorted(names)
        if old.get(name) != new.get(name) and not (kind == "package" and name in _TOLD)
    ]


def summary(found: Comparison) -> str:
    """Return the differences in one line, such as ``kernel 6.1.141 → 6.1.150, 2 models new``."""
    parts: list[str] = []
    for kind, shown in KINDS.items():
        changes = [change for change in found.changes if change.kind == kind]
        if changes:
            parts += _counted(kind, changes) if kind in _COUNTED else [_in_short(shown, kind, changes)]
    if not parts and found.undecided:
        return f"no difference is known (not compared: {', '.join(KINDS[kind] for kind in found.undecided)})"
    if not parts:
        return "no difference is known" if found.unknown else "no difference"
    return ", ".join(parts)


def _counted(kind: str, changes: Sequence[Change]) -> list[str]:
    counts = {verb: sum(change.verb == verb for change in changes) for verb in ("new", "changed", "gone")}
    return [f"{show_count(count, _COUNTED[kind])} {verb}" for verb, count in counts.items() if count]


def _in_short(shown: str, kind: str, changes: Sequence[Change]) -> str:
    by_name = {change.name: change for change in changes}
    chosen = next((by_name[name] for name in _TELLING.get(kind, ()) if name in by_name), changes[0])
    if kind in _OPAQUE and chosen.name in _OPAQUE[kind]:
        return f"{shown} changed"
    unit = " GiB" if kind == "snapshot" else ""
    return f"{shown} {short(chosen.old)} → {short(chosen.new)}{unit}"


# Of several facts of a kind the one that says most to a person; and those that say nothing to one.
_TELLING: Mapping[str, tuple[str, ...]] = {"base": ("name", "id"), "image": ("tag", "digest")}
_OPAQUE: Mapping[str, frozenset[str]] = {
    "image": frozenset({"digest"}),
    "models": frozenset({"digest", "files"}),
    "settings": frozenset({"fingerprint"}),
    "scripts": frozenset({"fingerprint"}),
}
_DIGEST_CHARACTERS = len("sha256:") + 12


def short(value: Value | None) -> str:
    """Return *value* for people: of a digest its beginning, and how large a file is."""
    if value is None:
        return "none"
    text = value.text[:_DIGEST_CHARACTERS] if value.text.startswith("sha256:") else value.text
    return text if value.size_bytes is None else f"{show_bytes(value.size_bytes)}, {text[7:]}"


def cells(change: Change, width: int) -> tuple[str, str]:
    """Return both values of *change* in at most *width* characters each: of longer ones the part where they differ."""
    old, new = short(change.old), short(change.new)
    if max(len(old), len(new)) <= width:
        return old, new
    pairs = zip(old, new, strict=False)
    same = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(old), len(new)))
    return _part(old, same, width), _part(new, same, width)


def _part(text: str, start: int, width: int) -> str:
    if len(text) <= width:
        return text
    start = max(0, min(start - _CONTEXT, len(text) - width + 1))
    shown = f"{'…' if start else ''}{text[start:]}"
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


# So much of what two long values have in common is shown before they differ.
_CONTEXT = 6
