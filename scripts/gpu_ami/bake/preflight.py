"""The checks that must pass before an instance is paid for: what to look up, side by side, and who judges it.

`checks/` judges plain facts, one module per topic; `aws/` looks them up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from gpu_ami.aws.access import Access
from gpu_ami.bake.checks.catalog import Look, on_aws, on_this_machine
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Facts
from gpu_ami.bake.variables import BuildVariables
from gpu_ami.errors import AwsError, PipelineError

__all__ = ["Check", "failed", "remarks", "run_checks"]

# More than there are checks: all of them wait for AWS at the same time.
_THREADS = 32


def run_checks(
    access: Access,
    bake: BuildVariables,
    *,
    account: str | None,
    sandbox: bool = False,
    programs: bool = False,
    note: Callable[[str], None] = lambda _text: None,
) -> list[Check]:
    """Return the result of every check, in a fixed order; they run side by side and change nothing.

    Args:
        access: Where the build would run.
        bake: The template's variables as the build would see them.
        account: The account that the settings insist on, if any.
        sandbox: Whether *access* leads to the sandbox.
        programs: Whether to look for the programs too; a build has found them already.
        note: Told how far it is.
    """
    facts = Facts(access, bake)
    looks = [*(on_this_machine(bake, sandbox=sandbox) if programs else ()), *on_aws(facts, account, sandbox=sandbox)]
    if not facts.is_identified():
        # Each of the others would wait for the same refusal, or for the same time-outs.
        looks = [look if look.needs_no_caller else look.put_off() for look in looks]
    found: list[list[Check]] = []
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        for number, checks in enumerate(pool.map(_made, looks), 1):
            note(f"{number} of {len(looks)}")
            found.append(checks)
    return [check for checks in found for check in checks]


def failed(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that keep a build from starting."""
    return [check for check in checks if check.status == "fail" and check.is_blocking]


def remarks(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that a build goes on in spite of, but not without a word.

    Not among them: permissions that nobody could tell, as of a role that is bound to tags; they would come each time.
    """
    told = [check for check in checks if check.status == "fail" or not check.check.startswith("permissions")]
    return [check for check in told if check.status == "warn" or (check.status == "fail" and not check.is_blocking)]


def _made(look: Look) -> list[Check]:
    # A check that could not be made is a failed check: nothing is assumed to be fine.
    try:
        found = look.make()
    except PipelineError as exc:
        allow = f"; if it is a permission, allow {look.permission}" if look.permission else ""
        fix = f"Mend what the line says{allow}. Nothing was started."
        return [Check(look.name, "fail", str(exc), fix, is_blocking=look.is_bakes or not isinstance(exc, AwsError))]
    return [found] if isinstance(found, Check) else list(found)
