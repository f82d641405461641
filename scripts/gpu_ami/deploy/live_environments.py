"""Queries AWS Batch for the compute environments and puts each beside what Terraform's state says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpu_ami.aws import batch
from gpu_ami.aws.batch import TemplateVersion
from gpu_ami.aws.caller import Caller
from gpu_ami.records.batch_images import Images, Kind
from gpu_ami.records.tags import is_production
from gpu_ami.terraform import state_file
from gpu_ami.terraform.state_file import Recorded
from gpu_ami.units import show_count

# The provider writes the new AMI to the state before Batch has ended, and the next plan finds nothing to do.
AFTER_INVALID = (
    "Mend what Batch names, then go to another AMI (`invoke rollback`, or hand one over and `invoke apply`): "
    "Terraform's state has this one already, and does nothing for it."
)
GOING_ON = "This plan goes to another AMI; where that one is not the reason, mend what Batch names first."


@dataclass(frozen=True, kw_only=True)
class Live:
    """A compute environment as AWS shows it, beside what Terraform's state has of it.

    Attributes:
        address: Terraform's address; None when the state does not have it.
        name: Its name.
        recorded_ami: The AMI that Terraform gave it; None for Batch's own.
        environment: Batch's description; None when it is not there.
        rate_mib_s: The volume initialization rate of its launch template version; None when that sets none.
        recorded_rate: The rate that Terraform gave the template; None when it gave none.
        volumes: Root volumes of its running instances; empty when none runs.
        recorded: Every AMI that Terraform gave it; None where only `recorded_ami` is known.
        kind: What it runs on.
    """

    address: str | None
    name: str
    recorded_ami: str | None
    environment: batch.Environment | None
    rate_mib_s: int | None
    recorded_rate: int | None
    volumes: tuple[batch.Volume, ...] = ()
    recorded: Images | None = None
    kind: Kind = "EC2"

    @property
    def ami_id(self) -> str | None:
        """The AMI that Batch shows; None for Batch's own, and where it shows several for one instance."""
        return self.environment.ami_id if self.environment else None

    @property
    def images(self) -> Images:
        """Every AMI that Batch shows."""
        found = self.environment
        if found is None or found.images.named or found.ami_id is None:
            return found.images if found else Images()
        return Images(overrides={"": found.ami_id})

    @property
    def known_types(self) -> Images:
        """Every AMI that Terraform gave it."""
        return self.recorded or Images(overrides={"": self.recorded_ami})

    @property
    def shown_ami(self) -> str:
        """Which AMI it has, for people."""
        if self.kind != "EC2":
            return "none"
        return "unknown" if self.images.conflict else self.ami_id or "Batch's own"

    def has(self, ami: str | None) -> bool:
        """Whether its instances, or those of one of its image types, are launched from *ami*; None is Batch's own.

        Where an override of its launch template gives some instance types another AMI, those of the other types are.
        """
        images = self.images.without_overrides if self.images.conflict else self.images
        if images.conflict:
            return False
        return ami in images.named if ami is not None else not images.own

    @property
    def is_invalid(self) -> bool:
        """Whether Batch calls it INVALID."""
        return self.environment is not None and self.environment.status == "INVALID"

    def differences(self) -> list[str]:
        """Return where Batch shows another AMI than Terraform gave it; without an AMI it has Batch's own."""
        given = self.known_types
        found = []
        for image_type, ami, there in given.differences(self.images):
            of = f" for {image_type}" if image_type and len(given.types) > 1 else ""
            found.append(f"{there or 'no AMI of its own'}{of}, not {ami}")
        return found

    def document(self) -> dict[str, Any]:
        """Return it as the tasks print it in JSON."""
        found = self.environment
        return {
            "address": self.address,
            "name": self.name,
            "ami_id": self.ami_id,
            "state": found.state if found else None,
            "status": found.status if found else None,
            "hydration_mib_per_s": self.rate_mib_s,
            "images": images_document(self.images),
            "instances": [
                {"instance_id": volume.instance_id, "ami_id": volume.ami_id, "hydration_mib_per_s": volume.rate_mib_s}
                for volume in self.volumes
            ],
        }

    def problems(self) -> list[str]:
        """Return how AWS differs from what Terraform says."""
        found = self.environment
        if found is None:
            return [f"{self.name} is not there"]
        problems = [f"{self.name} has {difference}" for difference in self.differences()]
        # Terraform's record of an environment has no template overrides: see `remarks`.
        images = self.images.without_overrides
        if images.conflict and not self.known_types.conflict:
            problems.append(f"{self.name} has several AMIs for one instance: {shown_conflict(images)}")
        if found.status != "VALID":
            problems.append(f"{self.name} is {found.status}" + (f" ({found.reason})" if found.reason else ""))
        if self.recorded_rate != self.rate_mib_s:
            problems.append(
                f"the launch template of {self.name} hydrates at {self.rate_mib_s}, not {self.recorded_rate}"
            )
        return problems

    def remarks(self) -> list[str]:
        """Return what is worth knowing of its launch template and of the instances that run."""
        said = []
        if self.images.conflict and not self.images.without_overrides.conflict:
            said.append(f"{self.name}: some instance types get another AMI ({shown_conflict(self.images)})")
        cold = [volume.instance_id for volume in self.volumes if self.rate_mib_s and not volume.rate_mib_s]
        if cold:
            said.append(f"{self.name}: volumes without the template's rate at {', '.join(cold[:5])}")
        old = self.behind
        if old:
            instances, whose = show_count(len(old), "instance"), "its" if len(old) == 1 else "their"
            said.append(f"{self.name}: {instances} still on the AMI before, until {whose} jobs end")
        return said

    @property
    def behind(self) -> list[str]:
        """The instances on an AMI that the environment does not name any more.

        Where instances of some image type are on Batch's own AMI, none can be told.
        """
        if not self.images.named or self.images.has_open_type:
            return []
        return [volume.instance_id for volume in self.volumes if volume.ami_id not in self.images.named]


