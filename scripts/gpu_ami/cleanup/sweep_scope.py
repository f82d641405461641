"""What a sweep is about: what was requested, from which age on a build is over, and the kinds and regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gpu_ami.aws.build_resources import KINDS
from gpu_ami.bake import template
from gpu_ami.cleanup.policy import SETTING, SOURCE_NAMES, Policy, left_out
from gpu_ami.errors import UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.records.tags import REGION
from gpu_ami.units import parse_duration

# The template's defaults, for a checkout without it.
_TIMES = {"max_build_minutes": 180, "poll_delay_seconds": 15, "poll_max_attempts": 480}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke sweep`` requested.

    Attributes:
        older_than: Only builds older than this; never less than a build can take.
        regions: Regions; empty takes the settings' and those that the template copies the family's AMIs to.
        skip_source: Kinds that are not queried.
        allow_no_references: Whether an account in which nothing at all needs any AMI is believed.
        yes: Whether to act.
        fleet: Whether all accounts of the fleet are swept.
    """

    older_than: str | None = None
    regions: Sequence[str] = ()
    skip_source: Sequence[str] = ()
    allow_no_references: bool = False
    yes: bool = False
    fleet: bool = False


@dataclass(frozen=True, kw_only=True)
class Ages:
    """From which age on a build is over.

    Attributes:
        older_than: What it may take, or more if requested.
        requested: What was requested.
    """

    older_than: timedelta
    requested: timedelta


def policy_of_sweep(run: Invocation, request: Request, ages: Ages) -> Policy:
    """Return what decides about AMIs: nothing that is needed may go."""
    return Policy(
        older_than=ages.older_than,
        keep=1,
        skip_sources=left_out(run.settings),
        allow_no_references=request.allow_no_references,
    )


def ages_of(run: Invocation, requested: str | None) -> Ages:
    """Return from which age on a build is over: what it may take, or more if *requested*.

    Raises:
        UsageError: That is less than a build may take.
    """
    longest = longest_build(run)
    if requested is None:
        return Ages(older_than=longest, requested=timedelta())
    span = parse_duration(requested, name="--older-than")
    if span < longest:
        why = f"is less than a build may take ({longest}): a living one could be removed"
        msg = f"--older-than {requested} {why}. Give more."
        raise UsageError(msg)
    return Ages(older_than=span, requested=span)


def longest_build(run: Invocation) -> timedelta:
    """Return how long a build can take: the builder's own time limit and the wait for the AMI.

    Raises:
        UsageError: The template or its variables cannot be read.
    """
    values = _TIMES | _template_values(run)
    try:
        minutes, delay, attempts = (int(values[name]) for name in _TIMES)
    except (TypeError, ValueError, OverflowError) as exc:
        given = ", ".join(f"{name} is {values[name]!r}" for name in _TIMES)
        msg = f"Packer's variables {', '.join(_TIMES)} must be whole numbers ({given}): give numbers."
        raise UsageError(msg) from exc
    return timedelta(minutes=minutes, seconds=delay * attempts)


def _template_values(run: Invocation) -> dict[str, Any]:
    folder, target = run.workspace.root / "packer", run.target
    # Of a variable that a sweep does not need it may not know the value.
    wanted = {*_TIMES, "ami_regions"}
    return template.effective(folder, target.user_variables, {}, environment=target.environment, wanted=wanted)


def copy_regions(run: Invocation) -> list[str]:
    """Return the regions to which a build copies its AMI; what is no region is Packer's to refuse."""
    copies = _template_values(run).get("ami_regions")
    named = [name for name in copies if isinstance(name, str)] if isinstance(copies, list) else []
    return [name for name in named if REGION.fullmatch(name)]


def chosen_kinds(skipped: Sequence[str]) -> list[str]:
    """Return the kinds to look for.

    Raises:
        UsageError: One of *skipped* is none.
    """
    for name in skipped:
        if name in SOURCE_NAMES:
            msg = f"--skip-source {name!r} is not a kind of resource: name it in {SETTING}."
            raise UsageError(msg)
        if name not in KINDS:
            msg = f"--skip-source {name!r} is not a kind of resource: {', '.join(KINDS)}."
            raise UsageError(msg)
    return [kind for kind in KINDS if kind not in skipped]
