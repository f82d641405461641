"""Queries AWS Batch for the compute environments and puts each beside what Terraform's state says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws import batch
from gpu_ami.aws.caller import Caller
from gpu_ami.terraform import state_file
from gpu_ami.units import show_count


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
    """

    address: str | None
    name: str
    recorded_ami: str | None
    environment: batch.Environment | None
    rate_mib_s: int | None
    recorded_rate: int | None
    volumes: tuple[batch.Volume, ...] = ()

    @property
    def ami_id(self) -> str | None:
        """The AMI that Batch shows."""
        return self.environment.ami_id if self.environment else None

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
        problems = []
        # Without an AMI of its own the environment has Batch's, which it need not show.
        if self.recorded_ami is not None and found.ami_id != self.recorded_ami:
            problems.append(f"{self.name} has {found.ami_id or 'no AMI of its own'}, not {self.recorded_ami}")
        if found.status != "VALID":
            problems.append(f"{self.name} is {found.status}" + (f" ({found.reason})" if found.reason else ""))
        if self.recorded_rate != self.rate_mib_s:
            problems.append(
                f"the launch template of {self.name} hydrates at {self.rate_mib_s}, not {self.recorded_rate}"
            )
        return problems

    def remarks(self) -> list[str]:
        """Return what is worth knowing of the instances that run."""
        said = []
        cold = [volume.instance_id for volume in self.volumes if self.rate_mib_s and not volume.rate_mib_s]
        if cold:
            said.append(f"{self.name}: volumes without the template's rate at {', '.join(cold[:5])}")
        old = [volume.instance_id for volume in self.volumes if self.ami_id and volume.ami_id != self.ami_id]
        if old:
            instances, whose = show_count(len(old), "instance"), "its" if len(old) == 1 else "their"
            said.append(f"{self.name}: {instances} still on the AMI before, until {whose} jobs end")
        return said


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
    rate = _rates(caller)
    return [
        Live(
            address=recorded.address,
            name=recorded.name,
            recorded_ami=recorded.ami_id,
            environment=found.get(recorded.name),
            rate_mib_s=rate(found.get(recorded.name)),
            recorded_rate=rates.get(recorded.template_id or ""),
            volumes=_volumes(caller, found.get(recorded.name)) if with_volumes else (),
        )
        for recorded in ours
    ]


def without_state(caller: Caller, environments: Sequence[batch.Environment]) -> list[Live]:
    """Return the state of *environments* that are in no Terraform state.

    Raises:
        AwsError: AWS refused or cannot be reached.
    """
    rate = _rates(caller)
    return [
        Live(
            address=None,
            name=environment.name,
            recorded_ami=None,
            environment=environment,
            rate_mib_s=rate(environment),
            recorded_rate=None,
            volumes=_volumes(caller, environment),
        )
        for environment in environments
    ]


def _rates(caller: Caller) -> Callable[[batch.Environment | None], int | None]:
    """Return what looks a template version's rate up, each version once."""
    known: dict[tuple[str, str], int | None] = {}

    def rate(environment: batch.Environment | None) -> int | None:
        if environment is None or environment.template is None:
            return None
        key = (environment.template, environment.version)
        if key not in known:
            known[key] = batch.hydration(caller, *key)
        return known[key]

    return rate


def _volumes(caller: Caller, environment: batch.Environment | None) -> tuple[batch.Volume, ...]:
    cluster = environment.cluster_arn if environment else None
    return tuple(batch.volumes(caller, cluster)) if cluster else ()
