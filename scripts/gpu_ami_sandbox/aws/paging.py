"""Pages of a listing that stay whole while rows come and go between two of them."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeVar

from gpu_ami_sandbox.aws.refusals import refuse

Row = TypeVar("Row")

# Rows on a page when the caller gives no MaxResults. Tests lower them to see pages of a small account.
PAGE_SIZES: dict[str, int] = {
    "DescribeImages": 1000,
    "DescribeImageReferences": 1000,
    "DescribeInstances": 1000,
    "DescribeSnapshots": 1000,
    "DescribeVolumes": 500,
    "DescribeVolumeStatus": 1000,
    "DescribeLaunchTemplates": 200,
    "DescribeLaunchTemplateVersions": 200,
    "DescribeSpotPriceHistory": 1000,
    "DescribeFastSnapshotRestores": 200,
    "DescribeLockedSnapshots": 1000,
    "ListImagesInRecycleBin": 1000,
    "ListSnapshotsInRecycleBin": 1000,
    "DescribeComputeEnvironments": 100,
    "DescribeJobQueues": 100,
    "DescribeJobDefinitions": 100,
    "ListJobs": 100,
    "GetProducts": 100,
    "ListFunctions": 50,
}
_MOST_OPEN_LISTINGS = 1000

_numbers = itertools.count(1)
_open: OrderedDict[str, list[Any]] = OrderedDict()
_lock = threading.Lock()


def page(rows: Sequence[Row], token: str | None, size: int) -> tuple[list[Row], str | None]:
    """Return the first *size* rows and the token of the rest; with a *token*, of the listing it belongs to.

    A token names what was left of the listing when it was given out. It may be used again (a client whose
    connection broke does), and rows deleted meanwhile neither break nor shift the pages.

    Raises:
        RefusalError: The token is not one of ours.
    """
    with _lock:
        if token is None:
            left = list(rows)
        elif token in _open:
            left = _open[token]
        else:
            refuse("InvalidParameterValue", f"Unable to parse pagination token {token}")
        if len(left) <= size:
            return left, None
        following = f"page-{next(_numbers)}"
        _open[following] = left[size:]
        while len(_open) > _MOST_OPEN_LISTINGS:
            _open.popitem(last=False)
        return left[:size], following
