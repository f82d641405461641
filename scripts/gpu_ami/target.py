"""The target of an invocation: AWS, or the sandbox; what differs between them is decided here.

The sandbox is a package of its own, which only this module imports.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gpu_ami.console import Console
from gpu_ami.errors import SafetyError, ToolError
from gpu_ami.options import Options
from gpu_ami.workspace import Workspace, auto_variables

if TYPE_CHECKING:
    from gpu_ami.aws.access import Access
    from gpu_ami.settings import Fleet, Settings
    from gpu_ami_sandbox.session import Sandbox

# Variable to its value and where that comes from, for messages.
Sourced = Mapping[str, tuple[str, str]]


class Target(ABC):
    """Where one invocation works.

    Args:
        workspace: The repository's folders.
        settings: Reads the settings; only called where they are needed.
        console: Where to print.
        dry_run: Whether nothing may be started or written.
        shared: The target of another family, whose way to AWS is ours, too; None opens one.

    Attributes:
        is_sandbox: Which of the two: for what results say, the folders, and the checks that only one has.
        asks_first: Whether a person confirms what cannot be undone.
        has_backend: Whether Terraform's state is where the code says; otherwise it is a file beside the code.
        is_shared: Whether what is written is for others too, so that it is to be committed; others may then have
            files that this working tree does not.
        needs_settings: Whether there has to be a settings file.
    """

    is_sandbox: ClassVar[bool]
    asks_first: ClassVar[bool]
    has_backend: ClassVar[bool]
    is_shared: ClassVar[bool]
    needs_settings: ClassVar[bool]

    def __init__(
        self,
        workspace: Workspace,
        settings: Callable[[], Settings],
        *,
        console: Console,
        dry_run: bool = False,
        shared: Target | None = None,
    ) -> None:
        self.workspace = workspace
        self.shared = shared
        self.console = console
        self.dry_run = dry_run
        self._settings = settings
        self._open = contextlib.ExitStack()

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of the invocation.

        Raises:
            UsageError: They cannot be used.
        """
        return self._settings()

    @property
    @abstractmethod
    def access(self) -> Access:
        """The way to AWS."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Whose credentials are used, for messages."""

    @property
    @abstractmethod
    def account(self) -> str | None:
        """The account that the credentials must be for; None is any."""

    @property
    @abstractmethod
    def fleet(self) -> Fleet | None:
        """The other accounts over which a clean-up may plan; None where there are none."""

    @property
    @abstractmethod
    def is_kept(self) -> bool | None:
        """Whether what this invocation makes in the sandbox outlives it; None on AWS."""

    @property
    @abstractmethod
    def is_lasting(self) -> bool:
        """Whether what earlier invocations, or earlier tasks of this one, made can still be there."""

    @property
    @abstractmethod
    def cache(self) -> Path:
        """The folder for prices that were looked up."""

    @property
    @abstractmethod
    def price_table(self) -> Path | None:
        """The price table that `invoke prices` refreshes; None is the pipeline's own."""

    @property
    @abstractmethod
    def init_file(self) -> Path:
        """The file that `invoke init` writes."""

    @property
    @abstractmethod
    def user_variables(self) -> tuple[Path, ...]:
        """The files with the user's own Packer variables that a build reads, in Packer's order: the last counts."""

    @property
    def auto_variables(self) -> tuple[Path, ...]:
        """The variables files that Packer reads by itself in a build, in its order: none of another family's."""
        return auto_variables(self.workspace.packer)

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """The caller's environment as far as programs get it: ``PKR_VAR_…`` in it are values of Packer's variables."""

    @abstractmethod
    def poll_s(self, aws_s: float) -> float:
        """Return how long to rest between two calls, where on AWS it is *aws_s*; seconds."""

    @abstractmethod
    def check_builder(self) -> None:
        """Make sure that a builder can be logged in to.

        Raises:
            ToolError: This machine cannot have one.
        """

    @abstractmethod
    def check_hand_over(self, file: Path) -> None:
        """Make sure that an AMI of this target may be written to *file*.

        Raises:
            SafetyError: It may not.
        """

    @abstractmethod
    def staged_variables(self, *, builder: bool) -> Path | None:
        """Return the file with Packer's variables that this target makes; None where the user keeps one.

        Args:
            builder: Whether Packer is going to run, so that there has to be a builder to log in to.

        Raises:
            UsageError: The copies cannot be made.
            ToolError: This machine cannot have a builder.
        """

    @abstractmethod
    def stage_terraform(self, handed_over: Path) -> None:
        """Make Terraform's folder ready; *handed_over* is the file with the AMI.

        Raises:
            UsageError: A file cannot be written.
        """

    @abstractmethod
    def init_values(self) -> tuple[Sourced, str]:
        """Return what this target knows of Packer's variables, and why Terraform's state knows no more; else empty."""

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Let the invocations that this one starts in the block work where it does."""
        yield

    def close(self) -> None:
        """End what this target started."""
        self._open.close()


class Aws(Target):
    """An account on AWS, by the caller's credentials."""

    is_sandbox = False
    asks_first = True
    has_backend = True
    is_shared = True
    needs_settings = True

    @functools.cached_property
    def access(self) -> Access:
        if self.shared is not None:
            return self.shared.access
        from gpu_ami.aws.access import Access

        return Access(region=self.settings.region, profile=self.settings.profile)

    @property
    def label(self) -> str:
        return f"profile {self.settings.profile or 'default'}"

    @property
    def account(self) -> str | None:
        return self.settings.account

    @property
    def fleet(self) -> Fleet | None:
        return self.settings.fleet

    @property
    def is_kept(self) -> bool | None:
        return None

    @property
    def is_lasting(self) -> bool:
        return True

    @property
    def cache(self) -> Path:
        from gpu_ami.tools.cache import user_cache

        return user_cache().root

    @property
    def price_table(self) -> Path | None:
        return None

    @property
    def init_file(self) -> Path:
        return self.workspace.root / self.settings.variables_file

    @property
    def user_variables(self) -> tuple[Path, ...]:
        # A build hands its own file over by name, and so behind what Packer finds by itself.
        file = self.workspace.root / self.settings.variables_file
        return (*self.auto_variables, *((file,) if file.exists() else ()))

    @property
    def auto_variables(self) -> tuple[Path, ...]:
        others = {(self.workspace.root / name).resolve() for name in self.settings.other_variables_files}
        return tuple(path for path in auto_variables(self.workspace.packer) if path.resolve() not in others)

    @property
    def environment(self) -> Mapping[str, str]:
        return os.environ

    def poll_s(self, aws_s: float) -> float:
        return aws_s

    def check_builder(self) -> None:
        """Nothing to check here: the preflight queries EC2."""

    def check_hand_over(self, file: Path) -> None:
        """Every file may name an AMI of the account."""

    def staged_variables(self, *, builder: bool) -> Path | None:
        del builder
        return None

    def stage_terraform(self, handed_over: Path) -> None:
        """The folder is used as it is."""

    def init_values(self) -> tuple[Sourced, str]:
        return {}, ""


