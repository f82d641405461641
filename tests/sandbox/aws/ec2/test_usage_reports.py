"""Image usage reports as the guide and EC2's model describe them: asynchronous, tagged, paged, limited."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from moto.ec2.models import ec2_backends

from gpu_ami_sandbox.aws import paging
from gpu_ami_sandbox.aws.ec2 import usage_reports
from gpu_ami_sandbox.aws.ec2.usage_reports import UseElsewhere, uses_elsewhere
from tests.support.resources import BASE, an_image, refused

OTHER, THIRD = "210987654321", "111122223333"
INSTANCES = [{"ResourceType": "ec2:Instance"}]


@pytest.fixture
def backend(aws: Any, ec2: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """EC2's state; reports are there at once."""
    monkeypatch.setattr(usage_reports, "PENDING_S", 0.0)
    return ec2_backends[aws.account_id][ec2.meta.region_name]


@pytest.fixture
def image(ec2: Any, backend: Any) -> str:
    """An own AMI that two accounts use."""
    made = an_image(ec2)
    uses_elsewhere(backend)[made] = [
        UseElsewhere(OTHER, "ec2:Instance", 2),
        UseElsewhere(OTHER, "ec2:LaunchTemplate", 1),
        UseElsewhere(THIRD, "ec2:Instance", 1),
    ]
    return made


def _create(ec2: Any, image: str, **more: Any) -> str:
    return str(ec2.create_image_usage_report(**({"ImageId": image, "ResourceTypes": INSTANCES} | more))["ReportId"])


def test_a_report_is_read_back_in_full(ec2: Any, image: str) -> None:
    """Every member of the model."""
    depth = [{"OptionName": "version-depth", "OptionValues": ["100"]}]
    types = [*INSTANCES, {"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": depth}]
    tags = [{"Key": "a", "Value": "1"}]

    report = _create(
        ec2,
        image,
        ResourceTypes=types,
        AccountIds=[OTHER],
        TagSpecifications=[{"ResourceType": "image-usage-report", "Tags": tags}],
    )

    (shown,) = ec2.describe_image_usage_reports(ReportIds=[report])["ImageUsageReports"]
    assert shown.pop("ExpirationTime") - shown.pop("CreationTime") == timedelta(days=30)
    assert shown == {
        "ImageId": image,
        "ReportId": report,
        "ResourceTypes": types,
        "AccountIds": [OTHER],
        "State": "available",
        "Tags": tags,
    }
    rows = ec2.describe_image_usage_report_entries(ReportIds=[report])["ImageUsageReportEntries"]
    assert all(row.pop("ReportCreationTime") and row.pop("ReportId") == report for row in rows)
    assert rows == [
        {"ResourceType": "ec2:Instance", "UsageCount": 2, "AccountId": OTHER, "ImageId": image},
        {"ResourceType": "ec2:LaunchTemplate", "UsageCount": 1, "AccountId": OTHER, "ImageId": image},
    ]


