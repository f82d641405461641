"""The one table of services that the local AWS answers differently from moto, or in its stead."""

from __future__ import annotations

import functools
import os
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

from moto.autoscaling import urls as autoscaling_urls
from moto.batch import urls as batch_urls
from moto.core import responses, utils
from moto.core.loaders import Loader, moto_root
from moto.core.utils import method_names_from_class
from moto.ec2 import urls as ec2_urls
from moto.ec2.models.core import TaggedEC2Resource
from moto.ecr import urls as ecr_urls
from moto.ecs import urls as ecs_urls
from moto.iam import urls as iam_urls
from moto.kms import urls as kms_urls
from moto.ssm import urls as ssm_urls
from moto.sts import urls as sts_urls

from gpu_ami.aws.service_models import ByFolder, Files, service_models
from gpu_ami_sandbox.aws.auto_scaling import SandboxAutoScaling
from gpu_ami_sandbox.aws.batch import SandboxBatch
from gpu_ami_sandbox.aws.ec2.recycle_bin import RecycleBinRules
from gpu_ami_sandbox.aws.ec2.service import SandboxEC2
from gpu_ami_sandbox.aws.ecr import SandboxECR
from gpu_ami_sandbox.aws.ecs import SandboxECS
from gpu_ami_sandbox.aws.iam import SandboxIAM, SandboxSTS
from gpu_ami_sandbox.aws.image_builder import ImageBuilder
from gpu_ami_sandbox.aws.kms import SandboxKMS
from gpu_ami_sandbox.aws.organizations import Organizations
from gpu_ami_sandbox.aws.pricing import Pricing
from gpu_ami_sandbox.aws.quotas import ServiceQuotas
from gpu_ami_sandbox.aws.ssm import SandboxSSM

# moto's services whose answers are ours: the module that routes them, and the class that answers.
CHANGED: tuple[tuple[ModuleType, Any], ...] = (
    (autoscaling_urls, SandboxAutoScaling),
    (batch_urls, SandboxBatch),
    (ec2_urls, SandboxEC2),
    (ecr_urls, SandboxECR),
    (ecs_urls, SandboxECS),
    (iam_urls, SandboxIAM),
    (kms_urls, SandboxKMS),
    (ssm_urls, SandboxSSM),
    (sts_urls, SandboxSTS),
)
# Services that moto has no backend for, by signing name.
ADDED: dict[str, Any] = {
    "imagebuilder": ImageBuilder,
    "organizations": Organizations,
    "pricing": Pricing,
    "rbin": RecycleBinRules,
    "servicequotas": ServiceQuotas,
}


class _Models(ByFolder, Loader):
    """moto's loader: its own additions come with each model; one without any is the one that our clients read."""

    FILE_LOADER_CLASS = Files

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """Return the model *type_name* of a service."""
        own = Path(moto_root, service_name.replace("-", "")).glob(f"*/{type_name}.moto-extras.*")
        if any(own):
            return super().load_service_model(service_name, type_name, api_version)
        return service_models().load_service_model(service_name, type_name, api_version)


@functools.cache
def install() -> None:
    """Route requests to the classes above; once, before the first request is served."""
    # Our EC2 brings the one public AMI that is needed; moto's hundreds would cost start-up time.
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    for urls, response in CHANGED:
        urls.url_paths.update(dict.fromkeys(urls.url_paths, response.dispatch))
    # moto looks through every tag of the account for each row that it shows.
    TaggedEC2Resource.get_tags = _tags
    # With a loader for each service moto would look through botocore's folders seven times.
    utils.create_loader = functools.cache(lambda: _Models(extra_search_paths=[moto_root]))
    # moto lists a class's methods anew for each request: half of the time that a small call takes.
    responses.method_names_from_class = functools.cache(method_names_from_class)
    # Request ids must not use up the seeded numbers that resource ids come from: polls vary from run to run.
    responses.gen_amzn_requestid_long = _note_request_id


def _note_request_id(headers: dict[str, str]) -> str:
    request_id = str(uuid.uuid4())
    headers["x-amzn-requestid"] = request_id
    return request_id


def _tags(resource: Any) -> list[dict[str, str]]:
    tags = resource.ec2_backend.tags.get(resource.id, {}) if resource.id else {}
    return [{"key": key, "value": value, "resource_id": resource.id} for key, value in tags.items()]
