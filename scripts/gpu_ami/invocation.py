"""One run of the command line: its options, settings, console and way to AWS."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami import collector
from gpu_ami.console import Console
from gpu_ami.errors import SafetyError, ToolError
from gpu_ami.options import Options, options_from
from gpu_ami.workspace import Workspace

if TYPE_CHECKING:
    from gpu_ami.aws.access import Access, Identity
    from gpu_ami.settings import Settings
    from gpu_ami_sandbox.session import Sandbox


class Invocation:
    """What every task of one command line shares; opened late, closed once.

    Args:
        root: The repository.
        options: The common options.
        console: Where to print.
    """

    def __init__(self, root: Path, options: Options, console: Console) -> None:
        """Open nothing yet: `invoke --list` and `--help` must stay instant."""
        self.options = options
        self.console = console
        self.workspace = Workspace(root=root, sandbox=options.sandbox)
        self._open = contextlib.ExitStack()

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings with the flags applied."""
        from gpu_ami.settings import load

        return load(self.workspace.settings, self.options)

    @functools.cached_property
    def sandbox(self) -> Sandbox:
        """The local AWS and guest: a running one, or one that ends with this invocation."""
        try:
            from gpu_ami_sandbox.session import open_sandbox
        except ImportError as exc:
            msg = f"The sandbox needs the Python package {exc.name}: run `uv sync`, which installs the sandbox group."
            raise ToolError(msg) from exc

        return self._open.enter_context(
            open_sandbox(
                self.workspace, region=self.settings.region, console=self.console, with_guest=_guest_is_possible()
            )
        )

    @property
    def is_kept(self) -> bool | None:
        """Whether what this invocation makes in the sandbox outlives it; None on AWS."""
        return self.sandbox.attached if self.options.sandbox else None

    @functools.cached_property
    def access(self) -> Access:
        """The way to AWS: the sandbox's with ``--sandbox``, the caller's credentials otherwise."""
        if self.options.sandbox:
            return self.sandbox.access
        from gpu_ami.aws.access import Access

        return Access(region=self.settings.region, profile=self.settings.profile)

    def in_sandbox(self) -> Invocation:
        """Return this invocation as it would be with ``--sandbox``."""
        return Invocation(self.workspace.root, dataclasses.replace(self.options, sandbox=True), self.console)

    def announce(self) -> Identity:
        """Say in which account and region the task will change things, and refuse the wrong account.

        Raises:
            SafetyError: The settings name another account.
            AwsError: The credentials do not work.
        """
        from gpu_ami.aws.access import identify

        who = identify(self.access)
        profile = "the sandbox" if self.options.sandbox else f"profile {self.settings.profile or 'default'}"
        self.console.say(f"account {who.account}, region {self.access.region}, {profile}")
        expected = self.settings.account
        if expected is not None and who.account != expected and not self.options.sandbox:
            msg = (
                f"The credentials are for account {who.account}, pipeline.yaml says {expected}: "
                "choose another profile with --profile."
            )
            raise SafetyError(msg)
        return who

    def private_file(self, name: str, text: str) -> Path:
        """Write *text* to a new file that only this user may read and return it; it is removed when the run ends."""
        import tempfile

        folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="gpu-ami-"))
        path = Path(folder) / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def close(self) -> None:
        """End what this invocation started."""
        self._open.close()


def _guest_is_possible() -> bool:
    # Only a build logs in to the guest; everything else works on a machine that cannot have one.
    from gpu_ami.tools import guest_tools

    try:
        guest_tools()
    except ToolError:
        return False
    return True


@functools.lru_cache(maxsize=1)
def current(root: Path, *, dry_run: bool = False) -> Invocation:
    """Return the invocation of this process, made from its command line and environment.

    Args:
        root: The repository.
        dry_run: Whether Invoke itself is in a dry run, whatever the command line shows.

    Raises:
        UsageError: The common options on the command line do not make sense.
    """
    import atexit

    collector.spare()
    options = options_from(sys.argv[1:], os.environ)
    options = dataclasses.replace(options, dry_run=options.dry_run or dry_run)
    invocation = Invocation(root, options, Console(options.output, options.query, sandbox=options.sandbox))
    atexit.register(invocation.close)
    return invocation
