"""GitHub and one runner on this machine, for the workflows' tests: real git, a real sandbox, emulated programs."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.session import running_session
from tests.support.workflows.engine import Event, Job, Machine
from tests.support.workflows.files import ROOT

HANDOVER = "terraform/gpu-ami.auto.tfvars.json"
ROLES = {
    f"GPU_AMI_{name}_ROLE": f"arn:aws:iam::123456789012:role/{name}"
    for name in ("PLAN", "BUILD", "APPLY", "CLEANUP", "BENCH", "FLEET_PLAN", "FLEET_CLEANUP")
}
MEASURES = {f"GPU_AMI_{name}": "true" for name in ("VERIFY", "BENCH")}
LIMITS = {f"GPU_AMI_{name}_MAX_USD": "500" for name in ("VERIFY", "BENCH")}
VARIABLES = {
    **ROLES,
    **MEASURES,
    **LIMITS,
    "GPU_AMI_ACCOUNT": "123456789012",
    "GPU_AMI_STATE_BUCKET": "team-state",
}
CALLER = "films/rendering"
FAMILIES = """\
region: ap-northeast-2
families:
  films:
    variables_file: packer/films.auto.pkrvars.hcl
    handover: {file: terraform/films.auto.tfvars.json, variable: films_ami_id}
  trailers:
    variables_file: packer/trailers.auto.pkrvars.hcl
    handover: {file: terraform/trailers.auto.tfvars.json, variable: trailers_ami_id}
"""

# The demo organization's regions, and no others.
FLEET: dict[str, Any] = {
    "action": "apply",
    "shards": "3",
    "regions": "ap-northeast-2,us-east-1",
    "include-shared": True,
}

# Remembers what was opened, so that a second run finds it.
GH = """\
#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$GH_FOLDER/calls"
case "$1 $2" in
  "pr create") echo https://github.example/pull/1 | tee "$GH_FOLDER/pr" ;;
  "pr list") cat "$GH_FOLDER/pr" 2> /dev/null ;;
  "issue create") echo https://github.example/issues/2 && echo 2 > "$GH_FOLDER/issue" ;;
  "issue list") cat "$GH_FOLDER/issue" 2> /dev/null ;;
esac
exit 0
"""
SUDO = '#!/usr/bin/env bash\nprintf "%s\\n" "$*" >> "$GH_FOLDER/sudo"\n'


@dataclass(frozen=True)
class Site:
    """GitHub and one runner.

    Attributes:
        machine: Runs the workflows.
        workspace: The runner's workspace, with a running sandbox in it.
        remote: The repository on GitHub.
        gh: Where gh and sudo write down how they were called.
    """

    machine: Machine
    workspace: Path
    remote: Path
    gh: Path

    def run(self, name: str, event: str, **inputs: object) -> dict[str, Job]:
        """Run a workflow of the repository itself."""
        return self.machine.run(
            name, Event(event, {key.replace("_", "-"): value for key, value in inputs.items()}), self.workspace
        )

    def invoke(self, *arguments: str) -> Any:
        """Run a task as a person on the workspace would, and return its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *arguments, "--output", "json"],
            cwd=self.workspace,
            env=dict(self.machine.env),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def called(self, *arguments: str) -> list[str]:
        """Return the calls of gh that begin with *arguments*."""
        return [line for line in (self.gh / "calls").read_text().splitlines() if line.startswith(" ".join(arguments))]

    def git(self, *arguments: str) -> str:
        """Run git in the repository on GitHub."""
        return subprocess.run(["git", *arguments], cwd=self.remote, capture_output=True, text=True, check=True).stdout

    def merge(self) -> None:
        """Merge the pipeline's pull request and close it."""
        self.git("update-ref", "refs/heads/main", "refs/heads/gpu-ami/gpu-batch")
        (self.gh / "pr").unlink()

    def proposed(self) -> str:
        """Return the AMI that the open pull request hands over."""
        ami: str = json.loads(self.git("show", f"gpu-ami/gpu-batch:{HANDOVER}"))["gpu_ami_id"]
        return ami


def repository(folder: Path, files: Path) -> Path:
    """Return a bare repository with one commit of *files*."""
    bare = folder.with_suffix(".git")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    for command in (["init", "--quiet"], ["add", "--force", "."], ["commit", "--quiet", "-m", "Start"]):
        subprocess.run([*git, *command], cwd=files, check=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(files), str(bare)], check=True)
    return bare


def tree(folder: Path) -> Path:
    """Copy what git has of this repository, as it is now, to *folder*."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@contextlib.contextmanager
def sandbox(workspace: Path, env: dict[str, str]) -> Iterator[None]:
    """Keep the sandbox of *workspace* running: what one job makes, the next one sees."""
    child = subprocess.Popen(
        [sys.executable, "-m", "invoke", "sandbox"],
        cwd=workspace,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        end = time.monotonic() + 300
        while running_session(Workspace(workspace, sandbox=True)) is None:
            assert child.poll() is None, child.communicate()[0]
            assert time.monotonic() < end, "invoke sandbox did not come up"
            time.sleep(0.1)
        yield
    finally:
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=300)


class Vulnerabilities(BaseHTTPRequestHandler):
    """The database of vulnerabilities: queried about each dependency, it knows of none."""

    queried: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Answer as OSV does."""
        package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        self.queried.append(package)
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
