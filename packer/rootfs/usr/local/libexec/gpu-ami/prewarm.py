#!/usr/bin/python3
"""Read the hot files of a baked image ahead, with many readers side by side.

A volume made from a snapshot fetches each block of 512 KiB from S3 at its first touch, and whoever touches it waits:
many readers wait for many blocks at once, as long as no two of them wait for the same one. So it is not files that
are shared out, but the blocks of the disk that they lie in (FIEMAP says which): one reader reads what lies in a block,
be it a piece of a large file or thirty small files. Everything is read whole, into the page cache: the job then reads
it from memory. gpu-ami-prewarm.service runs this at each boot, beside the ECS agent. While others read from the same
disk and blocks come late, fewer readers read.

Usage: prewarm.py [--check] CONFIG, a JSON object:

    paths    files, folders and patterns; the first ones are read first, what is missing is passed over.
             FILE#OFFSET+BYTES is a part of a file: name so, before the folders, what a recorded start touched first
    readers  how many read at once
    seconds  the limit: then it ends, however much is left

It stays in the image and runs on Amazon Linux 2023's own Python 3.9, with nothing but the standard library.
"""

from __future__ import annotations

import fcntl
import glob
import heapq
import json
import os
import re
import stat
import struct
import sys
import threading
import time
from typing import Any, NamedTuple

BLOCK = 512 * 1024  # what EBS fetches at once, bytes
STACK = 256 * 1024  # of a reader, bytes
WINDOW = 128 * 1024  # what a device's read_ahead_kb lets the kernel read ahead at once, unless somebody has changed it
LISTED = 2048  # files that are known before more folders are listed
OPEN = 512  # files, half of what a service may have open
ALL = 1 << 62
NOBODY_LOOKS = memoryview(bytearray(BLOCK))  # what is read goes here, from all readers; the page cache keeps it

# ioctl_fiemap(2), linux/fiemap.h: the head, then extents of 56 bytes each.
FIEMAP = 0xC020660B
HEAD = struct.Struct("=QQIIII")
EXTENT = struct.Struct("=QQQ16xI12x")
EXTENTS = 64  # asked for at once
LAST, UNKNOWN, INLINE = 0x1, 0x2, 0x200

# How the readers make way.
LOOK_S = 0.05  # between two looks at who reads
OTHERS = 256 * 1024  # bytes that others read between two looks, from which on they count
LATE = 1.2  # times the usual wait for a block
TOUCH_S = 0.002  # a block that is there already comes sooner than this


class Item(NamedTuple):
    """A folder to list or a file to look up, from *start* to *end*; the smallest one is next."""

    rank: int
    number: int
    path: str
    device: int
    start: int
    end: int


class Piece(NamedTuple):
    """A part of a file that lies in one block."""

    path: str
    start: int
    size: int


