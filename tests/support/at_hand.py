"""Calls of the local AWS of a test's own process without the network between, which costs a quarter of it.

All else of a call stays as it is: botocore's serialisation, signature, parsing, retries and errors, and the gate with
its faults. S3 is called over HTTP, for its bodies are streams; so is everything in a test that asks for `over_http`.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError

from gpu_ami.aws import access
from gpu_ami_sandbox.aws.gate import Environ
from gpu_ami_sandbox.aws.server import LocalAws


@contextlib.contextmanager
def at_hand(aws: LocalAws) -> Iterator[None]:
    """Let the clients of *aws* that are made inside the block call it directly.

    botocore asks whoever wants to know before it sends a request, and takes what they return for the answer: moto's
    own stand-in for AWS lives of that. All else of a call stays: its serialisation, signature, parsing and errors.
    """
    made = access._client

    def call(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        if _over_http.is_set() or not isinstance(request.body, (bytes, str, type(None))):
            return None
        started: list[Any] = []
        try:
            body = b"".join(aws.gate(_environ(aws, request), lambda *given: started.append(given)))
            status, headers = started[0]
        except ConnectionError as exc:
            # As botocore says it of a connection that ends without an answer.
            raise ConnectionClosedError(error=exc, request=request, endpoint_url=request.url) from exc
        except Exception as exc:  # noqa: BLE001 - as the server does
            status, headers, body = "500", [("Content-Type", "text/plain")], f"{type(exc).__name__}: {exc}".encode()
        given: Any = {"Date": formatdate(usegmt=True), "Content-Length": str(len(body)), **dict(headers)}
        return AWSResponse(request.url, int(status[:3]), given, _Raw(body))

    def client(*key: Any) -> Any:
        new = made(*key)
        if new.meta.endpoint_url == aws.endpoint_url and new.meta.service_model.service_name != "s3":
            new.meta.events.register("before-send", call)
        return new

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "_client", client)
        yield


@contextlib.contextmanager
def over_http() -> Iterator[None]:
    """Let each call inside the block go over the network."""
    _over_http.set()
    try:
        yield
    finally:
        _over_http.clear()


_over_http = threading.Event()


class _Line:
    """The connection, for faults that end it."""

    def shutdown(self, _how: int) -> None:
        """End it: the gate then says so itself."""


class _Raw(io.BytesIO):
    """A body as botocore reads it from the network."""

    def stream(self) -> Iterator[bytes]:
        """Yield all of it."""
        yield self.read()


def _environ(aws: LocalAws, request: Any) -> Environ:
    """Return what the HTTP server makes of a botocore *request*, whose headers may be text or bytes."""
    url = urlsplit(request.url)
    target = f"{url.path}?{url.query}" if url.query else url.path
    body = request.body.encode() if isinstance(request.body, str) else request.body or b""
    environ: Environ = {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "werkzeug.socket": _Line(),
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(url.path).encode().decode("latin-1"),
        "QUERY_STRING": url.query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "SERVER_NAME": url.hostname,
        "SERVER_PORT": str(aws.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": url.netloc,
        "CONTENT_LENGTH": str(len(body)),
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        text = value.decode() if isinstance(value, bytes) else str(value)
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = text
    return environ
