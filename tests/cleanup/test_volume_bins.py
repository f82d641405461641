"""`invoke sweep` says which deleted volumes stay billed in a Recycle Bin, and until when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.build_resources import BuildResource
from gpu_ami.cleanup import sweep
from gpu_ami.cleanup.sweep import Request
from gpu_ami.cleanup.volume_bins import volume_bins
from gpu_ami_sandbox.aws.ec2.recycle_bin import SNAPSHOT, VOLUME, recycle_bin
from tests.cleanup.test_sweep import RUN, incomplete_build
from tests.support.account import REGION, World, task
from tests.support.fake_caller import FakeCaller
from tests.support.schemas import problems

NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


def _rule(here: World, days: int, kind: str = VOLUME, **more: Any) -> dict[str, Any]:
    period = {"RetentionPeriodValue": days, "RetentionPeriodUnit": "DAYS"}
    return recycle_bin(here.maker.ec2).add_rule({"ResourceType": kind, "RetentionPeriod": period} | more, "arn")


def _tag(key: str, value: str) -> list[dict[str, str]]:
    return [{"ResourceTagKey": key, "ResourceTagValue": value}]


def _sweep(here: World, root: Path, output: Any = "json", **request: Any) -> tuple[dict[str, Any], str]:
    done = task(here, root, output=output)
    sweep.run(done.run, Request(**request))
    if output != "json":
        return {}, " ".join(done.out.getvalue().split())
    assert problems("sweep", done.document) == []
    return done.document, ""


@pytest.fixture
def left(here: World) -> dict[str, str]:
    """What a build left, its instance's own volume included."""
    here.in_use()
    found = incomplete_build(here)
    instance = here.maker.ec2.get_instance(found["instance"])
    ((_, attached),) = list(instance.get_block_device_mapping)
    return found | {"attached": attached.volume_id}


def test_volumes_that_a_rule_keeps_are_named_with_their_end(here: World, tmp_path: Path, left: dict[str, str]) -> None:
    """Whoever sweeps to save money has to know what it goes on to cost; and that is what becomes of them."""
    _rule(here, 3)
    _rule(here, 7, ResourceTags=_tag("gpu-ami:run", RUN))

    document, _ = _sweep(here, tmp_path)

    (bin_,) = document["recycle_bin"]
    assert (bin_["region"], bin_["rules"], bin_["error"]) == (REGION, 2, None)
    by_volume = {row["volume_id"]: row for row in bin_["volumes"]}
    assert {key: row["instance_id"] for key, row in by_volume.items()} == {
        left["volume"]: None,
        left["attached"]: left["instance"],
    }
    days = {
        key: round((datetime.fromisoformat(row["billed_until"].replace("Z", "+00:00")) - here.now) / timedelta(days=1))
        for key, row in by_volume.items()
    }
    assert days == {left["volume"]: 7, left["attached"]: 3}
    _, said = _sweep(here, tmp_path, "table")
    assert f"2 volumes go to the Recycle Bin of {REGION} when deleted, and cost as before until 20" in said
    assert f"UTC at the latest: {', '.join(sorted(by_volume))}" in said

    _sweep(here, tmp_path, yes=True)
    kept = recycle_bin(here.maker.ec2).volumes
    assert {key: (one.exits - one.entered).days for key, one in kept.items()} == days


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"kind": SNAPSHOT},
        {"ResourceTags": _tag("team", "x")},
        {"ExcludeResourceTags": _tag("gpu-ami:run", RUN)},
        {"Status": "pending"},
    ],
    ids=["no rule", "of snapshots", "other tag", "excluded", "not active yet"],
)
def test_volumes_that_no_rule_keeps_are_not_talked_about(
    here: World, tmp_path: Path, left: dict[str, str], rules: dict[str, Any]
) -> None:
    """They are simply gone."""
    here.maker.ec2.get_volume(left["attached"]).add_tags({"gpu-ami:run": RUN})
    if rules:
        status = rules.pop("Status", "available")
        _rule(here, 7, **rules)["Status"] = status

    document, _ = _sweep(here, tmp_path)

    assert [bin_["volumes"] for bin_ in document["recycle_bin"]] == [[]]
    assert "Recycle Bin" not in _sweep(here, tmp_path, "table")[1]


