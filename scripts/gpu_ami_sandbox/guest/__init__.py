"""The build instance of the sandbox: an SSH server whose commands run isolated on an imitation of the ECS GPU AMI."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.errors import ToolError
from gpu_ami_sandbox.guest.builder import Builder
from gpu_ami_sandbox.guest.script import Ran, Script

if TYPE_CHECKING:
    from gpu_ami_sandbox.guest.instances import BuildInstances

_COMPILE = "import compileall, os, sys; os.nice(10); [compileall.compile_dir(p, quiet=2) for p in sys.argv[1:]]"

__all__ = ["Builder", "Guest", "Ran", "Script"]


class Guest:
    """An SSH server on a free loopback port that answers for every instance being built.

    Args:
        home: Folder for its files. Each instance's file system stays in ``home/roots``.
        endpoint_port: Loopback port of the local AWS, all that the guest can reach outside itself.
        region: The region of the local AWS.
        builders: Returns the instances that can be logged in to right now, the newest first; called in a
            thread at each log-in.
        powered_off: Called in a thread with the id of an instance that has switched itself off.
    """

    def __init__(
        self,
        *,
        home: Path,
        endpoint_port: int,
        region: str,
        builders: Callable[[], list[Builder]],
        powered_off: Callable[[str], object] = lambda _instance_id: None,
    ) -> None:
        self._home, self._endpoint_port = home.absolute(), endpoint_port
        self._region, self._builders, self._powered_off = region, builders, powered_off
        self._instances: BuildInstances | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._port: int | None = None
        self._failure: BaseException | None = None

    @property
    def port(self) -> int:
        """The port that SSH answers at."""
        if self._port is None:
            msg = "the guest was not started"
            raise RuntimeError(msg)
        return self._port

    def root_of(self, instance_id: str) -> Path:
        """Return the folder that is ``/`` of *instance_id*; it is there after the first log-in."""
        return self._home / "roots" / instance_id

    def start(self) -> None:
        """Open the port.

        Raises:
            ToolError: This system cannot isolate commands, or a program that the guest borrows is missing.
        """
        from gpu_ami.tools import guest_tools

        bwrap = guest_tools().bwrap.path
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(bwrap, ready), name="guest", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure

    def stop(self) -> None:
        """Close the port, end every command and whatever it left in the background."""
        if self._thread is None or self._loop is None or self._ending is None:
            return
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()
        self._thread = self._port = None

    def script(self, builder: Builder, text: str) -> Script:
        """Start the shell script *text* as root in the instance of *builder*, when that has booted."""
        if self._loop is None or self._instances is None:
            msg = "the guest was not started"
            raise RuntimeError(msg)
        from gpu_ami_sandbox.guest.run_script import run_script

        return Script(asyncio.run_coroutine_threadsafe(run_script(self._instances, builder, text), self._loop))

    def _run(self, bwrap: Path, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(bwrap, ready))
        except (ToolError, OSError) as exc:
            self._failure = exc
        finally:
            ready.set()

    async def _serve(self, bwrap: Path, ready: threading.Event) -> None:
        from gpu_ami_sandbox.guest import machine, relay, ssh, toolbox
        from gpu_ami_sandbox.guest.instances import BuildInstances

        live = self._home / "live"  # what must not outlive this process
        machine.remove_tree(live)
        live.mkdir(parents=True, mode=0o700)
        # For this user only: a guest of root's can leave set-user-id files in its file system.
        (self._home / "roots").mkdir(exist_ok=True)
        (self._home / "roots").chmod(0o700)
        try:
            box = toolbox.make_toolbox(live / "toolbox", region=self._region, endpoint_port=self._endpoint_port)
            instances = BuildInstances(
                bwrap=bwrap,
                roots=self._home / "roots",
                memory=live,
                toolbox=box,
                region=self._region,
                endpoint_port=self._endpoint_port,
                powered_off=self._powered_off,
            )
            self._instances = instances
            self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
            way_out = relay.Relay(self._endpoint_port)
            await way_out.open(box.socket)
            gateway = ssh.Gateway(instances, self._builders)
            compiling = asyncio.create_task(_compile_aws_cli(gateway.visited))
            self._port = await gateway.open()
            ready.set()
            await self._ending.wait()
            await gateway.close()
            await instances.end_all()
            await way_out.close()
            compiling.cancel()
            await asyncio.gather(compiling, return_exceptions=True)
        finally:
            machine.remove_tree(live)


async def _compile_aws_cli(visited: asyncio.Event) -> None:
    """Give the AWS CLI its bytecode where the installer gave it none: 1.4 s once, then 0.6 s less for each call.

    Even to see whether it has costs a second. Most commands have nobody log in, so the first visitor is waited for.
    """
    from gpu_ami_sandbox.guest import interpreter

    await visited.wait()
    packages = await asyncio.to_thread(interpreter.uncompiled)
    if not packages:
        return
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _COMPILE, *map(str, packages)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await child.wait()
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
