"""Looks up prices in the Price List API and the spot price history."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from gpu_ami.aws.caller import Caller
from gpu_ami.errors import AwsError
from gpu_ami.units import show_count

# The Price List API answers in a few regions only, for all of them.
_PRICE_LIST_REGION = "us-east-1"
# AWS keeps 90 days; a month says enough about the next one.
SPOT_DAYS = 30
_SHOWN_CANDIDATES = 5
_AT_ONCE = 8

# What is looked up and of what: ("on_demand", "g5.xlarge").
_Job = tuple[str, str]


class NoPriceError(AwsError):
    """AWS answered, but not with exactly one price in USD; other prices may still be there."""


@dataclass(frozen=True)
class Query:
    """How to find one price in the Price List.

    Attributes:
        service: Such as ``AmazonEC2``.
        usagetype: What the usage type ends with. Its beginning is the region's, and irregular.
        family: The product family, where the service has many products.
        attributes: Further attributes that the product must have.
        times: What the price is multiplied with to be in our unit, by AWS's unit; ``""`` is any other one.
        contains: Only products whose usage type contains this; for what has no known family.
    """

    service: str
    usagetype: str
    family: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, Decimal] = field(default_factory=dict)
    contains: str = ""

    def filters(self, region: str) -> list[dict[str, str]]:
        """Return GetProducts' filters; ``regionCode`` rather than ``location``, which is an English name."""
        exact = {"regionCode": region, **({"productFamily": self.family} if self.family else {}), **self.attributes}
        terms = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in exact.items()]
        part = [{"Type": "CONTAINS", "Field": "usagetype", "Value": self.contains}] if self.contains else []
        return [*terms, *part]


def on_demand_query(instance_type: str) -> Query:
    """Return how to find an hour of *instance_type* on demand: Linux, shared tenancy, no licence, no reservation."""
    attributes = {
        "instanceType": instance_type,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "capacitystatus": "Used",
        "preInstalledSw": "NA",
        "marketoption": "OnDemand",
    }
    return Query("AmazonEC2", f"BoxUsage:{re.escape(instance_type)}", attributes=attributes)


# Where each rate of the price table is found. The price of a copy depends on where it goes: it has no query.
RATE_QUERIES: Mapping[str, Query] = {
    "snapshot_usd_per_gib_month": Query("AmazonEC2", "EBS:SnapshotUsage", "Storage Snapshot"),
    "archive_usd_per_gib_month": Query("AmazonEC2", "EBS:SnapshotArchiveStorage", "Storage Snapshot"),
    "gp3_usd_per_gib_month": Query("AmazonEC2", r"EBS:VolumeUsage\.gp3", "Storage", {"volumeApiName": "gp3"}),
    "gp3_usd_per_iops_month": Query("AmazonEC2", r"EBS:VolumeP-IOPS\.gp3", "System Operation"),
    # Sold in GiB/s, priced in the EBS guide by MiB/s.
    "gp3_usd_per_mib_s_month": Query(
        "AmazonEC2", r"EBS:VolumeP-Throughput\.gp3", "Provisioned Throughput", times={"GiBps-mo": 1 / Decimal(1024)}
    ),
    "gp2_usd_per_gib_month": Query("AmazonEC2", r"EBS:VolumeUsage\.gp2", "Storage", {"volumeApiName": "gp2"}),
    # Its usage type is not documented; what AWS calls the feature is.
    "initialization_usd_per_gib_mib_s": Query("AmazonEC2", ".*", contains="VolumeInitialization"),
    "fsr_usd_per_hour": Query("AmazonEC2", "EBS:FastSnapshotRestore", "Fast Snapshot Restore"),
    "nat_usd_per_hour": Query("AmazonEC2", "NatGateway-Hours", "NAT Gateway"),
    "nat_usd_per_gb": Query("AmazonEC2", "NatGateway-Bytes", "NAT Gateway"),
    "endpoint_usd_per_hour": Query("AmazonVPC", "VpcEndpoint-Hours", "VpcEndpoint"),
    "endpoint_usd_per_gb": Query("AmazonVPC", "VpcEndpoint-Bytes", "VpcEndpoint"),
    "ipv4_usd_per_hour": Query("AmazonVPC", "PublicIPv4:InUseAddress"),
    "ecr_usd_per_gb_month": Query("AmazonECR", "TimedStorage-ByteHrs"),
    "s3_usd_per_gb_month": Query("AmazonS3", "TimedStorage-ByteHrs", "Storage"),
    "s3_usd_per_10k_gets": Query("AmazonS3", "Requests-Tier2", "API Request", times={"": Decimal(10_000)}),
    "cross_zone_usd_per_gb": Query("AmazonEC2", "DataTransfer-Regional-Bytes", "Data Transfer"),
}


