"""The command line as a user meets it: real processes, no mocks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from gpu_ami import cli
from tests.support.schemas import problems_of_output
from tests.support.tasks import tasks

ROOT = Path(__file__).parents[1]
HEAVY = ("boto3", "botocore", "moto", "hcl2", "matplotlib", "rich", "msgspec", "asyncssh", "cyclonedx", "jsonschema")


def _invoke(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=cwd,
        env={**os.environ, "GPU_AMI_SANDBOX": "", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


TASKS = sorted(tasks().task_names)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A repository with the tasks and nothing else."""
    (tmp_path / "tasks.py").write_text((ROOT / "tasks.py").read_text())
    return tmp_path


def test_list_shows_each_task_with_its_help() -> None:
    """`invoke --list` is the first thing a newcomer types."""
    shown = _invoke("--list").stdout

    listed = _invoke("--list", "--list-format", "json")
    assert sorted(task["name"] for task in json.loads(listed.stdout)["tasks"]) == TASKS
    for name in TASKS:
        assert re.search(rf"^  {name} +\S.+", shown, re.MULTILINE), name


def test_invoke_alone_lists_the_tasks() -> None:
    """It is what a newcomer types before that; Invoke would explain twenty flags of its own and name no task.

    Twenty-two tasks in the order of the alphabet do not say which comes first.
    """
    done = _invoke()

    assert done.returncode == 0
    assert done.stdout == _invoke("--list").stdout
    assert done.stderr.startswith("`invoke setup build --sandbox` needs no AWS account")
    assert "`invoke --help TASK`" in done.stderr


def test_an_advice_stays_in_the_sandbox_that_the_environment_chose(bare: Path) -> None:
    """Pasted without --sandbox into another shell it would build on AWS, and cost."""
    for switch, advice in (("yes", "Run `invoke build --sandbox` first."), ("no", "Run `invoke build` first.")):
        (bare / "pipeline.yaml").write_text("region: eu-west-1\n")

        assert advice in _invoke("manifest", cwd=bare, GPU_AMI_SANDBOX=switch).stderr


EACH = """
import contextlib, io, json, sys
from invoke.main import program
said = {}
for line in json.loads(sys.argv[1]):
    sys.argv = ["invoke", *line.split()]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            program.run()
            status = None
        except SystemExit as end:
            status = end.code
    said[line] = status, text.getvalue()
json.dump(said, sys.stdout)
"""


def _each(lines: Iterable[str], *flags: str) -> dict[str, tuple[int | None, str]]:
    """Return what each command line ends with and says; one process, Python with *flags*, reads them all."""
    command = [sys.executable, *flags, "-c", EACH, json.dumps(list(lines))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said: dict[str, tuple[int | None, str]] = json.loads(done.stdout)
    return said


def _helps(*flags: str) -> dict[str, tuple[int | None, str]]:
    """Return what each task ends with and says to ``--help``."""
    said = _each((f"{task} --help" for task in TASKS), *flags)
    return {line.split()[0]: of_it for line, of_it in said.items()}


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[int | None, str]]:
    """Each task's exit status and what it says to ``--help``."""
    return _helps()


@pytest.mark.parametrize("task", TASKS)
def test_help_runs_nothing(helps: dict[str, tuple[int | None, str]], task: str) -> None:
    """Invoke takes --help for the value of a missing positional argument and runs the task: none may have one."""
    status, said = helps[task]

    assert status == 0
    assert said.startswith(f"Usage: inv[oke] [--core-opts] {task}")
    for flag in ("--region", "--profile", "--sandbox", "--output", "--query", "--dry-run"):
        assert flag in said