class Queue:
    """What is left to do, shared by all readers: folders and files to look up, blocks to read.

    Whoever lists a folder adds its entries, and whoever looks a file up adds its blocks. No more of either is kept than
    keeps the readers busy, so that memory does not grow with the image.
    """

    def __init__(self, readers: int) -> None:
        """Start empty."""
        self._readers = self.allowed = readers
        self._files: list[Item] = []
        self._folders: list[Item] = []
        self._blocks: list[tuple[int, int, tuple[int, int]]] = []
        self._pieces: dict[tuple[int, int], list[Piece]] = {}
        self._number = 0
        self._at_work = 0
        self._changed = threading.Condition()

    def put_folder(self, rank: int, path: str, device: int) -> None:
        """Add a folder, before those that have its *rank* already: going down first keeps the list short."""
        with self._changed:
            self._number += 1
            heapq.heappush(self._folders, Item(rank, -self._number, path, device, 0, ALL))
            self._changed.notify()

    def put_file(self, rank: int, path: str, device: int, start: int = 0, end: int = ALL) -> None:
        """Add a file, or what is left of it to look up, behind those that have its *rank* already."""
        with self._changed:
            self._number += 1
            heapq.heappush(self._files, Item(rank, self._number, path, device, start, end))
            self._changed.notify()

    def put_files(self, rank: int, paths: list[str], device: int) -> None:
        """Add the files of a folder."""
        with self._changed:
            for path in paths:
                self._number += 1
                heapq.heappush(self._files, Item(rank, self._number, path, device, 0, ALL))
            self._changed.notify(len(paths))

    def put_pieces(self, rank: int, pieces: list[tuple[tuple[int, int], Piece]]) -> None:
        """Add pieces, each with its block: to what is to be read of that block already, if anything."""
        with self._changed:
            for block, piece in pieces:
                known = self._pieces.get(block)
                if known is not None:
                    known.append(piece)
                    continue
                self._number += 1
                self._pieces[block] = [piece]
                heapq.heappush(self._blocks, (rank, self._number, block))
                self._changed.notify()

    def take(self) -> Item | list[Piece] | None:
        """Return the next item or block; None when there is none and nobody at work can add one."""
        with self._changed:
            while True:
                if self._at_work < self.allowed:
                    taken = self._next()
                    if taken is not None:
                        self._at_work += 1
                        return taken
                if not self._at_work and not (self._files or self._folders or self._blocks):
                    self._changed.notify_all()
                    return None
                self._changed.wait()

    def _next(self) -> Item | list[Piece] | None:
        # Folders first: each level waits for the disk once more, best while others read blocks.
        if self._folders and len(self._files) < LISTED:
            return heapq.heappop(self._folders)
        # Looking up ahead of reading brings all that lies in a block together before the block is read.
        if self._files and len(self._blocks) < 2 * self._readers:
            return heapq.heappop(self._files)
        if self._blocks:
            return self._pieces.pop(heapq.heappop(self._blocks)[2])
        return None

    def done(self) -> None:
        """Say that what was taken is dealt with."""
        with self._changed:
            self._at_work -= 1
            if self._at_work + 1 == self.allowed:
                self._changed.notify()
            if not self._at_work:
                self._changed.notify_all()

    def allow(self, readers: int) -> None:
        """Let *readers* work at once from now on."""
        with self._changed:
            self.allowed = readers
            self._changed.notify_all()