@dataclass(frozen=True)
class SpotChange:
    """From *at* on, an hour in *zone* cost *usd*."""

    zone: str
    at: datetime
    usd: Decimal


@dataclass(frozen=True)
class SpotHistory:
    """The spot prices of one instance type.

    Attributes:
        start: Where the period begins; the change that was in force then is among the changes.
        end: Where it ends.
        changes: Every change in it, in any order: AWS lists changes, not prices over time.
    """

    start: datetime
    end: datetime
    changes: tuple[SpotChange, ...]


@dataclass(frozen=True)
class FoundPrices:
    """The prices that a round of queries found.

    Attributes:
        on_demand: USD an hour by instance type.
        spot: The history by instance type; a type without one is not sold on spot here.
        rates: USD by rate.
        problems: Why something could not be looked up, by its name.
    """

    on_demand: Mapping[str, Decimal]
    spot: Mapping[str, SpotHistory]
    rates: Mapping[str, Decimal]
    problems: Mapping[str, str] = field(default_factory=dict)


def look_up(
    caller: Caller, *, types: Iterable[str], rates: Iterable[str], now: datetime, days: int = SPOT_DAYS
) -> FoundPrices:
    """Return the prices of the caller's region as AWS gives them now.

    The first query goes alone: where credentials are missing, the others would only repeat it.

    Args:
        caller: Calls the region whose prices they are.
        types: Instance types, at least one.
        rates: Keys of `RATE_QUERIES`; others are left out.
        now: Where the spot history ends.
        days: How long it is, at most 90.

    Raises:
        AwsError: AWS could not be reached at all.
    """
    requested = list(dict.fromkeys(types))
    history = functools.partial(spot_history, caller, now=now, days=days)
    queries = {("on_demand", name): (f"{name} on-demand", on_demand_query(name)) for name in requested}
    queries |= {("rates", name): (name, RATE_QUERIES[name]) for name in rates if name in RATE_QUERIES}
    jobs: dict[_Job, Callable[[], Any]] = {
        job: functools.partial(one_price, caller, query, what=what) for job, (what, query) in queries.items()
    }
    jobs |= {("spot", name): functools.partial(history, name) for name in requested}
    found: dict[str, dict[str, Any]] = {"on_demand": {}, "rates": {}, "spot": {}}
    problems = {}
    for (kind, name), answer in _in_parallel(jobs):
        if isinstance(answer, AwsError):
            problems[name if kind == "rates" else f"{name} {kind.replace('_', '-')}"] = str(answer)
        else:
            found[kind][name] = answer
    return FoundPrices(found["on_demand"], found["spot"], found["rates"], problems)


def one_price(caller: Caller, query: Query, *, what: str) -> Decimal:
    """Return the one price that *query* finds in the caller's region, in USD; of tiers the first that is paid for.

    Args:
        caller: Calls the region whose price it is.
        query: Which price.
        what: What errors call it.

    Raises:
        NoPriceError: No product fits, or several do; the line shows them. Or the price is not in USD.
        AwsError: The Price List could not be queried.
    """
    region = caller.region
    pages = caller.elsewhere(_PRICE_LIST_REGION).whole_pages(
        "pricing",
        "get_products",
        doing=f"look up the price of {what} in {region}",
        ServiceCode=query.service,
        Filters=query.filters(region),
    )
    texts = [text for page in pages for text in page.get("PriceList", [])]
    ending = re.compile(rf"(?:^|-){query.usagetype}$")
    products = [product for product in map(_product, texts) if ending.search(product.usagetype)]
    paid = [product for product in products if product.usd]
    if len(paid) == 1:
        return Decimal(paid[0].usd or 0) * query.times.get(paid[0].unit, query.times.get("", Decimal(1)))
    if paid:
        shown = ", ".join(map(str, paid[:_SHOWN_CANDIDATES]))
        count = show_count(len(paid), "product")
        msg = f"{count} fit {what} in {region}, one was expected: {shown}. Give the price with --set."
    elif any(product.currencies for product in products):
        currencies = ", ".join(sorted({currency for product in products for currency in product.currencies}))
        msg = f"The price of {what} in {region} is in {currencies}, not in USD: give it with --set."
    else:
        msg = f"The Price List has no price of {what} in {region}: is the name right?"
    raise NoPriceError(msg)


