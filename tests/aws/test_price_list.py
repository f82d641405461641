"""Prices as AWS answers them: botocore's own client and stubber, answers of the documented shape (synthetic)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import NoCredentialsError
from botocore.stub import Stubber

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.price_list import RATE_QUERIES, NoPriceError, Query, look_up, on_demand_query, one_price, spot_history
from gpu_ami.cost.price_table import RATES
from gpu_ami.errors import AwsError

_REGION = "ap-northeast-2"
_NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
_SNAPSHOT = RATE_QUERIES["snapshot_usd_per_gib_month"]


def _client(service: str) -> Any:
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    return boto3.client(service, region_name="us-east-1", **keys)  # type: ignore[call-overload]


class _Fake:
    """A way to AWS whose clients are given."""

    def __init__(self, **clients: Any) -> None:
        self.clients = clients
        self.regions: list[tuple[str, str]] = []

    def calling(self, service: str, region: str) -> AbstractContextManager[Any]:
        self.regions.append((service, region))
        return nullcontext(self.clients[service])


def _caller(**clients: Any) -> Caller:
    """Return a caller of the region whose services are *clients*."""
    return Caller(cast("Access", _Fake(**clients)), _REGION)


def _entry(usagetype: str, *tiers: tuple[str, str], unit: str = "GB-Mo", currency: str = "USD", sku: str = "S1") -> str:
    """Return a price list entry, a JSON document in a string; *tiers* are the beginning of each and its price."""
    dimensions = {
        f"{sku}.T.{number}": {"unit": unit, "beginRange": begin, "pricePerUnit": {currency: price}}
        for number, (begin, price) in enumerate(tiers)
    }
    return json.dumps(
        {
            "product": {"sku": sku, "attributes": {"usagetype": usagetype}},
            "terms": {"OnDemand": {f"{sku}.T": {"priceDimensions": dimensions}}} if tiers else {},
        }
    )


@contextmanager
def _answering(*pages: list[str]) -> Iterator[tuple[Caller, Stubber]]:
    """Yield a caller of a Price List that answers with *pages*."""
    client = _client("pricing")
    with Stubber(client) as stub:
        for number, page in enumerate(pages):
            more = {"NextToken": f"t{number}"} if number + 1 < len(pages) else {}
            stub.add_response("get_products", {"PriceList": page, **more})
        yield _caller(pricing=client), stub


def _price(*pages: list[str], query: Query = _SNAPSHOT) -> Decimal:
    with _answering(*pages) as (caller, _):
        return one_price(caller, query, what="snapshots")


def test_one_product_is_one_price() -> None:
    """Exactly, in Decimal: AWS writes ten digits."""
    assert _price([_entry("APN2-EBS:SnapshotUsage", ("0", "0.0500000000"))]) == Decimal("0.05")


def test_the_region_is_asked_by_its_code_in_the_region_that_answers() -> None:
    """The Price List answers in a few regions only, for all of them; location would be an English name."""
    client = _client("pricing")
    with Stubber(client) as stub:
        expected = {
            "ServiceCode": "AmazonEC2",
            "Filters": [
                {"Type": "TERM_MATCH", "Field": "regionCode", "Value": _REGION},
                {"Type": "TERM_MATCH", "Field": "productFamily", "Value": "Storage Snapshot"},
            ],
        }
        stub.add_response(
            "get_products", {"PriceList": [_entry("EBS:SnapshotUsage", ("0", "0.05"))]}, expected_params=expected
        )
        access = _Fake(pricing=client)

        caller = Caller(cast("Access", access), _REGION)
        assert one_price(caller, _SNAPSHOT, what="x") == Decimal("0.05")

    assert access.regions == [("pricing", "us-east-1")]


def test_an_instances_hour_is_asked_so_that_one_product_fits() -> None:
    """Linux, shared, used, no licence, on demand: each missing filter would bring a second product."""
    filters = {item["Field"]: item["Value"] for item in on_demand_query("g5.xlarge").filters(_REGION)}

    assert filters == {
        "regionCode": _REGION,
        "instanceType": "g5.xlarge",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "capacitystatus": "Used",
        "preInstalledSw": "NA",
        "marketoption": "OnDemand",
    }
    hour = _entry("APN2-BoxUsage:g5.xlarge", ("0", "1.2370000000"), unit="Hrs")
    assert _price([hour], query=on_demand_query("g5.xlarge")) == Decimal("1.237")


def test_all_pages_are_read() -> None:
    """The one product may be on the last page, and a second one there must be noticed."""
    other, own = _entry("APN2-EBS:SnapshotArchiveStorage", ("0", "0.0125")), _entry("EBS:SnapshotUsage", ("0", "0.05"))

    assert _price([other], [], [own]) == Decimal("0.05")
    with pytest.raises(NoPriceError, match="2 products"):
        _price([own], [_entry("APN2-EBS:SnapshotUsage", ("0", "0.06"))])


def test_two_products_are_shown_and_none_is_chosen() -> None:
    """A guess would be wrong half of the time; the reader sees which there are."""
    with pytest.raises(NoPriceError) as caught:
        _price(
            [
                _entry("APN2-EBS:SnapshotUsage", ("0", "0.05"), sku="A"),
                _entry("APN2-EBS:SnapshotUsage", ("0", "0.07"), sku="B"),
            ]
        )

    assert str(caught.value) == (
        "2 products fit snapshots in ap-northeast-2, one was expected: "
        "APN2-EBS:SnapshotUsage $0.05 per GB-Mo (sku A), APN2-EBS:SnapshotUsage $0.07 per GB-Mo (sku B). "
        "Give the price with --set."
    )


@pytest.mark.parametrize(
    "page",
    [
        [],
        [_entry("APN2-EBS:SnapshotUsageUnder", ("0", "0.05"))],
        [_entry("APN2-XEBS:SnapshotUsage", ("0", "0.05"))],
        [_entry("APN2-EBS:SnapshotUsage", ("0", "0.0000000000"))],
        [_entry("APN2-EBS:SnapshotUsage", ("0", "free"))],
        [_entry("APN2-EBS:SnapshotUsage")],
    ],
    ids=["empty", "longer usage type", "other usage type", "zero", "no number", "no terms"],
)
def test_no_price_is_an_error_and_not_zero(page: list[str]) -> None:
    """An empty answer, a 0.0 entry and another product are all the same: unknown."""
    with pytest.raises(NoPriceError, match="has no price of snapshots in ap-northeast-2"):
        _price(page)


def test_a_price_in_another_currency_is_refused() -> None:
    """A partition that charges in CNY."""
    with pytest.raises(NoPriceError, match="is in CNY, not in USD"):
        _price([_entry("CNN1-EBS:SnapshotUsage", ("0", "0.31"), currency="CNY")])


def test_of_tiers_the_first_that_is_paid_for_counts() -> None:
    """Some begin with a free one, and their order in the document is arbitrary."""
    tiers = [("51200", "0.022"), ("0", "0.0000000000"), ("1", "0.025")]

    assert _price([_entry("EBS:SnapshotUsage", *tiers)]) == Decimal("0.025")


@pytest.mark.parametrize(
    ("rate", "usagetype", "unit", "price", "usd"),
    [
        ("gp3_usd_per_mib_s_month", "EBS:VolumeP-Throughput.gp3", "GiBps-mo", "40.96", "0.04"),
        ("gp3_usd_per_mib_s_month", "EBS:VolumeP-Throughput.gp3", "MiBps-mo", "0.04", "0.04"),
        ("s3_usd_per_10k_gets", "APN2-Requests-Tier2", "Requests", "0.00000035", "0.0035"),
        ("initialization_usd_per_gib_mib_s", "EBS:VolumeInitializationRate", "x", "0.000012", "0.000012"),
    ],
)
def test_prices_are_given_in_our_units(rate: str, usagetype: str, unit: str, price: str, usd: str) -> None:
    """AWS sells throughput by GiB/s and requests one by one."""
    assert _price([_entry(usagetype, ("0", price), unit=unit)], query=RATE_QUERIES[rate]) == Decimal(usd)


def test_what_has_no_known_family_is_asked_by_a_part_of_its_usage_type() -> None:
    """The price of volume initialization is not documented under a name."""
    filters = RATE_QUERIES["initialization_usd_per_gib_mib_s"].filters(_REGION)

    assert {"Type": "CONTAINS", "Field": "usagetype", "Value": "VolumeInitialization"} in filters


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"product": {"attributes": {}}}', '{"product": 1}'], ids=str)
def test_a_malformed_entry_is_one_line(text: str) -> None:
    """Never a traceback over somebody else's JSON."""
    with pytest.raises(NoPriceError, match="makes no sense"):
        _price([text])


