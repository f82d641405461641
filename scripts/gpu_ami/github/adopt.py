"""Copies the files of a calling repository over the pipeline's own.

In a called workflow the pipeline's repository is checked out at the root, at the commit that the caller named; the
caller's repository lies in a folder there. What a team decides comes from it, everything that runs from the pipeline.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gpu_ami.errors import UsageError
from gpu_ami.workspace import SETTINGS_FILE

# A caller's `scripts/` or `tasks.py` is never taken: what runs with the team's roles is the commit that it named.
FILES = (SETTINGS_FILE,)
PATTERNS = ("packer/*.auto.pkrvars.hcl", "packer/*.auto.pkrvars.json", "packer/models.yaml")
FOLDERS = ("terraform",)


def adopt(caller: Path, root: Path) -> list[str]:
    """Copy what the repository in *caller* owns over the pipeline in *root*; return the paths, relative.

    A ``terraform/`` folder replaces ours as a whole: two root modules in one folder would be neither.

    Raises:
        UsageError: There is nothing of the pipeline in *caller*, or something there is a link.
    """
    found = [path for pattern in (*FILES, *PATTERNS, *FOLDERS) for path in sorted(caller.glob(pattern))]
    if not (caller / SETTINGS_FILE).is_file():
        msg = f"{caller} has no {SETTINGS_FILE}: a calling repository keeps it at its root (docs/github-actions.md)."
        raise UsageError(msg)
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
