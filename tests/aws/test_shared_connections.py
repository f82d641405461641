"""The connections that all accounts' clients share: as strict as botocore's own, and the authorities are read once."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.exceptions import SSLError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gpu_ami.aws import access as access_module
from gpu_ami.aws.access import Access
from gpu_ami.aws.shared_connections import SharedConnections


class Handler(BaseHTTPRequestHandler):
    """Answers with nothing, and closes: each request has a connection of its own."""

    def do_GET(self) -> None:
        """Answer one request."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def certificate(folder: Path) -> Path:
    """Write a key and a certificate for localhost, which nobody but itself vouches for; return where."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "localhost.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A server with TLS: its certificate and its port."""
    path = certificate(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield path, server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def status(connections: SharedConnections, port: int, host: str = "localhost") -> int:
    """Return with which status the server answers."""
    headers: Any = HeadersDict()
    request = AWSPreparedRequest("GET", f"https://{host}:{port}/", headers, None, False)
    return int(connections.send(request).status_code)


def test_whoever_nobody_vouches_for_is_refused(served: tuple[Path, int]) -> None:
    """Connections are shared to save time: never at the price of talking to somebody else."""
    path, port = served

    with pytest.raises(SSLError):
        status(SharedConnections(verify=True), port)
    with pytest.raises(SSLError):
        status(SharedConnections(verify=str(path)), port, "127.0.0.1")
    assert status(SharedConnections(verify=str(path)), port) == 200


def test_authorities_are_read_once(served: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """For each connection of thousands they are 20 ms."""
    path, port = served
    read: list[Any] = []
    load = ssl.SSLContext.load_verify_locations

    def counted(self: Any, *files: Any, **more: Any) -> None:
        read.append(files or more)
        load(self, *files, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counted)
    connections = SharedConnections(verify=str(path))

    assert [status(connections, port) for _ in range(3)] == [200] * 3
    assert len(read) == 1


def test_a_list_of_authorities_that_is_not_there_is_named(served: tuple[Path, int], tmp_path: Path) -> None:
    """By the first call, as botocore does: without it nobody is believed."""
    with pytest.raises((SSLError, OSError)):
        status(SharedConnections(verify=str(tmp_path / "gone.pem")), served[1])


def test_clients_of_all_regions_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes through a proxy keeps its own: which hosts that is for is botocore's to decide."""
    access = Access(region="eu-west-1", profile=None, endpoint_url="http://127.0.0.1:9/shared")
    with access.calling("ec2", "eu-west-1") as here, access.calling("ssm", "us-east-1") as there:
        shared = here._endpoint.http_session
        assert isinstance(shared, SharedConnections)
        assert there._endpoint.http_session is shared
        assert not isinstance(access.client("ec2")._endpoint.http_session, SharedConnections)
    access_module.drop_clients("http://127.0.0.1:9/shared")
    assert not [key for key in access_module._connections if key[0][2] == access.endpoint_url]

    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with Access(region="eu-west-3").calling("codebuild", "eu-west-3") as behind:
        assert not isinstance(behind._endpoint.http_session, SharedConnections)
