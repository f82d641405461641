"""Sums and products with unknown parts."""

from __future__ import annotations

from decimal import Decimal

from gpu_ami.cost.figure import as_json, negative, product, total


def test_an_unknown_part_makes_a_sum_unknown() -> None:
    """A bill with a hole in it must not be taken for a smaller bill."""
    assert total(Decimal(1), None) is None
    assert total(Decimal(1), Decimal(2)) == 3
    assert total() == 0


def test_an_unknown_factor_makes_a_product_unknown() -> None:
    """An unknown price is not a price of 0."""
    assert product(Decimal(2), None) is None
    assert product(Decimal(2), Decimal(3)) == 6


def test_nothing_at_an_unknown_price_costs_nothing() -> None:
    """No NAT bytes, no question what NAT costs: otherwise a whole answer would hang on a price that does not matter."""
    assert product(Decimal(0), None) == 0


def test_the_unknown_stays_so_in_json_and_under_a_sign() -> None:
    """Scripts tell null from 0."""
    assert negative(None) is None
    assert negative(Decimal(1)) == -1
    assert as_json(None) is None
    assert as_json(Decimal("1.23456")) == 1.2346
