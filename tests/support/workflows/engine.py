"""Runs a workflow's jobs on this machine: each `run:` step for real, with bash; each `uses:` step as data."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        caller: The repository that runs the workflow.
        body: The event's own data.
    """

    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    caller: str = "team/gpu-ami-pipeline"
    body: Mapping[str, Any] = field(default_factory=dict)
    under: str = "push"


@dataclass
class Job:
    """What became of a job.

    Attributes:
        result: success, failure or skipped.
        outputs: Its outputs.
        summary: Its summary, all steps together.
        log: What its steps printed to stderr.
        roles: The roles it signed in with, in order.
    """

    result: str
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""
    roles: list[str] = field(default_factory=list)


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

    def run(self, name: str, event: Event, workspace: Path) -> dict[str, Job]:
        """Run the workflow in the file *name* for *event* and return its jobs."""
        document = workflow(name)
        artifacts = self.folder / f"artifacts-{len(list(self.folder.iterdir()))}"
        artifacts.mkdir()
        contexts = contexts_of(document, event, self.variables)
        done: dict[str, Job] = {}
        for job_name, body in document["jobs"].items():
            needs = [body["needs"]] if isinstance(body.get("needs"), str) else body.get("needs", [])
            known = {need: {"result": done[need].result, "outputs": done[need].outputs} for need in needs}
            failed = any(done[need].result != "success" for need in needs)
            if not passes(body.get("if"), {**contexts, "needs": known}, failed=failed):
                done[job_name] = Job("skipped")
                continue
            run = _Run(self, name, job_name, body, {**contexts, "needs": known}, event, workspace, artifacts)
            done[job_name] = run.run()
        return done


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
                source = self.artifacts / given["name"]
                shutil.copytree(source, self.workspace / given.get("path", "."), dirs_exist_ok=True)
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

    def _upload(self, given: Mapping[str, str]) -> bool:
        """Keep what the paths name; the sandbox's tasks write below a folder of its own."""
        target = self.artifacts / given["name"]
        paths = given["path"].split()
        found = False
        for path in paths:
            candidates = (self.workspace / path, self.workspace / _SANDBOX / path)
            source = next((candidate for candidate in candidates if candidate.exists()), None)
            if source is None:
                continue
            found = True
            # A single folder's content is at the artifact's top; of several paths the common folder, here the root.
            kept = target if len(paths) == 1 and source.is_dir() else target / path
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
