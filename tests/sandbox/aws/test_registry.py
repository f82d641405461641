"""The registry: ECR's tokens open it, and `docker pull` finds the bytes that the digest promises."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from moto.ecr.models import ecr_backends

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws.ecr import blobs, passwords
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.content import container_image, digest_of
from tests.support.resources import REGION

HOST = "{account}.dkr.ecr.ap-northeast-2.amazonaws.com"
IMAGE = container_image()


@dataclass
class Answer:
    """What the registry said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> tuple[str, str]:
        """The first error's code and text."""
        (error,) = json.loads(self.body)["errors"]
        return error["code"], error["message"]


@pytest.fixture
def pushed(aws: LocalAws) -> None:
    """A repository with one image."""
    ecr = ecr_backends[aws.account_id][REGION]
    ecr.create_repository("batch-processor", None, None, None, "MUTABLE", [])
    ecr.put_image("batch-processor", IMAGE.manifest, "v1", IMAGE.media_type, IMAGE.digest)
    blobs(aws.account_id, REGION).update(IMAGE.blobs)


def ask(aws: LocalAws, path: str, *, auth: str | None = None, method: str = "GET", host: str | None = None) -> Answer:
    """Ask the registry as a container runtime does."""
    headers = {"Host": (host or HOST).format(account=aws.account_id)} | ({"Authorization": auth} if auth else {})
    connection = http.client.HTTPConnection("127.0.0.1", aws.port, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def basic(text: str) -> str:
    """Return a Basic authorization."""
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def login(access: Access) -> str:
    """Return what `docker login` sends after `aws ecr get-login-password`."""
    (data,) = access.client("ecr").get_authorization_token()["authorizationData"]
    return f"Basic {data['authorizationToken']}"


def test_a_token_is_fresh_and_for_this_registry(access: Access, aws: LocalAws) -> None:
    """Moto's ran out in 2015 and is the same for everybody."""
    client = access.client("ecr")
    first, second = (client.get_authorization_token()["authorizationData"][0] for _ in range(2))

    left = first["expiresAt"] - datetime.now(timezone.utc)
    assert timedelta(hours=11) < left <= timedelta(hours=12)
    assert first["proxyEndpoint"] == f"https://{HOST.format(account=aws.account_id)}"
    assert first["authorizationToken"] != second["authorizationToken"]
    assert base64.b64decode(first["authorizationToken"]).startswith(b"AWS:")


@pytest.mark.usefixtures("pushed")
def test_a_pull_gets_the_bytes_that_the_digest_promises(access: Access, aws: LocalAws) -> None:
    """Manifest by digest and by tag, configuration and every layer."""
    auth = login(access)

    manifest = ask(aws, f"/v2/batch-processor/manifests/{IMAGE.digest}", auth=auth)
    by_tag = ask(aws, "/v2/batch-processor/manifests/v1", auth=auth)

    assert (manifest.status, by_tag.body) == (200, manifest.body)
    assert digest_of(manifest.body) == IMAGE.digest == manifest.headers["docker-content-digest"]
    assert manifest.headers["content-type"] == IMAGE.media_type
    document = json.loads(manifest.body)
    for described in (document["config"], *document["layers"]):
        blob = ask(aws, f"/v2/batch-processor/blobs/{described['digest']}", auth=auth)
        assert (digest_of(blob.body), len(blob.body)) == (described["digest"], described["size"])


@pytest.mark.usefixtures("pushed")
def test_a_head_request_has_no_body(access: Access, aws: LocalAws) -> None:
    """Docker asks with HEAD first."""
    answer = ask(aws, "/v2/batch-processor/manifests/v1", auth=login(access), method="HEAD")

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["docker-content-digest"] == IMAGE.digest


def test_the_login_check(access: Access, aws: LocalAws) -> None:
    """`docker login` asks for /v2/ with the password."""
    assert ask(aws, "/v2/", auth=login(access)).status == 200


@pytest.mark.usefixtures("pushed")
def test_without_a_host_name_the_local_registry_is_meant(access: Access, aws: LocalAws) -> None:
    """A client that talks to the port by number reaches the same repositories."""
    answer = ask(aws, "/v2/batch-processor/manifests/v1", auth=login(access), host="127.0.0.1")

    assert answer.status == 200


@pytest.mark.parametrize(
    "auth",
    [None, "Bearer x", "Basic !!!", basic("root:password"), "Basic /w=="],
    ids=["none", "not basic", "not base64", "not AWS", "not UTF-8"],
)
def test_no_login_no_image(aws: LocalAws, auth: str | None) -> None:
    """401 and the header that makes docker say `no basic auth credentials`."""
    answer = ask(aws, "/v2/batch-processor/manifests/v1", auth=auth)

    assert (answer.status, answer.body) == (401, b"Not Authorized\n")
    assert answer.headers["www-authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("expired", [False, True], ids=["made up", "run out"])
def test_a_token_that_is_not_good(aws: LocalAws, expired: bool) -> None:
    """Only what this AWS gave out, and only for twelve hours."""
    if expired:
        passwords(aws.account_id, REGION)["old"] = datetime.now(timezone.utc) - timedelta(seconds=1)

    answer = ask(aws, "/v2/", auth=basic("AWS:old"))

    assert answer.status == 401
    assert answer.error == ("DENIED", "Your authorization token has expired. Reauthenticate and try again.")


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("/v2/batch-processor/manifests/v2", "MANIFEST_UNKNOWN", "Requested image not found"),
        (f"/v2/batch-processor/manifests/sha256:{'0' * 64}", "MANIFEST_UNKNOWN", "Requested image not found"),
        (f"/v2/batch-processor/blobs/sha256:{'0' * 64}", "BLOB_UNKNOWN", "blob unknown to registry"),
        ("/v2/other/manifests/v1", "NAME_UNKNOWN", "The repository with name 'other' does not exist in the registry"),
        ("/v2/batch-processor/tags", "NOT_FOUND", "page not found"),
    ],
    ids=["tag", "digest", "layer", "repository", "path"],
)
def test_what_is_not_there(access: Access, aws: LocalAws, path: str, code: str, text: str) -> None:
    """Each with the registry's own code and message."""
    answer = ask(aws, path, auth=login(access))

    assert answer.status == 404
    assert answer.error[0] == code
    assert answer.error[1].startswith(text)


