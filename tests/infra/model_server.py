"""A web server for the scratch machine, run inside it: ranges, broken transfers, connections that wait.

Usage: python3 model_server.py FOLDER LOG. What a request gets depends on the first part of its path:

    /ok/NAME     the file
    /cut/NAME    the first time only half of it, then the connection ends; ranges work
    /stubborn/N  like /cut, and ranges are ignored
    /busy/NAME   503 twice, then the file
    /eight/NAME  the file, once eight are requested at the same time; 503 where that does not come
    /held/NAME   nothing until there is a file "released" beside the folder, then the file
    /wrong/NAME  other bytes than the file's
    /gone/NAME   404
    /whole/NAME  the file, whatever range is requested

A request for the first byte alone (how large is it?) is answered as /ok would, and is not counted.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER, LOG = Path(sys.argv[1]), Path(sys.argv[2])
SEEN: Counter[str] = Counter()
EIGHT = threading.Barrier(8, timeout=30)


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    def do_GET(self) -> None:
        """Serve one file in the manner that the path requests."""
        manner, _, name = self.path.partition("?")[0].strip("/").partition("/")
        requested = self.headers.get("Range", "-")
        with LOG.open("a") as log:
            log.write(f"{self.path} {requested}\n")
        if manner in ("stubborn", "whole"):
            requested = "-" if requested != "bytes=0-0" else "probe"
        if manner == "gone":
            return self.send_error(404)
        while manner == "held" and not (FOLDER.parent / "released").exists():
            time.sleep(0.01)
        content = (FOLDER / name).read_bytes()
        if requested == "bytes=0-0":
            return self.send_first_byte(content)
        SEEN[self.path] += requested != "probe"
        if (manner == "busy" and SEEN[self.path] <= 2) or (manner == "eight" and not self.is_one_of_eight()):
            return self.send_error(503)
        return self.send_rest(manner, content, requested)

    def send_rest(self, manner: str, content: bytes, requested: str) -> None:
        """Send *content* from the first byte of *requested*, a Range header, on."""
        if manner == "wrong":
            content = bytes(reversed(content))
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested.startswith("bytes=") else 0
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if manner in ("cut", "stubborn") and SEEN[self.path] == 1:
            body = body[: len(body) // 2]
        self.wfile.write(body)
        self.close_connection = True
        return None

    def is_one_of_eight(self) -> bool:
        """Wait for seven other requests; return whether they came."""
        try:
            EIGHT.wait()
        except threading.BrokenBarrierError:
            return False
        return True

    def send_first_byte(self, content: bytes) -> None:
        """Say how large the file is."""
        self.send_response(206)
        self.send_header("Content-Range", f"bytes 0-0/{len(content)}")
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(content[:1])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the log file has it."""


ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
