"""The Price List service, which moto has no backend for, over a small table of prices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from moto.core.responses import ActionResult, BaseResponse

from gpu_ami_sandbox.aws.paging import PAGE_SIZES, page


@dataclass(frozen=True)
class Product:
    """One thing AWS sells, with its one price.

    Attributes:
        service: Service code, such as ``AmazonEC2``.
        family: Product family, such as ``Compute Instance``.
        unit: What the price is for: ``Hrs``, ``GB-Mo``.
        usd: The price of one unit.
        attributes: What GetProducts filters by.
    """

    service: str
    family: str
    unit: str
    usd: Decimal
    attributes: dict[str, str] = field(default_factory=dict)

    def fits(self, field_: str, expected: str, kind: str) -> bool:
        """Return whether the product passes one filter of GetProducts."""
        found = self.family if field_ == "productFamily" else self.attributes.get(field_)
        if kind == "CONTAINS":
            return found is not None and expected in found
        if kind in ("ANY_OF", "NONE_OF"):
            return (found in expected.split(",")) == (kind == "ANY_OF")
        return found == expected

    def shown(self, number: int) -> dict[str, Any]:
        """Return the product as an entry of GetProducts' price list."""
        sku = f"SANDBOX{number:06d}"
        dimension = {"unit": self.unit, "pricePerUnit": {"USD": f"{self.usd:.10f}"}, "beginRange": "0"}
        term = {
            "sku": sku,
            "offerTermCode": "JRTCKXETXF",
            "priceDimensions": {f"{sku}.JRTCKXETXF.6YS6EN2CT7": dimension},
        }
        return {
            "product": {"productFamily": self.family, "attributes": self.attributes, "sku": sku},
            "serviceCode": self.service,
            "terms": {"OnDemand": {f"{sku}.JRTCKXETXF": term}},
        }


# USD an hour for Linux, shared tenancy; sizes of one family scale with the number of their vCPUs.
_HOURLY = {
    "ap-northeast-2": {
        "g5.xlarge": "1.237", "g4dn.xlarge": "0.647", "g6.xlarge": "0.9896",
        "c5.large": "0.096", "m5.large": "0.118", "t3.large": "0.104",
    },
    "us-east-1": {
        "g5.xlarge": "1.006", "g4dn.xlarge": "0.526", "g6.xlarge": "0.8048",
        "c5.large": "0.085", "m5.large": "0.096", "t3.large": "0.0832",
    },
}  # fmt: skip
# Per region: usage type prefix, then USD per unit.
_STORAGE = {
    "ap-northeast-2": ("APN2-", {"snapshot": "0.05", "gp3": "0.0912", "gp2": "0.114"}),
    "us-east-1": ("", {"snapshot": "0.05", "gp3": "0.08", "gp2": "0.10"}),
}
_SIZES = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16}


def _instance(region: str, prefix: str, instance_type: str, usd: Decimal) -> Product:
    attributes = {
        "instanceType": instance_type,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "capacitystatus": "Used",
        "preInstalledSw": "NA",
        "marketoption": "OnDemand",
        "operation": "RunInstances",
        "usagetype": f"{prefix}BoxUsage:{instance_type}",
    }
    return Product("AmazonEC2", "Compute Instance", "Hrs", usd, attributes)


def _region_products(region: str) -> list[Product]:
    prefix, storage = _STORAGE[region]
    products = []
    for named, usd in _HOURLY[region].items():
        family, _, size = named.partition(".")
        for other, cpus in _SIZES.items():
            if cpus >= _SIZES[size] and not (family == "t3" and cpus > 8):
                scaled = Decimal(usd) * cpus / _SIZES[size]
                products.append(_instance(region, prefix, f"{family}.{other}", scaled))
    for api_name in ("gp3", "gp2"):
        attributes = {
            "volumeApiName": api_name,
            "regionCode": region,
            "usagetype": f"{prefix}EBS:VolumeUsage.{api_name}",
        }
        products.append(Product("AmazonEC2", "Storage", "GB-Mo", Decimal(storage[api_name]), attributes))
    attributes = {"regionCode": region, "usagetype": f"{prefix}EBS:SnapshotUsage"}
    products.append(Product("AmazonEC2", "Storage Snapshot", "GB-Mo", Decimal(storage["snapshot"]), attributes))
    return products


def default_products() -> list[Product]:
    """Return what the sandbox sells: a few instance types and volumes in two regions, at prices of 2026."""
    return [product for region in _HOURLY for product in _region_products(region)]


# What is sold now; `sell` changes it.
_sold: list[Product] = default_products()


def sell(products: Sequence[Product]) -> None:
    """Replace everything that is sold, for tests that need prices of their own."""
    _sold[:] = products


def on_demand_usd(region: str, instance_type: str) -> Decimal | None:
    """Return the hourly price of a type that is sold in *region*, or None."""
    expected = {"instanceType": instance_type, "regionCode": region}.items()
    return next((product.usd for product in _sold if expected <= product.attributes.items()), None)


class Pricing(BaseResponse):
    """The service pricing."""

    def __init__(self) -> None:
        super().__init__(service_name="pricing")
        self.automated_parameter_parsing = True

    def get_products(self) -> ActionResult:
        """List the products that pass every filter, each as a JSON string, in pages."""
        filters = [(f["Field"], f["Value"], f["Type"]) for f in self._get_param("Filters", [])]
        rows = [
            json.dumps(product.shown(number))
            for number, product in enumerate(_sold)
            if product.service == self._get_param("ServiceCode")
            and all(product.fits(*condition) for condition in filters)
        ]
        size = int(self._get_param("MaxResults") or PAGE_SIZES["GetProducts"])
        shown, token = page(rows, self._get_param("NextToken"), size)
        return ActionResult({"FormatVersion": "aws_v1", "PriceList": shown, "NextToken": token})

    def describe_services(self) -> ActionResult:
        """List the services that have products."""
        names: dict[str, set[str]] = {}
        for product in _sold:
            names.setdefault(product.service, {"productFamily"}).update(product.attributes)
        requested = self._get_param("ServiceCode")
        rows = [
            {"ServiceCode": code, "AttributeNames": sorted(attributes)}
            for code, attributes in names.items()
            if requested in (None, code)
        ]
        return ActionResult({"FormatVersion": "aws_v1", "Services": rows})
