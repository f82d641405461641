"""The build instances of one guest: each gets its file system, its user data run once, its commands isolated."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpu_ami_sandbox.guest import gpus, layout, machine
from gpu_ami_sandbox.guest.bubblewrap import Bind, Isolation, bwrap_arguments
from gpu_ami_sandbox.guest.builder import Builder
from gpu_ami_sandbox.guest.toolbox import Toolbox
from gpu_ami_sandbox.guest.userdata import read_user_data

Child = asyncio.subprocess.Process
Power = Literal["reboot", "poweroff"]

_KEPT_ROOTS = 5
_RUNTIMES = "/etc/docker-runtimes.d"
# What the emulated `shutdown` and timers write, below /run; `shutdown` as systemd's does.
_SCHEDULES = ("systemd/shutdown/scheduled", "systemd/shutdown/timer")
_USEC = re.compile(rb"USEC=(\d{1,17})\n")
_LONGEST_SCHEDULE = 200
_USER = {"HOME": layout.HOME, "USER": layout.USER, "LOGNAME": layout.USER, "PATH": layout.USER_PATH}
_ROOT = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "PATH": layout.ROOT_PATH}


@dataclass
class Instance:
    """One build instance that runs.

    Attributes:
        builder: Whose it is in the local AWS.
        isolation: What its commands can reach.
        boot: Done when its user data has run.
        is_off: It has been switched off from inside.
    """

    builder: Builder
    isolation: Isolation
    boot: asyncio.Task[None] | None = None
    is_off: bool = False


class BuildInstances:
    """Makes and keeps the instances. Belongs to one asyncio loop.

    Args:
        bwrap: bubblewrap.
        roots: Folder of their file systems, which stay when the process ends.
        memory: Folder of what is memory on an instance; the caller removes it.
        toolbox: What they share.
        region: Where they are.
        endpoint_port: The local AWS's port, the same inside.
        powered_off: Called in a thread with the id of an instance that has switched itself off.
    """

    def __init__(
        self,
        *,
        bwrap: Path,
        roots: Path,
        memory: Path,
        toolbox: Toolbox,
        region: str,
        endpoint_port: int,
        powered_off: Callable[[str], object] = lambda _instance_id: None,
    ) -> None:
        self._bwrap, self._roots, self._memory, self._toolbox = bwrap, roots, memory, toolbox
        self._region, self._port, self._powered_off = region, endpoint_port, powered_off
        self._instances: dict[str, Instance] = {}
        self._children: dict[Child, Instance] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def instance(self, builder: Builder) -> Instance:
        """Return the instance of *builder* when it has booted: it is made at the first call."""
        instance = self._instances.get(builder.instance_id)
        if instance is None:
            instance = self._make(builder)
            self._instances[builder.instance_id] = instance
            instance.boot = asyncio.create_task(self._boot(instance))
        if instance.boot is not None:
            # Several sessions may wait: one that goes away must not end the boot of the others.
            await asyncio.shield(instance.boot)
        return instance

    def is_off(self, builder: Builder) -> bool:
        """Return whether the instance of *builder* has switched itself off."""
        instance = self._instances.get(builder.instance_id)
        return instance is not None and instance.is_off

    async def start(self, instance: Instance, command: Sequence[str], *, as_root: bool = False) -> Child:
        """Start *command* in *instance* with three pipes; the caller calls `end` for it, whatever happens."""
        env = {"SHELL": "/bin/bash", "LANG": "C.UTF-8", **(_ROOT if as_root else _USER), **self._toolbox.profile}
        enter = [layout.INTERPRETER, "-IS", f"{layout.EMULATED}/enter.py", str(self._port), layout.SOCKET]
        child = await asyncio.create_subprocess_exec(
            *bwrap_arguments(
                self._bwrap,
                instance.isolation,
                [*enter, *command],
                env,
                cwd="/" if as_root else layout.HOME,
                as_root=os.geteuid() == 0,
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            start_new_session=True,
        )
        self._children[child] = instance
        return child

    async def end(self, child: Child) -> int:
        """End what is left of *child*'s command, whatever it put into the background, and return its status."""
        self._children.pop(child, None)
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # With bubblewrap ends its process namespace and everything in it.
                os.killpg(child.pid, signal.SIGKILL)
        return await child.wait()

    async def end_all(self) -> None:
        """End every command of every instance."""
        for timer in self._timers.values():
            timer.cancel()
        boots = [instance.boot for instance in self._instances.values() if instance.boot is not None]
        for boot in boots:
            boot.cancel()
        await asyncio.gather(*boots, return_exceptions=True)
        await asyncio.gather(*(self.end(child) for child in list(self._children)))

    def power(self, instance: Instance) -> Power | None:
        """Return what the last command did to the power, and do it: what was memory is gone, units start anew."""
        power = self._switched(instance)
        if power == "reboot":
            instance.boot = asyncio.create_task(self._boot(instance))
        elif power == "poweroff":
            self._tell_of_power_off(instance)
        else:
            self._arm(instance)
        return power

    def reboot(self, instance: Instance) -> None:
        """Switch *instance* off and on again, as its agent does for a script that asks for it."""
        self._forget_memory(instance)
        instance.boot = asyncio.create_task(self._boot(instance))

    def _tell_of_power_off(self, instance: Instance) -> None:
        """Let EC2 stop or terminate the instance; nobody here waits for that."""
        asyncio.get_running_loop().run_in_executor(None, self._powered_off, instance.builder.instance_id)

    def _arm(self, instance: Instance) -> None:
        """See to it that a power-off that was scheduled inside comes in time."""
        key = instance.builder.instance_id
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        due = _due(instance)
        if due is not None and not instance.is_off:
            wait_s = max(0.0, due - time.time())
            self._timers[key] = asyncio.get_running_loop().call_later(wait_s, self._switch_off, instance)

    def _switch_off(self, instance: Instance) -> None:
        due = _due(instance)
        if due is None or due > time.time():
            self._arm(instance)  # cancelled or put off meanwhile
            return
        instance.is_off = True
        for child in [child for child, of in self._children.items() if of is instance]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        self._forget_memory(instance)
        self._tell_of_power_off(instance)

    def _switched(self, instance: Instance) -> Power | None:
        powers: tuple[Power, ...] = ("reboot", "poweroff")
        for power in powers:
            # Only tested for, never followed: the guest can put anything there.
            if os.path.lexists(instance.isolation.run / "systemd" / "shutdown" / power):
                self._forget_memory(instance)
                instance.is_off = power == "poweroff"
                return power
        return None

    @staticmethod
    def _forget_memory(instance: Instance) -> None:
        isolation = instance.isolation
        for folder in (isolation.run, isolation.tmp, *((isolation.sys,) if isolation.sys else ())):
            machine.remove_tree(folder)
        _make_memory(isolation, instance.builder)

    def _make(self, builder: Builder) -> Instance:
        user_data = read_user_data(builder.user_data)
        root, parent = self._roots / builder.instance_id, self._parent_of(builder)
        machine.remove_tree(root)
        self._forget_old_roots(keep=parent)
        machine.make_root(root, builder, user_data, tools=self._toolbox.programs, region=self._region, parent=parent)
        memory = self._memory / builder.instance_id
        binds = self._toolbox.binds
        if builder.gpus is not None and builder.gpus.fault == "no-runtime":
            (memory / "no-runtimes").mkdir(parents=True)
            binds += (Bind(memory / "no-runtimes", _RUNTIMES),)
        name = machine.host_name(builder.instance_id)
        isolation = Isolation(
            root, memory / "run", memory / "tmp", binds, name, memory / "sys" if builder.gpus else None
        )
        _make_memory(isolation, builder)
        return Instance(builder, isolation)

    async def _boot(self, instance: Instance) -> None:
        """Start the units and run the user data; how that went is in the instance's own log."""
        while True:
            child = await self.start(instance, ["/usr/bin/cloud-init", "modules", "--mode=final"], as_root=True)
            try:
                await child.communicate()
            finally:
                await self.end(child)
            power = self._switched(instance)
            if power == "poweroff":
                self._tell_of_power_off(instance)
            if power != "reboot":
                self._arm(instance)
                return

    def _parent_of(self, builder: Builder) -> Path | None:
        """Return the file system that the AMI of *builder* was made of.

        Old ones are not kept for ever. Without it the instance starts as the ECS GPU AMI: what a bake brings, it
        brings again.
        """
        if Path(builder.parent).name != builder.parent:
            return None
        parent = self._roots / builder.parent
        return parent if builder.parent and parent.is_dir() and not parent.is_symlink() else None

    def _forget_old_roots(self, *, keep: Path | None) -> None:
        """Leave the newest roots of past builds, so that one more is within the limit, and the one to *keep*."""
        alive = {instance.isolation.root for instance in self._instances.values()} | {keep}
        old = sorted((p for p in self._roots.glob("*") if p not in alive), key=lambda p: p.lstat().st_mtime)
        for path in old[: max(0, len(old) - (_KEPT_ROOTS - 1))]:
            machine.remove_tree(path)


def _make_memory(isolation: Isolation, builder: Builder) -> None:
    """Make the new folders that hold what an instance keeps in memory, as a boot finds them."""
    machine.make_memory(isolation.run, isolation.tmp)
    if builder.gpus is not None and isolation.sys is not None:
        gpus.make_sys(isolation.sys, builder.gpus)
        gpus.rig(isolation.run, builder.gpus)


def _due(instance: Instance) -> float | None:
    """Return when the next power-off that was scheduled inside comes, in seconds of Unix time; None when none is."""
    times = [_scheduled(instance.isolation.run / name) for name in _SCHEDULES]
    return min((at for at in times if at is not None), default=None)


def _scheduled(path: Path) -> float | None:
    """Return when the power-off noted in *path* comes, in seconds of Unix time; None when none is, or it is no file.

    The guest can put anything there: a link is not followed, and more than such a file has is not read.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(number, "rb") as file:
        try:
            match = _USEC.match(file.read(_LONGEST_SCHEDULE))
        except OSError:
            return None
    return int(match[1]) / 1e6 if match else None
