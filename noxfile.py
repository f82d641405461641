#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox[uv]>=2026.10.20"]
# ///
"""Every check of the repository; `uv run nox` runs what a change must pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess  # noqa: TID251 - nox runs without the package installed
import sys

import nox


def show_pyenv_pythons() -> None:
    """Make all of pyenv's Pythons visible: its shims answer for the chosen one only.

    The choice in force stays first. There nearly always is one: a `uv` that pip put into a pyenv Python is itself
    started by a shim, which chooses that Python for all that it starts.
    """
    if shutil.which("pyenv") is None:
        return
    listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False)
    found = [line.strip() for line in listed.stdout.splitlines() if re.match(r"\s*3\.1\d", line)]
    newest_first = sorted(found, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], reverse=True)
    chosen = [version for version in os.environ.get("PYENV_VERSION", "").split(":") if version]
    if newest_first:
        os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys([*chosen, *newest_first]))


show_pyenv_pythons()
# Where Python may not keep bytecode, each of the many commands that tests start compiles moto and botocore anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
# The weekly run tries every test on every Python.
EVERY_TEST = bool(os.environ.get("EVERY_TEST"))
# What differs between Pythons shows on the oldest and the newest; CI runs those between, too: of each file of tests the
# first, which loads all that is used there, and whole files about what differs most from version to version.
UNIT = [f"tests-{python}" for python in (PYTHONS if IN_CI else dict.fromkeys([PYTHONS[0], PYTHONS[-1]]))]
# The end-to-end tests mostly wait, for many minutes: the others run meanwhile. The last, which has no other beside it,
# waits least.
DEFAULT = ["e2e", "lint", "typing", UNIT[-1], "slow", "infra", *UNIT[1:-1], UNIT[0], "coverage"]
# Files without a unit test are not even read: that takes each worker seconds.
ELSEWHERE = (
    "tests/sandbox",
    "tests/infra",
    "tests/e2e",
    "tests/workflows",
    "tests/bake/test_preflight_account.py",
    "tests/cleanup/test_faults.py",
    "tests/cleanup/test_source_faults.py",
    "tests/coldstart/test_calibration.py",
)
UNIT_TESTS = ("not (slow or infra or e2e)", *(f"--ignore={path}" for path in ELSEWHERE))

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv"
nox.options.error_on_external_run = True
# A missing Python is an error in CI; elsewhere nox names it and goes on.
nox.options.error_on_missing_interpreters = IN_CI
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = DEFAULT
# A bare `nox` runs two sessions at a time, and prints what each said when it ends: three are no faster on two
# processors. What is named on the command line runs alone, as CI does: one sees it go, and a debugger has the terminal.
# `-j 1` does so with all of them.
nox.options.parallel = 2 if len(sys.argv) == 1 else 1


# Of these files' slow tests: they go hundreds of times through what the unit tests cover, or through nothing of the two
# packages, and measuring that costs a third of their time.
UNMEASURED = (
    "tests/aws/references/test_completeness.py",
    "tests/cleanup/test_cleanup.py",
    "tests/cleanup/test_execute.py",
    "tests/cleanup/test_faults.py",
    "tests/cleanup/test_mentions.py",
    "tests/cleanup/test_other_accounts.py",
    "tests/cleanup/test_source_faults.py",
    "tests/cleanup/test_sweep.py",
    "tests/cleanup/test_usage_reports.py",
    "tests/cleanup/test_volume_bins.py",
    "tests/coldstart/test_calibration.py",
    "tests/e2e",
    "tests/measure",
    "tests/sandbox/aws/ec2/test_xml_answers.py",
    "tests/workflows",
)

# Terraform and Packer live for seconds: collecting garbage is a quarter of their processor time, and memory spares it.
GO = {"GOGC": "off", "GOMEMLIMIT": "1GiB"}


def run_pytest(
    session: nox.Session,
    marks: str,
    *where: str,
    workers: int,
    beside: int | None = None,
    measured: bool = True,
    dist: str = "loadfile",
) -> None:
    """Run the tests with *marks* side by side, and measure what they cover.

    *workers* share the tests; where another session runs at the same time it is *beside*, if that is given: its tests
    fill the waits that one more worker is for, and each worker takes many seconds to collect all tests.

    One file stays on one worker, unless *dist* says otherwise: its sandbox is started once. The files come in the order
    that tests/conftest.py makes. *where* keeps pytest from reading the files of other sessions; what is named on the
    command line beats it.
    """
    program = ("coverage", "run", "-m", "pytest") if measured else ("pytest",)
    number = beside if beside is not None and session.parallel else workers
    options = (f"--numprocesses={number}", f"--dist={dist}", "--no-loadscope-reorder", "--quiet", "-m", marks)
    session.run(*program, *options, *(session.posargs or where), env=GO)


def install(session: nox.Session, *groups: str) -> None:
    """Install the project and the dependency *groups* as pyproject.toml and its exclude-newer date say."""
    session.run_install(
        "uv",
        "sync",
        "--quiet",
        "--no-default-groups",
        *(f"--group={group}" for group in groups),
        f"--python={session.virtualenv.location}",
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
        external=True,
    )


def setup_tools(session: nox.Session) -> None:
    """Bring Packer, Terraform and the guest's isolation; a second time takes under a second."""
    session.run("invoke", "setup")


