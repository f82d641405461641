"""Asks EC2 which other accounts use shared AMIs: makes image usage reports, waits for them, and deletes them again."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, Literal

from gpu_ami.aws import usage_reports as ec2
from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.images import Image
from gpu_ami.aws.usage_reports import Usage, UsageReport
from gpu_ami.console import Step
from gpu_ami.errors import AwsError, InterruptedRunError
from gpu_ami.invocation import Invocation
from gpu_ami.records.tags import FAMILY_TAG, PIPELINE, PIPELINE_TAG, RUN_TAG, SHARED_TAG
from gpu_ami.units import show_count

# What no report knows, for whoever reads a plan.
LIMITS = (
    "Batch and Auto Scaling of other accounts",
    "all launches of the last 24 hours, and changes of launch templates in the last few days",
    "volumes that others made of a shared snapshot",
)
_WORKERS = 32
# Of a fleet so many are asked side by side.
_PLACES = 64
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 10.0
# An earlier report that a run left behind says nothing of what was launched since; but a run's own may get as old as it
# waits.
_FRESH = timedelta(hours=1)
# No run waits longer (the most that cleanup.usage_report_minutes may be), so whoever made an older report is gone.
_LONGEST_RUN = timedelta(hours=13)
_CLOCK_TOLERANCE = timedelta(minutes=5)
_NOUNS = {
    "ec2:Instance": ("instance", "instances"),
    "ec2:LaunchTemplate": ("launch template", "launch templates"),
    "imagebuilder:ImageRecipe": ("image recipe", "image recipes"),
    "imagebuilder:ContainerRecipe": ("container recipe", "container recipes"),
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is known of an AMI's use in other accounts.

    Attributes:
        image_id: The AMI.
        account: Whose it is.
        region: Where it is.
        report_id: The report; None where there is none.
        created: When the report was requested; None where EC2 does not say.
        is_reused: Whether another run had made it.
        usages: What other accounts use, with counts above zero.
        error: Why it is not known.
    """

    image_id: str
    account: str
    region: str
    report_id: str | None = None
    created: datetime | None = None
    is_reused: bool = False
    usages: tuple[Usage, ...] = ()
    error: str | None = None

    @property
    def status(self) -> Literal["unused", "used", "unknown"]:
        """What follows from it; only an AMI that is unused may go."""
        if self.error is not None:
            return "unknown"
        return "used" if self.usages else "unused"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the AMI stays, one text for each account; empty where no other account uses it."""
        if self.error is not None:
            return (self.error,)
        said = f" (image usage report of {self.created:%Y-%m-%d %H:%M} UTC)" if self.created else ""
        return tuple(f"used in account {account}: {what}{said}" for account, what in _by_account(self.usages).items())

    def document(self) -> dict[str, Any]:
        """Return the answer as the plan's JSON has it."""
        return {
            "image_id": self.image_id,
            "account": self.account,
            "region": self.region,
            "status": self.status,
            "report_id": self.report_id,
            "created": f"{self.created:%Y-%m-%dT%H:%M:%S}Z" if self.created else None,
            "reused": self.is_reused,
            "uses": [
                {"account": usage.account, "resource_type": usage.resource_type, "count": usage.count}
                for usage in self.usages
            ],
            "error": self.error,
        }


def _by_account(usages: Iterable[Usage]) -> dict[str, str]:
    """Return what is used, by account: ``2 instances, 1 launch template``."""
    texts: dict[str, list[str]] = {}
    for usage in sorted(usages, key=lambda usage: (usage.account, usage.resource_type)):
        one, many = _NOUNS.get(usage.resource_type, (usage.resource_type, usage.resource_type))
        texts.setdefault(usage.account, []).append(f"{usage.count} {one if usage.count == 1 else many}")
    return {account: ", ".join(some) for account, some in texts.items()}


