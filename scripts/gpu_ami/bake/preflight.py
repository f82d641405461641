"""Runs the checks that must pass before an instance is paid for, side by side.

`checks/` judges plain values, one module per topic; `aws/` looks them up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import RefusedError
from gpu_ami.bake.checks import measurement, signing, verification
from gpu_ami.bake.checks.catalog import CheckSpec, on_aws, on_this_machine
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami.bake.variables import BuildVariables
from gpu_ami.errors import AwsError, PipelineError

__all__ = ["Check", "failed", "remarks", "run_checks"]

# More than there are checks: all of them wait for AWS at the same time.
_THREADS = 32
# How regions refuse what they have not got yet.
_NOT_THERE = frozenset({"InvalidAction", "UnsupportedOperation", "UnknownOperationException"})


def run_checks(
    access: Access,
    variables: BuildVariables,
    *,
    account: str | None,
    sandbox: bool = False,
    folder: Path | None = None,
    programs: bool = False,
    verified: verification.Wanted | None = None,
    benched: measurement.Wanted | None = None,
    proven: signing.Wanted | None = None,
    note: Callable[[str], None] = lambda _text: None,
) -> list[Check]:
    """Return the result of every check, in a fixed order; they run side by side and change nothing.

    Args:
        access: Where the build would run.
        variables: The template's variables as the build would see them.
        account: The account that the settings insist on, if any.
        sandbox: Whether *access* leads to the sandbox.
        folder: The sandbox's folder, whose disk is the builder's; None on AWS.
        programs: Whether to check the programs too; a build has found them already.
        verified: What the settings want of verifications; None for nothing.
        benched: What they want of benches; None for nothing.
        proven: What they want of the provenance; None for nothing.
        note: Told how far it is.
    """
    lookups = Lookups(access, variables)
    local = on_this_machine(variables, sandbox=sandbox) if programs else ()
    specs = [
        *local,
        *on_aws(lookups, account, sandbox=sandbox, folder=folder),
        *verification.specs(lookups, verified),
        *measurement.specs(lookups, benched),
        *signing.specs(lookups, proven),
    ]
    if not lookups.is_identified():
        # Each of the others would wait for the same refusal, or for the same time-outs.
        specs = [spec.skipped() if spec.needs_credentials else spec for spec in specs]
    found: list[list[Check]] = []
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        for number, checks in enumerate(pool.map(_run, specs), 1):
            note(f"{number} of {len(specs)}")
            found.append(checks)
    return [check for checks in found for check in checks]


def failed(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that keep a build from starting."""
    return [check for check in checks if check.status == "fail" and check.is_blocking]


def remarks(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that a build goes on in spite of, but not without a warning.

    Not among them: permissions that nobody could tell, as of a role that is bound to tags; they would come each time.
    """
    told = [check for check in checks if check.status == "fail" or not check.check.startswith("permissions")]
    return [check for check in told if check.status == "warn" or (check.status == "fail" and not check.is_blocking)]


def _run(spec: CheckSpec) -> list[Check]:
    # A check that could not be run is a failed check: nothing is assumed to be fine.
    try:
        found = spec.run()
    except PipelineError as exc:
        if not spec.needs_permission and isinstance(exc, RefusedError) and (exc.is_denied or exc.code in _NOT_THERE):
            fix = f"To have it checked, allow {spec.permission}." if exc.is_denied else ""
            return [Check(spec.name, "skip", f"not checked: {exc}", fix)]
        allow = f"; if it is a permission, allow {spec.permission}" if spec.permission else ""
        fix = f"Fix what the line says{allow}. Nothing was started."
        return [Check(spec.name, "fail", str(exc), fix, is_blocking=spec.is_blocking or not isinstance(exc, AwsError))]
    return [found] if isinstance(found, Check) else list(found)
