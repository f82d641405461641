"""`invoke coldstart`: the flags, the files, what is printed, and what is refused before anything is computed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.coldstart import coldstart
from gpu_ami.coldstart.points import COLUMNS
from gpu_ami.console import Console
from gpu_ami.errors import UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from tests.coldstart.builders import result_of_rated_hosts
from tests.support.schemas import problems

_AMI = "ami-0123456789abcdef0"


def _run(root: Path, *, dry_run: bool = False, output: Any = "json", **fields: Any) -> tuple[Any, str]:
    """Run the command in *root* and return what it printed, as data when it is JSON, and what it said."""
    out, err = io.StringIO(), io.StringIO()
    run = Invocation(root, Options(dry_run=dry_run), Console(output, out=out, err=err))
    coldstart.run(run, coldstart.Request(**fields))
    return json.loads(out.getvalue()) if output == "json" else out.getvalue(), err.getvalue()


def _points(root: Path, rows: int = 1) -> str:
    path = root / "p.csv"
    lines = [",".join((f"p{number}", "plain", *[""] * (len(COLUMNS) - 2))) for number in range(rows)]
    path.write_text("\n".join((",".join(COLUMNS), *lines)) + "\n")
    return str(path)


def test_without_settings_and_account_there_is_an_answer(tmp_path: Path) -> None:
    """It is the first question, asked before anything is set up."""
    document, _ = _run(tmp_path)

    assert problems("coldstart", document) == []
    assert document["instance_type"] == "g5.xlarge"
    assert {row["source"].split(":")[0] for row in document["inputs"]} == {"assumed", "computed"}


def test_flags_reach_the_model(tmp_path: Path) -> None:
    """Host and inputs."""
    plain, _ = _run(tmp_path)
    changed, _ = _run(tmp_path, instance_type="g5.12xlarge", values=["image_gib=9"])

    assert changed["instance_type"] == "g5.12xlarge"
    assert changed["inputs"][0]["source"] == "given: --set"
    assert changed["variants"][0]["total"]["likely_s"] < plain["variants"][0]["total"]["likely_s"]


def test_points_are_answered_in_their_order(tmp_path: Path) -> None:
    """As many answers as rows, with the inputs that --set gives for what the rows leave open."""
    document, _ = _run(tmp_path, points=_points(tmp_path, 3))
    slower, _ = _run(tmp_path, points=_points(tmp_path, 3), values=["reader_mb_s=1"])

    assert problems("coldstart", document) == []
    assert [row["id"] for row in document["points"]] == ["p0", "p1", "p2"]
    assert slower["points"][0]["likely_s"] > document["points"][0]["likely_s"]
    text, _ = _run(tmp_path, points=_points(tmp_path), output="table")
    assert text.splitlines()[1].split() == ["id", "low_s", "likely_s", "high_s"]


def test_many_points_take_no_time(tmp_path: Path) -> None:
    """Ten thousand are to take 2 s at most, which `nox -s bench -- points` measures; a fifth has room."""
    path = _points(tmp_path, 2_000)
    began = time.process_time()

    document, _ = _run(tmp_path, points=path)

    assert len(document["points"]) == 2_000
    assert time.process_time() - began < 2


def test_validation_shows_the_baseline_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How good it is cannot be told from its own score alone."""
    from gpu_ami.coldstart import calibration

    few = calibration.known()[:4]
    monkeypatch.setattr(calibration, "known", lambda: few)

    document, _ = _run(tmp_path, validate=True)
    text, _ = _run(tmp_path, validate=True, output="markdown")

    assert problems("coldstart", document) == []
    assert len(document["validation"]) == 4
    assert document["model"]["median_error"] < document["baseline"]["median_error"]
    assert "| the mean of the others |" in text


