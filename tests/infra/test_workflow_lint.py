"""The linters of GitHub's workflows find nothing, and would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.devtools import ACTIONLINT, go_tool
from tests.support.workflows.files import workflow

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
BROKEN = """\
on: issues
permissions: {}
concurrency:
  group: a
  queue: max
jobs:
  a:
    runs-on: ubuntu-24.04
    steps:
      - run: echo ${{ github.event.issue.title }}
        env:
          X: ${{ github.nowhere }}
"""


def tool(name: str) -> str:
    """Return the program *name* of this environment."""
    found = Path(sys.executable).parent / name
    assert found.exists(), f"{name} is missing: uv sync --group infra, on Python 3.11 or newer"
    return str(found)


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a linter with shellcheck beside it on PATH."""
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(cwd), "NO_COLOR": "1"}
    return subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A repository with a workflow that lets the title of an issue run as a script."""
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "broken.yml").write_text(BROKEN, encoding="utf-8")
    return tmp_path


def test_ci_runs_each_session_of_nox_on_every_python() -> None:
    """A session that is added to the noxfile runs there without a second list; coverage is counted at the end."""
    jobs_of_ci = workflow("ci.yml")["jobs"]
    (listing,) = [step["run"] for step in jobs_of_ci["sessions"]["steps"] if step.get("id") == "list"]
    command = listing.partition("$(")[2].partition(" | ")[0]
    assert command == "uv run nox --list --json"
    listed = subprocess.run(
        [sys.executable, "-m", *command.split()[2:]],
        cwd=ROOT,
        env={**os.environ, "CI": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    names = {session["session"] for session in json.loads(listed.stdout)}

    assert {"lint", "typing", "slow", "infra", "e2e", "coverage"} <= names
    assert {name for name in names if name.startswith("tests-")} == {
        f"tests-{python}" for python in ("3.10", "3.11", "3.12", "3.13")
    }
    assert '[.[].session] - ["coverage"]' in listing
    assert jobs_of_ci["linux"]["strategy"]["matrix"]["session"] == "${{ fromJSON(needs.sessions.outputs.names) }}"
    counting = jobs_of_ci["coverage"]
    assert [step["run"] for step in counting["steps"] if "run" in step] == [
        'test "$SESSIONS" = success',
        "uv run nox --session coverage",
    ]
    # It stands for all sessions: a skipped job would count as passed.
    assert counting["if"] == "${{ !cancelled() }}"


def test_actionlint_finds_nothing() -> None:
    """A misspelt context is an empty text on GitHub, not an error."""
    done = run(str(go_tool(ACTIONLINT)), "-no-color", *map(str, WORKFLOWS))

    assert (done.stdout, done.returncode) == ("", 0)


def test_actionlint_would_find_a_context_that_is_not_there(broken: Path) -> None:
    """A linter that is not set up right finds nothing either; nor may one that stops at a key that it does not know."""
    done = run(str(go_tool(ACTIONLINT)), "-no-color", ".github/workflows/broken.yml", cwd=broken)

    assert '"nowhere"' in done.stdout


def test_zizmor_finds_nothing() -> None:
    """Every finding of the pedantic kind is either fixed or explained in .github/zizmor.yml."""
    done = run(tool("zizmor"), "--pedantic", "--offline", "--no-progress", str(ROOT))

    assert done.returncode == 0, done.stdout
    read = set(re.findall(r"completed \S*?(\.github/\S+)", done.stderr))
    assert read == {str(path.relative_to(ROOT)) for path in (*WORKFLOWS, *ACTIONS)} | {".github/dependabot.yml"}


def test_zizmor_would_find_an_injection(broken: Path) -> None:
    """The finding that matters most is seen."""
    done = run(tool("zizmor"), "--pedantic", "--offline", "--no-progress", str(broken))

    assert "template-injection" in done.stdout
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.github-actions", ACTIONS),
        ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_schema_accepts_each_file(schema: str, files: list[Path]) -> None:
    """GitHub drops a file that it cannot read without telling anybody."""
    assert files
    done = run(tool("check-jsonschema"), "--builtin-schema", schema, *map(str, files))

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_would_refuse_a_job_without_a_timeout(broken: Path) -> None:
    """GitHub's own limit is six hours of a paid instance."""
    file = broken / ".github" / "workflows" / "broken.yml"
    done = run(tool("check-jsonschema"), "--builtin-schema", "custom.github-workflows-require-timeout", str(file))

    assert done.returncode != 0


@pytest.mark.parametrize("name", ["actionlint.yaml", "zizmor.yml"])
def test_each_exception_is_explained(name: str) -> None:
    """An exception without its reason outlives it."""
    lines = (ROOT / ".github" / name).read_text(encoding="utf-8").splitlines()
    exceptions = [number for number, line in enumerate(lines) if re.match(r"\s+(- \w|disable:)", line)]

    assert exceptions
    assert all(lines[number - 1].lstrip().startswith("#") for number in exceptions)
