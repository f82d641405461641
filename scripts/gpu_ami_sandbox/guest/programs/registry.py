"""Pulls images as Docker does: the registry's HTTP API, each byte checked against its digest."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gpu_ami_sandbox.guest.programs.images import Store
from gpu_ami_sandbox.guest.programs.system import System

_ECR = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.(com(\.cn)?|eu)|on\.(aws|amazonwebservices\.(com\.cn|eu)))"
)
_CHUNK = 1024 * 1024
_ACCEPT = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )
)


class PullError(Exception):
    """The registry refused, cannot be reached, or sent something else; the text is the Docker daemon's."""


class Reference(NamedTuple):
    """``HOST/NAME:TAG`` or ``HOST/NAME@DIGEST``, taken apart."""

    host: str
    name: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        """Host and name."""
        return f"{self.host}/{self.name}"

    @property
    def requested(self) -> str:
        """What is requested of the registry: the digest, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        """Return the reference as it is written."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


def parse(text: str) -> Reference | None:
    """Return *text* taken apart; None when it is no reference."""
    name, _, digest = text.partition("@")
    if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return None
    first, slash, rest = name.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if has_host else ("docker.io", name if slash else f"library/{name}")
    path, _, tag = path.partition(":")
    if not re.fullmatch(r"[a-z0-9]+([._/-]+[a-z0-9]+)*", path) or (tag and not re.fullmatch(r"[\w][\w.-]{0,127}", tag)):
        return None
    return Reference(host, path, "" if digest else (tag or "latest"), digest)


class Registry:
    """The registry of one reference.

    Args:
        reference: What is to be pulled.
        authorization: What `docker login` has stored for its host; empty without.
        system: The instance, whose local AWS answers for every ECR registry.
    """

    def __init__(self, reference: Reference, authorization: str, system: System) -> None:
        self._reference, self._authorization = reference, authorization
        self._endpoint = urlsplit(system.profile()["AWS_ENDPOINT_URL"])

    def check_login(self) -> str:
        """Return the empty text when the registry takes the login, else its answer as Docker puts it."""
        response, _ = self._get("/v2/")
        return "" if response.status == 200 else f"{response.status} {response.reason}"

    def manifest(self) -> tuple[dict[str, Any], str]:
        """Return the manifest for linux/amd64 and the digest that the reference names."""
        document, digest = self._manifest(self._reference.requested)
        if "manifests" in document:
            platforms = [m for m in document["manifests"] if m.get("platform", {}).get("architecture") == "amd64"]
            if not platforms:
                msg = "no matching manifest for linux/amd64 in the manifest list entries"
                raise PullError(msg)
            document, _ = self._manifest(platforms[0]["digest"])
        return document, digest

    def blob(self, digest: str) -> bytes:
        """Return a small blob, such as a configuration, checked."""
        response, body = self._get(f"/v2/{self._reference.name}/blobs/{digest}")
        if response.status != 200:
            raise PullError(self._explain(body, response.status))
        if _sha256(body) != digest:
            msg = f"image verification failed for digest {digest}"
            raise PullError(msg)
        return body

    def download(self, digest: str, target: Path, staging: Path) -> None:
        """Write the layer *digest* to *target*, by way of *staging*; nothing is left when it is not that layer."""
        staging.mkdir(parents=True, exist_ok=True)
        summed = hashlib.sha256()
        connection = self._connect()
        with tempfile.NamedTemporaryFile(dir=staging, prefix="GetImageBlob", delete=True) as file:
            response = self._request(connection, f"/v2/{self._reference.name}/blobs/{digest}")
            if response.status != 200:
                raise PullError(self._explain(response.read(), response.status))
            while data := response.read(_CHUNK):
                summed.update(data)
                file.write(data)
            connection.close()
            if f"sha256:{summed.hexdigest()}" != digest:
                msg = f"filesystem layer verification failed for digest {digest}"
                raise PullError(msg)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.seek(0)
            with target.open("wb") as stored:
                while data := file.read(_CHUNK):
                    stored.write(data)

    def _manifest(self, requested: str) -> tuple[dict[str, Any], str]:
        response, body = self._get(f"/v2/{self._reference.name}/manifests/{requested}")
        if response.status != 200:
            raise PullError(self._explain(body, response.status))
        digest = _sha256(body)
        if requested.startswith("sha256:") and requested != digest:
            msg = f"manifest verification failed for digest {requested}"
            raise PullError(msg)
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict) or not ({"layers", "manifests"} & document.keys()):
            msg = f"unsupported manifest media type and no default available: {response.getheader('Content-Type')}"
            raise PullError(msg)
        return document, digest

    def _explain(self, body: bytes, status: int) -> str:
        """Return the daemon's message for the registry's refusal."""
        reference = self._reference
        try:
            error = json.loads(body)["errors"][0]
            code, message = str(error["code"]), str(error["message"])
        except (ValueError, LookupError, TypeError):
            if status == 401:
                url = f"https://{reference.host}/v2/{reference.name}/manifests/{reference.requested}"
                return f'Head "{url}": no basic auth credentials'
            return f"received unexpected HTTP status: {status} {http.client.responses.get(status, '')}".rstrip()
        text = f"{code.lower().replace('_', ' ')}: {message}"
        if code == "MANIFEST_UNKNOWN":
            return f"manifest for {reference} not found: {text}"
        if code == "NAME_UNKNOWN":
            return f"repository {reference.repository} not found: {text}"
        if code in ("DENIED", "UNAUTHORIZED"):
            return (
                f"pull access denied for {reference.repository}, repository does not exist "
                f"or may require 'docker login': {text}"
            )
        return text

    def _get(self, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connect()
        try:
            response = self._request(connection, path)
            return response, response.read()
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        host = self._reference.host
        if not _ECR.fullmatch(host):
            server = "registry-1.docker.io" if host == "docker.io" else host
            msg = f'Get "https://{server}/v2/": dial tcp: lookup {server}: no such host'
            raise PullError(msg)
        return http.client.HTTPConnection(self._endpoint.hostname or "", self._endpoint.port, timeout=60)

    def _request(self, connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        headers = {"Host": self._reference.host, "Accept": _ACCEPT, "User-Agent": "docker/25.0.16"}
        if self._authorization:
            headers["Authorization"] = f"Basic {self._authorization}"
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            msg = f'Get "https://{self._reference.host}{path}": {exc}'
            raise PullError(msg) from exc


def pull(reference: Reference, registry: Registry, store: Store, staging: Path) -> tuple[list[str], str]:
    """Bring *reference* into *store* and return Docker's lines about its layers, and the digest.

    Raises:
        PullError: See there; the image is then not in the store.
    """
    manifest, digest = registry.manifest()
    lines = []
    layers = [str(layer["digest"]) for layer in manifest["layers"]]
    for layer in layers:
        short = layer.partition(":")[2][:12]
        if store.layer(layer).exists():
            lines.append(f"{short}: Already exists")
            continue
        registry.download(layer, store.layer(layer), staging)
        lines += [f"{short}: Pulling fs layer", f"{short}: Verifying Checksum", f"{short}: Pull complete"]
    image_id = str(manifest["config"]["digest"])
    names = [f"{reference.repository}@{digest}"]
    names += [f"{reference.repository}:{reference.tag}"] if reference.tag else []
    store.add(registry.blob(image_id), image_id, names, layers)
    return lines, digest


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
