"""What holds for every workflow: rights, pins, time, retention; read from the files as they are."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import settings
from gpu_ami.measure import bench_plan
from gpu_ami.measure.bench_journal import Journal, Whose
from gpu_ami.measure.verify import LONGEST_MIN
from gpu_ami.options import Options
from tests.support.workflows.files import FOLDER, NAMES, ROOT, jobs, steps, workflow

JOBS = [pytest.param(name, body, id=f"{name}-{job}") for name, job, body in jobs() if "steps" in body]
CALLS = [pytest.param(body, id=f"{name}-{job}") for name, job, body in jobs() if "uses" in body]
MATRICES = [pytest.param(body, id=f"{name}-{job}") for name, job, body in jobs() if "strategy" in body]
STEPS = [pytest.param(step, id=where) for where, step in steps()]
TEXTS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github").rglob("*.yml"))


def test_the_workflows_are_those_that_the_documentation_names() -> None:
    """Nobody finds a workflow that no page names."""
    page = (ROOT / "docs" / "github-actions.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `([\w-]+\.yml)` \|", page, re.MULTILINE)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_no_right_is_given_to_a_whole_workflow(name: str) -> None:
    """A job that is added later starts with nothing."""
    assert workflow(name)["permissions"] == {}


@pytest.mark.parametrize(("name", "body"), JOBS)
def test_each_job_has_its_rights_and_its_time(name: str, body: dict[str, Any]) -> None:
    """GitHub's defaults are too many rights and six hours."""
    assert body["permissions"].get("contents") in {"read", "write"}
    assert 5 <= body["timeout-minutes"] <= 260
    assert not body["runs-on"].endswith("latest")


@pytest.mark.parametrize(("name", "body"), JOBS)
def test_a_job_that_may_write_has_no_role_and_one_with_a_role_may_not_write(name: str, body: dict[str, Any]) -> None:
    """Code that talks to AWS cannot push, and code that pushes cannot touch AWS."""
    rights = body["permissions"]
    writes = [right for right, kind in rights.items() if kind == "write" and right != "id-token"]

    assert not (writes and "id-token" in rights)
    assert ("id-token" in rights) == any("configure-aws-credentials" in step.get("uses", "") for step in body["steps"])


@pytest.mark.parametrize("body", CALLS)
def test_a_job_that_calls_a_workflow_gives_it_the_rights_of_its_jobs_and_no_more(body: dict[str, Any]) -> None:
    """GitHub starts nothing of a workflow that is called with less; with more, a job added there would have it."""
    called = workflow(body["uses"].removeprefix("./.github/workflows/"))
    rights: dict[str, str] = {}
    for job in called["jobs"].values():
        rights |= {name: kind for name, kind in job["permissions"].items() if rights.get(name) != "write"}

    assert body["permissions"] == rights
    assert set(body["with"]) == set(called["on"]["workflow_call"]["inputs"])


@pytest.mark.parametrize("body", MATRICES)
def test_the_jobs_of_a_matrix_do_not_end_each_other_and_keep_what_is_theirs(body: dict[str, Any]) -> None:
    """A failure in one account or session says nothing of the others; the second artifact of one name is refused."""
    assert body["strategy"]["fail-fast"] is False
    for step in body.get("steps", []):
        if "upload-artifact@" in step.get("uses", ""):
            assert re.search(r"\$\{\{ (matrix\.|strategy\.job-index)", step["with"]["name"])


@pytest.mark.parametrize("body", [body for _, _, body in jobs()])
def test_a_group_lets_all_wait_or_one(body: dict[str, Any]) -> None:
    """Actionlint does not know `queue` yet: GitHub refuses any other value, and one that waits for a cancelled run."""
    group = body.get("concurrency", {})

    assert group.get("queue", "single") in {"single", "max"}
    assert not ("queue" in group and group.get("cancel-in-progress"))


