"""Waits for the AMI that a build has started to create."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpu_ami.aws.caller import Caller, making_sense
from gpu_ami.errors import AwsError


def snapshot_percent(caller: Caller, image_id: str) -> int | None:
    """Return how far the snapshots of the pending AMI *image_id* are, in per cent; None while unknown.

    A query that fails says nothing: the wait it decorates must not end because of it.
    """
    filters = [{"Name": "description", "Values": [f"*{image_id}*"]}]
    try:
        with making_sense(f"ec2:DescribeSnapshots in {caller.region}"):
            return _percent(caller.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=filters))
    except AwsError:
        return None


def _percent(snapshots: Iterable[Mapping[str, Any]]) -> int | None:
    texts = [str(row.get("Progress", "")).rstrip("%") for row in snapshots]
    numbers = [int(text) for text in texts if text.isdigit()]
    return min(numbers) if numbers else None
