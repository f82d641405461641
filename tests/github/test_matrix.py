"""The matrix of a workflow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.github import matrix
from tests.support.schemas import problems
from tests.test_families import TWO, invocation


def _include(root: Path, text: str, regions: str | None = None, *named: str) -> Any:
    run = invocation(root, text, *named)
    matrix.run(run, matrix.Request(regions=regions))
    assert isinstance(run.console.out, io.StringIO)
    document = json.loads(run.console.out.getvalue())
    assert problems("matrix", document) == []
    return [(entry["family"], entry["region"], entry["name"]) for entry in document["include"]]


def test_each_family_has_an_entry_in_each_region(tmp_path: Path) -> None:
    """`fromJSON` takes it as it is; of one family there is one entry."""
    home, far = "ap-northeast-2", "us-east-1"
    assert _include(tmp_path, TWO) == [("video", home, "video"), ("training", home, "training")]
    assert _include(tmp_path, TWO, f"{far},{home},{far}", "training") == [
        ("training", far, f"training.{far}"),
        ("training", home, f"training.{home}"),
    ]
    assert _include(tmp_path, f"region: {far}\n") == [("gpu-batch", far, "gpu-batch")]


@pytest.mark.parametrize(
    ("text", "regions", "named", "problem"),
    [
        (TWO, "Seoul", (), "--regions 'Seoul' is not an AWS region"),
        (TWO, None, ("film",), "'film' is no family"),
        (TWO, ",".join(f"us-east-{n}" for n in range(1, 99)) + "," + ",".join(f"eu-west-{n}" for n in range(1, 32)),
         (), "258 jobs are more than the 256"),
    ],
)  # fmt: skip
def test_a_matrix_that_github_would_refuse_is_refused(
    tmp_path: Path, text: str, regions: str | None, named: tuple[str, ...], problem: str
) -> None:
    """Here, with the reason: GitHub says it in a job that did not start."""
    with pytest.raises(UsageError, match=problem):
        _include(tmp_path, text, regions, *named)
