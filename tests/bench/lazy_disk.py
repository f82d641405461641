"""A disk as EBS makes one from a snapshot: slow at the first touch of each block, quick afterwards, never too quick.

The disk is one file of FUSE, served by a process of its own that only computes when each read may be answered and
sleeps until then, so that it takes little of the processor from what is measured. Root and Linux; nothing to install.

Usage: python -m tests.bench.lazy_disk IMAGE FILE: serve IMAGE, read-only, at the existing FILE; print one line of JSON
at the end, when FILE is unmounted.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import json
import os
import stat
import struct
import sys
import threading
import time

BLOCK = 512 * 1024  # bytes; what EBS keeps a snapshot in
FIRST_TOUCH_S = 0.020
AT_ONCE = 32  # blocks being fetched
PACE = 300 * 1024 * 1024  # bytes/s, of everything that is read

# linux/fuse.h
_INIT, _GETATTR, _OPEN, _READ, _RELEASE, _FLUSH, _STATFS = 26, 3, 14, 15, 18, 25, 17
_SILENT = {2, 36, 42}  # FORGET, INTERRUPT, BATCH_FORGET have no answer
_ASYNC_READ, _ASYNC_DIO, _MAX_PAGES = 1 << 0, 1 << 15, 1 << 22
_DIRECT_IO = 1
_PAGES = 256
_THREADS = 96


class Disk:
    """When each read of a lazily loaded disk is answered."""

    def __init__(self) -> None:
        """Start with no block touched."""
        self._lock = threading.Lock()
        self._there_at: dict[int, float] = {}
        self._free_at = [0.0] * AT_ONCE
        self._paid_until = 0.0
        self.asked = 0

    def answer_at(self, offset: int, size: int, now: float) -> float:
        """Return when *size* bytes at *offset*, asked for at *now*, are answered (monotonic seconds)."""
        with self._lock:
            self.asked += size
            self._paid_until = max(self._paid_until, now) + size / PACE
            at = self._paid_until
            for block in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1):
                if block not in self._there_at:
                    self._there_at[block] = max(now, self._free_at[0]) + FIRST_TOUCH_S
                    heapq.heapreplace(self._free_at, self._there_at[block])
                at = max(at, self._there_at[block])
            return at

    @property
    def touched(self) -> int:
        """How many blocks were fetched."""
        return len(self._there_at)


class Server:
    """Answers the kernel's questions about one file."""

    def __init__(self, image: str, mounted: str) -> None:
        """Mount *image* at the file *mounted*."""
        self._image = os.open(image, os.O_RDONLY)
        self._size = os.fstat(self._image).st_size
        self._fuse = os.open("/dev/fuse", os.O_RDWR)
        self.disk = Disk()
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._fuse},rootmode={stat.S_IFREG | 0o444:o},user_id=0,group_id=0"
        if libc.mount(b"lazy-disk", mounted.encode(), b"fuse", 1, options.encode()):
            raise OSError(ctypes.get_errno(), "mount", mounted)

    def run(self) -> None:
        """Answer until the file is unmounted."""
        threads = [threading.Thread(target=self._answer_all) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _answer_all(self) -> None:
        while True:
            try:
                asked = os.read(self._fuse, 64 * 1024)
            except OSError as exc:
                if exc.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, code, unique = struct.unpack_from("=IIQ", asked)
            if code not in _SILENT:
                self._say(unique, self._answer(code, asked[40:]))

    def _say(self, unique: int, answer: bytes | int) -> None:
        error, data = (-answer, b"") if isinstance(answer, int) else (0, answer)
        try:
            os.writev(self._fuse, [struct.pack("=IiQ", 16 + len(data), error, unique), data])
        except OSError as exc:
            if exc.errno != errno.ENOENT:  # whoever asked is gone
                raise

    def _answer(self, code: int, body: bytes) -> bytes | int:
        if code == _READ:
            _, offset, size = struct.unpack_from("=QQI", body)
            wait = self.disk.answer_at(offset, size, time.monotonic()) - time.monotonic()
            time.sleep(max(0.0, wait))
            return os.pread(self._image, size, offset)
        if code == _GETATTR:
            attributes = (1, self._size, self._size // 512, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o444, 1, 0, 0, 0, 4096, 0)
            return struct.pack("=QII6Q10I", 3600, 0, 0, *attributes)
        if code == _OPEN:
            return struct.pack("=QII", 0, _DIRECT_IO, 0)
        if code == _INIT:
            flags = _ASYNC_READ | _ASYNC_DIO | _MAX_PAGES
            head = struct.pack("=IIIIHHIIHH", 7, 31, BLOCK, flags, 2 * _THREADS, 2 * _THREADS, 4096, 1, _PAGES, 0)
            return head.ljust(64, b"\0")
        return b"" if code in (_RELEASE, _FLUSH) else errno.ENOSYS


def main(words: list[str]) -> int:
    """Serve until unmounted, then print what was asked."""
    image, mounted = words
    server = Server(image, mounted)
    server.run()
    times = os.times()
    result = {"asked": server.disk.asked, "touched": server.disk.touched, "cpu_s": times.user + times.system}
    print(json.dumps(result), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
