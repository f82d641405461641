"""The short way of a request: byte for byte what botocore sends, and of each answer what botocore makes of it."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest
from botocore import handlers
from botocore.credentials import Credentials
from botocore.exceptions import ConnectionClosedError

from gpu_ami.aws import access as access_module
from gpu_ami.aws import lean_endpoint
from gpu_ami.aws.access import Access
from gpu_ami.aws.lean_endpoint import LeanEndpoint
from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.aws.shared_connections import SharedConnections

# One that no other test is in: its session is made here, without moto's handler, by which moto answers itself.
REGION = "il-central-1"
NOW = datetime(2026, 11, 30, 23, 59, 58, tzinfo=timezone.utc)
# What a path, a query and a form have to escape, and what they leave as it is.
HARD = "a b/ü+~*:%41&=?#'\""
LISTINGS = sorted({read.split()[0] for source in SOURCES for read in source.reads})
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nx-amzn-RequestId: 1\r\nContent-Length: %d\r\n\r\n%b"
ROWS = b"<R><requestId>1</requestId><spotInstanceRequestSet/></R>"
REFUSED = (
    b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>"
)


@dataclass
class Server:
    """Answers each request with the next of *answers*, the last one for good, and keeps what was sent."""

    answers: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    connections: int = 0
    ends: bool = False
    over: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)

    def begin(self) -> int:
        """Listen; return the port."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return int(self._listening.getsockname()[1])

    def end(self) -> None:
        """Stop listening."""
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listening.accept()[0]
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as read:
            while head := b"".join(iter(read.readline, b"\r\n")):
                is_last = self.ends
                length = re.search(rb"Content-Length: (\d+)", head)
                self.sent.append(head + b"\r\n" + read.read(int(length[1]) if length else 0))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                connection.sendall(answer)
                if is_last or not answer or b"Connection: close" in answer:
                    break
        self.over.put(None)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that says what it is told to."""
    made = Server([PLAIN % (len(ROWS), ROWS)])
    yield made
    made.end()


@pytest.fixture
def access(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Access]:
    """The way to it, at a time that stands still and with a request's number that is always the same."""
    theirs = [one for one in handlers.BUILTIN_HANDLERS if not type(one[1]).__module__.startswith("moto.")]
    monkeypatch.setattr(handlers, "BUILTIN_HANDLERS", theirs)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: NOW)
    monkeypatch.setattr(lean_endpoint, "_now", lambda: NOW.strftime("%Y%m%dT%H%M%SZ"))
    monkeypatch.setattr("uuid.uuid4", lambda: UUID(int=1))
    url = f"http://127.0.0.1:{server.begin()}"
    yield Access(region=REGION, endpoint_url=url, credentials=Credentials("AKIDEXAMPLE", "secret/+", "token=="))
    access_module.drop_clients(url)


def the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore do all of it."""
    monkeypatch.setattr(LeanEndpoint, "_made", lambda *_: None)


def hard(shape: Any, name: str = "") -> Any:
    """Return the least that a request of *shape* may be, of values that are hard to sign."""
    if shape.type_name == "structure":
        return {key: hard(shape.members[key], key) for key in shape.required_members}
    if shape.type_name == "list":
        return [hard(shape.member, name)]
    if shape.type_name == "string":
        return shape.enum[0] if shape.enum else HARD.ljust(shape.metadata.get("min", 0), "-")
    return {"boolean": True, "timestamp": NOW, "map": {}}.get(shape.type_name, 1)


def called(access: Access, listing: str) -> None:
    """Make the call *listing*, whatever comes of its answer."""
    service, operation = listing.split(":")
    with access.calling(service, REGION) as client:
        model = client._service_model.operation_model(operation)
        with contextlib.suppress(Exception):
            client._make_api_call(operation, hard(model.input_shape) if model.input_shape else {})


def test_each_listing_is_sent_byte_for_byte_as_botocore_sends_it(
    server: Server, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its signature is in it: one byte that AWS expects elsewhere, and every account of a fleet is refused."""
    ways: list[str] = []
    monkeypatch.setattr(SharedConnections, "exchange", noting(ways))
    called(access, LISTINGS[0])  # opens the connection
    server.sent.clear()
    ways.clear()

    for listing in LISTINGS:
        called(access, listing)
    ours = list(server.sent)
    assert len(LISTINGS) > 30
    assert ways == ["here"] * len(LISTINGS)
    server.sent.clear()
    the_plain_way(monkeypatch)
    for listing in LISTINGS:
        called(access, listing)

    # botocore's letters for what it makes use of come from a set, in any order.
    assert [ordered(request) for request in ours] == [ordered(request) for request in server.sent]
    assert len({request.partition(b"\r\n")[0] for request in ours}) > 5


def ordered(request: bytes) -> bytes:
    """Return *request* with the features in its user agent in order."""
    return re.sub(rb" m/(\S+)", lambda found: b" m/" + b",".join(sorted(found[1].split(b","))), request)


