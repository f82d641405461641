"""Proof that a Recycle Bin works: what went first in a region must be in its bin before anything else goes there."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from gpu_ami.aws.calls import Caller
from gpu_ami.aws.recyclebin import images_in_bin, snapshots_in_bin
from gpu_ami.errors import AwsError

_LOOK_EVERY_S = 5.0
_SHOWN_WITHIN_S = 60.0


class BinProof:
    """Keeps what is believed of each region's bin.

    A rule that says ``available`` may take 30 minutes to keep anything
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/recycle-bin-factors.html).

    Args:
        callers: By region.
        is_wanted: Whether what goes must be recoverable; without it nothing is asked.
        clock: Monotonic seconds.
        sleep: Waits between two looks.
    """

    def __init__(
        self,
        callers: Mapping[str, Caller],
        *,
        is_wanted: bool,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Believe nothing yet."""
        self._callers = callers
        self._is_wanted = is_wanted
        self._clock, self._sleep = clock, sleep
        # Why a region's bin does not work; None where it does.
        self._judged: dict[str, str | None] = {}

    def is_due(self, region: str) -> bool:
        """Return whether the next thing that goes in *region* is to be looked for in the bin."""
        return self._is_wanted and region not in self._judged

    def why_not(self, region: str) -> str | None:
        """Return why nothing may go in *region*: its bin lacks what went first."""
        return self._judged.get(region)

    def judge(self, region: str, image_ids: Collection[str], snapshot_ids: Collection[str]) -> None:
        """Look until *region*'s bin shows what was deleted just now, for a minute at most."""
        began = self._clock()
        while missing := self._missing(region, image_ids, snapshot_ids):
            if self._clock() - began >= _SHOWN_WITHIN_S:
                break
            self._sleep(_LOOK_EVERY_S)
        self._judged[region] = missing and (
            f"{missing}; a new rule takes up to 30 minutes to work. Run it again later, or add --permanent"
        )

    def _missing(self, region: str, image_ids: Collection[str], snapshot_ids: Collection[str]) -> str | None:
        caller = self._callers[region]
        try:
            images = set(image_ids) - set(images_in_bin(caller)) if image_ids else set()
            snapshots = set(snapshot_ids) - set(snapshots_in_bin(caller)) if snapshot_ids else set()
        except AwsError as exc:
            return f"the Recycle Bin could not be looked into after the first deletion: {exc}"
        lost = next(iter(sorted(images | snapshots)), None)
        return f"the Recycle Bin does not have {lost}, which went first" if lost else None
