"""The gate of a bench: each rule of it, and what is left open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpu_ami.measure import bench_report
from gpu_ami.measure.bench_gate import Judged, Limits, judge, judged_arm
from gpu_ami.measure.freshness import verdicts
from gpu_ami.measure.pairs import chance, pairs
from gpu_ami.measure.timeline import CUT, Arm, Host
from tests.measure.bench_hosts import host, moved, never, result, rounds

_TWO: dict[Arm, float] = {"stock": 800, "rated": 200}
TWO = rounds(_TWO, _TWO, _TWO)
THREE = rounds(*[{**_TWO, "live": 210}] * 3)


def _judged(hosts: list[Host], limits: Limits | None = None) -> tuple[bool | None, str]:
    gate = judge(verdicts(hosts), "rated", limits or Limits())
    return gate.passed, gate.rule


def test_a_faster_ami_passes_and_says_how_sure_that_is() -> None:
    """Three of three are no proof: one in eight by chance."""
    gate = judge(verdicts(THREE), "rated", Limits())

    assert (gate.passed, gate.better, gate.of, gate.chance) == (True, 3, 3, 0.125)
    assert gate.rule == (
        "-10 m 00 s against the stock AMI ami-0aaaaaaaaaaaaaaaa, median of 3 pairs; "
        "-10 s against the live AMI ami-0bbbbbbbbbbbbbbbb, median of 3 pairs; slowest host 3 m 20 s"
    )


@pytest.mark.parametrize(
    ("totals", "limits", "rule"),
    [
        # A plain bake that is slower than pulling: 716 s against 588 s in public.
        (
            [{"stock": 588.0, "rated": 716.0}] * 3,
            Limits(),
            "it is not faster than the stock AMI ami-0aaaaaaaaaaaaaaaa: +2 m 08 s, median of 3 pairs",
        ),
        (
            [{"stock": 700.0, "rated": 700.0}],
            Limits(),
            "it is not faster than the stock AMI ami-0aaaaaaaaaaaaaaaa: +0.0 s,",
        ),
        (
            [{"stock": 700.0, "rated": 241.0, "live": 200.0}] * 3,
            Limits(),
            "it is slower than the live AMI ami-0bbbbbbbbbbbbbbbb by more than 20% of its 3 m 20 s: +41 s, median of 3",
        ),
        (
            [{"rated": 221.0, "live": 200.0}],
            Limits(max_regression=0.1),
            "by more than 10% of its 3 m 20 s: +21 s, one pa",
        ),
        (
            [{"stock": 800.0, "rated": 200.0}, {"stock": 800.0, "rated": 301.0}],
            Limits(target_s=300),
            "its slowest host took 5 m 01 s, and target_s is 300",
        ),
    ],
)
def test_each_rule_refuses(totals: list[dict[Arm, float]], limits: Limits, rule: str) -> None:
    """In one line, with the figures that broke it."""
    passed, said = _judged(rounds(*totals), limits)

    assert passed is False
    assert rule in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("totals", "limits"),
    [
        ([{"stock": 700.0, "rated": 240.0, "live": 200.0}], Limits()),
        ([{"rated": 200.0, "live": 200.0}], Limits(max_regression=0)),
        ([{"stock": 800.0, "rated": 300.0}], Limits(target_s=300)),
        # Of three rounds one is bad: it is the median that counts.
        ([{"stock": 800.0, "rated": 900.0}, *[{"stock": 800.0, "rated": 200.0}] * 2], Limits()),
    ],
)
def test_each_limit_is_kept_by_what_just_reaches_it(totals: list[dict[Arm, float]], limits: Limits) -> None:
    """20 % slower than the live AMI is allowed, and as slow as the target."""
    assert _judged(rounds(*totals), limits)[0] is True


def test_only_the_same_round_is_compared() -> None:
    """A lazy rate moves twofold between days: each host against its own hour, or the gate would measure the hour."""
    slow: dict[Arm, float] = {"stock": 900, "rated": 850}
    drifting: list[dict[Arm, float]] = [{"stock": 500, "rated": 450}, slow, slow, {"stock": 700}]

    gate = judge(verdicts([*rounds(*drifting), host("rated", 5, total_s=900)]), "rated", Limits())

    assert (gate.passed, gate.better, gate.of) == (True, 3, 3)


def test_no_difference_is_not_better() -> None:
    """Counted as a gain it would make the chance smaller than it is."""
    gate = judge(verdicts(rounds({"stock": 700, "rated": 700}, _TWO, _TWO)), "rated", Limits())

    assert (gate.passed, gate.better, gate.of, gate.chance) == (True, 2, 3, 0.5)


def test_a_void_host_voids_its_pair_and_no_other() -> None:
    """A host that was reused was warm; the two other rounds are whole."""
    hosts = list(TWO)
    hosts[3] = never(hosts[3], "no capacity")

    found = pairs(verdicts(hosts), "rated", "stock")

    assert [pair.void for pair in found] == [None, "rated: no capacity", None]
    assert [pair.difference_s for pair in found] == [-600, None, -600]
    assert judge(verdicts(hosts), "rated", Limits()).of == 2


@pytest.mark.parametrize(
    ("stock", "baked", "until", "passed"),
    [(0, 5, "imports_done", True), (5, 5, "models_done", False), (0, 0, "models_done", False)],
)
def test_only_like_is_compared_with_like(stock: int, baked: int, until: str, passed: bool) -> None:
    """An AMI is not slower than stock by reading models that stock does not have; where both read, all of it counts."""
    ours, theirs = moved(host("rated", models_bytes=baked), models_done=900.0), host("stock", models_bytes=stock)

    (pair,) = pairs(verdicts([ours, theirs], has_models=False), "rated", "stock")

    assert (pair.until, (pair.difference_s or 0.0) < 0) == (until, passed)
    assert judge(verdicts([ours, theirs], has_models=False), "rated", Limits()).passed is passed


def test_two_zones_are_no_pair() -> None:
    """Capacity and snapshots are the zone's: a pair is of one."""
    found = pairs(verdicts([host("stock"), host("rated", zone="ap-northeast-2c")]), "rated", "stock")

    assert [pair.void for pair in found] == ["in two zones, ap-northeast-2c and ap-northeast-2a"]


