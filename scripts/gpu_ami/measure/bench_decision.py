"""Decides on a bench: reads the AMI, what is live and what is free, and plans by it; changes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from gpu_ami.aws import batch, batch_resources, capacity, clock, ecr, images, launch_templates, vpc
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image
from gpu_ami.errors import AwsError, UsageError
from gpu_ami.handover import update_tfvars
from gpu_ami.handover.eligibility import WHERE_GONE
from gpu_ami.invocation import Invocation
from gpu_ami.measure import bench_plan
from gpu_ami.measure.bench_gate import left_open
from gpu_ami.measure.bench_plan import ArmPlan, Machine, Place, Plan, Room, Root
from gpu_ami.measure.bench_price import Transfer
from gpu_ami.measure.timeline import Arm
from gpu_ami.measure.verify import chosen_types
from gpu_ami.records.tags import (
    AMI_ID,
    BENCH_RUN,
    FAMILY_TAG,
    FINGERPRINT_PREFIX,
    IMAGE_DIGEST_TAG,
    IMAGE_TAG,
    PIPELINE,
    PIPELINE_TAG,
    SNAPSHOT_GIB_TAG,
    SOURCE_AMI_TAG,
    checked_ami_id,
    is_production,
)

_IMAGE_TYPE = "ECS_AL2023_NVIDIA"
_MOST_HOSTS = 20
_LOG_OPTIONS = ("awslogs-group", "awslogs-region", "awslogs-create-group")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be measured, as it was requested.

    Attributes:
        ami: The AMI; None is the manifest's last one.
        arms: The arms; empty takes the settings', or all that there can be.
        hosts: Hosts of each arm; None takes the settings'.
        instance_type: Their type; None takes the settings'.
    """

    ami: str | None = None
    arms: Sequence[str] = ()
    hosts: int | None = None
    instance_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A bench that is decided on.

    Attributes:
        plan: What it makes.
        image: The AMI that it is about.
        transfer: What a host that pulls transfers.
        user_data: The live template's user data, in base64; None without any.
        notes: What is worth saying before it starts.
    """

    plan: Plan
    image: Image
    transfer: Transfer
    user_data: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Live:
    """The family's live environment: how its hosts are started, from which AMI, by which template."""

    environment: batch_resources.Production
    ami_id: str | None
    template: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def check(run: Invocation, wanted: Wanted) -> None:
    """Refuse what no answer of AWS could make right, before anybody has to sign in.

    Raises:
        UsageError: A value is none that can be.
    """
    _rounds(run, wanted.hosts)
    _type(run, wanted)
    bench_plan.check_arms(tuple(wanted.arms))
    _ami_id(run, wanted)


def decide(run: Invocation, wanted: Wanted, account: str) -> Decided:
    """Return the bench of an AMI.

    Raises:
        UsageError: The request, the AMI or what is live cannot be used.
        AwsError: AWS refused, or has no room for it.
    """
    caller = Caller(run.access, run.settings.region)
    rounds = _rounds(run, wanted.hosts)
    instance_type, ami_id = _type(run, wanted), _ami_id(run, wanted)
    image = _checked(run, caller, ami_id, account)
    live = _live(run, caller)
    given = tuple(wanted.arms) or run.settings.bench.arms
    arms = bench_plan.chosen_arms(given, ami_id=ami_id, live_ami=live.ami_id)
    machine = _machine(caller, instance_type, live.template)
    began = _aws_time(caller)
    run_id = _run_id(began, secrets.token_hex(3))
    plans, devices, size_gib, said = _arms(caller, run_id, arms, image, live, is_named=bool(given))
    places = _places(caller, live.environment.subnet_ids, instance_type, hosts=len(plans))
    at_once, limit = bench_plan.rounds_at_once(plans, places, machine, _room(caller, instance_type))
    waves = bench_plan.waves(run_id, plans, places, machine, rounds=rounds, at_once=at_once)
    plan = Plan(
        run_id=run_id,
        region=caller.region,
        account=account,
        family=run.settings.family,
        ami_id=ami_id,
        machine=machine,
        root=_root(live, devices, size_gib),
        live_rate_mib_s=launch_templates.rate_of(live.template),
        live_ami=live.ami_id,
        arms=plans,
        waves=waves,
        limit=limit,
        began=began,
        may_take_min=bench_plan.may_take_min(len(waves)),
        profile=live.environment.profile,
        security_group_ids=live.environment.security_group_ids,
        image_type=_image_type(live.environment.image_types),
        template={key: value for key, value in live.template.items() if key in bench_plan.KEPT},
        container=_container(caller, run.settings.family),
    )
    return Decided(
        plan=plan,
        image=image,
        transfer=Transfer(image_bytes=_image_bytes(caller, plans[0].image), network=run.settings.cost.network),
        user_data=live.template.get("UserData") or None,
        notes=(*said, *live.notes, *left_open(plan, is_required=run.settings.promotion.bench == "required")),
    )


