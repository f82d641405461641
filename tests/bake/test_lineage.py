"""When a bake may build on the family's last AMI."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gpu_ami.aws.images import Image
from gpu_ami.bake.lineage import chain_length, why_not
from gpu_ami.bake.staleness import FACTS, Fact, Fingerprints
from gpu_ami.records.tags import FINGERPRINT_PREFIX

EXPECTED = Fingerprints({fact: f"{fact} 1" for fact in FACTS})
TAGS = {f"{FINGERPRINT_PREFIX}{fact}": f"{fact} 1" for fact in FACTS} | {"gpu-ami:chain-length": "2"}
PARENT = Image(image_id="ami-1", region="r", tags=TAGS, volume_gib=80, architecture="x86_64")


def _why(parent: Image | None, expected: Fingerprints = EXPECTED) -> str | None:
    return why_not(parent, expected, limit=10, volume_gib=80)


@pytest.mark.parametrize("fact", ["image", "models"])
def test_new_layers_and_models_are_what_it_is_for(fact: str) -> None:
    """The scripts make both what is requested, whatever the parent had."""
    assert _why(replace(PARENT, tags=TAGS | {f"{FINGERPRINT_PREFIX}{fact}": "older"})) is None


@pytest.mark.parametrize("fact", ["base", "scripts", "settings"])
def test_what_a_parent_hands_down_makes_a_full_bake(fact: str) -> None:
    """An old base keeps its holes; a file that an older script left stays for ever; settings are not undone."""
    reason = _why(replace(PARENT, tags=TAGS | {f"{FINGERPRINT_PREFIX}{fact}": "older"}))

    assert reason is not None
    assert "changed since ami-1" in reason


def test_the_reason_names_the_base_that_moved() -> None:
    """People know base AMIs by their ids."""
    moved = Fingerprints({**EXPECTED.values, "base": "ami-new"})

    assert str(_why(PARENT, expected=moved)).endswith("changed since ami-1: base 1 is now ami-new")


@pytest.mark.parametrize(
    ("parent", "reason"),
    [
        (None, "no finished AMI"),
        (replace(PARENT, state="disabled"), "is disabled"),
        (replace(PARENT, architecture="arm64"), "is for arm64, not x86_64"),
        (replace(PARENT, architecture=""), "an unknown architecture"),
        (replace(PARENT, tags={}), "does not say which it was made from"),
        (replace(PARENT, tags=TAGS | {"gpu-ami:chain-length": "10"}), "is number 10 of a chain that may have 10"),
        (replace(PARENT, tags=TAGS | {"gpu-ami:chain-length": "-1"}), "is number ? of a chain"),
        (replace(PARENT, tags={k: v for k, v in TAGS.items() if "chain" not in k}), "is number ? of a chain"),
        (replace(PARENT, volume_gib=100), "has 100 GiB, more than volume_size_gib = 80"),
    ],
)
def test_each_other_reason_for_a_full_bake(parent: Image | None, reason: str) -> None:
    """Each would fail late or drift away from what a full bake makes."""
    assert reason in str(_why(parent))


def test_what_cannot_be_looked_up_makes_a_full_bake() -> None:
    """Nothing is built on a guess."""
    known: dict[Fact, str] = {fact: value for fact, value in EXPECTED.values.items() if fact != "base"}

    assert "could not be looked up (AWS refused)" in str(
        _why(PARENT, expected=Fingerprints(known, {"base": "AWS refused."}))
    )


@pytest.mark.parametrize(
    ("said", "length"), [("0", 0), ("12", 12), ("", None), ("x", None), ("1.5", None), ("²", None)]
)
def test_the_chain_is_as_long_as_its_tag_says(said: str, length: int | None) -> None:
    """Tags can be edited by hand."""
    assert chain_length(replace(PARENT, tags={"gpu-ami:chain-length": said})) == length
