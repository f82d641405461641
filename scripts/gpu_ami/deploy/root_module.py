"""Runs Terraform in the root module: prepares the folder, shows each step, explains its failures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from gpu_ami import process, scratch
from gpu_ami.aws.sts import Identity
from gpu_ami.diagnostics import Diagnostic
from gpu_ami.errors import PipelineError, SafetyError, TerraformError, UsageError
from gpu_ami.files import read_text, write_atomic
from gpu_ami.foreign_text import reason
from gpu_ami.handover import conflicts
from gpu_ami.handover.change import settings_file
from gpu_ami.invocation import Invocation
from gpu_ami.process import Command
from gpu_ami.records.receipt import StateIdentity
from gpu_ami.terraform import backends, failures, plan_file
from gpu_ami.terraform.plan_file import Planned
from gpu_ami.terraform.terraform_command import Terraform, terraform_in
from gpu_ami.tools import terraform_tools

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*=.*", re.DOTALL)
_AWS = "registry.terraform.io/hashicorp/aws"
# `terraform plan -detailed-exitcode` ends with this when there is something to do.
_CHANGES = 2
_LARGEST_STATE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Root:
    """The root module of one job.

    Attributes:
        run: This invocation.
        terraform: Terraform in the module's folder.
        handed_over: The file that names the AMI.
        variables: The caller's variables, as ``name=value``.
    """

    run: Invocation = field(repr=False)
    terraform: Terraform
    handed_over: Path
    variables: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The folder as a person would type it."""
        return self.run.workspace.shown(self.terraform.folder)


@dataclass(frozen=True, kw_only=True)
class SavedPlan:
    """A plan in a file.

    Attributes:
        file: The file; Terraform's own form.
        sha256: Its digest.
        has_changes: Whether Terraform would do anything.
    """

    file: Path
    sha256: str
    has_changes: bool

    def check_unchanged(self) -> None:
        """Refuse to go on when the file is not the one that was judged.

        Raises:
            SafetyError: It is another one, or gone.
        """
        if not self.file.is_file() or _digest(self.file) != self.sha256:
            msg = f"The plan {self.file} changed after it was checked: nothing was applied. Run `invoke apply` again."
            raise SafetyError(msg)


def prepare(run: Invocation, variables: Sequence[str] = ()) -> Root:
    """Find Terraform and make its folder ready; in the sandbox a copy for the sandbox that runs.

    Raises:
        ToolError: Terraform is missing.
        UsageError: A variable is not ``name=value``, ``handover.file`` leads out of the repository, or the folder
            cannot be made.
        SafetyError: ``handover.file`` leads out of the sandbox.
    """
    for variable in variables:
        if _VARIABLE.fullmatch(variable) is None:
            shown = f"--terraform-var {variable[:60]!r}"
            msg = f"{shown} is not name=value: give for example --terraform-var spot_max_vcpus=32."
            raise UsageError(msg)
    handed_over = settings_file(run.workspace, run.settings.handover.file)
    tools = terraform_tools()
    if not run.options.dry_run:
        run.target.stage_terraform(handed_over)
    environment = (lambda _variables: {}) if run.options.dry_run else run.access.child_environment
    terraform = terraform_in(run.workspace.terraform, tools, environment)
    return Root(run, terraform, handed_over, tuple(variables))


def command_lines(root: Root, *, apply: bool) -> list[str]:
    """Return the exact commands that `plan`, or `apply`, runs."""
    file = Path("gpu-ami.tfplan")
    terraform = root.terraform
    commands = [terraform.init(backend=True), _plan_command(root, file), terraform.show(file), terraform.version()]
    return [str(command) for command in [*commands, *([terraform.apply(file)] if apply else [])]]


def begin(root: Root) -> Identity:
    """Say in which account and state things will change, refuse the wrong account, and have the folder initialized.

    One that was initialized before is taken as it is: `terraform plan` says when it wants `init` again.

    Raises:
        SafetyError: The settings name another account.
        AwsError: The credentials do not work.
        ToolError: There is no provider.
        TerraformError: Terraform refused.
    """
    if _is_initialized(root):
        who = _announced(root.run)
    else:
        with ThreadPoolExecutor(max_workers=1) as pool:
            announced = pool.submit(_announced, root.run)
            try:
                _init(root)
            except PipelineError:
                announced.result()  # wrong credentials are the likelier cause, and the clearer message
                raise
            who = announced.result()
    root.run.console.say(describe_state(root))
    return who


