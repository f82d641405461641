"""Lists that become the matrix of a workflow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_ami.github.__main__ import main
from tests.github.conftest import GitHub

OWNERS = [f"{number:012d}" for number in range(257)]
LIST: dict[str, Any] = {
    "format": "gpu-ami-fleet-1",
    "run": {"id": "7"},
    "as_of": "2026-11-30T12:00:00Z",
    "hub": {"account": "000000000000", "arn": "arn:aws:iam::000000000000:role/hub"},
    "members": [{"account": account, "on": ["eu-west-1"], "read": ["eu-west-1"]} for account in OWNERS[:3]],
    "shards": [OWNERS[:2], OWNERS[2:3]],
}


@pytest.mark.parametrize(
    ("what", "document", "expected"),
    [
        ("shards", LIST, ["1/2", "2/2"]),
        ("shards", {**LIST, "members": [], "shards": []}, []),
        ("owners", {"owners": OWNERS[:256]}, OWNERS[:256]),
        ("owners", {"owners": []}, []),
    ],
    ids=["shards", "no-shard", "owners", "no-owner"],
)
def test_a_list_becomes_a_matrix_and_its_count(
    github: GitHub, what: str, document: object, expected: list[str]
) -> None:
    """A matrix of nothing fails on GitHub: the job looks at the count before."""
    file = github.clone / "answer.json"
    file.write_text(json.dumps(document))

    assert main(["hand-on", what, str(file)], github.env, github.clone) == 0
    assert github.outputs == [f"{what}={json.dumps(expected)}", f"count={len(expected)}"]


def test_a_plan_of_thousands_of_amis_is_handed_on(github: GitHub) -> None:
    """It has a megabyte soon: a plan that no step of the workflow can read is one that nobody carries out."""
    state = {"name": "terraform-state", "status": "ok", "references": 1}
    rows = [{"image_id": f"ami-{number:017x}", "reasons": ["x" * 300]} for number in range(5_000)]
    file = github.clone / "plan.json"
    file.write_text(json.dumps({"owners": OWNERS[:1], "sources": [state], "verdicts": rows}, indent=1))

    assert main(["require", "terraform-state", str(file)], github.env, github.clone) == 0
    assert main(["hand-on", "owners", str(file)], github.env, github.clone) == 0
    assert github.outputs[-1] == "count=1"


@pytest.mark.parametrize(
    ("what", "document", "problem"),
    [
        ("owners", {}, "has no list of owners"),
        ("owners", {"owners": "123456789012"}, "has no list of owners"),
        ("owners", {"owners": ["123456789012", 5]}, "has '5' among its owners"),
        ("owners", {"owners": ["123456789012\n"]}, r"has '123456789012\n'"),
        ("owners", {"owners": ["123456789012", "123456789012"]}, "has 'one of them twice'"),
        ("owners", {"owners": [["123456789012"]]}, "among its owners"),
        ("owners", {"owners": OWNERS}, "257 accounts are more than the 256 jobs of one matrix"),
        ("shards", {}, "is no list of a fleet"),
        ("shards", {**LIST, "shards": [OWNERS[:2], OWNERS[1:3]]}, "stands twice among its shards"),
    ],
)
def test_what_is_no_such_list_starts_no_job(
    github: GitHub, what: str, document: object, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next job deletes; what GitHub would refuse it refuses in a job that did not start."""
    file = github.clone / "answer.json"
    file.write_text(json.dumps(document))

    assert main(["hand-on", what, str(file)], github.env, github.clone) == 2
    assert problem in capsys.readouterr().err
    assert github.outputs == []
