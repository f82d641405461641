"""`invoke verify`: boots an AMI on a GPU type, checks it through SSM, and ends the instance, whatever happens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from gpu_ami.aws import batch, images, instances
from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.aws.capacity import has_gpu
from gpu_ami.aws.image_changes import add_tags
from gpu_ami.aws.images import Image
from gpu_ami.aws.instances import Launch, RootVolume
from gpu_ami.aws.run_command import Shell, is_online
from gpu_ami.console import Table
from gpu_ami.cost.line import build_line
from gpu_ami.errors import AwsError, DifferenceError, SafetyError, UsageError
from gpu_ami.files import read_text
from gpu_ami.handover import update_tfvars
from gpu_ami.invocation import Invocation
from gpu_ami.measure import checks
from gpu_ami.measure.checks import Check
from gpu_ami.measure.placement import places
from gpu_ami.process import interruptible, shielded
from gpu_ami.records import verification
from gpu_ami.records.tags import (
    FAMILY_TAG,
    IMAGE_TAG,
    MAY_TAKE_TAG,
    PIPELINE,
    PIPELINE_TAG,
    RUN_TAG,
    VERIFIED_TAG,
    checked_ami_id,
)
from gpu_ami.records.verification import CheckRecord, Verification
from gpu_ami.units import show_duration, show_usd

# The instance switches itself off after this, whoever has forgotten it.
LONGEST_MIN = 45
_RUNNING_WITHIN_S = 300.0
_ONLINE_WITHIN_S = 600.0
_GPU_WITHIN_S, _SCRIPT_WITHIN_S = 600, 60
# EBS's word on a volume is up to five minutes old.
_FILLED_WITHIN_S = 360.0
_EVERY_S, _EBS_EVERY_S = 6.0, 10.0
# What a verification usually takes, for the likely price.
_LIKELY_MIN = 8
# The volume of an AMI that is still to be made; a few GiB more or less are less than a cent.
_USUAL_GIB = 100
_USER_DATA = f"""#!/bin/bash
# Ends this instance if nobody else does: EC2 terminates it then, and its volume with it.
shutdown -h +{LONGEST_MIN}
"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke verify`` requested.

    Attributes:
        ami: The AMI; None is the manifest's last one.
        instance_types: GPU types to boot on, in the order to try; empty takes the settings'.
        subnet_ids: Subnets, in the order to try; empty takes the build's.
        max_usd: What it may cost at most; needed where nobody is asked.
        yes: Whether to start without asking.
    """

    ami: str | None = None
    instance_types: Sequence[str] = ()
    subnet_ids: Sequence[str] = ()
    max_usd: str | None = None
    yes: bool = False


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How time goes on for a verification; tests have it go faster."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a verification may cost.

    Attributes:
        worst_usd: If it runs until the instance switches itself off; None when a price is unknown.
        likely_usd: Usually; None when a price is unknown.
    """

    worst_usd: Decimal | None
    likely_usd: Decimal | None

    def __str__(self) -> str:
        """Return it for people."""
        if self.worst_usd is None or self.likely_usd is None:
            return "its price is not known"
        return f"about {show_usd(self.likely_usd)}, at most {show_usd(self.worst_usd)}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One verification that is decided on.

    Attributes:
        image: The AMI.
        region: Where.
        account: Whose.
        launches: What to start, in the order to try.
        run_id: Its run, as its resources' tags have it.
        price: What it may cost.
    """

    image: Image
    region: str
    account: str
    launches: tuple[Launch, ...]
    run_id: str
    price: Price


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a verification, as the JSON result has it."""

    ami_id: str
    instance_type: str
    region: str
    instance_id: str
    checks: tuple[Check, ...]
    seconds: float
    cost_usd: Decimal | None
    record: str | None = None
    invented: bool = field(default=False)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "ami_id": self.ami_id,
            "instance_type": self.instance_type,
            "region": self.region,
            "instance_id": self.instance_id,
            "checks": [asdict(check) for check in self.checks],
            "seconds": round(self.seconds, 1),
            "cost_usd": None if self.cost_usd is None else float(self.cost_usd),
            "record": self.record,
            "times_are_invented": self.invented,
        }