@pytest.mark.parametrize("name", [name for name in NAMES if re.match("build|apply|.*cleanup", name)])
def test_what_changes_aws_is_never_cancelled_by_a_newer_run(name: str) -> None:
    """A cancelled build leaves an instance, a cancelled apply a locked state."""
    assert workflow(name)["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize("name", NAMES)
def test_each_workflow_can_be_called(name: str) -> None:
    """A team may call it instead of forking; it then takes what a person could give, and a bit more."""
    triggers = workflow(name)["on"]
    by_hand = (triggers["workflow_dispatch"] or {}).get("inputs", {})
    called = (triggers["workflow_call"] or {}).get("inputs", {})

    assert set(by_hand) <= set(called)
    assert all("default" in given or given.get("required") for given in called.values())
    for name, given in by_hand.items():
        kind = "string" if given["type"] == "choice" else given["type"]
        assert (called[name]["type"], called[name].get("default", given.get("default"))) == (
            kind,
            given.get("default", ""),
        )


def test_every_action_is_pinned_by_commit_with_its_version() -> None:
    """A tag can be moved to other code; a commit cannot, and the comment tells people what it is."""
    uses = re.findall(r"uses: (\S+)(?: # (v\d+\.\d+\.\d+))?$", TEXTS, re.MULTILINE)
    pins: dict[str, set[tuple[str, str]]] = {}
    for what, version in uses:
        if what.startswith("./"):
            continue
        action, _, commit = what.partition("@")
        assert re.fullmatch(r"[0-9a-f]{40}", commit), what
        assert version, what
        pins.setdefault(action, set()).add((commit, version))

    assert {action: len(versions) for action, versions in pins.items()} == dict.fromkeys(pins, 1)


def test_an_apply_waits_for_batch_no_longer_than_it_is_signed_in() -> None:
    """What the provider waits by itself counts too; a job that GitHub ends says nothing and completes no receipt."""
    for job, task in (("apply", "apply"), ("rollback", "rollback")):
        body = workflow("apply.yml")["jobs"][job]
        (line,) = [step["run"] for step in body["steps"] if f"invoke {task} " in step.get("run", "")]
        (signed_in_s,) = [
            step["with"]["role-duration-seconds"]
            for step in body["steps"]
            if "role-duration-seconds" in step.get("with", {})
        ]
        (wait,) = re.findall(r"--wait (\d+)", line)
        locked = sum(int(re.sub(r"\D", "", value)) for name, value in body["env"].items() if "TF_CLI_ARGS_" in name)
        assert 20 + int(wait) + 10 <= signed_in_s / 60 < body["timeout-minutes"]
        # A run that also waits for a lock has less for itself.
        assert 20 + int(wait) + locked + 5 <= signed_in_s / 60


def test_each_job_of_a_fleet_signs_in_as_its_hub_lets_it() -> None:
    """The role that may delete waits for reviewers; the one that reads is for jobs of the branch, in no environment."""
    hub = (ROOT / "terraform" / "modules" / "fleet-hub" / "variables.tf").read_text(encoding="utf-8")
    (environment,) = re.findall(r'variable "environment" \{[^}]*?default += "([\w-]+)"', hub)
    signed_in = {
        job: (step["with"]["role-to-assume"].split(".")[-1].split(" ")[0], body.get("environment"))
        for job, body in workflow("fleet-cleanup.yml")["jobs"].items()
        for step in body["steps"]
        if "configure-aws-credentials" in step.get("uses", "")
    }

    assert signed_in == {
        "list": ("GPU_AMI_FLEET_PLAN_ROLE", None),
        "survey": ("GPU_AMI_FLEET_PLAN_ROLE", None),
        "decide": ("GPU_AMI_PLAN_ROLE", None),  # for Terraform's state alone
        "apply": ("GPU_AMI_FLEET_CLEANUP_ROLE", environment),
    }


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(body, id=f"{name}-{job}")
        for name, job, body in jobs()
        if name in {"cleanup.yml", "fleet-cleanup.yml"} and "cleanup --" in str(body["steps"])
    ],
)
def test_a_clean_up_is_connected_to_the_state_once_it_is_signed_in(body: dict[str, Any]) -> None:
    """A clean checkout is not, and without the state everything is kept: nothing would ever go."""
    texts = [step.get("run", "") + step.get("uses", "") for step in body["steps"]]
    wanted = ("gpu_ami.github backend", "configure-aws-credentials@", "gpu_ami.github connect", " cleanup --")

    first = [next(number for number, text in enumerate(texts) if part in text) for part in wanted]
    assert first == sorted(first)


