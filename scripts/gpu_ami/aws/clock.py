"""How far this machine's clock is from AWS's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from gpu_ami.aws.access import Access, aws_errors


def _now() -> datetime:
    return datetime.now(timezone.utc)


def ahead(access: Access, now: Callable[[], datetime] = _now) -> timedelta | None:
    """Return how far this machine's clock is ahead of AWS's, to about a second; None when AWS did not say.

    Read from the Date header of an answer of STS. A refusal has one too, and refuses just because of the clock when
    that is more than five minutes off.

    Raises:
        AwsError: STS could not be reached.
    """
    client = access.client("sts")
    before = now()
    with aws_errors("ask for the time"):
        try:
            answer: dict[str, Any] = client.get_caller_identity()
        except client.exceptions.ClientError as exc:
            answer = dict(exc.response)
    after = now()
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if said is None:
        return None
    try:
        theirs = parsedate_to_datetime(said)
    except ValueError:
        return None
    # The header has whole seconds: half of one is the fairest guess of what was cut off.
    return before + (after - before) / 2 - (theirs + timedelta(seconds=0.5))