@dataclass(frozen=True, kw_only=True)
class LeftBehind:
    """A report that could not be deleted.

    Attributes:
        report_id: Its id; of those that nobody has heard of, which run made them.
        account: In whose account it is.
        region: Where it is.
        error: Why it is still there.
    """

    report_id: str
    account: str
    region: str
    error: str

    @property
    def place(self) -> str:
        """Which it is, and where, as people write it."""
        return f"{self.report_id} in {self.region} of {self.account}"

    def document(self) -> dict[str, str]:
        """Return it as the plan's JSON has it."""
        return {"report_id": self.report_id, "account": self.account, "region": self.region, "error": self.error}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run's reports came to.

    Attributes:
        answers: One per AMI that was asked about, in the order of asking.
        made: How many reports were made.
        reused: How many another run had made.
        deleted: How many were deleted afterwards.
        left: The reports that could not be deleted.
        is_dry: Whether none was to be made.
    """

    answers: tuple[Answer, ...] = ()
    made: int = 0
    reused: int = 0
    deleted: int = 0
    left: tuple[LeftBehind, ...] = ()
    is_dry: bool = False

    @property
    def has_changed(self) -> bool:
        """Whether a report was made or deleted, or was to be."""
        return bool(self.made or self.deleted or self.left)

    def document(self) -> dict[str, Any]:
        """Return it as the plan's JSON has it."""
        return {
            "made": self.made,
            "reused": self.reused,
            "deleted": self.deleted,
            "left": [one.document() for one in self.left],
            "limits": list(LIMITS),
            "answers": [answer.document() for answer in self.answers],
        }


