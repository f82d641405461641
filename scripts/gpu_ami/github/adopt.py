"""Copies the files of a calling repository over the pipeline's own.

In a called workflow the pipeline's repository is checked out at the root, at the commit that the caller named; the
caller's repository lies in a folder there. What a team decides comes from it, everything that runs from the pipeline.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

from gpu_ami.errors import UsageError
from gpu_ami.options import Options
from gpu_ami.settings import load
from gpu_ami.workspace import SETTINGS_FILE

# A caller's `scripts/` or `tasks.py` is never taken: what runs with the team's roles is the commit that it named.
FILES = (SETTINGS_FILE,)
PATTERNS = ("packer/*.auto.pkrvars.hcl", "packer/*.auto.pkrvars.json", "packer/models.yaml")
FOLDERS = ("terraform",)
_VALUES = re.compile(r"\.pkrvars\.(hcl|json)$")


def _of_families(caller: Path) -> list[Path]:
    """Return the variables files in *caller* that its settings name for their families; none of broken ones.

    Of any other kind or place a file is not taken, whatever the settings name: it could be code.
    """
    try:
        settings = load(caller / SETTINGS_FILE, Options())
    except UsageError:  # the tasks say it
        return []
    named = [PurePosixPath(settings.of_family(name).variables_file) for name in settings.families]
    values = [file for file in named if file.parts[:1] == ("packer",) and ".." not in file.parts]
    return [caller / file for file in values if _VALUES.search(file.name) and (caller / file).is_file()]


def _verifiers(caller: Path) -> list[Path]:
    """Return the public keys in *caller* that its settings name: whose signature counts is the team's to say."""
    try:
        named = load(caller / SETTINGS_FILE, Options()).provenance.verifiers
    except UsageError:  # the tasks say it
        return []
    files = [PurePosixPath(one) for one in named if isinstance(one, str) and one.endswith(".pem")]
    there = [caller / file for file in files if not file.is_absolute() and (caller / file).is_file()]
    return [path for path in there if path.resolve().is_relative_to(caller.resolve())]


def adopt(caller: Path, root: Path) -> list[str]:
    """Copy what the repository in *caller* owns over the pipeline in *root*; return the paths, relative.

    A ``terraform/`` folder replaces ours as a whole: two root modules in one folder would be neither.

    Raises:
        UsageError: There is nothing of the pipeline in *caller*, or something there is a link.
    """
    if not (caller / SETTINGS_FILE).is_file():
        msg = f"{caller} has no {SETTINGS_FILE}: a calling repository keeps it at its root (docs/github-actions.md)."
        raise UsageError(msg)
    found = [path for pattern in (*FILES, *PATTERNS, *FOLDERS) for path in sorted(caller.glob(pattern))]
    found += [path for path in (*_of_families(caller), *_verifiers(caller)) if path not in found]
    for path in found:
        for part in (path, *path.rglob("*")):
            if part.is_symlink():
                msg = f"{part} is a link: the pipeline takes only files of the calling repository itself."
                raise UsageError(msg)
    for path in found:
        target = root / path.relative_to(caller)
        if path.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(path, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    return [str(path.relative_to(caller)) for path in found]
