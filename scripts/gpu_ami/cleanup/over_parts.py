"""`invoke cleanup --fleet --list --references`: one plan out of the parts of a fleet; asks AWS for its time."""

from __future__ import annotations

import dataclasses
import os
from datetime import datetime
from pathlib import Path

from gpu_ami import collector
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.clock import aws_now, without_rights
from gpu_ami.cleanup.cleanup_request import Request
from gpu_ami.cleanup.decide import SourceReport
from gpu_ami.cleanup.fleet_merge import Expected, MergedSurvey, files_of, merge, opened
from gpu_ami.cleanup.fleet_part import code, policy_digest
from gpu_ami.cleanup.fleet_plan import make_fleet_plan
from gpu_ami.cleanup.over_accounts import account_reports, check_sharing, prices_of, show
from gpu_ami.cleanup.policy import SETTING, policy_from
from gpu_ami.cleanup.scope import fast_restore_usd_per_hour, local_sources
from gpu_ami.errors import AwsError
from gpu_ami.files import check_writable
from gpu_ami.fleet import fleet_list
from gpu_ami.fleet.narrowing import Narrowing, narrowing
from gpu_ami.invocation import Invocation
from gpu_ami.units import show_count


def run(run: Invocation, request: Request) -> None:
    """Put the parts together, decide and show the plan; nothing is changed.

    Raises:
        UsageError: Flags, settings or files cannot be used.
        SafetyError: Everything is kept, and why.
    """
    policy = policy_from(run.settings, request.flags)
    check_sharing(policy, f"--skip-source or {SETTING}")
    listed, digest = fleet_list.load(Path(str(request.list)))
    files = files_of([Path(name) for name in request.references])
    if request.plan:
        check_writable(Path(request.plan), what="clean-up plan")
    collector.for_many_threads()
    with run.console.step(f"reading {show_count(len(files), 'part')} and the working tree"):
        now, unknown = _time(run)
        expected = Expected(
            listed=listed,
            list_sha256=digest,
            policy_sha256=policy_digest(policy),
            code=code(),
            run=fleet_list.run_of(os.environ),
            now=now,
        )
        merged = merge([opened(path) for path in files], expected)
        survey = MergedSurvey(
            listed,
            merged,
            policy,
            local=local_sources(run, policy),
            failed=[*unknown, *account_reports([row.entered for row in listed.members])],
            fast_restore_usd_per_hour=fast_restore_usd_per_hour,
        )
        plan = make_fleet_plan(
            survey,
            listed.hub.account,
            listed.as_of,
            names={row.account: row.name for row in listed.members},
            usd_per_gib_month=prices_of(survey),
            details=survey.details,
            narrowed=_narrowed(listed),
        )
    show(run, request, plan, survey)


def _narrowed(listed: fleet_list.FleetList) -> Narrowing | None:
    found = narrowing([row.entered for row in listed.members], listed.places, "")
    return None if found is None else dataclasses.replace(found, by=listed.regions_by or ())


def _time(run: Invocation) -> tuple[datetime | None, list[SourceReport]]:
    """Return what time AWS has, by which the parts' age is judged; or why that is not known, which keeps everything."""
    try:
        return aws_now(Caller(without_rights(run.access))), []
    except AwsError as exc:
        error = f"what time AWS has is not known, so the age of the parts is not: {exc}"
        return None, [SourceReport("clock", None, "failed", error=error, is_use=False)]