@pytest.mark.parametrize(
    ("hosts", "rule"),
    [
        ([host("rated")], "nothing was compared: rated needs stock or live beside it"),
        ([], "no rated host counts"),
        ([host("stock"), never(host("rated"), "no capacity")], "no rated host counts (no capacity)"),
        ([host("stock", 1), host("rated", 2)], "no whole pair of rated and stock (no rated host in this round)"),
        (
            [host("stock"), host("rated"), host("live", attempts=2)],
            "no whole pair of rated and live (live: Batch made 2 attempts)",
        ),
    ],
)
def test_what_was_not_measured_is_neither_passed_nor_refused(hosts: list[Host], rule: str) -> None:
    """A gate that passes what it has not seen is none, and one that refuses it has no reason."""
    assert _judged(hosts) == (None, rule)


BAD: dict[str, Host] = {
    "the image was pulled, although the AMI holds it": host("rated", pulled=True),
    "its image's digest is sha256:b instead of": host("rated", digest="sha256:b"),
    "its volume has no rate instead of 300 MiB/s: Batch dropped it": host(
        "rated", rate_mib_s=None, copied_rate_mib_s=None
    ),
    "its job ended with exit code 137": host("rated", exit_code=137),
    "the probe failed: OSError": replace(host("rated"), trouble="the probe failed: OSError"),
    "its job failed: Job attempt duration exceeded timeout": replace(
        moved(host("rated"), models_done="cut"), trouble="its job failed: Job attempt duration exceeded timeout"
    ),
    # Its agent never came to the cluster: the instance is there, and ECS knows none.
    "its job was still RUNNABLE after 60 min": replace(
        host("rated", instance_id=""), trouble="its job was still RUNNABLE after 60 min"
    ),
    # A second host is no excuse for what the first one did.
    "the image was pulled": host("rated", pulled=True, instances=("i-00000000000000021", "i-f")),
}


def in_round(one: Host, number: int) -> Host:
    """Return *one* as the host of another round."""
    facts = replace(one.facts, instance_id=f"i-{number}", said_instance_id="", boot_id=f"b-{number}")
    return replace(one, round=number, facts=replace(facts, instances=(f"i-{number}", *one.facts.instances[1:])))


@pytest.mark.parametrize("why", BAD)
def test_a_judged_host_that_misses_refuses_the_ami(why: str) -> None:
    """Two of three time out, and the gate passed "1 of 1": whoever gets such a host waits for nothing."""
    hosts = [*rounds(_TWO), *(host("stock", number) for number in (2, 3)), in_round(BAD[why], 2), in_round(BAD[why], 3)]

    passed, rule = _judged(hosts)

    assert passed is False
    assert rule.startswith(f"2 of 3 rated hosts came to nothing by the AMI or its way to start ({why}")
    assert "over target_s, 900, too" in _judged(hosts, Limits(target_s=900.0))[1]
    alone = judge(verdicts([host("stock"), BAD[why]]), "rated", Limits())
    assert (alone.passed, alone.of) == (False, 0)
    assert alone.rule.startswith("1 of 1 rated host came to nothing")
    assert "\n" not in alone.rule


LOST: dict[str, Host] = {
    "no capacity": never(host("rated"), "its job never ran: Canceled by JobStateTimeLimit action due to CAPACITY:X"),
    "late capacity": replace(host("rated"), trouble="its job never ran: Canceled due to reason: CAPACITY:X"),
    "EC2 took it": replace(host("rated"), trouble="its job failed: Host EC2 (instance i-1) terminated."),
    "cut off": replace(host("rated"), trouble=CUT),
    "a second host": host("rated", instances=("i-00000000000000021", "i-f")),
    "a lost moment": moved(host("rated"), placed="the task was gone"),
    "another AMI": host("rated", pulled=True, ami_id="ami-0ccccccccccccccccc"),
    "a wrong clock": moved(host("rated"), kernel_up=12.0),
}