def run(run: Invocation, request: Request, *, clock: Clock | None = None) -> None:
    """Verify an AMI and show what was found.

    Raises:
        UsageError: The request, the settings or the AMI cannot be used.
        SafetyError: The wrong account, or nobody has said that it may cost so much.
        AwsError: AWS refused, or had no capacity anywhere; nothing is left.
        DifferenceError: A check failed.
    """
    clock = clock or Clock(sleep=lambda seconds: time.sleep(run.target.poll_s(seconds)))
    limit = _limit(request)
    ami_id = _ami(run, request)
    types = chosen_types(run, request.instance_types)
    account = run.announce().account
    job = decide(run, ami_id, account, types, request.subnet_ids)
    if run.options.dry_run:
        run.console.dry_run(_lines(job))
        return
    run.console.say(f"{ami_id}: boots it on a {job.launches[0].instance_type}; {job.price}.")
    _agree(run, job.price, limit, yes=request.yes)
    result = verify(run, job, clock)
    run.console.result(result.document(), result_table(result))
    if result.failed:
        first = result.failed[0]
        msg = f"{ami_id} is not verified: {first.check}: {first.detail}. It stays as it is; nothing was handed over."
        raise DifferenceError(msg)


def _limit(request: Request) -> Decimal | None:
    if request.max_usd is None:
        return None
    try:
        limit = Decimal(request.max_usd)
    except ArithmeticError as exc:
        msg = f"--max-usd {request.max_usd!r} is no amount: give one in dollars, such as 2 or 0.50."
        raise UsageError(msg) from exc
    if not limit.is_finite() or limit <= 0:
        msg = f"--max-usd {request.max_usd!r} is no amount above 0: give one in dollars, such as 2 or 0.50."
        raise UsageError(msg)
    return limit


def _ami(run: Invocation, request: Request) -> str:
    named = update_tfvars.chosen_amis(run, ami=request.ami)[run.settings.region]
    return checked_ami_id(named, name="--ami" if request.ami else "AMI id")


def chosen_types(run: Invocation, named: Sequence[str]) -> tuple[str, ...]:
    """Return the types to boot on, in the order to try: as *named*, or as the settings say.

    Raises:
        UsageError: One has no GPU.
    """
    settings = run.settings
    types = tuple(named) or settings.verify.instance_types or (settings.cost.instance_type,)
    for name in types:
        if not has_gpu(name):
            msg = f"{name} has no GPU, by its name: give --instance-type, or verify.instance_types in pipeline.yaml."
            raise UsageError(msg)
    return tuple(dict.fromkeys(types))


def decide(run: Invocation, ami_id: str, account: str, types: Sequence[str], subnet_ids: Sequence[str] = ()) -> Job:
    """Return the verification of an AMI: where to try, with which volume, at what price; changes nothing.

    Raises:
        UsageError: The AMI is none of ours, or cannot be launched; there is no subnet.
        AwsError: AWS refused.
    """
    caller = Caller(run.access, run.settings.region)
    image = _checked(run, caller, ami_id, account)
    run_id = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    tags = {
        "Name": f"{run.settings.family} verification",
        PIPELINE_TAG: PIPELINE,
        FAMILY_TAG: run.settings.family,
        RUN_TAG: run_id,
        MAY_TAKE_TAG: str(LONGEST_MIN),
    }
    root = _root(caller, run.settings.family, image)
    where = places(run, types, subnet_ids)
    launches = tuple(
        Launch(
            image_id=ami_id,
            instance_type=place.instance_type,
            subnet_id=place.subnet_id,
            security_group_ids=where.security_group_ids,
            profile=run.settings.verify.instance_profile,
            root=root,
            tags=tags,
            user_data=_USER_DATA,
            token=f"{run_id}-{number}",
        )
        for number, place in enumerate(where.places)
    )
    return Job(
        image=image,
        region=caller.region,
        account=account,
        launches=launches,
        run_id=run_id,
        price=price_of(run.settings.region, types, root.size_gib or image.root_gib),
    )


def _checked(run: Invocation, caller: Caller, ami_id: str, account: str) -> Image:
    image = images.look_up(caller, ami_id)
    family = run.settings.family
    if image is None:
        msg = f"{ami_id} is not in {caller.region}: it was deregistered, or is in another region or account."
        raise UsageError(msg)
    if image.account != account:
        msg = f"{ami_id} is account {image.account}'s, not {account}'s: verify it there."
        raise UsageError(msg)
    if image.state != "available":
        msg = f"{ami_id} is {image.state}: only an available AMI can be booted."
        raise UsageError(msg)
    if image.tags.get(PIPELINE_TAG) != PIPELINE or image.tags.get(FAMILY_TAG) != family:
        msg = f"{ami_id} is not tagged as an AMI of {family}: verify boots AMIs of this pipeline only."
        raise UsageError(msg)
    return image


def _root(caller: Caller, family: str, image: Image) -> RootVolume:
    """Return the root volume as Batch gives it to the family's instances; without an environment the AMI's own."""
    answer = caller.call("ec2", "describe_images", ImageIds=[image.image_id])
    with making_sense(f"ec2:DescribeImages in {caller.region}"):
        device = str(answer["Images"][0]["RootDeviceName"])
    for environment in batch.environments(caller):
        if environment.tags.get(FAMILY_TAG) == family and environment.template:
            version = batch.template_version(caller, environment.template, environment.version)
            ebs = version.volumes.get(device, {})
            return RootVolume(
                device=device,
                size_gib=_whole(ebs, "VolumeSize"),
                iops=_whole(ebs, "Iops"),
                throughput_mib_s=_whole(ebs, "Throughput"),
                rate_mib_s=_whole(ebs, "VolumeInitializationRate"),
            )
    return RootVolume(device=device)


