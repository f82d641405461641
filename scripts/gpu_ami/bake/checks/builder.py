"""Judges the build instance: whether its type is offered, the vCPU quota, and the GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gpu_ami.aws.capacity import InstanceType, Market, Quota
from gpu_ami.aws.images import Image, TypeRules
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables

_TYPE = "instance type"
# The longest pause that the SDK's waiters make, and the shortest between two looks for an AMI.
_LONGEST_PAUSE_S = 120
_AMI_PAUSE_S = 15
_VARIABLES = "instance_type / fallback_instance_types, or spot_instance_types"


def instance_type(
    variables: BuildVariables,
    types: Mapping[str, InstanceType],
    offered: Mapping[str, frozenset[str]],
    base: Image | None,
) -> Check:
    """Judge the builder's types against the zones of its subnets and what the base AMI runs on.

    Args:
        variables: The bake's variables.
        types: Those of the bake's types that the region has.
        offered: Zone of each subnet, the builder's own first, to those of the types that it has.
        base: The base AMI; None when it is not known.
    """
    architecture = None if base is None else base.architecture
    if not variables.instance_types:
        return Check(_TYPE, "fail", "no instance type is set", f"Set {_VARIABLES} in the Packer variables.")
    unknown = [name for name in variables.instance_types if name not in types]
    if unknown:
        return Check(
            _TYPE, "fail", f"EC2 has no {', '.join(unknown)} in this region", f"Fix {_VARIABLES}: is it spelt right?"
        )
    other = [name for name in variables.instance_types if architecture not in (None, *types[name].architectures)]
    if other:
        return Check(
            _TYPE,
            "fail",
            f"the base AMI is {architecture}, {', '.join(other)} is not",
            f"Choose {architecture} types in {_VARIABLES}.",
        )
    ruled, found = _by_rules(variables, base), _in_zones(variables, offered)
    if ruled is None or (found.status == "fail" and ruled.status != "fail"):
        return found
    if ruled.status == "fail" or found.status == "ok":
        return ruled
    return Check(_TYPE, "warn", f"{ruled.detail}; {found.detail}", f"{ruled.fix} {found.fix}")


def _by_rules(variables: BuildVariables, base: Image | None) -> Check | None:
    """Judge the types by the base AMI's own rules, which EC2 enforces at the launch; None when they let all of them in.

    A build goes on to the next type only where one has no room, so what its first type is refused for ends it. Of a
    Spot builder's types EC2 picks among those that can be started.
    """
    rules = TypeRules() if base is None or base.type_rules is None else base.type_rules
    left = [name for name in variables.instance_types if rules.allow(name)]
    refused = [name for name in variables.instance_types if name not in left]
    if base is None or not refused:
        return None
    said = f"{base.image_id} may not run on {', '.join(refused)} (its InstanceTypeSpecification)"
    rest = f"left: {', '.join(left)}" if left else f"it allows {_shown(rules)}"
    if not left or (not variables.spot and variables.instance_types[0] in refused):
        text = f"{said}; EC2 would refuse the launch; {rest}"
        return Check(_TYPE, "fail", text, f"Choose types that it allows in {_VARIABLES}, or another source_ami.")
    ends = "EC2 does not pick it" if variables.spot else "a build that comes to it ends there"
    return Check(_TYPE, "warn", f"{said}: {ends}; {rest}", f"Take {', '.join(refused)} out of {_VARIABLES}.")


def _shown(rules: TypeRules) -> str:
    supported = ", ".join(rules.supported) or "all types"
    return f"{supported} but {', '.join(rules.unsupported)}" if rules.unsupported else supported


def _in_zones(variables: BuildVariables, offered: Mapping[str, frozenset[str]]) -> Check:
    missing = {zone: [name for name in variables.instance_types if name not in has] for zone, has in offered.items()}
    gaps = "; ".join(f"{zone} has no {', '.join(names)}" for zone, names in missing.items() if names)
    fix = f"Choose types that the zone has ({_VARIABLES}), or a subnet in another zone."
    if offered and all(len(names) == len(variables.instance_types) for names in missing.values()):
        return Check(_TYPE, "fail", gaps, fix)
    if gaps:
        return Check(_TYPE, "warn", f"{gaps}; the build goes on to what is left", fix)
    market = "spot" if variables.spot else "on-demand"
    return Check(
        _TYPE, "ok", f"{', '.join(variables.instance_types)} ({market}) in {', '.join(offered) or 'the region'}"
    )


def vcpu_quota(market: Market, types: Sequence[InstanceType], quota: Quota | None, used: int) -> Check:
    """Judge whether the quota leaves room for a builder.

    Args:
        market: What the builder is.
        types: The types of one quota class that it may have.
        quota: Their quota.
        used: vCPUs of the class that run now.
    """
    name = "vCPU quota"
    if quota is None:
        return Check(name, "skip", f"Service Quotas knows no {market} quota for {types[0].name} here")
    left = quota.value - used
    fitting = [kind for kind in types if kind.vcpus <= left]
    most = max(kind.vcpus for kind in types)
    short = ", ".join(kind.name for kind in types if kind.vcpus > left)
    said = f"{left:.0f} of {quota.value:.0f} vCPUs left for {most} ({quota.name})"
    fix = (
        f"Ask for {used + most} or more: `aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {quota.code} --desired-value {used + most}`, or choose a smaller type than {short}."
    )
    if len(fitting) == len(types):
        return Check(name, "ok", said)
    return Check(name, "warn" if fitting and market == "spot" else "fail", said, fix)


def waits(variables: BuildVariables, region: str = "") -> Check:
    """Judge the time that each wait for EC2 gets: ``poll_delay_seconds`` times ``poll_max_attempts``.

    Seen with the amazon plugin 1.8.2: with a delay above the SDK's longest pause it fails at its first wait, when the
    security group is made. It looks for the AMI at once, and then every 15 s at least.
    """
    delay, attempts = variables.poll_delay_seconds, variables.poll_max_attempts
    budget = delay * attempts
    if delay > _LONGEST_PAUSE_S:
        text = f"poll_delay_seconds is {delay:g}: above {_LONGEST_PAUSE_S} the amazon plugin fails at its first wait"
        return Check("waits", "fail", text, "Set poll_delay_seconds to 15; for more time raise poll_max_attempts.")
    if budget <= _AMI_PAUSE_S:
        text = f"poll_delay_seconds times poll_max_attempts is {budget:g} s: time for one look at the AMI and no more"
        return Check("waits", "fail", text, "Raise poll_max_attempts: with 15 s each, 480 are the default's 2 hours.")
    copies_s = variables.snapshot_copy_duration_minutes * 60 if {*variables.ami_regions} - {region} else 0
    if copies_s > budget:
        text = f"EC2 may take {copies_s / 60:.0f} minutes for a copy, and each wait ends after {budget / 60:.0f}"
        more = math.ceil(copies_s / delay)
        fix = f"Set poll_max_attempts to {more} or more, or snapshot_copy_duration_minutes to less."
        return Check("waits", "warn", text, fix)
    return Check("waits", "ok", f"{budget / 60:.0f} minutes each for the instance, the AMI and its snapshots")


def gpu(variables: BuildVariables, types: Sequence[InstanceType]) -> Check:
    """Say what verify-gpu.sh will find: nothing on a CPU builder, which is fine unless a GPU is demanded."""
    without = [kind.name for kind in types if not kind.gpus]
    if not without:
        return Check(
            "GPU", "ok", f"{', '.join(kind.name for kind in types)} has one: verify-gpu.sh checks it in the bake"
        )
    if variables.require_gpu:
        return Check(
            "GPU",
            "fail",
            f"require_gpu is set and {', '.join(without)} has no GPU",
            "Set instance_type to a GPU type, such as g5.xlarge, or require_gpu to false.",
        )
    return Check(
        "GPU",
        "ok",
        'a CPU builder: "GPU not detected" is normal in this bake, verify-gpu.sh says so and passes',
    )
