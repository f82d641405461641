"""ECR's registry: the part of the OCI distribution API that `docker pull` uses, behind ECR's tokens."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from moto.ecr.models import ecr_backends

from gpu_ami_sandbox.aws.ecr import blobs, passwords, storage
from gpu_ami_sandbox.aws.gate import ACCOUNT_HEADER, Environ, StartResponse, send

_HOST = re.compile(r"(?P<account>[0-9]{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?::[0-9]+)?")
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_JSON = {"Content-Type": "application/json; charset=utf-8", "Docker-Distribution-Api-Version": "registry/2.0"}

Answer = tuple[int, dict[str, str], bytes]


class Registry:
    """A WSGI application under ``/v2/``.

    Args:
        region: The registry's region, where the Host header names none.
    """

    def __init__(self, region: str) -> None:
        self._region = region

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        host = _HOST.fullmatch(environ.get("HTTP_HOST", ""))
        account, region = (host["account"], host["region"]) if host else (environ[ACCOUNT_HEADER], self._region)
        status, headers, body = self._answer(environ, account, region)
        return send(start_response, status, headers, b"" if environ["REQUEST_METHOD"] == "HEAD" else body)

    def _answer(self, environ: Environ, account: str, region: str) -> Answer:
        password = _password(environ.get("HTTP_AUTHORIZATION", ""))
        if password is None:
            realm = f'Basic realm="https://{account}.dkr.ecr.{region}.amazonaws.com/",service="ecr.amazonaws.com"'
            return 401, {"Content-Type": "text/plain", "WWW-Authenticate": realm}, b"Not Authorized\n"
        expires = passwords(account, region).get(password)
        if expires is None or expires <= datetime.now(timezone.utc):
            return _error(401, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _error(405, "UNSUPPORTED", "The operation is unsupported: the sandbox's registry is read-only.")
        if environ["PATH_INFO"].rstrip("/") == "/v2":
            return 200, _JSON, b"{}"
        match = _PATH.fullmatch(environ["PATH_INFO"])
        if match is None:
            return _error(404, "NOT_FOUND", "page not found")
        return _content(account, region, **match.groupdict())


def _password(authorization: str) -> str | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme != "Basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if user == "AWS" else None


def _content(account: str, region: str, name: str, kind: str, reference: str) -> Answer:
    repository = ecr_backends[account][region].repositories.get(name)
    if repository is None:
        text = f"The repository with name '{name}' does not exist in the registry with id '{account}'"
        return _error(404, "NAME_UNKNOWN", text)
    if kind == "blobs":
        blob = blobs(account, region).get(reference)
        if blob is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        return 200, {"Content-Type": "application/octet-stream", "Docker-Content-Digest": reference}, blob
    image = _find(repository, reference)
    if image is None or storage(image).status != "ACTIVE":
        return _error(404, "MANIFEST_UNKNOWN", "Requested image not found")
    storage(image).pulled_at = datetime.now(timezone.utc)
    headers = {"Content-Type": image.image_manifest_media_type, "Docker-Content-Digest": image.image_digest}
    return 200, headers, image.image_manifest.encode()


def _find(repository: Any, reference: str) -> Any | None:
    return next((i for i in repository.images if reference == i.image_digest or reference in i.image_tags), None)


def _error(status: int, code: str, message: str) -> Answer:
    return status, _JSON, json.dumps({"errors": [{"code": code, "message": message}]}).encode()