def _whole(ebs: Mapping[str, Any], name: str) -> int | None:
    value = ebs.get(name)
    return None if value is None else int(value)


def _price(region: str, types: Iterable[str], volume_gib: int, minutes: float) -> Decimal | None:
    """Return the dearest of *types*' price of *minutes*, the volume included; None when one is unknown."""
    prices = [
        build_line(
            duration_s=minutes * 60, region=region, instance_type=name, volume_gib=volume_gib, snapshot_gib=None
        ).build_cost_usd
        for name in set(types)
    ]
    known = [price for price in prices if price is not None]
    return max(known) if len(known) == len(prices) else None


def _lines(job: Job) -> list[str]:
    return [
        f"# verify {job.image.image_id} in {job.region}: {job.price}",
        *(f"# start a {launch.instance_type} in {launch.subnet_id}" for launch in job.launches),
        "# wait for SSM, run packer/scripts/verify-gpu.sh and look at boot, prewarm and volume, terminate it",
    ]


def price_of(region: str, types: Iterable[str], volume_gib: int) -> Price:
    """Return what booting on one of *types* may cost."""
    names = tuple(types)
    worst, likely = (_price(region, names, volume_gib, minutes) for minutes in (LONGEST_MIN, _LIKELY_MIN))
    return Price(worst_usd=worst, likely_usd=likely)


def agree_on_types(run: Invocation, request: Request) -> None:
    """Have somebody say what the verification of an AMI that is still to be made may cost.

    Raises:
        UsageError: The request or the settings cannot be used.
        SafetyError: Nobody did.
    """
    limit, types = _limit(request), chosen_types(run, request.instance_types)
    price = price_of(run.settings.region, types, _USUAL_GIB)
    run.console.say(f"The AMI will be verified on a {types[0]} before it is handed over: {price}.")
    _agree(run, price, limit, yes=request.yes)


def _agree(run: Invocation, price: Price, limit: Decimal | None, *, yes: bool) -> None:
    """Have somebody say that it may cost so much.

    Raises:
        SafetyError: Nobody did.
    """
    if limit is not None and (price.worst_usd is None or price.worst_usd > limit):
        msg = f"It may cost more than --max-usd {limit}: {price}. Nothing was started."
        raise SafetyError(msg)
    if not run.target.asks_first:
        return
    if yes:
        if limit is None:
            msg = f"--yes needs --max-usd: say what it may cost at most ({price}). Nothing was started."
            raise SafetyError(msg)
        return
    if run.console.ask("Start it? Only `yes` does") != "yes":
        msg = "Nothing was started: not confirmed."
        raise SafetyError(msg)


def verify(run: Invocation, job: Job, clock: Clock) -> Result:
    """Boot, check and end; return what was found. The instance is ended whatever happens.

    Raises:
        AwsError: AWS refused, had no capacity, or could not be asked to the end.
    """
    caller = Caller(run.access, job.region)
    began = clock.now()
    with interruptible():
        launch, instance_id = _start(run, caller, job)
        try:
            found = _look(run, caller, job, launch, instance_id, clock)
        finally:
            with shielded(), run.console.step(f"ending {instance_id}"):
                instances.terminate(caller, instance_id, clock=clock.now, sleep=clock.sleep)
    seconds = clock.now() - began
    result = Result(
        ami_id=job.image.image_id,
        instance_type=launch.instance_type,
        region=job.region,
        instance_id=instance_id,
        checks=found,
        seconds=seconds,
        cost_usd=_price(job.region, (launch.instance_type,), launch.root.size_gib or job.image.root_gib, seconds / 60),
        record=_record(run, job, launch, found),
        invented=run.target.is_sandbox,
    )
    if not result.failed:
        _tag(run, caller, job, launch)
    return result


def _start(run: Invocation, caller: Caller, job: Job) -> tuple[Launch, str]:
    """Start the instance in the first place that has room.

    Raises:
        AwsError: EC2 refused for another reason, or no place had room.
    """
    full: list[str] = []
    for launch in job.launches:
        try:
            with run.console.step(f"starting a {launch.instance_type} in {launch.subnet_id}"):
                return launch, instances.launch(caller, launch)
        except RefusedError as exc:
            if exc.code not in instances.NO_ROOM:
                raise
            full.append(f"{launch.instance_type} in {launch.subnet_id} ({exc.code})")
    msg = f"No place had room for an instance: {', '.join(full)}. Nothing was started; try again later."
    raise AwsError(msg)


