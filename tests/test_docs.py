"""What the pages tell people to type exists, and the troubleshooting page knows every check."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection

from gpu_ami.aws.access import Access
from gpu_ami.bake.checks import looks, wanted
from gpu_ami.bake.checks.facts import Facts

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def _tasks() -> Collection:
    spec = importlib.util.spec_from_file_location("the_tasks", ROOT / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Collection.from_module(module)


TASKS = _tasks()


def commands(page: Path) -> list[list[str]]:
    """Return the words after ``invoke`` of each command in a page's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    whole = (re.sub(r"\\\n\s*", "", block) for block in blocks)  # a line that goes on in the next
    lines = [line.removeprefix("$ ") for block in whole for line in block.splitlines() if line.startswith("$ ")]
    found = (re.search(r"\binvoke (?P<rest>.+)", line) for line in lines)
    return [shlex.split(match["rest"], comments=True) for match in found if match]


def flags_of(task: Any) -> dict[str, bool]:
    """Return each flag of a task and whether it takes a value."""
    return {
        f"--{name.replace('_', '-')}": a.takes_value for a in task.get_arguments() for name in a.names if len(name) > 1
    }


def problems(words: list[str]) -> list[str]:
    """Return the words of a command that are no task and no flag of the task before them."""
    wrong: list[str] = []
    flags: dict[str, bool] = {}
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, equals, _ = word.partition("=")
            if name not in flags:
                wrong.append(word)
            elif flags[name] and not equals:
                next(rest, None)
        elif word in TASKS.task_names:
            flags = flags_of(TASKS[word])
        else:
            wrong.append(word)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_real_tasks_and_flags(page: Path) -> None:
    """A page that is followed to the letter must not end in a usage error."""
    assert {" ".join(words): wrong for words in commands(page) if (wrong := problems(words))} == {}


def test_the_check_itself_finds_what_is_wrong() -> None:
    """It would be worth nothing otherwise."""
    assert problems(["build", "--sandbox", "--var", "a=b"]) == []
    assert problems(["biuld", "--sandbox"]) == ["biuld", "--sandbox"]
    assert problems(["doctor", "--yes"]) == ["--yes"]


def test_the_troubleshooting_page_explains_every_check() -> None:
    """Who looks up a failing line finds it by its name."""
    values = {"ssh_interface": "session_manager", "subnet_id": "subnet-1"}
    bake = wanted.wanted(values)
    facts = Facts(Access(region="ap-northeast-2"), bake)
    rows = (*looks.on_this_machine(bake, sandbox=True), *looks.on_aws(facts, None, sandbox=True))
    names = {look.name for look in rows} - {"permissions"}
    table = " ".join(re.findall(r"^\| (`.+?) \|", TROUBLE, re.MULTILINE))

    assert sorted(name for name in names if f"`{name}`" not in table) == []
    assert "`permissions: …`" in table


@pytest.mark.parametrize(
    ("heading", "line"),
    [
        ("ECR login failed", "ECR login"),
        ("Network errors", "network"),
        ("GPU not detected", "GPU"),
        ("Disk space insufficient", "disk space"),
    ],
)
def test_each_classic_failure_has_its_line(heading: str, line: str) -> None:
    """The four cases that people met first, each with the check that shows it and a command."""
    section = re.search(rf"^### \d+\. {heading}\n(.*?)^### ", TROUBLE, re.MULTILINE | re.DOTALL)

    assert section is not None
    assert re.search(rf"lines? `{line}`", section[1])
    assert "```console\n$ invoke " in section[1]