def describe_state(root: Root) -> str:
    """Return which state this is about: a workspace that the environment selects is not seen in the folder.

    Raises:
        UsageError: What Terraform noted of its backend cannot be read.
    """
    found = backends.location(root.terraform.folder, root.terraform.environment)
    chosen = " by TF_WORKSPACE" if root.terraform.environment.get("TF_WORKSPACE") else ""
    return f"Terraform state {found.shown(root.shown)}, workspace {found.workspace}{chosen}"


def _announced(run: Invocation) -> Identity:
    who = run.announce()
    for service in ("ec2", "batch"):
        run.access.client(service)  # to read a service's model takes longer than the calls, and here is the time
    return who


@contextlib.contextmanager
def saved_plan(root: Root) -> Iterator[SavedPlan]:
    """Plan into a file that only we can read, and that goes with the block: it holds every variable's value.

    Raises:
        TerraformError: Terraform refused, or its state is locked.
    """
    with scratch.subfolder() as folder:
        file = folder / "plan"
        status = _plan_into(root, file)
        if not file.is_file():
            meddled = failures.meddled("plan", root.terraform.environment)
            msg = f"`terraform plan` ended without a plan, as with -help or another -out. {meddled}".rstrip()
            raise TerraformError(msg)
        yield SavedPlan(file=file, sha256=_digest(file), has_changes=status == _CHANGES)


def read_plan(root: Root, saved: SavedPlan) -> Planned:
    """Return what is in the saved plan; the log gets it attribute by attribute.

    Raises:
        TerraformError: Terraform refused, or its plan makes no sense.
    """
    text = _captured(root, "show", root.terraform.show(saved.file))
    plan = plan_file.read(text, root.run.settings.handover.variable)
    # The log is for reading; a disk that is full now stops the act where it writes its receipt.
    with contextlib.suppress(OSError), (root.run.workspace.logs / _log("plan")).open("a", encoding="utf-8") as log:
        log.write(plan_file.differences(text))
    return plan


def apply(root: Root, saved: SavedPlan, log: Path, *, updates: Set[str] = frozenset()) -> frozenset[str]:
    """Carry out exactly the saved plan; Terraform goes on to its end even when this process is killed.

    Returns those of *updates*, the environments that the plan updates in place, which Batch had not carried out when
    the provider stopped waiting for it. With any other error of Terraform's that is one error more.

    Raises:
        SafetyError: The plan is not the one that was checked.
        TerraformError: Terraform failed.
        KeyboardInterrupt: The run was interrupted; Terraform has ended and noted what it did.
    """
    saved.check_unchanged()

    def late(status: int, found: Sequence[Diagnostic]) -> frozenset[str]:
        outwaited = failures.outwaited(found) if status != 0 else frozenset()
        # One that was being made is tainted now, whatever Batch makes of it.
        return outwaited if outwaited <= updates else frozenset()

    status, found = _follow(
        root,
        "apply",
        root.terraform.apply(saved.file),
        log,
        is_good=lambda status, found: status == 0 or bool(late(status, found)),
    )
    if left := late(status, found):
        return left
    _judged(root, "apply", status, found)
    return frozenset()


def provider_version(root: Root) -> Version | None:
    """Return the version of the aws provider that the folder uses; None when nobody knows."""
    try:
        selected = json.loads(_captured(root, "version", root.terraform.version()))["provider_selections"][_AWS]
        return Version(selected)
    except (TerraformError, ValueError, TypeError, LookupError):
        return None


def stored_state(root: Root) -> dict[str, Any]:
    """Return the state of a root module that may not be initialized; a local one is read without Terraform.

    Raises:
        TerraformError: It cannot be read.
        ToolError: The backend needs Terraform, and there is no provider.
    """
    if not _is_in_a_file(root):
        _init(root)
    return state(root)


def state(root: Root) -> dict[str, Any]:
    """Return the state of the initialized root module as it is stored; empty when there is none.

    Raises:
        TerraformError: It cannot be read.
    """
    if not _is_in_a_file(root):
        return _state_in(root, _captured(root, "state pull", root.terraform.state()))
    file = root.terraform.folder / "terraform.tfstate"
    return _state_in(root, read_text(file, what="Terraform state", limit_bytes=_LARGEST_STATE) if file.exists() else "")


def _is_in_a_file(root: Root) -> bool:
    """Whether the state is ``terraform.tfstate`` beside the code: no backend says otherwise, and no workspace."""
    folder, environment = root.terraform.folder, root.terraform.environment
    if "TF_WORKSPACE" in environment or (backends.data_folder(folder, environment) / "environment").exists():
        return False
    return not root.run.target.has_backend or backends.naming_file(folder, environment) is None


