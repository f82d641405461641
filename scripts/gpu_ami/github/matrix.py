"""`invoke matrix`: the families and regions as the matrix of a workflow, for ``fromJSON``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_ami.console import Table
from gpu_ami.errors import UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.records.tags import REGION
from gpu_ami.settings import chosen_names
from gpu_ami.units import show_count

# GitHub makes no more jobs of one matrix (docs.github.com, "Running variations of jobs in a workflow").
_MOST_JOBS = 256


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke matrix`` requested.

    Attributes:
        regions: Regions joined by commas; None takes the pipeline's.
    """

    regions: str | None = None


def run(run: Invocation, request: Request) -> None:
    """Print an entry for each family, or each that was named, in each region.

    Raises:
        UsageError: A family or region does not exist, or GitHub would refuse so many jobs.
    """
    settings = run.settings
    rows = [
        (family, region)
        for family in chosen_names(settings, run.options)
        for region in _regions(request.regions, settings.region)
    ]
    if len(rows) > _MOST_JOBS:
        jobs = show_count(len(rows), "job")
        msg = f"{jobs} are more than the {_MOST_JOBS} of one matrix: name some with --family or --regions."
        raise UsageError(msg)
    regions_of = Counter(family for family, _ in rows)
    document = {
        "include": [
            {"family": family, "region": region, "name": name_of(family, region if regions_of[family] > 1 else None)}
            for family, region in rows
        ]
    }
    run.console.result(document, Table(columns=("family", "region"), rows=rows))


def name_of(family: str, region: str | None) -> str:
    """Return what ends the names of a build's artifacts and branch; *region* is given where a family has several.

    No family's name has a dot, so no two entries share a name.
    """
    return family if region is None else f"{family}.{region}"


def _regions(text: str | None, own: str) -> Sequence[str]:
    named = [region for region in (text or "").split(",") if region]
    if wrong := next((region for region in named if REGION.fullmatch(region) is None), None):
        msg = f"--regions {wrong!r} is not an AWS region: give some such as ap-northeast-2,us-east-1."
        raise UsageError(msg)
    return tuple(dict.fromkeys(named)) or (own,)
