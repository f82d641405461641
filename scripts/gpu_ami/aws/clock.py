"""Measures how far this machine's clock is from AWS's."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError

# AWS refuses requests that are signed with a clock so far off.
LIMIT = timedelta(minutes=5)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def ahead(caller: Caller, now: Callable[[], datetime] = _now) -> timedelta | None:
    """Return how far this machine's clock is ahead of AWS's, to about a second; None when AWS did not say.

    Read from the Date header of an answer of STS. A refusal has one too, and refuses just because of the clock when
    that is more than five minutes off.

    Raises:
        AwsError: STS could not be reached.
    """
    fresh = caller.counting()
    before = now()
    with contextlib.suppress(RefusedError):
        fresh.call("sts", "get_caller_identity", doing="ask for the time")
    after = now()
    if fresh.aws_time is None:
        return None
    # The header has whole seconds: half of one is the fairest guess of what was cut off.
    return before + (after - before) / 2 - (fresh.aws_time + timedelta(seconds=0.5))


def aws_now(caller: Caller, now: Callable[[], datetime] = _now) -> datetime:
    """Return what time AWS has, to about a second, in UTC.

    Raises:
        AwsError: STS could not be reached, or did not say.
    """
    off = ahead(caller, now)
    if off is None:
        msg = f"sts:GetCallerIdentity in {caller.region}: the answer has no date: is a proxy in between?"
        raise UnansweredError(msg)
    return now() - off


def without_rights(access: Access) -> Access:
    """Return the same way to AWS with nobody's keys: AWS refuses whatever is asked, and says what time it has."""
    from botocore.credentials import Credentials

    return dataclasses.replace(access, credentials=Credentials("nobody", "nobody"))