def test_every_query_is_for_a_rate_of_the_table() -> None:
    """A typing error in a name would look up a price that nobody uses."""
    assert RATE_QUERIES.keys() <= RATES.keys()


def test_spot_history_is_read_to_its_end() -> None:
    """Paged, for Linux, with the id of the zone: names of zones differ between accounts."""
    client = _client("ec2")
    start = _NOW - timedelta(days=30)
    row = {
        "AvailabilityZone": "r1a",
        "Timestamp": start,
        "ProductDescription": "Linux/UNIX",
        "InstanceType": "g5.xlarge",
    }
    with Stubber(client) as stub:
        expected = {
            "InstanceTypes": ["g5.xlarge"],
            "ProductDescriptions": ["Linux/UNIX"],
            "StartTime": start,
            "EndTime": _NOW,
        }
        rows = [{**row, "SpotPrice": "0.5", "AvailabilityZoneId": "apne2-az1"}, {**row, "SpotPrice": "0.0"}]
        stub.add_response("describe_spot_price_history", {"SpotPriceHistory": rows, "NextToken": "t"}, expected)
        last = {"SpotPriceHistory": [{**row, "SpotPrice": "0.4"}]}
        stub.add_response("describe_spot_price_history", last, {**expected, "NextToken": "t"})

        history = spot_history(_caller(ec2=client), "g5.xlarge", now=_NOW, days=30)

    assert [(change.zone, change.usd) for change in history.changes] == [
        ("apne2-az1", Decimal("0.5")),
        ("r1a", Decimal("0.4")),
    ]


