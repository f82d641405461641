"""The evaluator of the workflows' tests agrees with GitHub's documentation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows.expressions import evaluate, resolve

CONTEXTS = {
    "inputs": {"region": "", "dry-run": False, "action": "Apply", "flag": True, "count": 2},
    "vars": {"REGION": "eu-west-1"},
    "github": {"event_name": "push", "event": {}},
    "steps": {"collect": {"outputs": {"changed": "true"}}},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("inputs.region || vars.REGION || 'ap-northeast-2'", "eu-west-1"),
        ("inputs.region || vars.NOTHING || 'ap-northeast-2'", "ap-northeast-2"),
        ("inputs.action == 'apply'", True),
        ("inputs.region == ''", True),
        ("inputs.nothing == ''", True),
        ("!inputs.dry-run", True),
        ("!inputs.action && github.event_name == 'push'", False),
        ("(inputs.flag || false) && github.event_name != 'pull_request'", True),
        ("steps.collect.outputs.changed == 'true'", True),
        ("steps.skipped.outputs.changed == 'true'", False),
        ("github.event.pull_request.head.repo.full_name == 'a/b'", False),
        ("'it''s'", "it's"),
        ("null", None),
        ("1", 1),
        ("fromJSON(inputs.most || '4')", 4),
        ("fromJSON(inputs.count)", 2),
        ("fromJSON('{\"include\": []}')", {"include": []}),
        ("always() && !cancelled()", True),
    ],
)
def test_an_expression_has_the_value_that_github_gives_it(expression: str, value: Any) -> None:
    """A test that resolves them differently proves something about another workflow."""
    assert evaluate(expression, CONTEXTS, {"always": lambda: True, "cancelled": lambda: False}) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${{ inputs.flag }}", True),
        ("a ${{ inputs.flag }} b", "a true b"),
        ("group-${{ inputs.region }}", "group-"),
        ("${{ vars.NOTHING }}x", "x"),
        ("plain", "plain"),
    ],
)
def test_a_text_is_filled_in(text: str, value: Any) -> None:
    """Booleans and nothing are written as GitHub writes them."""
    assert resolve(text, CONTEXTS) == value


@pytest.mark.parametrize(
    "expression", ["hashFiles('x')", "secrets.TOKEN", "inputs[0]", "1 < 2", "a b", "inputs.flag 2", ")"]
)
def test_what_is_not_known_is_an_error(expression: str) -> None:
    """A new kind of expression must be taught here first."""
    with pytest.raises((ValueError, IndexError)):
        evaluate(expression, CONTEXTS)
