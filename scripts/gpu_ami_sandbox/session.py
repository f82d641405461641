"""Opening the sandbox: attach to the one that runs, or start one that ends with this invocation."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import os
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gpu_ami import __version__, collector
from gpu_ami.aws.access import Access, sandbox_environment
from gpu_ami.console import Console
from gpu_ami.errors import SafetyError, ToolError, UsageError
from gpu_ami.files import is_of_files, write_atomic
from gpu_ami.process import signals_to
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.account import LOOPBACK, DemoAccount
from gpu_ami_sandbox.session_file import Session, only_one, running_session, session_path

if TYPE_CHECKING:
    from gpu_ami_sandbox.aws.gate import Gate
    from gpu_ami_sandbox.aws.server import LocalAws
    from gpu_ami_sandbox.guest import Guest
    from gpu_ami_sandbox.guest.builder import Builder
    from gpu_ami_sandbox.guest.script import Script

__all__ = ["Sandbox", "builders", "exports", "open_sandbox", "running_session", "serve"]


@dataclass(frozen=True)
class _EntryPoint:
    """How a guest is reached: its port, which starts it where it has to, and its file systems."""

    port: Callable[[], int]
    root_of: Callable[[str], Path]


@dataclass(frozen=True)
class Sandbox:
    """An open sandbox.

    Attributes:
        access: The way to its AWS, for us and for the programs we start.
        account: What is in its demo account.
        attached: Whether it is another process's, which goes on without us.
        gate: The middleware in front of its AWS, for tests; None when it is another process's.
        identity: Names this one sandbox: files that another one left are not about its AWS.
        is_lasting: Whether an attached one goes on when this process has ended.
    """

    access: Access
    account: DemoAccount
    attached: bool
    gate: Gate | None = field(default=None, repr=False)
    identity: str = ""
    is_lasting: bool = True
    _token: str = field(default="", repr=False)
    _guest: _EntryPoint | None = field(default=None, repr=False)

    @property
    def guest_host(self) -> str | None:
        """Where the build instance's SSH answers; None without a guest."""
        return LOOPBACK if self._guest else None

    @property
    def guest_port(self) -> int | None:
        """The port of the build instance's SSH; None without a guest.

        The guest is started by whoever asks first: most tasks have nobody log in, and it takes longer than they do.

        Raises:
            ToolError: This machine cannot isolate commands.
        """
        return self._guest.port() if self._guest else None

    def guest_root(self, instance_id: str) -> Path:
        """Return the folder that is ``/`` of the build instance *instance_id*.

        Raises:
            ToolError: This sandbox was opened without a guest.
        """
        if self._guest is None:
            raise _no_guest()
        return self._guest.root_of(instance_id)


@contextlib.contextmanager
def open_sandbox(workspace: Workspace, *, region: str, console: Console, with_guest: bool) -> Iterator[Sandbox]:
    """Open the sandbox for one invocation.

    Attaches to a running one (`invoke sandbox`); otherwise starts one in this process and ends it with the
    block. Files stay under ``.sandbox/`` only.

    Args:
        workspace: Whose ``.sandbox/`` it is.
        region: The region of the demo account.
        console: Where progress is told.
        with_guest: Whether there is to be a build instance to log in to; it starts when its port is requested.

    Raises:
        SafetyError: Another invocation has a sandbox of its own in this folder right now.
        ToolError: A guest was requested and the running sandbox has none.
        UsageError: The running sandbox is of another version or in another region, there is no such region, or the
            sandbox's folder cannot be written to.
    """
    session = running_session(workspace)
    if session is not None:
        with _needing_the_disk(workspace):
            attached = _attach(workspace, session, region=region, with_guest=with_guest)
        yield attached
        return
    with contextlib.ExitStack() as stack:
        with _needing_the_disk(workspace):
            stack.enter_context(only_one(workspace))
            with console.step("Starting the sandbox"):
                sandbox, _ = _start(stack, workspace, region=region, with_guest=with_guest)
        yield sandbox