MISSPELT = {
    "cleanup --older-then 30d": ["--older-then", "Did you mean --older-than?", "`invoke --help cleanup` lists"],
    "cleanup --older_than=30d": ["--older_than", "Did you mean --older-than?"],
    "cleanup -older-than 30d": ["'-o'", "Did you mean --older-than?"],
    "build --incremantal --sandbox": ["Did you mean --incremental?", "`invoke --help build`"],
    "setup --no-gest": ["Did you mean --no-guest", "`invoke --help setup`"],
    "cleanup --incremental": ["It is a flag of build, given behind the task", "`invoke --help cleanup`"],
    "--yes cleanup": [
        "It is a flag of init, verify, bench, apply,",
        "given behind the task: `invoke --help TASK` lists",
    ],
    "--region x build": ["It is a flag of every task, given behind the task"],
    "--older-then 30d cleanup": ["Did you mean --older-than?", "`invoke --help TASK` lists the flags of a task"],
    "clenup --yes": ["'clenup'", "Did you mean cleanup? `invoke --help cleanup` explains it."],
    "build update_tfvar": ["Did you mean update-tfvars? `invoke --help update-tfvars`"],
    "--help rollbak": ["Did you mean rollback? `invoke --help rollback`"],
    "build --sandbox true": ["'true'", "There is no such task: `invoke --list` lists them, `invoke --help build`"],
    "cleanup --qqq": ["'--qqq'", "`invoke --help cleanup` lists the flags."],
    "build apply --packer-var a=b": ["It is a flag of doctor, validate or build, given behind the task"],
    "cleanup --older-than": [
        "--older-than needs a value, and none was given. `invoke --help cleanup` lists the flags."
    ],
    "rollback --to --sandbox": ["--to needs a value, and none was given. `invoke --help rollback` lists the flags."],
    "build --sandbox=1": ["'1'", "--sandbox takes no value: leave out =1. `invoke --help build` lists the flags."],
}


@pytest.fixture(scope="module")
def misspelt() -> dict[str, tuple[int | None, str]]:
    """Each line's exit status and what is said to it."""
    return _each(MISSPELT)


@pytest.mark.parametrize("line", MISSPELT)
def test_a_misspelt_word_is_an_error_that_helps(misspelt: dict[str, tuple[int | None, str]], line: str) -> None:
    """Invoke's own says only "No idea what … is!"; its exit status stays, and it is said as every other error is."""
    status, said = misspelt[line]

    assert status == 1
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    for part in MISSPELT[line]:
        assert part in said


def test_equal_calls_of_one_line_run_each_in_order(tmp_path: Path) -> None:
    """Invoke leaves an equal call out: of `build apply build apply --sandbox` the second build."""
    for name in "ab":
        build = {"name": name, "builder_type": "amazon-ebs", "artifact_id": ""}
        (tmp_path / name).write_text(json.dumps({"builds": [build]}))
    calls = [argument for name in "abaab" for argument in ("manifest", "--file", str(tmp_path / name))]

    done = _invoke(*calls, "--output", "json")

    assert [build["name"] for line in done.stdout.splitlines() for build in json.loads(line)] == list("abaab")


