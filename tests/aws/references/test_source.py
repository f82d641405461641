"""Finding ids in whatever AWS and files say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws.references.source import ids_in, references_in, relevant, show_name, strings_in

LONG, SHORT = "ami-0123456789abcdef0", "ami-12345678"


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        f" {LONG}\n",
        f'{{"a":"{LONG}"}}',
        f"x{LONG}y",
        LONG.upper(),
        f"arn:aws:ec2:r::image/{LONG}",
        f"{LONG},{LONG}",
    ],
)
def test_an_id_is_found_wherever_it_stands(text: str) -> None:
    """A reference that is overlooked deletes an AMI in use."""
    assert LONG in ids_in(text)


def test_old_ids_and_snapshots_are_found_too() -> None:
    """EC2 gave out 8 digits until 2018, and those AMIs live."""
    assert ids_in(f"{SHORT} snap-12345678") == {SHORT, "snap-12345678"}


@pytest.mark.parametrize("digits", [7, 9, 12, 16, 18, 40])
def test_ids_of_other_lengths_are_no_ids(digits: int) -> None:
    """AWS gives out 8 digits or 17; the first eight of a longer run are some other AMI's by chance."""
    assert ids_in(f"ami-{'a' * digits} {SHORT}") == {SHORT}


@pytest.mark.parametrize("text", ["", "ami-", "ami-xyz", "ami-1234567", "family-12345678x"[1:5]])
def test_other_texts_name_nothing(text: str) -> None:
    """Whatever matches everything protects everything."""
    assert ids_in(text) == set()


_NO_DIGIT_FIRST = st.text().filter(lambda text: text[:1].lower() not in "0123456789abcdef" or not text)


@given(st.text(), _NO_DIGIT_FIRST, st.sampled_from([LONG, "snap-0123456789abcdef0"]))
def test_no_surrounding_text_hides_an_id(before: str, after: str, identifier: str) -> None:
    """Comments, JSON, separators, letters: whatever is around it, but for digits that would make it another id."""
    assert identifier in ids_in(before + identifier + after)


def test_strings_are_found_at_any_depth_with_their_path() -> None:
    """The path is what tells a reader which field holds the AMI; tags and user data are no use of it."""
    document = {"a": [{"b": LONG}, 3, None], "Tags": [{"Value": SHORT}], "UserData": SHORT, "c": ("x",)}

    assert dict(strings_in(document)) == {"a[0].b": LONG, "c[0]": "x"}
    assert [r.detail for r in references_in(document, "s", "who")] == ["who: a[0].b"]


def test_only_what_matters_of_a_document_is_kept() -> None:
    """Thousands of template versions stay in memory for the second query."""
    assert relevant({"a": LONG, "b": "resolve:ssm:/x", "c": "t3.micro"}) == {"a": LONG, "b": "resolve:ssm:/x"}


def test_a_bare_string_is_its_own_reference() -> None:
    """Without a path there is nothing to add to who made it."""
    assert references_in("snap-12345678", "s", "who")[0].detail == "who"


@pytest.mark.parametrize(
    ("tags", "shown"),
    [([{"Key": "Name", "Value": "n"}], "i (n)"), ([{"Key": "x"}], "i"), (None, "i"), ([{"Key": "Name"}], "i")],
)
def test_a_name_is_shown_where_there_is_one(tags: list[dict[str, str]] | None, shown: str) -> None:
    """Untagged resources are the rule in some accounts."""
    assert show_name(tags, "i") == shown