class Manners:
    """How many readers may read: all of them, unless others read from the same disks and blocks come late."""

    def __init__(self, readers: int) -> None:
        """Start with all of them."""
        self._readers = self.allowed = readers
        self._least = max(1, readers // 4)
        self._disks: set[int] = set()
        self._before: tuple[int, int] | None = None
        self._usual = 0.0
        self._waits: list[float] = []

    def add_disk(self, device: int) -> None:
        """Look at *device* too."""
        self._disks.add(device)

    def note(self, wait: float) -> None:
        """Note how long a block took to come, seconds."""
        if wait >= TOUCH_S:
            self._waits.append(wait)

    def look(self) -> int:
        """Return how many may read until the next look."""
        others = self._others()
        waits, self._waits = sorted(self._waits), []
        late = False
        if waits:
            self._usual = min(self._usual or waits[0], waits[0])
            late = waits[len(waits) // 2] > LATE * self._usual
        if others < OTHERS:
            self.allowed = self._readers
        elif late:
            self.allowed = max(self._least, self.allowed // 2)
        elif waits:
            self.allowed = min(self._readers, self.allowed + 1)
        return self.allowed

    def _others(self) -> int:
        """Return the bytes that others have read from the disks since the last look; 0 where nothing says so."""
        try:
            all_read = sum(_disk_read(device) for device in self._disks)
            with open("/proc/self/io", encoding="ascii") as file:
                own = int(dict(line.split(": ") for line in file)["read_bytes"])
        except (OSError, ValueError, KeyError, IndexError):
            return 0
        before, self._before = self._before, (all_read, own)
        return all_read - before[0] - (own - before[1]) if before else 0


def _disk_read(device: int) -> int:
    with open(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat", encoding="ascii") as file:
        return int(file.read().split()[2]) * 512


class Prewarm:
    """One run: the readers, what they share and what they have read."""

    def __init__(self, paths: list[str], readers: int, seconds: float) -> None:
        """Only note what to do."""
        self._paths, self._readers, self._seconds = paths, readers, seconds
        self._queue = Queue(readers)
        self._manners = Manners(readers)
        self._seen: dict[int, set[int]] = {}
        self._lock = threading.Lock()
        self._left = readers
        self._ended = threading.Event()
        self.files = self.bytes = self.skipped = 0

    def run(self) -> bool:
        """Read until everything is read or the time is over; return whether everything was.

        Readers that wait for the disk are left behind: the caller ends the process.
        """
        end = time.monotonic() + self._seconds
        threading.stack_size(STACK)
        # Looking for the paths reads too, and may hang as any read.
        threading.Thread(target=self._start, daemon=True).start()
        left = self._seconds
        while left > 0 and not self._ended.wait(min(LOOK_S, left)):
            allowed = self._manners.look()
            if allowed != self._queue.allowed:
                self._queue.allow(allowed)
            left = end - time.monotonic()
        return self._ended.is_set()

    def _start(self) -> None:
        for rank, named in enumerate(self._paths):
            pattern, start, end = part(named)
            for path in sorted(glob.glob(pattern)):
                self._start_at(rank, os.path.realpath(path), start, end)
        for _ in range(self._readers):
            threading.Thread(target=self._reader, daemon=True).start()

    def _start_at(self, rank: int, path: str, start: int, end: int) -> None:
        try:
            found = os.stat(path)
        except OSError:
            self.skipped += 1
            return
        self._manners.add_disk(found.st_dev)
        if stat.S_ISDIR(found.st_mode):
            self._queue.put_folder(rank, path, found.st_dev)
        elif stat.S_ISREG(found.st_mode):
            self._queue.put_file(rank, path, found.st_dev, start, end)

    def _reader(self) -> None:
        work = self._queue.take()
        while work is not None:
            try:
                if isinstance(work, Item):
                    self._look_up(work)
                else:
                    self._read(work)
            finally:
                self._queue.done()
            work = self._queue.take()
        with self._lock:
            self._left -= 1
            if not self._left:
                self._ended.set()

    def _skip(self) -> None:
        # Gone meanwhile (a container's file), or a bad block: the job will meet it, or not.
        with self._lock:
            self.skipped += 1

    def _look_up(self, item: Item) -> None:
        try:
            # No link is followed, and no other file system entered: a running container's is the image's once more.
            found = os.lstat(item.path)
            if found.st_dev != item.device:
                return
            if stat.S_ISDIR(found.st_mode):
                if self._is_new(found):
                    self._list(item)
            elif stat.S_ISREG(found.st_mode) and (item.start or item.end != ALL or self._is_new(found)):
                self._find(item, min(found.st_size, item.end))
        except OSError:
            self._skip()

    def _is_new(self, found: os.stat_result) -> bool:
        with self._lock:
            seen = self._seen.setdefault(found.st_dev, set())
            known = found.st_ino in seen
            seen.add(found.st_ino)
        return not known

    def _list(self, folder: Item) -> None:
        files = []
        with os.scandir(folder.path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self._queue.put_folder(folder.rank, entry.path, folder.device)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.path)
        self._queue.put_files(folder.rank, files, folder.device)

    def _find(self, item: Item, size: int) -> None:
        """Add the blocks in which a file lies, the first ones of a large file, and then what is left of it."""
        descriptor = _open(item.path)
        try:
            pieces, end = blocks(descriptor, item, size)
        finally:
            os.close(descriptor)
        self._queue.put_pieces(item.rank, pieces)
        if end < size:
            self._queue.put_file(item.rank, item.path, item.device, end, item.end)
        elif item.end == ALL:
            with self._lock:
                self.files += 1

    def _read(self, pieces: list[Piece]) -> None:
        together = max(1, OPEN // self._readers)
        for first in range(0, len(pieces), together):
            self._read_together(pieces[first : first + together])

    def _read_together(self, pieces: list[Piece]) -> None:
        """Ask for all *pieces*, then wait for one after the other."""
        started, count, wait = time.monotonic(), 0, 0.0
        opened: list[tuple[int, Piece]] = []
        for piece in pieces:
            try:
                opened.append((ask(piece), piece))
            except OSError:
                self._skip()
        for descriptor, piece in opened:
            try:
                count += read(descriptor, piece)
            except OSError:
                self._skip()
            finally:
                os.close(descriptor)
            wait = wait or time.monotonic() - started
        self._manners.note(wait)
        with self._lock:
            self.bytes += count


def part(path: str) -> tuple[str, int, int]:
    """Return the path, the first byte and the end of FILE or FILE#OFFSET+BYTES."""
    match = re.fullmatch(r"(.+)#(\d{1,18})\+(\d{1,18})", path)
    if match is None or os.path.lexists(path):
        return path, 0, ALL
    return glob.escape(match[1]), int(match[2]), int(match[2]) + int(match[3])


def blocks(descriptor: int, item: Item, size: int) -> tuple[list[tuple[tuple[int, int], Piece]], int]:
    """Return the next pieces of a file from the item's start on, each with its disk and block, and where they end.

    Holes have none. Where the file system does not say where a file lies, each 512 KiB of it count as a block.
    """
    pieces: list[tuple[tuple[int, int], Piece]] = []
    extents, covered = _extents(descriptor, item.start, size)
    for logical, physical, length in extents:
        at, end = max(logical, item.start), min(logical + length, size)
        disk = item.device if physical >= 0 else -1 - os.fstat(descriptor).st_ino
        while at < end:
            if len(pieces) == EXTENTS:
                return pieces, at
            here = at if physical < 0 else physical + at - logical
            until = min(end, at + BLOCK - here % BLOCK)
            pieces.append(((disk, here // BLOCK), Piece(item.path, at, until - at)))
            at = until
    return pieces, covered


def _extents(descriptor: int, start: int, size: int) -> tuple[list[tuple[int, int, int]], int]:
    """Return a file's first extents from *start* on: offset, place on the disk (-1: unknown), bytes; and their end."""
    if start >= size:
        return [], size
    asked = bytearray(HEAD.size + EXTENTS * EXTENT.size)
    HEAD.pack_into(asked, 0, start, size - start, 0, 0, EXTENTS, 0)
    try:
        fcntl.ioctl(descriptor, FIEMAP, asked)
    except OSError:
        return [(start, -1, size - start)], size
    count, covered, found = HEAD.unpack_from(asked)[3], size, []
    for number in range(count):
        logical, physical, length, flags = EXTENT.unpack_from(asked, HEAD.size + number * EXTENT.size)
        if not flags & INLINE:
            found.append((logical, -1 if flags & UNKNOWN else physical, length))
        covered = size if flags & LAST or count < EXTENTS else logical + length
    return found, covered


def ask(piece: Piece) -> int:
    """Let the kernel begin to read *piece* and return the open file, without waiting for anything but its inode.

    Raises:
        OSError: It cannot be opened.
    """
    descriptor = _open(piece.path)
    # Nothing beyond the piece: that may lie in another block, which another reader waits for.
    if piece.start or piece.size > WINDOW:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    for start in range(piece.start, piece.start + piece.size, WINDOW):
        size = min(WINDOW, piece.start + piece.size - start)
        os.posix_fadvise(descriptor, start, size, os.POSIX_FADV_WILLNEED)
    return descriptor


def read(descriptor: int, piece: Piece) -> int:
    """Wait until *piece* is in the page cache and return how many bytes there are.

    Raises:
        OSError: It cannot be read.
    """
    at, end = piece.start, piece.start + piece.size
    while at < end:
        count = os.preadv(descriptor, [NOBODY_LOOKS[: end - at]], at)
        if not count:
            break
        at += count
    return at - piece.start


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
