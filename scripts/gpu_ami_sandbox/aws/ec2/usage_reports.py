"""Image usage reports: what other accounts, which the local AWS does not have, are said to use of an AMI.

Who uses what is put in by `uses_elsewhere`; a report shows what was there when it was requested. EC2's own codes for a
report that does not exist and for too many pending ones are in no document; these are in its style. Nor is it in one
whether a client token outlives the report that it made: here it does, which is the harder case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.utils import random_resource_id

from gpu_ami_sandbox.aws.ec2.part import EC2Part, tag_values
from gpu_ami_sandbox.aws.refusals import refuse

# How long a report is pending: long enough for a progress display to see it, short enough not to be felt.
PENDING_S = 0.3
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/your-ec2-ami-usage.html
MOST_PENDING = 2000
_KEPT = timedelta(days=30)
_ISO = "%Y-%m-%dT%H:%M:%S.000Z"
_TYPES = ("ec2:Instance", "ec2:LaunchTemplate", "imagebuilder:ImageRecipe", "imagebuilder:ContainerRecipe")
_MOST_ACCOUNTS = _MOST_IDS = 200


@dataclass(frozen=True)
class UseElsewhere:
    """What an account has that names an AMI of this one."""

    account: str
    resource_type: str
    count: int


@dataclass
class Report:
    """A report.

    Attributes:
        ready_at: The monotonic time from which on it is available.
        problem: Why it ends with an error instead; empty when it does not.
    """

    report_id: str
    image_id: str
    types: list[dict[str, Any]]
    accounts: list[str]
    token: str
    created: datetime
    ready_at: float
    entries: list[UseElsewhere]
    problem: str = ""

    @property
    def state(self) -> str:
        """What AWS calls its state; pending turns into another one by itself."""
        if time.monotonic() < self.ready_at:
            return "pending"
        return "error" if self.problem else "available"


def uses_elsewhere(backend: Any) -> dict[str, list[UseElsewhere]]:
    """Return what other accounts use of each AMI of a backend of moto's, by its id; one may add to it."""
    found: dict[str, list[UseElsewhere]] = vars(backend).setdefault("sandbox_uses_elsewhere", {})
    return found


def usage_reports(backend: Any) -> dict[str, Report]:
    """Return the reports of a backend of moto's, by id."""
    found: dict[str, Report] = vars(backend).setdefault("sandbox_usage_reports", {})
    return found


def _tokens(backend: Any) -> dict[str, str]:
    """Return which report each client token made, those that were deleted since too."""
    found: dict[str, str] = vars(backend).setdefault("sandbox_usage_report_tokens", {})
    return found


