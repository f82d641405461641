"""Parses Terraform's plan: what happens to each resource, and to the AMI of each compute environment.

The form is that of ``terraform show -json PLANFILE``, format version 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from packaging.version import Version

from gpu_ami.errors import TerraformError
from gpu_ami.foreign_text import bare_reason, visible
from gpu_ami.terraform import plan_references, plan_templates
from gpu_ami.terraform.plan_changes import ACTIONS, EnvironmentChange, ResourceChange, Word, is_taken, parse

_UNDONE = ("no-op", "read")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One plan.

    Attributes:
        terraform_version: Who made it.
        variables: Root variables with their values; never printed, they may be secret.
        changes: Managed resources, in Terraform's order.
        outputs: Names of outputs that change.
        is_traced: Whether the plan has the configuration that it was made from.
        is_taken: Whether that gives the variable that is handed over to an environment, also to one that it now makes
            none of.
        updates: Address to what an update in place changes, an attribute a line; sensitive values are left out.
    """

    terraform_version: str
    variables: Mapping[str, Any]
    changes: tuple[ResourceChange, ...]
    outputs: tuple[str, ...] = ()
    is_traced: bool = False
    is_taken: bool = False
    updates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def given(self, variable: str, region: str) -> Any:
        """Return the value of a root variable, of one that maps regions to values that of *region*."""
        value = self.variables.get(variable)
        return value.get(region) if isinstance(value, dict) else value

    @property
    def environments(self) -> tuple[EnvironmentChange, ...]:
        """The compute environments, unchanged ones too; not those that an earlier replacement left behind."""
        return tuple(change for change in self._environments if change.deposed is None)

    @property
    def deposed(self) -> tuple[ResourceChange, ...]:
        """What earlier replacements left behind, and the plan takes away or lets go of."""
        return tuple(change for change in self.changes if change.deposed is not None and change.word)

    @property
    def _environments(self) -> tuple[EnvironmentChange, ...]:
        return tuple(change for change in self.changes if isinstance(change, EnvironmentChange))

    @property
    def ending(self) -> tuple[EnvironmentChange, ...]:
        """The compute environments whose instances the plan replaces or ends, those left behind included."""
        return tuple(change for change in self._environments if change.replaces_instances)

    @property
    def ours(self) -> tuple[EnvironmentChange, ...]:
        """Those of `environments` that take the variable that is handed over, or had one of our AMIs."""
        return tuple(change for change in self.environments if change.is_ours)

    @property
    def acts(self) -> tuple[ResourceChange, ...]:
        """The resources that something happens to; also those that only move, or that Terraform only takes up."""
        return tuple(change for change in self.changes if change.word)

    @property
    def uprooted(self) -> tuple[ResourceChange, ...]:
        """Those of `acts` that do not stay what and where they were: nothing of them happens unsaid."""
        stays = ("create", "update")
        return tuple(act for act in self.acts if act.word not in stays or act.previous_address or act.imported)

    def count(self) -> dict[str, int]:
        """Return how many resources each word of `Word` is said of; a moved or imported one may change as well."""
        kinds: tuple[Word, ...] = get_args(Word)
        found: dict[str, int] = {kind: sum(1 for change in self.changes if change.word == kind) for kind in kinds}
        found["move"] = sum(1 for change in self.changes if change.previous_address)
        found["import"] = sum(1 for change in self.changes if change.imported)
        return found


def read(text: str, variable: str | None = None) -> Planned:
    """Return the plan in *text*, the output of ``terraform show -json PLANFILE``.

    Args:
        text: The plan.
        variable: The root variable that is handed over: which AMIs the configuration gives it is followed.

    Raises:
        TerraformError: It is cut off, incomplete or of a form that this version does not know.
    """
    try:
        document = json.loads(text)
        if Version(document["format_version"]).major != 1:
            msg = f"Terraform's plan has format {document['format_version']}, not 1.x: use a Terraform of series 1."
            raise TerraformError(msg)
        if document.get("errored") or document.get("complete") is False:
            msg = "Terraform's plan is not complete: run `terraform plan` in its folder to see what stops it."
            raise TerraformError(msg)
        configuration = plan_references.of(document)
        rows = [row for row in document.get("resource_changes", []) if row["mode"] == "managed"]
        return Planned(
            terraform_version=str(document["terraform_version"]),
            variables={name: given.get("value") for name, given in document.get("variables", {}).items()},
            changes=tuple(_with_start(parse(row, configuration, variable), row, rows, configuration) for row in rows),
            outputs=tuple(
                name for name, change in document.get("output_changes", {}).items() if change["actions"] != ["no-op"]
            ),
            is_traced=configuration is not None,
            is_taken=is_taken(configuration, variable),
            updates={
                str(row["address"]): tuple(map(visible, _differing(row["change"])))
                for row in rows
                if row["change"]["actions"] == ["update"]
            },
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        msg = f"Terraform's plan makes no sense ({bare_reason(exc)}): run `invoke plan` again."
        raise TerraformError(msg) from exc


def _with_start(
    change: ResourceChange,
    row: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    configuration: plan_references.Configuration | None,
) -> ResourceChange:
    """Return an environment's change with what other rows say of how its instances would be started."""
    if not isinstance(change, EnvironmentChange):
        return change
    return replace(change, start=plan_templates.start_of(row, rows, configuration))


def differences(text: str) -> str:
    """Return what the plan in *text* would change, an attribute a line, for a person: `plan -json` does not say it.

    Sensitive values are left out. *text* is one that `read` takes.
    """
    lines: list[str] = []
    for row in json.loads(text).get("resource_changes", []):
        action = ACTIONS[tuple(row["change"]["actions"])]
        notes = [
            *([f"the deposed object {row['deposed']}"] if row.get("deposed") else []),
            *([f"from {row['previous_address']}"] if row.get("previous_address") else []),
            *(["imported"] if row["change"].get("importing") else []),
        ]
        if action not in _UNDONE or notes:
            shown = f" ({', '.join(notes)})" if notes else ""
            lines += ["", f"{action} {row['address']}{shown}", *_differing(row["change"])]
    return "".join(f"{visible(line)}\n" for line in lines)


def _differing(change: Mapping[str, Any]) -> Iterator[str]:
    before, after = (dict(_leaves(change.get(key))) for key in ("before", "after"))
    hidden = _marked(change.get("before_sensitive")) | _marked(change.get("after_sensitive"))
    coming = _marked(change.get("after_unknown"))
    for path in sorted({*before, *after, *coming}):
        old, new = before.get(path), after.get(path)
        if old == new and path not in coming:
            continue
        if any(not prefix or path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")) for prefix in hidden):
            yield f"  {path}: (sensitive value)"
        else:
            shown = "(known after the apply)" if path in coming else json.dumps(new, ensure_ascii=False)
            yield f"  {path}: {json.dumps(old, ensure_ascii=False)} -> {shown}"


def _marked(value: Any) -> set[str]:
    """Return the paths that Terraform marks with ``true``: what is below one is meant too; "" is all there is."""
    return {path for path, leaf in _leaves(value) if leaf is True}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that holds no others, with its path; nothing of what is empty."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    elif value is not None:
        yield path, value
