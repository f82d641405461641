"""The guest's only way out: a unix socket whose other end is the local AWS's loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

_CHUNK = 256 * 1024


class Relay:
    """A server at a unix socket that joins each connection to 127.0.0.1:*port*."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.AbstractServer | None = None
        self._joined: set[asyncio.Task[None]] = set()

    async def open(self, path: Path) -> None:
        """Listen at *path*."""
        self._server = await asyncio.start_unix_server(self._accept, sock=_bound(path), limit=_CHUNK)

    async def close(self) -> None:
        """End every connection, and listen no more."""
        if self._server is not None:
            self._server.close()
        for task in self._joined:
            task.cancel()
        await asyncio.gather(*self._joined, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio itself keeps no hold of the task, and cannot be told to end it.
        task = asyncio.get_running_loop().create_task(self._join(reader, writer))
        self._joined.add(task)
        task.add_done_callback(self._joined.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            # Where nobody listens, the guest sees a connection that is closed without an answer.
            with contextlib.suppress(OSError):
                back, there = await asyncio.open_connection("127.0.0.1", self._port)
                writers.append(there)
                await asyncio.gather(_pump(reader, there), _pump(back, writer))
        finally:
            for writer in writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


def _bound(path: Path) -> socket.socket:
    """Return a socket bound to *path*, however long it is: the kernel takes 107 bytes."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bound.setblocking(False)
        bound.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    return bound


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy *reader* to *writer* up to its end, then tell the other side that there is no more."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