def begun(run: Invocation, decided: Decided) -> Plan:
    """Return the plan as it begins now: whoever was asked may have taken hours over the answer.

    Raises:
        UsageError: The AMI is not there any more.
        AwsError: AWS refused, or what was free is not any more.
    """
    plan = decided.plan
    caller = Caller(run.access, plan.region)
    _checked(run, caller, plan.ami_id, plan.account)
    places = tuple({host.place for host in plan.hosts})
    at_once, why = bench_plan.rounds_at_once(plan.arms, places, plan.machine, _room(caller, plan.machine.name))
    most = max(len({host.round for host in wave}) for wave in plan.waves)
    if at_once < most:
        msg = f"There is no room for {most} rounds at a time any more: {why}. Nothing was made; run it again."
        raise AwsError(msg)
    began = _aws_time(caller)
    # The end of the old name, by which everything is called that it makes.
    return replace(plan, began=began, run_id=_run_id(began, plan.run_id.rpartition("-")[2]))


def _run_id(began: datetime, end: str) -> str:
    return f"{BENCH_RUN}{began:%Y%m%dT%H%M%SZ}-{end}"


def _type(run: Invocation, wanted: Wanted) -> str:
    (name,) = chosen_types(run, (wanted.instance_type or run.settings.bench_type,))
    return name


def _ami_id(run: Invocation, wanted: Wanted) -> str:
    named = update_tfvars.chosen_amis(run, ami=wanted.ami)[run.settings.region]
    return checked_ami_id(named)


def _rounds(run: Invocation, hosts: int | None) -> int:
    count = run.settings.bench.hosts if hosts is None else hosts
    if not 1 <= count <= _MOST_HOSTS:
        msg = f"--hosts {count} is not between 1 and {_MOST_HOSTS}: give how many fresh hosts each arm gets."
        raise UsageError(msg)
    return count


def _checked(run: Invocation, caller: Caller, ami_id: str, account: str) -> Image:
    image, family = images.look_up(caller, ami_id), run.settings.family
    if image is None:
        msg = f"{ami_id} is not in {caller.region}: {WHERE_GONE[run.target.is_kept]}"
        raise UsageError(msg)
    if image.account != account or image.state != "available":
        what = f"account {image.account}'s" if image.account != account else image.state
        msg = f"{ami_id} is {what}: only an available AMI of this account can be measured."
        raise UsageError(msg)
    if image.tags.get(PIPELINE_TAG) != PIPELINE or image.tags.get(FAMILY_TAG) != family:
        msg = f"{ami_id} is not tagged as an AMI of {family}: a bench is about AMIs of this pipeline only."
        raise UsageError(msg)
    return image


def _live(run: Invocation, caller: Caller) -> _Live:
    family = run.settings.family
    # Not what another bench measures on: that is gone in an hour.
    ours = [one for one in batch.environments(caller) if is_production(one.tags, family) and one.kind == "EC2"]
    # An enabled one first, whatever its market: all that the Terraform module makes have one network and one template,
    # and both tags.
    ours.sort(
        key=lambda one: (
            one.state != "ENABLED",
            one.status != "VALID",
            one.tags.get(PIPELINE_TAG) != PIPELINE,
            one.name,
        )
    )
    if not ours:
        msg = (
            f"No compute environment in {caller.region} has the tag {FAMILY_TAG} = {family}. A bench takes network, "
            "profile and launch template of one for its hosts. Run `invoke apply` first."
        )
        raise UsageError(msg)
    chosen = ours[0]
    template: Mapping[str, Any] = {}
    if chosen.template:
        template = launch_templates.data(caller, chosen.template, chosen.version) or {}
    return _Live(
        environment=batch_resources.production(caller, chosen.name),
        ami_id=_live_ami(chosen, template),
        template=launch_templates.as_request(caller, template),
        notes=(f"Without the arm live: {chosen.name} has several AMIs.",) if chosen.images.conflict else (),
    )


