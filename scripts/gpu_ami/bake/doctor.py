"""`invoke doctor`: checks everything that a build needs and shows each result with its fix.

Each check is a row of ``checks/catalog.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_ami.bake import attest, models, preflight, prepare, template
from gpu_ami.bake.checks import measurement, signing, verification
from gpu_ami.bake.variables import typed
from gpu_ami.console import Table
from gpu_ami.errors import DifferenceError
from gpu_ami.handover import attested

if TYPE_CHECKING:
    from gpu_ami.bake.preflight import Check
    from gpu_ami.invocation import Invocation

# As a reader's eye finds them in a column.
_MARKS = {"ok": "ok", "warn": "WARN", "fail": "FAIL", "skip": "skip"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke doctor`` requested.

    Attributes:
        variables: Packer variables as ``name=value``.
    """

    variables: Sequence[str] = ()


def run(run: Invocation, request: Request) -> None:
    """Check everything and show it.

    Raises:
        UsageError: The settings, variables or models.yaml cannot be used.
        DifferenceError: A check failed.
    """
    if run.options.dry_run:
        run.console.would("check credentials, permissions, network, quotas, image, models, disk and tools.")
        return
    checks = doctor(run, request.variables)
    table = checks_table(checks, markdown=run.options.output == "markdown")
    run.console.result([found.document() for found in checks], table)
    raise_failed(checks)


def doctor(run: Invocation, variables: Sequence[str]) -> list[Check]:
    """Return what every check found; a program that is missing is a failed check, not an error.

    Args:
        run: This invocation.
        variables: The caller's ``name=value`` variables.

    Raises:
        UsageError: The settings, variables or models.yaml cannot be used.
    """
    values = _values(run, variables)
    bake = typed(values).with_listed(len(models.load(run.workspace.packer / "models.yaml")))
    with run.console.step("checking this machine and AWS") as note:
        return preflight.run_checks(
            run.access,
            bake,
            account=run.target.account,
            sandbox=run.target.is_sandbox,
            folder=run.workspace.state if run.target.is_sandbox else None,
            programs=True,
            verified=verification.wanted(run.settings),
            benched=measurement.wanted(run.settings),
            proven=signing.wanted(attested.policy(run), run.workspace.root),
            note=note,
        )


def _values(run: Invocation, variables: Sequence[str]) -> dict[str, Any]:
    given = template.parse_given(variables)
    owned = {"region": run.settings.region, "family": run.settings.family, **attest.variables(run)}
    file, folder = prepare.variables_file(run, owned, guest=False), run.workspace.packer
    files = (*run.target.auto_variables, file)
    return template.effective(folder, files, owned | given, environment=run.target.environment)


def checks_table(checks: Sequence[Check], *, markdown: bool) -> Table:
    """Return the checks for people: on a terminal each fix on a line of its own, where it has room."""
    counts = {status: sum(found.status == status for found in checks) for status in _MARKS}
    footer = (", ".join(f"{count} {status}" for status, count in counts.items() if count) + ".",)
    if markdown:
        wide = [(_MARKS[found.status], found.check, found.detail, found.fix) for found in checks]
        return Table(columns=("", "check", "found", "what to do"), rows=wide, footer=footer)
    rows: list[tuple[str, ...]] = []
    for found in checks:
        rows.append((_MARKS[found.status], found.check, found.detail))
        if found.fix:
            rows.append(("", "", f"-> {found.fix}"))
    return Table(columns=("", "check", "found"), rows=rows, footer=footer)


def raise_failed(checks: Sequence[Check]) -> None:
    """End with exit code 9 when a check failed.

    Raises:
        DifferenceError: At least one did.
    """
    names = [found.check for found in checks if found.status == "fail"]
    if names:
        each = "Each" if len(names) > 1 else "It"
        msg = f"{len(names)} of {len(checks)} checks failed: {', '.join(names)}. {each} says above what to do."
        raise DifferenceError(msg)
