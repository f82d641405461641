"""`invoke verify`: boots an AMI on a GPU type, checks it through SSM, and ends the instance, whatever happens."""

from __future__ import annotations

import contextlib
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from gpu_ami.aws import batch, images, instances
from gpu_ami.aws.caller import NO_ROOM, Caller, RefusedError, making_sense
from gpu_ami.aws.capacity import has_gpu
from gpu_ami.aws.image_changes import add_tags
from gpu_ami.aws.images import Image
from gpu_ami.aws.instances import Launch, RootVolume
from gpu_ami.aws.run_command import Ran, Shell, is_online
from gpu_ami.console import Table
from gpu_ami.errors import AwsError, DifferenceError, PipelineError, SafetyError, UsageError
from gpu_ami.files import read_text
from gpu_ami.handover import update_tfvars
from gpu_ami.handover.eligibility import WHERE_GONE
from gpu_ami.invocation import Invocation
from gpu_ami.measure import checks
from gpu_ami.measure.checks import Check
from gpu_ami.measure.placement import places
from gpu_ami.measure.power_off import user_data
from gpu_ami.measure.price import Price, disk_of, disk_to_be, price_of, usd
from gpu_ami.process import SHIELD, interruptible, shielded
from gpu_ami.records import verification
from gpu_ami.records.ami_record import facts_of
from gpu_ami.records.tags import (
    FAMILY_TAG,
    IMAGE_TAG,
    MAY_TAKE_TAG,
    PIPELINE,
    PIPELINE_TAG,
    RUN_TAG,
    VERIFICATION_RUN,
    VERIFIED_TAG,
    checked_ami_id,
    is_production,
)
from gpu_ami.records.verification import FAILED, CheckRecord, Verification
from gpu_ami.units import show_duration, show_usd

# The instance switches itself off after this, whoever has forgotten it.
LONGEST_MIN = 45
INVENTED = "The sandbox invents instances and their times: this says nothing about a GPU."
_RUNNING_WITHIN_S = 300.0
_ONLINE_WITHIN_S = 600.0
_GPU_WITHIN_S, _SCRIPT_WITHIN_S = 600, 60
# The root device of every AMI that packer/aws-gpu-ami.pkr.hcl makes.
_DEVICE = "/dev/xvda"
# EBS's word on a volume is up to five minutes old.
_FILLED_WITHIN_S = 360.0
_EVERY_S, _EBS_EVERY_S = 6.0, 10.0
# A new instance may be missing from EC2's lists for some seconds; so often it is looked for.
_LOOKS = 3
# A volume goes some moments after its instance is terminated.
_VOLUME_LOOKS = 10
_SUBNET = re.compile(r"subnet-([0-9a-f]{8}|[0-9a-f]{17})")
# Tables are as wide as a page; what is cut off there is whole in the JSON result and in the record.
_EDGE, _SHOWN_EVIDENCE = 100, 68
_ENDS_ITSELF = (
    f"It switches itself off {LONGEST_MIN} minutes after its start, and EC2 terminates it then; after that "
    "`invoke sweep` shows whether anything is left."
)


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
class Job:
    """One verification that is decided on.

    Attributes:
        image: The AMI.
        region: Where.
        account: Whose.
        launches: What to start, in the order to try.
        run_id: Its run, as its resources' tags have it.
        script: The text of packer/scripts/verify-gpu.sh.
        price: What it may cost.
    """

    image: Image
    region: str
    account: str
    launches: tuple[Launch, ...]
    run_id: str
    script: str
    price: Price


class _NoRoomError(AwsError):
    """EC2 had started the instance, and ended it at once: there was no capacity for it after all."""


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
    limit = limit_of(request.max_usd)
    ami_id = _ami(run, request)
    types = chosen_types(run, request.instance_types)
    _check_subnets(request.subnet_ids)
    account = run.announce().account
    job = decide(run, ami_id, account, types, request.subnet_ids)
    if run.options.dry_run:
        run.console.dry_run(_lines(job))
        return
    run.console.say(f"{ami_id}: boots it on a {job.launches[0].instance_type}; {job.price}.")
    agree(run, job.price, limit, yes=request.yes, how="give --yes and --max-usd")
    result = verify(run, job, clock)
    run.console.result(result.document(), result_table(result))
    if result.failed:
        first = result.failed[0]
        msg = f"{ami_id} is not verified: {first.check}: {first.detail}. It stays as it is; nothing was handed over."
        raise DifferenceError(msg)


