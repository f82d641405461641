"""Which jobs each event starts; in a called workflow `github.event_name` is the caller's, and must not count."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import pytest

from tests.support.workflows.engine import Event, contexts_of, passes
from tests.support.workflows.expressions import resolve
from tests.support.workflows.files import NAMES, workflow

EVENTS = ("push", "pull_request", "schedule", "workflow_dispatch", "release", "issue_comment")
OURS = "team/gpu-ami-pipeline"
PULL_REQUEST = {"pull_request": {"head": {"repo": {"full_name": OURS}}}}


def _started(name: str, event: Event) -> set[str]:
    """Return the jobs that run when all before them go well and each says that something changed."""
    document = workflow(name)
    contexts = contexts_of(document, event, {})
    started: set[str] = set()
    for job, body in document["jobs"].items():
        needs = [body["needs"]] if isinstance(body.get("needs"), str) else body.get("needs", [])
        known = {
            need: {"result": "success", "outputs": {"changed": "true"}}
            if need in started
            else {"result": "skipped", "outputs": {}}
            for need in needs
        }
        if passes(body.get("if"), {**contexts, "needs": known}, failed=not set(needs) <= started):
            started.add(job)
    return started


def _called(action: str, under: str) -> Event:
    return Event("workflow_call", {"action": action} if action else {}, body=PULL_REQUEST, under=under)


@pytest.mark.parametrize("under", EVENTS)
@pytest.mark.parametrize(
    ("name", "action", "jobs"),
    [
        ("cleanup.yml", "", {"plan", "issue"}),
        ("cleanup.yml", "plan", {"plan", "issue"}),
        ("cleanup.yml", "apply", {"apply"}),
        ("cleanup.yml", "sweep", {"sweep"}),
        ("fleet-cleanup.yml", "", {"list", "survey", "decide"}),
        ("fleet-cleanup.yml", "plan", {"list", "survey", "decide"}),
        ("fleet-cleanup.yml", "apply", {"list", "survey", "decide", "apply"}),
        ("apply.yml", "plan", {"plan"}),
        ("apply.yml", "apply", {"apply"}),
        ("apply.yml", "rollback", {"rollback", "propose"}),
    ],
)
def test_a_called_workflow_does_what_it_is_asked_for(name: str, action: str, jobs: set[str], under: str) -> None:
    """Called every night with the default, a plan must not sweep."""
    assert _started(name, _called(action, under)) == jobs


@pytest.mark.parametrize("name", NAMES)
def test_no_job_of_a_called_workflow_depends_on_the_callers_event(name: str) -> None:
    """Also in a workflow that comes later: the inputs alone say what is to be done."""
    declared: dict[str, Any] = (workflow(name)["on"]["workflow_call"] or {}).get("inputs", {})
    given = {name: "x" for name, about in declared.items() if about.get("required")}

    started = {under: _started(name, Event("workflow_call", given, body=PULL_REQUEST, under=under)) for under in EVENTS}

    assert all(jobs == started["push"] for jobs in started.values())


@pytest.mark.parametrize(
    ("name", "event", "jobs"),
    [
        ("cleanup.yml", Event("schedule"), {"plan", "issue", "sweep"}),
        ("cleanup.yml", Event("workflow_dispatch"), {"plan", "issue"}),
        ("cleanup.yml", Event("workflow_dispatch", {"action": "apply"}), {"apply"}),
        ("fleet-cleanup.yml", Event("schedule"), {"list", "survey", "decide"}),
        ("fleet-cleanup.yml", Event("workflow_dispatch", {"shards": "3"}), {"list", "survey", "decide"}),
        ("apply.yml", Event("push"), {"apply"}),
        ("apply.yml", Event("pull_request", body=PULL_REQUEST), {"plan"}),
        ("apply.yml", Event("pull_request", caller="somebody/fork", body=PULL_REQUEST), set()),
        ("apply.yml", Event("workflow_dispatch"), {"apply"}),
        ("apply.yml", Event("workflow_dispatch", {"action": "rollback"}), {"rollback", "propose"}),
    ],
)
def test_an_event_of_ones_own_starts_what_it_is_for(name: str, event: Event, jobs: set[str]) -> None:
    """The nightly run plans and sweeps, a merge applies, a fork gets no role."""
    assert _started(name, event) == jobs


@pytest.mark.parametrize(
    ("inputs", "variables", "runs"),
    [
        ({}, {}, set()),
        ({}, {"GPU_AMI_VERIFY": "false", "GPU_AMI_BENCH": "yes"}, set()),
        ({"verify": True}, {}, {"Verify on a GPU"}),
        ({"bench": True}, {}, {"Measure cold starts through Batch"}),
        ({}, {"GPU_AMI_VERIFY": "true"}, {"Verify on a GPU"}),
        ({}, {"GPU_AMI_BENCH": "true"}, {"Measure cold starts through Batch"}),
    ],
)
def test_gpu_hosts_are_started_only_where_somebody_asked(
    inputs: dict[str, Any], variables: dict[str, str], runs: set[str]
) -> None:
    """Off by default: a weekly run of somebody who only pulled the new version must not cost more than before."""
    document = workflow("build-ami.yml")
    contexts = contexts_of(document, Event("workflow_dispatch", inputs), variables)
    body = document["jobs"]["measure"]
    built = {"build": {"result": "success", "outputs": {"changed": "true"}}}
    steps = [step for step in body["steps"] if " task " in step.get("run", "")]

    assert passes(body["if"], {**contexts, "needs": built}, failed=False) is bool(runs)
    assert {step["name"] for step in steps if passes(step["if"], contexts, failed=False)} == runs
    stale = {"build": {"result": "success", "outputs": {"changed": "false"}}}
    assert not passes(body["if"], {**contexts, "needs": stale}, failed=False)


@pytest.mark.parametrize(("measured", "proposes"), [("success", True), ("skipped", True), ("failure", False)])
def test_a_slower_ami_is_not_proposed(measured: str, proposes: bool) -> None:
    """And one that nobody wanted measured is, as before."""
    document = workflow("build-ami.yml")
    contexts = contexts_of(document, Event("schedule"), {})
    needs = {
        "build": {"result": "success", "outputs": {"changed": "true"}},
        "measure": {"result": measured, "outputs": {}},
    }
    condition = document["jobs"]["propose"]["if"]

    assert passes(condition, {**contexts, "needs": needs}, failed=measured != "success") is proposes
    failed = {**needs, "build": {"result": "failure", "outputs": {}}, "measure": {"result": "skipped", "outputs": {}}}
    assert not passes(condition, {**contexts, "needs": failed}, failed=True)


@pytest.mark.parametrize(("outcome", "collects"), [("success", True), ("failure", True), ("skipped", False)], ids=str)
def test_a_rollback_that_did_not_end_well_is_proposed_too(outcome: str, collects: bool) -> None:
    """Batch may take longer than the run waits: the next apply from main would bring the bad AMI back."""
    jobs = workflow("apply.yml")["jobs"]
    contexts = contexts_of(workflow("apply.yml"), _called("rollback", "push"), {})
    contexts["steps"] = {"back": {"outputs": {}, "outcome": outcome}}
    steps = {step["name"]: step for step in jobs["rollback"]["steps"]}
    needs = {"rollback": {"result": "failure", "outputs": {"changed": "true" if collects else None}}}

    for name in ("Collect the results", "Keep the file to commit"):
        assert passes(steps[name]["if"], contexts, failed=outcome != "success") is collects
    assert passes(jobs["propose"]["if"], {**contexts, "needs": needs}, failed=True) is collects


def test_no_two_applies_run_at_once_whoever_calls_them() -> None:
    """A plan waits for no reviewer; what changes AWS is in one line."""
    document = workflow("apply.yml")

    def group(event: Event) -> str:
        return str(resolve(document["concurrency"]["group"], contexts_of(document, event, {"GPU_AMI_REGION": "r"})))

    acting = [Event("push"), Event("workflow_dispatch"), *(_called("apply", under) for under in EVENTS)]
    acting += [_called("rollback", under) for under in EVENTS]
    # The same region, typed by hand.
    acting.append(Event("workflow_dispatch", {"region": "r"}))
    plans = [Event("pull_request", body=PULL_REQUEST), *(_called("plan", under) for under in EVENTS)]

    assert {group(event) for event in acting} == {"gpu-ami-apply-r-main"}
    assert "gpu-ami-apply-r-main" not in {group(event) for event in plans}


@pytest.mark.parametrize(
    ("job", "needs", "runs"),
    [
        ("survey", {"list": ("success", "0")}, False),
        ("survey", {"list": ("success", "3")}, True),
        ("decide", {"list": ("success", "3"), "survey": ("success", None)}, True),
        ("decide", {"list": ("success", "3"), "survey": ("failure", None)}, True),
        ("decide", {"list": ("success", "0"), "survey": ("skipped", None)}, True),
        ("decide", {"list": ("failure", None), "survey": ("skipped", None)}, False),
        ("apply", {"decide": ("success", "2")}, True),
        ("apply", {"decide": ("success", "0")}, False),
        ("apply", {"decide": ("failure", "2")}, False),
    ],
)
def test_a_fleet_is_decided_whatever_became_of_a_survey_and_applied_only_after_that(
    job: str, needs: dict[str, tuple[str, str | None]], runs: bool
) -> None:
    """A plan that keeps everything says why; a matrix of nothing would fail the run."""
    document = workflow("fleet-cleanup.yml")
    contexts = contexts_of(document, Event("workflow_call", {"action": "apply"}), {})
    known = {name: {"result": result, "outputs": {"count": count}} for name, (result, count) in needs.items()}
    failed = any(result != "success" for result, _ in needs.values())

    assert passes(document["jobs"][job]["if"], {**contexts, "needs": known}, failed=failed) is runs


@pytest.mark.parametrize(
    ("name", "job", "commands"),
    [
        ("build-ami.yml", "build", ("plan",)),
        ("apply.yml", "plan", ("plan",)),
        ("apply.yml", "apply", ("plan", "apply")),
        ("apply.yml", "rollback", ("plan", "apply")),
    ],
)
def test_terraform_waits_for_the_state_that_others_plan_on(name: str, job: str, commands: tuple[str, ...]) -> None:
    """Several jobs end or begin at about the same time, and Terraform fails at once where the state is locked.

    A build and a pull request would have no plan to review; an apply that somebody has just approved would fail.
    """
    found = workflow(name)["jobs"][job]
    (step,) = [one for one in found["steps"] if re.search(r" invoke (plan|apply|rollback) ", one.get("run", ""))]
    given = {**found["env"], **step.get("env", {})}

    for command in commands:
        assert re.fullmatch(r"-lock-timeout=[1-9][0-9]*m", given[f"TF_CLI_ARGS_{command}"])


@pytest.mark.parametrize(
    ("inputs", "variables", "region"),
    [
        ({"family": "films", "name": "films.us-east-1", "region": "us-east-1"}, {}, ""),
        ({"family": "films", "name": "films.us-east-1", "region": "us-east-1"}, {"GPU_AMI_REGION": "r"}, "r"),
        ({"family": "films", "name": "films", "region": "us-east-1"}, {"GPU_AMI_REGION": "r"}, "us-east-1"),
        ({"region": "us-east-1"}, {}, "us-east-1"),
        ({}, {"GPU_AMI_REGION": "r"}, "r"),
    ],
)
def test_the_plan_of_one_of_several_regions_is_what_an_apply_would_do(
    inputs: dict[str, str], variables: dict[str, str], region: str
) -> None:
    """The provider takes the invocation's region: in another one nothing of the state is there, all is made anew."""
    document = workflow("build-ami.yml")
    (plan,) = [step for step in document["jobs"]["build"]["steps"] if step["name"] == "Plan"]
    contexts = contexts_of(document, Event("workflow_call", inputs), variables)

    assert (resolve(plan["env"]["GPU_AMI_REGION"], contexts) or "") == region


