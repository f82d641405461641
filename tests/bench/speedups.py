"""What is in the sandbox for speed only, with and without it: each part must earn its ties to moto's inner workings.

Processor seconds of this process, the two ways in turn: other work on the machine counts for neither.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import Any, NamedTuple
from unittest import mock

from moto import backends
from moto.core import responses, utils
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.responses import EC2Response
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import create_environ

from gpu_ami_sandbox.account import LOOPBACK
from gpu_ami_sandbox.aws import server
from gpu_ami_sandbox.aws.ec2.service import SandboxEC2
from gpu_ami_sandbox.aws.gate import StartResponse, send
from gpu_ami_sandbox.aws.http import HttpServer
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.demo_account import build_demo_account
from tests.bench.measure import say

REGION = "ap-northeast-2"
AT_LEAST = 1.2
RUNS = 11
# moto's own, before the sandbox replaces them.
_TAGS, _LOADER, _METHODS = TaggedEC2Resource.get_tags, utils.create_loader, responses.method_names_from_class

Off = Callable[[], AbstractContextManager[Any]]


class Part(NamedTuple):
    """One part: its name, what switches it off for a block, and a load that it is for."""

    name: str
    off: Off
    load: Callable[[], object]


def bench() -> bool:
    """Print and judge every part: a load's seconds without it over those with it, at least 1.2."""
    with contextlib.ExitStack() as stack:
        judged = [_judged(part) for part in _parts(stack)]
    return all(judged)


def _judged(part: Part) -> bool:
    pairs = []
    for _ in range(RUNS + 1):
        plain = _cpu_s(part.load)
        with part.off():
            pairs.append((_cpu_s(part.load), plain))
    pairs = pairs[1:]  # the first one reads and compiles
    ratio = statistics.median(without / plain for without, plain in pairs)
    without, plain = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
    text = f"{without:.1f} ms / {plain:.1f} ms = {ratio:.2f}"
    return say(f"sandbox without / with {part.name} (at least {AT_LEAST})", text, good=ratio >= AT_LEAST)


def _cpu_s(load: Callable[[], object]) -> float:
    began = time.process_time()
    load()
    return time.process_time() - began


def _parts(stack: contextlib.ExitStack) -> list[Part]:
    """Return all parts, with a demo account behind them that is there until *stack* ends."""
    aws, fresh = LocalAws(REGION), LocalAws(REGION)
    stack.callback(aws.stop)
    aws.start()
    _fill(aws)

    def start() -> None:
        fresh.start()
        _fill(fresh)
        fresh.stop()

    def calls(service: str, action: str, number: int) -> Callable[[], None]:
        return functools.partial(_call, aws, service, action, number)

    images, small = calls("ec2", "DescribeImages", 2), calls("ec2", "DescribeKeyPairs", 20)
    other = calls("cloudformation", "ListStacks", 20)  # one of those that no application is made for at the start
    kept = stack.enter_context(_connections())
    return [
        Part("moto's default AMIs left out, an account made", _default_amis, start),
        Part("models read once, three of them for moto", _patched(utils, "create_loader", _LOADER), _read_models),
        Part("tags found by id, AMIs listed", _patched(TaggedEC2Resource, "get_tags", _TAGS), images),
        Part("XML in one step, AMIs listed", _patched(SandboxEC2, "serialized", EC2Response.serialized), images),
        Part("methods listed once, small calls", _patched(responses, "method_names_from_class", _METHODS), small),
        Part("moto's folder listed once, small calls", _patched(server, "_moto_modules", _list_modules), other),
        Part("no routing, small calls", functools.partial(_routed, aws), small),
        Part("connections kept, empty requests", kept.closed, kept.send),
    ]


def _fill(aws: LocalAws) -> None:
    build_demo_account(aws.account_id, REGION, datetime.now(timezone.utc))


def _read_models() -> None:
    for service in ("ec2", "ssm", "batch"):
        utils._load_service_model(service, "service-2")


def _call(aws: LocalAws, service: str, action: str, number: int) -> None:
    """Let the local AWS answer *number* calls; the network and a client's own time are left out."""
    scope = f"sandbox/20261124/{REGION}/{service}/aws4_request"
    for _ in range(number):
        environ = create_environ(
            "/",
            f"http://{LOOPBACK}:{aws.port}",
            method="POST",
            headers={"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"},
            data={"Action": action, "Version": "2016-11-15"},
        )
        answers: list[str] = []
        list(aws.gate(environ, lambda status, _headers, to=answers: to.append(status)))
        if answers != ["200 OK"]:
            msg = f"{service} {action}: {answers}"
            raise RuntimeError(msg)


# --- what switches each part off


def _patched(owner: Any, name: str, own: object) -> Off:
    return lambda: mock.patch.object(owner, name, own)


def _default_amis() -> AbstractContextManager[Any]:
    return mock.patch.dict(os.environ, {"MOTO_EC2_LOAD_DEFAULT_AMIS": "true"})


def _list_modules() -> frozenset[str]:
    return frozenset(backends.list_of_moto_modules())


def _routed(aws: LocalAws) -> AbstractContextManager[Any]:
    """Put moto's Flask application back in front of EC2."""
    dispatcher: Any = aws.gate._application
    return mock.patch.dict(dispatcher._known, {"ec2": _flask()})


@functools.cache
def _flask() -> Any:
    return create_backend_app("ec2")


class _Connection:
    """A client of one application behind our server, and behind werkzeug's, which closes after each answer."""

    def __init__(self, ours: int, theirs: int) -> None:
        self._ours, self._theirs = (http.client.HTTPConnection(LOOPBACK, port, timeout=30) for port in (ours, theirs))
        self._used = self._ours

    def send(self) -> None:
        for _ in range(100):
            self._used.request("POST", "/", b"x" * 100)
            self._used.getresponse().read()

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        self._used = self._theirs
        yield
        self._used = self._ours

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@contextlib.contextmanager
def _connections() -> Iterator[_Connection]:
    ours, theirs = HttpServer(LOOPBACK, _answer), make_server(LOOPBACK, 0, _answer, True, request_handler=_Quiet)
    thread = threading.Thread(target=theirs.serve_forever, kwargs={"poll_interval": 0.02})
    ours.start()
    thread.start()
    connection = _Connection(ours.port, theirs.server_address[1])
    yield connection
    connection.close()
    ours.stop()
    theirs.shutdown()
    thread.join()
    theirs.server_close()


def _answer(environ: dict[str, Any], start_response: StartResponse) -> Any:
    environ["wsgi.input"].read(100)
    return send(start_response, 200, {}, b"answer")


class _Quiet(MotoRequestHandler):  # type: ignore[misc]
    """werkzeug's, as moto has it, without output on the terminal."""

    def log(self, *_: Any) -> None:
        """Say nothing."""