@contextlib.contextmanager
def _needing_the_disk(workspace: Workspace) -> Iterator[None]:
    """Turn what a file or the disk refuses while a sandbox starts into one line."""
    try:
        yield
    except OSError as exc:
        if not is_of_files(exc):
            # As a port that is taken: no folder would change that.
            raise
        where = f" ({exc.filename})" if exc.filename else ""
        msg = (
            f"The sandbox cannot start: {exc.strerror or exc}{where}. Make {workspace.shown(workspace.state)} a folder "
            "that you can write to, with some space, or a link to one on another disk."
        )
        raise UsageError(msg) from exc


def serve(
    workspace: Workspace,
    *,
    region: str,
    console: Console,
    stop: threading.Event | None = None,
) -> None:
    """Keep a sandbox up for other invocations until SIGINT, SIGTERM, SIGHUP or SIGQUIT (or *stop*).

    Raises:
        SafetyError: One runs already.
        UsageError: The sandbox's folder cannot be written to.
    """
    if (session := running_session(workspace)) is not None:
        msg = f"A sandbox runs already (process {session.pid}): use it, or end it with Ctrl-C in its terminal."
        raise SafetyError(msg)
    stop = stop or threading.Event()
    collector.resume()
    with contextlib.ExitStack() as stack:
        with _needing_the_disk(workspace):
            stack.enter_context(only_one(workspace))
            stack.enter_context(signals_to(lambda _number, _frame: stop.set()))
            with console.step("Starting the sandbox"):
                sandbox, token = _start_with_guest_if_possible(stack, workspace, region=region, console=console)
        stack.callback(session_path(workspace).unlink, missing_ok=True)
        write_atomic(session_path(workspace), _session_of(sandbox, token).as_json(), what="session file", mode=0o600)
        _announce(sandbox, console)
        stop.wait()
        console.say("Ending the sandbox.")


@contextlib.contextmanager
def lent(workspace: Workspace, sandbox: Sandbox) -> Iterator[None]:
    """Let other processes attach to this process's *sandbox* meanwhile; one that is attached they find themselves.

    Raises:
        UsageError: The sandbox's folder cannot be written to.
    """
    if sandbox.attached:
        yield
        return
    session = dataclasses.replace(_session_of(sandbox, sandbox._token), is_lasting=False)
    write_atomic(session_path(workspace), session.as_json(), what="session file", mode=0o600)
    try:
        yield
    finally:
        session_path(workspace).unlink(missing_ok=True)


def _attach(workspace: Workspace, session: Session, *, region: str, with_guest: bool) -> Sandbox:
    if not session.is_ours:
        theirs = f"version {session.version}" if session.version else "an earlier version"
        msg = (
            f"The running sandbox (process {session.pid}) is of {theirs}, this is {__version__}: "
            "end it with Ctrl-C in its terminal, then run `invoke sandbox` again."
        )
        raise UsageError(msg)
    if session.region != region:
        msg = f"The running sandbox is in {session.region}, not in {region}: give --region {session.region}, or end it."
        raise UsageError(msg)
    if with_guest and session.guest_port is None:
        raise _no_guest()
    entry_point = None
    if session.guest_port is not None:
        there = session.guest_port
        entry_point = _EntryPoint(lambda: there, _guest(workspace, _port(session.endpoint_url), region, list).root_of)
    return Sandbox(
        access=_access(workspace, session.endpoint_url, region),
        account=DemoAccount(**session.account),
        attached=True,
        identity=_identity(session.token),
        is_lasting=session.is_lasting,
        _guest=entry_point,
    )


