"""The applications behind the local AWS: one for each service, moto's or ours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from moto import backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.base_backend import BackendDict
from moto.core.request import Request
from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.exceptions import HTTPException

from gpu_ami_sandbox.aws.gate import Application, Environ, StartResponse, send

_Dispatch = Callable[[Request, str, Any], tuple[int, dict[str, Any], str | bytes]]


class _Request(Request):
    """A request that came over the network: answers get their date from the server."""

    from_wsgi_server = True


@functools.cache
def application_of(service: Any) -> Application:
    """Return the application of one of moto's services.

    moto makes it at the first request, with numbers that ids are made of: who comes first would decide which ids
    a build gets. So those that every sandbox needs are made before the numbers are seeded.
    """
    handlers = set(_backend(service).flask_paths.values())
    if len(handlers) == 1 and next(iter(handlers)).__name__ == "dispatch":
        return straight(handlers.pop())
    application: Application = create_backend_app(service)
    return application


def straight(dispatch: _Dispatch) -> Application:
    """Return an application whose every request goes to *dispatch*, whatever its path.

    moto puts Flask between, to route by path; where there is nothing to route that takes as long as the answer.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = _Request(environ)
        try:
            status, headers, body = dispatch(request, request.raw_url, dict(request.headers))
        except HTTPException as refusal:
            return list(refusal(environ, start_response))
        if status == HTTPStatus.NOT_FOUND and not body:
            raise NotImplementedError
        content = body.encode() if isinstance(body, str) else body
        shown = {key: str(value) for key, value in headers.items() if key.lower() not in ("content-length", "status")}
        return send(start_response, int(status), shown, content)

    return application


def _backend(service: Any) -> Any:
    """Return one of the service's backends, as moto does: all have the same paths."""
    found: Any = backends.get_backend(service)
    if not isinstance(found, BackendDict):
        return found["global"]
    regions: Any = found[DEFAULT_ACCOUNT_ID]
    return regions["us-east-1" if "us-east-1" in regions else "aws"]