def test_builds_of_other_families_wait_for_each_other() -> None:
    """The group is the same whatever is built: without a queue GitHub cancels the second when the third comes."""
    concurrency = workflow("build-families.yml")["concurrency"]

    assert "${{" not in concurrency["group"]
    assert concurrency["queue"] == "max"


def test_a_fleet_has_one_plan_at_a_time_and_each_account_one_removal() -> None:
    """A removal that waits for its reviewer does not hold up the nightly plan."""
    document = workflow("fleet-cleanup.yml")
    inputs: list[dict[str, Any]] = [
        {},
        {"regions": "eu-west-1"},
        {"family": "video"},
        {"shards": 3, "include-shared": True},
    ]

    def group(where: Any, event: Event, **more: Any) -> str:
        return str(resolve(where["concurrency"]["group"], {**contexts_of(document, event, {}), **more}))

    plans = {group(document, Event("workflow_call", given)) for given in inputs} | {group(document, Event("schedule"))}
    applies = {group(document, Event("workflow_call", {**given, "action": "apply"})) for given in inputs}
    owners = {
        group(document["jobs"]["apply"], Event("workflow_call", given), matrix={"owner": owner})
        for owner in ("123456789012", "223456789012")
        for given in inputs
    }

    assert (len(plans), len(applies), len(owners), len(plans | applies | owners)) == (1, 1, 2, 4)