class LocalSandbox(Target):
    """The local AWS and guest: one that runs already, or one that ends with this invocation."""

    is_sandbox = True
    asks_first = False
    has_backend = False
    is_shared = False
    needs_settings = False

    def __init__(
        self,
        workspace: Workspace,
        settings: Callable[[], Settings],
        *,
        console: Console,
        dry_run: bool = False,
        shared: Target | None = None,
    ) -> None:
        super().__init__(workspace, settings, console=console, dry_run=dry_run, shared=shared)
        workspace.check_sandbox_folder()

    @functools.cached_property
    def sandbox(self) -> Sandbox:
        """The open sandbox.

        Raises:
            ToolError: Its Python packages are not installed.
        """
        if isinstance(self.shared, LocalSandbox):
            return self.shared.sandbox
        where, region, console = self.workspace, self.settings.region, self.console
        try:
            from gpu_ami_sandbox.session import open_sandbox

            opened = open_sandbox(where, region=region, console=console, with_guest=_can_have_guest())
            return self._open.enter_context(opened)
        except ImportError as exc:
            msg = f"The sandbox needs the Python package {exc.name}: run `uv sync`, which installs the sandbox group."
            raise ToolError(msg) from exc

    @property
    def access(self) -> Access:
        return self.sandbox.access

    @property
    def label(self) -> str:
        return "the sandbox"

    @property
    def account(self) -> str | None:
        return None

    @property
    def fleet(self) -> Fleet | None:
        from gpu_ami_sandbox.fleet import demo_fleet

        # Whatever accounts the settings name, there are none of them here.
        return demo_fleet(self.sandbox.account.account_id)

    @property
    def is_kept(self) -> bool | None:
        return self.sandbox.attached and self.sandbox.is_lasting

    @property
    def is_lasting(self) -> bool:
        if self.shared is not None:
            return self.shared.is_lasting
        from gpu_ami_sandbox.session_file import running_session

        return "sandbox" in vars(self) or running_session(self.workspace) is not None

    @property
    def cache(self) -> Path:
        return self.workspace.state

    @property
    def price_table(self) -> Path | None:
        return self.workspace.state / "prices.yaml"

    @property
    def init_file(self) -> Path:
        # Not in .sandbox/packer/: each build makes that anew, and Packer would read the file there.
        family, name = self.workspace.family, Path(self.settings.variables_file).name
        return self.workspace.state / (f"{family}-{name}" if family else name)

    @property
    def user_variables(self) -> tuple[Path, ...]:
        return ()

    @property
    def environment(self) -> Mapping[str, str]:
        # Programs get an allow-list of ours, without any PKR_VAR_: see `sandbox_environment`.
        return {}

    def poll_s(self, aws_s: float) -> float:
        return min(aws_s, 0.1)

    def check_builder(self) -> None:
        from gpu_ami.tools import guest_tools

        guest_tools()

    def check_hand_over(self, file: Path) -> None:
        workspace = self.workspace
        path, home = file.resolve(), workspace.root.resolve()
        if path.is_relative_to(home) and not path.is_relative_to(workspace.state.resolve()):
            msg = f"{workspace.shown(file)} is no file of the sandbox's: leave --file out, or name a copy of it."
            raise SafetyError(msg)

    def staged_variables(self, *, builder: bool) -> Path | None:
        from gpu_ami.files import write_atomic

        family = self.workspace.family
        file = self.workspace.packer / (f"{family}.sandbox.pkrvars.json" if family else "sandbox.pkrvars.json")
        if not self.dry_run:
            from gpu_ami_sandbox.packer_values import packer_values
            from gpu_ami_sandbox.staging import stage

            stage(self.workspace)
            values = packer_values(self.sandbox, self.workspace, guest=builder)
            write_atomic(file, json.dumps(values, indent=2) + "\n", what="sandbox's Packer variables")
        return file

    def stage_terraform(self, handed_over: Path) -> None:
        from gpu_ami_sandbox.staging import stage_terraform
        from gpu_ami_sandbox.terraform_values import prepare_terraform

        workspace, sandbox = self.workspace, self.sandbox
        stage_terraform(workspace)
        prepare_terraform(sandbox, workspace.terraform, handed_over)

    def init_values(self) -> tuple[Sourced, str]:
        from gpu_ami_sandbox.packer_values import packer_values
        from gpu_ami_sandbox.terraform_values import was_prepared

        workspace = self.workspace
        values = packer_values(self.sandbox, workspace, guest=False)
        known = {name: (str(value), "the demo account") for name, value in values.items()}
        # The state of a sandbox that has ended names what is gone.
        is_current = was_prepared(self.sandbox, workspace.terraform)
        return known, "" if is_current else "nothing was applied in this sandbox yet"

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        if self.is_kept:
            yield
            return
        from gpu_ami_sandbox.session import lent

        with lent(self.workspace, self.sandbox):
            yield

    def serve(self) -> None:
        """Keep the sandbox up for other invocations until Ctrl-C.

        Raises:
            SafetyError: One runs already.
        """
        from gpu_ami_sandbox.session import serve

        serve(self.workspace, region=self.settings.region, console=self.console)


def target_class(options: Options) -> type[Target]:
    """Return the kind of target that *options* choose."""
    return LocalSandbox if options.sandbox else Aws


def _can_have_guest() -> bool:
    # Only a build logs in to the guest; everything else works on a machine that cannot have one.
    from gpu_ami.tools import guest_tools

    try:
        guest_tools()
    except ToolError:
        return False
    return True
