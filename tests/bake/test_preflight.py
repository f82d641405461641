"""The checks before an instance is paid for, against the local AWS: each is seen failing there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.aws.sts import Identity
from gpu_ami.bake.checks import lookups, programs
from gpu_ami.bake.preflight import Check, failed, remarks, run_checks
from gpu_ami.bake.variables import typed
from gpu_ami.errors import AwsError, UsageError
from gpu_ami.tools import Tool
from gpu_ami_sandbox.account import DemoAccount
from gpu_ami_sandbox.session import Sandbox
from tests.bake.conftest import REGION, World

NAMES = [
    "credentials",
    "clock",
    "permissions: look-ups",
    "permissions: builder",
    "permissions: AMI",
    "permissions: instance profile",
    "ECR login",
    "instance profile",
    "base AMI",
    "Allowed AMIs",
    "container image",
    "lifecycle policy",
    "models",
    "network",
    "security group",
    "instance type",
    "vCPU quota",
    "GPU",
    "disk space",
    "encryption key",
    "ECS agent settings",
    "waits",
]
# What needs no look at AWS.
LOCAL = {"clock", "ECS agent settings", "waits"}


def values_of(account: DemoAccount, **changed: Any) -> dict[str, Any]:
    """Return the template's variables for a bake in the demo account."""
    return {
        "ecr_repository_url": account.ecr_repository_url,
        "image_tag": account.image_tag,
        "image_digest": "",
        "subnet_id": account.subnet_id,
        "security_group_id": account.security_group_id,
        "models_s3_bucket": account.models_bucket,
        "iam_instance_profile": account.instance_profile,
        "instance_type": "c7i.4xlarge",
        "volume_size_gib": 80,
        "min_free_gib": 5,
        "deprecate_after_days": 180,
        "family": "gpu-batch",
        "ssh_host": "127.0.0.1",
        "poll_delay_seconds": 15,
        "poll_max_attempts": 480,
    } | changed


def checks_of(access: Access, account: DemoAccount, expected: str | None = None, **changed: Any) -> dict[str, Check]:
    """Return every check by name."""
    found = run_checks(access, typed(values_of(account, **changed)), account=expected, sandbox=True)
    checks = {check.check: check for check in found}
    assert len(checks) == len(found)
    return checks


def bad(checks: dict[str, Check]) -> list[str]:
    """Return the names of the failed checks."""
    return [name for name, check in checks.items() if check.status == "fail"]


def test_everything_is_found_in_the_demo_account(local_aws: Sandbox) -> None:
    """The details are what a person compares with what they meant."""
    account = local_aws.account
    checks = checks_of(local_aws.access, account, account.account_id)

    assert list(checks) == NAMES
    assert {name: check.status for name, check in checks.items() if check.status != "ok"} == {}
    assert account.source_ami_id in checks["base AMI"].detail
    assert account.image_digest in checks["container image"].detail
    assert f"{len(account.model_checksums)} files" in checks["models"].detail
    assert "internet gateway igw-" in checks["network"].detail
    assert "simulated by IAM" in checks["permissions: builder"].detail
    assert failed(list(checks.values())) == remarks(list(checks.values())) == []


def test_nothing_is_changed_and_nothing_asked_twice(local_aws: Sandbox) -> None:
    """A preflight only reads; dry runs are its only verbs, and shared answers are queried once."""
    gate = local_aws.gate
    assert gate is not None
    before = len(gate.calls)
    checks_of(local_aws.access, local_aws.account)
    calls = gate.calls[before:]

    verbs = [
        call
        for call in calls
        if not call.action.startswith(("Describe", "Get", "Simulate", "GET "))
        and call.parameters.get("DryRun") != "true"
    ]
    assert calls
    assert verbs == []
    assert sum(call.action == "DescribeImages" and call.service == "ecr" for call in calls) == 1
    assert sum(call.action == "GetParameter" for call in calls) == 1


