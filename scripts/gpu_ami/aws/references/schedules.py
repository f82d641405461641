"""EventBridge Scheduler: what the inputs of schedules name."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.source import Found, SourceQuery, members
from gpu_ami.aws.references.texts import Mentions, looked_up, mentioned, mentions_in, reading

_WORKERS = 32
_GONE = "ResourceNotFoundException"
_PAGE = 100

# A schedule's group and name.
_Key = tuple[str, str]


class Schedules:
    """All schedules of all groups, disabled and past ones too: the listing has no inputs, so each is read.

    A second query reads those that were changed meanwhile. A target without input gets a default event (API reference
    of Target), so a missing one is no fault; a target that is missing itself is. To show an input that is encrypted
    with a customer's key AWS asks the caller for ``kms:Decrypt`` and refuses the whole schedule without it.
    """

    name = "schedules"
    service = "scheduler"
    is_essential = False
    is_use = False
    reads = members(
        "scheduler:GetSchedule",
        "Target.Input",
        "Target.EcsParameters.PlacementConstraints[].expression",
        "Target.SageMakerPipelineParameters.PipelineParameterList[].Value",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what the target of each schedule names."""
        rows = caller.pages("scheduler", "list_schedules", "Schedules", MaxResults=_PAGE)
        stamps = {(str(row["GroupName"]), str(row["Name"])): row.get("LastModificationDate") for row in rows}
        known: dict[_Key, tuple[object, Mentions]] = query.memory.setdefault("schedules", {})
        stale = [key for key, stamp in stamps.items() if stamp is None or known.get(key, (None,))[0] != stamp]
        if stale:
            with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
                read = list(pool.map(lambda key: _read(caller, key), stale))
            for key, mentions in zip(stale, read, strict=True):
                known.pop(key, None)
                # One that was deleted, or is not shown yet, is not remembered: the next query looks again.
                if mentions is not None:
                    known[key] = (stamps[key], mentions)
        named = [(_who(key), known[key][1]) for key in stamps if key in known]
        return looked_up(caller, [one for who, mentions in named for one in mentioned(mentions, self.name, who)])


def _read(caller: Caller, key: _Key) -> Mentions | None:
    """Return what a schedule names; None when it was deleted meanwhile."""
    group, name = key
    try:
        with reading(_who(key)):
            answer = caller.call("scheduler", "get_schedule", GroupName=group, Name=name)
    except RefusedError as exc:
        if exc.code == _GONE:
            return None
        raise
    target = answer.get("Target")
    if not isinstance(target, Mapping) or not target.get("Arn"):
        msg = f"{_who(key)}: it came without its target: the answer is cut off or malformed."
        raise UnansweredError(msg)
    return mentions_in({"Target": _without_tags(target)})


def _without_tags(target: Mapping[str, Any]) -> dict[str, Any]:
    """Return *target* without the tags that a task is to get: they make nothing launch."""
    task = target.get("EcsParameters") or {}
    return {**target, "EcsParameters": {name: value for name, value in task.items() if name != "Tags"}}


def _who(key: _Key) -> str:
    group, name = key
    return f"schedule {name}" if group == "default" else f"schedule {group}/{name}"