def limit_of(max_usd: str | None) -> Decimal | None:
    """Return what ``--max-usd`` says, in dollars; None without it.

    Raises:
        UsageError: It says no amount above 0.
    """
    if max_usd is None:
        return None
    try:
        limit = Decimal(max_usd)
    except ArithmeticError as exc:
        msg = f"--max-usd {max_usd!r} is no amount: give one in dollars, such as 2 or 0.50."
        raise UsageError(msg) from exc
    if not limit.is_finite() or limit <= 0:
        msg = f"--max-usd {max_usd!r} is no amount above 0: give one in dollars, such as 2 or 0.50."
        raise UsageError(msg)
    return limit


def _check_subnets(named: Sequence[str]) -> None:
    for name in named:
        if not _SUBNET.fullmatch(name):
            msg = f"--subnet-id {name!r} is no id of a subnet: subnet- and 8 or 17 hexadecimal digits."
            raise UsageError(msg)


def _ami(run: Invocation, request: Request) -> str:
    named = update_tfvars.chosen_amis(run, ami=request.ami)[run.settings.region]
    return checked_ami_id(named)


def chosen_types(run: Invocation, named: Sequence[str]) -> tuple[str, ...]:
    """Return the types to boot on, in the order to try: as *named*, or as the settings say.

    Raises:
        UsageError: One has no GPU.
    """
    types = tuple(named) or run.settings.verified_types
    for name in types:
        if not has_gpu(name):
            msg = f"{name} has no GPU, by its name: give --instance-type, or verify.instance_types in pipeline.yaml."
            raise UsageError(msg)
    return tuple(dict.fromkeys(types))


def decide(run: Invocation, ami_id: str, account: str, types: Sequence[str], subnet_ids: Sequence[str] = ()) -> Job:
    """Return the verification of an AMI: where to try, with which volume, at what price; changes nothing.

    Raises:
        UsageError: The AMI is none of ours, or cannot be launched; there is no subnet, or no script to run.
        AwsError: AWS refused.
    """
    caller = Caller(run.access, run.settings.region)
    image = _checked(run, caller, ami_id, account)
    run_id = f"{VERIFICATION_RUN}{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
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
            public_address=where.public_address,
            profile=run.settings.verify.instance_profile,
            root=root,
            tags=tags,
            user_data=user_data(LONGEST_MIN),
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
        script=read_text(run.workspace.root / "packer" / "scripts" / "verify-gpu.sh", what="script"),
        price=price_of(caller.region, types, disk_of(image, root), longest_min=LONGEST_MIN),
    )


def _checked(run: Invocation, caller: Caller, ami_id: str, account: str) -> Image:
    image = images.look_up(caller, ami_id)
    family = run.settings.family
    if image is None:
        msg = f"{ami_id} is not in {caller.region}: {WHERE_GONE[run.target.is_kept]}"
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
    return _batch_root(caller, family, device) or RootVolume(device=device)


def _batch_root(caller: Caller, family: str, device: str) -> RootVolume | None:
    """Return what the family's launch template makes of *device*; None without an environment."""
    for environment in batch.environments(caller):
        if is_production(environment.tags, family) and environment.template:
            version = batch.template_version(caller, environment.template, environment.version)
            ebs = version.volumes.get(device, {})
            return RootVolume(
                device=device,
                size_gib=_whole(ebs, "VolumeSize"),
                iops=_whole(ebs, "Iops"),
                throughput_mib_s=_whole(ebs, "Throughput"),
                rate_mib_s=_whole(ebs, "VolumeInitializationRate"),
            )
    return None


def _whole(ebs: Mapping[str, Any], name: str) -> int | None:
    value = ebs.get(name)
    return None if value is None else int(value)


def _lines(job: Job) -> list[str]:
    return [
        f"# verify {job.image.image_id} in {job.region}: {job.price}",
        *(f"# start a {launch.instance_type} in {launch.subnet_id}" for launch in job.launches),
        "# wait for SSM, run packer/scripts/verify-gpu.sh and look at boot, prewarm and volume, terminate it",
    ]


def agree_on_types(run: Invocation, limit: Decimal | None, *, volume_gib: float) -> None:
    """Have somebody say, of an AMI that is still to be made, that its verification may cost what it may.

    Args:
        run: The invocation that makes it.
        limit: What it may cost at most, by somebody who is not asked; None asks.
        volume_gib: The root volume that it will have, GiB; it may be full.

    Raises:
        UsageError: One of the settings' types has no GPU.
        SafetyError: Nobody did.
        AwsError: AWS does not say what Batch's launch template makes of the volume.
    """
    types = chosen_types(run, ())
    root = _batch_root(Caller(run.access, run.settings.region), run.settings.family, _DEVICE)
    price = price_of(run.settings.region, types, disk_to_be(volume_gib, root), longest_min=LONGEST_MIN)
    run.console.say(f"The AMI will be verified on a {types[0]} before it is handed over: {price}.")
    agree(run, price, limit, yes=limit is not None, how="give --max-usd")


