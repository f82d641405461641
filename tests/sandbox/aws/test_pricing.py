"""The Price List service over a table of prices that tests can replace."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws import pricing
from gpu_ami_sandbox.aws.pricing import Product, on_demand_usd
from tests.support.resources import REGION


def the_products(access: Access, *filters: tuple[str, str, str], service: str = "AmazonEC2") -> list[dict[str, Any]]:
    """Return what GetProducts finds, decoded."""
    conditions = [{"Type": kind, "Field": field, "Value": value} for field, value, kind in filters]
    client = access.client("pricing", region="us-east-1")
    pages = client.get_paginator("get_products").paginate(ServiceCode=service, Filters=conditions, MaxResults=5)
    return [json.loads(item) for page in pages for item in page["PriceList"]]


def the_price(product: dict[str, Any]) -> tuple[Decimal, str]:
    """Return the one price of a product, and what it is for."""
    (term,) = product["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    return Decimal(dimension["pricePerUnit"]["USD"]), dimension["unit"]


def test_one_instance_price(access: Access) -> None:
    """The filters of the documentation give exactly one."""
    expected = {
        "instanceType": "g5.xlarge",
        "regionCode": REGION,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "capacitystatus": "Used",
        "preInstalledSw": "NA",
        "marketoption": "OnDemand",
    }

    (product,) = the_products(access, *((key, value, "TERM_MATCH") for key, value in expected.items()))

    assert the_price(product) == (Decimal("1.237"), "Hrs")
    assert product["product"]["attributes"]["usagetype"] == "APN2-BoxUsage:g5.xlarge"


@pytest.mark.parametrize(
    ("family", "suffix", "usd"),
    [("Storage Snapshot", "EBS:SnapshotUsage", "0.05"), ("Storage", "EBS:VolumeUsage.gp3", "0.0912")],
)
def test_storage_prices(access: Access, family: str, suffix: str, usd: str) -> None:
    """Found by family and by a part of the usage type."""
    (product,) = the_products(
        access,
        ("productFamily", family, "EQUALS"),
        ("regionCode", REGION, "TERM_MATCH"),
        ("usagetype", suffix, "CONTAINS"),
    )

    assert the_price(product) == (Decimal(usd), "GB-Mo")


def test_filters_of_several_values(access: Access) -> None:
    """ANY_OF and NONE_OF are newer than most code."""
    kinds = "gp2,gp3"
    any_of = the_products(access, ("volumeApiName", kinds, "ANY_OF"), ("regionCode", REGION, "EQUALS"))
    none_of = the_products(access, ("productFamily", "Compute Instance,Storage", "NONE_OF"))

    assert {p["product"]["attributes"]["volumeApiName"] for p in any_of} == {"gp2", "gp3"}
    assert {p["product"]["productFamily"] for p in none_of} == {"Storage Snapshot"}


def test_everything_comes_in_pages(access: Access) -> None:
    """Nothing is lost between pages of five."""
    assert len(the_products(access)) == len(pricing.default_products())
    assert the_products(access, service="AmazonS3") == []


def test_prices_can_be_given(access: Access) -> None:
    """A test of the cost model sells what it needs, and sees nothing else."""
    pricing.sell(
        [Product("AmazonEC2", "Compute Instance", "Hrs", Decimal(2), {"instanceType": "x", "regionCode": "r"})]
    )

    (product,) = the_products(access)

    assert the_price(product) == (Decimal(2), "Hrs")
    assert on_demand_usd("r", "x") == Decimal(2)
    assert on_demand_usd(REGION, "g5.xlarge") is None


@pytest.mark.usefixtures("aws")
def test_larger_sizes_cost_more() -> None:
    """g5.4xlarge is four times g5.xlarge."""
    assert on_demand_usd(REGION, "g5.4xlarge") == Decimal("1.237") * 4
    assert on_demand_usd(REGION, "g5.large") is None


def test_services_are_listed(access: Access) -> None:
    """With the attributes that can be filtered by."""
    (service,) = access.client("pricing", region="us-east-1").describe_services(ServiceCode="AmazonEC2")["Services"]

    assert {"instanceType", "regionCode", "productFamily"} <= set(service["AttributeNames"])