def test_no_region_confines_a_fleet() -> None:
    """To the tasks GPU_AMI_REGION is --region: a parameter of another region that names an AMI would not be seen."""
    given = {name for body in workflow("fleet-cleanup.yml")["jobs"].values() for name in body["env"]}

    assert "INPUT_REGIONS" in given
    assert "GPU_AMI_REGION" not in given


def test_a_bench_is_signed_in_and_has_time_to_its_end() -> None:
    """What is cut off in its teardown leaves hosts; so does one whose credentials end before."""
    body = workflow("build-ami.yml")["jobs"]["measure"]
    at = next(n for n, step in enumerate(body["steps"]) if " task bench " in step.get("run", ""))
    within = int(body["steps"][at]["env"]["INPUT_WITHIN_MIN"])
    signed_in_s = body["steps"][at - 1]["with"]["role-duration-seconds"]

    assert within == bench_plan.longest_min(2)
    assert within + 10 <= signed_in_s / 60
    assert LONGEST_MIN + 5 + within + 15 <= body["timeout-minutes"]


def test_what_a_cut_off_bench_left_is_taken_away(tmp_path: Path) -> None:
    """A cancelled job's step is killed before a teardown can be done: a step of its own goes on by the journal."""
    body = workflow("build-ami.yml")["jobs"]["measure"]
    step = body["steps"][-1]
    assert step["if"].startswith("always() && ")
    assert "configure-aws-credentials" in body["steps"][-2]["uses"]
    assert body["steps"][-2]["if"] == step["if"]
    logs, programs = tmp_path / "logs" / "family", tmp_path / "bin"
    programs.mkdir()
    (programs / "uv").write_text('#!/bin/sh\necho "$@" >> called\n')
    (programs / "uv").chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}

    def take_away() -> list[str]:
        subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, check=True)
        called = tmp_path / "called"
        return called.read_text().splitlines() if called.exists() else []

    assert take_away() == []
    logs.mkdir(parents=True)
    whose = Whose(
        run_id="bench-20261130T120000Z-abc123",
        region="r",
        account="1",
        family="f",
        began=datetime(2026, 11, 30, tzinfo=timezone.utc),
        may_take_min=1,
    )
    for name in ("bench-over", "bench-cut off"):
        journal = Journal(logs / f"{name}.jsonl", whose)
        journal.will("queue", "gpu-ami-bench-abc123-1-stock")
        if name == "bench-over":
            journal.end()
        journal.close()

    assert take_away() == ["run invoke bench --teardown logs/family/bench-cut off.jsonl"]


@pytest.mark.parametrize("step", STEPS)
def test_no_expression_is_part_of_a_script(step: dict[str, Any]) -> None:
    """An input with a quote in it would be code; through the environment it stays text."""
    assert "${{" not in step.get("run", "")


@pytest.mark.parametrize("step", STEPS)
def test_what_is_checked_out_or_kept_is_bounded(step: dict[str, Any]) -> None:
    """A token left in .git is in every artifact; an artifact without an end is paid for 90 days."""
    given = step.get("with", {})
    match step.get("uses", "").partition("@")[0]:
        case "actions/checkout":
            assert given["persist-credentials"] is False
        case "actions/download-artifact":
            # Of another run it could be anybody's; a pattern that matches nothing ends green.
            assert set(given) <= {"name", "path", "pattern", "merge-multiple"}
        case "actions/upload-artifact":
            assert 1 <= given["retention-days"] <= 90
            assert given["if-no-files-found"] in {"error", "ignore"}
        case "aws-actions/configure-aws-credentials":
            assert set(given) - {"role-duration-seconds"} == {"role-to-assume", "aws-region", "allowed-account-ids"}


