"""The README says what is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_cli import TASKS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_task_is_in_the_table_and_nothing_else() -> None:
    """The table is the map: step, command, code."""
    rows = [line for line in README.splitlines() if line.startswith("| ") and "`invoke " in line]
    named = {name for row in rows for name in re.findall(r"`invoke ([a-z-]+)`", row)}

    assert named == set(TASKS)


def test_every_path_of_the_tables_exists() -> None:
    """A map that names a path that is not there is worse than none."""
    rows = [line for line in README.splitlines() if line.startswith("| ")]
    paths = {path for row in rows for path in re.findall(r"`((?:scripts|packer|terraform|tests|docs)/[\w./-]*)`", row)}

    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_exit_code_is_explained() -> None:
    """Scripts are written from this table."""
    from gpu_ami import errors

    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}

    assert codes == {0, 1, *(kind.exit_code for kind in errors.PipelineError.__subclasses__())}
