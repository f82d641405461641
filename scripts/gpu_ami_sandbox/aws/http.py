"""The HTTP server in front of the local AWS: a connection stays open from one call to the next, as AWS's do."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from http import HTTPStatus
from socketserver import ThreadingTCPServer
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler

from gpu_ami_sandbox.aws.gate import Application

# So much of a body that was not consumed is read to keep the connection; one with more left is closed.
_MOST_UNREAD = 1024 * 1024
_NO_CONTENT = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

Headers = list[tuple[str, str]]


class HttpServer(ThreadingTCPServer):
    """Serves a WSGI application on a free port, each connection in a thread of its own.

    Attributes:
        application: What answers.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    # What werkzeug's handler asks its server for.
    ssl_context = None
    multithread, multiprocess = True, False
    _server_version = "sandbox"

    def __init__(self, host: str, application: Application) -> None:
        """Take a free port of *host*; `start` answers on it."""
        super().__init__((host, 0), _Handler)
        self.application = application
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        """The port."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection: a client must not go on with a sandbox that has ended."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)


class _Handler(MotoRequestHandler):
    """One connection. werkzeug's closes after each answer, lest an unread body be taken for the next request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def run_wsgi(self) -> None:
        """Answer one request."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        self.environ = environ = self.make_environ()
        if "wsgi.input_terminated" in environ:  # sent in chunks: its end is not known before
            body, self.close_connection = None, True
        else:
            body = _Body(self.rfile, int(length))
            environ["wsgi.input"] = io.BufferedReader(body)
        status, headers, content = self._call(environ)
        if body is not None and not body.finish():
            self.close_connection = True
        self._answer(status, headers, content)

    def _call(self, environ: dict[str, Any]) -> tuple[str, Headers, bytes]:
        started: list[Any] = []
        try:
            content = b"".join(self.server.application(environ, lambda *given: started.append(given)))
        except ConnectionError:
            raise
        except Exception as exc:  # noqa: BLE001 - a caller must hear of a fault of ours, and the others be served
            self.close_connection = True
            return (
                "500 Internal Server Error",
                [("Content-Type", "text/plain")],
                f"{type(exc).__name__}: {exc}".encode(),
            )
        return started[0][0], started[0][1], content

    def _answer(self, status: str, headers: Headers, content: bytes) -> None:
        given = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        if "date" not in given:
            lines.append(f"Date: {self.date_time_string()}")
        if "content-length" not in given and int(status[:3]) not in _NO_CONTENT:
            lines.append(f"Content-Length: {len(content)}")
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.wfile.write(head if self.command == "HEAD" else head + content)

    def log(self, *_: Any) -> None:
        """Say nothing."""


class _Body(io.RawIOBase):
    """The body of one request, and not a byte of the next."""

    def __init__(self, connection: Any, length: int) -> None:
        """Read at most *length* bytes from *connection*, a buffered reader."""
        super().__init__()
        self._connection, self._left = connection, length

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come, up to the end of the body."""
        data = self._connection.read1(min(len(buffer), self._left)) if self._left else b""
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def finish(self) -> bool:
        """Read the rest; return whether the connection can be used again."""
        if self._left > _MOST_UNREAD:
            return False
        self._left -= len(self._connection.read(self._left)) if self._left else 0
        return self._left == 0