def noting(ways: list[str]) -> Any:
    """Return the connections' own exchange, which notes in *ways* whether it took place."""
    real = SharedConnections.exchange

    def exchange(self: SharedConnections, request: Any) -> Any:
        answer = real(self, request)
        ways.append("elsewhere" if answer is None else "here")
        return answer

    return exchange


ANSWERS = {
    "rows": PLAIN % (len(ROWS), ROWS),
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ROWS), ROWS),
    "until it ends": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + ROWS,
    "two dates": b"HTTP/1.1 200 OK\r\nDate: 1\r\nDate: 2\r\nContent-Length: %d\r\n\r\n%b" % (len(ROWS), ROWS),
    "refused": b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(REFUSED), REFUSED),
    "broken down": b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
    "nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a login page": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n<html><br>..",
    "cut off in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (len(ROWS) + 9, ROWS),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a line without end": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n",
    "no answer at all": b"",
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_is_what_botocore_makes_of_it(
    kind: str, server: Server, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cut off must not pass for an empty list, and a refusal must have its name: everything hangs on them."""
    server.ends = "cut off" in kind
    usual = server.answers[0]

    def outcome() -> Any:
        server.answers[:] = [ANSWERS[kind]]
        with access.calling("ec2", REGION) as client:
            try:
                found = client.describe_spot_instance_requests()
            except Exception as exc:  # noqa: BLE001 - whatever it is, both have to raise it
                return type(exc), getattr(exc, "response", None)
            return found

    def opened() -> None:
        server.answers[:] = [usual]
        is_ending, server.ends = server.ends, False
        with access.calling("ec2", REGION) as client:
            client.describe_spot_instance_requests()
        server.ends = is_ending

    opened()
    ours = outcome()
    the_plain_way(monkeypatch)
    opened()

    assert ours == outcome()
    opened()  # whatever was wrong is over


def test_an_answer_that_is_cut_off_is_none(server: Server, access: Access) -> None:
    """However well what has come of it reads: the rest may be what keeps an AMI."""
    with access.calling("ec2", REGION) as client:
        client.describe_spot_instance_requests()
        server.answers[:], server.ends = [PLAIN % (len(ROWS) + 9, ROWS)], True
        with pytest.raises(ConnectionClosedError):
            client.describe_spot_instance_requests()


def test_a_connection_that_aws_has_closed_meanwhile_is_opened_again(server: Server, access: Access) -> None:
    """AWS closes one after some seconds without a request; what is sent into it would be lost."""
    with access.calling("ec2", REGION) as client:
        server.ends = True
        for _ in range(3):
            assert client.describe_spot_instance_requests()["SpotInstanceRequests"] == []
            server.over.get(timeout=5)
        assert server.connections == 3
        server.ends = False
        for _ in range(3):
            assert client.describe_spot_instance_requests()["SpotInstanceRequests"] == []
        assert server.connections == 4


def test_without_credentials_of_this_thread_nothing_is_sent(server: Server, access: Access) -> None:
    """Never those of the account that was asked before, whose connection it is."""
    with access.calling("ec2", REGION) as client:
        client.describe_spot_instance_requests()
    server.sent.clear()

    with pytest.raises(RuntimeError, match="without credentials"):
        client.describe_spot_instance_requests()

    assert not server.sent


def test_what_is_not_plain_is_left_to_botocore(server: Server, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that is not known here may change the request, or answer it; a bucket is signed otherwise."""
    seen: list[str] = []
    with access.calling("ec2", REGION) as client:
        client.describe_spot_instance_requests()
        client._endpoint._handlers.clear()
        client.meta.events.register("before-send", lambda request, **_: seen.append(request.url))
        client.describe_spot_instance_requests()
        assert len(seen) == 1
        assert client._endpoint._handlers == {"DescribeSpotInstanceRequests": None}

    ways: list[str] = []
    monkeypatch.setattr(SharedConnections, "exchange", noting(ways))
    server.answers[:] = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]
    with access.calling("s3", REGION) as client:
        assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"ok"
        server.answers[:] = [ANSWERS["nothing"]]
        client.put_object(Bucket="bucket", Key="key", Body=b"text")
    assert not ways


def test_a_token_with_a_line_end_is_refused_as_ever(server: Server, access: Access) -> None:
    """It would begin a header of its own."""
    with access.calling("ec2", REGION) as client:
        client.describe_spot_instance_requests()
    server.sent.clear()
    split = Credentials("AKIDEXAMPLE", "secret", "token\r\nX-Amz-Target: other")
    torn = Access(region=REGION, endpoint_url=access.endpoint_url, credentials=split)

    with torn.calling("ec2", REGION) as client, pytest.raises(Exception, match="Invalid header value"):
        client.describe_spot_instance_requests()

    assert not server.sent
