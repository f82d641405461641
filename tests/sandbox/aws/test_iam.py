"""IAM decides by the policies that are attached: in SimulatePrincipalPolicy, and at the gate."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.credentials import Credentials

from gpu_ami.aws.access import Access
from gpu_ami.aws.sts import assume
from gpu_ami_sandbox.aws.iam import add_caller, caller_arn
from gpu_ami_sandbox.aws.policies import Attached, decide
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.resources import BASE, REGION, refused

_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


def policy(*statements: dict[str, Any]) -> str:
    """Return a policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions: str, on: str = "*", **more: Any) -> dict[str, Any]:
    """Return a statement that allows."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": on} | more


def deny(*actions: str, on: str = "*", **more: Any) -> dict[str, Any]:
    """Return a statement that denies."""
    return allow(*actions, on=on, **more) | {"Effect": "Deny"}


@pytest.fixture
def iam(access: Access) -> Any:
    """A client of its IAM."""
    return access.client("iam")


def a_role(iam: Any, *statements: dict[str, Any], name: str = "baker") -> str:
    """Make a role with an inline policy and return its ARN."""
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(_TRUST))["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*statements))
    return str(role["Arn"])


def simulated(iam: Any, arn: str, *actions: str, **arguments: Any) -> dict[str, str]:
    """Return the decision for each action."""
    answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=list(actions), **arguments)
    assert answer["IsTruncated"] is False
    return {row["EvalActionName"]: row["EvalDecision"] for row in answer["EvaluationResults"]}


def test_a_role_may_what_a_statement_allows_and_none_denies(iam: Any) -> None:
    """All three of IAM's verdicts, from one real document; every field is read back."""
    arn = a_role(iam, allow("ec2:*"), deny("ec2:Delete*"))

    answer = iam.simulate_principal_policy(
        PolicySourceArn=arn, ActionNames=["ec2:RunInstances", "ec2:DeleteVolume", "s3:GetObject"]
    )

    shown = [
        (row["EvalActionName"], row["EvalResourceName"], row["EvalDecision"], row["MatchedStatements"])
        for row in answer["EvaluationResults"]
    ]
    own = [{"SourcePolicyId": "own", "SourcePolicyType": "role"}]
    assert shown == [
        ("ec2:RunInstances", "*", "allowed", own),
        ("ec2:DeleteVolume", "*", "explicitDeny", own),
        ("s3:GetObject", "*", "implicitDeny", []),
    ]


def test_resources_are_decided_one_by_one(iam: Any) -> None:
    """PassRole is nearly always limited to one role."""
    arn = a_role(iam, allow("iam:PassRole", on="arn:aws:iam::*:role/builder-*"))
    mine, other = (f"arn:aws:iam::123456789012:role/{name}" for name in ("builder-1", "admin"))

    answer = iam.simulate_principal_policy(
        PolicySourceArn=arn, ActionNames=["iam:PassRole"], ResourceArns=[mine, other]
    )

    assert {row["EvalResourceName"]: row["EvalDecision"] for row in answer["EvaluationResults"]} == {
        mine: "allowed",
        other: "implicitDeny",
    }


def test_a_condition_needs_its_context(iam: Any) -> None:
    """A value that the caller did not give is named, as IAM does."""
    condition = {"StringEquals": {"aws:RequestedRegion": REGION}}
    arn = a_role(iam, allow("ec2:RunInstances", Condition=condition))

    (row,) = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["ec2:RunInstances"])["EvaluationResults"]
    entry = {"ContextKeyName": "aws:RequestedRegion", "ContextKeyValues": [REGION], "ContextKeyType": "string"}

    assert (row["EvalDecision"], row["MissingContextValues"]) == ("implicitDeny", ["aws:RequestedRegion"])
    assert simulated(iam, arn, "ec2:RunInstances", ContextEntries=[entry]) == {"ec2:RunInstances": "allowed"}