@pytest.mark.usefixtures("pushed")
def test_nothing_can_be_pushed(access: Access, aws: LocalAws) -> None:
    """The demo account's image stays what its digest says."""
    answer = ask(aws, "/v2/batch-processor/manifests/v1", auth=login(access), method="PUT")

    assert (answer.status, answer.error[0]) == (405, "UNSUPPORTED")


@pytest.mark.usefixtures("pushed")
def test_what_is_archived_cannot_be_pulled(access: Access, aws: LocalAws) -> None:
    """ECR answers 404, as for one that is not there; a pull that works is noted."""
    ecr, path, token = access.client("ecr"), "/v2/batch-processor/manifests/v1", login(access)
    moved: dict[str, Any] = {"repositoryName": "batch-processor", "imageId": {"imageDigest": IMAGE.digest}}
    assert "lastRecordedPullTime" not in ecr.describe_images(repositoryName="batch-processor")["imageDetails"][0]
    ecr.update_image_storage_class(**moved, targetStorageClass="ARCHIVE")
    archived = ask(aws, path, auth=token)
    ecr.update_image_storage_class(**moved, targetStorageClass="STANDARD")

    assert (archived.status, archived.error[0]) == (404, "MANIFEST_UNKNOWN")
    assert ask(aws, path, auth=token).status == 200
    assert "lastRecordedPullTime" in ecr.describe_images(repositoryName="batch-processor")["imageDetails"][0]


@pytest.mark.usefixtures("pushed")
def test_ecr_describes_the_same_image(access: Access) -> None:
    """`doctor` checks there before docker pulls."""
    (image,) = access.client("ecr").describe_images(repositoryName="batch-processor")["imageDetails"]

    assert (image["imageDigest"], image["imageTags"]) == (IMAGE.digest, ["v1"])
    assert image["imageSizeInBytes"] > 3 * 1024 * 1024


def test_the_image_is_the_same_each_time() -> None:
    """A digest in a test or a template stays valid."""
    again: Any = container_image()

    assert again == IMAGE
    assert set(again.blobs) >= {layer["digest"] for layer in json.loads(again.manifest)["layers"]}
