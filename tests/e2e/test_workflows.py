"""The workflows' own steps, run in order against the sandbox: a build, its pull request, and all that follows."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gpu_ami.tools.cache import user_cache
from tests.e2e.site import (
    CALLER,
    FAMILIES,
    FLEET,
    GH,
    HANDOVER,
    ROLES,
    SUDO,
    VARIABLES,
    Site,
    Vulnerabilities,
    repository,
    sandbox,
    tree,
)
from tests.support.workflows.engine import Earlier, Event, Job, Machine, environment
from tests.support.workflows.files import ROOT, action_steps, jobs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A repository on GitHub, another that calls it, and a runner whose AWS is the sandbox."""
    folder = tmp_path_factory.mktemp("site")
    programs, gh, rooms = (folder / name for name in ("bin", "gh", "rooms"))
    for path in (programs, gh, rooms):
        path.mkdir()
    for name, text in (("gh", GH), ("sudo", SUDO)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    pipeline = repository(folder / "pipeline", tree(folder / "files"))
    theirs = folder / "theirs"
    (theirs / "packer").mkdir(parents=True)
    (theirs / "pipeline.yaml").write_text(FAMILIES)
    for family in ("films", "trailers"):
        values = ROOT / "packer" / "variables.auto.pkrvars.hcl.example"
        shutil.copy2(values, theirs / "packer" / f"{family}.auto.pkrvars.hcl")
    env = environment(
        programs,
        {
            "GH_FOLDER": str(gh),
            "GPU_AMI_SANDBOX": "1",
            "GPU_AMI_CACHE_DIR": str(user_cache().root),
            # The environment of this test is the one that `uv run` would make.
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
            "UV_NO_SYNC": "1",
            "ZIZMOR_OFFLINE": "true",
        },
    )
    with contextlib.ExitStack() as running:
        machine = Machine(
            pipeline,
            {CALLER: repository(folder / "caller", theirs)},
            rooms,
            env,
            lambda workspace: running.enter_context(sandbox(workspace, env)),
            VARIABLES,
        )
        yield Site(machine, folder / "workspace", pipeline, gh)


@pytest.fixture(scope="module")
def before(site: Site) -> str:
    """The AMI that is live before: one of the demo account's, handed over by a person and applied by the workflow."""
    site.machine.checkout(site.workspace)
    verdicts = site.invoke("cleanup", "--query", "verdicts[?family=='gpu-batch']")
    ami: str = max(verdicts, key=lambda verdict: verdict["created"])["image_id"]
    site.invoke("update-tfvars", "--ami", ami)
    done = site.run("apply.yml", "push")
    assert done["apply"].result == "success", done["apply"].log
    return ami


@pytest.fixture(scope="module")
def first(site: Site, before: str) -> dict[str, Job]:
    """The weekly run, while an older AMI is live."""
    assert before
    return site.run("build-ami.yml", "schedule")


def test_the_weekly_build_bakes_and_says_what_it_made(first: dict[str, Job]) -> None:
    """AMI, size, minutes, cost and diff, in two columns that a phone shows."""
    build = first["build"]

    assert build.result == "success", build.log
    assert build.outputs["changed"] == "true"
    for part in (f"| AMI | {build.outputs['ami-id']} |", "| Snapshot |", "| Took |", "| Build cost | $", "```diff"):
        assert part in build.summary
    assert build.roles == ["BUILD", "PLAN"]


def test_doctor_looked_first(first: dict[str, Job]) -> None:
    """Nothing is paid for before the checks are green, and the summary shows them."""
    assert first["build"].summary.index("credentials") < first["build"].summary.index("| AMI |")


def test_the_new_ami_is_verified_and_measured_before_it_is_proposed(first: dict[str, Job]) -> None:
    """Behind an environment of its own: GPU hosts cost money. What a person decides by is in the summary."""
    measure = first["measure"]

    assert measure.result == "success", measure.log
    # To verify, for as long as a bench may last, and to take away what one left that was cut off.
    assert measure.roles == ["BENCH"] * 3
    assert "is verified" in measure.summary
    assert "Gate passed" in measure.summary


def test_the_pull_request_has_the_change_and_its_plan(site: Site, first: dict[str, Job]) -> None:
    """A person decides from the pull request alone."""
    assert first["propose"].result == "success", first["propose"].log
    assert first["propose"].roles == []
    assert site.called("auth") == ["auth setup-git"]
    (created,) = site.called("pr create")
    assert f"--title Use {first['build'].outputs['ami-id']}" in created
    ami = first["build"].outputs["ami-id"]
    records = [f"terraform/{folder}/{ami}.json" for folder in ("benches", "provenance", "verifications")]
    assert sorted(site.git("diff", "--name-only", "main", "gpu-ami/gpu-batch").split()) == sorted([HANDOVER, *records])
    text = (site.workspace / "artifacts" / "pull-request.md").read_text()
    assert "## Plan" in text
    assert first["build"].outputs["ami-id"] in text.partition("## Plan")[2]


@pytest.fixture(scope="module")
def planned(site: Site, first: dict[str, Job]) -> dict[str, dict[str, Job]]:
    """The pull request's own run, and that of a stranger's fork."""
    assert first["propose"].result == "success", first["propose"].log
    return {
        name: site.machine.run(
            "apply.yml",
            Event("pull_request", body={"pull_request": {"head": {"repo": {"full_name": f"{name}/gpu-ami-pipeline"}}}}),
            site.workspace,
        )
        for name in ("team", "stranger")
    }


def test_a_pull_request_is_planned_with_the_role_that_reads(
    planned: dict[str, dict[str, Job]], first: dict[str, Job]
) -> None:
    """And a fork's is not."""
    ours, forks = planned["team"], planned["stranger"]

    assert ours["plan"].result == "success", ours["plan"].log
    assert ours["plan"].roles == ["PLAN"]
    assert first["build"].outputs["ami-id"] in ours["plan"].summary
    assert ours["apply"].result == "skipped"
    assert forks["plan"].result == "skipped"


@pytest.fixture(scope="module")
def applied(site: Site, planned: dict[str, dict[str, Job]]) -> dict[str, Job]:
    """The pull request is merged, and a reviewer lets the apply go."""
    assert planned["team"]["plan"].result == "success", planned["team"]["plan"].log
    site.merge()
    return site.run("apply.yml", "push")


def test_a_merge_applies_and_looks_at_what_runs(applied: dict[str, Job], first: dict[str, Job]) -> None:
    """Batch is on the new AMI, and status agrees."""
    apply = applied["apply"]

    assert apply.result == "success", apply.log
    assert apply.roles == ["APPLY"]
    assert first["build"].outputs["ami-id"] in apply.summary
    assert {name: job.result for name, job in applied.items() if name != "apply"} == dict.fromkeys(
        ("plan", "rollback", "propose"), "skipped"
    )


@pytest.fixture(scope="module")
def again(site: Site, applied: dict[str, Job]) -> dict[str, Job]:
    """The next weekly run, with nothing new in the world."""
    assert applied["apply"].result == "success", applied["apply"].log
    return site.run("build-ami.yml", "schedule")


def test_a_fresh_ami_is_not_baked_again(again: dict[str, Job], first: dict[str, Job]) -> None:
    """A week without news costs nothing, and the summary says why."""
    assert again["build"].result == "success", again["build"].log
    assert again["build"].outputs == {"ami-id": first["build"].outputs["ami-id"], "changed": "false"}
    assert {again[name].result for name in ("measure", "propose")} == {"skipped"}
    assert "up to date" in again["build"].summary


@pytest.fixture(scope="module")
def rolled_back(site: Site, again: dict[str, Job]) -> dict[str, Job]:
    """Somebody rolls back by hand."""
    assert again["build"].result == "success", again["build"].log
    return site.run("apply.yml", "workflow_dispatch", action="rollback")


def test_a_rollback_goes_to_the_ami_before_and_proposes_it(
    site: Site, before: str, first: dict[str, Job], rolled_back: dict[str, Job]
) -> None:
    """Without the pull request the next apply from main would bring the bad AMI back."""
    assert rolled_back["rollback"].result == "success", rolled_back["rollback"].log
    assert rolled_back["apply"].result == "skipped"
    assert rolled_back["rollback"].outputs == {"changed": "true"}
    assert rolled_back["propose"].result == "success", rolled_back["propose"].log
    assert before != first["build"].outputs["ami-id"]
    assert site.proposed() == before
    assert any(f"--title Go back to {before}" in call for call in site.called("pr create"))


@pytest.fixture(scope="module")
def night(site: Site) -> dict[str, Job]:
    """The nightly clean-up run."""
    return site.run("cleanup.yml", "schedule")


def test_the_night_plans_and_removes_no_ami(site: Site, night: dict[str, Job]) -> None:
    """The plan is in the summary and in one issue."""
    assert night["plan"].result == "success", night["plan"].log
    assert night["apply"].result == "skipped"
    assert "| verdict |" in night["plan"].summary
    assert night["issue"].result == "success", night["issue"].log
    assert len(site.called("issue create --title AMIs that nothing needs --label gpu-ami-cleanup")) == 1


def test_the_night_sweeps(night: dict[str, Job]) -> None:
    """What incomplete builds left costs money by the hour."""
    assert night["sweep"].result == "success", night["sweep"].log
    assert night["sweep"].roles == ["CLEANUP"]
    assert night["sweep"].summary.strip()


def test_the_next_night_updates_the_issue(site: Site, night: dict[str, Job]) -> None:
    """One issue, not one a night."""
    again = site.run("cleanup.yml", "schedule")

    assert again["issue"].result == "success"
    assert len(site.called("issue create")) == 1
    assert len(site.called("issue edit 2 --body-file")) == 1


@pytest.fixture
def database(site: Site) -> Iterator[type[Vulnerabilities]]:
    """The database, and every step sent to it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Vulnerabilities) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        given = {
            "PIP_AUDIT_VULNERABILITY_SERVICE": "osv",
            "PIP_AUDIT_OSV_URL": f"http://127.0.0.1:{server.server_port}",
        }
        site.machine.env = {**site.machine.env, **given}
        yield Vulnerabilities
        server.shutdown()


def test_security_audits_the_workflows_and_every_dependency(site: Site, database: type[Vulnerabilities]) -> None:
    """Zizmor finds nothing; the database is queried about what runs on AWS and what only develops."""
    done = site.run("security.yml", "schedule")

    assert done["workflows"].result == "success", done["workflows"].log
    assert "No findings to report" in done["workflows"].log
    assert done["dependencies"].result == "success", done["dependencies"].log
    assert {"boto3", "moto", "mypy"} <= set(database.queried)


def test_the_newest_botocore_is_compared_with_the_page(site: Site) -> None:
    """What AWS added this week is read from the newest models, and becomes one issue or none."""
    done = site.run("members.yml", "schedule")

    assert done["compare"].result == "success", done["compare"].log
    assert done["issue"].result == "success", done["issue"].log
    (kept,) = site.machine.folder.glob("artifacts-*/new-members/new-members.json")
    document = json.loads(kept.read_text())
    assert document["botocore"]
    assert len(site.called("issue create --title New at AWS")) == bool(document["new"])


def test_a_removal_by_hand_needs_the_state_and_leaves_a_journal(site: Site, rolled_back: dict[str, Job]) -> None:
    """What the state names may be live; what was removed can be read, and undone, from the journal."""
    assert rolled_back["rollback"].result == "success"
    done = site.run("cleanup.yml", "workflow_dispatch", action="apply")["apply"]

    assert done.result == "success", done.log
    assert done.roles == ["CLEANUP"]
    assert "terraform-state was read" in done.log
    kept = list(site.machine.folder.glob("artifacts-*/cleanup-journal/logs/cleanup-*.jsonl"))
    assert any('"done"' in path.read_text() for path in kept)


def test_status_compares_what_runs_with_what_should(site: Site, rolled_back: dict[str, Job]) -> None:
    """After the rollback the newest build is not what is live, and the run says so in text and colour."""
    assert rolled_back["rollback"].result == "success"
    done = site.run("status.yml", "schedule")["status"]

    assert done.roles == ["PLAN"]
    assert done.summary.strip(), done.log


def test_a_called_workflow_takes_the_caller_s_settings_and_the_pipeline_s_code(
    site: Site, first: dict[str, Job]
) -> None:
    """Checkout alone would take the caller's repository, which has no tasks. Each of its families is a build."""
    assert first["build"].result == "success"
    inputs = {"dry-run": True, "market": "spot", "image-tag": "latest", "incremental": True, "rebuild": True}
    done = site.machine.run("build-families.yml", Event("workflow_call", inputs, caller=CALLER), site.workspace)

    assert done["list"].result == "success", done["list"].log
    assert done["list"].roles == []
    assert len(done["ami"].legs) == 2
    for family, build in zip(("films", "trailers"), done["ami"].legs, strict=True):
        assert build.result == "success", build.log
        assert "packer/trailers.auto.pkrvars.hcl from the calling repository" in build.log
        for text in (f"family={family}", "image_tag=latest", "spot=true"):
            assert text in build.log
        assert build.roles == ["BUILD"]


def test_without_a_state_bucket_nothing_is_applied(site: Site) -> None:
    """State on a runner's disk is lost with the job."""
    bare = dataclasses.replace(site.machine, variables={**ROLES})
    done = bare.run("apply.yml", Event("workflow_dispatch", {"action": "rollback"}), site.workspace)

    assert done["rollback"].result == "failure"
    assert "GPU_AMI_STATE_BUCKET" in done["rollback"].log
    assert done["rollback"].roles == []


@dataclasses.dataclass(frozen=True)
class Spread:
    """A fleet's clean-up by one machine, and by the workflow's jobs.

    Attributes:
        alone: What one machine would delete before, as (account, AMI).
        jobs: The workflow's jobs, which deleted.
        artifacts: What they kept.
    """

    alone: set[tuple[str, str]]
    jobs: dict[str, Job]
    artifacts: Path


@pytest.fixture(scope="module")
def spread(site: Site, before: str, tmp_path_factory: pytest.TempPathFactory) -> Spread:
    """The second attempt of a removal in three shards, with what the first one left beside it."""
    assert before
    site.machine.checkout(site.workspace)  # whatever ran before: a caller's settings have other families
    flags = ("--fleet", "--include-shared", "--regions", FLEET["regions"])
    alone = site.invoke("cleanup", *flags, "--query", "verdicts[?action=='delete'].[account, image_id]")
    artifacts = tmp_path_factory.mktemp("spread")
    for name, file in (("fleet-part.1.0", "part-1-of-3.jsonl.gz"), ("fleet-list.1", "fleet.json")):
        (artifacts / name).mkdir()
        (artifacts / name / file).write_text("an older attempt's")
    event = Event("workflow_dispatch", FLEET, attempt=2)
    done = site.machine.run("fleet-cleanup.yml", event, site.workspace, Earlier({}, artifacts))
    return Spread({(account, ami) for account, ami in alone}, done, artifacts)


def test_a_fleet_s_jobs_delete_what_one_machine_would(spread: Spread) -> None:
    """Whatever part of it they saw: accounts are read apart, and the plan is one."""
    for name, job in spread.jobs.items():
        assert job.result == "success", (name, job.log)
    deleted = {
        (path.parent.name.rpartition(".")[2], event["image_id"])
        for path in spread.artifacts.glob("fleet-journal.2.*/cleanup-*.jsonl")
        for event in map(json.loads, path.read_text().splitlines())
        if event["event"] == "done"
    }

    assert deleted == spread.alone
    assert "3 accounts can be read" in spread.jobs["list"].summary
    assert all(ami in spread.jobs["decide"].summary for _, ami in deleted)
    assert len({account for account, _ in deleted}) == len(spread.jobs["apply"].legs) == 2
    assert len(list(spread.artifacts.glob("fleet-part.2.*"))) == len(spread.jobs["survey"].legs) == 3


def test_a_fleet_s_jobs_have_the_rights_that_they_need(spread: Spread) -> None:
    """Only what waits for a reviewer may delete, each account by itself; who merges enters none."""
    roles = {name: set(job.roles) for name, job in spread.jobs.items()}
    apply = spread.jobs["apply"]

    assert roles == {"list": {"FLEET_PLAN"}, "survey": {"FLEET_PLAN"}, "decide": {"PLAN"}, "apply": {"FLEET_CLEANUP"}}
    assert apply.environments == ["gpu-ami-cleanup"] * 2
    assert len(set(apply.groups)) == 2


@pytest.mark.parametrize(("attempt", "reason"), [(2, "shard 1/3"), (3, "attempt 2")], ids=["none", "an-older-attempt"])
def test_parts_that_are_not_there_keep_everything(site: Site, spread: Spread, attempt: int, reason: str) -> None:
    """A download that finds nothing ends green, and failed jobs that are run again see what was there before."""
    artifacts = site.machine.folder / f"artifacts-again-{attempt}"
    kept = "fleet-list.*" if attempt == 2 else "fleet-[lp]*"
    for source in spread.artifacts.glob(kept):
        shutil.copytree(source, artifacts / source.name)
    earlier = Earlier({name: spread.jobs[name] for name in ("list", "survey")}, artifacts)
    done = site.machine.run(
        "fleet-cleanup.yml", Event("workflow_dispatch", FLEET, attempt=attempt), site.workspace, earlier
    )

    assert "Count the parts, merge them and decide (8)" in done["decide"].log
    assert reason in done["decide"].log
    assert done["apply"].result == "skipped"


def test_nobody_became_root(site: Site) -> None:
    """Only the workflows that run the tests install something, and they are not run here."""
    assert not (site.gh / "sudo").exists()


def test_every_step_of_every_workflow_ran(site: Site) -> None:
    """Except the workflows that run this very test. Runs last in this file."""
    ours = [each for each in jobs() if each[0] not in {"ci.yml", "weekly.yml"}]
    every = {(name, job, step["name"]) for name, job, body in ours for step in body.get("steps", [])} | {
        ("prepare", step["name"]) for step in action_steps()
    }
    ran = {step if step[0] != "prepare" else ("prepare", step[2]) for step in site.machine.ran}

    assert every - ran == set()