def test_a_fleets_artifacts_are_of_one_family_and_attempt() -> None:
    """Of an attempt before they lie beside these, and a pattern that takes them along would take old parts for new."""
    document = workflow("fleet-cleanup.yml")
    steps = [step for job in document["jobs"].values() for step in job["steps"]]
    (pattern,) = [step["with"]["pattern"] for step in steps if "pattern" in step.get("with", {})]

    def names(family: str, attempt: int) -> list[str]:
        event = Event("workflow_call", {"family": family} if family else {}, attempt=attempt)
        more = {"strategy": {"job-index": 0}, "matrix": {"owner": "1"}}
        contexts = {**contexts_of(document, event, {}), **more}
        kept = [step["with"]["name"] for step in steps if "upload-artifact@" in step.get("uses", "")]
        return [str(resolve(text, contexts)) for text in [*kept, pattern]]

    runs = [names(family, attempt) for family in ("", "video", "video-1", "video-1-0") for attempt in (1, 2, 11)]
    every = [name for run in runs for name in run[:-1]]

    assert len(set(every)) == len(every)
    for run in runs:
        (own,) = [name for name in run if name.startswith("fleet-part") and not name.endswith("*")]
        assert [name for name in every if fnmatch.fnmatchcase(name, run[-1])] == [own]


