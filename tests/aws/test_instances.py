"""The end of an instance: gone is only what EC2 says is gone, and trouble on the way is no end of the trying."""

from __future__ import annotations

import pytest

from gpu_ami.aws import instances
from gpu_ami.aws.caller import RefusedError, UnansweredError
from gpu_ami.errors import AwsError
from tests.support.clock import Clock
from tests.support.fake_caller import Answer, FakeCaller

ID = "i-0123456789abcdef0"
UNKNOWN = RefusedError("the instance does not exist", "InvalidInstanceID.NotFound")
CUT = UnansweredError("no answer: the network is down")


def _in(state: str) -> Answer:
    return {"Reservations": [{"Instances": [{"InstanceId": ID, "State": {"Name": state}}]}]}


def _end(terminate: list[Answer], describe: list[Answer]) -> tuple[FakeCaller, Clock]:
    caller, clock = FakeCaller({"terminate_instances": terminate, "describe_instances": describe}), Clock()
    instances.terminate(caller, ID, clock=clock, sleep=clock.sleep)
    return caller, clock


def _ends(caller: FakeCaller) -> int:
    return [operation for operation, _ in caller.requests].count("terminate_instances")


@pytest.mark.parametrize("unknown", [1, 5, 11])
def test_an_instance_that_ec2_does_not_know_yet_is_ended_once_it_does(unknown: int) -> None:
    """Taken for gone it would live, and cost, until it switches itself off."""
    caller, clock = _end([*[UNKNOWN] * unknown, {}], [_in("shutting-down"), _in("terminated")])

    assert _ends(caller) == unknown + 2
    assert clock.now == pytest.approx(5.0 * (unknown + 1))


def test_an_instance_that_ec2_does_not_know_for_a_minute_is_gone() -> None:
    """EC2 forgets a terminated one after about an hour."""
    _, clock = _end([UNKNOWN], [_in("running")])

    assert 60 < clock.now <= 70


@pytest.mark.parametrize("where", ["terminate", "describe"])
def test_an_instance_that_ec2_knew_and_has_forgotten_is_gone_at_once(where: str) -> None:
    """Nothing is left to wait for."""
    terminate: list[Answer] = [{}, UNKNOWN] if where == "terminate" else [{}]
    describe: list[Answer] = [_in("shutting-down"), UNKNOWN]

    _, clock = _end(terminate, describe)

    assert clock.now == 5.0


@pytest.mark.parametrize("trouble", [CUT, RefusedError("x", "IncorrectInstanceState"), AwsError("malformed")])
@pytest.mark.parametrize("where", ["terminate", "describe"])
def test_trouble_on_the_way_is_tried_again(where: str, trouble: AwsError) -> None:
    """One moment without a network must not leave an instance that costs."""
    terminate: list[Answer] = [trouble, trouble, {}] if where == "terminate" else [{}]
    describe: list[Answer] = [trouble, _in("running"), _in("terminated")]

    caller, _ = _end(terminate, describe)

    assert caller.requests[-1][0] == "describe_instances"


def test_trouble_to_the_end_is_named_with_the_instance() -> None:
    """After five minutes somebody must know which one, and why."""
    with pytest.raises(AwsError, match=f"{ID} is still not terminated: no answer: the network is down"):
        _end([CUT], [_in("running")])


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "AccessDenied", "ExpiredToken", "RequestExpired"])
def test_what_no_second_try_mends_is_said_at_once(code: str) -> None:
    """Five minutes of trying would only keep whoever has to end it from knowing."""
    refusal = RefusedError(f"{code}: no", code)
    caller, clock = FakeCaller({"terminate_instances": [refusal]}), Clock()

    with pytest.raises(RefusedError, match=f"^{ID} could not be ended: {code}: no$"):
        instances.terminate(caller, ID, clock=clock, sleep=clock.sleep)

    assert (caller.calls, clock.now) == (1, 0.0)
