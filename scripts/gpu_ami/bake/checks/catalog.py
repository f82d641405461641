"""The catalog of every check of a bake: what it looks up in AWS, and the judge that gets the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from gpu_ami.aws import capacity, clock, iam, vpc
from gpu_ami.aws.s3 import Prefix
from gpu_ami.bake.checks import account as account_checks
from gpu_ami.bake.checks import agent, allowed_images, builder, disk, encryption, lifecycle, programs, sources
from gpu_ami.bake.checks import network as network_checks
from gpu_ami.bake.checks import permissions as permission_checks
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami.bake.checks.permissions import Needed
from gpu_ami.bake.variables import BuildVariables
from gpu_ami.errors import PipelineError

R = TypeVar("R")
# Parameters that only AWS can write.
_PUBLIC = "/aws/service/"
# Of a part's actions, simulated at the same time.
_THREADS = 16


@dataclass(frozen=True)
class CheckSpec:
    """One check, not run yet.

    Attributes:
        name: Its name; a check that could not be run is reported under it.
        run: Makes its queries and judges the answers.
        permission: What the queries need; empty where it is no permission that is missing.
        is_blocking: Whether a build may not start when AWS refuses a query; false where the bake itself never makes it.
        needs_credentials: Whether there is nothing to say while AWS does not accept the credentials.
        needs_permission: Whether it has failed where the permission is denied; otherwise it is skipped.
    """

    name: str
    run: Callable[[], Check | Sequence[Check]]
    permission: str
    is_blocking: bool = True
    needs_credentials: bool = True
    needs_permission: bool = True

    def skipped(self) -> CheckSpec:
        """Return this check as one that is skipped until the credentials work."""
        return dataclasses.replace(self, run=lambda: _waits_for(self.name, "credentials"))


def on_this_machine(variables: BuildVariables, *, sandbox: bool) -> Iterator[CheckSpec]:
    """Yield the checks of the programs that the bake runs here."""
    for name, run in programs.programs(variables, sandbox=sandbox):
        yield CheckSpec(name, run, "", needs_credentials=False)


def on_aws(lookups: Lookups, account: str | None, *, sandbox: bool, folder: Path | None = None) -> Iterator[CheckSpec]:
    """Yield the checks of what is on AWS.

    Args:
        lookups: The bake's variables and its queries of AWS.
        account: The account that the settings insist on, if any.
        sandbox: Whether that AWS is the sandbox's: then nothing on the internet is queried.
        folder: The sandbox's folder, whose disk is the builder's; None on AWS.
    """
    variables, region = lookups.variables, lookups.access.region
    yield CheckSpec(
        "credentials",
        lambda: account_checks.credentials(lookups.identity(), region, account),
        "",
        needs_credentials=False,
    )
    yield CheckSpec(
        "clock",
        # Who cannot call AWS at all is told so under "credentials".
        lambda: account_checks.clock(_if_known(lambda: clock.ahead(lookups.caller))),
        "",
        needs_credentials=False,
    )
    yield CheckSpec("permissions", lambda: _permissions(lookups), "iam:SimulatePrincipalPolicy", is_blocking=False)
    for name in ("ECR login", "instance profile"):
        yield CheckSpec(name, lambda name=name: _profile(lookups, name), "iam:GetInstanceProfile")  # type: ignore[misc]
    yield CheckSpec("base AMI", lambda: _base_ami(lookups), "ssm:GetParameter and ec2:DescribeImages")
    yield CheckSpec(
        allowed_images.NAME,
        lambda: _allowed_images(lookups),
        "ec2:GetAllowedImagesSettings",
        is_blocking=False,
        needs_permission=False,
    )
    yield CheckSpec(
        "container image",
        lambda: sources.container_image(variables, lookups.repository(), lookups.image()),
        "ecr:DescribeImages on the repository",
    )
    yield CheckSpec(
        lifecycle.NAME,
        lambda: _lifecycle(lookups),
        "ecr:GetLifecyclePolicy and ecr:DescribeImages on the repository",
        is_blocking=False,
        needs_permission=False,
    )
    yield CheckSpec("models", lambda: _models(lookups), "s3:ListBucket on the bucket")
    for number, subnet_id in enumerate(variables.subnet_ids or ("",)):
        name = f"network {subnet_id}" if number else "network"
        yield CheckSpec(
            name,
            lambda name=name, subnet_id=subnet_id: _network(lookups, name, subnet_id),  # type: ignore[misc]
            "ec2:DescribeSubnets, ec2:DescribeRouteTables and ec2:DescribeVpcEndpoints",
            is_blocking=False,
        )
    yield CheckSpec("security group", lambda: _security_group(lookups, sandbox=sandbox), "ec2:DescribeSecurityGroups")
    yield CheckSpec(
        "instance type",
        lambda: _instance_type(lookups),
        "ec2:DescribeInstanceTypes and ec2:DescribeInstanceTypeOfferings",
        is_blocking=False,
    )
    yield CheckSpec(
        "vCPU quota",
        lambda: _quota(lookups),
        "servicequotas:GetServiceQuota, ec2:DescribeInstances and ec2:DescribeInstanceTypes",
        is_blocking=False,
    )
    yield CheckSpec("GPU", lambda: _gpu(lookups), "ec2:DescribeInstanceTypes", is_blocking=False)
    yield CheckSpec("disk space", lambda: _disk(lookups), "")
    if folder is not None:
        yield CheckSpec("host disk", lambda: _host_disk(lookups, folder), "")
    yield CheckSpec("encryption key", lambda: _key(lookups), "kms:DescribeKey on the key", is_blocking=False)
    yield CheckSpec("ECS agent settings", lambda: agent.settings(variables), "", needs_credentials=False)
    yield CheckSpec("waits", lambda: builder.waits(variables, region), "", needs_credentials=False)


def _waits_for(name: str, *others: str) -> Check:
    return Check(name, "skip", f"not checked: fix {' and '.join(others)} first")


def _if_known(query: Callable[[], R]) -> R | None:
    """Return what *query* finds; None where it fails, which the check that it belongs to reports."""
    try:
        return query()
    except PipelineError:
        return None


def _base_ami(lookups: Lookups) -> Check:
    variables, recommended = lookups.variables, None
    if not variables.source_ami:
        recommended = lookups.recommended()
        if recommended is None:
            return sources.no_parameter(variables.base_ami_parameter, lookups.access.region)
    found, now = lookups.base_image(), datetime.now(timezone.utc)
    given = variables.source_ami or str(recommended)
    return sources.base_ami(variables, given, found, recommended, account=lookups.identity().account, now=now)


def _allowed_images(lookups: Lookups) -> Check:
    variables, found = lookups.variables, lookups.allowed_images()
    try:
        named, row = variables.source_ami or lookups.recommended(), lookups.base_row()
    except PipelineError:
        named, row = None, None
    if named is None:
        return _waits_for(allowed_images.NAME, "base AMI")
    is_there = not variables.source_ami and variables.base_ami_parameter.startswith(_PUBLIC)
    account, now = lookups.identity().account, datetime.now(timezone.utc)
    return allowed_images.judge(found, named, row, account=account, is_there=is_there, now=now)


def _lifecycle(lookups: Lookups) -> Check:
    image = _if_known(lookups.image)
    if image is None:
        return _waits_for(lifecycle.NAME, "container image")
    policy = lookups.lifecycle_policy()
    return lifecycle.judge(
        policy,
        image,
        lookups.repository(),
        lookups.active_images() if lifecycle.counts(policy, image) else (),
        deprecate_after_days=lookups.variables.deprecate_after_days,
        now=datetime.now(timezone.utc),
    )


def _models(lookups: Lookups) -> Check:
    return sources.models(lookups.variables, lookups.models() if lookups.variables.models_s3_bucket else None)


def _network(lookups: Lookups, name: str, subnet_id: str) -> Check:
    subnet = lookups.subnet(subnet_id)
    if subnet is None:
        found = network_checks.no_subnet(name, subnet_id, lookups.access.region)
    else:
        found = network_checks.route(name, lookups.variables, vpc.network(lookups.caller, subnet))
    if found.status == "fail" and subnet_id in lookups.variables.subnet_ids[1:]:
        # Only needed when the subnets before it have no room.
        return dataclasses.replace(found, status="warn")
    return found


def _security_group(lookups: Lookups, *, sandbox: bool) -> Check:
    variables = lookups.variables
    if not variables.security_group_id:
        return network_checks.security_group(variables, None, vpc_id=None, callers=(), region=lookups.access.region)
    callers = variables.caller_cidrs
    if not callers and variables.is_reached_directly and variables.ssh_interface == "public_ip" and not sandbox:
        address = vpc.public_address()
        callers = (address,) if address is not None else ()
    subnet = _if_known(lambda: lookups.subnet(next(iter(variables.subnet_ids), "")))
    vpc_id = None if subnet is None else subnet.vpc_id
    return network_checks.security_group(
        variables, lookups.group(), vpc_id=vpc_id, callers=callers, region=lookups.access.region
    )


def _instance_type(lookups: Lookups) -> Check:
    variables = lookups.variables
    found = [_if_known(lambda subnet_id=subnet_id: lookups.subnet(subnet_id)) for subnet_id in variables.subnet_ids]  # type: ignore[misc]
    subnets = [subnet for subnet in found if subnet is not None]
    zones = dict.fromkeys(subnet.zone for subnet in subnets)
    offered = {zone: capacity.offered(lookups.caller, zone, variables.instance_types) for zone in zones}
    base = _if_known(lookups.base_image)
    types = lookups.types() if variables.instance_types else {}
    return builder.instance_type(variables, types, offered, base)


def _known_types(lookups: Lookups) -> list[capacity.InstanceType]:
    known = lookups.types() if lookups.variables.instance_types else {}
    return [known[name] for name in lookups.variables.instance_types if name in known]


def _quota(lookups: Lookups) -> Check | list[Check]:
    market: capacity.Market = "spot" if lookups.variables.spot else "on-demand"
    classes: dict[str, list[capacity.InstanceType]] = {}
    for kind in _known_types(lookups):
        classes.setdefault(capacity.quota_class(kind.name) or "", []).append(kind)
    if not classes:
        return _waits_for("vCPU quota", "instance type")
    return [_class_quota(lookups, name, market, types) for name, types in classes.items()]


def _class_quota(lookups: Lookups, name: str, market: capacity.Market, types: list[capacity.InstanceType]) -> Check:
    if not name:
        return builder.vcpu_quota(market, types, None, 0)
    quota = capacity.quota(lookups.caller, capacity.quota_code(name, market))
    return builder.vcpu_quota(market, types, quota, capacity.vcpus_in_use(lookups.caller, name, market))


def _gpu(lookups: Lookups) -> Check:
    types = _known_types(lookups)
    return builder.gpu(lookups.variables, types) if types else _waits_for("GPU", "instance type")


def _disk(lookups: Lookups) -> Check:
    variables = lookups.variables
    image, base = _if_known(lookups.image), _if_known(lookups.base_image)
    models = _if_known(lookups.models) if variables.models_s3_bucket else Prefix(objects=0, size_bytes=0)
    if image is None or base is None or models is None:
        parts = (("container image", image), ("base AMI", base), ("models", models))
        return _waits_for("disk space", *(name for name, found in parts if found is None))
    return disk.disk(variables, image_bytes=image.size_bytes, models_bytes=models.size_bytes, base_gib=base.root_gib)


def _host_disk(lookups: Lookups, folder: Path) -> Check:
    image = _if_known(lookups.image)
    models = _if_known(lookups.models) if lookups.variables.models_s3_bucket else Prefix(objects=0, size_bytes=0)
    return disk.host(
        folder,
        lookups.variables,
        # Each is a check of its own; the disk must have room for what is known.
        image_bytes=0 if image is None else image.size_bytes,
        models_bytes=0 if models is None else models.size_bytes,
    )


def _key(lookups: Lookups) -> Check:
    return encryption.key(lookups.variables, lookups.key() if lookups.variables.kms_key_id else None)


def _permissions(lookups: Lookups) -> list[Check]:
    """Simulate every action in IAM; what IAM denies, or may not be queried for, is tried as a dry run of EC2."""
    variables, who = lookups.variables, lookups.identity()
    if who.arn.endswith(":root"):
        return [Check("permissions", "ok", "the root user may do everything")]
    role = _if_known(lookups.role) if variables.iam_instance_profile else None
    key = _if_known(lookups.key) if variables.kms_key_id else None
    needed = permission_checks.needed(
        variables, lookups.scene(), role=role or None, key=None if key is None else key.arn
    )
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        said = list(pool.map(lambda part: _simulated(lookups, part), needed))
        simulations = zip(needed, said, strict=True)
        trials = sorted({trial for part, found in simulations for trial in _trials(lookups, part, found)})
        tried = dict(zip(trials, pool.map(lambda trial: _tried(lookups, *trial), trials), strict=True))
    by_part: dict[str, dict[str, iam.Answer]] = {}
    for part, found in zip(needed, said, strict=True):
        answers = by_part.setdefault(part.part, {})
        for action in part.actions:
            first = "unknown" if found is None else found.get(action, "unknown")
            second = tried.get(_trial(part, action), "unknown")
            # One action may be about several things, and the bake needs it on each.
            answers[action] = max(answers.get(action, "allowed"), first if second == "unknown" else second, key=_WORST)
    simulated = None not in said
    principal = lookups.principal() or who.arn
    return [
        permission_checks.judge(part, answers, simulated=simulated, who=principal) for part, answers in by_part.items()
    ]


_WORST: Callable[[iam.Answer], int] = ("allowed", "unknown", "denied").index
# An EC2 action and the id that it would be about.
_Trial = tuple[str, str]


def _simulated(lookups: Lookups, part: Needed) -> dict[str, iam.Answer] | None:
    arn = lookups.principal()
    context = permission_checks.context(lookups.scene(), lookups.tags, part)
    return None if arn is None else iam.simulate(lookups.caller, arn, part.actions, part.resource, context)


def _trial(part: Needed, action: str) -> _Trial:
    """Return the dry run that is a witness for *action*; for tags that come with the making, that is the making."""
    if action != "ec2:CreateTags":
        return action, ""
    return (f"ec2:{part.creating}", "") if part.creating else (action, part.resource.rpartition("/")[2])


def _trials(lookups: Lookups, part: Needed, said: Mapping[str, iam.Answer] | None) -> Iterator[_Trial]:
    """Yield what is tried of *part*: what IAM did not allow, and the launch in any case.

    With its real subnet, AMI, tags and profile the launch is the better witness. Dry runs are for the builder's region.
    """
    if permission_checks.region_of(part) not in ("", lookups.scene().region):
        return
    for action in part.actions:
        if action == "ec2:RunInstances" or said is None or said.get(action) != "allowed":
            yield _trial(part, action)


def _tried(lookups: Lookups, action: str, about: str) -> iam.Answer:
    launch = _if_known(lookups.launch)
    return "unknown" if launch is None else iam.dry_run(lookups.caller, action, launch, about)


def _temporary_profile(lookups: Lookups, check: str) -> Check:
    region, base = lookups.access.region, _if_known(lookups.base_image)
    if check == "ECR login" or base is None or not programs.plugin_tries_profiles():
        return permission_checks.temporary_profile(check, region, "x86_64", has_default_vpc=None, refusal=None)
    has_default_vpc = _if_known(lambda: vpc.default_vpc(lookups.caller) is not None)
    refusal = iam.try_profile(lookups.caller, base.image_id)
    return permission_checks.temporary_profile(
        check, region, base.architecture, has_default_vpc=has_default_vpc, refusal=refusal
    )


def _profile(lookups: Lookups, check: str) -> Check:
    variables = lookups.variables
    profile = variables.iam_instance_profile
    if not profile:
        return _temporary_profile(lookups, check)
    role = lookups.role()
    if not role:
        is_login = check == "ECR login"
        return _waits_for(check, "instance profile") if is_login else permission_checks.no_profile(profile, role)
    repository = lookups.repository()
    needed = [
        part
        for part in permission_checks.profile_needs(variables, repository, lookups.scene().partition)
        if part.part == check
    ]
    answers: dict[str, iam.Answer] | None = {}
    for part in needed:
        context = permission_checks.context(lookups.scene(), {}, part)
        said = iam.simulate(lookups.caller, role, part.actions, part.resource, context)
        answers = None if said is None or answers is None else answers | said
    return permission_checks.judge_profile(check, profile, role, answers, repository.region)
