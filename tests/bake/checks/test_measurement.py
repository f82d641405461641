"""What `invoke bench` needs is checked where the settings ask for one, before somebody waits for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from gpu_ami.aws.capacity import InstanceType, Quota
from gpu_ami.bake import preflight
from gpu_ami.bake.checks import measurement
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami.bake.checks.measurement import ENVIRONMENT, QUOTA, RIGHTS, Wanted, judge_quota, judge_rights, wanted
from gpu_ami.bake.variables import typed
from gpu_ami.settings import EMBEDDED, Bench, Promotion
from gpu_ami_sandbox.aws.quotas import set_quota
from tests.bake.conftest import World
from tests.support.schemas import problems

WANTED = Wanted(family="gpu-batch", instance_type="g5.xlarge", arms=4, is_required=True)
OPTIONAL = dataclasses.replace(WANTED, is_required=False)
ROLE = "arn:aws:iam::123456789012:role/ci/bencher"
BENCHES = {
    "Effect": "Allow",
    "Action": ["batch:*", "ec2:*", "iam:*", "servicequotas:*", "sts:*"],
    "Resource": "*",
}


def of(account: World, wants: Wanted | None = WANTED, access: Any = None) -> dict[str, Check]:
    """Return what the checks find in the account."""
    variables = typed({"subnet_id": account.account.subnet_id, "region": account.access.region})
    lookups = Lookups(access or account.access, variables)
    found = [check for spec in measurement.specs(lookups, wants) for check in preflight._run(spec)]
    assert problems("doctor", [check.document() for check in found]) == []
    assert not any(check.is_blocking for check in found if check.status == "fail")
    return {check.check: check for check in found}


@pytest.mark.parametrize(
    ("promotion", "arms", "expected"),
    [
        ("off", (), None),
        ("optional", (), (4, False)),
        ("required", ("stock", "rated"), (2, True)),
    ],
)
def test_the_settings_say_what_is_asked_for(promotion: Any, arms: Any, expected: Any) -> None:
    """Off by default: then nobody needs a right, and `doctor` says nothing of one."""
    settings = msgspec.structs.replace(EMBEDDED, promotion=Promotion(bench=promotion), bench=Bench(arms=arms))

    found = wanted(settings)

    assert (found and (found.arms, found.is_required)) == expected
    assert wanted(EMBEDDED) is None


def test_without_a_wish_nothing_is_looked_up(world: World) -> None:
    """An account that never benches is as it was."""
    made = len(world.aws.gate.calls)

    assert of(world, None) == {}
    assert len(world.aws.gate.calls) == made


def test_an_account_that_has_all_of_it(world: World) -> None:
    """Rights as `modules/bench` gives them, production's environment, and vCPUs for a round."""
    found = of(world, access=world.as_role(BENCHES))

    assert {name: check.status for name, check in found.items()} == dict.fromkeys((RIGHTS, ENVIRONMENT, QUOTA), "ok")
    assert "16 of a round of 4" in found[QUOTA].detail


@pytest.mark.parametrize(("wants", "status"), [(WANTED, "fail"), (OPTIONAL, "warn")])
def test_what_keeps_a_bench_from_running_is_told(world: World, wants: Wanted, status: str) -> None:
    """Required and impossible, no apply would come through; optional, nobody is held up."""
    set_quota(world.account.account_id, world.account.region, "L-DB2E81BA", 8.0)
    denied = {"Effect": "Deny", "Action": "batch:DeleteComputeEnvironment", "Resource": "*"}
    other = dataclasses.replace(wants, family="other")

    found = of(world, other, access=world.as_role(BENCHES, denied))

    assert {name: check.status for name, check in found.items()} == dict.fromkeys((RIGHTS, ENVIRONMENT, QUOTA), status)
    assert "baker may not batch:DeleteComputeEnvironment" in found[RIGHTS].detail
    assert "allow_bench = true" in found[RIGHTS].fix
    assert "L-DB2E81BA" in found[QUOTA].fix
    assert "invoke apply" in found[ENVIRONMENT].fix


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("iam:SimulatePrincipalPolicy", RIGHTS),
        ("batch:DescribeComputeEnvironments", ENVIRONMENT),
        ("servicequotas:GetServiceQuota", QUOTA),
    ],
)
def test_what_may_not_be_looked_up_is_skipped_with_the_right(world: World, action: str, name: str) -> None:
    """The workflow's build role may not simulate itself, and must not fail each week for it."""
    access = world.as_role(BENCHES, {"Effect": "Deny", "Action": action, "Resource": "*"})

    found = of(world, access=access)

    assert found[name].status == "skip"
    assert action in found[name].fix


def test_what_iam_cannot_tell_is_no_pass() -> None:
    """A policy may be bound to more than a simulation knows."""
    found = judge_rights(WANTED, ROLE, {"batch:CreateJobQueue": "unknown", "batch:DeleteJobQueue": "allowed"})

    assert (found.status, "batch:CreateJobQueue" in found.detail) == ("skip", True)


@pytest.mark.parametrize(
    ("kind", "quota", "used", "status"),
    [
        (None, None, 0, "fail"),
        (InstanceType("g5.xlarge", 4, ("x86_64",), 1), None, 0, "skip"),
        (InstanceType("g5.xlarge", 4, ("x86_64",), 1), Quota("L-DB2E81BA", "G", 20.0), 4, "ok"),
        (InstanceType("g5.xlarge", 4, ("x86_64",), 1), Quota("L-DB2E81BA", "G", 20.0), 5, "fail"),
    ],
)
def test_a_round_starts_together_or_not_at_all(kind: Any, quota: Any, used: int, status: str) -> None:
    """Hosts that start one after the other are not compared fairly: the quota has to hold them all."""
    assert judge_quota(WANTED, kind, quota, used).status == status