def test_no_spot_prices_are_said() -> None:
    """Not every type is sold on spot everywhere."""
    client = _client("ec2")
    with Stubber(client) as stub:
        stub.add_response("describe_spot_price_history", {"SpotPriceHistory": []})

        with pytest.raises(NoPriceError, match=r"g9\.xlarge has no spot price in ap-northeast-2"):
            spot_history(_caller(ec2=client), "g9.xlarge", now=_NOW, days=30)


class _Client:
    """A client whose every call is answered by one function; for calls side by side."""

    def __init__(self, answer: Callable[..., dict[str, Any]]) -> None:
        self._answer = answer
        self.requests: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def __getattr__(self, _operation: str) -> Callable[..., dict[str, Any]]:
        return self._called

    def _called(self, **parameters: Any) -> dict[str, Any]:
        with self._lock:
            self.requests.append(parameters)
        return self._answer(**parameters)


def _shop(**request: Any) -> dict[str, Any]:
    """Sell g5.xlarge and snapshots, nothing else."""
    filters = {item["Field"]: item["Value"] for item in request["Filters"]}
    if filters.get("instanceType") == "g5.xlarge":
        return {"PriceList": [_entry("BoxUsage:g5.xlarge", ("0", "1.237"), unit="Hrs")]}
    if filters.get("productFamily") == "Storage Snapshot":
        return {"PriceList": [_entry("EBS:SnapshotUsage", ("0", "0.05"))]}
    return {"PriceList": []}


def _spot(**request: Any) -> dict[str, Any]:
    if request["InstanceTypes"] != ["g5.xlarge"]:
        return {"SpotPriceHistory": []}
    return {"SpotPriceHistory": [{"AvailabilityZone": "a", "Timestamp": request["StartTime"], "SpotPrice": "0.4"}]}


def test_a_round_of_look_ups_brings_what_there_is_and_names_the_rest() -> None:
    """One missing price is no reason to lose the others."""
    caller = _caller(pricing=_Client(_shop), ec2=_Client(_spot))
    rates = ["snapshot_usd_per_gib_month", "nat_usd_per_gb", "cross_region_usd_per_gb"]

    found = look_up(caller, types=["g5.xlarge", "c9.x", "g5.xlarge"], rates=rates, now=_NOW)

    assert found.on_demand == {"g5.xlarge": Decimal("1.237")}
    assert found.rates == {"snapshot_usd_per_gib_month": Decimal("0.05")}
    assert list(found.spot) == ["g5.xlarge"]
    assert found.spot["g5.xlarge"].start == _NOW - timedelta(days=30)
    assert list(found.problems) == ["c9.x on-demand", "nat_usd_per_gb", "c9.x spot"]


def test_missing_credentials_are_found_out_once() -> None:
    """Each further call would wait for the instance metadata again."""

    def refuse(**_request: Any) -> dict[str, Any]:
        raise NoCredentialsError

    pricing = _Client(refuse)

    with pytest.raises(AwsError, match=r"No AWS credentials to look up the price of g5\.xlarge on-demand"):
        look_up(_caller(pricing=pricing, ec2=_Client(_spot)), types=["g5.xlarge", "b"], rates=RATES, now=_NOW)

    assert len(pricing.requests) == 1


def test_a_later_refusal_costs_only_its_own_price() -> None:
    """Someone may read the Price List and not the spot history."""

    def refuse(**_request: Any) -> dict[str, Any]:
        raise NoCredentialsError

    caller = _caller(pricing=_Client(_shop), ec2=_Client(refuse))

    found = look_up(caller, types=["g5.xlarge"], rates=[], now=_NOW)

    assert found.on_demand == {"g5.xlarge": Decimal("1.237")}
    assert "No AWS credentials" in found.problems["g5.xlarge spot"]


def test_a_client_error_is_one_line() -> None:
    """AWS's own code and message."""
    client = _client("pricing")
    with Stubber(client) as stub:
        stub.add_client_error("get_products", "AccessDeniedException", "no pricing:GetProducts")

        with pytest.raises(AwsError, match=r"refused to look up the price of x in .*: AccessDeniedException"):
            one_price(_caller(pricing=client), _SNAPSHOT, what="x")