def _live_ami(chosen: batch.Environment, template: Mapping[str, Any]) -> str | None:
    """Return the AMI that is live; None where the environment names several, or none and its template none either."""
    if chosen.images.conflict:
        return None  # the template's is then not the one that its hosts get
    named = str(template.get("ImageId") or "")
    return chosen.ami_id or (named if AMI_ID.fullmatch(named) else None)


def _arms(
    caller: Caller, run_id: str, arms: Sequence[Arm], image: Image, live: _Live, *, is_named: bool
) -> tuple[tuple[ArmPlan, ...], dict[str, str], int, tuple[str, ...]]:
    """Return the arms, the root device of each of their AMIs, the size of their disks in GiB, and what to say."""
    prefix, container, notes = bench_plan.prefix_of(run_id), container_image(image), list[str]()
    rate = launch_templates.rate_of(live.template)
    amis = {"stock": base_of(image), "plain": image.image_id, "rated": image.image_id, "live": live.ami_id or ""}
    rates = {"rated": rate or bench_plan.FASTEST_MIB_S, "live": rate}
    plans, devices, sizes = [], dict[str, str](), [_size(live.template)]
    for arm in arms:
        ami_id = amis[arm]
        row = images.look_up_row(caller, ami_id)
        its = None if row is None else images.image_of(caller, row)
        runs: str | None = container
        if its is not None and arm == "live":
            runs = container_image(its) if its.tags.get(IMAGE_TAG) and _digest(its) else None
        if row is None or its is None or runs is None:
            why = "is not there any more" if its is None else "does not say which image it holds"
            if is_named or arm != "live":
                msg = f"{ami_id} {why}: there can be no arm {arm}. Leave it out of --arms."
                raise UsageError(msg)
            notes.append(f"Without the arm live: {ami_id} {why}.")
            continue
        devices[ami_id] = str(row.get("RootDeviceName") or "")
        sizes.append(its.root_gib)
        plans.append(
            ArmPlan(
                arm=arm,
                ami_id=ami_id,
                is_baked=arm != "stock",
                image=runs,
                rate_mib_s=rates.get(arm),
                data_gib=_data_gib(its),
                template=f"{prefix}-{arm}",
                definition=prefix if runs == container else f"{prefix}-{arm}",
            )
        )
    return tuple(plans), devices, max(sizes), tuple(notes)


def base_of(image: Image) -> str:
    """Return the base AMI that a build was made from; of one on top of another AMI the base of the first.

    Raises:
        UsageError: The AMI does not say.
    """
    for tag in (f"{FINGERPRINT_PREFIX}base", SOURCE_AMI_TAG):
        if AMI_ID.fullmatch(named := image.tags.get(tag, "")):
            return named
    msg = f"{image.image_id} has no tag {SOURCE_AMI_TAG}: there can be no arm stock. Leave it out of --arms."
    raise UsageError(msg)


def _digest(image: Image) -> str:
    return image.tags.get(IMAGE_TAG, "").partition("@")[2] or image.tags.get(IMAGE_DIGEST_TAG, "")


def container_image(image: Image) -> str:
    """Return the container image by its digest: what a tag names may have moved since.

    Raises:
        UsageError: The AMI does not say which it holds.
    """
    named, digest = image.tags.get(IMAGE_TAG, "").partition("@")[0], _digest(image)
    if not named or not digest:
        msg = f"{image.image_id} does not say which image it holds ({IMAGE_TAG}, {IMAGE_DIGEST_TAG}): build it again."
        raise UsageError(msg)
    folder, slash, last = named.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{digest}"


def _data_gib(image: Image) -> float:
    try:
        said = float(image.tags.get(SNAPSHOT_GIB_TAG, ""))
    except ValueError:
        said = 0.0
    return min(said, float(image.root_gib)) if said > 0 else float(image.root_gib)


def _size(template: Mapping[str, Any]) -> int:
    mappings = template.get("BlockDeviceMappings") or []
    return max((int((one.get("Ebs") or {}).get("VolumeSize") or 0) for one in mappings), default=0)


def _root(live: _Live, devices: Mapping[str, str], size_gib: int) -> Root:
    mappings = live.template.get("BlockDeviceMappings") or []
    found = next((one.get("Ebs") or {} for one in mappings if one.get("DeviceName") in devices.values()), {})
    more = {key: value for key, value in found.items() if key in bench_plan.KEPT_OF_ROOT}
    return Root(devices=devices, size_gib=size_gib, more=more)


