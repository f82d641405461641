"""Lists that become the matrix of a workflow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_ami.github.__main__ import main
from tests.github.conftest import GitHub

OWNERS = [f"{number:012d}" for number in range(257)]


@pytest.mark.parametrize(
    ("what", "found"), [("shards", ["1/2", "2/2"]), ("shards", []), ("owners", OWNERS[:256]), ("owners", [])]
)
def test_a_list_becomes_a_matrix_and_its_count(github: GitHub, what: str, found: list[str]) -> None:
    """A matrix of nothing fails on GitHub: the job looks at the count before."""
    file = github.clone / "answer.json"
    file.write_text(json.dumps({what: found}))

    assert main(["hand-on", what, str(file)], github.env, github.clone) == 0
    assert github.outputs == [f"{what}={json.dumps(found)}", f"count={len(found)}"]


@pytest.mark.parametrize(
    ("what", "found", "problem"),
    [
        ("owners", None, "has no list of owners"),
        ("owners", "123456789012", "has no list of owners"),
        ("owners", ["123456789012", 5], "has '5'"),
        ("owners", ["123456789012\n"], r"has '123456789012\n'"),
        ("owners", ["123456789012", "123456789012"], "has 'one of them twice'"),
        ("owners", [["123456789012"]], "has "),
        ("owners", OWNERS, "257 owners are more than the 256 of one matrix: apply the plan by hand"),
        ("shards", ["3"], "has '3'"),
        ("shards", [f"{number}/251" for number in range(1, 252)], "251 shards are more than the 250"),
    ],
)
def test_what_is_no_such_list_starts_no_job(
    github: GitHub, what: str, found: Any, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next job deletes; what GitHub would refuse it refuses in a job that did not start."""
    file = github.clone / "answer.json"
    file.write_text(json.dumps({} if found is None else {what: found}))

    assert main(["hand-on", what, str(file)], github.env, github.clone) == 2
    assert problem in capsys.readouterr().err
    assert github.outputs == []
