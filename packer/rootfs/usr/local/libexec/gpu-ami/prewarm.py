#!/usr/bin/python3
"""Read the hot files of a baked image ahead, with many readers side by side.

A volume made from a snapshot fetches each block from S3 at its first touch, and a reader waits for one block at a time:
many readers wait for many blocks at once. gpu-ami-prewarm.service runs this at each boot, beside the ECS agent.

Usage: prewarm.py [--check] CONFIG, a JSON object:

    paths    files, folders and patterns; the first ones are read first, what is missing is passed over
    readers  how many read at once
    seconds  the limit: then it ends, however much is left

It stays in the image and runs on Amazon Linux 2023's own Python 3.9, with nothing but the standard library.
"""

from __future__ import annotations

import glob
import heapq
import json
import os
import stat
import sys
import threading
import time
from typing import Any, NamedTuple

PIECE = 4 * 1024 * 1024  # so much of a large file one reader takes at a time, bytes
BLOCK = 1024 * 1024


class Item(NamedTuple):
    """A folder to list or a piece of a file to read; the smallest one is next."""

    rank: int
    number: int
    path: str
    offset: int
    device: int


class Queue:
    """What is left to do, shared by all readers: a folder's entries are added by whoever lists it."""

    def __init__(self) -> None:
        """Start empty."""
        self._items: list[Item] = []
        self._numbers = iter(range(1 << 62))
        self._at_work = 0
        self._changed = threading.Condition()

    def put(self, rank: int, path: str, device: int, offset: int = 0) -> None:
        """Add *path*, which is on *device*, behind what has its *rank* already."""
        with self._changed:
            heapq.heappush(self._items, Item(rank, next(self._numbers), path, offset, device))
            self._changed.notify()

    def take(self) -> Item | None:
        """Return the next item; None when there is none and nobody at work can add one."""
        with self._changed:
            while not self._items:
                if not self._at_work:
                    self._changed.notify_all()
                    return None
                self._changed.wait()
            self._at_work += 1
            return heapq.heappop(self._items)

    def done(self) -> None:
        """Say that an item that was taken is dealt with."""
        with self._changed:
            self._at_work -= 1
            if not self._at_work and not self._items:
                self._changed.notify_all()


class Prewarm:
    """One run: the readers, what they share and what they have read."""

    def __init__(self, paths: list[str], readers: int, seconds: float) -> None:
        """Only note what to do."""
        self._paths, self._readers, self._seconds = paths, readers, seconds
        self._queue = Queue()
        self._seen: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        self._left = readers
        self._ended = threading.Event()
        self.files = self.bytes = self.skipped = 0

    def run(self) -> bool:
        """Read until everything is read or the time is over; return whether everything was.

        Readers that wait for the disk are left behind: the caller ends the process.
        """
        # Looking for the paths reads too, and may hang as any read.
        threading.Thread(target=self._start, daemon=True).start()
        return self._ended.wait(self._seconds)

    def _start(self) -> None:
        for rank, pattern in enumerate(self._paths):
            for path in sorted(glob.glob(pattern)):
                self._start_at(rank, os.path.realpath(path))
        for _ in range(self._readers):
            threading.Thread(target=self._reader, daemon=True).start()

    def _start_at(self, rank: int, path: str) -> None:
        try:
            self._queue.put(rank, path, os.stat(path).st_dev)
        except OSError:
            self.skipped += 1

    def _reader(self) -> None:
        buffer = memoryview(bytearray(BLOCK))
        item = self._queue.take()
        while item is not None:
            try:
                self._deal_with(item, buffer)
            except OSError:
                # Gone meanwhile (a container's file), or a bad block: the job will meet it, or not.
                with self._lock:
                    self.skipped += 1
            finally:
                self._queue.done()
            item = self._queue.take()
        with self._lock:
            self._left -= 1
            if not self._left:
                self._ended.set()

    def _deal_with(self, item: Item, buffer: memoryview) -> None:
        # No link is followed, and no other file system entered: a running container's is the image's once more.
        found = os.lstat(item.path)
        if found.st_dev != item.device or not self._is_new(item, found):
            return
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(item.path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
                        self._queue.put(item.rank, entry.path, item.device)
        elif stat.S_ISREG(found.st_mode):
            self._read(item, found.st_size, buffer)

    def _is_new(self, item: Item, found: os.stat_result) -> bool:
        if item.offset:
            return True
        with self._lock:
            known = (found.st_dev, found.st_ino) in self._seen
            self._seen.add((found.st_dev, found.st_ino))
        return not known

    def _read(self, item: Item, size: int, buffer: memoryview) -> None:
        if item.offset + PIECE < size:
            # The next reader goes on behind this piece, and hands on again.
            self._queue.put(item.rank, item.path, item.device, item.offset + PIECE)
        descriptor = _open(item.path)
        at, end = item.offset, min(item.offset + PIECE, size)
        try:
            while at < end:
                count = os.preadv(descriptor, [buffer[: end - at]], at)
                if not count:
                    break
                at += count
        finally:
            os.close(descriptor)
        with self._lock:
            self.bytes += at - item.offset
            self.files += not item.offset


def _open(path: str) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Reading must not write: the time of the last access would be noted on the volume.
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(path, flags)


def load(path: str) -> tuple[list[str], int, float]:
    """Return paths, readers and seconds of the configuration at *path*.

    Raises:
        ValueError: It is not JSON, or a value cannot be used.
        OSError: It cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        config: Any = json.load(file)
    if not isinstance(config, dict):
        msg = "not an object"
        raise ValueError(msg)
    paths, readers, seconds = (config.get(name) for name in ("paths", "readers", "seconds"))
    if not isinstance(paths, list) or not all(isinstance(path, str) and path.startswith("/") for path in paths):
        msg = f"paths is {paths!r}, not a list of absolute paths"
        raise ValueError(msg)
    for name, value in (("readers", readers), ("seconds", seconds)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 3600:
            msg = f"{name} is {value!r}, not a whole number from 1 to 3600"
            raise ValueError(msg)
    return paths, int(str(readers)), float(str(seconds))


def main(words: list[str]) -> int:
    """Read what the configuration says, say what was read, and end the process."""
    started = time.monotonic()
    try:
        paths, readers, seconds = load(words[-1])
    except (ValueError, OSError) as exc:
        print(f"prewarm: {words[-1]} cannot be used: {exc}", file=sys.stderr)
        return 2
    if "--check" in words:
        return 0
    prewarm = Prewarm(paths, readers, seconds)
    complete = prewarm.run()
    how = "everything there is" if complete else f"stopped at the limit of {seconds:.0f} s"
    print(
        f"prewarm: {prewarm.bytes / 1024**2:.0f} MiB of {prewarm.files} files in {time.monotonic() - started:.1f} s"
        f" by {readers} readers, {how}; {prewarm.skipped} could not be read",
        flush=True,
    )
    # Not by return: readers that wait for a slow disk would be waited for.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