@nox.session(allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Check style and structure: ruff's rules and layout, and which module may import which."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session(allow_parallel=True)
def typing(session: nox.Session) -> None:
    """Check types: mypy, strict."""
    install(session, "typing", "dev")
    session.run("mypy", *session.posargs)


@nox.session(python=PYTHONS, allow_parallel=True)
def tests(session: nox.Session) -> None:
    """Run the unit tests: all on the oldest and the newest Python; between them what could fail there alone."""
    install(session, "tests")
    if session.python in PYTHONS[1:-1] and not (EVERY_TEST or session.posargs):
        run_pytest(session, *UNIT_TESTS, "--briefly", workers=2, beside=1, measured=False)
        return
    # Measuring costs a third of the time, and one Python covers what the others do.
    run_pytest(session, *UNIT_TESTS, workers=3, beside=2, measured=session.python == PYTHONS[-1])


@nox.session(python=PYTHONS[0], default=False, reuse_venv=False)
def lowest(session: nox.Session) -> None:
    """Run the unit tests on the lowest versions that pyproject.toml allows, and the oldest Python."""
    lowest = ("--resolution=lowest-direct", f"--python={session.virtualenv.location}")
    session.run_install("uv", "pip", "install", "--quiet", *lowest, "--editable=.", "--group=tests", external=True)
    run_pytest(session, *UNIT_TESTS, workers=3, measured=False)


@nox.session(allow_parallel=True)
def slow(session: nox.Session) -> None:
    """Test the sandbox itself, and every way a run can be cut short; once, not per Python."""
    install(session, "tests")
    setup_tools(session)
    # A third of the time is waiting: for guests to start, and for Batch.
    elsewhere = ("--ignore=tests/infra", *(f"--ignore={path}" for path in UNMEASURED))
    run_pytest(session, "slow", *elsewhere, workers=3, beside=2)
    if not session.posargs:
        run_pytest(session, "slow", *UNMEASURED, workers=2, measured=False, dist="loadgroup")


@nox.session
def coverage(session: nox.Session) -> None:
    """Combine what the unit tests and the slow ones covered, and refuse less than the bound.

    It is not allowed beside others, and comes last: nox starts it when all of them have ended.
    """
    install(session, "tests")
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(allow_parallel=True)
def infra(session: nox.Session) -> None:
    """Check the template, the shell scripts and the Terraform folder with the real tools."""
    install(session, "tests", "infra")
    setup_tools(session)
    run_pytest(session, "infra", "tests/infra", workers=3, beside=2, measured=False)


@nox.session(allow_parallel=True)
def e2e(session: nox.Session) -> None:
    """Run the whole pipeline in the sandbox: real Packer, real Terraform, real scripts."""
    install(session, "tests")
    setup_tools(session)
    # They mostly wait: for Packer, Terraform, EC2 and each other. Measuring is a third of their Pythons' time, and what
    # these tests put together the other sessions cover.
    run_pytest(session, "e2e", "tests/e2e", workers=5, measured=False)


@nox.session(default=False)
def models(session: nox.Session) -> None:
    """Hold docs/references.md against the newest botocore; what is new is written to a file: `-- new-members.json`."""
    newest = ("--upgrade", "--exclude-newer=2999-12-31", f"--python={session.virtualenv.location}")
    session.run_install("uv", "pip", "install", "--quiet", *newest, "--editable=.", external=True)
    session.run("python", "-m", "tests.support.naming_members", *(session.posargs or ("new-members.json",)))


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of everything that is installed, development tools too; asks the internet."""
    install(session, "dev", "audit", "mutation")
    session.run("pip-audit", "--local", "--skip-editable", *session.posargs)


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Change the decisions of clean-up, guard and history bit by bit: does a test notice each? Many minutes."""
    install(session, "mutation")
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed as ratios, side by side in one run."""
    install(session, "tests")
    setup_tools(session)
    session.run("python", "-m", "tests.bench", *session.posargs)


@nox.session(default=False)
def compare(session: nox.Session) -> None:
    """Compare clean-up with Cloud Custodian and aws-amicleaner: what each deletes, calls and seconds."""
    install(session, "tests")
    programs = [
        other_tool(session, "c7n==0.9.53", "custodian"),
        other_tool(session, "aws-amicleaner==0.2.2", "amicleaner"),
    ]
    session.run("python", "-m", "tests.bench.cleanup", *programs)


def other_tool(session: nox.Session, requirement: str, program: str) -> str:
    """Return the path of *program*, installed from PyPI into a folder of its own: its dependencies are not ours."""
    folder = f"{session.create_tmp()}/{program}"
    session.run_install("uv", "venv", "--quiet", "--clear", folder, external=True)
    session.run_install("uv", "pip", "install", "--quiet", f"--python={folder}", requirement, external=True)
    return f"{folder}/bin/{program}"


if __name__ == "__main__":
    nox.main()
