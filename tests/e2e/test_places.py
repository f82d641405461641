"""Where the builder starts: the next subnet when one has no room, and on Spot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpu_ami.bake import validate
from gpu_ami.bake.checks import programs
from gpu_ami.errors import BuildError, SafetyError
from gpu_ami_sandbox.aws.gate import Answer, Call, Environ, Fault, error_answer
from tests.e2e.inprocess import Bench, bench
from tests.e2e.leftovers import left_resources
from tests.support.resources import tags_of

NO_ROOM = "We currently do not have sufficient {} capacity in the Availability Zone you requested."
UNSUPPORTED = "Your requested instance type ({}) is not supported in your requested Availability Zone (x)."
TOO_LOW = "Your Spot request price of 0.1 is lower than the minimum required Spot request fulfillment price of 0.2."


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, str]]:
    """A sandbox and a second subnet of it, in another zone."""
    with bench(tmp_path_factory.mktemp("places") / "checkout") as here:
        account, region = here.sandbox.account, here.access.region
        made = here.access.client("ec2").create_subnet(
            VpcId=account.vpc_id, CidrBlock="10.20.7.0/24", AvailabilityZone=f"{region}c"
        )
        yield here, str(made["Subnet"]["SubnetId"])


@pytest.fixture
def scene(opened: tuple[Bench, str]) -> Iterator[tuple[Bench, str]]:
    """The sandbox without the faults of the test before."""
    opened[0].gate.clear()
    yield opened
    opened[0].gate.clear()


def _subnet(parameters: Any) -> str:
    named = [value for key, value in parameters.items() if key.endswith("SubnetId")]
    return str(named[0]) if named else ""


def _runs(here: Bench) -> list[tuple[str, str]]:
    return list(dict.fromkeys((_subnet(call), call["InstanceType"]) for call in here.calls("RunInstances")))


def test_packer_is_started_again_where_there_is_room(scene: tuple[Bench, str]) -> None:
    """No capacity in one zone is the commonest reason that a bake fails, and nobody's fault."""
    here, other = scene
    first = here.sandbox.account.subnet_id

    def answer(call: Call, environ: Environ) -> Answer | None:
        kind, subnet = call.parameters["InstanceType"], _subnet(call.parameters)
        if (subnet, kind) == (first, "c7i.4xlarge"):
            # AWS says it with status 500, which the plugin's SDK asks about for two minutes before it believes it;
            # `bake/test_placement.py` knows the message that comes then.
            return error_answer(environ, "InsufficientInstanceCapacity", NO_ROOM.format(kind))
        if (subnet, kind) == (other, "c7i.4xlarge"):
            return error_answer(environ, "Unsupported", UNSUPPORTED.format(kind))
        return None

    here.gate.add(Fault(answer, "RunInstances"))

    built = here.build(f'fallback_subnet_ids=["{other}"]')

    assert _runs(here) == [(first, "c7i.4xlarge"), (other, "c7i.4xlarge"), (first, "c6i.4xlarge")]
    assert f"Attempt 1 of 8, c7i.4xlarge in {first}: InsufficientInstanceCapacity." in here.said
    assert f"Attempt 2 of 8: c7i.4xlarge in {other}." in here.said
    assert f"Attempt 3 of 8: c6i.4xlarge in {first}." in here.said
    assert built.attempts == 3
    image = here.access.client("ec2").describe_images(ImageIds=[built.ami_id])["Images"][0]
    assert left_resources(here.sandbox, tags_of(image)["gpu-ami:run"]) == []


def test_without_room_anywhere_the_build_fails_with_what_to_do(scene: tuple[Bench, str]) -> None:
    """The last line has to help: which placements, and what would add more."""
    here, _ = scene
    here.gate.fail("Unsupported", action="RunInstances")

    with pytest.raises(
        BuildError, match=r"No room for the builder in any of 2 placements: add fallback_subnet_ids"
    ) as caught:
        here.build('fallback_instance_types=["m7i.4xlarge"]')

    assert "Unsupported: made to fail" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_failure_is_not_tried_elsewhere(scene: tuple[Bench, str]) -> None:
    """A quota that is used up is used up in every zone."""
    here, other = scene

    def answer(call: Call, environ: Environ) -> Answer | None:
        if call.parameters.get("DryRun") == "true":  # of preflight, which asks for permissions
            return None
        return error_answer(environ, "VcpuLimitExceeded", "You have requested more than your vCPU limit.")

    here.gate.add(Fault(answer, "RunInstances"))

    with pytest.raises(BuildError, match="VcpuLimitExceeded"):
        here.build(f'fallback_subnet_ids=["{other}"]')

    assert len(_runs(here)) == 1


