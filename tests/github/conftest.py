"""A clone with a remote, a runner, and a gh that writes down how it was called."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpu_ami.github.runner import Runner, runner_from

HANDOVER = "terraform/gpu-ami.auto.tfvars.json"


@dataclass(frozen=True)
class GitHub:
    """GitHub as far as a step can see it.

    Attributes:
        clone: A clone of the repository on its branch main.
        remote: The repository itself.
        runner: The step's files.
        env: The step's variables.
        calls: What gh was called with, a call a line.
        answers: What gh answers: one file per sub-command, such as ``pr-list``.
    """

    clone: Path
    remote: Path
    runner: Runner
    env: dict[str, str]
    calls: Path
    answers: Path

    @property
    def summary(self) -> str:
        """The step's summary."""
        assert self.runner.summary
        return self.runner.summary.read_text(encoding="utf-8") if self.runner.summary.exists() else ""

    @property
    def outputs(self) -> list[str]:
        """The step's outputs."""
        assert self.runner.outputs
        return self.runner.outputs.read_text(encoding="utf-8").splitlines() if self.runner.outputs.exists() else []

    def called(self, *arguments: str) -> list[str]:
        """Return the calls of gh that begin with *arguments*."""
        lines = self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(" ".join(arguments))]

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run git and return what it says."""
        done = subprocess.run(["git", *arguments], cwd=cwd or self.clone, capture_output=True, text=True, check=True)
        return done.stdout.strip()


GH = """\
#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$GH_CALLS"
[[ -e "$GH_ANSWERS/refuse-$1" ]] && echo "HTTP 403: Resource not accessible" >&2 && exit 1
cat "$GH_ANSWERS/$1-$2" 2> /dev/null || true
"""


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    """A repository on GitHub with one commit, and the runner's clone of it."""
    programs, answers, calls = tmp_path / "bin", tmp_path / "answers", tmp_path / "calls"
    for folder in (programs, answers):
        folder.mkdir()
    (programs / "gh").write_text(GH, encoding="utf-8")
    (programs / "gh").chmod(0o755)
    for name, value in {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "GH_CALLS": str(calls),
        "GH_ANSWERS": str(answers),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    env = {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "team/ami",
        "GITHUB_RUN_ID": "7",
        "GITHUB_REF_NAME": "main",
    }
    remote, clone = tmp_path / "remote.git", tmp_path / "clone"
    made = GitHub(clone, remote, runner_from(env), env, calls, answers)
    made.git("init", "--quiet", "--bare", "--initial-branch=main", str(remote), cwd=tmp_path)
    made.git("clone", "--quiet", str(remote), str(clone), cwd=tmp_path)
    (clone / "terraform").mkdir()
    (clone / HANDOVER).write_text('{\n  "gpu_ami_id": "ami-0aaaaaaaaaaaaaaaa"\n}\n', encoding="utf-8")
    (clone / "pipeline.yaml").write_text("region: eu-west-1\nfamily: films\n", encoding="utf-8")
    made.git("add", ".")
    made.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "Start")
    made.git("push", "--quiet", "origin", "HEAD:main")
    return made
