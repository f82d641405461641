"""What a start touches first, for prewarm_paths: looks again and again which parts of files have come into memory.

It needs nothing but this file, Python 3.9 and root: copy it to a freshly launched instance of an AMI that was baked
with `prewarm = false`, start it, and then the job. After SECONDS it prints FILE#OFFSET+BYTES, one a line, in the order
in which they came; what was in memory before comes first. Overlay file systems share the pages of the layers below
them, so name those: /var/lib/docker/overlay2.

Usage: touched.py SECONDS FOLDER…
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

GRAIN = 512 * 1024  # bytes; what EBS fetches at once, so nothing finer is worth a line
EVERY_S = 1.0


def main(words: list[str]) -> int:
    """Look until the time is over, then print what was found."""
    try:
        seconds, folders = float(words[0]), words[1:]
    except (IndexError, ValueError):
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    known: dict[tuple[str, int], int] = {}
    end = time.monotonic() + seconds
    while True:
        for path in files(folders):
            note(known, path)
        if time.monotonic() >= end:
            break
        time.sleep(min(EVERY_S, max(0.0, end - time.monotonic())))
    for line in lines(known):
        print(line)  # noqa: T201
    return 0


def files(folders: Iterable[str]) -> Iterator[str]:
    """Yield the path of each file below *folders*."""
    for folder in folders:
        for path, _, names in os.walk(folder):
            yield from (str(Path(path, name)) for name in sorted(names))


def note(known: dict[tuple[str, int], int], path: str) -> None:
    """Add to *known* each piece of the file at *path* that is in memory, with its bytes; the known ones stay."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_size:
            for offset in resident(descriptor, found.st_size):
                known.setdefault((path, offset), min(GRAIN, found.st_size - offset))
    except OSError:
        return
    finally:
        os.close(descriptor)


def resident(descriptor: int, size: int) -> list[int]:
    """Return the offsets of a file's pieces of which at least one page is in memory.

    Raises:
        OSError: The file cannot be mapped.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    mapped = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if mapped == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    pages = ctypes.create_string_buffer((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE)
    try:
        if libc.mincore(mapped, size, pages):
            raise OSError(ctypes.get_errno(), "mincore")
    finally:
        libc.munmap(mapped, size)
    step = GRAIN // mmap.PAGESIZE
    return [n * mmap.PAGESIZE for n in range(0, len(pages.raw), step) if any(b & 1 for b in pages.raw[n : n + step])]


def lines(known: dict[tuple[str, int], int]) -> list[str]:
    """Return *known* as prewarm_paths has it: neighbours that came one after the other in one entry."""
    merged: list[tuple[str, int, int]] = []
    for (path, offset), size in known.items():
        if merged and merged[-1][0] == path and merged[-1][1] + merged[-1][2] == offset:
            merged[-1] = (path, merged[-1][1], merged[-1][2] + size)
        else:
            merged.append((path, offset, size))
    return [f"{path}#{offset}+{size}" for path, offset, size in merged]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
