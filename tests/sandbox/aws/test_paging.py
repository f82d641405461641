"""Pages stay whole while rows come and go."""

from __future__ import annotations

import pytest

from gpu_ami_sandbox.aws import paging
from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.refusals import RefusalError


def test_one_page_has_no_token() -> None:
    """A token would make callers ask for an empty page."""
    assert page([1, 2], None, 2) == ([1, 2], None)
    assert page([], None, 2) == ([], None)


def test_the_rest_is_what_it_was_at_the_first_page() -> None:
    """Rows deleted between two pages neither shift nor repeat the others."""
    rows = [1, 2, 3, 4, 5]
    first, token = page(rows, None, 2)
    rows.remove(1)

    second, following = page(rows, token, 2)
    third, end = page(rows, following, 2)

    assert (first, second, third, end) == ([1, 2], [3, 4], [5], None)


def test_a_page_can_be_asked_for_again() -> None:
    """A client whose connection broke repeats its request."""
    _, token = page([1, 2, 3], None, 1)

    again = [page([1, 2, 3], token, 1)[0] for _ in range(2)]

    assert again == [[2], [2]]


def test_an_unknown_token_is_refused() -> None:
    """Starting over silently would loop for ever."""
    with pytest.raises(RefusalError, match="pagination token made-up"):
        page([1], "made-up", 1)


def test_old_listings_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that runs for days must not keep every listing."""
    monkeypatch.setattr(paging, "_MOST_OPEN_LISTINGS", 1)
    _, old = page([1, 2], None, 1)
    page([1, 2], None, 1)

    with pytest.raises(RefusalError):
        page([1, 2], old, 1)