def test_a_spot_build_that_is_too_cheap_for_one_zone_runs_in_the_next(scene: tuple[Bench, str]) -> None:
    """The whole of it on Spot: price refused, next zone, request, instance, volume and AMI tagged, nothing left."""
    here, other = scene
    ec2 = here.access.client("ec2")
    fleet = (
        '<CreateFleetResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>'
        "<fleetId>fleet-1</fleetId><errorSet><item><errorCode>SpotMaxPriceTooLow</errorCode>"
        f"<errorMessage>{TOO_LOW}</errorMessage><lifecycle>spot</lifecycle></item></errorSet>"
        "<fleetInstanceSet/></CreateFleetResponse>"
    )
    here.gate.reply(fleet.encode(), action="CreateFleet", at=1)

    # No group of our own either: the plugin makes one that lets in whom the template names, and removes it.
    built = here.build("spot=true", f'fallback_subnet_ids=["{other}"]', "security_group_id=")

    assert "Attempt 1 of 2, a Spot builder in" in here.said
    assert "SpotMaxPriceTooLow" in here.said
    (image,) = ec2.describe_images(ImageIds=[built.ami_id])["Images"]
    run = tags_of(image)["gpu-ami:run"]
    (reservation,) = ec2.describe_instances(Filters=[{"Name": "tag:gpu-ami:run", "Values": [run]}])["Reservations"]
    (instance,) = reservation["Instances"]
    assert (instance["InstanceLifecycle"], instance["SubnetId"]) == ("spot", other)
    (request,) = ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert request["SpotInstanceRequestId"] == instance["SpotInstanceRequestId"]
    assert tags_of(request)["gpu-ami:run"] == run
    assert tags_of(request)["gpu-ami:pipeline"]
    assert request["State"] == "closed"
    let_in = {
        value for call in here.calls("AuthorizeSecurityGroupIngress") for key, value in call.items() if "Cidr" in key
    }
    assert let_in == {"127.0.0.1/32"}
    tagged = [call for call in here.calls("CreateTags") if run in call.values()]
    # What the doctor and the build role know of; each kind here is a permission.
    kinds = {value.split("-")[0] for call in tagged for key, value in call.items() if "ResourceId" in key}
    assert kinds == {"ami", "i", "sir", "snap", "vol"}
    assert built.build_cost_usd is not None
    assert left_resources(here.sandbox, run) == []
    assert not [
        t for t in ec2.describe_launch_templates()["LaunchTemplates"] if t["LaunchTemplateName"].startswith("packer")
    ]


def test_a_temporary_profile_without_a_default_vpc_is_refused_before_anything_is_made(
    scene: tuple[Bench, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packer's own trial of the profile names no subnet: that ends each build, in words that do not speak of a VPC."""
    here, _ = scene
    ec2 = here.access.client("ec2")
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    for subnet in ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=vpc["VpcId"])
    # Not this test's, and the longer part of the time.
    monkeypatch.setattr(validate, "validate", lambda _job, tests: None)

    with pytest.raises(SafetyError, match=r"no default VPC.*Give iam_instance_profile"):
        here.build("iam_instance_profile=")

    assert (here.calls("CreateInstanceProfile"), here.calls("RunInstances")) == ([], [])
    # What the check spares people, and the reason that it is there: the real plugin's end.
    monkeypatch.setattr(programs, "plugin_tries_profiles", lambda: False)
    with pytest.raises(BuildError, match=r"timed out waiting for IAM changes to propagate to EC2.*VPCIdNotSpecified"):
        here.build("iam_instance_profile=")
    (tried,) = [call for call in here.gate.calls if call.parameters.get("InstanceType") == "t3.nano"][-1:]
    assert "SubnetId" not in tried.parameters
    assert here.calls("RunInstances") == []