def _machine(caller: Caller, name: str, template: Mapping[str, Any]) -> Machine:
    found = capacity.instance_types(caller, [name]).get(name)
    if found is None:
        msg = f"{caller.region} has no {name}: give another --instance-type."
        raise UsageError(msg)
    given = template.get("CpuOptions") or {}
    cores, threads = given.get("CoreCount"), given.get("ThreadsPerCore")
    return Machine(
        name=name,
        vcpus=found.vcpus,
        gpus=found.gpus,
        memory_mib=found.memory_mib,
        job_vcpus=int(cores) * int(threads) if cores and threads else None,
    )


def _container(caller: Caller, family: str) -> dict[str, Any]:
    """Return production's container, with its log where the bench can read each line of it.

    Raises:
        UsageError: The log goes where it cannot.
        AwsError: Batch refused.
    """
    found = batch_resources.container_of(caller, family)
    said = found.pop("logConfiguration", None) or {}
    if not said:
        return found
    driver, options = str(said.get("logDriver") or ""), said.get("options") or {}
    region = str(options.get("awslogs-region") or caller.region)
    if driver != "awslogs" or region != caller.region:
        where = f"by the driver {driver[:40]}" if driver != "awslogs" else f"to {region[:40]}"
        msg = (
            f"The job definition of {family} logs {where}: a bench reads its jobs' lines from CloudWatch Logs in "
            f"{caller.region}. Give it the driver awslogs, and a group there."
        )
        raise UsageError(msg)
    # Others make one event of several lines, or let lines go; the stream's name begins with the definition's by itself.
    kept = {name: options[name] for name in _LOG_OPTIONS if name in options}
    return found | {"logConfiguration": {"logDriver": driver, **({"options": kept} if kept else {})}}


def _image_type(types: Sequence[str]) -> str:
    return next((name for name in types if name.endswith("_NVIDIA")), next(iter(types), _IMAGE_TYPE))


def _places(caller: Caller, subnet_ids: Sequence[str], instance_type: str, *, hosts: int) -> tuple[Place, ...]:
    """Return the subnets in which a round has room, and whose zone has the type.

    Raises:
        AwsError: There is none.
    """
    found, why = [], dict[str, str]()
    for subnet_id in subnet_ids:
        subnet = vpc.subnet(caller, subnet_id)
        if subnet is None:
            why[subnet_id] = "is not there"
        elif subnet.free_addresses < hosts:
            why[subnet_id] = f"has {subnet.free_addresses} addresses left"
        elif instance_type not in capacity.offered(caller, subnet.zone, [instance_type]):
            why[subnet_id] = f"is in {subnet.zone}, which has no {instance_type}"
        else:
            found.append(Place(subnet_id=subnet_id, zone=subnet.zone, addresses=subnet.free_addresses))
    if not found:
        msg = f"No subnet has room for a round: {', '.join(f'{name} {what}' for name, what in why.items())}."
        raise AwsError(msg)
    return tuple(found)


def _room(caller: Caller, instance_type: str) -> Room:
    environments, queues = batch_resources.counts(caller)
    kind = capacity.quota_class(instance_type)
    quota = capacity.quota(caller, capacity.quota_code(kind, "on-demand")) if kind else None
    vcpus = None
    if kind and quota is not None:
        vcpus = max(0, int(quota.value) - capacity.vcpus_in_use(caller, kind, "on-demand"))
    return Room(
        environments=max(0, batch_resources.MOST_ENVIRONMENTS - environments),
        queues=max(0, batch_resources.MOST_QUEUES - queues),
        vcpus=vcpus,
    )


def _image_bytes(caller: Caller, image: str) -> int | None:
    """Return how much a pull transfers; None where ECR does not say: a price is not worth a bench."""
    url, _, digest = image.partition("@")
    try:
        found = ecr.container_image(caller, ecr.parse_repository_url(url), tag="", digest=digest)
    except (AwsError, UsageError):
        return None
    return found.size_bytes if found else None


def _aws_time(caller: Caller) -> datetime:
    """Return the time by AWS's clock: this machine's may be wrong, and a sweep goes by AWS's.

    Raises:
        AwsError: AWS does not say.
    """
    ahead: timedelta | None = clock.ahead(caller)
    if ahead is None:
        msg = "AWS's answers have no date: without its time nothing that a bench makes could be swept. Try again."
        raise AwsError(msg)
    return (datetime.now(timezone.utc) - ahead).replace(microsecond=0)
