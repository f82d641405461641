"""Step Functions: what the definitions of state machines name, as of those that launch instances or update Batch."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members
from gpu_ami.aws.references.texts import looked_up, named_in, reading, way_round

_WORKERS = 16
_GONE = "StateMachineDoesNotExist"
# The most rows that a page of either listing can have.
_PAGE = 1000


@dataclass(frozen=True)
class _Machine:
    """What is kept of a state machine.

    Attributes:
        who: As an error and a reason call it.
        revision: Its current revision; None when it was never updated.
        ids: What its definition names; of a parameter that stands for an id its name, whose value may change.
        versions: Its published versions, with when each was made: a number is never used twice for one machine.
    """

    who: str
    revision: str | None
    ids: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]


class StateMachines:
    """All state machines and all their published versions: an alias, a rule or a schedule may start any of them.

    The listing does not say when a machine was changed last, so each is read again by a second query. A version never
    changes and is read once. Publishing makes one of the machine's current revision, which is the first as long as it
    has no id (API reference of PublishStateMachineVersion), so versions are listed again only of a changed machine:
    any that was published of the same revision says what the machine itself says.

    AWS refuses to show a definition that is encrypted with a key that the caller may not use
    (``KmsAccessDeniedException``), or shows ``{}`` in its stead to whoever requests no more than metadata (API
    reference of DescribeStateMachine). Both, and a definition that is no JSON with states, have failed.
    """

    name = "state-machines"
    service = "stepfunctions"
    is_essential = False
    is_use = False
    reads = members("stepfunctions:DescribeStateMachine", "definition")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what each definition names."""
        rows = list(
            caller.pages(
                "stepfunctions", "list_state_machines", "stateMachines", page_key="nextToken", maxResults=_PAGE
            )
        )
        if not rows:
            return Found()
        known: dict[tuple[str, str], _Machine] = query.memory.setdefault("machines", {})
        published: dict[tuple[str, str], tuple[str, ...]] = query.memory.setdefault("versions", {})
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            read = pool.map(lambda row: _read_machine(caller, row, known.get(_key(row))), rows)
            machines = {_key(row): machine for row, machine in zip(rows, read, strict=True) if machine is not None}
            new = [
                (version, f"{machine.who} version {_number(version[0])}")
                for machine in machines.values()
                for version in machine.versions
                if version not in published
            ]
            named = list(pool.map(lambda pair: _version_ids(caller, pair[0][0], pair[1]), new))
        # One that was deleted, or is not shown yet, is not remembered: the next query looks again.
        published.update({version: ids for (version, _), ids in zip(new, named, strict=True) if ids is not None})
        known.clear()
        known.update(machines)
        return looked_up(
            caller, [reference for machine in machines.values() for reference in _references(machine, published)]
        )


def _read_machine(caller: Caller, row: Mapping[str, Any], before: _Machine | None) -> _Machine | None:
    """Return what a machine names and which versions it has; None when it was deleted meanwhile."""
    arn, who = row["stateMachineArn"], f"state machine {row['name']}"
    described = _described(caller, arn, who)
    if described is None:
        return None
    revision, ids = described.get("revisionId"), _ids(who, described)
    if before is not None and (before.revision, before.ids) == (revision, ids):
        return before
    versions = _versions(caller, arn, who)
    return None if versions is None else _Machine(who, revision, ids, versions)


def _version_ids(caller: Caller, arn: str, who: str) -> tuple[str, ...] | None:
    """Return what a version names; None when it was deleted meanwhile."""
    described = _described(caller, arn, who)
    return None if described is None else _ids(who, described)


def _described(caller: Caller, arn: str, who: str) -> Mapping[str, Any] | None:
    try:
        with reading(who):
            return caller.call("stepfunctions", "describe_state_machine", stateMachineArn=arn)
    except RefusedError as exc:
        if exc.code == _GONE:
            return None
        if exc.code.lower().startswith("kms"):
            exc.args = (f"{str(exc).rstrip('.')}. {way_round(StateMachines.name)}",)
        raise


def _versions(caller: Caller, arn: str, who: str) -> tuple[tuple[str, str], ...] | None:
    """Return the published versions of a machine; None when it was deleted meanwhile.

    The listing has no code for that (its model has ``InvalidArn`` and ``ValidationException`` for everything), so
    whether the machine is there at all is what showing it says.
    """
    try:
        with reading(who):
            rows = list(
                caller.pages(
                    "stepfunctions",
                    "list_state_machine_versions",
                    "stateMachineVersions",
                    page_key="nextToken",
                    stateMachineArn=arn,
                    maxResults=_PAGE,
                )
            )
    except RefusedError as exc:
        if not exc.is_denied and _described(caller, arn, who) is None:
            return None
        raise
    return tuple((str(row["stateMachineVersionArn"]), str(row["creationDate"])) for row in rows)


def _ids(who: str, described: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a definition names.

    Raises:
        UnansweredError: It is masked, or cut off.
    """
    text = described.get("definition")
    if not isinstance(text, str) or not _is_whole(text):
        msg = f"{who}: its definition is masked or cut off. {way_round(StateMachines.name)}"
        raise UnansweredError(msg)
    return tuple(named_in(text))


def _is_whole(text: str) -> bool:
    """Return whether *text* is a definition to its end: a JSON object with states, as the language demands."""
    try:
        return "States" in msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False


def _references(machine: _Machine, published: Mapping[tuple[str, str], tuple[str, ...]]) -> list[Reference]:
    found = [(machine.who, target) for target in machine.ids]
    for version in machine.versions:
        found += [(f"{machine.who} version {_number(version[0])}", target) for target in published.get(version, ())]
    return [Reference(target, StateMachines.name, f"{who}: definition") for who, target in found]


def _number(arn: str) -> str:
    return arn.rpartition(":")[2]


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["stateMachineArn"]), str(row.get("creationDate"))
