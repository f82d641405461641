"""WSGI middleware that records every AWS call and injects faults for tests."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.exceptions import DataNotFoundError
from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.iam.models import get_account_id_from
from werkzeug.exceptions import HTTPException

from gpu_ami_sandbox.aws.enforcement import refusal

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
Answer = tuple[int, dict[str, str], bytes]

# What moto reads the account of a request from.
ACCOUNT_HEADER = "HTTP_X_MOTO_ACCOUNT_ID"
# A key that an AWS could have given out: moto knows whose it is. Any other belongs to the sandbox's account.
_REAL_KEY = re.compile(r"[A-Z0-9]{20}")
# Where later stages find the call that the gate read.
CALL = "sandbox.call"
# botocore's names of models of services that tell operations by their path, where they do not sign by that name.
_MODELS = {"bedrock-agentcore": "bedrock-agentcore-control"}
# A form or a JSON document is small; what is larger is an upload to S3 and is left on the wire.
_LARGEST_PARAMETERS = 4 * 1024 * 1024


@dataclass(frozen=True)
class Call:
    """One request that reached the local AWS.

    Attributes:
        number: Counted from 1.
        service: Signing name, such as ``ec2``; empty when the request was not signed.
        action: Operation, such as ``DescribeImages``; ``GET /path`` for S3 and the registry.
        region: The region it was signed for.
        parameters: As sent: flat for EC2's forms, nested for JSON.
    """

    number: int
    service: str
    action: str
    region: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Fault:
    """What to do to calls that match.

    Attributes:
        answer: Makes the answer; None lets the call pass, `ConnectionCutError` closes its connection.
        action: Only this operation; None is any.
        service: Only this service; None is any.
        at: Only the k-th matching call, counted from 1; None is each of them.
        seen: How many calls have matched so far.
    """

    answer: Callable[[Call, Environ], Answer | None]
    action: str | None = None
    service: str | None = None
    at: int | None = None
    seen: int = 0

    def strikes(self, call: Call) -> bool:
        """Count a matching call; return whether this is one to answer."""
        if self.action not in (None, call.action) or self.service not in (None, call.service):
            return False
        self.seen += 1
        return self.at in (None, self.seen)


class ConnectionCutError(ConnectionError):
    """The connection ends without an answer; the server closes it silently."""


class Gate:
    """WSGI middleware in front of the local AWS.

    Attributes:
        calls: Every call so far, oldest first.
        delay_s: Added to each call, as a network would.
        account_id: The account that the sandbox's own keys belong to.
        enforcing: Whether users and roles may only do what their policies allow; the sandbox's own keys may all.
    """

    def __init__(self, application: Application) -> None:
        self.calls: list[Call] = []
        self.delay_s = 0.0
        self.account_id = ""
        self.enforcing = False
        self._application = application
        self._faults: list[Fault] = []
        self._denied: list[str] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Do something of the caller's own to matching calls."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def fail(
        self,
        code: str,
        message: str = "made to fail",
        *,
        action: str | None = None,
        service: str | None = None,
        at: int | None = None,
        status: int = 400,
    ) -> Fault:
        """Answer matching calls (the k-th only, with *at*) with AWS's error *code*."""

        def answer(_call: Call, environ: Environ) -> Answer:
            return error_answer(environ, code, message, status)

        return self.add(Fault(answer, action, service, at))

    def cut(self, *, action: str | None = None, service: str | None = None, at: int | None = None) -> Fault:
        """Close the connection of matching calls without an answer."""

        def answer(_call: Call, _environ: Environ) -> Answer:
            raise ConnectionCutError

        return self.add(Fault(answer, action, service, at))

    def reply(
        self, body: bytes, *, action: str | None = None, service: str | None = None, at: int | None = None
    ) -> Fault:
        """Answer matching calls with status 200 and *body*, whatever it is."""

        def answer(_call: Call, _environ: Environ) -> Answer:
            return 200, {"Content-Type": "text/xml"}, body

        return self.add(Fault(answer, action, service, at))

    def deny(self, *patterns: str) -> None:
        """Refuse what an explicit Deny in an IAM policy would, such as ``ec2:Delete*``."""
        with self._lock:
            self._denied += [pattern.lower() for pattern in patterns]

    def clear(self) -> None:
        """Forget all calls, faults, denials and the delay, and enforce no policies."""
        with self._lock:
            self.calls.clear()
            self._faults.clear()
            self._denied.clear()
            self.delay_s = 0.0
            self.enforcing = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        call = read_call(environ)
        with self._lock:
            call = Call(len(self.calls) + 1, call.service, call.action, call.region, call.parameters)
            self.calls.append(call)
            struck = [fault for fault in self._faults if fault.strikes(call)]
            name = f"{call.service}:{call.action}"
            denied = any(fnmatchcase(name.lower(), pattern) for pattern in self._denied)
        environ[CALL] = call
        if _REAL_KEY.fullmatch(_scope(environ)[0]) is None:
            environ[ACCOUNT_HEADER] = self.account_id
        if self.delay_s:
            time.sleep(self.delay_s)
        if denied:
            own = f"arn:aws:iam::{self.account_id}:user/sandbox"
            return send(start_response, *_denial(environ, own, name, "with an explicit deny in"))
        if self.enforcing and (refused := _refused(environ, call, self.account_id)) is not None:
            return send(start_response, *refused)
        try:
            for fault in struck:
                if (answer := fault.answer(call, environ)) is not None:
                    return send(start_response, *answer)
        except ConnectionCutError:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)  # the server alone would wait for more requests
            raise
        return self._application(environ, start_response)


