"""The local AWS: moto's server, extended, on a free loopback port of this process."""

from __future__ import annotations

import functools
import hmac
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from moto import backends
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.moto_api._internal import mock_random
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.s3.models import s3_backends

from gpu_ami.aws.access import drop_clients
from gpu_ami_sandbox.account import ALIVE_PATH, LOOPBACK, TOKEN_HEADER
from gpu_ami_sandbox.aws import batch_starts, extensions, pricing
from gpu_ami_sandbox.aws.gate import CALL, Application, Call, Environ, Gate, StartResponse, error_answer, send
from gpu_ami_sandbox.aws.held import HELD, HeldService
from gpu_ami_sandbox.aws.http import HttpServer
from gpu_ami_sandbox.aws.registry import Registry
from gpu_ami_sandbox.aws.services import application_of, straight

_TOKEN_VARIABLE = f"HTTP_{TOKEN_HEADER.upper().replace('-', '_')}"
_FIRST_ACCOUNT = 123456789012
_SEED = 20261101
_ALWAYS = ("autoscaling", "batch", "ec2", "ecr", "iam", "kms", "s3", "ssm", "sts")
# moto tells these apart by more than the signature: S3's control plane has a path of its own.
_BY_PATH = frozenset({"s3"})


class Dispatcher(DomainDispatcherApplication):
    """Sends a request to the service it is signed for; what none answers is refused at once, not retried."""

    def __init__(self, region: str, token: str) -> None:
        """Serve moto's services, ours and the registry."""
        super().__init__(application_of)
        always = {name: application_of(name) for name in _ALWAYS}
        self._known = {name: application for name, application in always.items() if name not in _BY_PATH}
        self._known |= {name: straight(response.dispatch) for name, response in extensions.ADDED.items()}
        self._known |= {name: HeldService(name) for name in HELD}
        self._registry = Registry(region)
        self._token = token
        self.one_at_a_time = threading.RLock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ.get("PATH_INFO") == ALIVE_PATH:
            known = hmac.compare_digest(environ.get(_TOKEN_VARIABLE, ""), self._token)
            return send(start_response, 200 if known else 403, {}, b"")
        signed = environ.get("HTTP_AUTHORIZATION", "").startswith("AWS4-HMAC-SHA256 ")
        if environ.get("PATH_INFO", "").startswith("/v2") and not signed:
            return self._registry(environ, start_response)
        answer = _Answer()
        try:
            # moto's dictionaries are not made for several threads at once.
            with self.one_at_a_time:
                batch_starts.advance_all()
                body = b"".join(super().__call__(environ, answer))
            if answer.status.startswith("404") and body.lower().startswith(b"<!doctype html>"):
                raise NotImplementedError
        except Exception as gap:  # noqa: BLE001 - whatever moto cannot do must reach the caller as one clear refusal
            call: Call = environ[CALL]
            cause = f": {type(gap).__name__}: {gap}" if str(gap) else ""
            text = f"The sandbox's AWS has no {call.service} {call.action}{cause}"
            return send(start_response, *error_answer(environ, "UnsupportedOperation", text))
        start_response(answer.status, answer.headers)
        return [body]

    def get_application(self, environ: Environ) -> Application:
        """Return the application of the service that the request is signed for."""
        known = self._known.get(environ[CALL].service)
        return known if known is not None else super().get_application(environ)

    def get_backend_for_host(self, host: str | None) -> Any:
        """Return moto's name of the service behind *host*; moto itself prints when there is none."""
        if host is None or host == "moto_api" or host in _moto_modules():
            return host
        for backend, pattern in self.backend_url_patterns:
            if pattern.match(f"http://{host}"):
                return backend
        msg = f"no service at {host}"
        raise NotImplementedError(msg)


@functools.cache
def _moto_modules() -> frozenset[str]:
    """Moto lists its folder each time, which takes as long as answering a small request."""
    return frozenset(backends.list_of_moto_modules())


class _Answer:
    """Holds back the start of an answer until it is known to be one."""

    status: str = ""
    headers: list[tuple[str, str]]

    def __call__(self, status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        self.status, self.headers = status, headers
        return lambda _data: None


class LocalAws:
    """One running local AWS.

    moto's state belongs to the process, so each local AWS in it has an account of its own. It starts empty;
    the first one of a process gives out the same ids each time.

    Attributes:
        gate: The middleware in front of it: the calls so far, and faults for tests.
        token: Proves that an endpoint is this one.
        one_at_a_time: Held while a request is answered; whoever changes the state from another thread holds it, too.
    """

    _running: ClassVar[dict[int, LocalAws]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, region: str) -> None:
        extensions.install()
        self.token = secrets.token_urlsafe(24)
        dispatcher = Dispatcher(region, self.token)
        self.gate = Gate(dispatcher)
        self.one_at_a_time = dispatcher.one_at_a_time
        self._number = -1
        self._server: HttpServer | None = None

    @property
    def account_id(self) -> str:
        """The account that callers with the sandbox's keys are in."""
        return str(_FIRST_ACCOUNT + self._number)

    @property
    def port(self) -> int:
        """The loopback port."""
        if self._server is None:
            msg = "the local AWS was not started"
            raise RuntimeError(msg)
        return self._server.port

    @property
    def endpoint_url(self) -> str:
        """Where SDKs find it."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Take the first free account, empty it and listen."""
        os.environ.pop("MOTO_ACCOUNT_ID", None)  # it would put every caller into one account
        with self._lock:
            self._number = next(n for n in range(len(self._running) + 1) if n not in self._running)
            self._running[self._number] = self
        self.gate.account_id = self.account_id
        self.reset()
        self._server = HttpServer(LOOPBACK, self.gate)
        self._server.start()

    def reset(self) -> None:
        """Empty the account, start its ids anew and forget calls and faults."""
        self._empty()
        mock_random.seed(_SEED + self._number)
        pricing.sell(pricing.default_products())
        self.gate.clear()

    def _empty(self) -> None:
        """Drop the account's state; S3's objects are files that must be closed."""
        for name, (partition, owner) in list(s3_backends.bucket_accounts.items()):
            if owner == self.account_id:
                bucket = s3_backends[owner][partition].buckets[name]
                for key in bucket.keys.values():
                    key.dispose()
                del s3_backends.bucket_accounts[name]
        for service in list(BackendDict._instances):
            service.pop(self.account_id, None)
        reset_model_data()  # a list of every object that ever was, for moto's dashboard

    def stop(self) -> None:
        """Close the port and every client's connection to it, and drop the state."""
        if self._server is not None:
            drop_clients(self.endpoint_url)
            self._server.stop()
            self._server = None
            self._empty()
        with self._lock:
            if self._running.get(self._number) is self:
                del self._running[self._number]