def check_price(price: Price, limit: Decimal | None) -> None:
    """Refuse what may cost more than was said.

    Raises:
        SafetyError: It may, or nobody knows.
    """
    if limit is not None and (price.worst_usd is None or price.worst_usd > limit):
        msg = f"It may cost more than --max-usd {limit}: {price}. Nothing was started."
        raise SafetyError(msg)


def agree(run: Invocation, price: Price, limit: Decimal | None, *, yes: bool, how: str) -> None:
    """Have somebody say that it may cost so much.

    Raises:
        SafetyError: Nobody did.
    """
    check_price(price, limit)
    if not run.target.asks_first:
        return
    if yes:
        if limit is None:
            msg = f"--yes needs --max-usd: say what it may cost at most ({price}). Nothing was started."
            raise SafetyError(msg)
        return
    if not sys.stdin.isatty():
        msg = f"Nothing was started: nobody is here to confirm what it may cost ({price}); {how}."
        raise SafetyError(msg)
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
    found: list[Check] = []
    started: list[Launch] = []
    try:
        with interruptible(once=True):
            launch, instance_id = _see_one(run, caller, job, clock, started, found)
    except BaseException:
        if any(check.status == "failed" for check in found):
            with shielded():
                _keep_failure(run, caller, job, started[-1], found)
        raise
    seconds = clock.now() - began
    verified_at = _now()
    result = Result(
        ami_id=job.image.image_id,
        instance_type=launch.instance_type,
        region=job.region,
        instance_id=instance_id,
        checks=tuple(found),
        seconds=seconds,
        cost_usd=usd(job.region, (launch.instance_type,), disk_of(job.image, launch.root), seconds / 60),
        record=_record(run, job, launch, found, verified_at),
        invented=run.target.is_sandbox,
    )
    _tag(run, caller, job, launch, verified_at, is_good=not result.failed)
    return result


def _keep_failure(run: Invocation, caller: Caller, job: Job, launch: Launch, found: Sequence[Check]) -> None:
    """Write down and say that a check failed, though something else ends the verification: an older record goes."""
    verified_at = _now()
    for check in found:
        run.console.say(f"  {check.check}: {check.status}, {check.detail}")
    if run.target.is_sandbox:
        run.console.say(f"  {INVENTED}")
    try:
        where = _record(run, job, launch, found, verified_at)
        run.console.say(f"{job.image.image_id} is not verified, and {where} says so; what follows came after it.")
    except PipelineError as exc:
        run.console.warn(f"{job.image.image_id} is not verified, but that could not be recorded. {exc}")
    _tag(run, caller, job, launch, verified_at, is_good=False)


def _see_one(
    run: Invocation, caller: Caller, job: Job, clock: Clock, started: list[Launch], found: list[Check]
) -> tuple[Launch, str]:
    """Start an instance, check it and end it; where EC2 itself ends it for want of capacity, go on to the next place.

    Args:
        run: The invocation.
        caller: Calls AWS.
        job: What to start.
        clock: How time goes on.
        started: Gets what was started, the last one last.
        found: Gets each check as soon as it is over.

    Raises:
        AwsError: EC2 refused for another reason, did not answer, or no place had room.
    """
    full: list[str] = []
    left = _Left()
    try:
        while True:
            launch, instance_id = _start(run, caller, job, clock, full, left)
            started.append(launch)
            try:
                _look(run, caller, job, launch, instance_id, clock, found)
                return launch, instance_id
            except _NoRoomError:
                why = f"{instance_id} was ended for want of capacity"
                full.append(f"{launch.instance_type} in {launch.subnet_id} ({why})")
            finally:
                SHIELD.is_up = True  # first of all: an interrupt while the shield is being set up would leave it
                _end_left(run, caller, job, clock, left)
    finally:
        # Between a launch and the block that ends it, or at the start of that one's `finally`, there may be one, too.
        SHIELD.is_up = True
        _end_left(run, caller, job, clock, left)


@dataclass
class _Left:
    """What a verification may have left: looked at by whatever ends it, and so noted before it is there.

    Attributes:
        is_requested: A launch was requested, and what came of it is not known.
        instance_id: The instance that was started.
    """

    is_requested: bool = False
    instance_id: str | None = None


