"""Runs a workflow's jobs on this machine: each `run:` step for real, with bash; each `uses:` step as data."""

from __future__ import annotations

import fnmatch
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.workflows.expressions import Contexts, is_true, resolve, shown
from tests.support.workflows.files import action_steps, workflow

_STATUS = ("always()", "failure()", "cancelled()", "success()")
_STEP_WITHIN_S = 600
# Where the sandbox's tasks write what AWS's write at the root.
_SANDBOX = ".sandbox"
_CLEAN = ("clean", "-ffdxq", "-e", _SANDBOX)


@dataclass(frozen=True)
class Event:
    """What starts a workflow.

    Attributes:
        name: The event, such as ``schedule``.
        inputs: What a person or a caller gave.
        under: The caller's own event, which a called workflow sees as its own.
        attempt: Which attempt of the run it is.
        caller: The repository that runs the workflow.
        body: The event's own data.
    """

    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    caller: str = "team/gpu-ami-pipeline"
    body: Mapping[str, Any] = field(default_factory=dict)
    under: str = "push"
    attempt: int = 1


@dataclass
class Job:
    """What became of a job.

    Attributes:
        result: success, failure or skipped.
        outputs: Its outputs.
        summary: Its summary, all steps together.
        log: What its steps printed to stderr.
        roles: The roles it signed in with, in order.
        environments: The environments that let it go on, one for each job of its matrix.
        groups: The concurrency groups that it waited in.
        legs: The jobs of its matrix, in order; itself where it has none.
    """

    result: str
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""
    roles: list[str] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    legs: list[Job] = field(default_factory=list)


def together(jobs: Sequence[Job]) -> Job:
    """Return the jobs of one matrix, or of a called workflow, as what needs them sees them.

    Each job's outputs overwrite those of the one before, as on GitHub.
    """
    failed = not jobs or any(job.result == "failure" for job in jobs)
    return Job(
        "failure" if failed else "success",
        {name: value for job in jobs for name, value in job.outputs.items()},
        "".join(job.summary for job in jobs),
        "".join(job.log for job in jobs),
        [role for job in jobs for role in job.roles],
        [name for job in jobs for name in job.environments],
        [name for job in jobs for name in job.groups],
        list(jobs),
    )


@dataclass(frozen=True)
class Earlier:
    """What an attempt of a run left to the next one, of which people start the failed jobs alone.

    Attributes:
        jobs: Its jobs; those that went well are not run again, and what they handed on stays.
        artifacts: Where its artifacts are, beside which the next attempt's come.
    """

    jobs: Mapping[str, Job]
    artifacts: Path


