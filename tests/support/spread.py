"""A clean-up of the demo organization spread over many machines: list, survey, merge and apply as they are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_ami.cleanup import cleanup, survey
from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import PipelineError
from gpu_ami.fleet import fleet
from gpu_ami.fleet.fleet_list import FOLDER
from tests.support.demo_organization import DemoOrganization, said

SHARED = Flags(include_shared=True)


@dataclass(frozen=True)
class Spread:
    """The demo organization, and the folder in which its list, parts and plan lie."""

    demo: DemoOrganization

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self.demo.folder / FOLDER

    @property
    def listing(self) -> Path:
        """The list."""
        return self.folder / "fleet.json"

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.folder / "plan.json"

    def part(self, shard: str) -> Path:
        """Return the file of a shard."""
        number, _, count = shard.partition("/")
        return self.folder / f"part-{number}-of-{count}.jsonl.gz"

    def lists(self, shards: int = 3, regions: Sequence[str] | None = None) -> dict[str, Any]:
        """List the fleet; return what was printed."""
        run = self.demo.run()
        chosen = self.demo.regions if regions is None else regions
        fleet.run(run, fleet.Request(out=str(self.listing), shards=str(shards), regions=tuple(chosen)))
        return said(run)

    def survey(self, shard: str, flags: Flags = SHARED) -> dict[str, Any]:
        """Read one shard; return what was printed."""
        run = self.demo.run()
        survey.run(run, survey.Request(list=str(self.listing), shard=shard, out=str(self.part(shard)), flags=flags))
        return said(run)

    def surveys(self, shards: int = 3, regions: Sequence[str] | None = None) -> list[str]:
        """List the fleet and read all shards; return their names."""
        names: list[str] = self.lists(shards, regions)["shards"]
        for name in names:
            self.survey(name)
        return names

    def merge(self, *references: Path, flags: Flags = SHARED) -> tuple[dict[str, Any], PipelineError | None]:
        """Put the parts together; return the plan, and how it ended where that was not well."""
        paths = [str(path) for path in references or (self.folder,)]
        return self._clean_up(list=str(self.listing), references=paths, plan=str(self.plan), flags=flags)

    def apply(self, *owners: str) -> tuple[dict[str, Any], PipelineError | None]:
        """Carry the plan out for *owners*; return the results, and how it ended where that was not well."""
        return self._clean_up(apply=str(self.plan), owners=owners)

    def _clean_up(self, **request: Any) -> tuple[dict[str, Any], PipelineError | None]:
        run, error = self.demo.run(), None
        try:
            cleanup.run(run, cleanup.Request(fleet=True, **request))
        except PipelineError as exc:
            if not run.console._out.getvalue():  # type: ignore[union-attr]
                raise
            error = exc
        return said(run), error