FAULTS: dict[str, Callable[[World], object]] = {
    "denied": lambda here: here.aws.gate.deny("rbin:*"),
    "a rule denied": lambda here: here.aws.gate.deny("rbin:GetRule"),
    "cut": lambda here: here.aws.gate.cut(service="rbin"),
    "500": lambda here: here.aws.gate.fail("InternalServerException", service="rbin", status=500),
    "unknown type": lambda here: here.aws.gate.fail("ValidationException", service="rbin"),
    "malformed": lambda here: here.aws.gate.reply(b"{}", action="ListRules"),
    "half a rule": lambda here: here.aws.gate.reply(b'{"Identifier": "1"}', action="GetRule"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_rules_that_cannot_be_read_are_said_to_be_unknown(
    here: World, tmp_path: Path, left: dict[str, str], fault: str
) -> None:
    """Silence would say that nothing goes on to cost; the sweep itself needs no rule."""
    _rule(here, 7)
    FAULTS[fault](here)

    document, _ = _sweep(here, tmp_path)

    (bin_,) = document["recycle_bin"]
    assert bin_["error"]
    assert bin_["volumes"] == []
    assert (document["blocks"], document["totals"]["delete"]) == ([], 7)
    expected = f"Whether deleted volumes go to a Recycle Bin in {REGION}, and are billed there, is not known: rbin:"
    assert expected in _sweep(here, tmp_path, "table")[1]
    removed, _ = _sweep(here, tmp_path, yes=True)
    assert {result["status"] for result in removed["results"]} == {"deleted"}


def test_nothing_is_asked_where_no_volume_goes(here: World, tmp_path: Path) -> None:
    """Two calls for nothing, in each region."""
    here.in_use()
    tags = {"gpu-ami:run": RUN, "gpu-ami:family": "gpu-batch", "gpu-ami:pipeline": "gpu-ami-pipeline"}
    here.maker.ec2.create_key_pair(f"packer_{RUN}", "ed25519", tags).create_time = datetime(2025, 1, 15)  # noqa: DTZ001

    document, _ = _sweep(here, tmp_path)

    assert (document["totals"]["delete"], document["recycle_bin"]) == (1, [])
    assert "ListRules" not in here.calls()


def _resource(kind: str, identifier: str) -> BuildResource:
    return BuildResource(kind=kind, identifier=identifier, region="r", run="1", created=None, state="", tags={})


def test_a_volume_that_outlives_its_instance_is_not_in_the_bin() -> None:
    """Only those that EC2 deletes with the instance go there; the others are for the next sweep."""
    rule = {
        "Identifier": "1",
        "ResourceType": VOLUME,
        "RetentionPeriod": {"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"},
        "Status": "available",
    }
    rows = [
        {"VolumeId": f"vol-{n}", "Attachments": [{"InstanceId": "i-1", "DeleteOnTermination": goes}]}
        for n, goes in enumerate((True, False))
    ]
    caller = FakeCaller(
        {"list_rules": [{"Rules": [{"Identifier": "1"}]}], "get_rule": [rule], "describe_volumes": [{"Volumes": rows}]}
    )

    (bin_,) = volume_bins({"r": caller}, [_resource("instance", "i-1"), _resource("key-pair", "k")], NOW)

    assert [(one.volume_id, one.instance_id, one.billed_until) for one in bin_.volumes] == [
        ("vol-0", "i-1", NOW + timedelta(days=7))
    ]


def test_volumes_of_instances_that_cannot_be_listed_are_unknown() -> None:
    """Half of the volumes would look like all of them."""
    rule = {
        "Identifier": "1",
        "ResourceType": VOLUME,
        "RetentionPeriod": {"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"},
        "Status": "available",
    }
    caller = FakeCaller(
        {
            "list_rules": [{"Rules": [{"Identifier": "1"}]}],
            "get_rule": [rule],
            "describe_volumes": [{"Volumes": [{"VolumeId": "vol-1"}]}],
        }
    )

    (bin_,) = volume_bins({"r": caller}, [_resource("instance", "i-1"), _resource("volume", "vol-2")], NOW)

    assert bin_.volumes == ()
    assert "DescribeVolumes" in str(bin_.error)