def _end_left(run: Invocation, caller: Caller, job: Job, clock: Clock, left: _Left) -> None:
    """End what there may be of an instance, and see its volume go; nothing cuts it off, and it is tried once."""
    with shielded():
        instance_id, is_requested = left.instance_id, left.is_requested
        left.instance_id, left.is_requested = None, False
        if instance_id is not None:
            with _step(run, f"ending {instance_id}"):
                _end(caller, instance_id, clock)
                _see_volumes_go(run, caller, job.run_id, clock)
        elif is_requested:
            _end_unknown(run, caller, job.run_id, clock)


def _start(run: Invocation, caller: Caller, job: Job, clock: Clock, full: list[str], left: _Left) -> tuple[Launch, str]:
    """Start the instance in the first place that has room.

    Args:
        run: The invocation.
        caller: Calls AWS.
        job: What to start.
        clock: How time goes on.
        full: The places that had no room, in the order of the job's; those that have none are added.
        left: Gets what was started.

    Raises:
        AwsError: EC2 refused for another reason, did not answer, or no place had room.
    """
    for launch in job.launches[len(full) :]:
        try:
            with run.console.step(f"starting a {launch.instance_type} in {launch.subnet_id}"):
                left.is_requested = True
                left.instance_id = instances.launch(caller, launch)
            return launch, left.instance_id
        except RefusedError as exc:
            SHIELD.is_up = True
            with shielded():
                left.is_requested = False
                # One that may have acted: there may be an instance of which nobody knows the id.
                is_over = not exc.may_have_acted or _end_unknown(run, caller, job.run_id, clock)
            if exc.code not in NO_ROOM or not is_over:
                raise
            full.append(f"{launch.instance_type} in {launch.subnet_id} ({exc.code})")
    msg = f"No place had room for an instance: {', '.join(full)}. Nothing was started; try again later."
    raise AwsError(msg)


@contextlib.contextmanager
def _step(run: Invocation, title: str) -> Iterator[None]:
    """Show a step where that is possible: what must be done is done unseen, too."""
    with contextlib.ExitStack() as shown:
        with contextlib.suppress(Exception):
            shown.enter_context(run.console.step(title))
        yield


def _end_unknown(run: Invocation, caller: Caller, run_id: str, clock: Clock) -> bool:
    """End what a launch without an answer has started, once EC2's lists show it; return whether it was ended."""
    try:
        with _step(run, "looking for what was started"):
            for _ in range(_LOOKS):
                if found := instances.of_run(caller, run_id):
                    for instance_id in found:
                        _end(caller, instance_id, clock)
                    return True
                clock.sleep(_EVERY_S)
        what = f"Whether an instance was started is not known: EC2 shows none of the run {run_id} so far."
    except AwsError as exc:
        what = f"Whether an instance of the run {run_id} was started is not known, or it could not be ended. {exc}"
    how = "" if _ENDS_ITSELF in what else f" If one was: {_ENDS_ITSELF}"
    run.console.warn(f"{what.removesuffix('.')}.{how}")
    return False


def _see_volumes_go(run: Invocation, caller: Caller, run_id: str, clock: Clock) -> None:
    """Wait until the instance's volume has gone with it, and say so where it has not."""
    try:
        for _ in range(_VOLUME_LOOKS):
            if not (left := instances.volumes_of_run(caller, run_id)):
                return
            clock.sleep(_EVERY_S)
        what = f"{', '.join(left)} should have gone with the instance, is still there and is billed"
    except AwsError as exc:
        what = f"Whether the volume went with the instance is not known: {exc}"
    run.console.warn(f"{what.removesuffix('.')}. `invoke sweep` removes it {LONGEST_MIN} minutes from the start on.")


def _end(caller: Caller, instance_id: str, clock: Clock) -> None:
    """Terminate the instance.

    Raises:
        AwsError: It could not be; the error says what ends it then.
    """
    try:
        instances.terminate(caller, instance_id, clock=clock.now, sleep=clock.sleep)
    except AwsError as exc:
        exc.args = (f"{str(exc).removesuffix('.')}. {_ENDS_ITSELF}",)
        raise


