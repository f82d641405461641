"""The last check before an act: everything that may have moved is read again, at once and then every minute."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from datetime import datetime

from gpu_ami.aws.images import Image
from gpu_ami.cleanup.decide import by_target, find_blocks
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.plan_document import Plan

_FRESH_S = 60.0


class Guard:
    """Says of an AMI that is about to go whether it must stay after all.

    Args:
        survey: Queries everything again.
        plan: What is about to happen.
        now: Says what time it is.
    """

    def __init__(
        self,
        survey: Survey,
        plan: Plan,
        *,
        now: Callable[[], datetime],
    ) -> None:
        """Query nothing yet: the first question does."""
        self._survey = survey
        self._plan = plan
        self._now = now
        self._clock = survey.clock
        self._lock = threading.Lock()
        self._checked_at: float | None = None
        self._keeps: dict[str, str] = {}
        self._selected: frozenset[str] = frozenset()
        self._block: str | None = None
        self._needed: dict[str, str] = {}

    def keeps(self, image: Image) -> str | None:
        """Return why *image* must stay; None when it may go."""
        self._refresh()
        if self._block or image.image_id in self._selected:
            return self._block
        return self._keeps.get(image.image_id, "it is gone, or not in the scope any more")

    def keeps_snapshot(self, snapshot_id: str, image_id: str) -> str | None:
        """Return why an orphan snapshot must stay; None when it may go."""
        self._refresh()
        return self._block or self._needed.get(snapshot_id) or self._needed.get(image_id)

    @property
    def is_blocked(self) -> bool:
        """Whether the last check found that nothing may be changed at all."""
        return self._block is not None

    def _refresh(self) -> None:
        with self._lock:
            if self._checked_at is None or self._clock() - self._checked_at > _FRESH_S:
                self._check()
                self._checked_at = self._clock()

    def _check(self) -> None:
        selected = {verdict.image.image_id for verdict in self._plan.decision.selected}
        self._survey.query_again(selected)
        # A fleet takes minutes to read, and who may launch an AMI decides whose reading counts.
        if self._survey.is_fleet or self._survey.sharing_age_s() > _FRESH_S:
            self._survey.query_sharing(selected)
        policy = dataclasses.replace(self._survey.policy, max_deletions=None)
        decision = self._survey.decide(self._now(), policy)
        blocks = find_blocks(self._survey.reports, policy)
        self._block = f"the check right before found: {blocks[0]}" if blocks else None
        self._selected = frozenset(verdict.image.image_id for verdict in decision.selected)
        self._keeps = {
            verdict.image.image_id: f"needed since the plan: {verdict.reasons[0].detail}"
            for verdict in decision.verdicts
            if not verdict.is_selected
        }
        needed = by_target(self._survey.references)
        self._needed = {target: f"needed since the plan: {some[0].detail}" for target, some in needed.items()}