@dataclass
class Machine:
    """Runs workflows in one workspace after the other.

    Attributes:
        pipeline: The pipeline's repository, a bare clone; what a called workflow checks out.
        callers: Repositories by name, as bare clones.
        folder: Where workspaces and artifacts go.
        env: The environment of each step, on top of the runner's own.
        prepare: Called with each fresh workspace.
        ran: Each step that ran, as (workflow, job, step).
    """

    pipeline: Path
    callers: Mapping[str, Path]
    folder: Path
    env: Mapping[str, str]
    prepare: Callable[[Path], None]
    variables: Mapping[str, str]
    ran: set[tuple[str, str, str]] = field(default_factory=set)

    def checkout(self, workspace: Path) -> None:
        """Put the pipeline's newest commit into *workspace*, which its first use makes and prepares.

        One workspace for all jobs, because the running sandbox lives in it; all else is as in a fresh clone.
        """
        if not workspace.exists():
            subprocess.run(["git", "clone", "--quiet", str(self.pipeline), str(workspace)], check=True)
            self.prepare(workspace)
        for arguments in (("fetch", "--quiet"), ("reset", "--quiet", "--hard", "origin/main"), _CLEAN):
            subprocess.run(["git", *arguments], cwd=workspace, check=True)
        for journal in (workspace / _SANDBOX / "logs").glob("*.jsonl"):
            journal.unlink()  # another job's

    def run(self, name: str, event: Event, workspace: Path, earlier: Earlier | None = None) -> dict[str, Job]:
        """Run the workflow in the file *name* for *event* and return its jobs; of *earlier* those that failed."""
        if earlier is None:
            earlier = Earlier({}, self.folder / f"artifacts-{len(list(self.folder.iterdir()))}")
            earlier.artifacts.mkdir()
        document = workflow(name)
        contexts = contexts_of(document, event, self.variables)
        done: dict[str, Job] = {}
        for job_name, body in document["jobs"].items():
            if job_name in earlier.jobs and earlier.jobs[job_name].result == "success":
                done[job_name] = earlier.jobs[job_name]
                continue
            needs = [body["needs"]] if isinstance(body.get("needs"), str) else body.get("needs", [])
            known = {need: {"result": done[need].result, "outputs": done[need].outputs} for need in needs}
            failed = any(done[need].result != "success" for need in needs)
            if not passes(body.get("if"), {**contexts, "needs": known}, failed=failed):
                done[job_name] = Job("skipped")
                continue
            seen, place = {**contexts, "needs": known}, (workspace, earlier.artifacts)
            done[job_name] = together(
                [
                    self._leg(
                        name, job_name, {**seen, "matrix": entry, "strategy": {"job-index": number}}, event, place
                    )
                    for number, entry in enumerate(entries(body.get("strategy"), seen))
                ]
            )
        return done

    def _leg(self, name: str, job_name: str, contexts: Contexts, event: Event, place: tuple[Path, Path]) -> Job:
        """Run one job of a matrix, or the one there is.

        That of a job that calls a workflow is that workflow's: what it keeps is kept by the one run of both.
        """
        body = workflow(name)["jobs"][job_name]
        workspace, artifacts = place
        if "uses" not in body:
            return _Run(self, name, job_name, body, dict(contexts), event, workspace, artifacts).run()
        called = body["uses"].removeprefix("./.github/workflows/")
        given = {key: resolve(str(text), contexts) for key, text in body.get("with", {}).items()}
        under = event.under if event.name == "workflow_call" else event.name
        inner = replace(event, name="workflow_call", inputs=given, under=under)
        return together(list(self.run(called, inner, workspace, Earlier({}, artifacts)).values()))