def _look(
    run: Invocation, caller: Caller, job: Job, launch: Launch, instance_id: str, clock: Clock
) -> tuple[Check, ...]:
    with run.console.step(f"waiting until {instance_id} runs and SSM reaches it"):
        _wait_online(caller, instance_id, clock)
    shell = Shell(caller=caller, instance_id=instance_id, clock=clock.now, sleep=clock.sleep)
    image = job.image.tags.get(IMAGE_TAG, "")
    text = read_text(run.workspace.root / "packer" / "scripts" / "verify-gpu.sh", what="script")
    found: list[Check] = []
    with run.console.step("checking GPU, boot, prewarm and volume"):
        ran = shell.run(checks.gpu_script(text, image), what="gpu-ami verify: GPU", within_s=_GPU_WITHIN_S)
        found.append(checks.gpu(ran, image))
        boot = shell.run(checks.BOOT_SCRIPT, what="gpu-ami verify: boot", within_s=_SCRIPT_WITHIN_S)
        found.append(checks.boot(boot))
        warm = shell.run(checks.PREWARM_SCRIPT, what="gpu-ami verify: prewarm", within_s=_SCRIPT_WITHIN_S)
        found.append(checks.prewarm(warm))
        found.append(_volume(caller, launch, instance_id, clock))
    return tuple(found)


def _wait_online(caller: Caller, instance_id: str, clock: Clock) -> None:
    began = clock.now()
    while True:
        # Also of one that runs: it may end before its agent has reported.
        state, why = instances.state_of(caller, instance_id)
        if state not in ("pending", "running"):
            msg = f"{instance_id} is {state} before SSM reached it{f' ({why})' if why else ''}."
            raise AwsError(msg)
        runs = state == "running"
        if runs and is_online(caller, instance_id):
            return
        waited = clock.now() - began
        if waited > (_ONLINE_WITHIN_S if runs else _RUNNING_WITHIN_S):
            what = "SSM did not reach it" if runs else "it did not run"
            msg = (
                f"{instance_id}: {what} within {show_duration(waited)}. Look at its instance profile "
                "(ssm:UpdateInstanceInformation, ssmmessages:*) and at the subnet's way to SSM."
            )
            raise AwsError(msg)
        clock.sleep(_EVERY_S)


def _volume(caller: Caller, launch: Launch, instance_id: str, clock: Clock) -> Check:
    root = instances.root_volume(caller, instance_id)
    began = clock.now()
    while True:
        filling = instances.initialization(caller, root.volume_id)
        is_settled = launch.root.rate_mib_s is None or root.rate_mib_s is None or root.is_restored
        if is_settled or filling.state == "completed" or clock.now() - began > _FILLED_WITHIN_S:
            return checks.volume(launch.root.rate_mib_s, root, filling)
        clock.sleep(_EBS_EVERY_S)


def _record(run: Invocation, job: Job, launch: Launch, found: Sequence[Check]) -> str:
    digest, fingerprints = verification.facts_of(job.image.tags)
    record = Verification(
        ami_id=job.image.image_id,
        region=job.region,
        account=job.account,
        instance_type=launch.instance_type,
        verified_at=_now(),
        image_digest=digest,
        fingerprints=fingerprints,
        checks=tuple(CheckRecord(**asdict(check)) for check in found),
        sandbox=run.target.is_sandbox,
    )
    return run.workspace.shown(verification.write(run.workspace.terraform, record))


def _tag(run: Invocation, caller: Caller, job: Job, launch: Launch) -> None:
    """Say on the AMI that it was verified; a tag informs, so that this fails is worth a word and no more."""
    try:
        add_tags(caller, job.image.image_id, {VERIFIED_TAG: f"{_now()}/{launch.instance_type}"})
    except AwsError as exc:
        run.console.warn(f"{job.image.image_id} is verified, but could not be tagged so. {exc}")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def result_table(result: Result) -> Table:
    """Return the result for people: each check, with its evidence below it."""
    rows: list[tuple[str, ...]] = []
    for check in result.checks:
        rows.append((check.check, check.status, check.detail))
        rows += [("", "", f"  {line}") for line in check.evidence]
    cost = "" if result.cost_usd is None else f", {show_usd(result.cost_usd)}"
    footer = [
        f"{result.instance_id} ({result.instance_type}) is terminated after {show_duration(result.seconds)}{cost}."
    ]
    if result.invented:
        footer.append("The sandbox invents instances and their times: this says nothing about a GPU.")
    word = "not verified" if result.failed else "verified"
    return Table(
        title=f"{result.ami_id} is {word}", columns=("check", "status", "found"), rows=rows, footer=tuple(footer)
    )
