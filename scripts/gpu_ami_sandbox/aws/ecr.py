"""ECR's login: tokens that are given out, checked and run out; the layers that the registry serves."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import datetime, timedelta, timezone
from typing import Any

from moto.core.responses import ActionResult
from moto.ecr.models import ecr_backends
from moto.ecr.responses import ECRResponse

_TOKEN_LIFE = timedelta(hours=12)


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

    def describe_images(self) -> ActionResult:
        """List images with the size of their layers; moto shows the size of the configuration."""
        images = super().describe_images().result["imageDetails"]
        return ActionResult({"imageDetails": [_details(image) for image in images]})


def _details(image: Any) -> dict[str, Any]:
    layers = json.loads(image.image_manifest).get("layers", [])
    shown = {
        "registryId": image.registry_id,
        "repositoryName": image.repository_name,
        "imageDigest": image.image_digest,
        "imageTags": getattr(image, "image_tags", None),
        "imageSizeInBytes": sum(layer["size"] for layer in layers),
        "imagePushedAt": image.image_pushed_at,
        "imageManifestMediaType": image.image_manifest_media_type,
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
