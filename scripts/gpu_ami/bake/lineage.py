"""Decides whether a bake may build on the family's last AMI, so that only what is new is transferred."""

from __future__ import annotations

from gpu_ami.aws.images import Image
from gpu_ami.bake.staleness import FACTS, Fact, Fingerprints
from gpu_ami.records.tags import CHAIN_TAG, FINGERPRINT_PREFIX

ARCHITECTURE = "x86_64"
# What an image keeps of its parent and a step on top does not undo. Image and models are brought up to date by their
# steps.
_INHERITED: tuple[Fact, ...] = ("base", "scripts", "settings")


def chain_length(image: Image) -> int | None:
    """Return how many incremental bakes lie between *image* and a full one; None when it does not say."""
    said = image.tags.get(CHAIN_TAG, "")
    return int(said) if said.isascii() and said.isdigit() else None


def why_not(parent: Image | None, expected: Fingerprints, *, limit: int, volume_gib: int) -> str | None:
    """Return why a bake on top of *parent* would not make what a full one makes; None when it would.

    Args:
        parent: The family's newest finished AMI; None when there is none.
        expected: What a full bake would be made from now.
        limit: So many incremental bakes may follow a full one.
        volume_gib: The root volume of the new builder; a volume cannot be smaller than its snapshot.
    """
    if parent is None:
        return "the family has no finished AMI yet"
    if parent.state != "available":
        return f"{parent.image_id} is {parent.state}"
    if parent.architecture != ARCHITECTURE:
        return f"{parent.image_id} is for {parent.architecture or 'an unknown architecture'}, not {ARCHITECTURE}"
    for fact in _INHERITED:
        now, then = expected.values.get(fact), parent.tags.get(f"{FINGERPRINT_PREFIX}{fact}")
        if now is None:
            problem = expected.problems.get(fact, "nothing says what it is").rstrip(".")
            return f"{FACTS[fact]} could not be looked up ({problem})"
        if then is None:
            return f"{parent.image_id} does not say which it was made from: {FACTS[fact]}"
        if now != then:
            change = f": {then} is now {now}" if fact == "base" else ""
            return f"{FACTS[fact]} changed since {parent.image_id}{change}"
    length = chain_length(parent)
    if length is None or length >= limit:
        return f"{parent.image_id} is number {'?' if length is None else length} of a chain that may have {limit}"
    if parent.volume_gib > volume_gib:
        return f"{parent.image_id} has {parent.volume_gib} GiB, more than volume_size_gib = {volume_gib}"
    return None
