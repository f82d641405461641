"""`invoke init`: writes the values that Packer needs of the account to the file where Packer reads them.

A flag goes before Terraform's output, that before what the file says, and that before a question on a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_ami import process
from gpu_ami.bake import template, variables_file
from gpu_ami.bake.variables_file import Plan
from gpu_ami.console import Table
from gpu_ami.errors import DifferenceError, SafetyError, UsageError
from gpu_ami.files import check_writable, read_text, write_atomic
from gpu_ami.invocation import Invocation
from gpu_ami.terraform import backends, failures, state_file
from gpu_ami.terraform.terraform_command import terraform_in
from gpu_ami.tools import terraform_tools
from gpu_ami.workspace import Workspace

_WHAT = "Packer variables file"
_WITHIN_S = 120.0
_BOM = "\ufeff"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke init`` requested.

    Attributes:
        flags: Variable to the value that its flag gave, None without one.
        check: Whether nothing is written and a change is exit code 9.
        yes: Whether values that were set by hand may be replaced.
    """

    flags: Mapping[str, str | None]
    check: bool = False
    yes: bool = False


def run(run: Invocation, request: Request) -> None:
    """Write the variables file and show what changed; `plan` and `finish` say what can go wrong."""
    finish(run, plan(run, request.flags), check=request.check, yes=request.yes)


def plan(run: Invocation, flags: Mapping[str, str | None]) -> Plan:
    """Return what the variables file will be.

    Args:
        run: This invocation.
        flags: Variable to the value that its flag gave, None without one.

    Raises:
        UsageError: A value cannot be used, one is missing and there is nobody to ask, or the file cannot be changed.
        TerraformError: Terraform's answer is no list of outputs.
    """
    values = {name: (value, f"--{name.replace('_', '-')}") for name, value in flags.items() if value is not None}
    for name, (value, source) in values.items():
        variables_file.checked(name, value, source)  # before anything is asked for
    packer = Workspace(run.workspace.root).packer  # the sandbox's copy leaves the example out
    file, example = run.target.init_file, read_text(packer / "variables.auto.pkrvars.hcl.example", what="example")
    defaults = template.template_defaults(packer)
    check_writable(file, what=_WHAT)
    text = _text(file) if file.exists() else None
    shown = run.workspace.shown(file)
    own = variables_file.own_values(text, example, source=shown) if text is not None else {}

    reason = "each value was given"
    if values.keys() < variables_file.SHAPES.keys():
        found, reason = _known(run)
        values = {name: (value, source) for name, (value, source) in found.items() if name not in values} | values
    absent = variables_file.missing({name: value for name, (value, _) in values.items()}, own, defaults)
    values |= _answers(run, absent, reason)
    # In the file's order, whatever the sources.
    ordered = {name: values[name] for name in variables_file.SHAPES if name in values}
    for name, (value, source) in ordered.items():
        variables_file.checked(name, value, source)
    return variables_file.plan(file, text, example, ordered, defaults, source=shown)


def finish(run: Invocation, planned: Plan, *, check: bool, yes: bool) -> None:
    """Show the change, write it unless *check* or a dry run forbids that, and print the result.

    Raises:
        DifferenceError: There would be a change, and *check* is set.
        SafetyError: Somebody's own value would be replaced without *yes*, on AWS.
        UsageError: The file cannot be written, or was changed meanwhile.
    """
    shown = run.workspace.shown(planned.file)
    writes = planned.changed and not (check or run.options.dry_run)
    if planned.changed:
        run.console.say_diff(planned.diff(shown))
    # The sandbox's own file no build reads, and values of a sandbox that has ended are nobody's to keep.
    refused = writes and bool(planned.replaced) and not yes and run.target.asks_first
    if writes and not refused:
        now = _text(planned.file) if planned.file.exists() else None
        if now != planned.before:
            msg = f"{shown} was changed by somebody else meanwhile: run `invoke init` again."
            raise UsageError(msg)
        write_atomic(planned.file, planned.after, what=_WHAT)
    written = writes and not refused
    run.console.result(_document(planned, shown, written=written), _table(planned, shown))
    run.console.say(_closing(run, planned, written=written))
    names = ", ".join(setting.name for setting in planned.replaced)
    if check and planned.changed:
        msg = f"{shown} is not what `invoke init` would make it: run it."
        raise DifferenceError(msg)
    if refused:
        msg = (
            f"{shown} has other values of {names}, set by hand or by an earlier `invoke init`; nothing was written: "
            "add --yes to replace them."
        )
        raise SafetyError(msg)


