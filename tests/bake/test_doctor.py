"""The doctor as a task: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_ami.bake import build, doctor, prepare
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables, typed
from gpu_ami.console import Console
from gpu_ami.errors import DifferenceError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options, options_from

ROOT = Path(__file__).parents[2]
CHECKS = [
    Check("credentials", "ok", "me"),
    Check("clock", "warn", "61 s ahead of AWS's", "Set the clock."),
    Check("network", "fail", "no route", "Add one."),
    Check("models", "skip", "not set"),
]


def printed(output: str) -> str:
    """Return the table as a person without a terminal sees it."""
    out = io.StringIO()
    table = doctor.checks_table(CHECKS, markdown=output == "markdown")
    Console(output, out=out).result([check.document() for check in CHECKS], table)  # type: ignore[arg-type]
    return out.getvalue()


def test_a_failing_line_stands_out_and_its_fix_is_below_it() -> None:
    """Twenty rows are read by their marks."""
    lines = [" ".join(line.split()) for line in printed("table").splitlines()]

    at = lines.index("FAIL network no route")
    assert lines[at + 1] == "-> Add one."
    assert "WARN clock 61 s ahead of AWS's" in lines
    assert lines[-1] == "1 ok, 1 WARN, 1 FAIL, 1 skip." or lines[-1] == "1 ok, 1 warn, 1 fail, 1 skip."


def test_markdown_has_the_fix_in_a_column() -> None:
    """For an issue or a job summary."""
    assert "| FAIL | network | no route | Add one. |" in printed("markdown")


def test_json_is_the_contract() -> None:
    """Scripts read exactly these keys."""
    (document, *_) = json.loads(printed("json"))

    assert document == {"check": "credentials", "status": "ok", "detail": "me", "fix": ""}


def test_a_failed_check_ends_with_9_and_a_warning_does_not() -> None:
    """CI decides by this."""
    doctor.raise_failed([check for check in CHECKS if check.status != "fail"])

    with pytest.raises(DifferenceError, match=r"1 of 4 checks failed: network\. It says above what to do\.") as caught:
        doctor.raise_failed(CHECKS)
    assert caught.value.exit_code == 9


@pytest.fixture
def run(tmp_path: Path) -> Invocation:
    """An invocation in the sandbox, over the real template and settings."""
    for name in ("packer", "terraform", "pipeline.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    options = options_from(["doctor", "--sandbox"], {})
    return Invocation(tmp_path, options, Console(err=io.StringIO(), out=io.StringIO()))


def test_the_demo_account_is_all_green(run: Invocation) -> None:
    """What a newcomer sees first; programs that a machine may lack aside."""
    try:
        checks = doctor.doctor(run, [])
        spoilt = doctor.doctor(run, ["volume_size_gib=16", "image_tag=nope"])
    finally:
        run.close()

    programs = {"Packer", "Terraform", "guest"}
    assert {check.check: check.status for check in checks if check.check not in programs and check.status != "ok"} == {}
    assert programs <= {check.check for check in checks}
    assert [check.check for check in spoilt if check.status == "fail" and check.check not in programs] == [
        "container image"
    ]
    assert next(check for check in spoilt if check.check == "disk space").status == "skip"


def test_every_file_that_packer_reads_is_held_to_the_settings(tmp_path: Path) -> None:
    """A region given twice bakes in one and hands over to the other, whichever of the files it is in."""
    (tmp_path / "pipeline.yaml").write_text("region: ap-northeast-2\n")
    (tmp_path / "packer").mkdir()
    (tmp_path / "packer" / "variables.auto.pkrvars.hcl").write_text('region = "ap-northeast-2"\n')
    other = tmp_path / "packer" / "a.auto.pkrvars.json"
    run, owned = Invocation(tmp_path, Options(), Console(err=io.StringIO())), {"region": "ap-northeast-2"}

    other.write_text('{"region": "ap-northeast-2"}')
    assert prepare.variables_file(run, owned) == tmp_path / "packer" / "variables.auto.pkrvars.hcl"
    other.write_text('{"region": "us-east-1"}')
    with pytest.raises(UsageError, match=r"region is 'us-east-1' in .*a\.auto\.pkrvars\.json but 'ap-northeast-2' in"):
        prepare.variables_file(run, owned)


def test_models_that_the_folder_lists_count(run: Invocation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packer downloads those of models.yaml as it does those of the variable: doctor and build must both see them."""
    folder = run.workspace.packer
    folder.mkdir(parents=True)
    (folder / "models.yaml").write_text("- {url: https://example.com/m.pt, path: m.pt}\n")
    counts: list[int] = []

    def checked(_access: object, variables: BuildVariables, **_how: object) -> list[Check]:
        counts.append(variables.model_downloads)
        return []

    monkeypatch.setattr("gpu_ami.bake.preflight.run_checks", checked)
    monkeypatch.setattr(doctor, "_values", lambda *_given: {})
    try:
        doctor.doctor(run, [])
        job: Any = SimpleNamespace(packer=SimpleNamespace(folder=folder), variables=typed({}))
        build.check(run, job)
    finally:
        run.close()

    assert counts == [1, 1]
