"""What `invoke verify` needs is checked where the settings want it, before anything is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.aws.capacity import InstanceType
from gpu_ami.bake import preflight
from gpu_ami.bake.checks import verification
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami.bake.checks.verification import PROFILE, QUOTA, TYPES, Wanted, judge_profile, judge_types, wanted
from gpu_ami.bake.variables import typed
from gpu_ami.settings import EMBEDDED, Cost, Verify
from gpu_ami_sandbox.aws.quotas import set_quota
from tests.bake.conftest import World
from tests.support.schemas import problems

WANTED = Wanted(profile="gpu-ami-verify", types=("g5.xlarge",), is_before_handover=True)
ROLE = "arn:aws:iam::123456789012:role/gpu-ami-verify"
AGENT = dict.fromkeys(
    ("ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:OpenControlChannel"), "allowed"
)


def of(account: World, wants: Wanted | None = WANTED, access: Any = None) -> dict[str, Check]:
    """Return what the checks find in the account."""
    variables = typed({"subnet_id": account.account.subnet_id, "region": account.access.region})
    lookups = Lookups(access or account.access, variables)
    found = [check for spec in verification.specs(lookups, wants) for check in preflight._run(spec)]
    assert problems("doctor", [check.document() for check in found]) == []
    return {check.check: check for check in found}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"verify": Verify(before="handover")}, ("gpu-ami-verify", ("g6.xlarge",), True)),
        ({"verify": Verify(before="apply", instance_types=("g5.xlarge",))}, ("gpu-ami-verify", ("g5.xlarge",), False)),
    ],
)
def test_the_settings_say_what_is_wanted(settings: dict[str, Any], expected: Any) -> None:
    """Without them nobody needs a profile, and `doctor` says nothing of one."""
    import msgspec

    found = wanted(msgspec.structs.replace(EMBEDDED, cost=Cost(instance_type="g6.xlarge"), **settings))

    assert found == (expected and Wanted(profile=expected[0], types=expected[1], is_before_handover=expected[2]))


def test_without_a_wish_nothing_is_looked_up(world: World) -> None:
    """An account without the role is as it was."""
    made = len(world.aws.gate.calls)

    assert of(world, None) == {}
    assert len(world.aws.gate.calls) == made


def test_an_account_that_has_all_of_it(world: World) -> None:
    """The demo account: profile, type and quota."""
    found = of(world)

    assert {name: check.status for name, check in found.items()} == dict.fromkeys((PROFILE, TYPES, QUOTA), "ok")
    assert "g5.xlarge in ap-northeast-2" in found[TYPES].detail


@pytest.mark.parametrize("is_before_handover", [True, False])
def test_a_build_that_cannot_verify_does_not_begin(world: World, *, is_before_handover: bool) -> None:
    """It would bake, and then not hand over; before an apply there is time to mend it."""
    wants = Wanted(profile="none", types=("g5.xlarge",), is_before_handover=is_before_handover)

    found = of(world, wants)

    assert (found[PROFILE].status, found[PROFILE].is_blocking) == ("fail", is_before_handover)
    assert 'verify_instance_profile = "none"' in found[PROFILE].fix


def test_too_small_a_quota_is_told(world: World) -> None:
    """The commonest reason why a first verification does not start."""
    set_quota(world.account.account_id, world.account.region, "L-DB2E81BA", 0.0)

    found = of(world)

    assert found[QUOTA].status == "fail"
    assert "L-DB2E81BA" in found[QUOTA].fix


def test_a_type_that_no_zone_has_is_told(world: World) -> None:
    """EC2 would refuse it with a code that names no capacity."""
    found = of(world, Wanted(profile="gpu-ami-verify", types=("g99.xlarge",), is_before_handover=False))

    assert (found[TYPES].status, found[QUOTA].status) == ("fail", "skip")


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("iam:GetInstanceProfile", PROFILE),
        ("iam:SimulatePrincipalPolicy", PROFILE),
        ("ec2:DescribeInstanceTypeOfferings", TYPES),
        ("servicequotas:GetServiceQuota", QUOTA),
        ("ec2:DescribeInstances", QUOTA),
    ],
)
def test_what_may_not_be_looked_up_is_skipped_with_the_right(world: World, action: str, name: str) -> None:
    """Whoever bakes need not be allowed to look; the line says what to allow."""
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    access = world.as_role(allow, {"Effect": "Deny", "Action": action, "Resource": "*"})

    found = of(world, access=access)

    assert found[name].status == "skip"
    assert action in found[name].fix
    assert [check for check in found.values() if check.status == "fail"] == []


def test_what_aws_does_not_answer_is_no_pass(world: World) -> None:
    """A check that could not be run has failed, and keeps no build from starting."""
    world.aws.gate.fail("InternalError", action="GetInstanceProfile", status=500)

    found = of(world)

    assert (found[PROFILE].status, found[PROFILE].is_blocking) == ("fail", False)


@pytest.mark.parametrize(
    ("role", "answers", "status", "said"),
    [
        (None, None, "fail", "there is no instance profile p"),
        ("", None, "fail", "holds no role"),
        (ROLE, None, "skip", "may not ask IAM"),
        (ROLE, AGENT | {"ssm:UpdateInstanceInformation": "denied"}, "fail", "never reaches the instance"),
        (ROLE, {}, "fail", "may not ssm:UpdateInstanceInformation, ssmmessages:CreateControlChannel"),
        (ROLE, AGENT | {"ecr:BatchGetImage": "allowed"}, "warn", "does not prove its image is baked"),
        (ROLE, AGENT | {"ecr:BatchGetImage": "denied"}, "ok", "pull no image"),
    ],
)
def test_the_profile_may_report_and_pull_nothing(role: str | None, answers: Any, status: str, said: str) -> None:
    """Either mistake makes a verification that says nothing."""
    found = judge_profile("p", role, answers)

    assert found.status == status
    assert said in found.detail
    assert found.fix or status == "ok"


KNOWN = {name: InstanceType(name, 4, ("x86_64",), 1) for name in ("g5.xlarge", "g6.xlarge")}
BOTH = frozenset(KNOWN)


@pytest.mark.parametrize(
    ("types", "offered", "status", "said"),
    [
        (("g5.xlarge",), {"a": BOTH}, "ok", "g5.xlarge in a"),
        (("g5.xlarge",), {}, "ok", "no subnet of a build is known"),
        (("g5.xlarge",), {"a": frozenset(), "b": BOTH}, "ok", "g5.xlarge in b"),
        (("g5.xlarge", "g6.xlarge"), {"a": frozenset({"g6.xlarge"})}, "warn", "g5.xlarge in none; g6.xlarge in a of a"),
        (("g5.xlarge",), {"a": frozenset()}, "fail", "g5.xlarge in none of a"),
        (("g7.xlarge",), {"a": BOTH}, "fail", "EC2 has no g7.xlarge"),
        (("c7i.large",), {"a": BOTH}, "fail", "c7i.large has no GPU"),
    ],
)
def test_the_types_are_offered_where_a_build_has_subnets(
    types: tuple[str, ...], offered: dict[str, frozenset[str]], status: str, said: str
) -> None:
    """One zone is enough: the others are tried and passed over."""
    found = judge_types(types, KNOWN, offered)

    assert (found.status, said in found.detail) == (status, True), found.detail


def test_names_are_those_that_scripts_know() -> None:
    """The schema of `invoke doctor` lists them."""
    from tests.support.schemas import schemas

    assert {PROFILE, TYPES, QUOTA} <= set(schemas()["doctor"]["items"]["properties"]["check"]["anyOf"][0]["enum"])
