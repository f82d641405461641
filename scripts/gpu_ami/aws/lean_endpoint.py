"""Sends the requests of the clients that all accounts share without botocore's detours: the same bytes, half the work.

A fleet makes tens of thousands of small requests, and what they take is botocore's work on each: it prepares a request
three times for its signature, keeps headers in three kinds of dictionary, and asks eight lists of handlers. Here a
request is put together once, signed, and written to one of urllib3's open connections; `http.client` reads the answer
and botocore's parsers make sense of it. Whatever is not the plainest kind of call is left to botocore: a handler that
is not known here, another signature than version 4, a body that is a stream, a connection that is to be opened first.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import http.client
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore import exceptions
from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.endpoint import Endpoint as _Plain
from botocore.utils import normalize_url_path

# Without type information: most of it is botocore's own business.
_Endpoint: Any = _Plain
_SIGNER = "RequestSigner.handler"
# What botocore does about a request, by event. Each is done here, too, or has nothing to do where nothing is retried.
_KNOWN: Mapping[str, frozenset[str]] = {
    "request-created": frozenset(
        {
            _SIGNER,
            "MaxAttemptsSeeder.seed_max_attempts",
            "UserAgentString.rebuild_and_replace_user_agent_handler",
            "add_retry_headers",
        }
    ),
    "choose-signer": frozenset({"set_operation_specific_signer", "_set_auth_scheme_preference_signer"}),
    "before-sign": frozenset(),
    "before-send": frozenset(),
    "before-parse": frozenset(),
    "response-received": frozenset(),
    "needs-retry": frozenset({"RetryHandler.needs_retry"}),
}
# What botocore leaves out of a signature, and what it signs here itself.
_UNSIGNED = frozenset({"expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"})
_OWN = frozenset({"authorization", "content-length", "date", "host", "x-amz-content-sha256", "x-amz-date", "expect"})
_PORTS = {"http": 80, "https": 443}


class LeanEndpoint(_Endpoint):  # type: ignore[misc]
    """botocore's endpoint of one client, with the short way."""

    _signer: Any
    _handlers: dict[str, tuple[Any, ...] | None]

    def _send_request(self, request_dict: dict[str, Any], operation_model: Any) -> Any:
        made = self._made(request_dict, operation_model)
        connections = self.http_session
        answer = None if made is None else connections.exchange(made)
        if answer is None:
            return super()._send_request(request_dict, operation_model)
        return answer, self._parsed(answer, operation_model)

    def _made(self, request_dict: dict[str, Any], operation_model: Any) -> AWSPreparedRequest | None:
        """Return the request as it is sent, or None where botocore is to make it."""
        handlers = self._known_handlers(operation_model)
        context = request_dict["context"]
        if handlers is None or not _is_plain(request_dict, self._signer):
            return None
        body = _encoded(request_dict["body"])
        if body is None:
            return None
        request = _Draft(context, _Headers(request_dict["headers"]))
        self._update_retries_context(context, 1)
        for handler in handlers:
            if handler is None:
                _sign(request.headers, request_dict, body, self._signer)
            else:
                handler(request=request, operation_name=operation_model.name)
        headers: Any = request.headers
        if request_dict["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers["Content-Length"] = str(len(body))
        return AWSPreparedRequest(request_dict["method"], request_dict["url"], headers, body or None, False, context)

    def _known_handlers(self, operation_model: Any) -> tuple[Any, ...] | None:
        """Return what botocore does about a new request; None where that, or what follows, is not known.

        In its place, which decides what is signed and what is added unsigned, None stands for the signature.
        A handler that is registered after the first request of an operation would not be seen: nobody does that to a
        client that all accounts share.
        """
        name = operation_model.name
        if name not in self._handlers:
            found = {event: self._registered(event, operation_model) for event in _KNOWN}
            is_known = all({_name(one) for one in some} <= _KNOWN[event] for event, some in found.items())
            is_stream = operation_model.has_streaming_output or operation_model.has_event_stream_output
            created = tuple(None if _name(one) == _SIGNER else one for one in found["request-created"])
            self._handlers[name] = created if is_known and None in created and not is_stream else None
        return self._handlers[name]

    def _registered(self, event: str, operation_model: Any) -> list[Any]:
        events = self._event_emitter
        name = f"{event}.{operation_model.service_model.service_id.hyphenize()}.{operation_model.name}"
        return list(events._emitter._handlers.prefix_search(events._alias_event_name(name)))

    def _parsed(self, answer: Answer, operation_model: Any) -> Any:
        said = {
            "headers": answer.headers,
            "status_code": answer.status_code,
            "body": answer.content,
            "context": {"operation_name": operation_model.name},
        }
        parser = self._response_parser_factory.create_parser(operation_model.service_model.resolved_protocol)
        parsed = parser.parse(said, operation_model.output_shape)
        if answer.status_code >= 300:
            self._add_modeled_error_fields(said, parsed, operation_model, parser)
        if "ResponseMetadata" in parsed:
            # As its handler of retries notes it, which has none left.
            parsed["ResponseMetadata"] |= {"MaxAttemptsReached": True, "RetryAttempts": 0}
        return parsed


class Answer:
    """An answer as botocore's handlers know it, read to its end."""

    __slots__ = ("content", "headers", "status_code", "url")

    def __init__(self, url: str, status_code: int, headers: HeadersDict, content: bytes) -> None:
        self.url = url
        self.status_code = status_code
        self.headers = headers
        self.content = content


class _Headers(dict[str, Any]):
    """A request's headers as the handlers of a new request change them."""

    def replace_header(self, name: str, value: str) -> None:
        self[name] = value


class _Draft:
    """A request as the handlers of a new one see it."""

    __slots__ = ("context", "headers")

    def __init__(self, context: dict[str, Any], headers: _Headers) -> None:
        self.context = context
        self.headers = headers


def share(client: Any) -> None:
    """Let a botocore *client* that retries nothing itself take the short way."""
    if type(client._endpoint) is _Endpoint:
        client._endpoint.__class__ = LeanEndpoint
        client._endpoint._signer = client._request_signer
        client._endpoint._handlers = {}


def _name(handler: Any) -> str:
    return getattr(handler, "__qualname__", "")


def _is_plain(request: Mapping[str, Any], signer: Any) -> bool:
    """Return whether *request* is signed with version 4 by the client's credentials, and nothing in it is special."""
    context = request["context"]
    signing = context.get("signing") or {}
    if signing.keys() - {"region", "signing_name"} or (signing.get("signing_name") or signer.signing_name) in _S3:
        return False
    if signer.signature_version != "v4" or context.get("auth_type") not in (None, "v4"):
        return False
    if context.get("unsigned_payload") or context.get("has_streaming_input") or context.get("read_timeout"):
        return False
    config = context["client_config"]
    if config.auth_scheme_preference or any((context.get("checksum") or {}).values()):
        return False
    headers = request["headers"]
    return not any(name.lower() in _OWN or not isinstance(value, str) for name, value in headers.items())


_S3 = frozenset({"s3", "s3-outposts", "s3-object-lambda", "s3express"})


def _encoded(body: Any) -> bytes | None:
    """Return a request's body as it is sent; None where it is a stream."""
    if isinstance(body, dict):
        return urlencode([(_utf8(key), _utf8(value)) for key, value in body.items()], doseq=True).encode()
    if isinstance(body, str):
        return body.encode()
    return body if isinstance(body, bytes) else None


def _utf8(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _sign(headers: dict[str, Any], request: Mapping[str, Any], body: bytes, signer: Any) -> None:
    """Add to the *headers* of *request* its signature of version 4, by the credentials that its client has now."""
    credentials = signer._credentials.get_frozen_credentials()
    signing = request["context"].get("signing") or {}
    region = signing.get("region") or signer.region_name
    service = signing.get("signing_name") or signer.signing_name
    moment = _now()
    headers["X-Amz-Date"] = moment
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    host, path, query = _address(request["url"])
    named = {name.lower(): value for name, value in headers.items()}
    named["host"] = host
    names = sorted(named.keys() - _UNSIGNED)
    lines = "".join([f"{name}:{' '.join(named[name].split())}\n" for name in names])
    together = ";".join(names)
    canonical = f"{request['method'].upper()}\n{path}\n{query}\n{lines}\n{together}\n{_sha256(body)}"
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{_sha256(canonical.encode())}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (moment[:8], region, service, "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={together}, Signature={key.hex()}"
    )


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache(maxsize=4096)
def _address(url: str) -> tuple[str, str, str]:
    """Return the host, the path and the query of *url* as a signature has them."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _PORTS.get(parts.scheme):
        host = f"{host}:{parts.port}"
    pairs = sorted((key, value) for key, _, value in (pair.partition("=") for pair in parts.query.split("&")))
    query = "&".join(f"{key}={value}" for key, value in pairs) if parts.query else ""
    return host, quote(normalize_url_path(parts.path), safe="/~"), query


@functools.lru_cache(maxsize=4096)
def address_of(url: str) -> tuple[str, str, int]:
    """Return the scheme, the host and the port of *url*."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


@functools.lru_cache(maxsize=4096)
def target_of(url: str) -> tuple[str, str]:
    """Return the host and the target of a request for *url*, as HTTP's first two lines have them."""
    parts = urlsplit(url)
    path = parts.path or "/"
    return parts.netloc, f"{path}?{parts.query}" if parts.query else path


def written(request: AWSPreparedRequest) -> bytes | None:
    """Return the bytes of *request*; None where a header or the address has what would end its line."""
    made: Any = request
    host, target = target_of(made.url)
    lines = [f"{made.method} {target} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in made.headers.items()]
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or " " in target:
        return None
    with contextlib.suppress(UnicodeEncodeError):
        return f"{head}\r\n\r\n".encode("latin-1") + (made.body or b"")
    return None


def read(sock: Any, method: str, url: str) -> tuple[Answer, bool]:
    """Return the answer that comes from *sock*, and whether the connection ends with it.

    Raises:
        OSError: The connection broke.
        HTTPException: It is no answer.
    """
    response = http.client.HTTPResponse(sock, method=method)
    try:
        response.begin()
        # One that is cut off is refused; botocore takes what has come of it, and leaves it to the parsers, since 1.44.
        content = response.read()
        return Answer(url, response.status, _merged(response.headers.items()), content), response.will_close
    finally:
        response.close()


def _merged(items: Any) -> HeadersDict:
    """Return headers by their names; what comes twice is one, with a comma between."""
    found = HeadersDict()
    for name, value in items:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


@contextlib.contextmanager
def as_botocore_says(request: AWSPreparedRequest) -> Iterator[None]:
    """Turn what goes wrong on a connection into botocore's errors, as its own sessions do.

    Raises:
        HTTPClientError: Nothing usable came.
    """
    url = request.url
    try:
        yield
    except TimeoutError as exc:
        raise exceptions.ReadTimeoutError(endpoint_url=url, error=exc) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise exceptions.ConnectionClosedError(error=exc, request=request, endpoint_url=url) from exc