def test_a_user_has_its_groups_and_managed_policies_too(iam: Any) -> None:
    """Where most people's rights come from."""
    arn = iam.create_user(UserName="ann")["User"]["Arn"]
    iam.create_group(GroupName="bakers")
    iam.put_group_policy(GroupName="bakers", PolicyName="g", PolicyDocument=policy(allow("ecr:*")))
    iam.add_user_to_group(GroupName="bakers", UserName="ann")
    managed = iam.create_policy(PolicyName="m", PolicyDocument=policy(allow("s3:Get*")))["Policy"]["Arn"]
    iam.attach_user_policy(UserName="ann", PolicyArn=managed)

    assert simulated(iam, arn, "ecr:GetAuthorizationToken", "s3:GetObject", "s3:PutObject") == {
        "ecr:GetAuthorizationToken": "allowed",
        "s3:GetObject": "allowed",
        "s3:PutObject": "implicitDeny",
    }


def test_nobody_cannot_be_simulated(iam: Any) -> None:
    """IAM's own error code."""
    with refused("NoSuchEntity"):
        iam.simulate_principal_policy(PolicySourceArn=caller_arn("123456789012"), ActionNames=["ec2:RunInstances"])


def test_the_sandboxs_caller_is_its_administrator(iam: Any, access: Access, aws: LocalAws) -> None:
    """Who STS says we are is whom IAM knows."""
    add_caller(aws.account_id, REGION)

    said = access.client("sts").get_caller_identity()

    assert said["Arn"] == caller_arn(aws.account_id)
    assert simulated(iam, said["Arn"], "ec2:RunInstances") == {"ec2:RunInstances": "allowed"}


@pytest.mark.parametrize(
    ("statement", "action", "resource", "verdict"),
    [
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, "ec2:RunInstances", "*", "allowed"),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, "iam:PassRole", "*", "implicitDeny"),
        ({"Effect": "Allow", "Action": "EC2:runinstances", "Resource": "*"}, "ec2:RunInstances", "*", "allowed"),
        ({"Effect": "Allow", "Action": "s3:*", "NotResource": "a*"}, "s3:ListBucket", "b", "allowed"),
        ({"Effect": "Allow", "Action": "s3:*", "NotResource": "a*"}, "s3:ListBucket", "ab", "implicitDeny"),
        (deny("ec2:*", on="arn:aws:ec2:*:*:image/*"), "ec2:RunInstances", None, "implicitDeny"),
        (deny("ec2:*"), "ec2:RunInstances", None, "explicitDeny"),
        (allow("ec2:*", on="arn:aws:ec2:*:*:image/*"), "ec2:RunInstances", None, "allowed"),
        (allow("ec2:*", Condition={"StringNotEquals": {"a:b": "x"}}), "ec2:RunInstances", "*", "allowed"),
        (allow("ec2:*", Condition={"StringEqualsIfExists": {"a:b": "x"}}), "ec2:RunInstances", "*", "allowed"),
        (allow("ec2:*", Condition={"StringLike": {"k:v": ["no*", "val*"]}}), "ec2:RunInstances", "*", "allowed"),
        (allow("ec2:*", Condition={"StringNotLike": {"k:v": "val*"}}), "ec2:RunInstances", "*", "implicitDeny"),
        (allow("ec2:*", Condition={"ArnLike": {"k:v": "value"}}), "ec2:RunInstances", "*", "allowed"),
        (allow("ec2:*", Condition={"Bool": {"k:t": "TRUE"}}), "ec2:RunInstances", "*", "allowed"),
        (allow("ec2:*", Condition={"Null": {"k:v": "false"}}), "ec2:RunInstances", "*", "allowed"),
        (allow("ec2:*", Condition={"Null": {"k:v": ["true"]}}), "ec2:RunInstances", "*", "implicitDeny"),
        (allow("ec2:*", Condition={"Null": {"a:b": "false"}}), "ec2:RunInstances", "*", "implicitDeny"),
        (allow("ec2:*", Condition={"ForAllValues:StringEquals": {"k:v": ["value", "x"]}}), "ec2:A", "*", "allowed"),
        (allow("ec2:*", Condition={"ForAllValues:StringEquals": {"k:v": "x"}}), "ec2:A", "*", "implicitDeny"),
        (allow("ec2:*", Condition={"ForAllValues:StringEquals": {"a:b": "x"}}), "ec2:A", "*", "allowed"),
    ],
)  # fmt: skip
def test_each_element_of_a_statement_counts(
    statement: dict[str, Any], action: str, resource: str | None, verdict: str
) -> None:
    """An emulation that decides otherwise than IAM would prove nothing."""
    policies = [Attached("p", "role", {"Statement": statement})]

    decision = decide(policies, action, resource, {"k:v": ["value"], "k:t": ["true"]})

    assert decision.verdict == verdict


