"""The preflight against accounts and policies that were spoilt: each check is seen failing there."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gpu_ami.aws import clock, vpc
from gpu_ami.bake.preflight import Check, failed, remarks, run_checks
from gpu_ami.bake.variables import typed
from gpu_ami_sandbox.aws.quotas import set_quota
from tests.bake.conftest import REGION, World
from tests.bake.test_preflight import bad, checks_of, values_of

ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def deny(*actions: str) -> dict[str, Any]:
    """Return a statement that denies."""
    return {"Effect": "Deny", "Action": list(actions), "Resource": "*"}


# --- the account, changed so that one check fails -------------------------------------------------


def no_route(world: World) -> None:
    """Take the way to the internet away."""
    tables = world.client("ec2").describe_route_tables(
        Filters=[{"Name": "association.subnet-id", "Values": [world.account.subnet_id]}]
    )["RouteTables"]
    world.client("ec2").delete_route(RouteTableId=tables[0]["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")


def no_egress(world: World) -> None:
    """Let no HTTPS out."""
    group = world.client("ec2").describe_security_groups(GroupIds=[world.account.security_group_id])
    world.client("ec2").revoke_security_group_egress(
        GroupId=world.account.security_group_id,
        IpPermissions=group["SecurityGroups"][0]["IpPermissionsEgress"],
    )


def no_tag(world: World) -> None:
    """Delete the image."""
    name = world.account.ecr_repository_url.partition("/")[2]
    ids = [{"imageDigest": world.account.image_digest}]
    world.client("ecr").batch_delete_image(repositoryName=name, imageIds=ids)


def no_models(world: World) -> None:
    """Empty the prefix."""
    for name in world.account.model_checksums:
        world.client("s3").delete_object(Bucket=world.account.models_bucket, Key=f"models/{name}")


def no_quota(world: World) -> None:
    """Make it the quota of a new account."""
    set_quota(world.account.account_id, REGION, "L-1216C47A", 5.0)


def no_pull(world: World) -> None:
    """Take the builder's policy away."""
    world.client("iam").delete_role_policy(RoleName="gpu-ami-builder", PolicyName="read-image-and-models")


def no_role(world: World) -> None:
    """Empty the instance profile."""
    world.client("iam").remove_role_from_instance_profile(
        InstanceProfileName=world.account.instance_profile, RoleName="gpu-ami-builder"
    )


