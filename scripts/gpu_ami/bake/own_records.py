"""Where each of several families has the files that Packer writes: manifest and release record are no two families'."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gpu_ami.bake import template
from gpu_ami.errors import UsageError
from gpu_ami.invocation import Invocation

_NAMES = ("manifest_path", "release_path")


def variables(run: Invocation, file: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the template's variables that lead Packer to the family's own files; none where there is one family.

    A path that the caller or a variables file gives stays, unless it is another family's, too.

    Args:
        run: The invocation of the family.
        file: Its variables file.
        given: The caller's variables.

    Raises:
        UsageError: Another family has the same file.
    """
    if run.family is None or run.target.is_sandbox:  # whose values name them already
        return {}
    named = _named(run, (*run.target.auto_variables, file), given)
    for name, path in named.items():
        for other in run.siblings():
            theirs = other.target.user_variables
            if _place(run, _named(other, theirs, {}).get(name, "") or _own(other, name)) == _place(run, path):
                msg = (
                    f"The families {run.family} and {other.family} have the same {name}, {path}: give each its own, or "
                    "leave it out."
                )
                raise UsageError(msg)
    return {name: _own(run, name) for name in _NAMES if name not in named}


def _named(run: Invocation, files: tuple[Path, ...], given: Mapping[str, str]) -> dict[str, str]:
    """Return those of the paths that something names."""
    folder, environment = run.workspace.packer, run.target.environment
    values = template.effective(folder, files, given, environment=environment, wanted=_NAMES)
    return {name: str(values[name]) for name in _NAMES if values.get(name)}


def _own(run: Invocation, name: str) -> str:
    return str(run.workspace.manifest if name == "manifest_path" else run.workspace.release)


def _place(run: Invocation, path: str) -> str:
    return os.path.normpath(run.workspace.packer / path)
