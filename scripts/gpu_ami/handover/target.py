"""Which file a hand-over really writes."""

from __future__ import annotations

import os
from pathlib import Path

from gpu_ami.errors import UsageError


def resolve(file: Path, root: Path) -> Path:
    """Return the file that *file* leads to, symbolic links inside the repository *root* followed.

    Raises:
        UsageError: A link leads out of the repository, or round in a circle.
    """
    home = Path(os.path.realpath(root))
    named = Path(os.path.abspath(file))  # noqa: PTH100 - links must stay
    inside = next((top for top in (home, Path(os.path.abspath(root))) if named.is_relative_to(top)), None)  # noqa: PTH100
    if inside is None:
        return file
    try:
        real = named.resolve(strict=named.exists())
    except (OSError, RuntimeError) as exc:
        msg = f"{file} cannot be followed: its symbolic links lead round in a circle."
        raise UsageError(msg) from exc
    if real.is_symlink():
        msg = f"{file} cannot be followed: its symbolic links lead round in a circle."
        raise UsageError(msg)
    if not real.is_relative_to(home):
        msg = f"{file} leads out of the repository through a symbolic link: name {real} itself if you mean it."
        raise UsageError(msg)
    return file if real == home / named.relative_to(inside) else real
