"""The least that any boto3 program must do to clean up: ``python -m tests.bench.bare_boto3 URL REGIONS DAYS``.

It lists the AMIs, reads the launch permissions of the old ones, and only then deregisters those that nobody shares.
It queries no use of an AMI, writes no journal, survives no fault, and is told the buckets, so it is never throttled.
What it takes longer than the buckets allow is boto3's work on this machine.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.bench.throttled_aws import CHANGE, RATE, READ

_WORKERS = 8
# A token on its way is counted here before it is counted there.
_SPARE = 5


def _each(items: Sequence[Any], bucket: tuple[int, int], work: Callable[[Any], Any]) -> list[Any]:
    burst, per_s = bucket[0] - _SPARE, bucket[1] * RATE
    started = time.monotonic()

    def one(number: int, item: Any) -> Any:
        due = started + max(0, number + 1 - burst) / per_s
        time.sleep(max(0.0, due - time.monotonic()))
        return work(item)

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(one, range(len(items)), items))


def unused(client: Any, older_than: timedelta) -> list[str]:
    """Return the AMIs of one region that are old and shared with nobody."""
    pages = client.get_paginator("describe_images").paginate(Owners=["self"], PaginationConfig={"PageSize": 1000})
    latest = (datetime.now(timezone.utc) - older_than).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    old = [image["ImageId"] for page in pages for image in page["Images"] if image["CreationDate"] < latest]
    attribute = {"Attribute": "launchPermission"}
    answers = _each(old, READ, lambda image_id: client.describe_image_attribute(ImageId=image_id, **attribute))
    return [image_id for image_id, answer in zip(old, answers, strict=True) if not answer["LaunchPermissions"]]


def delete(client: Any, selected: Sequence[str]) -> None:
    """Deregister AMIs of one region with their snapshots."""
    _each(selected, CHANGE, lambda image_id: client.deregister_image(ImageId=image_id, DeleteAssociatedSnapshots=True))


def main(url: str, regions: str, days: str) -> None:
    """Query all regions at once, then delete in all of them; print how many AMIs went."""
    gc.disable()  # as ours does
    import boto3
    from botocore.config import Config

    session = boto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench")
    config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=_WORKERS)
    clients = [session.client("ec2", region_name=one, endpoint_url=url, config=config) for one in regions.split(",")]
    with ThreadPoolExecutor(len(clients)) as pool:
        selected = list(pool.map(lambda client: unused(client, timedelta(days=int(days))), clients))
        list(pool.map(delete, clients, selected))
    print(sum(map(len, selected)))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