def test_a_pending_report_has_no_entries_and_one_that_failed_a_reason(
    ec2: Any, backend: Any, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not wait takes an AMI in use for unused."""
    monkeypatch.setattr(usage_reports, "PENDING_S", 1e9)
    report = _create(ec2, image)

    def shown() -> dict[str, Any]:
        (row,) = ec2.describe_image_usage_reports(ImageIds=[image])["ImageUsageReports"]
        return dict(row)

    assert shown()["State"] == "pending"
    assert ec2.describe_image_usage_report_entries(ReportIds=[report])["ImageUsageReportEntries"] == []
    made = usage_reports.usage_reports(backend)[report]
    made.ready_at, made.problem = 0.0, "Internal error"
    assert (shown()["State"], shown()["StateReason"]) == ("error", "Internal error")


def test_reports_are_found_by_state_and_tag_and_entries_by_account(ec2: Any, image: str) -> None:
    """The filters of the model; another one is refused."""
    tags = [{"ResourceType": "image-usage-report", "Tags": [{"Key": "a", "Value": "1"}]}]
    first, second = _create(ec2, image, TagSpecifications=tags), _create(ec2, image)

    def found(**named: str) -> set[str]:
        filters = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in named.items()]
        return {row["ReportId"] for row in ec2.describe_image_usage_reports(Filters=filters)["ImageUsageReports"]}

    assert found(state="available") == {first, second}
    assert found(state="pending") == set()
    (row,) = ec2.describe_image_usage_reports(Filters=[{"Name": "tag:a", "Values": ["1"]}])["ImageUsageReports"]
    assert row["ReportId"] == first
    entries = ec2.describe_image_usage_report_entries(
        ImageIds=[image], Filters=[{"Name": "account-id", "Values": [THIRD]}]
    )["ImageUsageReportEntries"]
    assert {(entry["ReportId"], entry["AccountId"]) for entry in entries} == {(first, THIRD), (second, THIRD)}
    with refused("InvalidParameterValue"):
        found(owner="x")


def test_reports_and_entries_come_in_pages(ec2: Any, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code without paging would see a part."""
    for operation in ("DescribeImageUsageReports", "DescribeImageUsageReportEntries"):
        monkeypatch.setitem(paging.PAGE_SIZES, operation, 1)
    for _ in range(2):
        _create(ec2, image)

    reports = list(ec2.get_paginator("describe_image_usage_reports").paginate())
    entries = list(ec2.get_paginator("describe_image_usage_report_entries").paginate(ImageIds=[image]))

    assert [len(page["ImageUsageReports"]) for page in reports] == [1, 1]
    assert [len(page["ImageUsageReportEntries"]) for page in entries] == [1] * 4


def test_a_deleted_report_is_gone(ec2: Any, image: str) -> None:
    """And is not deleted twice."""
    report = _create(ec2, image)

    assert ec2.delete_image_usage_report(ReportId=report)["Return"] is True

    assert ec2.describe_image_usage_reports()["ImageUsageReports"] == []
    with refused("InvalidImageUsageReportId.NotFound"):
        ec2.delete_image_usage_report(ReportId=report)
    with refused("InvalidImageUsageReportId.NotFound"):
        ec2.describe_image_usage_reports(ReportIds=[report])


def test_a_report_goes_by_itself_after_thirty_days(ec2: Any, backend: Any, image: str) -> None:
    """As EC2 deletes it."""
    made = usage_reports.usage_reports(backend)[_create(ec2, image)]
    made.created -= timedelta(days=30)

    assert ec2.describe_image_usage_reports()["ImageUsageReports"] == []


def test_one_token_makes_one_report(ec2: Any, image: str) -> None:
    """A request that is sent again because its answer was lost."""
    assert _create(ec2, image, ClientToken="t") == _create(ec2, image, ClientToken="t")
    assert _create(ec2, image) != _create(ec2, image)


def test_no_more_may_be_pending_than_the_quotas_say(ec2: Any, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of an AMI, 2,000 of an account and Region."""
    monkeypatch.setattr(usage_reports, "PENDING_S", 1e9)
    monkeypatch.setattr(usage_reports, "MOST_PENDING", 2)
    _create(ec2, image)
    with refused("ImageUsageReportLimitExceeded"):
        _create(ec2, image)
    _create(ec2, an_image(ec2, "second"))
    with refused("ImageUsageReportLimitExceeded"):
        _create(ec2, an_image(ec2, "third"))


@pytest.mark.parametrize(
    ("code", "request_"),
    [
        ("InvalidAMIID.NotFound", {"ImageId": "ami-0123456789abcdef0"}),
        ("AuthFailure", {"ImageId": BASE}),
        ("InvalidParameterValue", {"ResourceTypes": [{"ResourceType": "batch:ComputeEnvironment"}]}),
        ("InvalidParameterValue", {"ResourceTypes": []}),
        (
            "InvalidParameterValue",
            {
                "ResourceTypes": [
                    {
                        "ResourceType": "ec2:LaunchTemplate",
                        "ResourceTypeOptions": [{"OptionName": "version-depth", "OptionValues": ["10001"]}],
                    }
                ]
            },
        ),
        (
            "InvalidParameter",
            {"TagSpecifications": [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "1"}]}]},
        ),
    ],
    ids=["no AMI", "another's AMI", "unknown type", "no type", "too deep", "tags of something else"],
)
def test_what_ec2_would_refuse_is_refused(ec2: Any, image: str, code: str, request_: dict[str, Any]) -> None:
    """A request that passes here must pass there."""
    with refused(code):
        _create(ec2, image, **request_)