def entries(strategy: Mapping[str, Any] | None, contexts: Contexts) -> list[Mapping[str, Any]]:
    """Return what each job of a matrix sees as it; one empty one where there is no matrix."""
    if strategy is None:
        return [{}]
    most = strategy.get("max-parallel", 1)
    assert int(resolve(most, contexts) if isinstance(most, str) else most) > 0
    matrix = strategy["matrix"]
    found = resolve(matrix, contexts) if isinstance(matrix, str) else matrix
    if "include" in found:
        assert set(found) == {"include"}
        return list(found["include"])
    axes = {name: resolve(values, contexts) if isinstance(values, str) else values for name, values in found.items()}
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def contexts_of(document: Mapping[str, Any], event: Event, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return what the expressions of a workflow see when *event* starts it."""
    called = event.name in {"workflow_call", "workflow_dispatch"}
    declared = ((document["on"].get(event.name) or {}).get("inputs") or {}) if called else {}
    unknown = set(event.inputs) - set(declared)
    assert not unknown, f"the workflow has no inputs {unknown} for {event.name}"
    return {
        "inputs": {name: event.inputs.get(name, declaration.get("default")) for name, declaration in declared.items()},
        "vars": dict(variables),
        "github": {
            "repository": event.caller,
            # A called workflow sees the event of its caller.
            "event_name": event.under if event.name == "workflow_call" else event.name,
            "event": event.body,
            "ref": "refs/heads/main",
            "server_url": "https://github.com",
            "token": "the run's own token",
            "run_id": "7",
            "run_attempt": str(event.attempt),
        },
        "job": {
            "workflow_repository": "team/gpu-ami-pipeline",
            "workflow_sha": "the workflow's commit",
            "workflow_ref": "team/gpu-ami-pipeline/.github/workflows/build-ami.yml@refs/heads/main",
        },
        "runner": {"os": "Linux"},
    }


def passes(condition: str | None, contexts: Contexts, *, failed: bool) -> bool:
    """Return whether a job or step with this condition runs; *failed* is whether something before it did."""
    functions = {
        "always": lambda: True,
        "failure": lambda: failed,
        "success": lambda: not failed,
        "cancelled": lambda: False,
    }
    if condition is None:
        return not failed
    text = condition if "${{" in condition else f"${{{{ {condition} }}}}"
    holds = is_true(resolve(text, contexts, functions))
    return holds and (not failed or any(word in condition for word in _STATUS))


class _Run:
    """One run of one job."""

    def __init__(
        self,
        machine: Machine,
        name: str,
        job_name: str,
        body: Mapping[str, Any],
        contexts: dict[str, Any],
        event: Event,
        workspace: Path,
        artifacts: Path,
    ) -> None:
        self.machine = machine
        self.where = (name, job_name)
        self.body = body
        self.contexts = {**contexts, "steps": {}}
        self.event = event
        self.workspace = workspace
        self.artifacts = artifacts
        self.job = Job("success")
        self.files = machine.folder / "runner"
        self.files.mkdir(exist_ok=True)

    def run(self) -> Job:
        """Run every step whose condition holds."""
        if "environment" in self.body:
            self.job.environments.append(shown(resolve(self.body["environment"], self.contexts)))
        if "concurrency" in self.body:
            self.job.groups.append(shown(resolve(self.body["concurrency"]["group"], self.contexts)))
        for step in self.body["steps"]:
            self._step(step, self.contexts, self.where)
        self.job.outputs = {name: shown(resolve(text, self.contexts)) for name, text in self._outputs().items()}
        return self.job

    def _outputs(self) -> Mapping[str, str]:
        outputs: Mapping[str, str] = self.body.get("outputs", {})
        return outputs

    def _step(self, step: Mapping[str, Any], contexts: Contexts, where: tuple[str, str]) -> None:
        if not passes(step.get("if"), contexts, failed=self.job.result == "failure"):
            self._note(step, outcome="skipped")
            return
        self.machine.ran.add((*where, step["name"]))
        is_fine = self._execute(step, contexts, where) if "run" in step else self._use(step, contexts)
        self._note(step, outcome="success" if is_fine else "failure")
        if not is_fine and not step.get("continue-on-error"):
            self.job.result = "failure"

    def _note(self, step: Mapping[str, Any], **about: Any) -> None:
        """Let later steps see what became of a step with an id."""
        if "id" in step:
            self.contexts["steps"].setdefault(step["id"], {"outputs": {}}).update(about)

    # --- run: -----------------------------------------------------------------------------------------

    def _execute(self, step: Mapping[str, Any], contexts: Contexts, where: tuple[str, str]) -> bool:
        script = self.files / "script.sh"
        script.write_text(step["run"], encoding="utf-8")
        summary, outputs = self.files / "summary", self.files / "outputs"
        for file in (summary, outputs):
            file.write_text("", encoding="utf-8")
        env = {
            **self.machine.env,
            "CI": "true",
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_OUTPUT": str(outputs),
            "GITHUB_REPOSITORY": self.event.caller,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_RUN_ID": "7",
            "GITHUB_RUN_ATTEMPT": str(self.event.attempt),
            "GITHUB_REF_NAME": "main",
        }
        for given, known in ((self.body.get("env", {}), self.contexts), (step.get("env", {}), contexts)):
            env |= {name: shown(resolve(str(text), known)) for name, text in given.items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.workspace,
            env=env,
            capture_output=True,
            encoding="utf-8",
            timeout=_STEP_WITHIN_S,
            check=False,
        )
        self.job.summary += summary.read_text(encoding="utf-8")
        self.job.log += f"--- {where[1]}: {step['name']} ({done.returncode})\n{done.stdout}{done.stderr}"
        lines = outputs.read_text(encoding="utf-8").splitlines()
        self._note(step, outputs=dict(line.split("=", 1) for line in lines))
        return done.returncode == 0

    # --- uses: ----------------------------------------------------------------------------------------

    def _use(self, step: Mapping[str, Any], contexts: Contexts) -> bool:
        given = {name: resolve(str(text), contexts) for name, text in step.get("with", {}).items()}
        match step["uses"].partition("@")[0]:
            case "./.github/actions/prepare":
                # A composite action has no contexts of its caller but github, and its own inputs.
                own = {"inputs": given, "github": contexts["github"]}
                for inner in action_steps():
                    self._step(inner, own, ("prepare", self.where[1]))
                return self.job.result == "success"
            case "actions/checkout":
                self._checkout(given)
            case "aws-actions/configure-aws-credentials":
                assert given["role-to-assume"].startswith("arn:aws:iam::"), given
                assert given["aws-region"]
                self.job.roles.append(given["role-to-assume"].rpartition("/")[2])
            case "actions/upload-artifact":
                return self._upload(given)
            case "actions/download-artifact":
                return self._download(given)
            case "astral-sh/setup-uv":
                assert shutil.which("uv")
            case other:
                msg = f"{other} is not known here"
                raise ValueError(msg)
        return True

    def _checkout(self, given: Mapping[str, str]) -> None:
        if not given.get("path"):
            assert given["repository"] == "team/gpu-ami-pipeline"
            assert given["ref"] == "the workflow's commit"
            self.machine.checkout(self.workspace)
            return
        source = self.machine.callers.get(self.event.caller, self.machine.pipeline)
        subprocess.run(["git", "clone", "--quiet", str(source), str(self.workspace / given["path"])], check=True)

    def _download(self, given: Mapping[str, str]) -> bool:
        """Fetch artifacts of this run: one by its name, or each that a pattern matches into a folder of its name.

        A pattern that matches nothing is no failure (actions/download-artifact 8).
        """
        assert not set(given) & {"run-id", "repository", "github-token"}, "artifacts of another run"
        target = self.workspace / given.get("path", ".")
        if "name" in given:
            source = self.artifacts / given["name"]
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            return source.is_dir()
        for source in sorted(self.artifacts.iterdir()):
            if fnmatch.fnmatchcase(source.name, given["pattern"]):
                shutil.copytree(source, target / source.name, dirs_exist_ok=True)
        return True

    def _upload(self, given: Mapping[str, str]) -> bool:
        """Keep what the paths name; the sandbox's tasks write below a folder of its own."""
        target = self.artifacts / given["name"]
        assert not target.exists(), f"{given['name']} is kept already: an artifact's name is taken once in a run"
        paths = given["path"].split()
        found = False
        for path in paths:
            sources = [
                source for root in (self.workspace, self.workspace / _SANDBOX) for source in sorted(root.glob(path))
            ]
            assert len(sources) < 2 or "*" not in path, "several files of a pattern are not known here"
            source = next(iter(sources), None)
            if source is None:
                continue
            found = True
            # What one path names, a file or a folder's content, is at the artifact's top; of several the common folder,
            # here the root.
            kept = target / path if len(paths) > 1 else target if source.is_dir() else target / source.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, kept, dirs_exist_ok=True)
            else:
                shutil.copy2(source, kept)
        may_be_missing = given["if-no-files-found"] == "ignore" or self.job.result == "failure"
        assert found or may_be_missing, f"nothing of {paths} is there to keep"
        return found or may_be_missing


def environment(programs: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return a runner's environment: the emulated programs first on PATH, and nothing that could lead to AWS."""
    kept = ("HOME", "LANG", "TMPDIR", "PYENV_VERSION", "PYENV_ROOT")
    prefixes = ("GO", "UV_", "PIP_", "COVERAGE_", "SSL_")
    return {
        **{name: value for name, value in os.environ.items() if name in kept or name.startswith(prefixes)},
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        # Nobody's own settings of git take part.
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **more,
    }
