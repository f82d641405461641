"""The tests' own engine does with matrices and artifacts what GitHub does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows.engine import Job, entries, together

SEEN: dict[str, Any] = {
    "needs": {"list": {"outputs": {"shards": '["1/2", "2/2"]', "none": "[]"}}},
    "inputs": {"most": "4"},
}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (None, [{}]),
        ({"matrix": {"shard": "${{ fromJSON(needs.list.outputs.shards) }}"}}, [{"shard": "1/2"}, {"shard": "2/2"}]),
        ({"matrix": {"a": [1, 2], "b": ["x"]}}, [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]),
        ({"matrix": '${{ fromJSON(\'{"include": [{"family": "video"}]}\') }}'}, [{"family": "video"}]),
        ({"matrix": {"shard": "${{ fromJSON(needs.list.outputs.none) }}"}}, []),
        ({"max-parallel": "${{ fromJSON(inputs.most || '2') }}", "matrix": {"a": [1]}}, [{"a": 1}]),
    ],
    ids=["none", "of-an-output", "product", "include", "empty", "max-parallel"],
)
def test_a_matrix_has_a_job_for_each_of_its_entries(strategy: Any, expected: list[object]) -> None:
    """One that the engine forgets is one that no test has run."""
    assert entries(strategy, SEEN) == expected


@pytest.mark.parametrize("most", [0, "${{ fromJSON('0') }}"])
def test_a_matrix_that_lets_nothing_run_is_refused(most: object) -> None:
    """GitHub would not start the run."""
    with pytest.raises(AssertionError):
        entries({"max-parallel": most, "matrix": {"a": [1]}}, SEEN)


def test_a_matrix_went_well_only_if_each_of_its_jobs_did() -> None:
    """One of nothing fails on GitHub; of outputs the last job's count."""
    fine, failed = Job("success", {"a": "1"}), Job("failure", {"a": "2"})

    assert together([]).result == "failure"
    assert together([fine, Job("skipped")]).result == "success"
    assert (together([fine, failed]).result, together([failed, fine]).outputs) == ("failure", {"a": "1"})
