"""CloudFormation: what the parameters and outputs of stacks name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members
from gpu_ami.aws.references.texts import looked_up, named_in

_GONE = "DELETE_COMPLETE"
# Either the new values will be in force or those from before, which DescribeStacks does not show meanwhile.
_UPDATING = frozenset({"UPDATE_IN_PROGRESS", "UPDATE_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"})
# What stands for the value of a NoEcho parameter, and for what an SSM parameter of that kind resolves to; a single
# asterisk is a value like any other.
_MASK = re.compile(r"\*{4,}")
# The same in every region and for every stack, so that a plan says it once.
_MASKED = "NoEcho parameters of stacks come masked and were not read"
_UNDER_WAY = "of stacks whose update is under way or failed only the values shown now were read"


class Stacks:
    """All stacks that are there, nested ones too: one listing has the parameters and outputs of each.

    Deleted stacks are only shown when they are requested by their ids (API reference of DescribeStacks). All other
    states count: one that failed goes on or back with its values, one in review (``REVIEW_IN_PROGRESS``) begins with
    them, and after a rollback those from before the update are shown again. Change sets that wait, templates and the
    parameters of stack sets are not read; stacks that a set has made are stacks.
    """

    name = "stacks"
    service = "cloudformation"
    is_essential = False
    is_use = False
    reads = members(
        "cloudformation:DescribeStacks",
        "Stacks[].Parameters[].ParameterValue",
        "Stacks[].Parameters[].ResolvedValue",
        "Stacks[].Outputs[].OutputValue",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what each value names; a parameter of a type that SSM resolves has two."""
        del query
        references: list[Reference] = []
        notes: set[str] = set()
        for row in caller.pages("cloudformation", "describe_stacks", "Stacks"):
            if row["StackStatus"] == _GONE:
                continue
            if row["StackStatus"] in _UPDATING:
                notes.add(_UNDER_WAY)
            for where, value in _values(row):
                if _MASK.fullmatch(value):
                    notes.add(_MASKED)
                who = f"stack {row['StackName']}: {where}"
                references += [Reference(target, self.name, who) for target in named_in(value)]
        return looked_up(caller, references, sorted(notes))


def _values(stack: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in stack.get("Parameters") or ():
        where = f"parameter {row['ParameterKey']}"
        yield where, _value(stack, where, row, "ParameterValue")
        if row.get("ResolvedValue") is not None:
            yield f"{where}, resolved", row["ResolvedValue"]
    for row in stack.get("Outputs") or ():
        where = f"output {row['OutputKey']}"
        yield where, _value(stack, where, row, "OutputValue")


def _value(stack: Mapping[str, Any], where: str, row: Mapping[str, Any], member: str) -> str:
    value = row.get(member)
    if not isinstance(value, str):
        msg = f"stack {stack['StackName']}: {where} came without its value: the answer is cut off or malformed."
        raise UnansweredError(msg)
    return value
