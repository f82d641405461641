"""What no document says and only a run on AWS can: a list of questions that a bench answers by what it saw."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpu_ami.measure.phases import at
from gpu_ami.measure.timeline import Host
from gpu_ami.units import show_count

_GROUP = re.compile(r"AWSBatch-.+-asg-[0-9a-f-]+")
# EC2's and EBS's words where a launch would go over the Region's 5,000 MiB/s; which of them it is, is the question.
_OVER_RATE = re.compile(r"InitializationRate", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """One question.

    Attributes:
        question: What was open.
        answer: What this run saw; None where it saw nothing of it.
        evidence: By what.
    """

    question: str
    answer: str | None
    evidence: str


def settled(hosts: Sequence[Host]) -> tuple[Settled, ...]:
    """Return every question with what *hosts*, void ones included, say of it."""
    return tuple(
        Settled(question=question, answer=answer(hosts), evidence=evidence) for question, answer, evidence in _QUESTIONS
    )


def _carried(hosts: Sequence[Host]) -> str | None:
    """Return whether Batch carries the rate of a launch template to its hosts."""
    seen = [host for host in hosts if host.expected.rate_mib_s and host.facts.volume_id]
    if not seen:
        return None
    kept = sum(host.facts.rate_mib_s == host.expected.rate_mib_s for host in seen)
    copies = [host for host in seen if host.facts.is_copy_read]
    in_copy = sum(host.facts.copied_rate_mib_s == host.expected.rate_mib_s for host in copies)
    return f"on {kept} of {show_count(len(seen), 'volume')}; in {in_copy} of {len(copies)} copies of the template"


def _lag(first: str, last: str) -> Callable[[Sequence[Host]], str | None]:
    def answer(hosts: Sequence[Host]) -> str | None:
        found = [(at(host, first), at(host, last)) for host in hosts]
        lags = sorted(late - early for early, late in found if early is not None and late is not None)
        if not lags:
            return None
        return f"{lags[0]:.1f} to {lags[-1]:.1f} s, median {statistics.median(lags):.1f} s ({len(lags)})"

    return answer


def _pull_resolution(hosts: Sequence[Host]) -> str | None:
    """Return whether ECS keeps parts of a second: a handful of times cannot all be whole by chance."""
    times = [known for host in hosts for name in ("pull_started", "pull_stopped") if (known := at(host, name))]
    if not times:
        return None
    return "milliseconds" if any(round(time * 1000) % 1000 for time in times) else "whole seconds"


def _metadata(hosts: Sequence[Host]) -> str | None:
    said = [host.facts.has_task_metadata for host in hosts if host.facts.has_task_metadata is not None]
    return f"yes, on {sum(said)} of {show_count(len(said), 'host')}" if any(said) else "no" if said else None


def _group(hosts: Sequence[Host]) -> str | None:
    names = [host.facts.group for host in hosts if host.facts.group]
    if not names:
        return None
    others = [name for name in names if not _GROUP.fullmatch(name)]
    return f"another: {others[0]}" if others else "AWSBatch-ENVIRONMENT-asg-ID"


def _volume_kind(hosts: Sequence[Host]) -> str | None:
    kinds = [host.facts.volume_kind for host in hosts if host.facts.volume_id]
    if not kinds:
        return None
    return f"type known of {sum(map(bool, kinds))} of {show_count(len(kinds), 'volume')} while their hosts lived"


def _over_rate(hosts: Sequence[Host]) -> str | None:
    said = [text for host in hosts for text in (host.trouble, host.facts.status_reason) if text]
    return next((text for text in said if _OVER_RATE.search(text)), None)


def _not_by_bench(_: Sequence[Host]) -> None:
    return None


_QUESTIONS: tuple[tuple[str, Callable[[Sequence[Host]], str | None], str], ...] = (
    ("Does Batch carry the volume's rate?", _carried, "DescribeVolumes, DescribeLaunchTemplateVersions"),
    ("Batch's startedAt after ECS's", _lag("started", "running"), "DescribeJobs, DescribeTasks"),
    ("ECS's createdAt after the instance's registration", _lag("registered", "placed"), "DescribeTasks"),
    ("Resolution of ECS's pull times", _pull_resolution, "DescribeTasks"),
    ("Is the task's metadata there in a Batch job?", _metadata, "the probe"),
    ("Is DescribeVolumeStatus in time?", _volume_kind, "DescribeVolumeStatus"),
    ("The Auto Scaling group's name", _group, "tag aws:autoscaling:groupName"),
    ("EC2's LaunchTime after Auto Scaling's StartTime", _lag("asked", "launched"), "DescribeScalingActivities"),
    ("Error of a launch over 5,000 MiB/s", _over_rate, "only where it happened"),
    ("When Batch ends an idle host", _not_by_bench, "a bench takes its hosts down at once"),
    ("The shebang of a Run Command script", _not_by_bench, "`invoke verify`"),
)