def send(start_response: StartResponse, status: int, headers: dict[str, str], body: bytes) -> Iterable[bytes]:
    """Answer a WSGI request with one piece of bytes."""
    reason = "OK" if status < 400 else "Error"
    start_response(f"{status} {reason}", [*headers.items(), ("Content-Length", str(len(body)))])
    return [body]


def read_call(environ: Environ) -> Call:
    """Return which operation the request asks for; its body stays readable."""
    scope = _scope(environ)
    region, service = (scope[2], scope[3]) if len(scope) > 3 else ("", "")
    kind = environ.get("CONTENT_TYPE", "")
    parameters = {} if service in ("", "s3") else _parameters(kind, _peek(environ))
    if "Action" in parameters:
        action = str(parameters.pop("Action"))
        parameters.pop("Version", None)
    elif target := environ.get("HTTP_X_AMZ_TARGET"):
        action = str(target).rpartition(".")[2]
    else:
        action = _rest_action(service, environ)
    return Call(0, service, action, region, parameters)


def _scope(environ: Environ) -> list[str]:
    """Return access key, date, region, service and kind of a signature; a list of one when there is none."""
    signature: str = environ.get("HTTP_AUTHORIZATION", "")
    return signature.partition("Credential=")[2].partition(",")[0].split("/")


def _rest_action(service: str, environ: Environ) -> str:
    """Return the operation that botocore's model has for the path; S3's is not worth its time."""
    if service not in ("", "s3"):
        try:
            return str(get_service_router(_MODELS.get(service, service)).match(Request(dict(environ)))[0].name)
        except (DataNotFoundError, HTTPException):
            pass  # no such service or path: shown as it came
    return f"{environ.get('REQUEST_METHOD', 'GET')} {environ.get('PATH_INFO', '/')}"


def _peek(environ: Environ) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if not 0 < length <= _LARGEST_PARAMETERS:
        return b""
    body: bytes = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _parameters(kind: str, body: bytes) -> dict[str, Any]:
    if "form" in kind:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    try:
        document = json.loads(body) if body else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _refused(environ: Environ, call: Call, account_id: str) -> Answer | None:
    """Return IAM's refusal when the caller is a user or role whose policies do not allow the call."""
    key = _scope(environ)[0]
    # A role of another account is judged by the policies that it has there.
    account = get_account_id_from(key) if _REAL_KEY.fullmatch(key) else account_id
    found = refusal(account, key, call.service, call.action, call.region, call.parameters)
    return None if found is None else _denial(environ, found.principal, found.action, found.why)


def _denial(environ: Environ, principal: str, name: str, why: str) -> Answer:
    code = {"ec2": "UnauthorizedOperation", "s3": "AccessDenied"}.get(environ[CALL].service)
    if code is None:
        code = "AccessDenied" if "form" in environ.get("CONTENT_TYPE", "") else "AccessDeniedException"
    text = f"User: {principal} is not authorized to perform: {name} {why} an identity-based policy"
    if code == "UnauthorizedOperation":
        text = f"You are not authorized to perform this operation. {text}"
    return error_answer(environ, code, text, 400 if code.endswith("Exception") else 403)


def error_answer(environ: Environ, code: str, message: str, status: int = 400) -> Answer:
    """Return the answer with AWS's error *code*, in the form that the request's protocol has for errors."""
    call: Call = environ[CALL]
    xml = {"Content-Type": "text/xml"}
    text = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if call.service == "s3":
        return status, xml, f"<Error>{text}<RequestId>sandbox</RequestId></Error>".encode()
    if call.service == "ec2":
        body = f"<Response><Errors><Error>{text}</Error></Errors><RequestID>sandbox</RequestID></Response>"
        return status, xml, body.encode()
    if "form" in environ.get("CONTENT_TYPE", ""):
        body = f"<ErrorResponse><Error><Type>Sender</Type>{text}</Error><RequestId>sandbox</RequestId></ErrorResponse>"
        return status, xml, body.encode()
    document = {"__type": code, "message": message, "Message": message}
    headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": code}
    return status, headers, json.dumps(document).encode()
