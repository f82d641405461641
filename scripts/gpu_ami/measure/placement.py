"""The places (type and subnet) where a measuring instance may start, in the order to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_ami.bake import template
from gpu_ami.bake.placement import Placement
from gpu_ami.errors import UsageError
from gpu_ami.invocation import Invocation

_WANTED = {"subnet_id", "fallback_subnet_ids", "security_group_id", "ssh_interface"}


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where to try, and how to be in the network there.

    Attributes:
        places: The places, in the order to try.
        security_group_ids: The security groups; without any the VPC's default one.
        public_address: Whether to ask for a public address, as a build does by default: in a subnet that gives none
            by itself and whose way out is an internet gateway an instance without one reaches nothing, SSM included.
    """

    places: tuple[Placement, ...]
    security_group_ids: tuple[str, ...]
    public_address: bool = False


def places(run: Invocation, types: Sequence[str], subnet_ids: Sequence[str] = ()) -> Places:
    """Return each of *types* in each of *subnet_ids*; without any in the subnets of a build.

    Raises:
        UsageError: There is no subnet, or the build's variables cannot be read.
    """
    folder, target = run.workspace.root / "packer", run.target
    staged = target.staged_variables(builder=False)
    files = (*target.user_variables, *((staged,) if staged else ()))
    values = template.effective(folder, files, {}, environment=target.environment, wanted=_WANTED)
    more = values.get("fallback_subnet_ids")
    builds = [values.get("subnet_id"), *(more if isinstance(more, list) else [])]
    subnets = tuple(dict.fromkeys(subnet_ids or [name for name in builds if isinstance(name, str) and name]))
    if not subnets:
        msg = "No subnet to boot in: give --subnet-id, or set subnet_id in the build's variables file."
        raise UsageError(msg)
    group = values.get("security_group_id")
    groups = (group,) if isinstance(group, str) and group else ()
    return Places(
        places=tuple(Placement(subnet, name) for name in types for subnet in subnets),
        security_group_ids=groups,
        public_address=(values.get("ssh_interface") or "public_ip") == "public_ip",
    )
