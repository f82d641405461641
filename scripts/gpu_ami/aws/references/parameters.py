"""SSM parameters: any parameter whose value holds an AMI id, whatever its name."""

from __future__ import annotations

from typing import Any

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.aliases import get_values
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, ids_in, members, side_by_side
from gpu_ami.units import show_count

_WORKERS = 8
_SECRET = "SecureString"  # noqa: S105 - SSM's name of a type
_MOST_NAMES = 10


class Parameters:
    """All own parameters. Secure ones are named but never decrypted; a reason names the parameter, never its value."""

    name = "parameters"
    service = "ssm"
    is_essential = True
    is_use = True
    reads = members("ssm:GetParameters", "Parameters[].Value")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMIs in each value; a second query reads only the values that changed."""
        rows = list(caller.pages("ssm", "describe_parameters", "Parameters", MaxResults=50))
        secret = sorted(row["Name"] for row in rows if row.get("Type") == _SECRET)
        stamps = {row["Name"]: _stamp(row) for row in rows if row.get("Type") != _SECRET}
        known: dict[str, tuple[object, list[str]]] = query.memory.setdefault("parameters", {})
        stale = sorted(name for name, stamp in stamps.items() if name not in known or known[name][0] != stamp)
        chunks = [stale[start : start + _MOST_NAMES] for start in range(0, len(stale), _MOST_NAMES)]
        for values in side_by_side(lambda names: get_values(caller, names), chunks, query, workers=_WORKERS):
            known.update({name: (stamps[name], sorted(ids_in(value))) for name, value in values.items()})
        # A parameter that was deleted between the listing and the reading needs nothing any more.
        references = [
            Reference(target, self.name, f"SSM parameter {name}")
            for name in sorted(stamps)
            for target in known.get(name, (None, []))[1]
        ]
        return Found(references, _unread(secret))


def _stamp(row: dict[str, Any]) -> tuple[object, object]:
    return row.get("Version"), row.get("LastModifiedDate")


def _unread(secret: list[str]) -> list[str]:
    if not secret:
        return []
    shown = ", ".join(secret[:5]) + (f" and {len(secret) - 5} more" if len(secret) > 5 else "")
    were = "was" if len(secret) == 1 else "were"
    return [f"{show_count(len(secret), 'SecureString parameter')} {were} not read: {shown}"]
