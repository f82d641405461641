"""Terraform's state is shared, or nothing is applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.github.state_backend import configure


def test_the_bucket_becomes_a_backend_with_a_lock(tmp_path: Path) -> None:
    """Two runs at once must not write one state."""
    path = configure(tmp_path, {"STATE_BUCKET": "team-state", "STATE_KEY": "", "STATE_REGION": ""}, region="eu-west-1")

    assert path.read_text().splitlines() == [
        "terraform {",
        '  backend "s3" {',
        '    bucket       = "team-state"',
        '    key          = "gpu-ami/terraform.tfstate"',
        '    region       = "eu-west-1"',
        "    use_lockfile = true",
        "  }",
        "}",
    ]


def test_a_committed_backend_is_left_alone(tmp_path: Path) -> None:
    """The team knows better."""
    (tmp_path / "backend.tf").write_text("theirs")

    assert configure(tmp_path, {"STATE_BUCKET": "other"}, region="eu-west-1").read_text() == "theirs"


def test_without_a_bucket_it_refuses_and_says_what_to_set(tmp_path: Path) -> None:
    """State on a runner's disk is lost with the job, and the next apply would make everything again."""
    with pytest.raises(SafetyError, match="GPU_AMI_STATE_BUCKET"):
        configure(tmp_path, {"STATE_BUCKET": ""}, region="eu-west-1")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "env",
    [
        {"STATE_BUCKET": 'x"\n} resource'},
        {"STATE_BUCKET": "team-state", "STATE_KEY": "a${b}"},
        {"STATE_BUCKET": "team-state", "STATE_REGION": "Seoul"},
    ],
    ids=lambda env: list(env)[-1],
)
def test_a_value_that_could_be_code_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    """The values are written into a Terraform file."""
    with pytest.raises(UsageError, match="check the repository's variables"):
        configure(tmp_path, env, region="eu-west-1")
