"""The SSH gateway of the guest: accepts the key of a running build and runs its commands isolated."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

import asyncssh

from gpu_ami_sandbox.guest import layout
from gpu_ami_sandbox.guest.builder import Builder
from gpu_ami_sandbox.guest.instances import BuildInstances, Child

Process: TypeAlias = asyncssh.SSHServerProcess[bytes]

_CHUNK = 256 * 1024
_LOG_IN_WITHIN_S = 60


class Gateway:
    """A running SSH server on a free loopback port.

    Args:
        instances: Where the commands run.
        builders: Whose keys are let in; called at each log-in, in a thread.
    """

    def __init__(self, instances: BuildInstances, builders: Callable[[], list[Builder]]) -> None:
        self.instances, self.builders = instances, builders
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.visited = asyncio.Event()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def open(self) -> int:
        """Start to listen and return the port."""
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Visitor(self),
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            encoding=None,
            line_editor=False,
            config=None,
            login_timeout=_LOG_IN_WITHIN_S,
            compression_algs=None,
            agent_forwarding=False,
            x11_forwarding=False,
            gss_host=None,
        )
        port: int = self._acceptor.get_port()
        return port

    async def close(self) -> None:
        """Let nobody in any more and break what is connected."""
        if self._acceptor is not None:
            self._acceptor.close()
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in connections))


class _Visitor(asyncssh.SSHServer):
    """One connection."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._instances = gateway, gateway.instances
        self._builder: Builder | None = None
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection, to break it when the instance or the guest goes down."""
        self._connection = conn
        self._gateway.connections.add(conn)
        self._gateway.visited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh calls it so
        """Forget the connection."""
        if self._connection is not None:
            self._gateway.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - asyncssh calls it so
        """Ask everybody for a key."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Offer keys, and by that nothing else."""
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Return whether *key* is the one of an instance that is being built; the newest such instance is meant."""
        if username != layout.USER:
            return False
        expected = key.convert_to_public().public_data
        for builder in await asyncio.to_thread(self._gateway.builders):
            if _public_data(builder.public_key) == expected:
                self._builder = builder
                return not self._instances.is_off(builder)
        return False

    def session_requested(self) -> asyncssh.SSHServerSession[Any]:
        """Open a session; its command runs in the isolation of the instance whose key it was."""
        return _Session(self._serve)

    async def _serve(self, process: Process) -> None:
        if self._builder is None:  # pragma: no cover - a session follows a log-in
            process.exit(255)
            return
        instance = await self._instances.instance(self._builder)
        if instance.is_off:
            self._drop()
            return
        child = await self._instances.start(instance, _shell(process.command))
        try:
            status = await _attend(process, child)
        finally:
            await self._instances.end(child)
        if self._instances.power(instance):
            self._drop()
        elif status is not None and status >= 0:
            process.exit(status)
        else:
            process.exit_with_signal("KILL")

    def _drop(self) -> None:
        """Break the connection, as an instance does when it goes down."""
        if self._connection is not None:
            self._connection.abort()


class _Session(asyncssh.SSHServerProcess[bytes]):
    """One command; a terminal is granted on request, as Packer may, but pipes are what the command gets."""

    def __init__(self, serve: Callable[[Process], Any]) -> None:
        super().__init__(serve, None, 3, False)  # neither SFTP nor SCP of asyncssh's own: they work on the host

    def subsystem_requested(self, subsystem: str) -> bool:  # noqa: ARG002 - asyncssh calls it so
        """Know none: file transfer is `scp`, run as a command."""
        return False


def _shell(command: str | None) -> list[str]:
    """Return the arguments that run *command* as a login does; without one the client gets a shell."""
    return ["/bin/bash", "-c", command] if command is not None else ["/bin/bash", "-l"]


async def _attend(process: Process, child: Child) -> int | None:
    """Carry the three streams until the command ends; return its status, None when the client went away first."""
    if child.stdin is None or child.stdout is None or child.stderr is None:  # pragma: no cover - all are pipes
        msg = "no pipes"
        raise AssertionError(msg)
    feeding = asyncio.create_task(_feed(process, child.stdin))
    watching = asyncio.create_task(process.channel.wait_closed())
    running = asyncio.create_task(_until_end(process, child))
    try:
        await asyncio.wait((watching, running), return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        for task in (feeding, watching, running):
            task.cancel()
        await asyncio.gather(feeding, watching, running, return_exceptions=True)


async def _until_end(process: Process, child: Child) -> int | None:
    try:
        await asyncio.gather(_drain(child.stdout, process.stdout), _drain(child.stderr, process.stderr))
    except (BrokenPipeError, ConnectionError, asyncssh.Error):
        return None
    return await child.wait()


async def _drain(source: asyncio.StreamReader | None, target: asyncssh.SSHWriter[bytes]) -> None:
    while source is not None and (data := await source.read(_CHUNK)):
        target.write(data)
        await target.drain()


async def _feed(process: Process, target: asyncio.StreamWriter) -> None:
    """Give the client's input to the command, up to its end."""
    with contextlib.suppress(ConnectionError, asyncssh.Error):
        while True:
            try:
                data = await process.stdin.read(_CHUNK)
            except asyncssh.TerminalSizeChanged:
                continue
            if not data:
                break
            target.write(data)
            await target.drain()
    target.close()


def _public_data(line: str) -> bytes | None:
    try:
        data: bytes = asyncssh.import_public_key(line).public_data
    except (asyncssh.KeyImportError, ValueError):
        return None
    return data
