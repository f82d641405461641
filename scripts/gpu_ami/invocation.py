"""One run of the command line: its options, settings, console and way to AWS."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import sys
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gpu_ami import collector
from gpu_ami.console import Console
from gpu_ami.errors import PipelineError, SafetyError
from gpu_ami.options import Options, options_from
from gpu_ami.target import LocalSandbox, Target, target_class
from gpu_ami.workspace import Workspace

if TYPE_CHECKING:
    from gpu_ami.aws.access import Access
    from gpu_ami.aws.sts import Identity
    from gpu_ami.settings import Settings


_Read = TypeVar("_Read")


# What `Invocation.once` is, for what is handed it alone.
Once = Callable[[Hashable, Callable[[], Any]], Any]


class Readings:
    """What a task has read for one of several families, so that it is not read again for the next one.

    It is of one task, and of the time before it has changed anything.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}

    def once(self, what: Hashable, read: Callable[[], _Read]) -> _Read:
        """Return what *read* returned when it was first called for *what*; a failure is tried again."""
        if what not in self._found:
            self._found[what] = read()
        found: _Read = self._found[what]
        return found

    def clear(self) -> None:
        """Forget all."""
        self._found.clear()


class Invocation:
    """What every task of one command line shares; opened late, closed once.

    Args:
        root: The repository.
        options: The common options.
        console: Where to print.
        family: Which of several families of the settings this is about; None where there is one, or for none.
        beside: The other families that the same task is carried out for.
        shared: The target of the invocation that this one is a part of.
    """

    def __init__(
        self,
        root: Path,
        options: Options,
        console: Console,
        *,
        family: str | None = None,
        beside: Sequence[str] = (),
        shared: Target | None = None,
    ) -> None:
        # Nothing is opened yet: `invoke --list` and `--help` must stay instant.
        self.options = options
        self.console = console
        self.family, self.beside = family, tuple(beside)
        # The tasks of the command line that come after the present one: nobody need be told to run those.
        self.coming: tuple[str, ...] = ()
        # None where the task is about one family: nothing is kept that nobody asks for again.
        self.readings: Readings | None = None
        kind = target_class(options)
        self.workspace = Workspace(root=root, sandbox=kind.is_sandbox, family=family)
        self._open = contextlib.ExitStack()
        self._has_told = False
        # A circle of references would leave the sandbox's end to the garbage collector, in whatever thread that runs.
        me = weakref.ref(self)

        def settings() -> Settings:
            run = me()
            assert run is not None, "the target reads settings only while its invocation lasts"
            return run.settings

        self.target: Target = kind(self.workspace, settings, console=console, dry_run=options.dry_run, shared=shared)
        self._open.callback(self.target.close)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings with the flags applied: the family's; the common ones where none of several is meant."""
        from gpu_ami.settings import load

        found = load(self.workspace.settings, self.options, is_required=self.target.needs_settings)
        return found if self.family is None else found.of_family(self.family)

    def of_family(self, family: str, *, beside: Sequence[str] = ()) -> Invocation:
        """Return what *family*, one of several, has of this invocation; the way to AWS is the same.

        Args:
            family: Its name.
            beside: The other families that the same task is carried out for: results say whose they are.
        """
        console = self.console.of_family(family, labelled=bool(beside))
        shared = self.target.shared or self.target
        made = Invocation(self.workspace.root, self.options, console, family=family, beside=beside, shared=shared)
        made.coming = self.coming
        self._open.callback(made.close)
        return made

    def once(self, what: Hashable, read: Callable[[], _Read]) -> _Read:
        """Return what *read* returns; of several families of one task it is called for the first alone.

        Args:
            what: What is read; nothing else of the task may have the same name.
            read: Reads it.
        """
        return read() if self.readings is None else self.readings.once(what, read)

    def forget_readings(self) -> None:
        """Have the next families read anew what was read for this one: something is changed now."""
        if self.readings is not None:
            self.readings.clear()

    def siblings(self) -> Iterator[Invocation]:
        """Yield what the other families of the settings have of this invocation."""
        for name in self.settings.names if self.family is not None else ():
            if name != self.family:
                yield self.of_family(name)

    @functools.cached_property
    def access(self) -> Access:
        """The way to AWS: the sandbox's with ``--sandbox``, the caller's credentials otherwise."""
        return self.target.access

    def serve_sandbox(self) -> None:
        """Keep a sandbox up for other invocations until Ctrl-C, with or without ``--sandbox``.

        Raises:
            SafetyError: One runs already.
        """
        if self.options.dry_run:
            self.console.say("DRY RUN: would start the local AWS and guest.")
            return
        options = dataclasses.replace(self.options, sandbox=True)
        here = Invocation(self.workspace.root, options, self.console)
        assert isinstance(here.target, LocalSandbox)
        here.target.serve()

    def announce(self) -> Identity:
        """Say in which account and region the task will change things, and refuse the wrong account.

        Raises:
            SafetyError: The settings name another account.
            AwsError: The credentials do not work.
        """
        from gpu_ami.aws.sts import identify

        who = identify(self.access)
        self.console.say(f"account {who.account}, region {self.access.region}, {self.target.label}")
        expected = self.target.account
        if expected is not None and who.account != expected:
            msg = (
                f"The credentials are for account {who.account}, pipeline.yaml says {expected}: "
                "choose another profile with --profile."
            )
            raise SafetyError(msg)
        return who

    def tell_cut_off_builds(self) -> None:
        """Name, once, the builds that were killed before they could clean up: a builder goes on, and costs."""
        if self._has_told:
            return
        self._has_told = True
        from gpu_ami.records import unfinished_build

        found = unfinished_build.cut_off(self.workspace.logs)
        for build in found if found and self.target.is_lasting else ():
            where = "" if build.region == self._setting("region") else f" --region {build.region}"
            where += f" --profile {shlex.quote(build.profile)}" if build.profile else ""
            other = self._how_to_mean(build.whose.family)
            self.console.warn(
                f"Build {build.run_id} was killed before it had cleaned up; its builder may still run, and cost. "
                f"`invoke sweep{where}`{other} shows what is left in account {build.whose.account}, and removes it "
                "with --yes once it cannot be alive."
            )

    def _how_to_mean(self, family: str) -> str:
        """Return what has to be given for a task to be about *family*, as a part of a sentence."""
        try:
            names = self.settings.names
        except PipelineError:
            return ""
        return "" if family in names else f", with `family: {family}` in the settings,"

    def _setting(self, name: Literal["region"]) -> str | None:
        """Return a setting of this invocation; None where the settings cannot be used, of which the task tells."""
        try:
            return str(getattr(self.settings, name))
        except PipelineError:
            return None

    def private_file(self, name: str, text: str) -> Path:
        """Write *text* to a new file that only this user may read and return it; it is removed when the run ends."""
        path = self.private_folder() / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def private_folder(self) -> Path:
        """Return a new folder that only this user may enter; it is removed when the run ends."""
        from gpu_ami import scratch

        return self._open.enter_context(scratch.subfolder())

    def close(self) -> None:
        """End what this invocation started."""
        self._open.close()


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
    from gpu_ami import scratch

    scratch.remove_dead()
    options = options_from(sys.argv[1:], os.environ)
    options = dataclasses.replace(options, dry_run=options.dry_run or dry_run)
    family = options.families[0] if len(options.families) == 1 else None
    console = Console(options.output, options.query, sandbox=target_class(options).is_sandbox, family=family)
    invocation = Invocation(root, options, console)
    atexit.register(invocation.close)
    return invocation
