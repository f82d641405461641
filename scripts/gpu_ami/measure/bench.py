"""`invoke bench`: starts fresh hosts through Batch, with the baked AMI and without, and says which was faster by what.

Everything that it makes has its name in a journal before AWS hears it, and is taken away whatever happens. Should that
not come to pass, the job ends by its own time-out, one that waits for capacity by its queue's, and the host by its user
data; the queues and environments that are left cost nothing, and `invoke sweep` finds them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from gpu_ami.aws.caller import Caller
from gpu_ami.cost.figure import total
from gpu_ami.errors import AwsError, PartialError, PipelineError, SafetyError, UsageError, then_raised
from gpu_ami.files import check_writable, write_atomic
from gpu_ami.invocation import Invocation
from gpu_ami.locks import only_one
from gpu_ami.measure import bench_journal, bench_report, teardown
from gpu_ami.measure.bench_decision import Decided, Wanted, begun, check, decide
from gpu_ami.measure.bench_gate import Limits, judged_arm
from gpu_ami.measure.bench_journal import Journal, Whose
from gpu_ami.measure.bench_making import Maker
from gpu_ami.measure.bench_plan import HOSTS_WITHIN_MIN, JOB_S, POWER_OFF_MIN, STUCK_S, longest_min
from gpu_ami.measure.bench_price import cost_of, price_of
from gpu_ami.measure.bench_report import Result
from gpu_ami.measure.freshness import has_models
from gpu_ami.measure.observe import Observer
from gpu_ami.measure.price import Price
from gpu_ami.measure.timeline import CUT, Host
from gpu_ami.measure.verify import Clock, agree, limit_of
from gpu_ami.process import SHIELD, interruptible, shielded
from gpu_ami.records import bench_record
from gpu_ami.records.ami_record import facts_of
from gpu_ami.units import show_count

# What a host is still there after its job, for its price: Batch ends it with its environment.
_AFTER_JOB_MIN = 3.0
_HOSTS = "how many fresh hosts each arm gets, such as 3"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke bench`` requested.

    Attributes:
        ami: The AMI; None is the manifest's last one.
        arms: The arms, separated by commas; None takes the settings'.
        hosts: Hosts of each arm; None takes the settings'.
        instance_type: Their type; None takes the settings'.
        max_usd: What it may cost at most; needed where nobody is asked.
        within_min: How many minutes it may take at most, its teardown included; None sets no limit.
        yes: Whether to start without asking.
        gate: Whether an AMI that breaks a rule is an error.
        chart: A picture, ``.svg`` or ``.png``.
        markdown: A page.
        out: The JSON result; None is a file beside the logs.
        teardown: The journal of a bench that was killed: nothing is measured, and what is left of it is taken away.
    """

    ami: str | None = None
    arms: str | None = None
    hosts: str | None = None
    instance_type: str | None = None
    max_usd: str | None = None
    within_min: str | None = None
    yes: bool = False
    gate: bool = False
    chart: str | None = None
    markdown: str | None = None
    out: str | None = None
    teardown: str | None = None


def run(run: Invocation, request: Request, *, clock: Clock | None = None) -> None:
    """Measure an AMI's cold start through Batch, or take away what a killed bench has left.

    Raises:
        UsageError: The request, the settings, the AMI or what is live cannot be used.
        SafetyError: The wrong account; nobody has said that it may cost so much; or the gate refuses the AMI.
        AwsError: AWS refused or has no room, or no pair of hosts came to be compared.
        PartialError: It was measured, and something is left in AWS; the message says what, and what to do.
    """
    clock = clock or paced(run.target.poll_s)
    if request.teardown is not None:
        _take_away(run, Path(request.teardown), clock)
        return
    limit = limit_of(request.max_usd)
    within_min = (
        None if request.within_min is None else _whole(request.within_min, "--within-min", "minutes, such as 190")
    )
    wanted = Wanted(
        ami=request.ami,
        arms=_names(request.arms),
        hosts=None if request.hosts is None else _whole(request.hosts, "--hosts", _HOSTS),
        instance_type=request.instance_type,
    )
    check(run, wanted)
    _check_files(request)
    account = run.announce().account
    _tell_unfinished(run, account)
    decided = decide(run, wanted, account)
    price = _price(decided)
    minutes = longest_min(len(decided.plan.waves))
    _check_time(run, minutes, within_min)
    lines = _lines(decided, price)
    if run.options.dry_run:
        run.console.dry_run([f"# {line}" for line in lines])
        return
    for line in lines:
        run.console.say(line)
    agree(run, price, limit, yes=request.yes, how="give --yes and --max-usd")
    with only_one(run.workspace.logs, "bench"):
        _bench(run, replace(decided, plan=begun(run, decided)), request, clock)