class ImageUsageReports(EC2Part):
    """EC2's actions on image usage reports, which moto does not have."""

    def create_image_usage_report(self) -> ActionResult:
        """Begin a report on an own AMI; a token that was seen begins none."""
        self.error_on_dryrun()
        backend, image_id = self.ec2_backend, self._get_param("ImageId")
        reports, token = usage_reports(backend), str(self._get_param("ClientToken"))
        image = backend.amis.get(image_id)
        if image is None:
            refuse("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        if image.owner_id != self.current_account:
            refuse("AuthFailure", f"Not authorized for image:{image_id}")
        if same := _tokens(backend).get(token):
            return ActionResult({"ReportId": same})
        types, accounts = self._get_param("ResourceTypes", []), self._get_param("AccountIds", [])
        _check(types, accounts)
        tags = self._parse_tag_specification("image-usage-report").get("image-usage-report", {})
        pending = [report for report in reports.values() if report.state == "pending"]
        if len(pending) >= MOST_PENDING or any(report.image_id == image_id for report in pending):
            refuse("ImageUsageReportLimitExceeded", "The maximum number of pending image usage reports is reached.")
        report = Report(
            report_id=f"amiur-{random_resource_id(17)}",
            image_id=image_id,
            types=types,
            accounts=accounts,
            token=token,
            created=utcnow(),
            ready_at=time.monotonic() + PENDING_S,
            entries=list(uses_elsewhere(backend).get(image_id, [])),
        )
        reports[report.report_id] = report
        _tokens(backend)[token] = report.report_id
        backend.tags[report.report_id].update(tags)
        return ActionResult({"ReportId": report.report_id})

    def describe_image_usage_reports(self) -> ActionResult:
        """List reports, in pages."""
        rows = self._filtered(self._requested_reports(), self._report_values)
        return self._answer_page("ImageUsageReports", [self._shown(report) for report in rows])

    def describe_image_usage_report_entries(self) -> ActionResult:
        """List what the reports that are available say, in pages."""
        rows = [
            {
                "ResourceType": entry.resource_type,
                "ReportId": report.report_id,
                "UsageCount": entry.count,
                "AccountId": entry.account,
                "ImageId": report.image_id,
                "ReportCreationTime": report.created,
            }
            for report in self._requested_reports()
            if report.state == "available"
            for entry in report.entries
            if entry.resource_type in {kind["ResourceType"] for kind in report.types}
            and (not report.accounts or entry.account in report.accounts)
        ]
        return self._answer_page("ImageUsageReportEntries", self._filtered(rows, _entry_values))

    def delete_image_usage_report(self) -> ActionResult:
        """Delete a report, pending or not."""
        self.error_on_dryrun()
        backend, report_id = self.ec2_backend, str(self._get_param("ReportId"))
        _known(usage_reports(backend), [report_id])
        del usage_reports(backend)[report_id]
        backend.tags.pop(report_id, None)
        return ActionResult({"Return": True})

    def _requested_reports(self) -> list[Report]:
        reports = usage_reports(self.ec2_backend)
        now = utcnow()
        for report in [report for report in reports.values() if report.created + _KEPT <= now]:
            del reports[report.report_id]
        ids, images = self._get_param("ReportIds", []), self._get_param("ImageIds", [])
        if max(len(ids), len(images)) > _MOST_IDS:
            refuse("InvalidParameterValue", f"The maximum number of ids is {_MOST_IDS}.")
        _known(reports, ids)
        return [
            report
            for report in reports.values()
            if (not ids or report.report_id in ids) and (not images or report.image_id in images)
        ]

    def _report_values(self, report: Report, name: str) -> list[str] | None:
        values = _REPORT_FILTERS.get(name)
        return values(report) if values else tag_values(self._tags_of(report.report_id), name)

    def _shown(self, report: Report) -> dict[str, Any]:
        return {
            "ImageId": report.image_id,
            "ReportId": report.report_id,
            "ResourceTypes": report.types,
            "AccountIds": report.accounts or None,
            "State": report.state,
            "StateReason": report.problem if report.state == "error" else None,
            "CreationTime": report.created,
            "ExpirationTime": report.created + _KEPT,
            "Tags": [{"Key": key, "Value": value} for key, value in self._tags_of(report.report_id).items()],
        }


_REPORT_FILTERS: dict[str, Callable[[Report], list[str]]] = {
    "creation-time": lambda report: [report.created.strftime(_ISO)],
    "state": lambda report: [report.state],
}


def _entry_values(row: dict[str, Any], name: str) -> list[str] | None:
    found = {
        "account-id": [row["AccountId"]],
        "creation-time": [row["ReportCreationTime"].strftime(_ISO)],
        "resource-type": [row["ResourceType"]],
    }
    return found.get(name)


def _check(types: list[dict[str, Any]], accounts: list[str]) -> None:
    """Refuse what EC2's model does not allow."""
    if not types or any(kind.get("ResourceType") not in _TYPES for kind in types):
        refuse("InvalidParameterValue", f"The resource types must be some of {', '.join(_TYPES)}.")
    for kind in types:
        for option in kind.get("ResourceTypeOptions", []):
            depths = [int(value) for value in option["OptionValues"] if value.isdigit()]
            is_depth = kind["ResourceType"] == "ec2:LaunchTemplate" and option["OptionName"] == "version-depth"
            if not is_depth or len(depths) != 1 or not 1 <= depths[0] <= 10_000:
                refuse(
                    "InvalidParameterValue", f"The option {option['OptionName']} of {kind['ResourceType']} is invalid."
                )
    if len(accounts) > _MOST_ACCOUNTS:
        refuse("InvalidParameterValue", f"The maximum number of account ids is {_MOST_ACCOUNTS}.")


def _known(reports: dict[str, Report], report_ids: Iterable[str]) -> None:
    for report_id in report_ids:
        if report_id not in reports:
            refuse("InvalidImageUsageReportId.NotFound", f"The image usage report ID '{report_id}' does not exist")
