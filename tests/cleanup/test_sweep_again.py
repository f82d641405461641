"""The second query of `invoke sweep`: what changed since the plan stays, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.cleanup import sweep
from gpu_ami.cleanup.journal import new_path
from gpu_ami.cleanup.sweep import Request
from tests.cleanup.test_sweep import incomplete_build
from tests.support.account import World, task

TAGGED = ["instance", "volume", "security-group", "key-pair"]


@pytest.fixture
def results(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, dict[str, Any]]]:
    """Return what sweeps, lets something happen between plan and first act, and returns the results by id."""

    def swept(between: Callable[[], object]) -> dict[str, dict[str, Any]]:
        def meanwhile(*arguments: Any, **named: Any) -> Path:
            between()
            return new_path(*arguments, **named)

        monkeypatch.setattr("gpu_ami.cleanup.sweep_carry_out.new_path", meanwhile)
        done = task(here, tmp_path)
        sweep.run(done.run, Request(yes=True))
        return {result["image_id"]: result for result in done.document["results"]}

    return swept


def _resource(here: World, kind: str, left: dict[str, str]) -> str:
    pair = here.maker.ec2.key_pairs.get(left["key-pair"])
    return str(pair.id) if kind == "key-pair" else left[kind]


@pytest.mark.parametrize("kind", TAGGED)
def test_what_was_tagged_keep_since_the_plan_stays(here: World, results: Any, kind: str) -> None:
    """Somebody inspects an incomplete build and wants to keep its instance: that is what the tag is for."""
    here.in_use()
    left = incomplete_build(here)
    tags = [{"Key": "gpu-ami:keep", "Value": "mine"}]

    got = results(lambda: here.access.client("ec2").create_tags(Resources=[_resource(here, kind, left)], Tags=tags))

    assert {result["image_id"] for result in got.values() if result["status"] == "kept"} == {left[kind]}
    assert "gpu-ami:keep=mine" in got[left[kind]]["error"]


def test_what_is_no_leftover_any_more_stays(here: World, results: Any) -> None:
    """Whoever takes a volume into use or its tag away says that it is theirs."""
    here.in_use()
    left = incomplete_build(here)

    got = results(
        lambda: here.access.client("ec2").delete_tags(Resources=[left["volume"]], Tags=[{"Key": "gpu-ami:run"}])
    )

    assert got[left["volume"]]["status"] == "kept"
    assert left["volume"] in here.maker.ec2.volumes


def test_a_kind_that_cannot_be_listed_again_stays(here: World, results: Any) -> None:
    """A query that fails says nothing; the other kinds had theirs."""
    here.in_use()
    left = incomplete_build(here)

    got = results(lambda: here.aws.gate.deny("ec2:DescribeVolumes"))

    kept = {key: result for key, result in got.items() if result["status"] == "kept"}
    assert set(kept) == {left["volume"]}
    assert "the check right before failed" in kept[left["volume"]]["error"]


def test_no_instance_that_stays_is_waited_for(here: World, results: Any) -> None:
    """It would never end, and five minutes would pass."""
    here.in_use()
    left = incomplete_build(here)
    instance = here.maker.ec2.get_instance(left["instance"])
    here.aws.gate.calls.clear()

    results(lambda: instance.add_tags({"gpu-ami:keep": ""}))

    queried = [call.parameters for call in here.aws.gate.calls if call.action == "DescribeInstances"]
    assert not [parameters for parameters in queried if left["instance"] in parameters.values()]
    assert instance.state == "running"
