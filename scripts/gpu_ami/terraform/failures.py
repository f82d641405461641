"""What Terraform says, read from its ``-json`` output, and its failures turned into the one line that helps.

The forms are those of Terraform 1.11: a JSON message per line from ``init``, ``plan`` and ``apply``, one document from
``validate``. A command that fails before it has read its flags, and one without such diagnostics, prints boxes.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gpu_ami.diagnostics import Diagnostic, boxes
from gpu_ami.errors import PipelineError, TerraformError, ToolError
from gpu_ami.foreign_text import visible

_LOCKED = "Error acquiring the state lock"
# Terraform reads the state as it takes the lock, so it calls a damaged one a matter of locks.
_DAMAGED = "Unsupported state file format"
# Who holds a lock is in the detail as text, in Terraform's JSON too.
_LOCK_ID = re.compile(r"^\s*ID:\s+(\S+)", re.MULTILINE)
_LOCK_WHO = re.compile(r"^\s*Who:\s+(\S+)", re.MULTILINE)
_LOCK_SINCE = re.compile(r"^\s*Created:\s+(\d{4}-\d{2}-\d{2} \d{2}:\d{2})", re.MULTILINE)
# The provider polls Batch for 20 minutes, which cannot be set, and then calls an update that goes on a failure.
_OUTWAITED = re.compile(
    r".*\bwaiting for Batch Compute Environment \([^)]*\) update: timeout while waiting for state to become "
    r"'VALID' \(last state: 'UPDATING'"
)
# Each of Terraform's errors that `init` fixes names it.
_INIT_WANTED = re.compile(r"\bterraform\s+init\b")
_UNSET = "No value for required variable"
_NO_PROVIDER = (
    "Failed to query available provider packages",
    "Could not retrieve the list of available versions",
    "Failed to install provider",
    "Required plugins are not installed",
)
_BACKEND = (
    "Backend configuration changed",
    "Backend initialization required",
    "Backend configuration block has changed",
)
# What Terraform and Go's flag package say of a command line; in a box, or above a page of usage.
_COMMAND_LINE = re.compile(
    r"flag provided but not defined: [^\s=]+|flag needs an argument: \S+|invalid (?:boolean )?value .{1,80}? for "
    r"(?:flag )?-[\w-]+"
)


class _Message(msgspec.Struct, frozen=True):
    """A line of ``-json`` output; of the other fields only what the log shows is read."""

    message: str = msgspec.field(name="@message")
    diagnostic: Diagnostic | None = None
    outputs: dict[str, dict[str, Any]] = {}


class _Validation(msgspec.Struct, frozen=True):
    """What ``terraform validate -json`` prints."""

    diagnostics: list[Diagnostic]


_DECODER = msgspec.json.Decoder(_Message)


def errors(*outputs: str) -> list[Diagnostic]:
    """Return the errors in what one command printed; *outputs* are its streams.

    Those of the JSON, when there are any: what is printed around it is about something else. Otherwise those of the
    boxes, or the last line that was printed.
    """
    text: list[str] = []
    found: list[Diagnostic] = []
    for output in outputs:
        with contextlib.suppress(msgspec.DecodeError):
            found += msgspec.json.decode(output, type=_Validation).diagnostics
            continue
        for line in output.splitlines():
            message = _message(line)
            if message is not None and message.diagnostic is not None:
                found.append(message.diagnostic)
            else:
                text.append(line if message is None else message.message)
    return [error for error in found if error.severity == "error"] or boxes("\n".join(text))


def said(line: str) -> str:
    """Return what a line of ``-json`` output says to a person; any other line is returned as it is."""
    message = _message(line)
    return line if message is None else message.message


def readable(output: str) -> str:
    """Return ``-json`` output as Terraform would have printed it for a person, with nothing that a terminal obeys."""
    texts = (text for line in output.splitlines() for text in _readable(line))
    lines = [visible(line, keep="\t") for text in texts for line in text.split("\n")]
    return "".join(f"{line}\n" for line in lines)


def first_problem(found: Sequence[Diagnostic]) -> str:
    """Return the first of the errors as one line, without a full stop."""
    return found[0].one_line() if found else "no output"


def wants_init(found: Iterable[Diagnostic]) -> bool:
    """Whether `terraform init` would fix it."""
    return any(_INIT_WANTED.search(error.text) for error in found)


@dataclass(frozen=True, kw_only=True)
class NotTaken:
    """A hand-over that Terraform does not see by itself.

    Attributes:
        variable: The variable that is handed over.
        advice: What to do so that Terraform takes it.
    """

    variable: str
    advice: str


def meddled(subcommand: str, environment: Mapping[str, str]) -> str:
    """Return what to say of a *subcommand* that failed where *environment* adds to its command line; else nothing.

    Only by name: a value of ``-var`` may be a secret.
    """
    names = ("TF_CLI_ARGS", f"TF_CLI_ARGS_{subcommand.replace(' ', '_')}")
    added = " and ".join(name for name in names if environment.get(name, "").strip())
    return f"{added} in the environment changes that command: see whether it goes without." if added else ""


def explain(
    subcommand: str,
    found: Sequence[Diagnostic],
    *,
    folder: str,
    not_taken: NotTaken | None = None,
    environment: Mapping[str, str] | None = None,
) -> PipelineError:
    """Return the error that Terraform's errors amount to.

    Args:
        subcommand: Terraform's subcommand that failed, such as ``plan``.
        found: The errors that it printed; see `errors`.
        folder: The root module's folder, as a person would type it.
        not_taken: The hand-over that is in its file, but that Terraform does not take; None where it does.
        environment: Terraform's.
    """
    doing = f"terraform {subcommand}"
    if _about(found, _DAMAGED):
        return TerraformError(
            f"`{doing}`: the Terraform state of {folder} is damaged (not JSON, or cut off): put back "
            "terraform.tfstate.backup, or the version before in the bucket."
        )
    if locked := _about(found, _LOCKED):
        return TerraformError(_locked(locked.text, folder))
    if missing := _about(found, *_NO_PROVIDER):
        return ToolError(
            f"`{doing}` found no aws provider ({missing.one_line()}): `invoke setup` says where a local mirror is "
            "looked for; without one the registry must be reachable. GPU_AMI_PROVIDER_MIRROR names another mirror."
        )
    if _about(found, *_BACKEND):
        return TerraformError(
            f"`{doing}`: the backend of {folder} changed: run `terraform init -migrate-state` there to take the state "
            "along, or `terraform init -reconfigure` to leave it."
        )
    if unset := [error for error in found if _UNSET in error.text]:
        return TerraformError(f"`{doing}` refuses: {_unset(unset, folder, not_taken)}")
    if _about(found, "Saved plan is stale"):
        return TerraformError(
            f"`{doing}`: the state changed since the plan was made, so nothing was applied: run `invoke apply` again."
        )
    # An update that only takes long is never the reason when there is another one.
    graver = [error for error in found if not _OUTWAITED.match(error.summary)]
    why = next((match[0] for error in found if (match := _COMMAND_LINE.search(error.text))), None)
    added = meddled(subcommand, environment or {})
    problem = why if added and why is not None else first_problem(graver or found)
    return TerraformError(f"`{doing}` failed: {problem}. {added}".rstrip())


def _unset(found: Sequence[Diagnostic], folder: str, not_taken: NotTaken | None) -> str:
    if not_taken is not None and (ours := _about(found, f'"{not_taken.variable}"')):
        return f"{ours.one_line()}. {not_taken.advice}"
    from_us = "the AMI's comes from `invoke update-tfvars`"
    return f"{found[0].one_line()}. Set it in {folder}/terraform.tfvars; {from_us}."


def outwaited(found: Sequence[Diagnostic]) -> frozenset[str]:
    """Return the addresses of the updates that Batch still carried out when the provider stopped waiting.

    Empty unless every error is of this kind, and says which environment it is about.
    """
    addresses = {error.address for error in found if _OUTWAITED.match(error.summary)}
    if None in addresses or not all(_OUTWAITED.match(error.summary) for error in found):
        return frozenset()
    return frozenset(address for address in addresses if address)


def _about(found: Iterable[Diagnostic], *texts: str) -> Diagnostic | None:
    """Return the first error with one of the *texts* in it."""
    return next((error for error in found if any(text in error.text for text in texts)), None)


def _locked(detail: str, folder: str) -> str:
    known = [pattern.search(detail) for pattern in (_LOCK_ID, _LOCK_WHO, _LOCK_SINCE)]
    lock, who, since = (match[1] if match else None for match in known)
    holder = f" by {who}" if who else ""
    moment = f" since {since} UTC" if since else ""
    if lock is None:
        return f"The Terraform state of {folder} is locked{holder}{moment}: wait for the other run to end."
    return (
        f"The Terraform state of {folder} is locked{holder}{moment} (lock {lock}): wait for that run. Only when it has "
        f"ended for sure, run `terraform force-unlock {lock}` there."
    )


def _message(line: str) -> _Message | None:
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError:
        return None


def _readable(line: str) -> list[str]:
    message = _message(line)
    if message is None:
        return [line]
    if message.diagnostic is not None:
        return _box(message.diagnostic)
    if message.outputs:
        return ["", f"{message.message}", *(_output(name, output) for name, output in message.outputs.items())]
    return [message.message]


def _output(name: str, output: dict[str, Any]) -> str:
    if "action" in output:  # a plan's: the value is not known yet
        return f"  {name}: {output['action']}"
    value = "(sensitive value)" if output.get("sensitive") else json.dumps(output.get("value"), ensure_ascii=False)
    return f"  {name} = {value}"


def _box(diagnostic: Diagnostic) -> list[str]:
    """Return a diagnostic in the layout that Terraform gives it on a terminal."""
    lines = ["", f"{diagnostic.severity.capitalize()}: {diagnostic.summary}", ""]
    if diagnostic.address:
        lines.append(f"  with {diagnostic.address},")
    if diagnostic.range:
        location, snippet = diagnostic.range, diagnostic.snippet
        inside = f", in {snippet.context}" if snippet and snippet.context else ""
        lines.append(f"  on {location.filename} line {location.start.line}{inside}:")
        code = snippet.code.splitlines() if snippet else []
        lines += [f"  {number}: {line}" for number, line in enumerate(code, location.start.line)]
    if diagnostic.address or diagnostic.range:
        lines.append("")
    return [*lines, *diagnostic.detail.splitlines(), *([""] if diagnostic.detail else [])]