@pytest.mark.parametrize("why", LOST)
def test_of_what_was_lost_most_rounds_must_be_left(why: str) -> None:
    """It says nothing of the AMI; but one pair of three is no proof either, and two are."""
    lost = LOST[why]
    first, stock = rounds(_TWO), [host("stock", number) for number in (2, 3)]

    one_of_three = _judged([*first, *stock, in_round(lost, 2), in_round(lost, 3)])
    two_of_three = _judged([*first, *stock, in_round(lost, 2), host("rated", 3, total_s=200)])

    assert one_of_three[0] is None
    assert one_of_three[1].startswith("only 1 of 3 pairs of rated and stock is whole (rated: ")
    assert two_of_three[0] is True


def test_what_another_host_has_left_behind_is_nobodys_miss() -> None:
    """A host that was reused has what the other one pulled."""
    assert _judged([host("stock"), host("rated", pulled=True, boot_id="boot-01")])[0] is None


def test_half_of_the_rounds_is_not_most_of_them() -> None:
    """Of two rounds one is lost: nobody knows which of them was the rule."""
    hosts = rounds(_TWO, _TWO, _TWO, _TWO)
    hosts[0], hosts[3] = never(hosts[0], "no capacity"), never(hosts[3], "no capacity")

    assert _judged(hosts) == (None, "only 2 of 4 pairs of rated and stock are whole (stock: no capacity)")


def test_a_job_that_fails_on_every_ami_is_not_the_amis_fault() -> None:
    """An import that the image does not have: nothing is refused, and nothing is passed."""
    failed = "the probe failed: ModuleNotFoundError: torch"
    both = [replace(host(arm), trouble=failed) for arm in ("stock", "rated")]
    only = [host("stock"), replace(host("rated"), trouble=failed)]

    assert _judged(both) == (None, f"no rated host counts ({failed})")
    assert _judged(only)[0] is False


def test_what_a_probe_says_stays_one_short_line() -> None:
    """It is foreign text, in an error and in a record."""
    said = "the probe failed: " + "a\nb" * 1000

    rule = _judged([host("stock"), replace(host("rated"), trouble=said)])[1]

    assert "\n" not in rule
    assert len(rule) < 400


@pytest.mark.parametrize(("total_s", "limits"), [(900.0, Limits()), (400.0, Limits(target_s=300.0))])
def test_what_is_known_to_be_slow_is_refused_whatever_is_open(total_s: float, limits: Limits) -> None:
    """The live AMI's hosts were void; that the new one is slower than stock is known all the same."""
    hosts = [*rounds({"stock": 800.0, "rated": total_s}), host("live", attempts=2)]

    assert _judged(hosts, limits)[0] is False


def test_the_chance_is_the_sign_tests() -> None:
    """Half to the power of n where all are better, and certain where nothing was compared."""
    assert [chance(number, number) for number in (0, 1, 3, 5)] == [1.0, 0.5, 0.125, 0.03125]
    assert chance(4, 5) == 6 / 32


@pytest.mark.parametrize(
    ("arms", "rate", "judged"),
    [
        (("stock", "plain", "rated"), 300, "rated"),
        (("stock", "plain", "rated"), None, "plain"),
        (("stock", "rated"), None, "rated"),
        (("stock", "plain"), 300, "plain"),
        (("stock", "live"), 300, None),
    ],
)
def test_the_arm_that_jobs_would_get_is_judged(arms: tuple[Arm, ...], rate: int | None, judged: str | None) -> None:
    """A rate that no job's volume has proves nothing about the jobs."""
    assert judged_arm(arms, rate) == judged


@pytest.mark.parametrize(
    ("judged", "rate", "why"),
    [
        ("rated", 300, None),
        ("plain", None, None),
        ("rated", None, "has no rate, so that jobs would start as plain, and only rated was run"),
        ("plain", 200, "has 200 MiB/s, so that jobs would start as rated, and only plain was run"),
    ],
)
@pytest.mark.parametrize("total_s", [200.0, 900.0])
def test_a_start_that_no_job_has_neither_passes_nor_refuses(
    judged: Judged, rate: int | None, why: str | None, total_s: float
) -> None:
    """`--arms stock,rated` with a template without a rate: its record would have let a slow AMI through."""
    found = result(rounds({"stock": 800, judged: total_s}), judged=judged, live_rate_mib_s=rate)

    assert found.gate.passed is (None if why else total_s < 800)
    assert why is None or found.gate.rule == f"the live launch template {why}"
    assert (bench_report.record(found) is None) == (why is not None)