@pytest.mark.parametrize(
    ("spoil", "names", "detail"),
    [
        (no_route, ["network"], "no route to 0.0.0.0/0, and no endpoint for ecr.api, ecr.dkr, s3"),
        (no_egress, ["security group"], "lets no HTTPS (443) out"),
        (no_tag, ["container image"], "has no image 2026.09.1"),
        (no_models, ["models"], "has nothing under models/"),
        (no_quota, ["vCPU quota"], "5 of 5 vCPUs left for 16"),
        (no_pull, ["ECR login", "instance profile"], "may not ecr:BatchCheckLayerAvailability"),
        (no_role, ["instance profile"], "holds no role"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_account_without_it_fails_the_check(
    world: World, spoil: Callable[[World], None], names: list[str], detail: str
) -> None:
    """Each was green before: the account is what is checked."""
    assert bad(checks_of(world.access, world.account)) == []
    spoil(world)

    checks = checks_of(world.access, world.account)

    assert bad(checks) == names
    assert detail in checks[names[0]].detail
    assert checks[names[0]].fix
    assert failed(list(checks.values()))


def test_endpoints_do_instead_of_the_internet(world: World) -> None:
    """A private subnet with endpoints for the registry and S3 can bake; the main route table counts for it."""
    ec2 = world.client("ec2")
    subnet = ec2.create_subnet(VpcId=world.account.vpc_id, CidrBlock="10.20.2.0/24", AvailabilityZone=f"{REGION}b")[
        "Subnet"
    ]["SubnetId"]
    checks = checks_of(world.access, world.account, subnet_id=subnet)
    assert "main route table" in checks["network"].detail
    assert checks["network"].status == "fail"
    table = ec2.describe_route_tables(
        Filters=[{"Name": "association.main", "Values": ["true"]}, {"Name": "vpc-id", "Values": [world.account.vpc_id]}]
    )["RouteTables"][0]["RouteTableId"]
    for service in ("ecr.api", "ecr.dkr"):
        ec2.create_vpc_endpoint(
            VpcId=world.account.vpc_id,
            ServiceName=f"com.amazonaws.{REGION}.{service}",
            VpcEndpointType="Interface",
            SubnetIds=[subnet],
            PrivateDnsEnabled=True,
        )
    ec2.create_vpc_endpoint(
        VpcId=world.account.vpc_id,
        ServiceName=f"com.amazonaws.{REGION}.s3",
        VpcEndpointType="Gateway",
        RouteTableIds=[table],
    )

    check = checks_of(world.access, world.account, subnet_id=subnet)["network"]

    assert (check.status, "endpoints for ecr.api, ecr.dkr, s3" in check.detail) == ("ok", True)


def test_a_nat_gateway_is_a_way_out(world: World) -> None:
    """But no way in for Packer over a public address."""
    ec2 = world.client("ec2")
    nat = ec2.create_nat_gateway(SubnetId=world.account.subnet_id, ConnectivityType="private")["NatGateway"]
    private = ec2.create_subnet(VpcId=world.account.vpc_id, CidrBlock="10.20.3.0/24")["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=world.account.vpc_id)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat["NatGatewayId"])
    ec2.associate_route_table(RouteTableId=table, SubnetId=private)

    through = checks_of(world.access, world.account, subnet_id=private, ssh_interface="private_ip")["network"]
    public = checks_of(world.access, world.account, subnet_id=private, ssh_host=None)["network"]

    assert (through.status, nat["NatGatewayId"] in through.detail) == ("ok", True)
    assert (public.status, "cannot reach a public address" in public.detail) == ("fail", True)


def test_each_fall_back_has_its_own_line_and_only_warns(world: World) -> None:
    """It is needed only when the first has no room."""
    ec2 = world.client("ec2")
    other = ec2.create_subnet(VpcId=world.account.vpc_id, CidrBlock="10.20.2.0/24", AvailabilityZone=f"{REGION}b")[
        "Subnet"
    ]["SubnetId"]
    gone = "subnet-0123456789abcdef0"

    checks = checks_of(
        world.access,
        world.account,
        fallback_subnet_ids=[other, gone],
        fallback_instance_types=["c6i.4xlarge", "g5.xlarge"],
    )

    assert bad(checks) == []
    assert [checks[f"network {subnet}"].status for subnet in (other, gone)] == ["warn", "warn"]
    assert f"{REGION}a, {REGION}b" in checks["instance type"].detail
    assert "g5.xlarge" not in checks["instance type"].detail
    assert [check.check for check in remarks(list(checks.values()))] == [f"network {other}", f"network {gone}"]


def test_ssh_is_looked_at_where_packer_comes_in_by_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named group, no guest: the demo's group lets nothing in, then somebody else, then this machine."""
    monkeypatch.setattr(vpc, "public_address", lambda: "203.0.113.7")
    group = world.account.security_group_id
    ec2 = world.client("ec2")

    def seen() -> Check:
        found = run_checks(world.access, typed(values_of(world.account, ssh_host=None)), account=None)
        return {check.check: check for check in found}["security group"]

    def let_in(cidr: str) -> None:
        ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp=cidr)

    closed = seen()
    let_in("198.51.100.0/24")
    other = seen()
    let_in("203.0.113.0/24")
    mine = seen()

    assert (closed.status, "lets no SSH (22) in" in closed.detail) == ("fail", True)
    assert (other.status, "not from 203.0.113.7" in other.detail) == ("fail", True)
    assert "--cidr 203.0.113.7/32" in other.fix
    assert (mine.status, mine.detail) == ("ok", f"{group} lets HTTPS (443) out and SSH (22) in")


def test_a_group_of_another_network_fails(world: World) -> None:
    """EC2 would refuse the launch."""
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.30.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]

    check = checks_of(world.access, world.account, security_group_id=group)["security group"]

    assert (check.status, f"{group} is in {vpc}" in check.detail) == ("fail", True)


def test_what_runs_already_counts_against_the_quota(world: World) -> None:
    """The demo account runs g5.xlarge instances, 4 vCPUs each; one that EC2 hides takes its share, too."""
    running = world.client("ec2").describe_instances(
        IncludeManagedResources=True,
        Filters=[
            {"Name": "instance-state-name", "Values": ["running"]},
            {"Name": "instance-type", "Values": ["g5.xlarge"]},
        ],
    )
    used = 4 * sum(len(group["Instances"]) for group in running["Reservations"])
    set_quota(world.account.account_id, REGION, "L-DB2E81BA", used + 3)

    check = checks_of(world.access, world.account, instance_type="g5.xlarge")["vCPU quota"]

    assert used
    assert (check.status, f"3 of {used + 3} vCPUs left for 4" in check.detail) == ("fail", True)
    assert f"--quota-code L-DB2E81BA --desired-value {used + 4}" in check.fix


def test_a_spot_builder_has_its_own_quota_and_permissions(world: World) -> None:
    """One quota per class: none left is a failure, too little for one of several types a warning."""
    spot: dict[str, Any] = {"spot": True, "spot_instance_types": ["c7i.4xlarge", "c7i.large"]}
    set_quota(world.account.account_id, REGION, "L-34B43A08", 8.0)
    some = checks_of(world.access, world.account, **spot)
    set_quota(world.account.account_id, REGION, "L-34B43A08", 0.0)
    none = checks_of(world.access, world.account, **spot)

    assert (some["vCPU quota"].status, none["vCPU quota"].status) == ("warn", "fail")
    assert some["permissions: builder"].detail.startswith("all 9 actions")


AUTO_SCALING = "arn:aws:iam::123456789012:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"


def _key_policy(*principals: str) -> str:
    """Return a key's policy that lets its own account and *principals* use it."""
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": who}, "Action": "kms:*", "Resource": "*"}
        for who in ("arn:aws:iam::123456789012:root", *principals)
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.mark.parametrize(
    ("policy", "grantee", "refused", "status"),
    [
        (_key_policy(), None, None, "warn"),
        (_key_policy(AUTO_SCALING), None, None, "ok"),
        (_key_policy("*"), None, None, "ok"),
        (_key_policy(), AUTO_SCALING, None, "ok"),
        (_key_policy(), "arn:aws:iam::123456789012:role/other", None, "warn"),
        (_key_policy(), None, "kms:GetKeyPolicy", "ok"),
        (_key_policy(), None, "kms:ListGrants", "ok"),
    ],
)
def test_a_key_of_ones_own_must_let_auto_scaling_in(
    world: World, policy: str, grantee: str | None, refused: str | None, status: str
) -> None:
    """The bake works without, and then no instance of the AMI starts; what cannot be looked up is no warning."""
    kms = world.client("kms")
    arn = kms.create_key(Policy=policy)["KeyMetadata"]["Arn"]
    if grantee is not None:
        kms.create_grant(KeyId=arn, GranteePrincipal=grantee, Operations=["Decrypt"])
    if refused is not None:
        world.aws.gate.deny(refused)

    check = checks_of(world.access, world.account, kms_key_id=arn)["encryption key"]

    assert check.status == status
    assert arn in check.detail
    assert ("troubleshooting.md, 19" in check.fix) is (status == "warn")


def test_a_key_must_be_usable(world: World) -> None:
    """A disabled one fails the launch after minutes."""
    kms = world.client("kms")
    made = kms.create_key(Policy=_key_policy(AUTO_SCALING))["KeyMetadata"]
    arn = made["Arn"]
    usable = checks_of(world.access, world.account, kms_key_id=arn)
    kms.disable_key(KeyId=made["KeyId"])
    disabled = checks_of(world.access, world.account, kms_key_id=arn)["encryption key"]

    assert usable["encryption key"].detail == arn
    assert usable["permissions: key"].status == "ok"
    assert (disabled.status, "Disabled" in disabled.detail) == ("fail", True)


def test_an_ami_of_nobodys_is_not_started_from(world: World) -> None:
    """A parameter that somebody pointed elsewhere must not decide what is baked."""
    ec2 = world.client("ec2")
    foreign = world.account.live_ami_id
    world.client("ssm").put_parameter(Name="/mine/ami", Value=foreign, Type="String")

    by_parameter = checks_of(world.access, world.account, base_ami_parameter="/mine/ami")["base AMI"]
    said = checks_of(world.access, world.account, source_ami=foreign)["base AMI"]
    ec2.disable_image(ImageId=foreign)
    disabled = checks_of(world.access, world.account, source_ami=foreign)["base AMI"]

    assert (by_parameter.status, "not to Amazon" in by_parameter.detail) == ("fail", True)
    assert (said.status, "as source_ami says" in said.detail) == ("ok", True)
    assert (disabled.status, "is disabled" in disabled.detail) == ("fail", True)


def test_a_clock_that_is_off_is_the_answer_to_every_other_refusal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS refuses requests signed more than five minutes off; its refusals have a date too."""
    ahead = timedelta(minutes=6)
    monkeypatch.setattr(clock, "_now", lambda: datetime.now(timezone.utc) + ahead)
    monkeypatch.setattr(clock.ahead, "__defaults__", (clock._now,))
    world.aws.gate.fail("SignatureDoesNotMatch", action="GetCallerIdentity", status=403)

    checks = checks_of(world.access, world.account)

    assert checks["credentials"].status == "fail"
    assert (checks["clock"].status, "360 s ahead" in checks["clock"].detail) == ("fail", True)


# --- what ECR and EC2 would do to the bake ----------------------------------------------------------


def repository_of(world: World) -> str:
    """Return the name of the demo account's repository."""
    return world.account.ecr_repository_url.partition("/")[2]


def archive(world: World, storage_class: str = "ARCHIVE") -> dict[str, Any]:
    """Put the image into the archive, or bring it back."""
    answer: dict[str, Any] = world.client("ecr").update_image_storage_class(
        repositoryName=repository_of(world),
        imageId={"imageDigest": world.account.image_digest},
        targetStorageClass=storage_class,
    )
    return answer


def test_an_archived_image_fails_until_it_is_brought_back(world: World) -> None:
    """It is listed and cannot be pulled: the build would be paid for until docker says 404."""
    assert archive(world)["imageStatus"] == "ARCHIVED"

    checks = checks_of(world.access, world.account)
    archive(world, "STANDARD")
    again = checks_of(world.access, world.account)

    assert bad(checks) == ["container image"]
    assert "is ARCHIVED: in the archive it cannot be pulled" in checks["container image"].detail
    assert "--target-storage-class STANDARD" in checks["container image"].fix
    assert failed(list(checks.values())) == [checks["container image"]]
    assert again["container image"].status == "ok"


def a_policy(world: World, **selection: Any) -> None:
    """Give the repository a lifecycle policy of one rule."""
    rule = {"rulePriority": 7, "selection": {"tagStatus": "any", **selection}, "action": {"type": "expire"}}
    if selection["countType"] == "sinceImagePulled":
        rule["action"] = {"type": "transition", "targetStorageClass": "archive"}
    world.client("ecr").put_lifecycle_policy(
        repositoryName=repository_of(world), lifecyclePolicyText=json.dumps({"rules": [rule]})
    )


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ({"countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14}, "rule 7 deletes it 14 days after"),
        ({"countType": "imageCountMoreThan", "countNumber": 1}, "rule 7 deletes it when it is not among the newest 1"),
        ({"countType": "sinceImagePulled", "countUnit": "days", "countNumber": 90}, "rule 7 archives it 90 days after"),
    ],
)
def test_a_policy_that_takes_the_image_away_is_a_warning(world: World, selection: dict[str, Any], said: str) -> None:
    """The bake works; the next one, and every instance without the AMI, finds no image."""
    a_policy(world, **selection)
    before = len(world.aws.gate.calls)

    checks = checks_of(world.access, world.account)

    check = checks["lifecycle policy"]
    assert (check.status, said in check.detail) == ("warn", True), check
    assert bad(checks) == []
    assert remarks(list(checks.values())) == [check]
    # All images are listed only for a rule that counts them.
    looks = sum(call.action == "DescribeImages" and call.service == "ecr" for call in world.aws.gate.calls[before:])
    assert looks == (2 if "Count" in selection["countType"] else 1)


def test_a_policy_that_keeps_the_image_is_none(world: World) -> None:
    """The way to keep it is the one that the warning names."""
    a_policy(world, countType="imageCountMoreThan", countNumber=9999)

    check = checks_of(world.access, world.account)["lifecycle policy"]

    assert (check.status, "9999" in check.detail) == ("ok", True)


@pytest.mark.parametrize("denied", ["ecr:GetLifecyclePolicy", "ec2:GetAllowedImagesSettings"])
def test_a_new_look_that_is_denied_is_skipped(world: World, denied: str) -> None:
    """Roles of earlier versions do not have it, and their builds must go on as before."""
    checks = checks_of(world.as_role(ALLOW_ALL, deny(denied)), world.account)

    name = {"ecr": "lifecycle policy", "ec2": "Allowed AMIs"}[denied[:3]]
    assert {found.check: found.status for found in checks.values() if found.status != "ok"} == {name: "skip"}
    assert f"not authorized to perform: {denied}" in checks[name].detail
    assert denied in checks[name].fix
    assert remarks(list(checks.values())) == failed(list(checks.values())) == []


def test_a_region_that_does_not_know_the_setting_is_skipped(world: World) -> None:
    """Newer actions come to some partitions years later; there is nothing to allow."""
    world.aws.gate.fail("InvalidAction", action="GetAllowedImagesSettings")

    checks = checks_of(world.access, world.account)

    assert (checks["Allowed AMIs"].status, checks["Allowed AMIs"].fix) == ("skip", "")
    assert remarks(list(checks.values())) == []


def test_a_new_look_that_fails_otherwise_warns_and_stops_nothing(world: World) -> None:
    """The bake itself never asks for it."""
    world.aws.gate.fail("ServerException", action="GetLifecyclePolicy")

    checks = checks_of(world.access, world.account)

    assert bad(checks) == ["lifecycle policy"]
    assert failed(list(checks.values())) == []
    assert remarks(list(checks.values())) == [checks["lifecycle policy"]]


def allow(world: World, state: str, *criteria: dict[str, Any]) -> None:
    """Set the account's Allowed AMIs."""
    ec2 = world.client("ec2")
    ec2.replace_image_criteria_in_allowed_images_settings(ImageCriteria=list(criteria))
    if state == "disabled":
        ec2.disable_allowed_images_settings()
    else:
        ec2.enable_allowed_images_settings(AllowedImagesSettingsState=state)


AMAZONS, OTHERS = {"ImageProviders": ["amazon"]}, {"ImageProviders": ["210987654321"]}


@pytest.mark.parametrize(
    ("state", "criterion", "status", "said"),
    [
        ("disabled", OTHERS, "ok", "the setting is off"),
        ("audit-mode", AMAZONS, "ok", "is allowed by criterion 1"),
        ("audit-mode", OTHERS, "warn", "would be refused if it were enabled: criterion 1: its owner"),
        ("enabled", AMAZONS, "ok", "is allowed by criterion 1"),
        ("enabled", OTHERS, "fail", "is refused: EC2 hides it, so it fits no criterion of 1"),
        ("enabled", AMAZONS | {"CreationDateCondition": {"MaximumDaysSinceCreated": 1}}, "fail", "EC2 hides it"),
    ],
)
def test_allowed_amis_may_refuse_the_base(
    world: World, state: str, criterion: dict[str, Any], status: str, said: str
) -> None:
    """EC2 hides what it refuses: without this check the base AMI seems to be gone."""
    allow(world, state, criterion)

    checks = checks_of(world.access, world.account)

    check = checks["Allowed AMIs"]
    assert (check.status, said in check.detail) == (status, True), check
    assert bad(checks) == (["base AMI", "Allowed AMIs"] if status == "fail" else [])
    assert ("replace-image-criteria" in check.fix) is (status in ("warn", "fail"))


def test_an_ami_of_ones_own_is_always_allowed(world: World) -> None:
    """The setting is about others' AMIs only; so the baked AMI itself is never hit in its own account."""
    allow(world, "enabled", OTHERS)

    check = checks_of(world.access, world.account, source_ami=world.account.live_ami_id)["Allowed AMIs"]
    gone = checks_of(world.access, world.account, source_ami="ami-0123456789abcdef0")["Allowed AMIs"]

    assert (check.status, "is this account's own" in check.detail) == ("ok", True)
    assert (gone.status, "it is gone, or none of the criteria fits" in gone.detail) == ("skip", True)


def test_a_base_ami_that_excludes_the_builder_fails_before_the_launch(world: World) -> None:
    """An AMI for GPUs only refuses the CPU builder that is the default."""
    ec2, own = world.client("ec2"), world.account.live_ami_id
    ec2.replace_image_instance_type_specification(
        ImageId=own, InstanceTypeSpecification={"SupportedInstanceTypes": ["g5.*"]}
    )

    cpu = checks_of(world.access, world.account, source_ami=own)
    gpu = checks_of(world.access, world.account, source_ami=own, instance_type="g5.xlarge")

    assert bad(cpu) == ["instance type"]
    assert f"{own} may not run on c7i.4xlarge" in cpu["instance type"].detail
    assert gpu["instance type"].status == "ok"


# --- denied by policy ------------------------------------------------------------------------------


def test_a_role_that_may_everything_is_all_green(world: World) -> None:
    """Its path is part of its ARN, and IAM simulates that."""
    checks = checks_of(world.as_role(ALLOW_ALL), world.account)

    assert {name: check.detail for name, check in checks.items() if check.status != "ok"} == {}


@pytest.mark.parametrize(
    ("action", "check"),
    [
        ("ec2:CreateImage", "permissions: AMI"),
        ("ec2:EnableImageDeprecation", "permissions: AMI"),
        ("ec2:RunInstances", "permissions: builder"),
        ("ec2:TerminateInstances", "permissions: builder"),
        ("ec2:DescribeSnapshots", "permissions: look-ups"),
        ("iam:PassRole", "permissions: instance profile"),
    ],
)
def test_a_denied_action_is_named(world: World, action: str, check: str) -> None:
    """By the very document that denies it, before anything is started."""
    checks = checks_of(world.as_role(ALLOW_ALL, deny(action)), world.account)

    assert check in bad(checks)
    assert action in checks[check].detail
    assert "role/ci/baker" in checks[check].fix
    assert checks[check] in failed(list(checks.values()))


@pytest.mark.parametrize("action", ["ec2:CreateKeyPair", "ec2:RunInstances", "ec2:DescribeVolumes", "iam:PassRole"])
def test_without_leave_to_simulate_dry_runs_answer(world: World, action: str) -> None:
    """Most people may not query IAM; EC2 tells them all the same, and PassRole as part of the launch."""
    no_iam = deny("iam:SimulatePrincipalPolicy", "iam:GetRole")
    checks = checks_of(world.as_role(ALLOW_ALL, no_iam, deny(action)), world.account)

    (name,) = bad(checks)
    assert name in ("permissions: builder", "permissions: look-ups")
    assert ("ec2:RunInstances" if action == "iam:PassRole" else action) in checks[name].detail
    assert checks["permissions: instance profile"].status == "warn"
    assert checks["ECR login"].status == checks["instance profile"].status == "warn"
    assert "may not ask IAM" in checks["ECR login"].detail


def test_what_no_dry_run_can_tell_is_said(world: World) -> None:
    """Never counted as allowed."""
    checks = checks_of(world.as_role(ALLOW_ALL, deny("iam:SimulatePrincipalPolicy")), world.account)

    assert bad(checks) == []
    assert "tried as dry runs" in checks["permissions: look-ups"].detail
    check = checks["permissions: AMI"]
    assert (check.status, "not known: ec2:CreateTags, ec2:EnableImageDeprecation" in check.detail) == ("warn", True)


@pytest.mark.parametrize(
    ("action", "names", "is_blocking"),
    [
        ("ssm:GetParameter", ["base AMI"], True),
        ("ec2:DescribeImages", ["base AMI"], True),
        ("ecr:DescribeImages", ["container image"], True),
        ("s3:ListBucket", ["models"], True),
        ("iam:GetInstanceProfile", ["ECR login", "instance profile"], True),
        ("ec2:DescribeSecurityGroups", ["security group"], True),
        ("ec2:DescribeRouteTables", ["network"], False),
        ("ec2:DescribeVpcEndpoints", ["network"], False),
        ("ec2:DescribeInstanceTypes", ["instance type", "vCPU quota", "GPU"], False),
        ("ec2:DescribeInstanceTypeOfferings", ["instance type"], False),
        ("servicequotas:GetServiceQuota", ["vCPU quota"], False),
    ],
)
def test_a_look_that_is_denied_is_a_failed_check(
    world: World, action: str, names: list[str], is_blocking: bool
) -> None:
    """What could not be checked is not assumed to be fine; a build stops only where it makes the same call itself."""
    checks = checks_of(world.as_role(ALLOW_ALL, deny(action)), world.account)

    failing = [name for name in bad(checks) if not name.startswith("permissions")]
    assert failing == names
    for name in names:
        assert f"not authorized to perform: {action}" in checks[name].detail
        assert action in checks[name].fix
        assert checks[name].is_blocking is is_blocking


TAG = {"StringEquals": {"aws:RequestTag/gpu-ami:pipeline": "gpu-ami-pipeline"}}
OURS = {
    "StringEquals": {"aws:ResourceTag/gpu-ami:pipeline": "gpu-ami-pipeline"},
    "Null": {"aws:ResourceTag/gpu-ami:run": "false"},
}


def bound_to_tags(*more: str) -> list[dict[str, Any]]:
    """Return a role's statements as a careful person writes them: only what carries the pipeline's tags."""
    ec2 = "arn:aws:ec2:*:*:"
    making = ["ec2:CreateImage", "ec2:CreateKeyPair", "ec2:CreateSecurityGroup", "ec2:CreateTags", "ec2:RunInstances"]
    own = ["ec2:Create*", "ec2:De*", "ec2:EnableImageDeprecation", "ec2:ModifyImageAttribute", "ec2:*Instances"]
    reading = [
        "ec2:Describe*",
        "ec2:GetAllowedImagesSettings",
        "ecr:*",
        "kms:*",
        "s3:*",
        "servicequotas:*",
        "ssm:*",
        "sts:*",
        "iam:Get*",
        *more,
    ]
    return [
        {"Effect": "Allow", "Action": reading, "Resource": "*"},
        {"Effect": "Allow", "Action": making, "Resource": "*", "Condition": TAG},
        {"Effect": "Allow", "Action": own, "Resource": [f"{ec2}instance/*", f"{ec2}key-pair/*"], "Condition": OURS},
        {
            "Effect": "Allow",
            "Action": own,
            "Resource": ["arn:aws:ec2:*::image/*", "arn:aws:ec2:*::snapshot/*"],
            "Condition": OURS,
        },
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": "arn:aws:iam::*:role/gpu-ami-builder",
            "Condition": {"StringEqualsIfExists": {"iam:PassedToService": "ec2.amazonaws.com"}},
        },
    ]


def test_a_role_that_is_bound_to_tags_is_simulated_with_them(world: World) -> None:
    """IAM simulates what the bake would make, with the tags that it would give it."""
    checks = checks_of(world.as_role(*bound_to_tags("iam:SimulatePrincipalPolicy")), world.account)

    assert {name: check.detail for name, check in checks.items() if check.status != "ok"} == {}


def test_a_dry_run_on_nothing_denies_only_what_is_denied_outright(world: World) -> None:
    """What is not there has no tags: such a role is refused on it, and bakes all the same."""
    checks = checks_of(world.as_role(*bound_to_tags()), world.account)

    assert bad(checks) == []
    builder = checks["permissions: builder"]
    assert builder.status == "warn"
    assert "not known: ec2:DeleteKeyPair, ec2:StopInstances, ec2:TerminateInstances" in builder.detail
    assert "ec2:CreateTags" in checks["permissions: AMI"].detail.partition("not known: ")[2]
    assert [check.check for check in remarks(list(checks.values()))] == ["ECR login", "instance profile"]


def test_a_condition_on_something_else_is_a_doubt(world: World) -> None:
    """Nobody can know here whether the request will have it."""
    strange = {"Effect": "Allow", "Action": "ec2:CreateImage", "Resource": "*", "Condition": {"Bool": {"x:y": "true"}}}
    everything_else = {"Effect": "Allow", "NotAction": "ec2:CreateImage", "Resource": "*"}

    check = checks_of(world.as_role(everything_else, strange), world.account)["permissions: AMI"]

    assert (check.status, check.detail) == ("warn", "5 of 6 allowed, simulated by IAM; not known: ec2:CreateImage")


@pytest.mark.parametrize("kind", ["instance", "spot-instances-request", "volume"])
def test_a_spot_bake_needs_to_tag_after_the_launch(world: World, kind: str) -> None:
    """A role that may tag only in the act of making bakes on demand, and fails on Spot once the instance runs."""
    late = {
        "Effect": "Deny",
        "Action": "ec2:CreateTags",
        "Resource": f"arn:aws:ec2:*:*:{kind}/*",
        "Condition": {"Null": {"ec2:CreateAction": "true"}},
    }
    access = world.as_role(ALLOW_ALL, late)

    checks = {spot: checks_of(access, world.account, spot=spot)["permissions: builder"] for spot in (False, True)}

    assert checks[False].status == "ok"
    assert (checks[True].status, checks[True].detail) == ("fail", "denied: ec2:CreateTags")
