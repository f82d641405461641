"""Hand-over receipts: per address the newest one's new and old AMI, the one to roll back to.

Two root modules, and one module in two regions or accounts, have the same addresses: the receipts of one say nothing of
the other's. A receipt is written before the act. One whose act was killed or failed says what might be live, not what
is: the newest that was carried out counts beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from gpu_ami.aws.images import parse_time
from gpu_ami.aws.references.source import Reference, ids_in
from gpu_ami.records.receipt import FORMAT

_NAME = "receipts"
_UNSURE = frozenset({"started", "failed"})


class _History(NamedTuple):
    """What the receipts with one history have in common."""

    folder: str
    account: str
    region: str
    address: str
    is_sure: bool


def protected_by_receipts(texts: Iterable[tuple[str, str]]) -> list[Reference]:
    """Return what the receipts *texts* (name and content) need; the folder in a name tells root modules apart.

    A receipt is ``{"when": TIME, "account": …, "region": …, "changes": [{"address": …, "old": AMI, "new": AMI}, …],
    "status": …}``. One of another form cannot be compared with the others, so every id in it is needed.
    """
    newest: dict[_History, tuple[str, dict[str, Any], str]] = {}
    references: list[Reference] = []
    for shown, text in texts:
        try:
            when, account, region, changes, is_sure = _read(text)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            detail = f"named in the receipt {shown}, which cannot be understood"
            references += [Reference(target, _NAME, detail) for target in sorted(ids_in(text))]
            continue
        for change in changes:
            for sure in {False, is_sure}:
                history = _History(shown.rpartition("/")[0], account, region, change["address"], sure)
                if history not in newest or when >= newest[history][0]:
                    newest[history] = (when, change, shown)
    for history, (_, change, shown) in sorted(newest.items(), key=lambda item: item[0]):
        for key, role in (("new", "live"), ("old", "the one to roll back to")):
            for target in sorted(ids_in(json.dumps(change.get(key)))):
                references.append(Reference(target, _NAME, f"{role} at {history.address} by {shown}"))
    return list(dict.fromkeys(references))


def _read(text: str) -> tuple[str, str, str, list[dict[str, Any]], bool]:
    document = json.loads(text)
    moment = parse_time(document["when"])
    changes: list[dict[str, Any]] = document["changes"]
    if document.get("format", FORMAT) != FORMAT:
        raise ValueError(text[:40])
    if moment is None or not changes or any(not isinstance(change["address"], str) for change in changes):
        raise ValueError(text[:40])
    if any(not ids_in(json.dumps(change.get("new"))) for change in changes):
        raise ValueError(text[:40])
    account, region = (str(document.get(key)) for key in ("account", "region"))
    return moment.isoformat(), account, region, changes, document.get("status") not in _UNSURE
