"""The guest's only way out: a unix socket whose other end is the local AWS's loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

_CHUNK = 256 * 1024


async def listen(path: Path, port: int) -> asyncio.AbstractServer:
    """Return a running server at the unix socket *path* that joins each connection to 127.0.0.1:*port*."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()  # the guest sees a connection that is closed without an answer
            return
        try:
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        finally:
            there[1].close()
            writer.close()

    return await asyncio.start_unix_server(join, sock=_bound(path), limit=_CHUNK)


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
