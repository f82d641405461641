"""The HTTP server: connections stay open, and no byte of one request is taken for another."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from gpu_ami_sandbox.account import LOOPBACK
from gpu_ami_sandbox.aws.http import _MOST_UNREAD, HttpServer

Environ = dict[str, Any]


def _echo(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the request's body, or with nothing at all of it under /deaf."""
    path = environ["PATH_INFO"]
    if path == "/fault":
        msg = "a fault of ours"
        raise RuntimeError(msg)
    if path == "/cut":
        raise ConnectionAbortedError
    body = b"" if path == "/deaf" else environ["wsgi.input"].read()
    status = "204 No Content" if path == "/none" else "200 OK"
    start_response(status, [("X-Method", environ["REQUEST_METHOD"])])
    return [b"", body]


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A server that echoes."""
    one = HttpServer(LOOPBACK, _echo)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def connection(server: HttpServer) -> Iterator[http.client.HTTPConnection]:
    """One connection to it."""
    one = http.client.HTTPConnection(LOOPBACK, server.port, timeout=30)
    yield one
    one.close()


def _ask(connection: http.client.HTTPConnection, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def test_a_connection_serves_many_requests(connection: http.client.HTTPConnection) -> None:
    """A new connection for each call takes longer than the call."""
    assert _ask(connection, "/", b"one")[1] == b"one"
    first = connection.sock

    assert _ask(connection, "/none")[0] == 204
    assert _ask(connection, "/", b"two")[1] == b"two"
    assert connection.sock is first


def test_a_body_that_nobody_read_is_not_the_next_request(connection: http.client.HTTPConnection) -> None:
    """An upload may be refused before it is read; what follows must be understood."""
    assert _ask(connection, "/deaf", b"GET /cut HTTP/1.1\r\n\r\n" * 100)[:2] == (200, b"")

    assert _ask(connection, "/", b"two")[1] == b"two"


def test_too_much_that_nobody_read_ends_the_connection(connection: http.client.HTTPConnection) -> None:
    """Reading gigabytes to keep a connection is no bargain."""
    connection.putrequest("POST", "/deaf")
    connection.putheader("Content-Length", str(_MOST_UNREAD + 1))
    connection.endheaders()

    answer = connection.getresponse()

    assert (answer.status, answer.headers["Connection"]) == (200, "close")


def test_a_request_in_chunks_is_whole(connection: http.client.HTTPConnection) -> None:
    """SDKs send what has no known length in chunks."""
    connection.request("PUT", "/", iter([b"one ", b"two"]), encode_chunked=True)

    answer = connection.getresponse()

    assert answer.read() == b"one two"
    assert answer.headers["X-Method"] == "PUT"


def test_a_caller_that_asks_first_is_told_to_go_on(server: HttpServer) -> None:
    """SDKs ask before they upload to S3, and wait a second for the answer."""
    with socket.create_connection((LOOPBACK, server.port), timeout=30) as raw:
        raw.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")

        before = b"".join(iter(lambda: raw.recv(1), b"\n")) + raw.recv(2)
        raw.sendall(b"abc")
        raw.shutdown(socket.SHUT_WR)
        after = b"".join(iter(lambda: raw.recv(1000), b""))

    assert before == b"HTTP/1.1 100 Continue\r\r\n"
    assert after.startswith(b"HTTP/1.1 200 OK\r\n")
    assert after.endswith(b"\r\n\r\nabc")


def test_an_answer_to_head_has_no_body(server: HttpServer) -> None:
    """A body would be taken for the next answer."""
    with socket.create_connection((LOOPBACK, server.port), timeout=30) as raw:
        raw.sendall(b"HEAD / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")

        whole = b"".join(iter(lambda: raw.recv(1000), b""))

    assert b"Content-Length: 3\r\n" in whole
    assert b"Connection: close\r\n" in whole
    assert whole.endswith(b"\r\n\r\n")


def test_a_fault_of_ours_is_an_answer(connection: http.client.HTTPConnection) -> None:
    """A caller that gets none would wait, or try for ever."""
    status, body, headers = _ask(connection, "/fault", b"x")

    assert (status, body, headers["Connection"]) == (500, b"RuntimeError: a fault of ours", "close")
    assert _ask(connection, "/", b"two")[1] == b"two"


def test_a_cut_connection_has_no_answer(connection: http.client.HTTPConnection) -> None:
    """Tests cut the network by it."""
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        _ask(connection, "/cut")


def test_nonsense_is_refused(server: HttpServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever comes in, the server lives on and says nothing on the terminal."""
    with socket.create_connection((LOOPBACK, server.port), timeout=30) as raw:
        raw.sendall(b"\x16\x03\x01 what?\r\n\r\n")
        assert b"400" in raw.recv(1000)

    with socket.create_connection((LOOPBACK, server.port), timeout=30) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400")
    assert capsys.readouterr() == ("", "")


def test_nothing_is_answered_after_the_end() -> None:
    """A sandbox that has ended must not go on for those who were connected."""
    server = HttpServer(LOOPBACK, _echo)
    server.start()
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, server.port, timeout=30)) as connection:
        assert _ask(connection, "/", b"one")[1] == b"one"

        server.stop()

        assert connection.sock.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, server.port), timeout=30)
