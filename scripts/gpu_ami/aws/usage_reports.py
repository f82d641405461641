"""EC2's image usage reports: which other accounts use an AMI, and how often.

EC2 makes a report while nobody waits: it is ``pending`` until it is ``available`` or failed (``error``), and is deleted
after 30 days. In a Region an account may have 2,000 reports pending, and an AMI one. What instances did in the last 24
hours, and launch templates in the last few days, may be missing.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/your-ec2-ami-usage.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError, making_sense
from gpu_ami.aws.images import parse_time

# So many may be pending at once in a Region of an account.
MOST_PENDING = 2000
PENDING, AVAILABLE, FAILED = "pending", "available", "error"
# Describing takes at most so many ids.
_IDS_AT_ONCE = 200
_ACCOUNT = re.compile(r"[0-9]{12}")
_TEMPLATE = "ec2:LaunchTemplate"
# Without this EC2 looks through the 20 newest versions of a template; 10,000 is the most there can be.
_DEPTH = {"OptionName": "version-depth", "OptionValues": ["10000"]}
# Every type that the API knows (its model of 2026-11-30): Batch and Auto Scaling are not among them.
_TYPES: tuple[dict[str, Any], ...] = (
    {"ResourceType": "ec2:Instance"},
    {"ResourceType": _TEMPLATE, "ResourceTypeOptions": [_DEPTH]},
    {"ResourceType": "imagebuilder:ImageRecipe"},
    {"ResourceType": "imagebuilder:ContainerRecipe"},
)


@dataclass(frozen=True, kw_only=True)
class UsageReport:
    """A report as EC2 lists it.

    Attributes:
        report_id: The report.
        image_id: The AMI that it is about.
        state: ``pending``, ``available`` or ``error``.
        reason: Why it failed: EC2's message; empty when it gives none.
        created: When it was requested; None when EC2 does not say.
        tags: Its tags.
        is_whole: Whether it is about every type of resource, to full depth, in every account.
    """

    report_id: str
    image_id: str
    state: str
    reason: str = ""
    created: datetime | None = None
    tags: Mapping[str, str]
    is_whole: bool = True


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How often resources of one type in one account name the AMI.

    Attributes:
        account: The account.
        resource_type: Such as ``ec2:Instance``.
        count: How many; a launch template counts once, however many of its versions name the AMI.
    """

    account: str
    resource_type: str
    count: int


def create(caller: Caller, image_id: str, tags: Mapping[str, str], *, token: str) -> str:
    """Request a report on *image_id* about every account and type of resource; return its id.

    Args:
        caller: Of the AMI's region.
        image_id: The AMI.
        tags: The report's tags.
        token: The same for each try of one request: an answer that is lost makes no second report.

    Raises:
        RefusedError: EC2 refused.
        UnansweredError: Nobody knows whether there is a report now.
    """
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    answer = caller.call(
        "ec2",
        "create_image_usage_report",
        ImageId=image_id,
        ResourceTypes=list(_TYPES),
        ClientToken=token,
        TagSpecifications=[{"ResourceType": "image-usage-report", "Tags": listed}],
    )
    with making_sense(f"ec2:CreateImageUsageReport {image_id}"):
        report_id = str(answer["ReportId"])
        if not report_id:
            raise ValueError(report_id)
        return report_id


def reports_on(caller: Caller, image_ids: Iterable[str]) -> list[UsageReport]:
    """Return every report on one of *image_ids*, whoever requested it.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    chosen = sorted(set(image_ids))
    chunks = [chosen[start : start + _IDS_AT_ONCE] for start in range(0, len(chosen), _IDS_AT_ONCE)]
    return [report for some in chunks for report in _reports(caller, ImageIds=some)]


def reports_with(caller: Caller, filters: Mapping[str, str]) -> list[UsageReport]:
    """Return the reports in the region that pass all of EC2's *filters*, such as ``state``.

    Raises:
        AwsError: EC2 refused, or the list could not be read to its end.
    """
    return _reports(caller, Filters=[{"Name": name, "Values": [value]} for name, value in filters.items()])


def _reports(caller: Caller, **which: Any) -> list[UsageReport]:
    rows = caller.pages("ec2", "describe_image_usage_reports", "ImageUsageReports", **which)
    with making_sense(f"ec2:DescribeImageUsageReports in {caller.region}"):
        return [
            UsageReport(
                report_id=row["ReportId"],
                image_id=row["ImageId"],
                state=row["State"],
                reason=row.get("StateReason") or "",
                created=parse_time(row.get("CreationTime")),
                tags={tag["Key"]: tag.get("Value", "") for tag in row.get("Tags") or []},
                is_whole=_is_whole(row),
            )
            for row in rows
        ]


def _is_whole(row: Mapping[str, Any]) -> bool:
    types = {item.get("ResourceType"): item.get("ResourceTypeOptions") or [] for item in row.get("ResourceTypes") or []}
    is_deep = any(dict(option) == _DEPTH for option in types.get(_TEMPLATE, []))
    return set(types) == {kind["ResourceType"] for kind in _TYPES} and is_deep and not row.get("AccountIds")


def usages(caller: Caller, reports: Mapping[str, str]) -> dict[str, list[Usage]]:
    """Return what the available *reports*, each report's id with its AMI, say; an AMI without a use has an empty list.

    Raises:
        AwsError: EC2 refused, or an answer was cut off or makes no sense.
    """
    found: dict[str, list[Usage]] = {report: [] for report in reports}
    chosen = sorted(reports)
    for start in range(0, len(chosen), _IDS_AT_ONCE):
        some = chosen[start : start + _IDS_AT_ONCE]
        rows = caller.pages("ec2", "describe_image_usage_report_entries", "ImageUsageReportEntries", ReportIds=some)
        with making_sense(f"ec2:DescribeImageUsageReportEntries in {caller.region}"):
            for row in rows:
                if reports[row["ReportId"]] != row["ImageId"]:
                    raise ValueError(row["ImageId"])
                found[row["ReportId"]].append(_usage(row))
    return found


def _usage(row: Mapping[str, Any]) -> Usage:
    account, count = row["AccountId"], row["UsageCount"]
    # Whatever else it may be, it is not the number of uses in an account.
    if _ACCOUNT.fullmatch(account) is None or isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(account)
    return Usage(account=account, resource_type=str(row["ResourceType"]), count=count)


def delete(caller: Caller, report_id: str) -> None:
    """Delete a report; one that is gone already is a success.

    Raises:
        AwsError: EC2 refused, or nobody knows.
    """
    try:
        answer = caller.call("ec2", "delete_image_usage_report", ReportId=report_id)
    except RefusedError as exc:
        if not exc.code.endswith(".NotFound"):
            raise
        return
    if answer.get("Return") is not True:
        msg = f"ec2:DeleteImageUsageReport {report_id}: EC2 did not say that it is done: the answer is malformed."
        raise UnansweredError(msg)


def is_full(problem: RefusedError) -> bool:
    """Return whether EC2 refuses a report because too many are pending; its code for that is in no document.

    That requests come too fast (RequestLimitExceeded) is waited out by the caller itself.
    """
    return problem.code.endswith("LimitExceeded")
