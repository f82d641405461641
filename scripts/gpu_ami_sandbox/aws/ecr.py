"""ECR's login: tokens that are given out, checked and run out; the archive; the layers that the registry serves."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from moto.core.responses import ActionResult
from moto.ecr.models import ecr_backends
from moto.ecr.policy_validation import EcrLifecyclePolicyValidator
from moto.ecr.responses import ECRResponse

from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.refusals import refuse

_TOKEN_LIFE = timedelta(hours=12)
_ACTIVE, _ARCHIVED = "ACTIVE", "ARCHIVED"
_PAGE = 100
# No policy deletes from the archive earlier.
_ARCHIVED_DAYS = 90


@dataclass
class Storage:
    """Where an image lies, and when that and its last pull were; moto knows neither.

    Attributes:
        status: ``ACTIVE``, ``ARCHIVED`` or ``ACTIVATING``.
    """

    status: str = _ACTIVE
    pulled_at: datetime | None = None
    archived_at: datetime | None = None
    activated_at: datetime | None = None


def storage(image: Any) -> Storage:
    """Return where an image of moto's lies, to change as well."""
    kept: Storage = vars(image).setdefault("sandbox_storage", Storage())
    return kept


class SandboxECR(ECRResponse):
    """ECR; moto's token is a constant that ran out in 2015."""

    def get_authorization_token(self) -> ActionResult:
        """Give out a token for docker login, good for twelve hours."""
        expires = datetime.now(timezone.utc) + _TOKEN_LIFE
        data = []
        for registry in self._get_param("registryIds") or [self.current_account]:
            password = f"sandbox-{secrets.token_urlsafe(48)}"
            passwords(registry, self.region)[password] = expires
            token = base64.b64encode(f"AWS:{password}".encode()).decode()
            endpoint = f"https://{registry}.dkr.ecr.{self.region}.amazonaws.com"
            data.append({"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": endpoint})
        return ActionResult({"authorizationData": data})

    def put_image(self) -> ActionResult:
        """Take an image by its manifest's digest, which whoever pulls it verifies; moto hashes those of its layers.

        With another digest than its own an image is refused, as the API's reference says.
        """
        manifest, given = self._get_param("imageManifest"), self._get_param("imageDigest")
        digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
        if given not in (None, digest):
            refuse("ImageDigestDoesNotMatchException", f"The digest {given} is not that of the manifest, {digest}")
        name, tag = self._get_param("repositoryName"), self._get_param("imageTag")
        kind = self._get_param("imageManifestMediaType")
        return ActionResult({"image": self.ecr_backend.put_image(name, manifest, tag, kind, digest)})

    def describe_images(self) -> ActionResult:
        """List images with the size of their layers, where moto shows that of the configuration, and their status.

        Without a filter only those that can be pulled, as the API's reference says.
        """
        status = (self._get_param("filter") or {}).get("imageStatus", _ACTIVE)
        found = [
            image for image in super().describe_images().result["imageDetails"] if status in ("ANY", _status(image))
        ]
        if not found and self._get_param("imageIds"):
            refuse("ImageNotFoundException", "The image with the requested id does not exist within the repository")
        size = int(self._get_param("maxResults") or _PAGE)
        shown, token = page(found, self._get_param("nextToken"), size)
        return ActionResult({"imageDetails": [_details(image) for image in shown], "nextToken": token})

    def update_image_storage_class(self) -> ActionResult:
        """Put an image into the archive or, at once here, back from it; it is ACTIVATING meanwhile."""
        name, wanted = self._get_param("repositoryName"), self._get_param("imageId")
        (image,) = self.ecr_backend.describe_images(name, self._get_param("registryId"), [wanted])
        kept, now = storage(image), datetime.now(timezone.utc)
        if self._get_param("targetStorageClass") == "ARCHIVE":
            kept.status, kept.archived_at = _ARCHIVED, now
            said = _ARCHIVED
        else:
            kept.status, kept.activated_at = _ACTIVE, now
            said = "ACTIVATING"
        named = {"registryId": image.registry_id, "repositoryName": name}
        return ActionResult({**named, "imageId": wanted, "imageStatus": said})

    def put_lifecycle_policy(self) -> ActionResult:
        """Keep a policy; moto knows neither the archive nor the last pull."""
        name, text = self._get_param("repositoryName"), self._get_param("lifecyclePolicyText")
        repository = self.ecr_backend._get_repository(name, self._get_param("registryId"))
        EcrLifecyclePolicyValidator(_as_moto_knows_it(text)).validate()
        repository.lifecycle_policy = text
        named = {"registryId": repository.registry_id, "repositoryName": name}
        return ActionResult({**named, "lifecyclePolicyText": text})


def _as_moto_knows_it(text: str) -> str:
    """Return the policy without what is new in it, once that is as ECR's guide wants it; moto checks the rest."""
    try:
        document = deepcopy(json.loads(text))
        for rule in document["rules"]:
            _without_news(rule["selection"], rule["action"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return text  # moto says what is wrong
    return json.dumps(document)


def _without_news(selection: dict[str, Any], action: dict[str, Any]) -> None:
    kind, place = selection.get("countType"), selection.pop("storageClass", "standard")
    is_transition = action.get("type") == "transition"
    wrong = (
        (kind == "sinceImagePulled" and not is_transition)
        or (kind == "sinceImageTransitioned" and (place != "archive" or is_transition))
        or (kind == "sinceImageTransitioned" and selection.get("countNumber", 0) < _ARCHIVED_DAYS)
        or (kind != "sinceImageTransitioned" and place != "standard")
        or (action.pop("targetStorageClass", None) != ("archive" if is_transition else None))
    )
    if wrong:
        text = f"Lifecycle policy validation failure: {kind} does not go with this storage class, action or number"
        refuse("InvalidParameterException", f"Invalid parameter at 'LifecyclePolicyText': '{text}'")
    action["type"] = "expire" if is_transition else action.get("type")
    if kind in ("sinceImagePulled", "sinceImageTransitioned"):
        selection["countType"] = "sinceImagePushed"


def _status(image: Any) -> str:
    return storage(image).status


def _details(image: Any) -> dict[str, Any]:
    kept = storage(image)
    layers = json.loads(image.image_manifest).get("layers", [])
    shown = {
        "registryId": image.registry_id,
        "repositoryName": image.repository_name,
        "imageDigest": image.image_digest,
        "imageTags": getattr(image, "image_tags", None),
        "imageSizeInBytes": sum(layer["size"] for layer in layers),
        "imagePushedAt": image.image_pushed_at,
        "imageManifestMediaType": image.image_manifest_media_type,
        "imageStatus": kept.status,
        "lastRecordedPullTime": kept.pulled_at,
        "lastArchivedAt": kept.archived_at,
        "lastActivatedAt": kept.activated_at,
    }
    return {name: value for name, value in shown.items() if value is not None}


def passwords(account: str, region: str) -> dict[str, datetime]:
    """Return the passwords that were given out for a registry, with the time at which each runs out."""
    return _kept(account, region, "sandbox_passwords")


def blobs(account: str, region: str) -> dict[str, bytes]:
    """Return the layers and configurations that a registry holds, by digest."""
    return _kept(account, region, "sandbox_blobs")


def _kept(account: str, region: str, name: str) -> dict[str, Any]:
    kept: dict[str, Any] = vars(ecr_backends[account][region]).setdefault(name, {})
    return kept