def _start(stack: contextlib.ExitStack, workspace: Workspace, *, region: str, with_guest: bool) -> tuple[Sandbox, str]:
    """Start a sandbox that ends with *stack*; return it and its token."""
    with _without_aws_variables(), collector.paused():
        from gpu_ami.aws import service_models

        service_models.share()
        from gpu_ami_sandbox.aws.organizations import MAKERS, forget
        from gpu_ami_sandbox.aws.server import LocalAws
        from gpu_ami_sandbox.demo.demo_account import build_demo_account

        _check_region(region)
        aws = LocalAws(region)
        stack.callback(aws.stop)
        aws.start()
        now = datetime.now(timezone.utc)
        account = build_demo_account(aws.account_id, region, now)
        MAKERS[aws.account_id] = functools.partial(_demo_fleet, aws.account_id, region, now)
        stack.callback(forget, aws.account_id)
    entry_point = None
    if with_guest:
        found = functools.partial(builders, aws.account_id, region)
        guest = _guest(workspace, aws.port, region, found, functools.partial(_power_off, aws, region))
        entry_point = _late(stack, workspace, guest)
        _take_commands(stack, aws.account_id, guest, entry_point)
    sandbox = Sandbox(
        access=_access(workspace, aws.endpoint_url, region),
        account=account,
        attached=False,
        gate=aws.gate,
        identity=_identity(aws.token),
        _token=aws.token,
        _guest=entry_point,
    )
    return sandbox, aws.token


def _demo_fleet(account_id: str, region: str, now: datetime) -> Any:
    from gpu_ami_sandbox.demo.demo_fleet import build_demo_fleet

    return build_demo_fleet(account_id, region, now)


def _check_region(region: str) -> None:
    from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend

    if region not in RegionsAndZonesBackend.zones:
        msg = (
            f"The sandbox knows no region {region!r}: give --region, or set region in pipeline.yaml, such as us-east-1."
        )
        raise UsageError(msg)


def _late(stack: contextlib.ExitStack, workspace: Workspace, guest: Guest) -> _EntryPoint:
    """Return the entry point of a *guest* that starts when its port is first requested, and ends with *stack*."""

    @functools.cache
    def port() -> int:
        with _needing_the_disk(workspace):
            guest.start()
        stack.callback(guest.stop)
        return guest.port

    return _EntryPoint(port, guest.root_of)


def _take_commands(stack: contextlib.ExitStack, account_id: str, guest: Guest, entry_point: _EntryPoint) -> None:
    """Let Run Command's scripts run in the *guest*, until *stack* ends."""
    from gpu_ami_sandbox.aws.run_command import RUNNERS

    class Scripts:
        def start(self, of: str, instance_id: str, script: str) -> Script:
            _ = entry_point.port()
            return guest.script(_builder(account_id, of, instance_id), script)

    RUNNERS[account_id] = Scripts()
    stack.callback(RUNNERS.pop, account_id, None)


def _power_off(aws: LocalAws, region: str, instance_id: str) -> None:
    """Stop or terminate an instance that has switched itself off, as it was launched to."""
    from moto.ec2.models import ec2_backends

    with aws.one_at_a_time:
        backend = ec2_backends[aws.account_id][region]
        instance = next((i for i in backend.all_instances() if i.id == instance_id), None)
        if instance is None or instance.state != "running":
            return
        if instance.instance_initiated_shutdown_behavior == "terminate":
            backend.terminate_instances([instance_id])
        else:
            instance.stop()


def _start_with_guest_if_possible(
    stack: contextlib.ExitStack, workspace: Workspace, *, region: str, console: Console
) -> tuple[Sandbox, str]:
    """Start a sandbox; a machine that cannot have a guest still gets the local AWS."""
    attempt = contextlib.ExitStack()
    try:
        started = _start(attempt, workspace, region=region, with_guest=True)
        _ = started[0].guest_port  # others attach: it has to be up by then
    except ToolError as exc:
        attempt.close()
        console.warn(f"Without a build instance to log in to: {exc}")
        started = _start(attempt, workspace, region=region, with_guest=False)
    stack.enter_context(attempt)
    return started