def test_an_unknown_condition_is_refused_loudly() -> None:
    """Never decided by guess."""
    statement = allow("ec2:*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    policies = [Attached("p", "role", {"Statement": statement})]

    with pytest.raises(NotImplementedError, match="IpAddress"):
        decide(policies, "ec2:RunInstances", "*", {"aws:SourceIp": ["10.0.0.1"]})


def as_user(access: Access, iam: Any, *statements: dict[str, Any]) -> Access:
    """Return the way to AWS of a new user with an inline policy."""
    iam.create_user(UserName="bob")
    iam.put_user_policy(UserName="bob", PolicyName="own", PolicyDocument=policy(*statements))
    key = iam.create_access_key(UserName="bob")["AccessKey"]
    credentials = Credentials(key["AccessKeyId"], key["SecretAccessKey"])
    return Access(region=REGION, endpoint_url=access.endpoint_url, credentials=credentials)


def test_the_gate_refuses_what_a_users_policies_do_not_allow(access: Access, aws: LocalAws, iam: Any) -> None:
    """Real documents deny real calls; without enforcing nobody is stopped."""
    bob = as_user(access, iam, allow("ec2:Describe*", "ssm:*"), deny("ssm:PutParameter"))
    bob.client("ec2").create_key_pair(KeyName="before")
    aws.gate.enforcing = True

    bob.client("ec2").describe_images(ImageIds=[BASE])
    with refused("UnauthorizedOperation") as said:
        bob.client("ec2").create_key_pair(KeyName="x", DryRun=True)
    with refused("AccessDeniedException") as denied:
        bob.client("ssm").put_parameter(Name="/a", Value="b", Type="String")

    assert "user/bob is not authorized to perform: ec2:CreateKeyPair because no statement" in said.text
    assert "explicit deny" in denied.text
    access.client("ec2").create_key_pair(KeyName="the sandbox's own keys may")


def test_the_gate_knows_what_s3_calls_are_called(access: Access, aws: LocalAws, iam: Any) -> None:
    """Listing and reading are two permissions, each on its own resource."""
    access.client("s3").create_bucket(Bucket="mmm", CreateBucketConfiguration={"LocationConstraint": REGION})
    access.client("s3").put_object(Bucket="mmm", Key="models/a", Body=b"x")
    bob = as_user(access, iam, allow("s3:GetObject", on="arn:aws:s3:::mmm/models/*"))
    aws.gate.enforcing = True

    bob.client("s3").get_object(Bucket="mmm", Key="models/a")
    with refused("AccessDenied") as said:
        bob.client("s3").list_objects_v2(Bucket="mmm")
    with refused("AccessDenied"):
        bob.client("s3").put_object(Bucket="mmm", Key="models/a", Body=b"y")

    assert "s3:ListBucket" in said.text


def test_an_instance_profile_needs_pass_role(access: Access, aws: LocalAws, iam: Any) -> None:
    """Also when the role asks; and anybody may ask who they are."""
    a_role(iam, allow("x:y"), name="builder")
    iam.create_instance_profile(InstanceProfileName="builder")
    iam.add_role_to_instance_profile(InstanceProfileName="builder", RoleName="builder")
    baker = assume(access, a_role(iam, allow("ec2:*")))
    aws.gate.enforcing = True

    assert ":assumed-role/baker/" in baker.client("sts").get_caller_identity()["Arn"]
    arguments = {"ImageId": BASE, "MinCount": 1, "MaxCount": 1, "InstanceType": "c5.large", "DryRun": True}
    with refused("DryRunOperation"):
        baker.client("ec2").run_instances(**arguments)
    with refused("UnauthorizedOperation") as said:
        baker.client("ec2").run_instances(**arguments, IamInstanceProfile={"Name": "builder"})

    assert "iam:PassRole" in said.text
