"""Parses the flags and arguments of a docker command, and describes such a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gpu_ami_sandbox.guest.programs.system import System


class Arguments:
    """The arguments of a docker command, told apart.

    Attributes:
        plain: Those that are no flags.
        flags: The flags by their long names; those without a value have an empty one.
        repeated: All values of the flags that have one, by long name.
        unknown: The first flag that the command does not have.
    """

    def __init__(self, arguments: list[str], flags: str, valued: str = "", *, until_plain: bool = False) -> None:
        """Tell flags from values.

        Args:
            arguments: Behind the command's name.
            flags: The command's flags without a value, such as ``-q,--quiet --no-trunc``.
            valued: Its flags with one.
            until_plain: Everything from the first plain argument on is another program's, as in `docker run`.
        """
        self.plain: list[str] = []
        self.flags: dict[str, str] = {}
        self.repeated: dict[str, list[str]] = {}
        self.unknown = ""
        switches, settings = _names(flags), _names(valued)
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            name, given, value = argument.partition("=")
            if not argument.startswith("-") or argument == "-":
                self.plain.append(argument)
                if until_plain:
                    self.plain += rest
                    return
            elif name in settings:
                self.flags[settings[name]] = value if given or not rest else rest.pop(0)
                self.repeated.setdefault(settings[name], []).append(self.flags[settings[name]])
            elif name in switches:
                self.flags[switches[name]] = value
            elif not argument.startswith("--") and all(f"-{letter}" in switches for letter in argument[1:]):
                self.flags |= {switches[f"-{letter}"]: "" for letter in argument[1:]}
            else:
                self.unknown = self.unknown or argument

    def has(self, flag: str) -> bool:
        """Return whether *flag* was given, by its long name."""
        return flag in self.flags


def _names(spec: str) -> dict[str, str]:
    """Return every flag of a list such as ``-q,--quiet --rm`` with its long name."""
    return {name: flag.rpartition(",")[2] for flag in spec.split() for name in flag.split(",")}


class Command(NamedTuple):
    """One docker command.

    Attributes:
        function: Runs it.
        flags: Names of its flags without a value.
        valued: Names of its flags with one.
        arguments: How many plain arguments it takes; None is any number.
        needs_daemon: Whether it asks the daemon.
    """

    function: Callable[[Arguments, System], int]
    flags: str = ""
    valued: str = ""
    arguments: int | None = None
    needs_daemon: bool = True
