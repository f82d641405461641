"""Names and answers that somebody made on purpose, through the local AWS: shown, and never obeyed or repeated whole."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from gpu_ami.cleanup import cleanup, sweep
from gpu_ami.cleanup.cleanup import Request
from gpu_ami.cleanup.journal import read
from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import SafetyError
from gpu_ami.options import OUTPUTS, Output
from gpu_ami_sandbox.demo.factory import FAMILY
from tests.support.account import Task, World, task

# XML cannot hold C0 but tab and line breaks; the answers of Batch are JSON, which can.
HOSTILE = "x\n::error ::forged\n| ami-1 | delete |\x9b2J\u202eevil`<b>[red](y)##[error]z"
HOSTILE_JSON = f"{HOSTILE}\x1b]0;title\x07\x1b[8m"
SECRET = "cGFzc3dvcmQ9aHVudGVyMg"
ALL = Flags(older_than="30d", keep="1", all_owned=True)


def _obeyed(text: str) -> list[str]:
    """Return the lines of *text* that a terminal or GitHub's runner would obey."""
    return [
        line for line in text.split("\n") if line.lstrip().startswith("::") or "##[" in line or not line.isprintable()
    ]


@pytest.fixture
def hostile(here: World) -> World:
    """An account in which somebody has chosen every name that they may choose."""
    here.newest()
    for age_days in (100, 105):
        here.maker.ec2.tags[here.image(age_days).id] |= {"gpu-ami:family": HOSTILE, "Name": HOSTILE}
    here.maker.template(HOSTILE, here.image(110).id)
    here.maker.environment("batch", imageId=here.image(120).id)
    (environment,) = here.maker.batch._compute_environments.values()
    environment.name = HOSTILE_JSON
    tags = {"gpu-ami:run": HOSTILE, "gpu-ami:family": FAMILY, "gpu-ami:pipeline": "gpu-ami-pipeline"}
    pair = here.maker.ec2.create_key_pair(f"packer_{HOSTILE}", "ed25519", tags)
    pair.create_time = datetime(2025, 1, 15, 12)  # noqa: DTZ001 - moto's time has no zone
    return here


def _printed(done: Task, what: str) -> str:
    """Return all that a task has printed, which must have shown *what* the account has."""
    printed = done.out.getvalue() + done.err.getvalue()
    assert what in printed.replace("\\\\", "\\"), printed
    return printed


@pytest.mark.parametrize("output", OUTPUTS)
def test_names_are_shown_and_never_obeyed(hostile: World, tmp_path: Path, output: Output) -> None:
    """Whoever may tag an AMI must not write errors into a log, rows into a plan or links into a job summary."""
    done = task(hostile, tmp_path, output=output)
    cleanup.run(done.run, Request(flags=ALL))
    swept = task(hostile, tmp_path, output=output)
    sweep.run(swept.run, sweep.Request(allow_no_references=True))

    shown = "x\\n" if output == "json" else "x\\x0a"
    for printed in (_printed(done, f"launch template {shown}"), _printed(swept, f"packer_{shown}")):
        assert _obeyed(printed) == []
    title = "\\u001b]0;title\\u0007" if output == "json" else "\\x1b]0;title\\x07"
    assert title in _printed(done, f"compute environment {shown}").replace("\\\\", "\\")
    if output == "markdown":
        cells = re.sub(r"\\.", "", done.out.getvalue())
        assert not set("`<[") & set(re.sub(r"`invoke [^`]*`", "", cells))
        # A table has as many bars in each of its lines.
        for table in re.findall(r"(?:^\|.*\n)+", cells, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1
    if output == "json":
        assert HOSTILE in {verdict["family"] for verdict in done.document["verdicts"]}
        assert f"packer_{HOSTILE}" in {verdict["id"] for verdict in swept.document["verdicts"]}


@pytest.mark.parametrize("output", OUTPUTS)
def test_user_data_in_a_malformed_answer_is_shown_nowhere(here: World, tmp_path: Path, output: Output) -> None:
    """An answer that is cut off was printed whole, three times, 98 kB of it, into the summary of a public job."""
    here.newest()
    here.image()
    here.maker.template("workers", here.maker.filler())
    version = f"<item><launchTemplateData><userData>{SECRET}</userData></launchTemplateData></item>"
    cut = f"<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet>{version * 900}<item>"
    here.aws.gate.reply(cut.encode(), action="DescribeLaunchTemplateVersions")
    done = task(here, tmp_path, output=output)

    with pytest.raises(SafetyError, match="cut off or malformed: no element found") as caught:
        cleanup.run(done.run, Request(flags=ALL, yes=True, permanent=True))

    everything = done.out.getvalue() + done.err.getvalue() + str(caught.value)
    everything += "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET not in everything
    assert "launch-templates" in everything
    assert len(str(caught.value)) < 500
    if output == "json":
        (error,) = {source["error"] for source in done.document["sources"] if source["status"] == "failed"}
        assert len(error) < 300


def test_a_plan_that_names_such_things_can_be_carried_out(hostile: World, tmp_path: Path) -> None:
    """What is shown differs from the names; what is written to files and compared with AWS must not."""
    file = tmp_path / "plan.json"
    done = task(hostile, tmp_path)
    cleanup.run(done.run, Request(flags=ALL, plan=str(file)))
    verdicts = json.loads(file.read_text())["verdicts"]
    (goes,) = (found["image_id"] for found in verdicts if found["family"] == HOSTILE and found["action"] == "delete")

    applied = task(hostile, tmp_path)
    cleanup.run(applied.run, Request(apply=str(file), permanent=True))

    assert goes not in hostile.there()
    assert read(applied.journals[0]).entries[goes].image.tags["Name"] == HOSTILE
    assert _obeyed(applied.err.getvalue()) == []
