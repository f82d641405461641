"""The Recycle Bin's rules: what they keep, and what they only seem to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gpu_ami.aws.caller import UnansweredError
from gpu_ami.aws.recycle_bin import IMAGE, SNAPSHOT, VOLUME, Rule, images_in_bin, rules, snapshots_in_bin
from tests.support.fake_caller import FakeCaller


def _rule(**more: Any) -> Rule:
    return Rule(**{"identifier": "1", "kind": IMAGE, "retention": timedelta(days=7)} | more)


@pytest.mark.parametrize(
    ("rule", "tags", "keeps"),
    [
        (_rule(), {}, True),
        (_rule(kind=SNAPSHOT), {}, False),
        (_rule(is_active=False), {}, False),
        (_rule(tags=(("a", "1"),)), {"a": "1"}, True),
        (_rule(tags=(("a", "1"),)), {"a": "2"}, False),
        (_rule(tags=(("a", None),)), {"a": "anything"}, True),
        (_rule(tags=(("a", "1"), ("b", "1"))), {"b": "1"}, True),
        (_rule(excluded=(("a", "1"),)), {"a": "1"}, False),
        (_rule(excluded=(("a", "1"),)), {}, True),
    ],
)
def test_a_rule_keeps_what_it_says(rule: Rule, tags: dict[str, str], keeps: bool) -> None:
    """`recoverable` is a promise: a rule for another type, tag or state must not make it."""
    assert rule.keeps(IMAGE, tags) is keeps


def test_rules_are_read_whole() -> None:
    """The listing leaves out tags and state; only the rule itself has them."""
    detail = {
        "Identifier": "1",
        "ResourceType": IMAGE,
        "RetentionPeriod": {"RetentionPeriodValue": 14, "RetentionPeriodUnit": "DAYS"},
        "Status": "pending",
        "ResourceTags": [{"ResourceTagKey": "a", "ResourceTagValue": "1"}, {"ResourceTagKey": "b"}],
        "ExcludeResourceTags": [{"ResourceTagKey": "c"}],
    }
    listed: Any = [{"Rules": [{"Identifier": "1"}]}, {"Rules": []}]
    caller = FakeCaller({"list_rules": listed, "get_rule": [detail]})

    (rule,) = rules(caller)

    assert rule == _rule(
        retention=timedelta(days=14), is_active=False, tags=(("a", "1"), ("b", None)), excluded=(("c", None),)
    )
    assert [given.get("ResourceType") for _, given in caller.requests] == [IMAGE, None, SNAPSHOT]


def test_rules_for_volumes_are_asked_for_alone() -> None:
    """A clean-up has nothing to do with them, and a sweep with nothing else."""
    caller = FakeCaller({"list_rules": [{"Rules": []}]})

    assert rules(caller, VOLUME) == ()
    assert [given["ResourceType"] for _, given in caller.requests] == [VOLUME]


def test_a_rule_that_makes_no_sense_is_an_error() -> None:
    """Half a rule promises nothing."""
    with pytest.raises(UnansweredError):
        rules(FakeCaller({"list_rules": [{"Rules": [{"Identifier": "1"}]}], "get_rule": [{"Identifier": "1"}]}))


def test_the_bins_contents_are_listed() -> None:
    """Restoring starts from what is really there."""
    images = [{"ImageId": "ami-1", "RecycleBinExitTime": "2026-12-01T00:00:00Z"}]

    found = images_in_bin(FakeCaller({"list_images_in_recycle_bin": [{"Images": images}]}))
    assert found["ami-1"] is not None
    snapshots = [{"SnapshotId": "snap-1"}]
    assert snapshots_in_bin(FakeCaller({"list_snapshots_in_recycle_bin": [{"Snapshots": snapshots}]})) == {
        "snap-1": None
    }