def state_identity(root: Root, account: str) -> StateIdentity:
    """Return which state the initialized root module has, for its receipts.

    Raises:
        UsageError: What Terraform noted of its backend cannot be read.
    """
    found, settings = backends.location(root.terraform.folder, root.terraform.environment), root.run.settings
    return StateIdentity(
        backend=found.backend,
        bucket=found.bucket,
        key=found.key,
        workspace=found.workspace,
        account=account,
        region=settings.region,
        family=settings.family,
    )


def _state_in(root: Root, text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError as exc:
        msg = f"The Terraform state of {root.shown} is not JSON: {reason(exc)}."
        raise TerraformError(msg) from exc
    return document if isinstance(document, dict) else {}


def _is_initialized(root: Root) -> bool:
    """Whether `init` has been run here before, with the backend where there is one."""
    data = backends.data_folder(root.terraform.folder, root.terraform.environment)
    return (data / "providers").is_dir() and (_is_in_a_file(root) or (data / "terraform.tfstate").is_file())


def _init(root: Root) -> None:
    """Install modules and provider, and connect to the backend."""
    status, found = _follow(root, "init", root.terraform.init(backend=True), root.run.workspace.logs / _log("init"))
    _judged(root, "init", status, found)


def _plan_into(root: Root, file: Path) -> int:
    """Run `terraform plan`, and `init` before a second one where the first asks for it; return its status."""
    log = root.run.workspace.logs / _log("plan")
    command, good = _plan_command(root, file), (0, _CHANGES)
    status, found = _follow(root, "plan", command, log, is_good=lambda status, _found: status in good)
    if status not in good and failures.wants_init(found):
        _init(root)
        status, found = _follow(root, "plan", command, log, is_good=lambda status, _found: status in good)
    return _judged(root, "plan", status, found, good=good)


def _log(subcommand: str) -> str:
    return f"terraform-{subcommand}.log"


def _plan_command(root: Root, file: Path) -> Command:
    command = root.terraform.plan(file)
    given = tuple(f"-var={variable}" for variable in root.variables)
    return Command((*command.argv, *given), cwd=command.cwd, env=command.env)


def _follow(
    root: Root,
    subcommand: str,
    command: Command,
    log: Path,
    *,
    is_good: Callable[[int, Sequence[Diagnostic]], bool] = lambda status, _found: status == 0,
) -> tuple[int, list[Diagnostic]]:
    """Run one of Terraform's long commands under the user's eyes; return its status and its errors.

    Whether the step is shown as one that failed is up to *is_good*, by the same two.

    Terraform writes the log itself, as JSON: it must not need us for it. When it has ended, however, a person is who
    reads there; only after a ``kill -9`` of ours the JSON stays.
    """
    with root.run.console.step(f"terraform {subcommand}") as step:
        try:
            status = process.follow(
                replace(command, needs_us=root.run.target.is_kept is False),
                log,
                lambda line: step(failures.said(line)),
                on_interrupt=lambda: step("interrupted, ending"),
            )
        finally:
            output = _made_readable(log)
        found = failures.errors(output)
        if not is_good(status, found):
            wants_init = subcommand == "plan" and failures.wants_init(found)
            step.fail("asked for `init` after" if wants_init else "failed after")
    return status, found


def _made_readable(log: Path) -> str:
    """Put text in the place of the JSON in *log*, and return that JSON; empty where there is no log.

    Terraform has ended by now: a disk that is full must not make what it did a failure.
    """
    try:
        output = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    with contextlib.suppress(OSError, PipelineError):
        write_atomic(log, failures.readable(output), what="log")
    return output


def _judged(
    root: Root, subcommand: str, status: int, found: Sequence[Diagnostic], *, good: tuple[int, ...] = (0,)
) -> int:
    if status not in good:
        raise _explained(root, subcommand, found)
    return status


def _explained(root: Root, subcommand: str, found: Sequence[Diagnostic]) -> PipelineError:
    file, not_taken = root.handed_over, None
    if file.exists() and not conflicts.is_taken(file, root.terraform.folder):
        not_taken = failures.NotTaken(
            variable=root.run.settings.handover.variable,
            advice=conflicts.not_taken(root.run.workspace.shown(file)),
        )
    environment = root.terraform.environment
    return failures.explain(subcommand, found, folder=root.shown, not_taken=not_taken, environment=environment)


def _captured(root: Root, subcommand: str, command: Command) -> str:
    done = process.run(command)
    if done.returncode != 0:
        raise _explained(root, subcommand, failures.errors(done.stdout, done.stderr))
    return done.stdout


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