def images_document(images: Images) -> list[dict[str, str | None]]:
    """Return image types and their AMIs as the tasks print them in JSON."""
    return [{"image_type": image_type or None, "ami_id": images.of(image_type)} for image_type in images.types]


def shown_conflict(images: Images) -> str:
    """Return where an environment names different AMIs, for people."""
    return ", ".join(f"{where} says {ami}" for where, ami in images.conflict)


def invalid_line(name: str, reason: str, advice: str = AFTER_INVALID) -> str:
    """Return what to say of an environment that Batch calls INVALID."""
    return f"{name} is INVALID ({reason or 'Batch does not say why'}). {advice}"


def query(caller: Caller, state: Mapping[str, Any], *, with_volumes: bool = True) -> list[Live]:
    """Return the state on AWS of each compute environment that Terraform's *state* has.

    Raises:
        AwsError: AWS refused or cannot be reached.
        TerraformError: The state makes no sense.
    """
    ours = state_file.environments(state)
    rates = state_file.rates(state)
    if not ours:
        return []
    found = {
        environment.name: environment
        for environment in batch.environments(caller, [recorded.name for recorded in ours])
    }
    templates = _Templates(caller)
    return [
        _live(caller, recorded, found.get(recorded.name), rates, templates, with_volumes=with_volumes)
        for recorded in ours
    ]


def of_family(caller: Caller, state: Mapping[str, Any], family: str) -> list[Live]:
    """Return the environments of Terraform's *state*; where it has none, those that carry the tag of *family*.

    Raises:
        AwsError: AWS refused or cannot be reached.
        TerraformError: The state makes no sense.
    """
    ours = query(caller, state)
    if ours:
        return ours
    tagged = [environment for environment in batch.environments(caller) if is_production(environment.tags, family)]
    return without_state(caller, tagged)


def _live(
    caller: Caller,
    recorded: Recorded,
    environment: batch.Environment | None,
    rates: Mapping[str, int],
    templates: _Templates,
    *,
    with_volumes: bool,
) -> Live:
    is_told = recorded.kind == "EC2"
    return Live(
        address=recorded.address,
        name=recorded.name,
        recorded_ami=recorded.ami_id,
        environment=templates.with_amis(environment) if is_told else environment,
        rate_mib_s=templates.of(environment).rate_mib_s if is_told else None,
        recorded_rate=rates.get(recorded.template_id or "") if is_told else None,
        volumes=_volumes(caller, environment) if with_volumes and is_told else (),
        recorded=recorded.images,
        kind=recorded.kind,
    )


def without_state(caller: Caller, environments: Sequence[batch.Environment]) -> list[Live]:
    """Return the state of *environments* that are in no Terraform state.

    Raises:
        AwsError: AWS refused or cannot be reached.
    """
    templates = _Templates(caller)
    return [
        Live(
            address=None,
            name=environment.name,
            recorded_ami=None,
            environment=templates.with_amis(environment),
            rate_mib_s=templates.of(environment).rate_mib_s,
            recorded_rate=None,
            volumes=_volumes(caller, environment),
            kind=environment.kind,
        )
        for environment in environments
    ]


class _Templates:
    """Looks launch template versions up, each once."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._known: dict[tuple[str, str], TemplateVersion] = {}

    def of(self, environment: batch.Environment | None) -> TemplateVersion:
        """Return what the environment's template says; nothing when it has none."""
        if environment is None or environment.template is None:
            return TemplateVersion()
        return self._version(environment.template, environment.version)

    def with_amis(self, environment: batch.Environment | None) -> batch.Environment | None:
        """Return the environment with the AMIs that its launch templates name."""
        if environment is None:
            return None
        overrides = [self._version(*which).ami_id for which in environment.template_overrides]
        images = environment.images.with_templates(self.of(environment).ami_id, filter(None, overrides))
        ami = None if images.conflict else images.main()
        return replace(environment, images=images, ami_id=ami)

    def _version(self, template: str, version: str) -> TemplateVersion:
        key = (template, version)
        if key not in self._known:
            self._known[key] = batch.template_version(self._caller, *key)
        return self._known[key]


def _volumes(caller: Caller, environment: batch.Environment | None) -> tuple[batch.Volume, ...]:
    cluster = environment.cluster_arn if environment else None
    return tuple(batch.volumes(caller, cluster)) if cluster else ()
