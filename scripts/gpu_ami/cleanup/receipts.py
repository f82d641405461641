"""Hand-over receipts: per address the newest one's new and old AMI, the one to roll back to.

A receipt is written before the act. One whose act was killed or failed says what might be live, not what is: the newest
that was carried out counts beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gpu_ami.aws.images import parse_time
from gpu_ami.aws.references.source import Reference, ids_in

_NAME = "receipts"
_UNSURE = frozenset({"started", "failed"})


def protected_by_receipts(texts: Iterable[tuple[str, str]]) -> list[Reference]:
    """Return what the receipts *texts* (name and content) need.

    A receipt is ``{"when": TIME, "changes": [{"address": …, "old": AMI, "new": AMI}, …], "status": …}``. One of another
    form cannot be compared with the others, so every id in it is needed.
    """
    newest: dict[tuple[str, bool], tuple[str, dict[str, Any], str]] = {}
    references: list[Reference] = []
    for shown, text in texts:
        try:
            when, changes, is_sure = _read(text)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            detail = f"named in the receipt {shown}, which cannot be understood"
            references += [Reference(target, _NAME, detail) for target in sorted(ids_in(text))]
            continue
        for change in changes:
            for place in {(change["address"], False), (change["address"], is_sure)}:
                if place not in newest or when >= newest[place][0]:
                    newest[place] = (when, change, shown)
    for (address, _), (_, change, shown) in sorted(newest.items()):
        for key, role in (("new", "live"), ("old", "the one to roll back to")):
            for target in sorted(ids_in(json.dumps(change.get(key)))):
                references.append(Reference(target, _NAME, f"{role} at {address} by {shown}"))
    return list(dict.fromkeys(references))


def _read(text: str) -> tuple[str, list[dict[str, Any]], bool]:
    document = json.loads(text)
    moment = parse_time(document["when"])
    changes: list[dict[str, Any]] = document["changes"]
    if moment is None or not changes or any(not isinstance(each["address"], str) for each in changes):
        raise ValueError(text[:40])
    if any(not ids_in(json.dumps(change.get("new"))) for change in changes):
        raise ValueError(text[:40])
    return moment.isoformat(), changes, document.get("status") not in _UNSURE
