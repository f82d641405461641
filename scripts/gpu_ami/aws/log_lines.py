"""Reads what a job wrote into its log stream."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_ami.aws.caller import Caller, RefusedError, making_sense

# Batch's own group, where a definition names none (its guide, "Use CloudWatch Logs with AWS Batch").
DEFAULT_GROUP = "/aws/batch/job"
_MOST = 1000


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

    Raises:
        AwsError: CloudWatch Logs refused.
    """
    try:
        answer = caller.call(
            "logs",
            "get_log_events",
            logGroupName=group,
            logStreamName=stream,
            startFromHead=True,
            limit=_MOST,
        )
    except RefusedError as exc:
        if exc.code == "ResourceNotFoundException":
            return None
        raise
    with making_sense(f"logs:GetLogEvents in {caller.region}"):
        return [
            Line(
                at=int(row["timestamp"]) / 1000,
                received=int(row["ingestionTime"]) / 1000 if row.get("ingestionTime") else None,
                text=str(row["message"]),
            )
            for row in answer["events"]
        ]