class UsageReports:
    """The image usage reports of one run; leaving its block deletes them, whatever ends it.

    Args:
        caller: Returns what calls a region of an account, the AMIs' own: what that one uses itself its own sources say,
            and better. An account that cannot be entered is an AwsError, and nothing is known of its AMIs.
        tags: Of the reports, the run's among them.
        within: For how long they are waited for in all.
        told: Called with how many of how many are done.
        clock: Monotonic seconds.
        sleep: Waits between two queries.
        now: Says what time it is.
    """

    def __init__(
        self,
        caller: Callable[[str, str], Caller],
        tags: Mapping[str, str],
        *,
        within: timedelta,
        told: Callable[[int, int], None] = lambda _done, _all: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Make no report yet."""
        self.within = within
        self._told = told
        self._clock, self._sleep = clock, sleep
        self._ends: float | None = None
        self._stop = threading.Event()
        self._caller, self._tags, self._now = caller, tags, now
        self._regions: dict[tuple[str, str], _Region] = {}
        # Of AMIs whose account cannot be entered.
        self._shut: dict[str, Answer] = {}
        self._left: list[LeftBehind] = []
        self._deleted = 0

    def __enter__(self) -> UsageReports:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Delete the reports.

        Raises:
            InterruptedRunError: The run was interrupted, and some of them could not be deleted.
        """
        self._delete(is_cut_off=kind is not None)
        if self._left and isinstance(problem, KeyboardInterrupt):
            first = self._left[0]
            more = f" and {len(self._left) - 1} more" if len(self._left) > 1 else ""
            msg = (
                f"Interrupted; the image usage report {first.place}{more} could not be deleted ({first.error}): EC2 "
                "deletes it after 30 days, and a new run with --usage-reports takes it over once it is no longer "
                "pending."
            )
            raise InterruptedRunError(msg) from problem

    @property
    def is_over(self) -> bool:
        """Whether the time to wait is up."""
        return self._ends is not None and self._clock() >= self._ends

    @property
    def asked(self) -> Asked:
        """What it came to so far."""
        regions = self._regions.values()
        reports = [report for region in regions for report in region.reports.values()]
        return Asked(
            answers=(*(answer for region in regions for answer in region.answers.values()), *self._shut.values()),
            made=sum(report.origin == "made" for report in reports),
            reused=sum(report.is_reused for report in reports),
            deleted=self._deleted,
            left=tuple(self._left),
        )

    def ask(
        self, images: Collection[Image], sharers: Mapping[str, Collection[str] | None] | None = None
    ) -> dict[str, Answer]:
        """Return what is known of the use of *images* in other accounts, by id, once it is known or the time is up.

        Args:
            images: The AMIs.
            sharers: Who may launch each, by its id; None where that was not read. A report that another run has made
                is read only where it was made while the same may.
        """
        if self._ends is None:
            self._ends = self._clock() + self.within.total_seconds()
        places: dict[str, _Region] = {}
        for image in images:
            try:
                region = places[image.image_id] = self._region(image)
            except AwsError as exc:
                why = f"no image usage report could be made: {exc}"
                self._shut[image.image_id] = Answer(
                    image_id=image.image_id, account=image.account, region=image.region, error=why
                )
                continue
            region.waiting[image.image_id] = None
            region.marks[image.image_id] = _mark((sharers or {}).get(image.image_id))
        pause = _FIRST_PAUSE_S
        while not self.is_over:
            self._step()
            open_ = sum(region.unanswered for region in self._regions.values())
            self._told(len(images) - open_, len(images))
            if not open_:
                break
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        minutes = show_count(round(self.within.total_seconds() / 60), "minute")
        late = f"no image usage report within {minutes} (cleanup.usage_report_minutes in pipeline.yaml)"
        for region in self._regions.values():
            region.give_up(late)
        return {
            image.image_id: places[image.image_id].answers[image.image_id]
            if image.image_id in places
            else self._shut[image.image_id]
            for image in images
        }

    def _region(self, image: Image) -> _Region:
        """Return the reports in the region of *image*, of its account.

        Raises:
            AwsError: That account cannot be entered.
        """
        place = (image.account, image.region)
        if place not in self._regions:
            fresh = max(_FRESH, self.within)
            self._regions[place] = _Region(
                self._caller(*place), image.account, self._tags, fresh=fresh, stop=self._stop, now=self._now
            )
        return self._regions[place]

    def _step(self) -> None:
        busy = [region for region in self._regions.values() if region.unanswered]
        self._all(lambda region: region.step(), busy)

    def _all(self, work: Callable[[_Region], None], regions: Collection[_Region]) -> None:
        if not regions:
            return
        with ThreadPoolExecutor(max_workers=min(_PLACES, len(regions))) as pool:
            waiting = [pool.submit(work, region) for region in regions]
            try:
                for done in waiting:
                    done.result()
            except BaseException:
                # What is on its way may end; the block's end deletes it.
                self._stop.set()
                raise

    def _delete(self, *, is_cut_off: bool) -> None:
        for region in self._regions.values():
            done, left = region.delete(is_cut_off=is_cut_off)
            self._deleted += done
            self._left += left


def reports_of(run: Invocation, caller: Callable[[str, str], Caller], now: datetime, step: Step) -> UsageReports:
    """Return what makes the reports of *run*, with its tags.

    Args:
        run: The invocation.
        caller: As `UsageReports` has it.
        now: When it began.
        step: Shows how many are there.
    """
    tags = {
        PIPELINE_TAG: PIPELINE,
        FAMILY_TAG: run.settings.family,
        RUN_TAG: f"cleanup-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
    }
    return UsageReports(
        caller,
        tags,
        within=timedelta(minutes=run.settings.cleanup.usage_report_minutes),
        told=lambda done, asked: step(f"{done} of {show_count(asked, 'image usage report')}"),
    )


def _mark(sharers: Collection[str] | None) -> str:
    """Return a digest of who may launch an AMI, for a tag; empty where that is not known."""
    if sharers is None:
        return ""
    return hashlib.sha256("\n".join(sorted(sharers)).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class _Open:
    """A report that this run has to do with.

    Attributes:
        image_id: The AMI.
        origin: Where it comes from. ``lent`` is one that its run may still wait for: it is read and not deleted.
    """

    image_id: str
    origin: Literal["made", "taken over", "lent", "too old"]

    @property
    def is_reused(self) -> bool:
        """Whether another run had made it, and this one reads it."""
        return self.origin in ("taken over", "lent")


class _Region:
    """The reports in one region.

    Attributes:
        waiting: AMIs without a report yet, in the order of asking.
        reports: Every report that was made or found; all but those that are lent are deleted at the end.
        answers: What is known, by AMI.
    """

    def __init__(
        self,
        caller: Caller,
        account: str,
        tags: Mapping[str, str],
        *,
        fresh: timedelta,
        stop: threading.Event,
        now: Callable[[], datetime],
    ) -> None:
        self._caller, self._account, self._tags = caller, account, tags
        self._fresh, self._stop, self._now = fresh, stop, now
        self.waiting: dict[str, None] = {}
        self.reports: dict[str, _Open] = {}
        self.answers: dict[str, Answer] = {}
        self._open: dict[str, str] = {}
        self._looked_up: set[str] = set()
        # Reports that EC2 has listed: one that is missing then is gone, not late.
        self._seen: set[str] = set()
        # Of who may launch each AMI: whoever was added since a report was made is not in it.
        self.marks: dict[str, str] = {}
        # How many reports on an AMI were lost, for a client token that EC2 has not seen.
        self._lost: Counter[str] = Counter()
        # The pending report of another run that keeps EC2 from making one, by AMI.
        self._in_the_way: dict[str, str] = {}
        self._may_have_more = False
        # EC2's last words where it took no more reports.
        self._full = ""
        self._lock = threading.Lock()

    @property
    def unanswered(self) -> int:
        """How many AMIs are still asked about."""
        return len(self.waiting) + len(self._open)

    def step(self) -> None:
        """Read what is done, take over what an earlier run left, and make as many reports as EC2 takes."""
        self._read()
        self._take_over()
        self._make()

    def give_up(self, why: str) -> None:
        """Answer for each AMI that is still asked about that *why* nothing is known."""
        for image_id in [*self._open, *self.waiting]:
            other = self._in_the_way.get(image_id)
            more = f"another run's, {other}, was pending" if other else self._full
            self._fail(image_id, f"{why}; {more}" if more and image_id in self.waiting else why)

    def _take_over(self) -> None:
        unseen = [image_id for image_id in self.waiting if image_id not in self._looked_up]
        if not unseen:
            return
        self._looked_up |= set(unseen)
        try:
            found = ec2.reports_on(self._caller, unseen)
        except AwsError as exc:
            for image_id in unseen:
                self._fail(image_id, f"whether it has an image usage report could not be read: {exc}")
            return
        ours = [report for report in found if report.tags.get(PIPELINE_TAG) == self._tags[PIPELINE_TAG]]
        for report in ours:
            is_free = self._is_free(report)
            if report.image_id in self.waiting and self._is_fresh(report):
                origin: Literal["taken over", "lent"] = "taken over" if is_free else "lent"
                self.reports.setdefault(report.report_id, _Open(image_id=report.image_id, origin=origin))
                self._open[report.image_id] = report.report_id
                self._seen.add(report.report_id)
                del self.waiting[report.image_id]
            elif is_free:
                self.reports[report.report_id] = _Open(image_id=report.image_id, origin="too old")
                # While it is pending no other one on the AMI can be made.
                self._drop(report.report_id)
            else:
                self._in_the_way[report.image_id] = report.report_id

    def _is_free(self, report: UsageReport) -> bool:
        """Return whether *report* may be deleted: nobody else can be waiting for it.

        Nothing holds one run off another's reports: a plan has no lock, and a run may be on another machine.
        """
        if report.state != ec2.PENDING or report.tags.get(RUN_TAG) == self._tags[RUN_TAG]:
            return True
        return report.created is not None and self._now() - report.created > _LONGEST_RUN

    def _is_fresh(self, report: UsageReport) -> bool:
        if report.created is None or not report.is_whole or report.state not in (ec2.PENDING, ec2.AVAILABLE):
            return False
        if report.tags.get(SHARED_TAG) != (self.marks.get(report.image_id) or "not read"):
            return False
        return -_CLOCK_TOLERANCE <= self._now() - report.created <= self._fresh

    def _drop(self, report_id: str) -> None:
        try:
            ec2.delete(self._caller, report_id)
        except AwsError:
            return  # it is tried again at the end, and said
        del self.reports[report_id]

    def _make(self) -> None:
        if not self.waiting:
            return
        try:
            pending = len(ec2.reports_with(self._caller, {"state": ec2.PENDING}))
        except AwsError as exc:
            for image_id in list(self.waiting):
                self._fail(image_id, f"how many image usage reports are pending could not be read: {exc}")
            return
        chosen = list(self.waiting)[: max(0, ec2.MOST_PENDING - pending)]
        if chosen:
            with ThreadPoolExecutor(max_workers=min(_WORKERS, len(chosen))) as pool:
                list(pool.map(self._make_one, chosen))

    def _make_one(self, image_id: str) -> None:
        if self._stop.is_set():
            return
        again = f"{self._lost[image_id]}-" if image_id in self._lost else ""
        token = f"{again}{self._tags[RUN_TAG]}-{image_id}"[:128]
        try:
            mark = self.marks.get(image_id)
            tags = {**self._tags, SHARED_TAG: mark} if mark else self._tags
            report_id = ec2.create(self._caller, image_id, tags, token=token)
        except AwsError as exc:
            with self._lock:
                if isinstance(exc, RefusedError) and ec2.is_full(exc):
                    self._full = str(exc)
                    # It waits for its turn, behind those whose turn may come before.
                    self.waiting[image_id] = self.waiting.pop(image_id)
                    return
                self._may_have_more |= not isinstance(exc, RefusedError)
                self._fail(image_id, f"no image usage report could be made: {exc}")
            return
        with self._lock:
            self.reports[report_id] = _Open(image_id=image_id, origin="made")
            self._open[image_id] = report_id
            del self.waiting[image_id]

    def _read(self) -> None:
        if not self._open:
            return
        try:
            listed = {report.report_id: report for report in ec2.reports_on(self._caller, self._open)}
        except AwsError as exc:
            for image_id in list(self._open):
                self._fail(image_id, f"its image usage report could not be read: {exc}")
            return
        ready: dict[str, UsageReport] = {}
        for image_id, report_id in list(self._open.items()):
            report = listed.get(report_id)
            if report is None:
                # One that was made a moment ago may not be listed yet.
                if report_id in self._seen:
                    self._lose(image_id, report_id)
                continue
            self._seen.add(report_id)
            if report.state == ec2.PENDING:
                continue
            if report.image_id != image_id:
                self._fail(image_id, f"its image usage report {report_id} is about {report.image_id}, says EC2")
            elif report.state == ec2.AVAILABLE:
                ready[image_id] = report
            else:
                why = f": {report.reason}" if report.reason else ""
                self._fail(image_id, f"its image usage report has the state {report.state}{why}")
        self._answer(ready)

    def _lose(self, image_id: str, report_id: str) -> None:
        """Ask anew about an AMI whose report another run has deleted, or the run that had lent it."""
        del self._open[image_id]
        if self.reports[report_id].origin == "lent":
            del self.reports[report_id]
        self.waiting[image_id] = None
        self._looked_up.discard(image_id)
        self._in_the_way.pop(image_id, None)
        self._lost[image_id] += 1

    def _answer(self, ready: Mapping[str, UsageReport]) -> None:
        if not ready:
            return
        try:
            said = ec2.usages(self._caller, {report.report_id: image_id for image_id, report in ready.items()})
        except AwsError as exc:
            if isinstance(exc, RefusedError) and exc.code.endswith(".NotFound"):
                return  # another run has just deleted one: the next listing tells which
            for image_id in ready:
                self._fail(image_id, f"its image usage report could not be read: {exc}")
            return
        for image_id, report in ready.items():
            others = [usage for usage in said[report.report_id] if usage.count and usage.account != self._account]
            self._note(image_id, report.created, usages=tuple(others))

    def _fail(self, image_id: str, why: str) -> None:
        self._note(image_id, None, error=why)

    def _note(self, image_id: str, created: datetime | None, **known: Any) -> None:
        report_id = self._open.pop(image_id, None)
        self.waiting.pop(image_id, None)
        is_reused = report_id is not None and self.reports[report_id].is_reused
        self.answers[image_id] = Answer(
            image_id=image_id,
            account=self._account,
            region=self._caller.region,
            report_id=report_id,
            created=created,
            is_reused=is_reused,
            **known,
        )

    def delete(self, *, is_cut_off: bool) -> tuple[int, list[LeftBehind]]:
        """Delete every report that is not lent; return how many went, and those that are still there.

        Where an answer was lost, or the run is *is_cut_off*, there may be some that nobody has heard of.
        """
        left: list[LeftBehind] = []
        if is_cut_off or self._may_have_more:
            try:
                for report in ec2.reports_with(self._caller, {f"tag:{RUN_TAG}": self._tags[RUN_TAG]}):
                    self.reports.setdefault(report.report_id, _Open(image_id=report.image_id, origin="made"))
            except AwsError as exc:
                left.append(self._left_behind(f"of the run {self._tags[RUN_TAG]}", str(exc)))
        ours = [report_id for report_id, report in self.reports.items() if report.origin != "lent"]
        if not ours:
            return 0, left
        with ThreadPoolExecutor(max_workers=min(_WORKERS, len(ours))) as pool:
            problems = dict(zip(ours, pool.map(self._why_not_deleted, ours), strict=True))
        left += [self._left_behind(report_id, why) for report_id, why in problems.items() if why is not None]
        return sum(why is None for why in problems.values()), left

    def _left_behind(self, report_id: str, error: str) -> LeftBehind:
        return LeftBehind(report_id=report_id, account=self._account, region=self._caller.region, error=error)

    def _why_not_deleted(self, report_id: str) -> str | None:
        try:
            ec2.delete(self._caller, report_id)
        except AwsError as exc:
            return str(exc)
        return None