def builders(account_id: str, region: str) -> list[Builder]:
    """Return the local instances that can be logged in to, the newest first."""
    from moto.ec2.models import ec2_backends

    backend = ec2_backends[account_id][region]
    instances = [i for i in backend.all_instances() if i.state in ("pending", "running") and i.key_name]
    return [
        _builder_of(backend, instance, pair.public_key)
        for instance in reversed(instances)
        if (pair := backend.key_pairs.get(instance.key_name)) is not None
    ]


def _builder(account_id: str, region: str, instance_id: str) -> Builder:
    """Return the local instance *instance_id*, which need not have a key pair to run commands."""
    from moto.ec2.models import ec2_backends

    backend = ec2_backends[account_id][region]
    instance = backend.get_instance(instance_id)
    pair = backend.key_pairs.get(instance.key_name) if instance.key_name else None
    return _builder_of(backend, instance, pair.public_key if pair else "")


def _builder_of(backend: Any, instance: Any, public_key: str) -> Builder:
    from gpu_ami_sandbox.aws.ec2.gpus import gpus_of
    from gpu_ami_sandbox.guest.builder import Builder

    user_data = base64.b64decode(str(instance.user_data or ""))
    image = backend.amis.get(instance.image_id)
    made_of, name = getattr(image, "made_of", None) or "", getattr(image, "name", None) or ""
    return Builder(instance.id, public_key, user_data, made_of, name, gpus_of(instance.instance_type, image))


def _guest(
    workspace: Workspace,
    endpoint_port: int,
    region: str,
    found: Callable[[], list[Builder]],
    powered_off: Callable[[str], object] = lambda _instance_id: None,
) -> Guest:
    from gpu_ami_sandbox.guest import Guest

    home = workspace.state / "guest"
    return Guest(home=home, endpoint_port=endpoint_port, region=region, builders=found, powered_off=powered_off)


def _access(workspace: Workspace, endpoint_url: str, region: str) -> Access:
    home = workspace.state / "home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "empty").write_bytes(b"")  # what AWS_CONFIG_FILE names
    environment = sandbox_environment(endpoint_url, region=region, home=home)
    return Access(region=region, endpoint_url=endpoint_url, environment=environment)


@contextlib.contextmanager
def _without_aws_variables() -> Iterator[None]:
    """Hide the user's AWS settings from moto, which opens boto3 sessions of its own as it starts."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _session_of(sandbox: Sandbox, token: str) -> Session:
    return Session(
        endpoint_url=str(sandbox.access.endpoint_url),
        pid=os.getpid(),
        token=token,
        guest_port=sandbox.guest_port,
        region=sandbox.access.region,
        account=sandbox.account.as_json(),
    )


def exports(sandbox: Sandbox) -> dict[str, str]:
    """Return the variables that lead any AWS program to this sandbox."""
    environment = sandbox.access.child_environment({})
    return {name: value for name, value in sorted(environment.items()) if name.startswith("AWS_")}


def _announce(sandbox: Sandbox, console: Console) -> None:
    console.say(
        "The sandbox is up: in another terminal, in this folder, commands with --sandbox use it. Begin with "
        "`invoke build apply --sandbox`. Ctrl-C here ends it."
    )
    console.say("For other programs:")
    for name, value in exports(sandbox).items():
        console.say_text(f"  export {name}={shlex.quote(value)}")
    if sandbox.guest_port is not None:
        console.say(f"The build instance's SSH is at {sandbox.guest_host}:{sandbox.guest_port}.")


def _identity(token: str) -> str:
    # The token itself opens the sandbox; what files are marked with must not.
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def _port(endpoint_url: str) -> int:
    return urlsplit(endpoint_url).port or 0


def _no_guest() -> ToolError:
    return ToolError("This sandbox has no build instance to log in to: run `invoke setup` on Linux and start it again.")