def test_a_bench_result_is_fitted(tmp_path: Path) -> None:
    """And the answer says so at each phase."""
    (tmp_path / "b.json").write_text(json.dumps(result_of_rated_hosts(_AMI)))

    document, _ = _run(tmp_path, fit=[str(tmp_path / "b.json")])

    rated = next(row for row in document["variants"] if row["variant"] == "rated")
    assert all(phase["source"].startswith("fitted: 3 hosts of ") for phase in rated["phases"])
    assert rated["total"]["likely_s"] == 201


def test_a_bench_result_of_another_ami_than_the_last_builds_is_refused(tmp_path: Path) -> None:
    """The manifest knows which AMI this checkout made last."""
    (tmp_path / "b.json").write_text(json.dumps(result_of_rated_hosts(_AMI)))
    (tmp_path / "packer").mkdir()
    build = {"builder_type": "amazon-ebs", "artifact_id": "ap-northeast-2:ami-0fedcba9876543210"}
    (tmp_path / "packer" / "manifest.json").write_text(json.dumps({"builds": [build], "last_run_uuid": ""}))

    with pytest.raises(UsageError, match=f"measured {_AMI}, and the last build made ami-0fed"):
        _run(tmp_path, fit=[str(tmp_path / "b.json")])


def test_the_answer_is_drawn(tmp_path: Path) -> None:
    """Beside the usual output; a dry run draws nothing."""
    _, said = _run(tmp_path, chart=str(tmp_path / "a.svg"))
    _run(tmp_path, chart=str(tmp_path / "b.svg"), dry_run=True)

    assert said == f"Drew {tmp_path / 'a.svg'}.\n"
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert not (tmp_path / "b.svg").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"values": ["queue_s=9..1"]}, "is upside down"),
        ({"values": ["x=1"], "points": "none.csv"}, "there is no input 'x'"),
        ({"points": "none.csv"}, "The file of points none.csv does not exist"),
        ({"fit": ["none.json"]}, "The bench result none.json does not exist"),
        ({"fit": ["x"] * 101}, "--fit is given more than 100 times"),
        ({"chart": "a.gif"}, "neither an .svg nor a .png"),
        ({"chart": "a.svg", "points": "p.csv"}, "--points and --chart do not go together"),
        ({"points": "p.csv", "validate": True}, "--points and --validate do not go together"),
        ({"points": "p.csv", "fit": ["b.json"]}, "--points and --fit do not go together"),
        ({"points": "p.csv", "instance_type": "g5.xlarge"}, "--points and --instance-type do not go together"),
        ({"points": "p.csv", "inputs": True}, "--points and --inputs do not go together"),
        ({"validate": True, "values": ["queue_s=1"]}, "--validate and --set do not go together"),
        ({"instance_type": "--help"}, "--instance-type '--help' is not an instance type"),
        ({"instance_type": ""}, "--instance-type '' is not an instance type"),
    ],
)
def test_bad_flags_are_refused_in_one_line(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    """Exit code 2, before anything is computed or written."""
    with pytest.raises(UsageError, match=problem) as caught:
        _run(tmp_path, **fields)

    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_no_heavy_library_is_loaded(tmp_path: Path) -> None:
    """`invoke coldstart` may take 1.3 times as long as `invoke --list`: settings alone would take longer than it."""
    script = f"""
import sys
from pathlib import Path
from gpu_ami.coldstart import coldstart
from gpu_ami.console import Console
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
run = Invocation(Path({str(tmp_path)!r}), Options(), Console())
coldstart.run(run, coldstart.Request())
heavy = {{"rich", "boto3", "botocore", "msgspec", "yaml", "csv", "statistics", "resvg_py", "hcl2", "moto", "difflib"}}
ours = {{"calibration", "points", "bench_result", "chart", "validation"}}
loaded = [name for name in ours if f"gpu_ami.coldstart.{{name}}" in sys.modules]
print(sorted(heavy & sys.modules.keys()), loaded, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[] []"
    assert "A cold start on g5.xlarge" in done.stdout
