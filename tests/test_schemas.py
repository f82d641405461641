"""What the tasks print as JSON is what docs/schemas/ promises: scripts are written against it."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from invoke.collection import Collection
from invoke.main import program

from gpu_ami.aws.build_resources import KINDS
from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.bake.checks.check import Status as CheckStatus
from gpu_ami.cleanup import decide
from gpu_ami.cleanup.plan_document import FLEET_FORMAT, FORMAT
from gpu_ami.cleanup.policy import LOCAL_SOURCES, MODES
from gpu_ami.coldstart.model import PHASES, VARIANTS
from gpu_ami.deploy import guard
from gpu_ami.invocation import current
from gpu_ami.status import drift, fleet_status
from gpu_ami.status.status import QUERIES
from gpu_ami.terraform import plan_changes
from gpu_ami.tools.tool import Source
from tests.support.schemas import objects, problems, problems_of_output, schemas

ROOT = Path(__file__).parents[1]
# A helper, which has no result.
WITHOUT_RESULT = {"sandbox"}
AMI = "ami-0123456789abcdef0"
MANIFEST = {
    "builds": [
        {
            "name": "aws-gpu-ami",
            "builder_type": "amazon-ebs",
            "build_time": 1764000000,
            "artifact_id": f"ap-northeast-2:{AMI}",
            "packer_run_uuid": "u",
            "custom_data": {"run_id": "r"},
        }
    ],
    "last_run_uuid": "u",
}


def _task_names() -> set[str]:
    spec = importlib.util.spec_from_file_location("tasks_with_schemas", ROOT / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return set(Collection.from_module(module).task_names)


def test_every_task_with_a_result_has_a_schema() -> None:
    """And no schema is of a task that is gone."""
    assert set(schemas()) == _task_names() - WITHOUT_RESULT


@pytest.mark.parametrize("task", sorted(schemas()))
def test_a_schema_is_one_and_says_what_it_is_about(task: str) -> None:
    """It is documentation: draft 2020-12, named as its file, with a title and a sentence."""
    from jsonschema import Draft202012Validator

    schema = schemas()[task]
    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["$id"], schema["title"]) == (f"{task}.schema.json", f"invoke {task} --output json")
    assert schema["description"].endswith((".", ")"))


@pytest.mark.parametrize("task", sorted(schemas()))
def test_every_key_that_a_schema_names_stays(task: str) -> None:
    """Keys are only ever added: what is named is promised, and more may be there."""
    for part in objects(schemas()[task]):
        assert set(part["properties"]) <= set(part["required"]), part["properties"].keys()
        assert "additionalProperties" not in part


def _enum(task: str, *path: str | int) -> set[str]:
    part: Any = schemas()[task]
    for step in path:
        part = part[step]
    return set(part["enum"])


def _of(items: str, key: str) -> tuple[str, ...]:
    return ("properties", items, "items", "properties", key)


@pytest.mark.parametrize(
    ("found", "known"),
    [
        (_enum("plan", "else", *_of("findings", "code")), get_args(guard.Code)),
        (_enum("plan", "else", *_of("environments", "action")), get_args(plan_changes.Action)),
        (_enum("plan", "else", *_of("resources", "action")), get_args(plan_changes.Word)),
        (set(schemas()["plan"]["else"]["properties"]["count"]["required"]), get_args(plan_changes.Word)),
        (_enum("status", "else", *_of("drift", "code")), get_args(drift.Code)),
        (_enum("status", "else", "properties", "skipped", "items"), QUERIES),
        (_enum("status", "$defs", "fleet_code"), get_args(fleet_status.Code)),
        (_enum("doctor", "items", "properties", "status"), get_args(CheckStatus)),
        (_enum("cleanup", "$defs", "source"), [*(source.name for source in SOURCES), *LOCAL_SOURCES]),
        (_enum("cleanup", "then", *_of("verdicts", "action")), get_args(decide.Action)),
        (_enum("cleanup", "then", *_of("sources", "status")), get_args(decide.Status)),
        (_enum("cleanup", "then", "properties", "policy", "properties", "mode"), MODES),
        (set(schemas()["coldstart"]["$defs"]["variant"]["enum"]), VARIANTS),
        (_enum("coldstart", "oneOf", 0, *_of("variants", "phases"), "items", "properties", "name"), PHASES),
        (_enum("cleanup", "then", "properties", "format"), [FORMAT, FLEET_FORMAT]),
        (_enum("sweep", *_of("verdicts", "kind")), KINDS),
        (_enum("setup", "else", *_of("tools", "source")), get_args(Source)),
    ],
    # Of sets no text is the same in two processes, and the workers must collect the same tests.
    ids=[
        "guard codes",
        "plan actions",
        "plan words",
        "plan counts",
        "drift codes",
        "skipped queries",
        "drift codes of a fleet",
        "check statuses",
        "sources",
        "actions",
        "source statuses",
        "modes",
        "ways to start",
        "phases",
        "plan format",
        "kinds",
        "where tools are",
    ],
)
def test_codes_and_names_are_those_of_the_code(found: set[str], known: Any) -> None:
    """Scripts compare with them: one that is renamed breaks them without a warning."""
    assert found == set(known)


@contextlib.contextmanager
def _sandbox(folder: Path) -> Iterator[None]:
    """Keep `invoke sandbox` running in *folder*."""
    command = [sys.executable, "-m", "invoke", "sandbox"]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 300
        while not (folder / ".sandbox" / "session.json").exists():
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < end, "invoke sandbox did not come up"
            time.sleep(0.1)
        yield
    finally:
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=300)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout whose sandbox runs: its tasks attach to one demo account."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("packer", "terraform"):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("*.auto.pkrvars.hcl", "*.auto.tfvars*", ".terraform*", "*.json"),
        )
    for name in ("tasks.py", "pipeline.yaml"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / "m.json").write_text(json.dumps(MANIFEST))
    with _sandbox(folder):
        yield folder


def _invoke(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Run ``invoke ARGUMENTS`` in this process and return the document that it printed."""
    argv = ["invoke", *arguments, "--sandbox", "--output", "json"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", argv)
    # It would switch the garbage collector off for all that this process tests after this.
    monkeypatch.setattr("gpu_ami.collector.spare", lambda: None)
    current.cache_clear()
    with contextlib.suppress(SystemExit):
        program.run(argv)
    printed = capsys.readouterr()
    assert problems_of_output(argv, printed.out) == []
    assert printed.out, printed.err
    return json.loads(printed.out)


@pytest.mark.slow
def test_each_task_prints_what_its_schema_says(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real runs, in the order of a life; those with Packer or Terraform in them are checked by the end-to-end tests."""
    for arguments in (
        ("init",),
        ("doctor",),
        ("manifest", "--all", "--file", "m.json"),
        ("update-tfvars", "--manifest", "m.json", "--no-verify"),
        ("cost", "--preset", "seed", "--compare", "g4dn.xlarge", "--regions", "us-east-1"),
        ("coldstart",),
        ("prices", "--check", "--regions", "ap-northeast-2"),
        ("cleanup", "--orphans", "--all-owned", "--regions", "ap-northeast-2,us-east-1"),
        ("cleanup", "--include-shared", "--usage-reports"),
        ("fleet",),
        ("cleanup", "--fleet", "--regions", "ap-northeast-2"),
        ("sweep", "--fleet", "--regions", "ap-northeast-2"),
        ("status", "--fleet", "--region", "ap-northeast-2"),
        ("sweep", "--yes"),
        ("status", "--skip", "next-build"),
    ):
        _invoke(checkout, monkeypatch, capsys, *arguments)
    done = _invoke(checkout, monkeypatch, capsys, "cleanup", "--yes", "--permanent", "--max-deletions", "2")
    _invoke(checkout, monkeypatch, capsys, "cleanup", "--restore", done["journal"])
    alive = next(verdict["image_id"] for verdict in done["verdicts"] if verdict["action"] == "keep")
    _invoke(checkout, monkeypatch, capsys, "publish", "--ami", alive, "--no-verify")


# What has a dry run that does not answer with the real one's document; cleanup's is that of a restore.
DRY = [
    "apply",
    "bench",
    "build",
    "cleanup",
    "doctor",
    "fleet",
    "plan",
    "rollback",
    "setup",
    "status",
    "validate",
    "verify",
]


@pytest.mark.parametrize("task", DRY)
def test_a_dry_run_has_a_form_of_its_own(task: str) -> None:
    """One form for all that run programs; it excuses nothing that a real run must print."""
    document = {"dry_run": True, "commands": ["terraform init"], "notes": []}

    assert problems(task, document) == []
    assert problems(task, document | {"commands": [1]}) != []
    assert problems(task, {"dry_run": True}) != []
    assert problems(task, {}) != []


def test_a_key_that_is_gone_or_a_new_code_is_found() -> None:
    """The schemas would be worth nothing otherwise."""
    check = {"check": "clock", "status": "ok", "detail": "in step", "fix": ""}

    assert problems("doctor", [check]) == []
    assert problems("doctor", [check | {"later": 1}]) == []
    assert problems("doctor", [check | {"status": "fine"}]) == [
        "doctor $[0].status: 'fine' is not one of ['ok', 'warn', 'fail', 'skip']"
    ]
    for key in check:
        shorter = copy.copy(check)
        del shorter[key]
        assert problems("doctor", [shorter]) == [f"doctor $[0]: '{key}' is a required property"]
