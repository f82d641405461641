"""Packer itself says which value each variable has in effect: of the environment, several files and a command line."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import doctor, prepare, template
from gpu_ami.bake.fingerprint import of_settings
from gpu_ami.bake.variables import typed
from gpu_ami.cleanup.sweep_scope import longest_build
from gpu_ami.console import Console
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.tools import packer_tools
from gpu_ami.workspace import auto_variables

ROOT = Path(__file__).parents[2]
# Type of the variable, and values of it as they may be written in a variables file.
WRITTEN = {
    "number": [
        "80",
        "1e2",
        "1.5E+1",
        "(80)",
        "40 * 2",
        "30 + 100 / 2",
        "-(-80)",
        "203 % 123",
        '"80"',
        '"8e1"',
        "0.1 + 0.2",
    ],
    "string": [
        "20260901",
        "1.10",
        "1e3",
        "0.1",
        "true",
        '"v1"',
        r'"a\"b\\c\u00e9$${x}%%{y}"',
        "<<-EOT\n  a\n   b\n  EOT",
    ],
    "bool": ["true", '"true"', '"1"', '"0"'],
    "list(string)": ['[1, "a", 1e1, true]', "[]"],
    "map(string)": ['{ A = 1, "B-c" : true, D = "x" }', "{}"],
    "list(object({ url = string, path = string }))": ['[{ url = "u", path = "p" }]'],
}
# The same as texts, as `-var` and PKR_VAR_ give them.
TEXTS = {
    "number": ["80", "1e2", "+80", "5."],
    "string": ["20260901", "1.10", "v${1}", '"quoted"', "[1]"],
    "bool": ["true", '"1"'],
    "list(string)": ['["a", 2]', '["a",]'],
    "map(string)": ['{"A": 1}', "{ A = true }"],
}


def declared(cases: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, str]]:
    """Return a variable per case: name to type and what is written."""
    rows = [(kind, text) for kind, texts in cases.items() for text in texts]
    return {f"v{number}": row for number, row in enumerate(rows)}


def says(folder: Path, *flags: str, **env: str) -> Any:
    """Return the values that Packer gives the variables of the template in *folder*."""
    command = [str(packer_tools().packer.path), "console", *flags, "."]
    environment = {**os.environ, **env, "CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, input="jsonencode(var)", capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_values_are_packers_in_whatever_form_they_are_written(tmp_path: Path) -> None:
    """Another reading than Packer's checks, compares and tags another image than the one that is made."""
    files, texts = declared(WRITTEN), declared(TEXTS)
    blocks = [f'variable "{name}" {{\n  type = {kind}\n}}' for name, (kind, _) in files.items()]
    for way in ("env", "arg"):
        blocks += [f'variable "{way}_{name}" {{\n  type = {kind}\n}}' for name, (kind, _) in texts.items()]
    (tmp_path / "a.pkr.hcl").write_text("\n".join(blocks) + "\n")
    (tmp_path / "a.auto.pkrvars.hcl").write_text(
        "\n".join(f"{name} = {text}" for name, (_, text) in files.items()) + "\n"
    )
    environment = {f"PKR_VAR_env_{name}": text for name, (_, text) in texts.items()}
    given = {f"arg_{name}": text for name, (_, text) in texts.items()}

    found = template.effective(tmp_path, auto_variables(tmp_path), given, environment=environment)

    expected = says(tmp_path, *(f"-var={name}={text}" for name, text in given.items()), **environment)
    assert found == expected


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The repository's template and settings, with a variable given in every place that Packer knows."""
    shutil.copytree(ROOT / "packer", tmp_path / "packer", ignore=shutil.ignore_patterns("*.pkrvars.*"))
    (tmp_path / "terraform").mkdir()
    (tmp_path / "pipeline.yaml").write_text("region: ap-northeast-2\nfamily: gpu-batch\n")
    example = (ROOT / "packer" / "variables.auto.pkrvars.hcl.example").read_text()
    texts = {
        "variables.auto.pkrvars.hcl": f"{example}\nprewarm_seconds = 11\n",
        "z.auto.pkrvars.hcl": 'instance_type = "z.large"\nvolume_iops = 7000\nmin_free_gib = 6\nprewarm_seconds = 12\n',
        "B.auto.pkrvars.hcl": "volume_iops = 8000\nprewarm_readers = 9\n",
        "a.auto.pkrvars.json": json.dumps({"min_free_gib": 7, "max_build_minutes": 300, "image_digest": ""}),
    }
    for name, text in texts.items():
        (tmp_path / "packer" / name).write_text(text)
    return tmp_path


ENVIRONMENT = {
    "PKR_VAR_max_build_minutes": "400",
    "PKR_VAR_poll_max_attempts": "960",
    "PKR_VAR_fallback_subnet_ids": '["subnet-0def456789abc123b"]',
    "PKR_VAR_prewarm_readers": "10",
    "PKR_VAR_volume_throughput_mib_s": "5e2",
}


def test_every_command_sees_what_packer_will_make(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor, placement, fingerprint and sweep have one view: the one that the bake has, of the same command line."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    run = Invocation(checkout, Options(), Console(err=io.StringIO()))
    job = prepare.prepare(run, ["image_tag=20260901"])

    expected = says(checkout / "packer", *job.inputs.flags)

    assert job.values() == expected
    assert (expected["min_free_gib"], expected["volume_iops"], expected["prewarm_readers"]) == (7, 7000, 9)
    assert (expected["max_build_minutes"], expected["poll_max_attempts"]) == (300, 960)
    assert expected["volume_throughput_mib_s"] == 500
    # Given by name, a build's own file comes last.
    assert (expected["instance_type"], expected["prewarm_seconds"]) == ("c7i.4xlarge", 11)
    own = {"run_id", "git_commit", "pipeline_version", "provenance_folder"}
    seen = doctor._values(run, ["image_tag=20260901"])
    assert {name: value for name, value in seen.items() if name not in own} == {
        name: value for name, value in expected.items() if name not in own
    }
    assert typed(seen).subnet_ids == ("subnet-0abc123def456789a", "subnet-0def456789abc123b")
    assert longest_build(run).total_seconds() == 300 * 60 + 15 * 960
    assert of_settings(job.values()) == of_settings(expected)


def test_the_callers_variables_stay_out_of_the_sandbox(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is an allow-list and its template a copy without variables: what Packer has not, nobody sees."""
    monkeypatch.setenv("PKR_VAR_volume_size_gib", "999")
    run = Invocation(checkout, Options(sandbox=True), Console(err=io.StringIO()))
    try:
        seen = doctor._values(run, [])
    finally:
        run.close()

    assert (seen["volume_size_gib"], seen["min_free_gib"]) == (80, 5)
    assert longest_build(run).total_seconds() == 180 * 60 + 15 * 480