def _text(file: Path) -> str:
    text = read_text(file, what=_WHAT)
    return _BOM + text if file.read_bytes().startswith(_BOM.encode()) else text


def _known(run: Invocation) -> tuple[dict[str, tuple[str, str]], str]:
    """Return what Terraform's outputs say, or in the sandbox the demo account; and why not more."""
    known, reason = run.target.init_values()
    known = {name: known[name] for name in variables_file.SHAPES if name in known}
    if reason:
        return known, reason
    found, reason = _from_terraform(run)
    return known | found, reason


def _from_terraform(run: Invocation) -> tuple[dict[str, tuple[str, str]], str]:
    folder = run.workspace.terraform
    shown = run.workspace.shown(folder)
    data = backends.data_folder(folder, run.access.child_environment({}))
    if not any(path.exists() for path in (data, folder / "terraform.tfstate")):
        return {}, f"{shown} was never applied here"
    terraform = terraform_in(folder, terraform_tools(), run.access.child_environment)
    done = process.run(terraform.command("output", "-json", "-no-color"), timeout_s=_WITHIN_S)
    if done.returncode != 0:
        problem = failures.first_problem(failures.errors(done.stdout, done.stderr))
        added = failures.meddled("output", terraform.environment)
        return {}, f"`terraform output` in {shown} refuses: {problem}. {added}".rstrip(". ")
    found = state_file.parse_outputs(done.stdout)
    _check_region(run, found, shown)
    named = {name: (found[name], f"terraform output {name}") for name in variables_file.SHAPES if name in found}
    return named, f"{shown} has no such output yet; run `terraform apply` there"


def _check_region(run: Invocation, found: Mapping[str, str], shown: str) -> None:
    region = found.get("region", run.settings.region)
    if region != run.settings.region:
        msg = (
            f"{shown} was applied in {region}, pipeline.yaml (or --region) says {run.settings.region}: "
            "the bake and what uses it must be in one region."
        )
        raise UsageError(msg)


def _answers(run: Invocation, names: list[str], reason: str) -> dict[str, tuple[str, str]]:
    """Return a person's answers for *names*.

    Raises:
        UsageError: There is nobody to ask.
    """
    if names and not (sys.stdin.isatty() and run.console.is_terminal):
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in names)
        msg = f"Nothing gives {' and '.join(names)} ({reason}): give {flags}."
        raise UsageError(msg)
    answers: dict[str, tuple[str, str]] = {}
    for name in names:
        answer = run.console.ask(f"{name} ({variables_file.SHAPES[name].description})")
        answers[name] = (answer, "your answer")
    return answers


def _closing(run: Invocation, planned: Plan, *, written: bool) -> str:
    shown = run.workspace.shown(planned.file)
    if not planned.changed:
        return f"{shown} says all of this already; left alone."
    if not written:
        return f"{shown} is as it was."
    return f"Wrote {shown}." + ("" if "doctor" in run.coming else " Next: `invoke doctor`.")


def _document(planned: Plan, shown: str, *, written: bool) -> dict[str, Any]:
    rows = [
        {"name": value.name, "old": value.old, "new": value.new, "source": value.source, "changed": value.changed}
        for value in planned.settings
    ]
    return {"file": shown, "changed": planned.changed, "written": written, "values": rows}


def _table(planned: Plan, shown: str) -> Table:
    rows = [
        (value.name, "not set" if value.old is None else value.old or '""', value.new or '""', value.source)
        for value in planned.settings
    ]
    return Table(columns=("variable", "old", "new", "from"), rows=rows, title=shown)