@pytest.mark.parametrize(
    ("changed", "check", "detail"),
    [
        ({"image_tag": "nope"}, "container image", "no image nope"),
        ({"image_digest": "sha256:" + "0" * 64}, "container image", "no image sha256:0"),
        ({"subnet_id": "subnet-0123456789abcdef0"}, "network", "subnet-0123456789abcdef0 not found"),
        ({"subnet_id": ""}, "network", "subnet_id is not set"),
        ({"security_group_id": "sg-0123456789abcdef0"}, "security group", "sg-0123456789abcdef0 not found"),
        ({"iam_instance_profile": "nobody"}, "instance profile", "nobody does not exist"),
        ({"source_ami": "ami-0123456789abcdef0"}, "base AMI", "no AMI ami-0123456789abcdef0"),
        ({"base_ami_parameter": "/aws/service/none/image_id"}, "base AMI", "names no AMI in ap-northeast-2"),
        ({"instance_type": "c7i.nope"}, "instance type", "no c7i.nope"),
        ({"instance_type": "c7g.4xlarge"}, "instance type", "the base AMI is x86_64, c7g.4xlarge is not"),
        ({"instance_type": ""}, "instance type", "no instance type is set"),
        ({"require_gpu": True}, "GPU", "c7i.4xlarge has no GPU"),
        ({"volume_size_gib": 20}, "disk space", "less than the base AMI's own root volume"),
        ({"kms_key_id": "alias/none"}, "encryption key", "no key alias/none"),
        (
            {"ecs_extra_config": {"ECS_IMAGE_PULL_BEHAVIOR": "once"}},
            "ECS agent settings",
            "sets ECS_IMAGE_PULL_BEHAVIOR",
        ),
        ({"poll_delay_seconds": 150}, "waits", "above 120"),
    ],
)
def test_each_missing_input_is_named_with_its_fix(
    local_aws: Sandbox, changed: dict[str, Any], check: str, detail: str
) -> None:
    """One wrong input fails one check; the others still say what they found, or what they wait for."""
    checks = checks_of(local_aws.access, local_aws.account, **changed)

    assert bad(checks) == [check]
    assert detail in checks[check].detail
    assert checks[check].fix
    assert failed(list(checks.values())) == [checks[check]]


@pytest.mark.parametrize(
    ("changed", "names", "detail"),
    [
        (
            {"ecr_repository_url": "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/no"},
            ["ECR login", "container image"],
            "no in ap-northeast-2 has no image",
        ),
        ({"models_s3_bucket": "no-such-bucket-here"}, ["instance profile", "models"], "does not exist"),
    ],
)
def test_what_the_builders_role_may_not_read_is_named_too(
    local_aws: Sandbox, changed: dict[str, Any], names: list[str], detail: str
) -> None:
    """A role that is limited to one repository or bucket cannot read another one, even where it exists."""
    checks = checks_of(local_aws.access, local_aws.account, **changed)

    assert bad(checks) == names
    assert detail in checks[names[1]].detail


def test_an_address_that_is_no_repository_fails_where_it_is_needed(local_aws: Sandbox) -> None:
    """Image and login hang on it, and the disk waits for the image."""
    checks = checks_of(local_aws.access, local_aws.account, ecr_repository_url="docker.io/library/x")

    assert bad(checks) == ["ECR login", "instance profile", "container image"]
    assert len(failed(list(checks.values()))) == 3
    assert checks["disk space"].status == "skip"


def test_optional_inputs_may_be_left_out(local_aws: Sandbox) -> None:
    """No bucket is fine (skip), no group and no profile mean temporary ones, which need permissions of their own."""
    changed = {"models_s3_bucket": "", "security_group_id": "", "iam_instance_profile": ""}
    checks = checks_of(local_aws.access, local_aws.account, **changed)

    assert bad(checks) == []
    assert checks["models"].status == "skip"
    assert "temporary" in checks["security group"].detail
    assert "temporary profile" in checks["ECR login"].detail
    assert checks["permissions: temporary profile"].detail.startswith("all 13 actions")
    assert checks["permissions: temporary group"].status == "ok"
    assert "permissions: instance profile" not in checks


def without_default_vpc(access: Access) -> None:
    """Take the default VPC away, as teams do that build their own."""
    ec2 = access.client("ec2")
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    for subnet in ec2.describe_subnets(Filters=inside)["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=vpc["VpcId"])


def profile_check(world: World, access: Access | None = None, **changed: Any) -> Check:
    """Return the verdict on the builder's profile in the world's account."""
    return checks_of(access or world.access, world.account, **changed)["instance profile"]


def test_a_temporary_profile_needs_a_default_vpc(world: World) -> None:
    """Packer tries it with a dry run that names no subnet: each build would end there and leave a role behind."""
    assert profile_check(world, iam_instance_profile="").status == "ok"
    without_default_vpc(world.access)

    check = profile_check(world, iam_instance_profile="")

    assert (check.status, check.is_blocking) == ("fail", True)
    assert f"{REGION} has no default VPC" in check.detail
    assert "timed out waiting for IAM changes to propagate to EC2" in check.detail
    assert check.fix.startswith("Give iam_instance_profile")
    assert profile_check(world).status == "ok", "a profile of one's own needs none"


def test_a_temporary_profile_needs_an_amd_or_intel_ami(world: World) -> None:
    """The dry run is of a t3.nano, whatever the builder is."""
    images = world.client("ec2")
    source = images.describe_images(ImageIds=[world.account.source_ami_id])["Images"][0]
    mapping = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": source["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]}}
    arm = images.register_image(
        Name="arm", Architecture="arm64", RootDeviceName="/dev/xvda", BlockDeviceMappings=[mapping]
    )["ImageId"]

    check = profile_check(world, iam_instance_profile="", source_ami=arm, instance_type="c7g.4xlarge")

    assert (check.status, "the base AMI is arm64" in check.detail) == ("fail", True)


