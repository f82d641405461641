"""Proof that Recycle Bin rules work: what goes first by a rule must be in the bin before anything else goes by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.aws.recycle_bin import IMAGE, SNAPSHOT, Kind, images_in_bin, snapshots_in_bin
from gpu_ami.cleanup.plan_document import Bin
from gpu_ami.errors import AwsError

_QUERY_EVERY_S = 5.0
_SHOWN_WITHIN_S = 60.0

# What a way back rests on: a region, a kind of resource, and the rules that are said to keep it.
Claim: TypeAlias = "tuple[str, Kind, frozenset[str]]"


class BinProof:
    """Keeps what is believed of each region's bin.

    A rule that says ``available`` may take 30 minutes to keep anything
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/recycle-bin-factors.html).

    Args:
        callers: By region.
        bins: The rules, by region.
        is_required: Whether what goes must be recoverable; without it no bin is queried.
        clock: Monotonic seconds.
        sleep: Waits between two queries.
    """

    def __init__(
        self,
        callers: Mapping[str, Caller],
        bins: Mapping[str, Bin],
        *,
        is_required: bool,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._callers, self._bins = callers, bins
        self.is_required = is_required
        self._clock, self._sleep = clock, sleep
        # Why the rules of a claim do not work; None where they do.
        self._judged: dict[Claim, str | None] = {}

    def of_image(self, image: Image) -> Claim:
        """Return what the way back of *image* itself rests on."""
        return self._claim(image.region, IMAGE, image.tags)

    def of_snapshot(self, snapshot: Snapshot) -> Claim:
        """Return what the way back of *snapshot* rests on."""
        return self._claim(snapshot.region, SNAPSHOT, snapshot.tags)

    def _claim(self, region: str, kind: Kind, tags: Mapping[str, str]) -> Claim:
        rules = self._bins[region].rules if region in self._bins else ()
        return region, kind, frozenset(rule.identifier for rule in rules if rule.keeps(kind, tags))

    def due(self, claims: Iterable[Claim]) -> set[Claim]:
        """Return those of *claims* that nothing has proved or refuted yet."""
        return {claim for claim in claims if claim not in self._judged} if self.is_required else set()

    def why_not(self, claims: Iterable[Claim]) -> str | None:
        """Return why these deletions must not proceed: a canary was not found in the Recycle Bin.

        None while every one of *claims* is proved, or not judged yet.
        """
        return next((why for claim in claims if (why := self._judged.get(claim))), None)

    def judge(self, gone: Mapping[str, Claim]) -> None:
        """Query the bins until they show what was deleted just now, for a minute at most.

        Args:
            gone: What each of the AMIs and snapshots rests on, by id. What is judged already is not queried again.
        """
        expected = {identifier: claim for identifier, claim in gone.items() if self.due([claim])}
        began = self._clock()
        while missing := self._missing(expected):
            if self._clock() - began >= _SHOWN_WITHIN_S:
                break
            self._sleep(_QUERY_EVERY_S)
        for identifier, claim in expected.items():
            why = missing.get(identifier)
            self._judged[claim] = self._judged.get(claim) or (
                why and f"{why}; a new rule takes up to 30 minutes to work. Run it again later, or add --permanent"
            )

    def _missing(self, expected: Mapping[str, Claim]) -> dict[str, str]:
        """Return what is not in its bin, and why that is thought."""
        missing: dict[str, str] = {}
        for region, kind in sorted({(claim[0], claim[1]) for claim in expected.values()}):
            ids = [identifier for identifier, claim in expected.items() if claim[:2] == (region, kind)]
            listing = images_in_bin if kind == IMAGE else snapshots_in_bin
            try:
                kept = listing(self._callers[region])
            except AwsError as exc:
                why = f"the Recycle Bin could not be listed after the first deletion: {exc}"
                missing |= dict.fromkeys(ids, why)
                continue
            lost = [identifier for identifier in ids if identifier not in kept]
            missing |= {
                identifier: f"the Recycle Bin does not have {identifier}, which went first" for identifier in lost
            }
        return missing
