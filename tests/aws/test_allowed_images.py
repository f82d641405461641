"""Allowed AMIs: each condition of a criterion, how they go together, and what EC2 itself says."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gpu_ami.aws.allowed_images import Settings, evaluate, settings
from gpu_ami.aws.caller import UnansweredError
from tests.support.fake_caller import FakeCaller

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
AMAZON = "591542846629"


def ago(days: float) -> str:
    """Return the time so many days before, as EC2 writes it."""
    return (NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


ROW: dict[str, Any] = {
    "ImageId": "ami-1",
    "Name": "al2023-ami-ecs-gpu-hvm-2023.0.20261012",
    "OwnerId": AMAZON,
    "ImageOwnerAlias": "amazon",
    "CreationDate": ago(20),
    "DeprecationTime": ago(-700),
}
MARK = {
    "WatermarkKey": "123456789012:golden",
    "SourceImageRegion": "us-east-1",
    "SourceImageCreationTime": NOW - timedelta(days=20),
    "WatermarkCreationTime": NOW - timedelta(days=10),
}
SCAN = {
    "HighestFindingSeverityLabel": "medium",
    "FindingScanDate": NOW - timedelta(days=3),
    "MediumFixAvailableSince": NOW - timedelta(days=12),
}


def verdict(*criteria: dict[str, Any], **row: Any) -> tuple[bool | None, str]:
    """Return whether the criteria let the AMI in, and why (not)."""
    found = evaluate(Settings("enabled", criteria, "account"), ROW | row, now=NOW)
    return found.allowed, found.reason


@pytest.mark.parametrize(
    ("criterion", "row", "allowed", "reason"),
    [
        ({"ImageProviders": ["amazon"]}, {}, True, "by criterion 1"),
        ({"ImageProviders": [AMAZON]}, {}, True, "by criterion 1"),
        ({"ImageProviders": ["123456789012", "amazon"]}, {}, True, "by criterion 1"),
        ({"ImageProviders": ["amazon"]}, {"ImageOwnerAlias": None}, False, f"its owner ({AMAZON}) is not among amazon"),
        ({"ImageProviders": ["aws-marketplace"]}, {"ImageOwnerAlias": "aws-marketplace"}, True, ""),
        (
            {"ImageProviders": ["aws-backup-vault", "123456789012"]},
            {},
            False,
            "its owner (591542846629, amazon) is not",
        ),
        ({"ImageProviders": ["none"]}, {}, False, "is not among none"),
        ({"ImageProviders": [str(10**11 + n) for n in range(200)]}, {}, False, "and 197 more"),
        ({"ImageProviders": ["partners"]}, {}, None, "is not among partners"),
        ({"ImageNames": ["al2023-ami-ecs-gpu-*"]}, {}, True, ""),
        ({"ImageNames": ["al????-ami-*"]}, {}, True, ""),
        ({"ImageNames": ["golden-*", "al2023"]}, {}, False, "its name fits none of golden-*, al2023"),
        # Brackets and dots stand for themselves.
        ({"ImageNames": ["[a]l2023*", "al2023.*"]}, {}, False, "its name fits none"),
        ({"MarketplaceProductCodes": ["abc"]}, {}, False, "it has no product code of abc"),
        ({"MarketplaceProductCodes": ["abc"]}, {"ProductCodes": [{"ProductCodeId": "abc"}]}, True, ""),
        ({"CreationDateCondition": {"MaximumDaysSinceCreated": 20}}, {}, True, ""),
        ({"CreationDateCondition": {"MaximumDaysSinceCreated": 19}}, {}, False, "made 20 days ago, at most 19 are"),
        ({"CreationDateCondition": {"MaximumDaysSinceCreated": 19}}, {"CreationDate": "?"}, None, "no date"),
        ({"DeprecationTimeCondition": {"MaximumDaysSinceDeprecated": 0}}, {}, True, ""),
        ({"DeprecationTimeCondition": {"MaximumDaysSinceDeprecated": 0}}, {"DeprecationTime": None}, True, ""),
        ({"DeprecationTimeCondition": {"MaximumDaysSinceDeprecated": 0}}, {"DeprecationTime": "?"}, None, "no date"),
        (
            {"DeprecationTimeCondition": {"MaximumDaysSinceDeprecated": 0}},
            {"DeprecationTime": ago(0.5)},
            False,
            "it was deprecated 0 days ago, at most 0 are allowed",
        ),
        ({"DeprecationTimeCondition": {"MaximumDaysSinceDeprecated": 9}}, {"DeprecationTime": ago(9)}, True, ""),
        # Nobody says whether EC2 shows others the watermarks of an AMI.
        ({"ImageWatermarks": [{"WatermarkKey": "*:golden"}]}, {}, None, "EC2 shows no watermark of it"),
        ({"ImageWatermarks": [{"WatermarkKey": "*:golden"}]}, {"ImageWatermarks": [MARK]}, True, ""),
        (
            {"ImageWatermarks": [{"WatermarkKey": "*:x"}, {"SourceImageRegion": "us-*", "WatermarkKey": None}]},
            {"ImageWatermarks": [MARK]},
            True,
            "",
        ),
        (
            {"ImageWatermarks": [{"WatermarkKey": "*:golden", "MaximumDaysSinceWatermarkCreated": 9}]},
            {"ImageWatermarks": [MARK]},
            False,
            "none of its watermarks (123456789012:golden) is as it must be",
        ),
        (
            {"ImageWatermarks": [{"MaximumDaysSinceSourceImageCreated": 20, "SourceImageRegion": "us-east-1"}]},
            {"ImageWatermarks": [MARK]},
            True,
            "",
        ),
        ({"ImageWatermarks": [{"Later": 1}]}, {"ImageWatermarks": [MARK]}, None, "none of its watermarks"),
        (
            {"ImageWatermarks": [{"MaximumDaysSinceWatermarkCreated": 9}]},
            {"ImageWatermarks": [MARK | {"WatermarkCreationTime": None}]},
            None,
            "none of its watermarks",
        ),
        # One that was never scanned is not allowed, whatever the limit is.
        ({"ScanResultCondition": {"MaximumSeverityLabel": "critical"}}, {}, False, "has not scanned it"),
        ({"ScanResultCondition": {"MaximumSeverityLabel": "medium"}}, {"ScanResults": SCAN}, True, ""),
        (
            {"ScanResultCondition": {"MaximumSeverityLabel": "low"}},
            {"ScanResults": SCAN},
            False,
            "its findings are up to medium, at most low is allowed",
        ),
        (
            {"ScanResultCondition": {"MaximumSeverityLabel": "low"}},
            {"ScanResults": {"FindingScanDate": NOW}},
            True,
            "",
        ),
        ({"ScanResultCondition": {"MaximumSeverityLabel": "dire"}}, {"ScanResults": SCAN}, None, "cannot be compared"),
        ({"ScanResultCondition": {"MaxDaysSinceLastFindingScan": 3}}, {"ScanResults": SCAN}, True, ""),
        (
            {"ScanResultCondition": {"MaxDaysSinceLastFindingScan": 2}},
            {"ScanResults": SCAN},
            False,
            "scanned 3 days ago",
        ),
        (
            {"ScanResultCondition": {"MaxDaysSinceLastFindingScan": 2}},
            {"ScanResults": {"HighestFindingSeverityLabel": "low"}},
            None,
            "does not say when it was scanned",
        ),
        (
            {"ScanResultCondition": {"MaxDaysSinceMediumFixAvailable": 7, "MaxDaysSinceLowFixAvailable": 0}},
            {"ScanResults": SCAN},
            False,
            "a fix for one of its findings came 12 days ago, at most 7 are allowed",
        ),
        ({"ScanResultCondition": {"MaxDaysSinceHighFixAvailable": 0}}, {"ScanResults": SCAN}, True, ""),
        ({"ScanResultCondition": {"Later": 1}}, {"ScanResults": SCAN}, None, "Later is not known"),
        ({"ImageColours": ["red"]}, {}, None, "ImageColours is not known to this version"),
        # botocore drops what it does not know: a criterion that seems to ask for nothing lets nobody in.
        ({}, {}, None, "no condition that this version knows"),
        ({"ImageProviders": [], "ImageNames": None}, {}, None, "no condition that this version knows"),
    ],
)
def test_each_condition(criterion: dict[str, Any], row: dict[str, Any], allowed: bool | None, reason: str) -> None:
    """As the guide and the API describe it; what cannot be told is neither a pass nor a refusal."""
    found = verdict(criterion, **row)

    assert (found[0], reason in found[1]) == (allowed, True), found


def test_how_they_go_together() -> None:
    """Conditions of one criterion with AND, criteria with OR; the unknown is outvoted by what decides alone."""
    yes, no = {"ImageProviders": ["amazon"]}, {"ImageNames": ["golden-*"]}
    unknown: dict[str, Any] = {"ImageWatermarks": [{"WatermarkKey": "*"}]}

    assert verdict(yes, no) == (True, "by criterion 1")
    assert verdict(no, yes) == (True, "by criterion 2")
    assert verdict(yes | no)[0] is False
    assert verdict(yes | unknown)[0] is None
    assert verdict(no | unknown)[0] is False
    assert verdict(no, unknown)[0] is None
    assert verdict(unknown, yes)[0] is True
    assert verdict() == (None, "it has no criteria")
    assert verdict(no, {"CreationDateCondition": {"MaximumDaysSinceCreated": 0}})[1] == (
        "criterion 1: its name fits none of golden-*; criterion 2: it was made 20 days ago, at most 0 are allowed"
    )


def test_ec2s_own_word_goes_before_ours() -> None:
    """It knows conditions that are newer than this version."""
    yes, no = {"ImageProviders": ["amazon"]}, {"ImageNames": ["golden-*"]}

    assert verdict(no, ImageAllowed=True) == (True, "")
    assert verdict(yes, ImageAllowed=False) == (False, "EC2 says so (no reason is seen)"), "not ours for allowing it"
    assert verdict({"Later": 1}, ImageAllowed=False) == (
        False,
        "EC2 says so (criterion 1: Later is not known to this version)",
    )
    assert verdict(no, ImageAllowed=False) == (False, "criterion 1: its name fits none of golden-*")
    assert verdict({}, ImageAllowed=True)[0] is True


@pytest.mark.parametrize(
    "criterion",
    [
        {"ImageProviders": 7},
        {"ImageNames": [None]},
        {"CreationDateCondition": {}},
        {"CreationDateCondition": {"MaximumDaysSinceCreated": "soon"}},
        {"DeprecationTimeCondition": [1]},
        {"ScanResultCondition": 1},
    ],
)
def test_a_criterion_that_makes_no_sense_is_an_error(criterion: dict[str, Any]) -> None:
    """Reported as a check that could not be made; not as a crash, and not as a pass."""
    with pytest.raises(UnansweredError, match="Allowed AMIs"):
        verdict(criterion, ScanResults=SCAN, DeprecationTime=ago(1))


def test_the_setting_is_read_as_it_is() -> None:
    """Who manages it decides whom to ask for a change."""
    criteria = [{"ImageProviders": ["amazon"]}]
    answer = {"State": "audit-mode", "ImageCriteria": criteria, "ManagedBy": "declarative-policy"}

    assert settings(FakeCaller({"get_allowed_images_settings": [answer]})) == Settings(
        "audit-mode", tuple(criteria), "declarative-policy"
    )
    assert settings(FakeCaller({"get_allowed_images_settings": [{"State": "disabled"}]})).criteria == ()
    with pytest.raises(UnansweredError):
        settings(FakeCaller({"get_allowed_images_settings": [{}]}))
