"""The AWS queries of the checks, each made once and shared by every check that needs its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from gpu_ami.aws import allowed_images, capacity, ecr, iam, images, kms, parameters, s3, vpc
from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.sts import Identity, identify
from gpu_ami.bake.checks.permissions import Scene
from gpu_ami.bake.variables import BuildVariables
from gpu_ami.errors import PipelineError
from gpu_ami.records.tags import AMI_ID, FAMILY_TAG, FINISHED_TAG, MAY_TAKE_TAG, PIPELINE, PIPELINE_TAG, RUN_TAG

P = ParamSpec("P")
R = TypeVar("R")


def _once(query: Callable[Concatenate[Lookups, P], R]) -> Callable[Concatenate[Lookups, P], R]:
    def remembered(self: Lookups, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._remember((query.__name__, args), lambda: query(self, *args, **kwargs))

    return remembered


class Lookups:
    """Queries AWS for one bake and remembers the answers; thread-safe. A query that failed fails for every caller.

    Args:
        access: Where the build would run.
        variables: The bake's variables.
    """

    def __init__(self, access: Access, variables: BuildVariables) -> None:
        self.access, self.variables = access, variables
        self.caller = Caller(access)
        self._lock = threading.Lock()
        self._locks: dict[Any, threading.Lock] = {}
        self._known: dict[Any, tuple[Any, PipelineError | None]] = {}

    def _remember(self, key: Any, query: Callable[[], R]) -> R:
        with self._lock:
            mine = self._locks.setdefault(key, threading.Lock())
        with mine:
            if key not in self._known:
                try:
                    self._known[key] = (query(), None)
                except PipelineError as exc:
                    self._known[key] = (None, exc)
        value, error = self._known[key]
        if error is not None:
            raise error
        found: R = value
        return found

    @_once
    def identity(self) -> Identity:
        """Whose credentials these are."""
        return identify(self.access)

    def is_identified(self) -> bool:
        """Return whether AWS accepts the credentials."""
        try:
            self.identity()
        except PipelineError:
            return False
        return True

    def scene(self) -> Scene:
        """Account, region and partition."""
        who = self.identity()
        return Scene(account=who.account, region=self.access.region, partition=who.arn.split(":")[1])

    @property
    def tags(self) -> dict[str, str]:
        """The template's run_tags, which policies may insist on."""
        return {
            "Name": f"{self.variables.family} builder",
            FAMILY_TAG: self.variables.family,
            PIPELINE_TAG: PIPELINE,
            RUN_TAG: "doctor",
            MAY_TAKE_TAG: "300",
            FINISHED_TAG: "false",
        }

    @_once
    def recommended(self) -> str | None:
        """The AMI that the public parameter names."""
        found = parameters.value_of(self.caller, self.variables.base_ami_parameter)
        return found if found is not None and AMI_ID.fullmatch(found) else None

    @_once
    def base_row(self) -> dict[str, Any] | None:
        """All that EC2 says of the AMI that the bake starts from."""
        image_id = self.variables.source_ami or self.recommended()
        try:
            return None if image_id is None else images.look_up_row(self._in_region(), image_id)
        except RefusedError as exc:
            # What is no id at all names no AMI either.
            if exc.code == "InvalidAMIID.Malformed":
                return None
            raise

    def base_image(self) -> images.Image | None:
        """The AMI that the bake starts from."""
        row = self.base_row()
        return None if row is None else images.image_of(self._in_region(), row)

    @_once
    def allowed_images(self) -> allowed_images.Settings:
        """Which AMIs of others the account lets be started."""
        return allowed_images.settings(self._in_region())

    def _in_region(self) -> Caller:
        return Caller(self.access, self.access.region)

    def repository(self) -> ecr.RepositoryUrl:
        """The container image's repository."""
        return ecr.parse_repository_url(self.variables.ecr_repository_url)

    @_once
    def image(self) -> ecr.ContainerImage | None:
        """The container image."""
        tag, digest = self.variables.image_tag, self.variables.image_digest
        return ecr.container_image(self.caller, self.repository(), tag=tag, digest=digest)

    @_once
    def active_images(self) -> list[ecr.ContainerImage]:
        """Every image of the repository that can be pulled."""
        return ecr.active_images(self.caller, self.repository())

    @_once
    def lifecycle_policy(self) -> str | None:
        """The text of the repository's lifecycle policy."""
        return ecr.lifecycle_policy(self.caller, self.repository())

    @_once
    def models(self) -> s3.Prefix | None:
        """What lies under the bucket's models/."""
        return s3.models_prefix(self.caller, self.variables.models_s3_bucket)

    @_once
    def subnet(self, subnet_id: str) -> vpc.Subnet | None:
        """One of the builder's subnets."""
        return vpc.subnet(self.caller, subnet_id) if subnet_id else None

    @_once
    def group(self) -> vpc.Group | None:
        """The builder's security group."""
        return vpc.security_group(self.caller, self.variables.security_group_id)

    @_once
    def types(self) -> dict[str, capacity.InstanceType]:
        """Those of the builder's types that the region has."""
        return capacity.instance_types(self.caller, self.variables.instance_types)

    @_once
    def role(self) -> str | None:
        """ARN of the role in the named instance profile; empty for none in it, None for no such profile."""
        return iam.role_of_profile(self.caller, self.variables.iam_instance_profile)

    @_once
    def key(self) -> kms.Key | None:
        """The named KMS key."""
        return kms.key(self.caller, self.variables.kms_key_id)

    @_once
    def principal(self) -> str | None:
        """The user or role that IAM can simulate for the caller."""
        return iam.principal(self.caller, self.identity())

    @_once
    def launch(self) -> iam.Launch | None:
        """The parameters of the launch, for dry runs; None while the subnet, the AMI or the type are not there."""
        subnet = self.subnet(next(iter(self.variables.subnet_ids), ""))
        base = self.base_image()
        types: Sequence[str] = self.variables.instance_types
        if subnet is None or base is None or not types:
            return None
        return iam.Launch(
            image_id=base.image_id,
            subnet_id=subnet.subnet_id,
            vpc_id=subnet.vpc_id,
            instance_type=types[0],
            profile=self.variables.iam_instance_profile,
            volume_gib=round(self.variables.volume_size_gib),
            tags=self.tags,
        )
