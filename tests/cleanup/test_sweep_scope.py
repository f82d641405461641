"""From which age on a build is over."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gpu_ami.cleanup.sweep_scope import longest_build
from gpu_ami.errors import UsageError
from tests.support.account import World, task


def test_a_builds_longest_time_comes_from_its_variables(here: World, tmp_path: Path) -> None:
    """Whoever lets builds run longer must not have them swept."""
    run = task(here, tmp_path).run
    assert longest_build(run) == timedelta(hours=5)
    (tmp_path / "packer").mkdir()
    variables = tmp_path / "packer" / "variables.auto.pkrvars.hcl"
    variables.write_text("max_build_minutes = 600\n")
    assert longest_build(run) == timedelta(hours=12)

    (tmp_path / "packer" / "more.auto.pkrvars.json").write_text('{"max_build_minutes": 700}')
    variables.write_text("poll_max_attempts = 1e3\n")
    assert longest_build(run) == timedelta(minutes=700, seconds=15000)

    (tmp_path / "packer" / "variables.pkr.hcl").write_text(
        'variable "family" {\n  type = string\n}\nvariable "max_build_minutes" {\n  type = number\n}\n'
    )
    variables.write_text('poll_max_attempts = 1e3\nfamily = "${1}"\n')
    assert longest_build(run) == timedelta(minutes=700, seconds=15000), "what a sweep does not need may be anything"
    (tmp_path / "packer" / "more.auto.pkrvars.json").unlink()
    variables.write_text('max_build_minutes = length("x")\n')
    with pytest.raises(UsageError, match="max_build_minutes is the expression"):
        longest_build(run)

    variables.write_text('max_build_minutes = "long"\n')
    with pytest.raises(UsageError, match="whole numbers"):
        longest_build(run)
