"""The Windows entry point, parsed by PowerShell's grammar: what can be checked where no PowerShell is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.test_cli import TASKS

if TYPE_CHECKING:
    from tree_sitter import Node


SCRIPT = Path(__file__).parents[2] / "scripts" / "build-ami.ps1"
SOURCE = SCRIPT.read_bytes()
CODE = re.sub(r"^\s*#.*$", "", SOURCE.decode("ascii"), flags=re.MULTILINE)


def parse(source: bytes) -> Node:
    """Return the tree of a script."""
    # Here, because only this session's environment has the grammar, while every session reads the file.
    import tree_sitter_powershell
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_powershell.language())).parse(source).root_node


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, in the order of the text."""
    yield node
    for child in node.children:
        yield from walk(child)


def text(node: Node) -> str:
    """Return the text of a node."""
    assert node.text is not None
    return node.text.decode("ascii")


def calls(name: str) -> list[Node]:
    """Return the commands that run *name*."""
    found = [node for node in walk(parse(SOURCE)) if node.type == "command"]
    return [node for node in found if text(node).startswith(name)]


def test_the_grammar_reads_the_script() -> None:
    """A slip in it would be found by a user on Windows first."""
    assert not parse(SOURCE).has_error


def test_the_grammar_would_see_a_slip() -> None:
    """A parser that accepts anything proves nothing."""
    assert parse(SOURCE.replace(b"foreach (", b"foreach )", 1)).has_error


def test_the_script_is_ascii_with_plain_line_ends() -> None:
    """Windows PowerShell 5.1 takes a file without a mark for the system's own code page."""
    assert SOURCE.isascii()


def test_debug_is_not_reserved() -> None:
    """In an advanced function -Debug is PowerShell's own, and the script's switch a conflict."""
    assert "cmdletbinding" not in CODE.lower()
    assert "[parameter" not in CODE.lower()
    assert re.search(r"\[switch\] \$Debug", CODE)


def actions() -> dict[str, list[str]]:
    """Return the action table."""
    rows = re.findall(r"^    '([\w-]+)' = @\((.*)\)$", CODE, re.MULTILINE)
    return {name: re.findall(r"'([\w-]+)'", tasks) for name, tasks in rows}


def test_each_action_of_the_table_runs_tasks() -> None:
    """Every other action is passed on as a task's name, so a new task is reached at once; these are more than one."""
    table = actions()

    assert set(table) == {"init"}
    assert all(set(tasks) <= set(TASKS) for tasks in table.values())
    assert "else { $Tasks = @($Action) }" in CODE


def test_the_exit_code_of_each_native_command_is_looked_at() -> None:
    """PowerShell goes on after a native command that failed."""
    natives = calls("& ")
    lines = SOURCE.decode("ascii").splitlines()

    assert [text(node).split(maxsplit=2)[1] for node in natives] == ["$Python", "$Program"]
    for node in natives:
        assert "$LASTEXITCODE" in lines[node.end_point.row + 1]


def test_the_script_ends_with_the_task_s_exit_code() -> None:
    """Scripts and CI decide by it."""
    assert CODE.rstrip().endswith("exit $Code")
    assert re.findall(r"exit (\S+)", CODE) == ["2", "3", "$Code"]


@pytest.mark.parametrize("page", ["README.md", "packer/README.md", "docs/walkthrough.md"])
def test_documented_actions_exist(page: str) -> None:
    """A command that is pasted from a page runs."""
    file = SCRIPT.parents[1] / page
    named = re.findall(r"build-ami\.ps1 -Action (\w[\w-]*)", file.read_text(encoding="utf-8")) if file.exists() else []

    assert set(named) <= {*actions(), *TASKS, "help", "NAME"}