def test_no_secret_is_used() -> None:
    """Roles by OIDC and the run's own token are enough; there is nothing to leak or to rotate."""
    assert "secrets." not in TEXTS
    assert "aws-access-key" not in TEXTS


def test_the_fall_back_region_is_the_settings_own() -> None:
    """The sign-in needs a region before pipeline.yaml can be read."""
    ours = settings.load(ROOT / "pipeline.yaml", Options()).region

    assert set(re.findall(r"GPU_AMI_REGION \|\| '([\w-]+)'", TEXTS)) == {ours}


def test_uv_is_the_same_everywhere() -> None:
    """One version to move."""
    assert len(set(re.findall(r"^\s+version: ([\d.]+)$", TEXTS, re.MULTILINE))) == 1


def test_ci_runs_the_commands_of_the_readme() -> None:
    """What the README promises first is what is tested. `pip install uv` is the step before, in GitHub's way."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("```console\n")[2].partition("```")[0]
    readme = [line.partition("#")[0].rstrip().split("&& ")[-1].removeprefix("$ ") for line in block.splitlines()]
    linux = [step.get("run", "") for step in workflow("weekly.yml")["jobs"]["readme"]["steps"]]

    assert len(readme) == 2
    assert readme == [line for line in linux if line.startswith("uv run")]


def test_ci_runs_the_lowest_versions_each_week() -> None:
    """A bound that is never run is a guess."""
    weekly = workflow("weekly.yml")

    (scheduled,) = weekly["on"]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", scheduled["cron"])
    assert "uv run nox --session lowest" in [step.get("run") for step in weekly["jobs"]["lowest"]["steps"]]


def test_ci_lets_bubblewrap_isolate_on_ubuntu() -> None:
    """Ubuntu 24.04 refuses user namespaces without this, and the guest is most of what is to be tested."""
    for name, job in (("ci.yml", "linux"), ("weekly.yml", "readme")):
        steps_of_linux = workflow(name)["jobs"][job]["steps"]
        assert any("apparmor_restrict_unprivileged_userns=0" in step.get("run", "") for step in steps_of_linux)


def test_macos_and_windows_run_what_works_there() -> None:
    """Compared as text: neither system is here. Each command is one that Linux runs too, or the Windows entry point."""
    for job in ("macos", "windows"):
        lines = [step["run"] for step in workflow("ci.yml")["jobs"][job]["steps"] if "run" in step]
        assert lines
        assert all(
            re.match(r"uv run (nox --session|invoke) |\./scripts/build-ami\.ps1 -Action ", line) for line in lines
        )


def test_pre_commit_runs_the_linters_of_ci() -> None:
    """What fails in CI fails before the commit."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")

    for program in (
        "ruff check",
        "ruff format",
        "lint-imports",
        "mypy",
        "shellcheck",
        "shfmt",
        "packer fmt",
        "terraform fmt",
        "zizmor",
    ):
        assert program in hooks
    assert "check-jsonschema" in hooks
    assert "actionlint" in hooks


def test_dependabot_waits_a_week_for_all_that_is_used() -> None:
    """Most bad releases are found within days."""
    from tests.support.workflows.files import load

    updates = load(ROOT / ".github" / "dependabot.yml")["updates"]

    assert {update["package-ecosystem"] for update in updates} == {"uv", "github-actions", "terraform"}
    assert all(update["cooldown"]["default-days"] >= 7 and update["groups"] for update in updates)
    assert FOLDER.is_dir()
