"""`invoke validate`: what it checks besides the programs' own checks, and what it prints."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_ami.bake import validate
from gpu_ami.console import Console
from gpu_ami.errors import BuildError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.process import Command
from tests.support.schemas import problems

AMI = "ami-0123456789abcdef0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sandbox's Terraform folder in a checkout; the programs find nothing."""
    monkeypatch.setattr(validate, "validate", lambda _job: None)
    (tmp_path / "pipeline.yaml").write_text("region: ap-northeast-2\n")
    made = tmp_path / ".sandbox" / "terraform"
    made.mkdir(parents=True)
    return made


def report(folder: Path, output: str = "json") -> str:
    """Return what the job prints."""
    out = io.StringIO()
    options = Options(sandbox=True)
    run = Invocation(folder.parents[1], options, Console(output, out=out, err=io.StringIO()))  # type: ignore[arg-type]
    job: Any = SimpleNamespace(
        packer=SimpleNamespace(folder=run.workspace.packer), terraform=SimpleNamespace(folder=folder)
    )
    validate.report(run, job)
    return out.getvalue()


def test_what_was_found_valid_is_printed(folder: Path) -> None:
    """No output reads like nothing done."""
    (folder / "gpu-ami.auto.tfvars.json").write_text(json.dumps({"gpu_ami_id": AMI}))

    assert json.loads(report(folder)) == {
        "valid": {
            "settings": "pipeline.yaml",
            "template": ".sandbox/packer",
            "terraform": ".sandbox/terraform",
            "hand-over": ".sandbox/terraform/gpu-ami.auto.tfvars.json",
        },
        "ami_id": AMI,
    }


def test_a_dry_run_is_json_where_that_is_requested(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that asks for JSON got nothing to read; what is secret is named and not shown."""
    chain = [Command(("packer", "validate", "."), cwd=folder), Command(("packer", "fmt", "."), cwd=folder)]
    job = SimpleNamespace(
        private=("ami_name",),
        inputs=SimpleNamespace(files=("private.json",)),
        plugin_path="a folder",
        validation=lambda *, tests: [(BuildError, chain if tests else [])],
    )
    monkeypatch.setattr(validate, "prepare", lambda *_: job)
    out, err = io.StringIO(), io.StringIO()
    console = Console("json", out=out, err=err)
    run = Invocation(folder.parents[1], Options(sandbox=True, dry_run=True), console)

    validate.run(run, validate.Request())

    document = json.loads(out.getvalue())
    assert problems("validate", document) == []
    assert document["commands"] == ["export PACKER_PLUGIN_PATH='a folder'", *map(str, chain)]
    assert document["notes"] == ["ami_name: in private.json, which only you may read and which is gone afterwards"]
    assert all(line in err.getvalue() for line in [*document["commands"], *document["notes"]])


def test_a_first_validation_has_neither_file(folder: Path) -> None:
    """A newcomer's: no settings written, nothing built."""
    (folder.parents[1] / "pipeline.yaml").unlink()

    lines = [" ".join(line.split()) for line in report(folder, "table").splitlines()]

    assert "settings pipeline.yaml not there: the sandbox's own" in lines
    assert "hand-over .sandbox/terraform/gpu-ami.auto.tfvars.json no AMI yet" in lines


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"gpu_ami_id": "ami-', r"tfvars\.json is not JSON at line 1"),
        ("\ufeff{}", r"begins with a byte-order mark.*run `invoke update-tfvars`"),
        ('{"a": 1, "a": 2}', r"a occurs twice in .*gpu-ami\.auto\.tfvars\.json"),
        ('{"gpu_ami_id": "TODO"}', "no AMI id: if it is to hold the id, write null"),
    ],
)
def test_a_hand_over_that_plan_would_refuse_is_refused(folder: Path, text: str, problem: str) -> None:
    """`terraform validate` does not read variables files."""
    (folder / "gpu-ami.auto.tfvars.json").write_text(text)

    with pytest.raises(UsageError, match=problem):
        report(folder)


def test_a_file_beside_it_that_plan_would_refuse_is_refused(folder: Path) -> None:
    """Terraform reads it by itself, so no plan would get further."""
    (folder / "terraform.tfvars.json").write_text("\ufeff{}")

    with pytest.raises(UsageError, match=r"terraform\.tfvars\.json begins with a byte-order mark.*save it without"):
        report(folder)
