"""Resolves AMI ids that are aliases of an SSM parameter's value: ``resolve:ssm:NAME``, with a version or a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.source import ALIAS, Found, Reference, ids_in, references_in, strings_in

_MOST_NAMES = 10


def aliases_in(document: object) -> set[str]:
    """Return each parameter that *document* names instead of an AMI: ``NAME``, ``NAME:VERSION|LABEL`` or an ARN."""
    texts = (text.strip() for _, text in strings_in(document))
    return {text.removeprefix(ALIAS) for text in texts if text.startswith(ALIAS)}


def resolve(caller: Caller, names: Iterable[str]) -> dict[str, str]:
    """Return the value of each parameter in *names* that exists.

    Raises:
        AwsError: SSM refused or gave no usable answer.
    """
    requested = sorted(set(names))
    values: dict[str, str] = {}
    for start in range(0, len(requested), _MOST_NAMES):
        some = requested[start : start + _MOST_NAMES]
        values |= get_values(caller, some)
    return values


def resolve_each(caller: Caller, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the value of each parameter in *names* that exists, and SSM's code for each name that it refuses.

    For names out of texts, which may be anything: SSM refuses ten names for one that it does not like, such as another
    account's that it may not show. Then each is requested by itself.

    Raises:
        AwsError: SSM gave no usable answer.
    """
    values: dict[str, str] = {}
    refused: dict[str, str] = {}
    requested = sorted(set(names))
    for start in range(0, len(requested), _MOST_NAMES):
        some = requested[start : start + _MOST_NAMES]
        try:
            values |= get_values(caller, some)
        except RefusedError:
            for name in some:
                try:
                    values |= get_values(caller, [name])
                except RefusedError as exc:
                    refused[name] = exc.code
    return values, refused


def get_values(caller: Caller, names: Sequence[str]) -> dict[str, str]:
    """Return the values of at most ten parameters, by the name they were requested by.

    Raises:
        AwsError: SSM refused, or did not say of each name whether it exists.
    """
    answer = caller.call("ssm", "get_parameters", Names=list(names), WithDecryption=False)
    rows, unknown = answer.get("Parameters") or [], set(answer.get("InvalidParameters") or [])
    values = {name: row["Value"] for name in names for row in rows if _answers(name, row)}
    if missing := set(names) - set(values) - unknown:
        msg = f"ssm:GetParameters in {caller.region} said nothing about {sorted(missing)[0]}: the answer is cut off."
        raise UnansweredError(msg)
    return values


def _answers(name: str, row: Mapping[str, Any]) -> bool:
    """Return whether *row* is what was requested as *name*: a name or ARN, with a version or label or without."""
    selector = row.get("Selector") or ""
    selectors = {selector} if selector else {"", f":{row.get('Version')}"}
    return name in {given + suffix for given in (row["Name"], row.get("ARN") or "") for suffix in selectors}


def with_aliases(caller: Caller, source: str, named: Sequence[tuple[str, object]]) -> Found:
    """Return the references in each document of *named*, its aliases resolved.

    Args:
        caller: Calls the account and region.
        source: The source that found the documents.
        named: Who made each document, and the document.
    """
    # Two documents may be made by one, as two refreshes are by a group.
    aliases = [aliases_in(document) for _, document in named]
    values = resolve(caller, {name for names in aliases for name in names})
    references: list[Reference] = []
    notes: list[str] = []
    for (who, document), requested in zip(named, aliases, strict=True):
        references += references_in(document, source, who)
        for name in sorted(requested):
            if name not in values:
                notes.append(f"{who} names the SSM parameter {name}, which does not exist")
            for target in sorted(ids_in(values.get(name, ""))):
                references.append(Reference(target, source, f"{who}: resolve:ssm:{name}"))
    return Found(references, notes)
