"""Every check of a bake: what to look up in AWS, and which judge gets it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TypeVar

from gpu_ami.aws import capacity, clock, iam, vpc
from gpu_ami.aws.s3 import Prefix
from gpu_ami.bake.checks import account as account_checks
from gpu_ami.bake.checks import builder, disk, programs, sources
from gpu_ami.bake.checks import network as network_checks
from gpu_ami.bake.checks import permissions as permission_checks
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Facts
from gpu_ami.bake.checks.permissions import Needed
from gpu_ami.bake.variables import BuildVariables
from gpu_ami.errors import PipelineError

R = TypeVar("R")
# Of a part's actions, asked at the same time.
_THREADS = 16


@dataclass(frozen=True)
class Look:
    """One check, not made yet.

    Attributes:
        name: Its name; a check that could not be made is reported under it.
        make: Looks and judges.
        permission: What the look needs; empty where it is no permission that is missing.
        is_bakes: Whether a build may not start when AWS refuses the look; false where the bake itself never asks.
        needs_no_caller: Whether it says something even where AWS does not know who is asking.
    """

    name: str
    make: Callable[[], Check | Sequence[Check]]
    permission: str
    is_bakes: bool = True
    needs_no_caller: bool = False

    def put_off(self) -> Look:
        """Return a look that waits for credentials that work."""
        return dataclasses.replace(self, make=lambda: _waits_for(self.name, "credentials"))


def on_this_machine(bake: BuildVariables, *, sandbox: bool) -> Iterator[Look]:
    """Yield the checks of the programs that the bake runs here."""
    for name, make in programs.programs(bake, sandbox=sandbox):
        yield Look(name, make, "", needs_no_caller=True)


def on_aws(facts: Facts, account: str | None, *, sandbox: bool) -> Iterator[Look]:
    """Yield the checks of what is on AWS.

    Args:
        facts: The bake and what is known of AWS for it.
        account: The account that the settings insist on, if any.
        sandbox: Whether that AWS is the sandbox's: then nothing on the internet is asked.
    """
    bake, region = facts.wanted, facts.access.region
    yield Look(
        "credentials",
        lambda: account_checks.credentials(facts.identity(), region, account),
        "",
        needs_no_caller=True,
    )
    yield Look(
        "clock",
        # Who cannot ask at all is told so under "credentials".
        lambda: account_checks.clock(_if_known(lambda: clock.ahead(facts.caller))),
        "",
        needs_no_caller=True,
    )
    yield Look("permissions", lambda: _permissions(facts), "iam:SimulatePrincipalPolicy", is_bakes=False)
    for name in ("ECR login", "instance profile"):
        yield Look(name, lambda name=name: _profile(facts, name), "iam:GetInstanceProfile")  # type: ignore[misc]
    yield Look("base AMI", lambda: _base_ami(facts), "ssm:GetParameter and ec2:DescribeImages")
    yield Look(
        "container image",
        lambda: sources.container_image(bake, facts.repository(), facts.image()),
        "ecr:DescribeImages on the repository",
    )
    yield Look("models", lambda: _models(facts), "s3:ListBucket on the bucket")
    for number, subnet_id in enumerate(bake.subnet_ids or ("",)):
        name = f"network {subnet_id}" if number else "network"
        yield Look(
            name,
            lambda name=name, subnet_id=subnet_id: _network(facts, name, subnet_id),  # type: ignore[misc]
            "ec2:DescribeSubnets, ec2:DescribeRouteTables and ec2:DescribeVpcEndpoints",
            is_bakes=False,
        )
    yield Look("security group", lambda: _security_group(facts, sandbox=sandbox), "ec2:DescribeSecurityGroups")
    yield Look(
        "instance type",
        lambda: _instance_type(facts),
        "ec2:DescribeInstanceTypes and ec2:DescribeInstanceTypeOfferings",
        is_bakes=False,
    )
    yield Look(
        "vCPU quota",
        lambda: _quota(facts),
        "servicequotas:GetServiceQuota, ec2:DescribeInstances and ec2:DescribeInstanceTypes",
        is_bakes=False,
    )
    yield Look("GPU", lambda: _gpu(facts), "ec2:DescribeInstanceTypes", is_bakes=False)
    yield Look("disk space", lambda: _disk(facts), "")
    yield Look("encryption key", lambda: _key(facts), "kms:DescribeKey on the key", is_bakes=False)


def _waits_for(name: str, *others: str) -> Check:
    return Check(name, "skip", f"not looked at: mend {' and '.join(others)} first")


def _if_known(look: Callable[[], R]) -> R | None:
    """Return what *look* finds; None where it fails, which the check that it belongs to reports."""
    try:
        return look()
    except PipelineError:
        return None


def _base_ami(facts: Facts) -> Check:
    bake, recommended = facts.wanted, None
    if not bake.source_ami:
        recommended = facts.recommended()
        if recommended is None:
            return sources.no_parameter(bake.base_ami_parameter, facts.access.region)
    found, now = facts.base_image(), datetime.now(timezone.utc)
    given = bake.source_ami or str(recommended)
    return sources.base_ami(bake, given, found, recommended, account=facts.identity().account, now=now)


def _models(facts: Facts) -> Check:
    return sources.models(facts.wanted, facts.models() if facts.wanted.models_s3_bucket else None)


def _network(facts: Facts, name: str, subnet_id: str) -> Check:
    subnet = facts.subnet(subnet_id)
    if subnet is None:
        found = network_checks.no_subnet(name, subnet_id, facts.access.region)
    else:
        found = network_checks.route(name, facts.wanted, vpc.network(facts.caller, subnet))
    if found.status == "fail" and subnet_id in facts.wanted.subnet_ids[1:]:
        # Only needed when the subnets before it have no room.
        return dataclasses.replace(found, status="warn")
    return found


def _security_group(facts: Facts, *, sandbox: bool) -> Check:
    bake = facts.wanted
    if not bake.security_group_id:
        return network_checks.security_group(bake, None, vpc_id=None, callers=(), region=facts.access.region)
    callers = bake.caller_cidrs
    if not callers and bake.is_reached_directly and bake.ssh_interface == "public_ip" and not sandbox:
        address = vpc.public_address()
        callers = (address,) if address is not None else ()
    subnet = _if_known(lambda: facts.subnet(next(iter(bake.subnet_ids), "")))
    vpc_id = None if subnet is None else subnet.vpc_id
    return network_checks.security_group(
        bake, facts.group(), vpc_id=vpc_id, callers=callers, region=facts.access.region
    )


def _instance_type(facts: Facts) -> Check:
    bake = facts.wanted
    looked = [_if_known(lambda subnet_id=subnet_id: facts.subnet(subnet_id)) for subnet_id in bake.subnet_ids]  # type: ignore[misc]
    subnets = [found for found in looked if found is not None]
    zones = dict.fromkeys(subnet.zone for subnet in subnets)
    offered = {zone: capacity.offered(facts.caller, zone, bake.instance_types) for zone in zones}
    base = _if_known(facts.base_image)
    types = facts.types() if bake.instance_types else {}
    return builder.instance_type(bake, types, offered, None if base is None else base.architecture)


def _known_types(facts: Facts) -> list[capacity.InstanceType]:
    known = facts.types() if facts.wanted.instance_types else {}
    return [known[name] for name in facts.wanted.instance_types if name in known]


def _quota(facts: Facts) -> Check | list[Check]:
    market: capacity.Market = "spot" if facts.wanted.spot else "on-demand"
    classes: dict[str, list[capacity.InstanceType]] = {}
    for kind in _known_types(facts):
        classes.setdefault(capacity.quota_class(kind.name) or "", []).append(kind)
    if not classes:
        return _waits_for("vCPU quota", "instance type")
    return [_class_quota(facts, name, market, types) for name, types in classes.items()]


def _class_quota(facts: Facts, name: str, market: capacity.Market, types: list[capacity.InstanceType]) -> Check:
    if not name:
        return builder.vcpu_quota(market, types, None, 0)
    quota = capacity.quota(facts.caller, capacity.quota_code(name, market))
    return builder.vcpu_quota(market, types, quota, capacity.vcpus_in_use(facts.caller, name, market))


def _gpu(facts: Facts) -> Check:
    types = _known_types(facts)
    return builder.gpu(facts.wanted, types) if types else _waits_for("GPU", "instance type")


def _disk(facts: Facts) -> Check:
    bake = facts.wanted
    image, base = _if_known(facts.image), _if_known(facts.base_image)
    models = _if_known(facts.models) if bake.models_s3_bucket else Prefix(objects=0, size_bytes=0)
    if image is None or base is None or models is None:
        parts = (("container image", image), ("base AMI", base), ("models", models))
        return _waits_for("disk space", *(name for name, found in parts if found is None))
    return disk.disk(bake, image_bytes=image.size_bytes, models_bytes=models.size_bytes, base_gib=base.root_gib)


def _key(facts: Facts) -> Check:
    return builder.encryption(facts.wanted, facts.key() if facts.wanted.kms_key_id else None)


def _permissions(facts: Facts) -> list[Check]:
    """Ask IAM for every action; what it denies, or where it may not be asked, EC2 is asked by dry runs."""
    bake, who = facts.wanted, facts.identity()
    if who.arn.endswith(":root"):
        return [Check("permissions", "ok", "the root user may do everything")]
    role = _if_known(facts.role) if bake.iam_instance_profile else None
    key = _if_known(facts.key) if bake.kms_key_id else None
    needed = permission_checks.needed(bake, facts.scene(), role=role or None, key=None if key is None else key.arn)
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        said = list(pool.map(lambda part: _simulated(facts, part), needed))
        asked = zip(needed, said, strict=True)
        trials = sorted({trial for part, found in asked for trial in _trials(facts, part, found)})
        tried = dict(zip(trials, pool.map(lambda trial: _tried(facts, *trial), trials), strict=True))
    by_part: dict[str, dict[str, iam.Answer]] = {}
    for part, found in zip(needed, said, strict=True):
        answers = by_part.setdefault(part.part, {})
        for action in part.actions:
            first = "unknown" if found is None else found.get(action, "unknown")
            second = tried.get(_trial(part, action), "unknown")
            # One action may be about several things, and the bake needs it on each.
            answers[action] = max(answers.get(action, "allowed"), first if second == "unknown" else second, key=_WORST)
    simulated = None not in said
    who_in_words = facts.principal() or who.arn
    return [
        permission_checks.judge(part, answers, simulated=simulated, who=who_in_words)
        for part, answers in by_part.items()
    ]


_WORST: Callable[[iam.Answer], int] = ("allowed", "unknown", "denied").index
# An EC2 action and the id that it would be about.
_Trial = tuple[str, str]


def _simulated(facts: Facts, part: Needed) -> dict[str, iam.Answer] | None:
    arn = facts.principal()
    context = permission_checks.context(facts.scene(), facts.tags, part)
    return None if arn is None else iam.simulate(facts.caller, arn, part.actions, part.resource, context)


def _trial(part: Needed, action: str) -> _Trial:
    """Return the dry run that is a witness for *action*; for tags that come with the making, that is the making."""
    if action != "ec2:CreateTags":
        return action, ""
    return (f"ec2:{part.creating}", "") if part.creating else (action, part.resource.rpartition("/")[2])


def _trials(facts: Facts, part: Needed, said: Mapping[str, iam.Answer] | None) -> Iterator[_Trial]:
    """Yield what is tried of *part*: what IAM did not allow, and the launch in any case.

    With its real subnet, AMI, tags and profile the launch is the better witness. Dry runs are for the builder's region.
    """
    if permission_checks.region_of(part) not in ("", facts.scene().region):
        return
    for action in part.actions:
        if action == "ec2:RunInstances" or said is None or said.get(action) != "allowed":
            yield _trial(part, action)


def _tried(facts: Facts, action: str, about: str) -> iam.Answer:
    place = _if_known(facts.place)
    return "unknown" if place is None else iam.dry_run(facts.caller, action, place, about)


def _profile(facts: Facts, check: str) -> Check:
    bake = facts.wanted
    profile = bake.iam_instance_profile
    if not profile:
        return Check(check, "ok", "a temporary profile, which may just log in, pull the image and read the models")
    role = facts.role()
    if not role:
        is_login = check == "ECR login"
        return _waits_for(check, "instance profile") if is_login else permission_checks.no_profile(profile, role)
    repository = facts.repository()
    needed = [
        part
        for part in permission_checks.profile_needs(bake, repository, facts.scene().partition)
        if part.part == check
    ]
    answers: dict[str, iam.Answer] | None = {}
    for part in needed:
        context = permission_checks.context(facts.scene(), {}, part)
        said = iam.simulate(facts.caller, role, part.actions, part.resource, context)
        answers = None if said is None or answers is None else answers | said
    return permission_checks.judge_profile(check, profile, role, answers, repository.region)
