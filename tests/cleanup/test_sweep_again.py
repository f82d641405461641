"""The second look of `invoke sweep`: what changed since the plan stays, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.cleanup import sweep
from gpu_ami.cleanup.journal import new_path
from gpu_ami.cleanup.sweep import Request
from tests.cleanup.test_sweep import dead_build
from tests.support.account import World, task

TAGGED = ["instance", "volume", "security-group", "key-pair"]


@pytest.fixture
def results(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, dict[str, Any]]]:
    """Return what sweeps, lets something happen between plan and first act, and returns the results by id."""

    def swept(between: Callable[[], object]) -> dict[str, dict[str, Any]]:
        def meanwhile(*arguments: Any, **named: Any) -> Path:
            between()
            return new_path(*arguments, **named)

        monkeypatch.setattr("gpu_ami.cleanup.sweep.new_path", meanwhile)
        done = task(here, tmp_path)
        sweep.run(done.run, Request(yes=True))
        return {each["image_id"]: each for each in done.document["results"]}

    return swept


def _resource(here: World, kind: str, left: dict[str, str]) -> str:
    pair = here.maker.ec2.key_pairs.get(left["key-pair"])
    return str(pair.id) if kind == "key-pair" else left[kind]


@pytest.mark.parametrize("kind", TAGGED)
def test_what_was_tagged_keep_since_the_plan_stays(here: World, results: Any, kind: str) -> None:
    """Somebody looks into a dead build and wants to keep its instance: that is what the tag is for."""
    here.in_use()
    left = dead_build(here)
    tags = [{"Key": "gpu-ami:keep", "Value": "mine"}]

    got = results(lambda: here.access.client("ec2").create_tags(Resources=[_resource(here, kind, left)], Tags=tags))

    assert {each["image_id"] for each in got.values() if each["status"] == "kept"} == {left[kind]}
    assert "gpu-ami:keep=mine" in got[left[kind]]["error"]


def test_what_is_no_leftover_any_more_stays(here: World, results: Any) -> None:
    """Whoever takes a volume into use or its tag away says that it is theirs."""
    here.in_use()
    left = dead_build(here)

    got = results(
        lambda: here.access.client("ec2").delete_tags(Resources=[left["volume"]], Tags=[{"Key": "gpu-ami:run"}])
    )

    assert got[left["volume"]]["status"] == "kept"
    assert left["volume"] in here.maker.ec2.volumes


def test_a_kind_that_cannot_be_listed_again_stays(here: World, results: Any) -> None:
    """A look that fails says nothing; the other kinds had theirs."""
    here.in_use()
    left = dead_build(here)

    got = results(lambda: here.aws.gate.deny("ec2:DescribeVolumes"))

    kept = {key: each for key, each in got.items() if each["status"] == "kept"}
    assert set(kept) == {left["volume"]}
    assert "the check right before failed" in kept[left["volume"]]["error"]


def test_no_instance_that_stays_is_waited_for(here: World, results: Any) -> None:
    """It would never end, and five minutes would pass."""
    here.in_use()
    left = dead_build(here)
    instance = here.maker.ec2.get_instance(left["instance"])
    here.aws.gate.calls.clear()

    results(lambda: instance.add_tags({"gpu-ami:keep": ""}))

    asked = [call.parameters for call in here.aws.gate.calls if call.action == "DescribeInstances"]
    assert not [each for each in asked if left["instance"] in each.values()]
    assert instance.state == "running"