@pytest.mark.parametrize("name", ["build-ami.yml", "cleanup.yml", "status.yml"])
def test_families_neither_wait_for_each_other_nor_overwrite_what_is_kept(name: str) -> None:
    """A matrix calls a workflow for each within one run; with one family every name is as it was."""
    document = workflow(name)

    def names(**inputs: str) -> list[str]:
        contexts = contexts_of(document, Event("workflow_call", inputs), {})
        kept = [
            step["with"]["name"]
            for job in document["jobs"].values()
            for step in job["steps"]
            if "-artifact@" in step.get("uses", "")
        ]
        return [str(resolve(text, contexts)) for text in (document["concurrency"]["group"], *kept)]

    one, several = names(region="r"), names(region="r", family="video")
    if name == "build-ami.yml":
        there = names(region="s", family="video", name="video.s")
        assert [text.replace("video.s", "video") for text in there[1:]] == several[1:]
        assert not set(there) & set(several)

    assert [text.removesuffix("-video") for text in several] == one
    assert not set(one) & set(several)
    event = Event("push") if "push" in document["on"] else Event("schedule")
    group = str(resolve(document["concurrency"]["group"], contexts_of(document, event, {})))
    assert "video" not in group
    assert all(job["env"].get("GPU_AMI_FAMILY") == "${{ inputs.family }}" for job in document["jobs"].values())
