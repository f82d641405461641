"""What a clean-up or a sweep queries: the regions, the other accounts, the working tree and its Terraform backend."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.regions import ALL, enabled_regions, requested_regions
from gpu_ami.aws.s3 import list_texts
from gpu_ami.aws.sts import enter, identify
from gpu_ami.cleanup import local_references
from gpu_ami.cleanup.decide import SourceReport
from gpu_ami.cleanup.inventory import EC2, Location, Survey, locations_of
from gpu_ami.cleanup.local_references import LocalSource
from gpu_ami.cleanup.policy import Policy
from gpu_ami.errors import AwsError, SafetyError, TerraformError, UsageError
from gpu_ami.handover.receipt_store import bucket_of
from gpu_ami.invocation import Invocation
from gpu_ami.terraform import backends

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/.+")
_STATE_WITHIN_S = 120.0


def chosen_regions(run: Invocation, arguments: Sequence[str]) -> list[str]:
    """Return the regions to work on: those of *arguments*, else ``--region``, else the settings'.

    Args:
        run: This invocation.
        arguments: Regions, also joined by commas; ``all`` is every region that the account can use.

    Raises:
        UsageError: An argument is not a region.
    """
    requested = requested_regions(arguments)
    if requested == [ALL]:
        return enabled_regions(Caller(run.access, run.settings.region))
    if requested:
        return requested
    own = [run.settings.region]
    return own if run.options.region else list(run.settings.cleanup.regions) or own


def whose(run: Invocation, *, announces: bool) -> str:
    """Return the account that the credentials are of; EC2's client is made while STS answers.

    Its model is the largest of all, and reading it takes as long as the answer.

    Args:
        run: This invocation.
        announces: Whether the account is said, and another one than the settings' refused.

    Raises:
        SafetyError: The settings name another account.
        AwsError: The credentials do not work.
    """
    # The first, or each would wait for the other; what goes wrong is said below.
    with contextlib.suppress(AwsError, LookupError, TypeError, ValueError, AttributeError):
        run.access.client("sts")
    with ThreadPoolExecutor(max_workers=1) as beside:
        beside.submit(run.access.prepare, EC2, run.access.region)
        return (run.announce() if announces else identify(run.access)).account


def check_whose(run: Invocation, policy: Policy, file: str) -> None:
    """Refuse the saved plan in *file* where it is another family's than the one that was named.

    Raises:
        SafetyError: It is.
    """
    theirs = policy.scope.family
    if run.family is None or theirs in (None, run.family):
        return
    msg = f"{file} is the plan of the family {theirs}, not of {run.family}: name that one, or make a new plan."
    raise SafetyError(msg)


def account_of(role: str) -> str:
    """Return the account of *role*, the ARN of a role.

    Raises:
        UsageError: It is none.
    """
    match = _ROLE.fullmatch(role)
    if match is None:
        msg = f"--account {role!r} is not the ARN of a role: arn:aws:iam::123456789012:role/NAME."
        raise UsageError(msg)
    return match[1]


def survey_of(
    run: Invocation, policy: Policy, account: str, regions: Sequence[str], *, roles: Sequence[str] = ()
) -> Survey:
    """Return a survey of *regions*, of the accounts behind the settings' roles and *roles*, and of the working tree."""
    locations = locations_of(run.access, account, regions)
    failed: list[SourceReport] = []
    for role in dict.fromkeys([*run.settings.cleanup.accounts, *roles]):
        try:
            locations += _other_account(run, role, regions)
        except AwsError as exc:
            failed.append(SourceReport("account", None, "failed", account=role, error=str(exc)))
    return Survey(
        locations,
        policy,
        local=local_sources(run, policy),
        failed_accounts=failed,
        fast_restore_usd_per_hour=fast_restore_usd_per_hour,
    )


def local_sources(run: Invocation, policy: Policy) -> Callable[[], Sequence[LocalSource]]:
    """Return what says, each time that it is called, what the working tree and its Terraform state need.

    Pulling the state takes seconds, so it is done once; what is in files is read anew.
    """
    return functools.partial(
        local_references.scan,
        run.workspace.state,
        state=functools.cache(lambda: _backend_state(run)),
        receipts=lambda: _backend_receipts(run),
        skip=policy.skip_sources,
        is_whole=not run.target.is_shared,
    )


def fast_restore_usd_per_hour(region: str) -> Decimal | None:
    """Return what fast snapshot restore of a snapshot costs in one zone, by the hour; None where that is not known."""
    from gpu_ami.cost.price_table import load

    return load().rate(region, "fsr_usd_per_hour").value


def _other_account(run: Invocation, role: str, regions: Sequence[str]) -> list[Location]:
    account = account_of(role)
    return locations_of(enter(run.access, role, account), account, regions, is_own=False)


def _backend_state(run: Invocation) -> str | None:
    """Return the Terraform state in its backend; None when none is configured."""
    folder = run.workspace.terraform
    environment = run.access.child_environment({})
    if not run.target.has_backend or (named_in := backends.naming_file(folder, environment)) is None:
        return None
    if backends.is_tofu(named_in):
        msg = f"{run.workspace.shown(named_in)} says where OpenTofu keeps its state, which Terraform cannot read."
        raise TerraformError(msg)
    from gpu_ami import process
    from gpu_ami.terraform import failures
    from gpu_ami.terraform.terraform_command import terraform_in
    from gpu_ami.tools import terraform_tools

    terraform = terraform_in(folder, terraform_tools(), run.access.child_environment)
    done = process.run(terraform.state(), timeout_s=_STATE_WITHIN_S)
    if done.returncode != 0:
        problem = failures.first_problem(failures.errors(done.stdout, done.stderr))
        added = failures.meddled("state pull", terraform.environment)
        msg = (
            f"`terraform state pull` failed: {problem}. Run `terraform init` in {run.workspace.shown(folder)}. {added}"
        )
        raise TerraformError(msg.rstrip())
    return done.stdout


def _backend_receipts(run: Invocation) -> list[tuple[str, str]]:
    """Return the receipts that lie beside the Terraform state in S3; none when it is elsewhere.

    Raises:
        AwsError: They cannot be read.
        UsageError: Where they are is not known, or one of them is no receipt.
    """
    environment = run.access.child_environment({})
    bucket = bucket_of(run.workspace.terraform, environment)
    if bucket is None:
        _check_no_bucket(run, environment)
        return []
    texts = list_texts(Caller(run.access, bucket.region), bucket.name, bucket.prefix)
    if unread := next((name for name, text in texts.items() if not text), None):
        msg = f"{bucket.url(unread)} is empty or too large for a receipt: what it protects is not known."
        raise UsageError(msg)
    return [(bucket.url(name), text) for name, text in texts.items()]


def _check_no_bucket(run: Invocation, environment: Mapping[str, str]) -> None:
    """Make sure that there is no bucket with receipts: a backend that was never connected to may be one.

    Raises:
        UsageError: It may.
    """
    folder = run.workspace.terraform
    named_in = backends.naming_file(folder, environment) if run.target.has_backend else None
    if named_in is not None and not backends.is_connected(folder, environment):
        shown = run.workspace.shown
        msg = (
            f"{shown(named_in)} names a backend that Terraform was not connected to here: whether receipts lie beside "
            f"the state is not known. Run `terraform init` in {shown(folder)}."
        )
        raise UsageError(msg)