def _look(
    run: Invocation,
    caller: Caller,
    job: Job,
    launch: Launch,
    instance_id: str,
    clock: Clock,
    found: list[Check],
) -> None:
    """Check the instance; each check is in *found* as soon as it is over, whatever the next one comes to.

    Raises:
        AwsError: SSM does not reach it, or nothing could be learnt of its GPU.
    """
    with run.console.step(f"waiting until {instance_id} runs and SSM reaches it"):
        _wait_online(caller, instance_id, clock)
    shell = Shell(caller=caller, instance_id=instance_id, clock=clock.now, sleep=clock.sleep)
    image = job.image.tags.get(IMAGE_TAG, "")

    def said(script: str, name: str) -> Ran:
        return shell.run(script, what=f"gpu-ami verify: {name}", within_s=_SCRIPT_WITHIN_S)

    with run.console.step("checking GPU, boot, prewarm and volume"):
        ran = shell.run(checks.gpu_script(job.script, image), what="gpu-ami verify: GPU", within_s=_GPU_WITHIN_S)
        found.extend((checks.gpu(ran, image), checks.cuda(ran)))
        found.append(_asked("boot", lambda: checks.boot(said(checks.BOOT_SCRIPT, "boot"))))
        found.append(_asked("prewarm", lambda: checks.prewarm(said(checks.PREWARM_SCRIPT, "prewarm"))))
        found.append(_asked("volume", lambda: _volume(caller, launch, instance_id, clock)))


def _asked(name: str, ask: Callable[[], Check]) -> Check:
    """Return the check; where AWS does not answer, nobody knows, and what is known already stays."""
    try:
        return ask()
    except AwsError as exc:
        return Check(check=name, status="not confirmed", detail=str(exc).rstrip("."))


def _wait_online(caller: Caller, instance_id: str, clock: Clock) -> None:
    began = clock.now()
    was_known = False
    while True:
        # Also of one that runs: it may end before its agent has reported.
        state = instances.state_of(caller, instance_id)
        is_new = state is None and not was_known and clock.now() - began <= instances.KNOWN_WITHIN_S
        was_known = was_known or state is not None
        if not is_new and (state is None or state.name not in ("pending", "running")):
            raise _ended_early(instance_id, state)
        runs = state is not None and state.name == "running"
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


def _ended_early(instance_id: str, state: instances.State | None) -> AwsError:
    state = state or instances.State(name="terminated")
    msg = f"{instance_id} is {state.name} before SSM reached it{f' ({state.why})' if state.why else ''}."
    return _NoRoomError(msg) if state.has_no_room else AwsError(msg)


def _volume(caller: Caller, launch: Launch, instance_id: str, clock: Clock) -> Check:
    root = instances.root_volume(caller, instance_id)
    began = clock.now()
    while True:
        filling = instances.initialization(caller, root.volume_id)
        is_settled = launch.root.rate_mib_s is None or root.rate_mib_s is None or root.is_restored
        if is_settled or filling.state == "completed" or clock.now() - began > _FILLED_WITHIN_S:
            return checks.volume(launch.root.rate_mib_s, root, filling)
        clock.sleep(_EBS_EVERY_S)


def _record(run: Invocation, job: Job, launch: Launch, found: Sequence[Check], verified_at: str) -> str:
    digest, fingerprints = facts_of(job.image.tags)
    record = Verification(
        ami_id=job.image.image_id,
        region=job.region,
        account=job.account,
        instance_type=launch.instance_type,
        verified_at=verified_at,
        image_digest=digest,
        fingerprints=fingerprints,
        checks=tuple(CheckRecord(**asdict(check)) for check in found),
        sandbox=run.target.is_sandbox,
    )
    return run.workspace.shown(verification.RECORDS.write(run.workspace.terraform, record))


def _tag(run: Invocation, caller: Caller, job: Job, launch: Launch, verified_at: str, *, is_good: bool) -> None:
    """Say on the AMI how it went, over what was said before; that this fails is worth a word and no more."""
    value = f"{verified_at}/{launch.instance_type}{'' if is_good else FAILED}"
    try:
        add_tags(caller, job.image.image_id, {VERIFIED_TAG: value})
    except AwsError as exc:
        word = "verified" if is_good else "not verified"
        run.console.warn(f"{job.image.image_id} is {word}, but could not be tagged so. {exc}")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def result_table(result: Result) -> Table:
    """Return the result for people: each check, with its evidence below it."""
    rows: list[tuple[str, ...]] = []
    for check in result.checks:
        rows.append((check.check, check.status, check.detail))
        rows += [("", "", f"  {_cut(line)}") for line in check.evidence]
    cost = "" if result.cost_usd is None else f", {show_usd(result.cost_usd)}"
    footer = [
        f"{result.instance_id} ({result.instance_type}) is terminated after {show_duration(result.seconds)}{cost}."
    ]
    if result.invented:
        footer.append(INVENTED)
    word = "not verified" if result.failed else "verified"
    return Table(
        title=f"{result.ami_id} is {word}",
        columns=("check", "status", "found"),
        rows=rows,
        footer=tuple(footer),
        edge=_EDGE,
    )


def _cut(line: str) -> str:
    return line if len(line) <= _SHOWN_EVIDENCE else f"{line[: _SHOWN_EVIDENCE - 1]}…"