def paced(poll_s: Callable[[float], float]) -> Clock:
    """Return a clock by which a rest takes the time that it takes on AWS, however short the target makes it.

    So what is given up on AWS after 25 minutes is given up in the sandbox after as many looks.

    Args:
        poll_s: How long to rest really, where on AWS it is so many seconds.
    """
    left_out = [0.0]

    def sleep(seconds: float) -> None:
        rest = poll_s(seconds)
        time.sleep(rest)
        left_out[0] += seconds - rest

    return Clock(now=lambda: time.monotonic() + left_out[0], sleep=sleep)


def _check_time(run: Invocation, minutes: int, within_min: int | None) -> None:
    """Refuse, or warn of, a bench that somebody ends before its own teardown does.

    Raises:
        SafetyError: It may take longer than it is allowed to.
    """
    if within_min is not None and minutes > within_min:
        msg = f"It may take {minutes} minutes, and --within-min is {within_min}: give fewer --hosts or --arms."
        raise SafetyError(msg)
    if run.access.ends_within(minutes * 60.0):
        run.console.warn(
            f"These credentials end within the {minutes} minutes that it may take: then nothing more can be taken away "
            "with them. Sign in again first."
        )


def _whole(text: str, option: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        msg = f"{option} {text[:40]!r} is no number: give {what}."
        raise UsageError(msg)
    return int(text[:6])


def _names(arms: str | None) -> tuple[str, ...]:
    if arms is None:
        return ()
    return tuple(dict.fromkeys(name.strip() for name in arms.split(",")))


def _check_files(request: Request) -> None:
    """Refuse before anything is spent what could not be written after it."""
    if request.chart is not None:
        from gpu_ami.svg import check_path

        check_path(Path(request.chart))
    for name, what in ((request.chart, "chart"), (request.markdown, "page"), (request.out, "bench result")):
        if name is not None:
            check_writable(Path(name), what=what)


def _tell_unfinished(run: Invocation, account: str) -> None:
    for replay in bench_journal.unfinished(run.workspace.logs) if run.target.is_lasting else ():
        if replay.whose.account == account:
            where = run.workspace.shown(replay.path)
            run.console.warn(
                f"{replay.whose.run_id} has left something in AWS, or nobody knows: `invoke bench --teardown {where}` "
                "takes it away."
            )


def _price(decided: Decided) -> Price:
    plan = decided.plan
    return price_of(plan.region, plan.machine.name, plan.hosts, plan.root, decided.transfer)


def _lines(decided: Decided, price: Price) -> list[str]:
    plan = decided.plan
    rounds = len({host.round for host in plan.hosts})
    waves = show_count(len(plan.waves), "wave")
    most = max(len(wave) for wave in plan.waves)
    zones = ", ".join(dict.fromkeys(host.place.zone for host in plan.hosts))
    arms = ", ".join(
        f"{arm.arm} ({arm.ami_id}{f', {arm.rate_mib_s} MiB/s' if arm.rate_mib_s else ''})" for arm in plan.arms
    )
    return [
        f"{plan.run_id} on {plan.machine.name} in {zones}, {show_count(rounds, 'round')} of {arms}.",
        *decided.notes,
        f"At most {show_count(most, 'host')} at a time, in {waves} (the limit: {plan.limit}).",
        f"It costs {price}.",
        (
            f"If nobody takes it away: a job ends after {JOB_S // 60} min, one without capacity after {STUCK_S // 60}, "
            f"an instance after {POWER_OFF_MIN}."
        ),
        (
            "Only a sweep ends a job whose host never comes into ECS, for which Batch may start another host, beyond "
            "that price: have `invoke sweep` run by schedule."
        ),
    ]


def _bench(run: Invocation, decided: Decided, request: Request, clock: Clock) -> None:
    plan = decided.plan
    path = run.workspace.logs / f"{plan.run_id}.jsonl"
    whose = Whose(
        run_id=plan.run_id,
        region=plan.region,
        account=plan.account,
        family=plan.family,
        began=plan.began,
        may_take_min=plan.may_take_min,
    )
    journal = Journal(path, whose)
    seen: list[Host] = []
    left: list[str] = []
    try:
        try:
            with interruptible():
                _measure(run, decided, journal, clock, seen)
        finally:
            SHIELD.is_up = True  # first of all: an interrupt while the shield is being set up would leave hosts running
            with shielded():
                left += _end(run, path, journal, clock)
    except BaseException as exc:
        with shielded():
            _keep(run, decided, request, seen)
            _say_left(run, path, left)
        if left and isinstance(exc, PipelineError):
            exc.args = (f"{exc} {_left_line(run, path, left)}",)
        raise
    finally:
        journal.close()
    _finish(run, decided, request, seen, _left_line(run, path, left) if left else None)


def _measure(run: Invocation, decided: Decided, journal: Journal, clock: Clock, seen: list[Host]) -> None:
    """Make, watch and take away wave by wave; *seen* gets each host, whatever the next wave comes to."""
    plan = decided.plan
    caller = Caller(run.access, plan.region)
    maker = Maker(caller, plan, journal, run.settings.bench, clock)
    with run.console.step("making launch templates and job definition"):
        shared = maker.shared(decided.user_data)
    for number, wave in enumerate(plan.waves, start=1):
        of = f" (wave {number} of {len(plan.waves)})" if len(plan.waves) > 1 else ""
        with run.console.step(f"making {show_count(len(wave), 'queue')} and submitting their jobs{of}") as step:
            made = maker.submit(wave, shared, step)
        observer = Observer(caller, plan.run_id, plan.log_group, made)
        try:
            with run.console.step(f"watching {show_count(len(wave), 'host')} start{of}") as step:
                observer.watch(clock, HOSTS_WITHIN_MIN * 60.0, step)
        except BaseException:
            observer.cut(CUT)
            raise
        finally:
            seen += observer.hosts()
        if number < len(plan.waves):
            names = [host.name for host in wave]
            with run.console.step(f"taking {show_count(len(wave), 'queue')} away{of}") as step:
                # What is left is tried again at the end.
                teardown.places(caller, names, names, journal, plan.tags, clock, step)


def _end(run: Invocation, path: Path, journal: Journal, clock: Clock) -> list[str]:
    """Take everything away that the journal names; return what is left, and why. Nothing is raised: it is the end."""
    try:
        replay = bench_journal.read(path)
        caller = Caller(run.access, replay.whose.region)
        with run.console.step("taking everything away") as step:
            found = teardown.everything(caller, replay, journal, clock, step)
            if found:
                step.fail("not complete after")
            return found
    except Exception as exc:  # noqa: BLE001 - whatever it is, what it was on the way from counts for more
        return [f"everything of it: {exc}"]


def _say_left(run: Invocation, path: Path, left: Sequence[str]) -> None:
    if left:
        run.console.warn(_left_line(run, path, left))


def _left_line(run: Invocation, path: Path, left: Sequence[str]) -> str:
    more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
    how = f"`invoke bench --teardown {run.workspace.shown(path)}` takes it away"
    ends = f"hosts end by themselves within {POWER_OFF_MIN} min of their start"
    return f"Left in AWS: {left[0].rstrip('.')}{more}. {how}; {ends}."


def _result(run: Invocation, decided: Decided, hosts: Sequence[Host]) -> Result:
    plan = decided.plan
    judged = judged_arm([arm.arm for arm in plan.arms], plan.live_rate_mib_s)
    assert judged is not None, "a plan without a baked arm is refused"
    digest, fingerprints = facts_of(decided.image.tags)
    return Result(
        run=plan.run_id,
        region=plan.region,
        account=plan.account,
        instance_type=plan.machine.name,
        ami_id=plan.ami_id,
        image_digest=digest,
        fingerprints=fingerprints,
        has_models=has_models(decided.image.tags, run.settings.bench.models),
        judged=judged,
        live_rate_mib_s=plan.live_rate_mib_s,
        limits=_limits(run),
        hosts=hosts,
        # By AWS's clock, like all that it is put beside.
        benched_at=plan.began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        cost_usd=_cost(decided, hosts),
        times_are_invented=run.target.is_sandbox,
    )


def _limits(run: Invocation) -> Limits:
    promotion = run.settings.promotion
    return Limits(max_regression=promotion.max_regression, target_s=promotion.target_s)


def _cost(decided: Decided, hosts: Sequence[Host]) -> Decimal | None:
    """Return what the hosts that were seen cost by list prices, a second one of a queue included."""
    plan = decided.plan
    arms = {arm.arm: arm for arm in plan.arms}
    prices = []
    for host in hosts:
        minutes = _minutes(host)
        one = cost_of(plan.region, plan.machine.name, arms[host.arm], plan.root, decided.transfer, minutes)
        prices += [one] * max(len(host.facts.instances), int(bool(host.facts.instance_id)))
    return total(*prices)


def _minutes(host: Host) -> float:
    """Return how long a host was there, as far as it was seen."""
    launched, ended = (host.moments[name].at if name in host.moments else None for name in ("launched", "ended"))
    if launched is None or ended is None:
        return float(HOSTS_WITHIN_MIN)
    return max(0.0, ended - launched) / 60 + _AFTER_JOB_MIN


def _keep(run: Invocation, decided: Decided, request: Request, seen: Sequence[Host]) -> None:
    """Write down what was seen before something else ended the bench."""
    if not seen:
        return
    try:
        where = _write_document(run, decided, request, seen)
        run.console.say(f"What was measured until then is in {where}.")
    except PipelineError as exc:
        run.console.warn(f"What was measured until then could not be written. {exc}")


def _write_document(run: Invocation, decided: Decided, request: Request, hosts: Sequence[Host]) -> str:
    path = Path(request.out) if request.out else run.workspace.logs / f"{decided.plan.run_id}.json"
    document = bench_report.document(_result(run, decided, hosts))
    write_atomic(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n", what="bench result")
    return run.workspace.shown(path)


def _finish(run: Invocation, decided: Decided, request: Request, hosts: Sequence[Host], left: str | None) -> None:
    """Show and write down what was measured, and judge it.

    Raises:
        SafetyError: The gate refuses the AMI, and was asked to.
        AwsError: No pair of hosts came to be compared.
        PartialError: Something is left in AWS.
        UsageError: A file cannot be written.
    """
    result = _result(run, decided, hosts)
    with then_raised(_verdict(result, request, left)):
        run.console.result(bench_report.document(result), *bench_report.tables(result))
        run.console.say(f"Wrote {_write_document(run, decided, request, hosts)}.")
        if record := bench_report.record(result):
            where = bench_record.RECORDS.write(run.workspace.terraform, record)
            run.console.say(f"Wrote {run.workspace.shown(where)}, by which `invoke apply` goes if it is told to.")
        if request.chart is not None:
            from gpu_ami.measure.bench_chart import draw
            from gpu_ami.svg import write

            write(draw(result), Path(request.chart))
            run.console.say(f"Drew {request.chart}.")
        if request.markdown is not None:
            write_atomic(Path(request.markdown), bench_report.as_markdown(result, request.chart), what="page")
            run.console.say(f"Wrote {request.markdown}.")


def _verdict(result: Result, request: Request, left: str | None) -> PipelineError | None:
    gate = result.gate
    after = f" {left}" if left else ""
    if gate.passed is None:
        return AwsError(f"Nothing can be said of {result.ami_id}: {gate.rule}.{after}")
    if request.gate and not gate.passed:
        return SafetyError(f"{result.ami_id} is refused: {gate.rule}.{after}")
    return PartialError(left) if left else None


def _take_away(run: Invocation, path: Path, clock: Clock) -> None:
    """Take away what a journal names.

    Raises:
        UsageError: The file is no journal of a bench.
        SafetyError: It is of another account, or its bench is under way.
        PartialError: Something is left.
    """
    replay = bench_journal.read(path)
    account = run.announce().account
    if replay.whose.account != account:
        whose = f"account {replay.whose.account}, the credentials of {account}"
        msg = f"{path} is of {whose}: choose another profile with --profile."
        raise SafetyError(msg)
    if run.options.dry_run:
        run.console.dry_run([f"# take away the {kind} {name}" for kind, name in replay.made])
        return
    with only_one(run.workspace.logs, "bench"):
        journal = Journal(path)
        try:
            with shielded():
                left = _end(run, path, journal, clock)
        finally:
            journal.close()
    if left:
        raise PartialError(_left_line(run, path, left))
    run.console.result(
        {"run": replay.whose.run_id, "region": replay.whose.region, "left": []},
    )
    run.console.say(f"Nothing of {replay.whose.run_id} is left in {replay.whose.region}.")
