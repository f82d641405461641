"""Reads what a job wrote into its log stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, making_sense

# Batch's own group, where a definition names none (its guide, "Use CloudWatch Logs with AWS Batch").
DEFAULT_GROUP = "/aws/batch/job"
# One answer has at most so many (the API reference of GetLogEvents); a probe writes three lines.
_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a log.

    Attributes:
        at: When the host says that it was written, seconds since 1970.
        received: When CloudWatch took it in; None where it does not say.
        text: The line.
    """

    at: float
    received: float | None
    text: str


def first_lines(caller: Caller, group: str, stream: str) -> list[Line] | None:
    """Return the first lines of a stream; None while CloudWatch has no such stream: it comes with the first line.

    An answer may be short, or empty, and yet not the last: at the end of a stream the token is the one that was sent
    (API reference, GetLogEvents).

    Raises:
        AwsError: CloudWatch Logs refused.
    """
    found: list[Line] = []
    which: dict[str, Any] = {"logGroupName": group, "logStreamName": stream, "startFromHead": True}
    while len(found) < _MOST:
        try:
            answer = caller.call("logs", "get_log_events", limit=_MOST - len(found), **which)
        except RefusedError as exc:
            if exc.code == "ResourceNotFoundException":
                return None
            raise
        with making_sense(f"logs:GetLogEvents in {caller.region}"):
            found += [_line(row) for row in answer["events"]]
        token = answer.get("nextForwardToken")
        if not token or token == which.get("nextToken"):
            break
        which["nextToken"] = token
    return found


def _line(row: Mapping[str, Any]) -> Line:
    return Line(
        at=int(row["timestamp"]) / 1000,
        received=int(row["ingestionTime"]) / 1000 if row.get("ingestionTime") else None,
        text=str(row["message"]),
    )