def test_a_temporary_profile_needs_a_launch_without_tags(world: World) -> None:
    """A role that may launch what it tags bakes with a profile of its own, and cannot without one."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    bound = {"StringNotEquals": {"aws:RequestTag/gpu-ami:family": "gpu-batch"}}
    role = world.as_role(
        everything, {"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "*", "Condition": bound}
    )

    check = profile_check(world, role, iam_instance_profile="")

    assert (check.status, "these credentials may not do that (UnauthorizedOperation)" in check.detail) == ("warn", True)
    assert profile_check(world, role).status == "ok"


def test_a_policy_that_insists_on_a_profile_refuses_no_build(world: World) -> None:
    """Our trial has none to name, Packer's has: that this one is denied proves nothing."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    bound = {"Null": {"ec2:InstanceProfile": "true"}}
    role = world.as_role(
        everything, {"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "*", "Condition": bound}
    )

    check = profile_check(world, role, iam_instance_profile="")

    assert check.status == "warn"
    assert failed([check]) == []
    assert remarks([check]) == [check]


def test_whatever_ec2_refuses_is_said(world: World) -> None:
    """Packer takes every refusal of its dry run for a profile that is not there yet."""
    world.aws.gate.fail("Unsupported", "no t3.nano here", action="RunInstances")

    check = profile_check(world, iam_instance_profile="")

    assert (check.status, "no t3.nano here" in check.detail) == ("fail", True)


def test_a_plugin_that_is_mended_needs_none_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check goes with the fault: it must not refuse what works."""
    without_default_vpc(world.access)
    monkeypatch.setattr(programs, "find_plugin", lambda _cache: (Tool("plugin", "1.8.3", Path("p"), "cache"), Path()))

    assert profile_check(world, iam_instance_profile="").status == "ok"


def test_who_may_not_look_at_vpcs_is_told_by_the_dry_run(world: World) -> None:
    """A look of ours that is denied is no reason not to bake."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    role = world.as_role(everything, {"Effect": "Deny", "Action": "ec2:DescribeVpcs", "Resource": "*"})

    assert profile_check(world, role, iam_instance_profile="").status == "ok"
    without_default_vpc(world.access)
    check = profile_check(world, role, iam_instance_profile="")
    assert (check.status, "VPCIdNotSpecified" in check.detail) == ("fail", True)


def test_a_tunnel_asks_for_more(local_aws: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions need permissions of the caller and of the builder, whose role here has none."""
    checks = checks_of(local_aws.access, local_aws.account, ssh_interface="session_manager")

    assert checks["permissions: session"].status == "ok"
    assert bad(checks) == ["instance profile"]
    assert "ssmmessages:OpenDataChannel" in checks["instance profile"].detail


def test_the_wrong_account_fails(local_aws: Sandbox) -> None:
    """A build in somebody else's account is paid by them and found by nobody."""
    check = checks_of(local_aws.access, local_aws.account, "999999999999")["credentials"]

    assert (check.status, "999999999999" in check.detail) == ("fail", True)


def test_a_wrong_type_of_variable_is_bad_usage(local_aws: Sandbox) -> None:
    """Not a failed check: Packer would not even start."""
    with pytest.raises(UsageError, match="volume_size_gib"):
        checks_of(local_aws.access, local_aws.account, volume_size_gib="big")


def test_without_credentials_nothing_else_is_asked(local_aws: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cause, one line: twenty refusals, or twenty time-outs, would say no more. And a build does not start."""

    def refuse(_access: Access) -> Identity:
        msg = "No AWS credentials to say whose credentials these are"
        raise AwsError(msg)

    monkeypatch.setattr(lookups, "identify", refuse)

    checks = checks_of(local_aws.access, local_aws.account)

    assert bad(checks) == ["credentials"]
    assert checks["credentials"].detail == "No AWS credentials to say whose credentials these are"
    assert failed(list(checks.values())) == [checks["credentials"]]
    assert {name for name, check in checks.items() if check.status == "ok"} == LOCAL
    assert checks["network"].detail == "not checked: fix credentials first"


def test_a_root_user_may_everything(local_aws: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """IAM would refuse to simulate it; a warning says that it is not what to bake with."""
    root = Identity(local_aws.account.account_id, f"arn:aws:iam::{local_aws.account.account_id}:root")
    monkeypatch.setattr(lookups, "identify", lambda _access: root)

    checks = checks_of(local_aws.access, local_aws.account)

    assert (checks["credentials"].status, checks["permissions"].status) == ("warn", "ok")


def test_a_type_of_no_known_quota_is_skipped(local_aws: Sandbox) -> None:
    """Said, not passed over."""
    check = checks_of(local_aws.access, local_aws.account, instance_type="inf2.xlarge")["vCPU quota"]

    assert (check.status, "no on-demand quota for inf2.xlarge" in check.detail) == ("skip", True)