def test_each_task_of_a_line_knows_which_come_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `invoke build apply` nobody is told to apply next; equal tasks of a line are told apart by their order."""
    monkeypatch.chdir(ROOT)
    line = cli.PipelineProgram()
    line.create_config()
    line.parse_core(["invoke", "build", "--sandbox", "update-tfvars", "build", "apply", "--yes"])
    line.parse_collection()

    assert line.begin("build") == ()
    line.parse_tasks()

    assert line.begin("build") == ("update-tfvars", "build", "apply")
    assert line.begin("update-tfvars") == ("build", "apply")
    assert line.begin("build") == ("apply",)
    assert line.begin("apply") == ()
    assert line.begin("apply") == ()


def test_help_survives_without_docstrings(helps: dict[str, tuple[int | None, str]]) -> None:
    """`python -OO` drops docstrings, and a task's help text is one: what `invoke` can do must not depend on that."""
    listed = subprocess.run(
        [sys.executable, "-OO", "-m", "invoke", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    github = subprocess.run(
        [sys.executable, "-OO", "-m", "gpu_ami.github", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert _helps("-OO") == helps
    assert listed.stdout == _invoke("--list").stdout
    assert "The steps of the workflows that are not tasks." in github.stdout


def test_list_imports_nothing_heavy() -> None:
    """`invoke --list` and completion must answer at once."""
    code = f"""
import sys
from invoke.program import Program
sys.argv = ["invoke", "--list"]
from invoke.main import program
program.run(exit=False)
print("loaded", [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "build" in done.stdout
    assert done.stderr.splitlines()[-1] == "loaded []"


def _one_line(done: subprocess.CompletedProcess[str], status: int, problem: str) -> None:
    assert done.returncode == status, done.stderr
    assert re.search(problem, done.stderr), done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_bad_usage_is_one_line_and_its_own_exit_code() -> None:
    """A person reads the line, a script the code; neither gets a traceback. Of other usage: `WRONG` below."""
    _one_line(_invoke("manifest", "--output", "xml"), 2, "'xml' is not known")


WRONG = {
    "apply --terraform-var x": "--terraform-var 'x' is not name=value",
    "apply --var x": "--terraform-var 'x' is not name=value",
    "apply --wait soon": "--wait 'soon' is no number",
    f"apply --wait {'9' * 400}": "is no number of minutes",
    "apply --yes --ask": "--yes applies without asking and --ask asks",
    "build --debug": "needs a terminal",
    "build --jobs 0": "--jobs '0' is not a whole number from 1 to 64",
    "build --jobs two": "--jobs 'two' is not a whole number",
    "build --family none": "--family 'none' is no family of pipeline.yaml: there are gpu-batch",
    "fleet --out x.json --regions Seoul": "--regions 'Seoul' is not an AWS region",
    "fleet --out x.json --shards 251": "--shards '251' is not a whole number from 1 to 250",
    "fleet --shards 2": "--shards is about the list that --out FILE writes",
    "matrix --regions Seoul": "--regions 'Seoul' is not an AWS region",
    "survey --list none.json --out x.jsonl.gz": "--shard is missing",
    "survey --list none.json --shard 1/1 --out x": "--out 'x' does not end with .jsonl.gz",
    "survey --list none.json --shard 1/1 --out x.jsonl.gz": "none.json does not exist",
    "survey --list none.json --shard 1/1 --out x.jsonl.gz --keep x": "--keep 'x' is not",
    "status --family none": "--family 'none' is no family of pipeline.yaml",
    "build --packer-var x": "--packer-var 'x' is not name=value",
    "build --var x": "'x' is not name=value",
    "build apply --var image_tag=v2": "could be meant for build, to which it is a Packer variable and not",
    "build apply apply --var image_tag=v2": "give --packer-var behind build, or --terraform-var behind apply.",
    "build update-tfvars --var=gpu_ami_id apply": "--variable behind update-tfvars",
    "cleanup --account x": "--account 'x' is not the ARN",
    "cleanup --all-owned --name x": "--all-owned takes every AMI",
    "cleanup --apply none.json": "none.json",
    "cleanup --fleet --list none.json": "--fleet --list FILE --references PATH: give all three",
    "cleanup --fleet --list none.json --references x": "none.json does not exist",
    "cleanup --fleet --list none.json --references x --yes": "--yes does not go with --references",
    "cleanup --keep x": "--keep 'x' is not",
    "cleanup --max-deletions 0": "--max-deletions '0' is not",
    "cleanup --mode purge": "--mode 'purge' is not known",
    "cleanup --older-than 30": "--older-than",
    "cleanup --older-than 30 --yes": "--older-than",
    "cleanup --owner 123456789012": "--owner is about a fleet's plan that is carried out",
    "cleanup --plan /": "is a directory",
    "cleanup --regions Seoul": "--regions 'Seoul' is not",
    "cleanup --regions all,us-east-1": "--regions 'all' is not",
    "cleanup --restore none.jsonl": "none.jsonl does not exist. Each run leaves one: logs/cleanup-*.jsonl",
    "cleanup --skip-source x": "--skip-source 'x' is not",
    "cleanup --tag x": "--tag 'x' is not KEY=VALUE",
    "cleanup --template-versions 0": "--template-versions '0' is not",
    "coldstart --chart x.gif": "--chart 'x.gif'",
    "coldstart --fit none.json": "none.json does not exist",
    "coldstart --instance-type x": "--instance-type 'x' is not an instance type",
    "coldstart --points none.csv": "none.csv does not exist",
    "coldstart --points none.csv --validate": "do not go together",
    "coldstart --set queue_s=9..1": "is upside down",
    "cost --live --chart x.gif": "--chart 'x.gif'",
    "cost --live --compare ,": "--compare",
    "cost --live --instance-type=-x": "--instance-type '-x' is not a name",
    "cost --live --jobs-per-month x": "--jobs-per-month",
    "cost --live --market x": "--market 'x' is not known",
    "cost --live --preset x": "--preset 'x' is not known",
    "cost --live --regions us-east-1,Seoul": "No prices for region 'Seoul'",
    "cost --live --regions us-east-1,cn-north-1": "Prices in cn-north-1 are in CNY",
    "cost --live --set x": "--set 'x' is not name=value",
    "doctor --var x": "'x' is not name=value",
    "doctor --packer-var a=1 --var x": "'x' is not name=value",
    "init --iam-instance-profile a:b": "iam_instance_profile is 'a:b' by --iam-instance-profile",
    "init --subnet-id x": "subnet_id is 'x' by --subnet-id",
    "manifest --file none.json": "none.json does not exist",
    "manifest --query a[": "not a JMESPath",
    "plan --var x": "--terraform-var 'x' is not name=value",
    "plan validate --var x": "--var behind validate could be meant for plan",
    "prices --regions us-east-1,x": "No prices for region 'x'",
    "publish --ami x": "--ami 'x' is not an AMI id",
    "publish --manifest none.json": "none.json does not exist",
    "publish --parameter /aws/x --ami ami-12345678": "'/aws/x' is no parameter name",
    "rollback --to x": "'x' is not an AMI id",
    "rollback --var x": "--terraform-var 'x' is not name=value",
    "rollback --yes --ask": "--yes applies without asking and --ask asks",
    "rollback --wait soon": "--wait 'soon' is no number",
    "status --region Seoul": "'Seoul' is not an AWS region",
    "status --skip x": "--skip x is no query",
    "sweep --older-than 1m": "--older-than",
    "sweep --regions Seoul": "--regions 'Seoul' is not",
    "sweep --skip-source x": "--skip-source 'x' is not",
    "update-tfvars --ami ami-1": "--ami 'ami-1' is not an AMI id",
    "update-tfvars --ami x": "--ami 'x' is not an AMI id",
    "update-tfvars --file x.json --ami ami-12345678": "x.json is not a .tfvars",
    "update-tfvars --manifest none.json": "none.json does not exist",
    "update-tfvars --var a..b --ami ami-12345678": "'a..b' is not a variable",
    "update-tfvars --variable a --var b": "--variable 'a' and --var 'b' are the same flag",
    "update-tfvars --variable a..b --ami ami-12345678": "'a..b' is not a variable",
    "validate --region Seoul": "'Seoul' is not an AWS region",
    "validate --var x": "'x' is not name=value",
    "validate --var x apply": "--packer-var 'x' is not name=value",
    "validate --var x apply --var y=1": "--packer-var 'x' is not name=value",
    "validate --packer-var x apply --var y=1": "--packer-var 'x' is not name=value",
    "verify --ami x": "--ami 'x' is not an AMI id",
    "verify --ami ami-12345678 --instance-type c7i.large": "c7i.large has no GPU",
    "verify --ami ami-12345678 --max-usd much": "--max-usd 'much' is no amount",
    "verify --ami ami-12345678 --subnet-id x": "--subnet-id 'x' is no id of a subnet",
    "bench --ami ami-12345678 --arms stok": "--arms 'stok' is no arm of a bench",
    "bench --ami ami-12345678 --hosts many": "--hosts 'many' is no number",
    "bench --ami ami-12345678 --hosts 21": "--hosts 21 is not between 1 and 20",
    "bench --ami ami-12345678 --instance-type c7i.large": "c7i.large has no GPU",
    "bench --teardown none.jsonl": "none.jsonl does not exist. Each bench leaves one: logs/bench-*.jsonl",
    "bench --teardown README.md": "README.md is no journal of a bench",
    "diff --from x --to ami-12345678": "--from 'x' is not an AMI id",
    "diff --from ami-12345678 --to x": "--to 'x' is not an AMI id",
}
USE = f"""
import contextlib, io, json, sys
from invoke.main import program
from gpu_ami.invocation import current
said = {{}}
for line in {list(WRONG)!r}:
    sys.argv = ["invoke", *line.split()]
    current.cache_clear()
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            program.run()
            status = None
        except SystemExit as end:
            status = end.code
    said[line] = status, err.getvalue()
json.dump(said, sys.stdout)
"""


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int | None, str]]:
    """What is said to each wrong line where there are no credentials; one process reads them all."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GPU_AMI_"))}
    env |= {"HOME": str(tmp_path_factory.mktemp("home")), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    said: dict[str, tuple[int | None, str]] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_flag_is_told_without_credentials(wrong: dict[str, tuple[int | None, str]], line: str) -> None:
    """Who is told of credentials first signs in, waits, and only then learns that 30 wants a unit."""
    status, said = wrong[line]

    assert (status, said.count("\n")) == (2, 1), said
    assert WRONG[line] in said


def test_every_task_with_a_value_to_check_is_among_them() -> None:
    """A task that is added is held to it too; setup and sandbox take no values."""
    assert {line.split()[0] for line in WRONG} == set(TASKS) - {"setup", "sandbox"}


def test_no_settings_file_is_exit_2_on_aws(bare: Path) -> None:
    """Without settings nobody guesses where to build."""
    _one_line(_invoke("build", cwd=bare), 2, r"pipeline\.yaml does not exist")


def test_missing_packer_variables_are_exit_2(bare: Path) -> None:
    """The message names the command that writes the file."""
    (bare / "pipeline.yaml").write_text("region: ap-northeast-2\n")

    _one_line(
        _invoke("build", cwd=bare),
        2,
        r"variables\.auto\.pkrvars\.hcl does not exist\. Run `invoke init`.* or add --sandbox",
    )


def test_a_machine_without_packer_is_told_to_set_up(bare: Path, tmp_path: Path) -> None:
    """Exit 3, and the one command that fixes it; Packer is not searched for anywhere else."""
    (bare / "packer").mkdir()
    (bare / "terraform").mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()

    done = _invoke("validate", "--sandbox", cwd=bare, GPU_AMI_CACHE_DIR=str(empty), PATH=str(empty))

    assert done.returncode == 3, done.stderr
    assert re.search(r"error: Packer .*missing: run `invoke setup`", done.stderr)


def test_debug_needs_a_terminal(bare: Path) -> None:
    """Packer would wait for an Enter that nobody can press."""
    done = _invoke("build", "--sandbox", "--debug", cwd=bare)

    assert done.returncode == 2, done.stderr
    assert "--debug asks at each step and needs a terminal" in done.stderr


@pytest.mark.parametrize("arguments", [("cost",), ()])
def test_a_reader_that_stops_early_is_no_error(arguments: tuple[str, ...]) -> None:
    """`invoke cost | head` is how people read a long answer."""
    with subprocess.Popen(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.close()
        said = child.stderr.readlines() if child.stderr else []

    # The prices may be old by now, which is said.
    assert (child.returncode, [line for line in said if not line.startswith("warning: Prices up to ")]) == (0, [])


WAITING = """
import time
from pathlib import Path
from gpu_ami.cli import pipeline_task

@pipeline_task(Path(__file__).parent)
def wait(run):
    try:
        with run.console.step("waiting"):
            run.console.say("ready")
            time.sleep(60)
    except KeyboardInterrupt:
        run.console.say("tidying")
        time.sleep(0.3)
        Path("tidied").touch()
        raise
"""
# In a process of its own: the tests' own one has threads, and must not be forked.
CLOSED_TERMINAL = """
import os, pty, sys
pid, ours = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "-m", "invoke", "wait"])
said = b""
while b"ready" not in said:
    said += os.read(ours, 4096)
os.close(ours)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_task_that_is_asked_to_end_says_so(tmp_path: Path, number: signal.Signals) -> None:
    """`kill` and SIGQUIT are as Ctrl-C: what is under way is tidied, and exit code 130 says that it was interrupted."""
    (tmp_path / "tasks.py").write_text(WAITING)
    with subprocess.Popen(
        [sys.executable, "-m", "invoke", "wait"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "ready\n"
        child.send_signal(number)
        said = child.stderr.read()

    assert child.returncode == 130
    assert re.fullmatch(r"waiting: failed after .+\ntidying\nerror: interrupted\.\n", said)
    assert (tmp_path / "tidied").exists()


def test_a_task_whose_terminal_is_closed_tidies(tmp_path: Path) -> None:
    """Nobody hears a word any more, and every word fails: that must not cut off what there is to tidy."""
    (tmp_path / "tasks.py").write_text(WAITING)

    done = subprocess.run(
        [sys.executable, "-c", CLOSED_TERMINAL], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )

    assert done.stdout == "130\n"
    assert (tmp_path / "tidied").exists()


def test_a_traceback_can_be_asked_for() -> None:
    """GPU_AMI_TRACEBACK=1 is for bug reports."""
    done = _invoke("manifest", "--file", "none.json", GPU_AMI_TRACEBACK="1")

    assert "Traceback" in done.stderr
    assert "UsageError" in done.stderr


def test_manifest_and_update_tfvars_speak_json(bare: Path) -> None:
    """The whole hand-over by hand: read a manifest, set the variable, check it, see no further change."""
    (bare / "pipeline.yaml").write_text("region: ap-northeast-2\n")
    ami = "ami-0123456789abcdef0"
    build = {
        "name": "gpu",
        "builder_type": "amazon-ebs",
        "build_time": 1763900000,
        "artifact_id": f"ap-northeast-2:{ami}",
        "packer_run_uuid": "r",
    }
    (bare / "m.json").write_text(json.dumps({"builds": [build], "last_run_uuid": "r"}))

    listed = _invoke("manifest", "--file", "m.json", "--query", "[0].amis", "--output", "json", cwd=bare)
    checked = _invoke("update-tfvars", "--manifest", "m.json", "--check", "--no-verify", cwd=bare)
    dry = _invoke("update-tfvars", "--manifest", "m.json", "--dry", "--no-verify", cwd=bare)
    file = bare / "terraform" / "gpu-ami.auto.tfvars.json"
    assert not file.exists()
    written = _invoke("update-tfvars", "--manifest", "m.json", "--output", "json", "--no-verify", cwd=bare)
    again = _invoke("update-tfvars", "--manifest", "m.json", "--check", "--output", "json", "--no-verify", cwd=bare)

    assert json.loads(listed.stdout) == {"ap-northeast-2": ami}
    assert (checked.returncode, dry.returncode) == (9, 0)
    assert "Would write gpu_ami_id" in dry.stderr
    assert json.loads(written.stdout)["changed"]
    assert json.loads(file.read_text()) == {"gpu_ami_id": ami}
    assert (again.returncode, json.loads(again.stdout)["changed"]) == (0, False)


def test_another_regions_manifest_is_refused(bare: Path) -> None:
    """Handing over an AMI of another region would fail at the next launch."""
    (bare / "pipeline.yaml").write_text("region: ap-northeast-2\n")
    build = {"builder_type": "amazon-ebs", "artifact_id": "us-east-1:ami-12345678", "packer_run_uuid": "r"}
    (bare / "m.json").write_text(json.dumps({"builds": [build], "last_run_uuid": "r"}))

    _one_line(
        _invoke("update-tfvars", "--manifest", "m.json", cwd=bare), 2, "no AMI for ap-northeast-2 but for us-east-1"
    )


@pytest.mark.parametrize(
    ("arguments", "env"), [(["-eR"], {}), ([], {"INVOKE_RUN_DRY": "1"})], ids=["bundle", "variable"]
)
def test_every_form_of_invokes_dry_run_counts(bare: Path, arguments: list[str], env: dict[str, str]) -> None:
    """`invoke -eR cleanup --yes` is a dry run to Invoke and must not be a real one to us."""
    done = _invoke(*arguments, "setup", cwd=bare, **env)

    assert done.returncode == 0, done.stderr
    assert "DRY RUN" in done.stderr


def test_every_task_survives_dry(bare: Path) -> None:
    """--dry stops only Invoke's own commands; each task must stop itself and leave no trace."""
    for name in ("setup", "sandbox", "doctor"):
        done = _invoke("--dry", name, "--sandbox", "--output", "json", cwd=bare)

        assert done.returncode == 0, done.stderr
        assert "DRY RUN" in done.stderr
        assert bool(done.stdout) == (name != "sandbox")  # which has no result
        assert problems_of_output([name, "json"], done.stdout) == []
    assert [path.name for path in bare.iterdir() if path.name != "__pycache__"] == ["tasks.py"]


@pytest.mark.parametrize(("said", "kept"), [("", True), ("1", False)])
def test_python_keeps_bytecode_unless_the_user_says_no(bare: Path, tmp_path: Path, said: str, kept: bool) -> None:
    """Invoke forbids it: each command would compile moto and botocore anew, which takes two seconds."""
    child = _invoke("manifest", PYTHONPYCACHEPREFIX=str(tmp_path), PYTHONDONTWRITEBYTECODE=said, cwd=bare)

    assert child.returncode == 2, child.stderr
    assert bool(list(tmp_path.rglob("records/manifest_file.*.pyc"))) is kept
