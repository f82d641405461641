"""The checks of what `invoke verify` needs, where the settings want it before a hand-over or an apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpu_ami.aws import capacity, iam
from gpu_ami.aws.caller import RefusedError
from gpu_ami.aws.capacity import InstanceType
from gpu_ami.bake.checks import builder
from gpu_ami.bake.checks.catalog import CheckSpec
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami.settings import Settings

PROFILE, TYPES, QUOTA = "verification profile", "verification types", "verification quota"
_AGENT = ("ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:OpenControlChannel")
_PULL = "ecr:BatchGetImage"
_MARKET: capacity.Market = "on-demand"
_NAMED = "verify.instance_types in pipeline.yaml"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The verifications that the settings want.

    Attributes:
        profile: The instance profile.
        types: The types to boot on, in the order to try.
        is_before_handover: Whether a build verifies by itself, and so must not begin where it cannot.
    """

    profile: str
    types: tuple[str, ...]
    is_before_handover: bool


def wanted(settings: Settings) -> Wanted | None:
    """Return what the settings want; None where they want no verification."""
    verify = settings.verify
    if verify.before == "never":
        return None
    types, is_first = settings.verified_types, verify.before == "handover"
    return Wanted(profile=verify.instance_profile, types=types, is_before_handover=is_first)


def specs(lookups: Lookups, wants: Wanted | None) -> Iterator[CheckSpec]:
    """Yield the checks; none where nothing is wanted. One whose look-up is denied is skipped and names the right."""
    if wants is None:
        return
    runs: tuple[tuple[str, Callable[[], Check | list[Check]], str], ...] = (
        (PROFILE, lambda: _profile(lookups, wants), "iam:GetInstanceProfile"),
        (TYPES, lambda: _types(lookups, wants), "ec2:DescribeInstanceTypes and ec2:DescribeInstanceTypeOfferings"),
        (QUOTA, lambda: _quota(lookups, wants), "servicequotas:GetServiceQuota and ec2:DescribeInstances"),
    )
    for name, run, permission in runs:
        checked = _run(name, run, permission, is_blocking=wants.is_before_handover)
        yield CheckSpec(name, checked, permission, is_blocking=False)


def _run(
    name: str, run: Callable[[], Check | list[Check]], permission: str, *, is_blocking: bool
) -> Callable[[], list[Check]]:
    def checked() -> list[Check]:
        try:
            found = run()
        except RefusedError as exc:
            if not exc.is_denied:
                raise
            return [Check(name, "skip", f"not checked: {exc}", f"To have it checked, allow {permission}.")]
        some = [found] if isinstance(found, Check) else found
        return [dataclasses.replace(one, check=name, is_blocking=is_blocking) for one in some]

    return checked


def _profile(lookups: Lookups, wants: Wanted) -> Check:
    role = iam.role_of_profile(lookups.caller, wants.profile)
    if not role:
        return judge_profile(wants.profile, role, None)
    return judge_profile(wants.profile, role, iam.simulate(lookups.caller, role, (*_AGENT, _PULL), "*", {}))


def judge_profile(profile: str, role: str | None, answers: Mapping[str, iam.Answer] | None) -> Check:
    """Judge the instance profile of verified instances.

    Args:
        profile: Its name.
        role: ARN of the role in it; empty for none, None where there is no such profile.
        answers: What IAM says of the role, by action; None where it may not be asked.
    """
    make = (
        f"Set verify_instance_profile = {profile!r} in terraform/terraform.tfvars and apply it as an administrator, or "
        "name another one in verify.instance_profile of pipeline.yaml."
    ).replace("'", '"')
    if not role:
        what = (
            f"the instance profile {profile} holds no role" if role == "" else f"there is no instance profile {profile}"
        )
        return Check(PROFILE, "fail", what, make)
    name = role.rpartition("/")[2]
    if answers is None:
        text = f"{profile} is there; what its role {name} may is not known: these credentials may not ask IAM"
        return Check(PROFILE, "skip", text, f"To have it checked, allow iam:SimulatePrincipalPolicy on {role}.")
    denied = sorted(action for action in _AGENT if answers.get(action) != "allowed")
    if denied:
        text = f"the role {name} of {profile} may not {', '.join(denied)}: Systems Manager never reaches the instance"
        return Check(PROFILE, "fail", text, f"Allow them in a policy of the role {name}.")
    if answers.get(_PULL) == "allowed":
        text = (
            f"the role {name} of {profile} may pull images: that a container starts does not prove its image is baked"
        )
        return Check(PROFILE, "warn", text, f"Take {_PULL} from the role {name}.")
    return Check(PROFILE, "ok", f"{profile} may report to Systems Manager, and pull no image; simulated by IAM")


def _types(lookups: Lookups, wants: Wanted) -> Check:
    known = capacity.instance_types(lookups.caller, wants.types)
    subnets = [lookups.subnet(subnet_id) for subnet_id in lookups.variables.subnet_ids]
    zones = dict.fromkeys(subnet.zone for subnet in subnets if subnet is not None)
    offered = {zone: capacity.offered(lookups.caller, zone, wants.types) for zone in zones}
    return judge_types(wants.types, known, offered)


def judge_types(
    types: Sequence[str], known: Mapping[str, InstanceType], offered: Mapping[str, frozenset[str]]
) -> Check:
    """Judge the types that AMIs are booted on.

    Args:
        types: Their names.
        known: Those that the region has.
        offered: Zone of each of the build's subnets to those of the types that it has.
    """
    fix = f"Choose others in {_NAMED}."
    if without := [name for name in types if not capacity.has_gpu(name)]:
        return Check(TYPES, "fail", f"{', '.join(without)} has no GPU, by its name", fix)
    if unknown := [name for name in types if name not in known]:
        return Check(TYPES, "fail", f"EC2 has no {', '.join(unknown)} in this region", fix)
    places = {name: [zone for zone, has in offered.items() if name in has] for name in types}
    if not offered:
        text = f"{', '.join(types)} in the region; no subnet of a build is known to look for them in"
        return Check(TYPES, "ok", text)
    said = "; ".join(f"{name} in {', '.join(zones) or 'none'}" for name, zones in places.items())
    zones = f" of {', '.join(offered)}"
    fix = f"Choose types in {_NAMED} that the zones have, or a subnet in another zone."
    if not any(places.values()):
        return Check(TYPES, "fail", f"{said}{zones}", fix)
    if not all(places.values()):
        return Check(TYPES, "warn", f"{said}{zones}", fix)
    return Check(TYPES, "ok", said)


def _quota(lookups: Lookups, wants: Wanted) -> Check | list[Check]:
    known = capacity.instance_types(lookups.caller, wants.types)
    classes: dict[str, list[InstanceType]] = {}
    for kind in (known[name] for name in wants.types if name in known):
        classes.setdefault(capacity.quota_class(kind.name) or "", []).append(kind)
    if not classes:
        return Check(QUOTA, "skip", f"not checked: fix {TYPES} first")
    found = []
    for name, types in classes.items():
        quota = capacity.quota(lookups.caller, capacity.quota_code(name, _MARKET)) if name else None
        used = capacity.vcpus_in_use(lookups.caller, name, _MARKET) if name else 0
        found.append(builder.vcpu_quota(_MARKET, types, quota, used))
    return found
