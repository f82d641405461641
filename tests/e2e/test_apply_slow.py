"""The whole environment, job queue included, made and used in one command line with a sandbox of its own."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Checkout

pytestmark = pytest.mark.slow


def test_build_and_apply_without_a_running_sandbox(whole_checkout: Checkout) -> None:
    """A newcomer's first command: it starts the sandbox, bakes, applies and ends it; with the queue's 30 s wait."""
    done = whole_checkout.invoke("build", "apply", "status", "--sandbox", "--output", "json")

    assert done.returncode == 0, done.stderr
    built, applied, status = (json.loads(line) for line in done.stdout.splitlines())
    assert {environment["ami_id"] for environment in applied["live"]} == {built["ami_id"]}
    made = {resource["type"] for resource in applied["resources"] if resource["action"] == "create"}
    assert {"aws_batch_job_queue", "aws_batch_job_definition", "aws_launch_template"} <= made
    assert status["drift"] == []
    assert [definition["digest"] for definition in status["job_definitions"]] == [
        status["environments"][0]["image_digest"]
    ]
