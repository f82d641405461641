"""Which regions and services there are."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.caller import RefusedError, UnansweredError
from gpu_ami.aws.regions import enabled_regions, has_service, regions_by_state
from tests.support.fake_caller import FakeCaller


def test_the_public_list_says_where_a_service_is() -> None:
    """It comes in pages of ten, and the region may be on any of them."""
    pages: list[dict[str, object]] = [
        {"Parameters": [{"Value": "us-east-1"}], "NextToken": "1"},
        {"Parameters": [{"Value": "here"}]},
    ]

    caller = FakeCaller({"get_parameters_by_path": list(pages)}, region="here")
    assert has_service(caller, "batch")
    assert caller.requests[0][1]["Path"] == "/aws/service/global-infrastructure/services/batch/regions"
    assert not has_service(FakeCaller({"get_parameters_by_path": list(pages)}, region="there"), "batch")


def test_an_empty_list_says_nothing() -> None:
    """An empty answer must not read as: the service is nowhere, so nothing uses the AMI."""
    with pytest.raises(UnansweredError):
        has_service(FakeCaller({"get_parameters_by_path": [{"Parameters": []}]}), "batch")


@pytest.mark.parametrize("local", [{"Parameters": []}, RefusedError("ssm: no such path", "ValidationException")])
def test_where_the_list_cannot_be_read_another_region_answers(local: Any) -> None:
    """AWS serves it in some regions only; those that lack a service are mostly among the others."""
    there = {"Parameters": [{"Value": "us-east-1"}, {"Value": "ca-west-1"}]}

    assert has_service(FakeCaller({"get_parameters_by_path": [local, there]}, region="ca-west-1"), "batch")
    assert not has_service(FakeCaller({"get_parameters_by_path": [local, there]}, region="mx-central-1"), "batch")


@pytest.mark.parametrize("region", ["us-gov-west-1", "cn-north-1"])
def test_another_partition_is_not_asked(region: str) -> None:
    """Its regions are not in that list."""
    caller = FakeCaller({"get_parameters_by_path": [{"Parameters": []}, {"Parameters": [{"Value": "x"}]}]}, region)

    with pytest.raises(UnansweredError):
        has_service(caller, "batch")


def test_a_denied_list_says_nothing() -> None:
    """It is the permission that is missing, not the service."""
    with pytest.raises(RefusedError):
        has_service(FakeCaller({"get_parameters_by_path": [RefusedError("no", "AccessDeniedException")]}), "batch")


def test_regions_are_those_the_account_can_use() -> None:
    """For --regions all."""
    rows = [{"RegionName": "b"}, {"RegionName": "a"}]

    assert enabled_regions(FakeCaller({"describe_regions": [{"Regions": rows}]})) == ["a", "b"]
    with pytest.raises(UnansweredError):
        enabled_regions(FakeCaller({"describe_regions": [{"Regions": []}]}))


@pytest.mark.parametrize("state", ["opted-in", "opt-in-not-required", "enabling", "DISABLING", ""])
def test_only_a_region_that_is_off_by_its_word_is_off(state: str) -> None:
    """Being switched on or off, something may run there; a word of tomorrow says nothing of it either."""
    rows = [
        {"RegionName": "us-east-1", "OptInStatus": state},
        {"RegionName": "af-south-1", "OptInStatus": "not-opted-in"},
    ]

    assert regions_by_state(FakeCaller({"describe_regions": [{"Regions": rows}]})) == (["us-east-1"], ["af-south-1"])


@pytest.mark.parametrize(
    "rows", [[], [{"RegionName": "us-east-1"}], [{"RegionName": "x", "OptInStatus": "not-opted-in"}]]
)
def test_an_account_without_regions_is_no_answer(rows: list[dict[str, str]]) -> None:
    """Read nowhere, it would need nothing."""
    with pytest.raises(UnansweredError):
        regions_by_state(FakeCaller({"describe_regions": [{"Regions": rows}]}))