def spot_history(caller: Caller, instance_type: str, *, now: datetime, days: int) -> SpotHistory:
    """Return the Linux spot prices of *instance_type* in the caller's region over the last *days*.

    Raises:
        NoPriceError: There are none.
        AwsError: EC2 could not be queried.
    """
    start = now - timedelta(days=days)
    pages = caller.whole_pages(
        "ec2",
        "describe_spot_price_history",
        doing=f"look up the spot prices of {instance_type} in {caller.region}",
        InstanceTypes=[instance_type],
        ProductDescriptions=["Linux/UNIX"],
        StartTime=start,
        EndTime=now,
    )
    rows = [row for page in pages for row in page.get("SpotPriceHistory", [])]
    changes = tuple(
        SpotChange(row.get("AvailabilityZoneId") or row["AvailabilityZone"], row["Timestamp"], usd)
        for row in rows
        if (usd := _usd(row.get("SpotPrice")))
    )
    if not changes:
        msg = f"{instance_type} has no spot price in {caller.region}."
        raise NoPriceError(msg)
    return SpotHistory(start, now, changes)


@dataclass(frozen=True)
class _Product:
    """A product of the Price List, as far as it matters here."""

    sku: str
    usagetype: str
    unit: str
    usd: Decimal | None
    currencies: frozenset[str]

    def __str__(self) -> str:
        return f"{self.usagetype} ${self.usd} per {self.unit} (sku {self.sku})"


def _product(text: str) -> _Product:
    """Return the product that a price list entry, a JSON document in a string, describes.

    Raises:
        NoPriceError: It is not such a document.
    """
    try:
        entry = json.loads(text)
        product = entry["product"]
        tiers = [
            tier
            for term in entry.get("terms", {}).get("OnDemand", {}).values()
            for tier in term["priceDimensions"].values()
        ]
        # The first tier that costs something: some begin with a free one.
        tiers.sort(key=lambda tier: Decimal(tier.get("beginRange") or 0))
        priced = [(tier.get("unit", ""), usd) for tier in tiers if (usd := _usd(tier["pricePerUnit"].get("USD")))]
        unit, usd = priced[0] if priced else ("", None)
        currencies = frozenset(name for tier in tiers for name in tier["pricePerUnit"] if name != "USD")
        return _Product(product.get("sku", "unknown"), product["attributes"]["usagetype"], unit, usd, currencies)
    except (ValueError, LookupError, TypeError, AttributeError, InvalidOperation) as exc:
        msg = f"The Price List answered with an entry that makes no sense ({type(exc).__name__}): try again."
        raise NoPriceError(msg) from exc


def _usd(text: object) -> Decimal | None:
    """Return the price that *text* says; None for none, and for 0.0, which AWS writes for it."""
    try:
        usd = Decimal(str(text))
    except InvalidOperation:
        return None
    return usd if usd.is_finite() and usd > 0 else None


def _in_parallel(jobs: Mapping[_Job, Callable[[], Any]]) -> Iterator[tuple[_Job, Any]]:
    """Yield each job's name and its answer, or the AwsError that it ended with.

    Raises:
        AwsError: The first job, which runs alone, could not reach AWS at all.
    """
    from concurrent.futures import ThreadPoolExecutor

    def attempt(name: _Job, expected: type[AwsError]) -> Any:
        try:
            return jobs[name]()
        except expected as exc:
            return exc

    first, *others = jobs
    yield first, attempt(first, NoPriceError)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        yield from zip(others, pool.map(lambda name: attempt(name, AwsError), others), strict=True)
