"""Each emulated program refuses what its table says, with the real message and exit status: by call and over SSH."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable

import pytest

from gpu_ami_sandbox.guest.programs.commands import COMMANDS
from gpu_ami_sandbox.guest.programs.docker import REFUSALS_AFTER_LOGIN
from gpu_ami_sandbox.guest.programs.system import Refusal
from tests.sandbox.guest.parts import ECR, Client, Endpoint, Inside, World

_PACKAGE = "gpu_ami_sandbox.guest.programs"
_MODULES = sorted(set(COMMANDS.values()))
_TABLES = {name: importlib.import_module(f"{_PACKAGE}.{name}").REFUSALS for name in _MODULES}
_ROWS = [row for table in _TABLES.values() for row in table]
_SIMPLE = [row for row in _ROWS if ";" not in row.command]
_COMPOUND = [row for row in _ROWS if ";" in row.command]
_LOGIN = f"printf secret | sudo docker login --username AWS --password-stdin {ECR}"


def _check(row: Refusal, status: int | None, text: str) -> None:
    assert row.says in text
    assert status == row.status


@pytest.mark.parametrize("name", _MODULES)
def test_every_stand_in_has_a_table(name: str) -> None:
    """A program that refuses nothing would hide a script's mistakes."""
    assert _TABLES[name]
    assert all(isinstance(row, Refusal) for row in _TABLES[name])


@pytest.mark.parametrize("row", _SIMPLE, ids=lambda row: row.command)
def test_refusals_by_call(row: Refusal, inside: Callable[..., Inside]) -> None:
    """The fast form of the same rows: it shows which line of a program is wrong."""
    here, status = _call(row.command, inside)

    _check(row, status, here.text)


@pytest.mark.parametrize("row", _COMPOUND, ids=lambda row: row.command)
def test_refusals_that_need_two_steps_by_call(row: Refusal, inside: Callable[..., Inside]) -> None:
    """The second step is refused because of the first one."""
    for command in row.command.split(";"):
        here, status = _call(command, inside)

    _check(row, status, here.text)


def _call(command: str, inside: Callable[..., Inside]) -> tuple[Inside, int]:
    arguments = shlex.split(command.replace("</dev/null", ""))
    as_root = arguments[0] == "sudo" and arguments[1:2] and arguments[1] in COMMANDS
    if as_root:
        arguments = arguments[1:]
    here = inside("root" if as_root else "ec2-user")
    status: int = importlib.import_module(f"{_PACKAGE}.{COMMANDS[arguments[0]]}").main(arguments, here.system)
    return here, status


def test_a_refusal_of_each_program_over_ssh(client: Client) -> None:
    """The tables hold where they are used: in the guest, by a command over SSH. tests/e2e asks all rows that way."""
    rows = [_TABLES[name][0] for name in _MODULES]

    answers = client.run_all([row.command for row in rows])

    for row, answer in zip(rows, answers, strict=True):
        _check(row, answer.status, answer.text)


@pytest.mark.parametrize("row", _COMPOUND, ids=lambda row: row.command)
def test_refusals_that_need_two_steps_over_ssh(row: Refusal, client: Client) -> None:
    """These change their instance, so each has one of its own."""
    answer = client.run(row.command)

    _check(row, answer.status, answer.text)


def test_registry_refusals_over_ssh(client: Client, endpoint: Endpoint) -> None:
    """What only a logged-in client is refused: a repository, a tag, a digest that is not there."""
    endpoint.add_image("batch-processor", "1", [b"layer"])
    login = client.run(_LOGIN)

    answers = client.run_all([row.command for row in REFUSALS_AFTER_LOGIN])

    assert "Login Succeeded" in login.stdout
    for row, answer in zip(REFUSALS_AFTER_LOGIN, answers, strict=True):
        _check(row, answer.status, answer.text)


def test_no_aws_and_no_jq_before_they_are_installed(client: Client, world: World) -> None:
    """The ECS AMI is built from a minimal one: a script that forgets to install them must fail here too."""
    before = client.run("aws --version; jq --version")
    client.run("sudo dnf -y install awscli-2 jq")
    after = client.run("aws --version && jq --version")

    assert before.status == 127
    assert len(re.findall("command not found", before.stderr)) == 2
    assert after.status == 0
    assert after.stdout.startswith("aws-cli/")
    assert "jq-" in after.stdout
