"""Which AWS actions a bake needs, and the verdict on what IAM or a dry run said of them.

What Packer calls was read off its real calls: a test builds in the sandbox and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpu_ami.aws.caller import RefusedError
from gpu_ami.aws.ecr import RepositoryUrl
from gpu_ami.aws.iam import PROFILE_TRIAL_TYPE, Answer
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables

# Packer names what it makes in IAM packer-UUID.
_TEMPORARY = "packer-00000000-0000-0000-0000-000000000000"
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer")
LOGIN = "ecr:GetAuthorizationToken"


@dataclass(frozen=True)
class Needed:
    """Actions that one part of a bake needs on one resource, in one moment.

    Attributes:
        part: What they are for; names the check.
        actions: The actions.
        resource: ARN of what the bake would make or use, or ``*`` for actions that are about everything.
        sends_tags: Whether the request carries the build's tags.
        has_tags: Whether the resource carries them already.
        creating: Operation that puts the tags on as it makes the resource; empty for tags in a call of their own.
    """

    part: str
    actions: tuple[str, ...]
    resource: str = "*"
    sends_tags: bool = False
    has_tags: bool = False
    creating: str = ""


# Policies are often bound to what an action is about and to its tags, so these are the plugin's, in four kinds.
# What an EC2 action makes, with tags in the same request.
_MAKES = {
    "CreateFleet": ("fleet",),
    "CreateImage": ("image", "snapshot"),
    "CreateKeyPair": ("key-pair",),
    "CreateLaunchTemplate": ("launch-template",),
    "CreateSecurityGroup": ("security-group",),
    "RunInstances": ("instance", "network-interface", "volume"),
}
# What it makes without: a fleet's instance has its tags from the launch template, a copied image those of its source,
# and a copy's snapshots have none.
_MAKES_BARE = {
    "CopyImage": ("image", "snapshot"),
    "CreateFleet": ("instance", "volume"),
}
# What it works on that the build has tagged.
_WORKS_ON = {
    "AuthorizeSecurityGroupIngress": "security-group",
    "CreateImage": "instance",
    "DeleteKeyPair": "key-pair",
    "DeleteLaunchTemplate": "launch-template",
    "DeleteSecurityGroup": "security-group",
    "DeleteSnapshot": "snapshot",
    "DeregisterImage": "image",
    "EnableImageDeprecation": "image",
    "EnableImageDeregistrationProtection": "image",
    "ModifyImageAttribute": "image",
    "ModifySnapshotAttribute": "snapshot",
    "StopInstances": "instance",
    "TerminateInstances": "instance",
}
# The first letters of an id, where they are not the kind's name.
_LETTERS = {
    "image": "ami",
    "instance": "i",
    "launch-template": "lt",
    "network-interface": "eni",
    "security-group": "sg",
    "snapshot": "snap",
    "spot-instances-request": "sir",
    "volume": "vol",
}


@dataclass(frozen=True)
class Scene:
    """Where the bake is: account, region and partition, for ARNs."""

    account: str
    region: str
    partition: str

    def arn(self, kind: str) -> str:
        """Return the ARN of an EC2 object of *kind* that a bake would make."""
        owner = "" if kind in ("image", "snapshot") else self.account
        return f"arn:{self.partition}:ec2:{self.region}:{owner}:{kind}/{_LETTERS.get(kind, kind)}-00000000000000000"


def context(scene: Scene, tags: Mapping[str, str], part: Needed) -> dict[str, tuple[str, ...]]:
    """Return what the bake's requests for *part* have for the condition keys that policies are bound by."""
    region = region_of(part) or scene.region
    found: dict[str, tuple[str, ...]] = {
        "aws:RequestedRegion": (region,),
        "ec2:Region": (region,),
        "iam:PassedToService": ("ec2.amazonaws.com.cn" if scene.partition == "aws-cn" else "ec2.amazonaws.com",),
        "kms:GrantIsForAWSResource": ("true",),
        "kms:ViaService": (f"ec2.{scene.region}.amazonaws.com",),
    }
    if part.creating:
        found["ec2:CreateAction"] = (part.creating,)
    if part.sends_tags:
        found["aws:TagKeys"] = tuple(tags)
        found |= {f"aws:RequestTag/{key}": (value,) for key, value in tags.items()}
    if part.has_tags:
        for condition in ("aws:ResourceTag", "ec2:ResourceTag", "ssm:resourceTag"):
            found |= {f"{condition}/{key}": (value,) for key, value in tags.items()}
    return found


def region_of(part: Needed) -> str:
    """Return the region in the ARN; empty where it names none."""
    return part.resource.split(":")[3] if part.resource != "*" else ""


def _ec2(part: str, scene: Scene, *operations: str) -> list[Needed]:
    by_kind: dict[str, list[str]] = {}
    found: list[Needed] = []
    for operation in operations:
        action = f"ec2:{operation}"
        for kind in _MAKES.get(operation, ()):
            both = ("ec2:CreateTags", action)
            found.append(Needed(part, both, scene.arn(kind), sends_tags=True, creating=operation))
        found += [Needed(part, (action,), scene.arn(kind)) for kind in _MAKES_BARE.get(operation, ())]
        if operation in _WORKS_ON:
            by_kind.setdefault(_WORKS_ON[operation], []).append(action)
    tagged = [Needed(part, tuple(actions), scene.arn(kind), has_tags=True) for kind, actions in by_kind.items()]
    return [*found, *tagged]


def _tags(part: str, scene: Scene, *, tagged: tuple[str, ...], bare: tuple[str, ...] = ()) -> list[Needed]:
    """Return what tagging in a call of its own needs, on kinds with the build's tags and on kinds without."""
    return [
        Needed(part, ("ec2:CreateTags",), scene.arn(kind), sends_tags=True, has_tags=kind in tagged)
        for kind in (*tagged, *bare)
    ]


def needed(variables: BuildVariables, scene: Scene, *, role: str | None, key: str | None) -> list[Needed]:
    """Return what the caller needs to bake.

    Args:
        variables: The bake's variables.
        scene: Where it is.
        role: ARN of the role in the named instance profile; None when there is none or it is not known.
        key: ARN of the named KMS key; None when there is none or it is not known.
    """
    described = ("Images", "Instances", "Regions", "SecurityGroups", "Snapshots", "Subnets", "Volumes")
    builder = ["CreateKeyPair", "DeleteKeyPair", "RunInstances", "StopInstances", "TerminateInstances"]
    if variables.spot:
        builder += ["CreateFleet", "CreateLaunchTemplate", "DeleteLaunchTemplate"]
    found = [
        Needed("look-ups", tuple(f"ec2:Describe{name}" for name in described)),
        *_ec2("builder", scene, *builder),
        *_ec2("AMI", scene, *_ami(variables)),
        *_tags("AMI", scene, tagged=("image", "snapshot")),
    ]
    if variables.spot:
        found += _tags("builder", scene, tagged=("instance", "volume"), bare=("spot-instances-request",))
    for region in _copy_regions(variables, scene):
        there = replace(scene, region=region)
        found += [*_ec2("AMI", there, "CopyImage"), *_tags("AMI", there, tagged=("image",), bare=("snapshot",))]
    if not variables.security_group_id:
        group = ("AuthorizeSecurityGroupIngress", "CreateSecurityGroup", "DeleteSecurityGroup")
        found += _ec2("temporary group", scene, *group)
    if variables.iam_instance_profile:
        found += [Needed("instance profile", ("iam:PassRole",), role)] if role else []
    else:
        found += _temporary_profile(scene)
    if variables.ssh_interface == "session_manager":
        found.append(Needed("session", ("ssm:StartSession",), scene.arn("instance"), has_tags=True))
    if key is not None:
        grants = ("CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom")
        found.append(Needed("key", tuple(f"kms:{name}" for name in grants), key))
    return found


def _copy_regions(variables: BuildVariables, scene: Scene) -> list[str]:
    others = {*variables.ami_regions} - {scene.region}
    # For copies that are shared each has its own key, and the AMI is made a second time in its own region too.
    return sorted(others | {scene.region}) if others and variables.is_shared else sorted(others)


def _ami(variables: BuildVariables) -> list[str]:
    # The last two of these are for the way back: a build that fails after its AMI was made removes it.
    operations = ["CreateImage", "ModifyImageAttribute", "DeregisterImage", "DeleteSnapshot"]
    if variables.deprecate_after_days:
        operations.append("EnableImageDeprecation")
    if variables.is_protected:
        operations.append("EnableImageDeregistrationProtection")
    if variables.is_shared:
        operations.append("ModifySnapshotAttribute")
    return operations


def _temporary_profile(scene: Scene) -> list[Needed]:
    iam = f"arn:{scene.partition}:iam::{scene.account}"
    # Packer makes both with tags, which IAM counts as tagging.
    makes = {"role": ("CreateRole", "TagRole"), "instance-profile": ("CreateInstanceProfile", "TagInstanceProfile")}
    works_on = {
        "role": ("DeleteRole", "DeleteRolePolicy", "GetRole", "PassRole", "PutRolePolicy"),
        "instance-profile": (
            "AddRoleToInstanceProfile",
            "DeleteInstanceProfile",
            "GetInstanceProfile",
            "RemoveRoleFromInstanceProfile",
        ),
    }
    return [
        Needed(
            "temporary profile",
            tuple(f"iam:{name}" for name in names),
            f"{iam}:{kind}/{_TEMPORARY}",
            sends_tags=calls is makes,
            has_tags=calls is works_on,
        )
        for calls in (makes, works_on)
        for kind, names in calls.items()
    ]


def judge(part: str, answers: Mapping[str, Answer], *, simulated: bool, who: str) -> Check:
    """Judge what was said of the actions of one part.

    Args:
        part: What they are for.
        answers: Action to answer.
        simulated: Whether IAM answered; otherwise only dry runs did.
        who: Whose permissions these are.
    """
    name = f"permissions: {part}"
    denied = sorted(action for action, answer in answers.items() if answer == "denied")
    unknown = sorted(action for action, answer in answers.items() if answer == "unknown")
    if denied:
        fix = f"Allow them in a policy of {who}; a permissions boundary or the organization may deny them too."
        return Check(name, "fail", f"denied: {', '.join(denied)}", fix)
    how = "simulated by IAM" if simulated else "tried as dry runs"
    if unknown:
        so_far = f"{len(answers) - len(unknown)} of {len(answers)} allowed, {how}"
        hint = "" if simulated else ", or allow iam:SimulatePrincipalPolicy so that IAM can be asked"
        text = f"{so_far}; not known: {', '.join(unknown)}"
        return Check(name, "warn", text, f"Make sure that {who} may do them{hint}.")
    count = "the action is" if len(answers) == 1 else f"all {len(answers)} actions are"
    return Check(name, "ok", f"{count} allowed, {how}")


def profile_needs(variables: BuildVariables, repository: RepositoryUrl, partition: str) -> tuple[Needed, ...]:
    """Return what the builder's own role needs: the login, the pull, the models and its side of a session."""
    arn = f"arn:{partition}:ecr:{repository.region}:{repository.account}:repository/{repository.name}"
    found = [Needed("ECR login", (LOGIN,)), Needed("ECR login", PULL, arn)]
    if variables.models_s3_bucket:
        bucket = f"arn:{partition}:s3:::{variables.models_s3_bucket}"
        found.append(Needed("instance profile", ("s3:ListBucket",), bucket))
        found.append(Needed("instance profile", ("s3:GetObject",), f"{bucket}/models/*"))
    if variables.ssh_interface == "session_manager":
        channels = ("CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel")
        tunnel = tuple(f"ssmmessages:{name}" for name in channels)
        found.append(Needed("instance profile", ("ssm:UpdateInstanceInformation", *tunnel)))
    return tuple(found)


def judge_profile(check: str, profile: str, role: str, answers: Mapping[str, Answer] | None, region: str) -> Check:
    """Judge what IAM said of the builder's role.

    Args:
        check: ``ECR login`` or ``instance profile``.
        profile: Name of the instance profile.
        role: ARN of its role.
        answers: Action to answer; None when IAM may not be asked.
        region: The repository's region.
    """
    name = role.rpartition("/")[2]
    advice = (
        f"Attach AmazonEC2ContainerRegistryReadOnly to the role {name}; on an instance with it, try "
        f"`aws ecr get-login-password --region {region}`."
        if check == "ECR login"
        else f"Allow them in a policy of the role {name}."
    )
    if answers is None:
        text = f"whether the role {name} of {profile} allows it is not known: these credentials may not ask IAM"
        return Check(check, "warn", text, f"{advice} Allow iam:SimulatePrincipalPolicy to be told here.")
    denied = sorted(action for action, answer in answers.items() if answer != "allowed")
    if denied:
        return Check(check, "fail", f"the role {name} of {profile} may not {', '.join(denied)}", advice)
    what = "log in and pull the image" if check == "ECR login" else "read the models and the rest it needs"
    return Check(check, "ok", f"{profile} may {what}: all {len(answers)} actions allowed, simulated by IAM")


def temporary_profile(
    check: str, region: str, architecture: str, *, has_default_vpc: bool | None, refusal: RefusedError | None
) -> Check:
    """Judge whether Packer gets past its own look at the temporary instance profile that it makes.

    Args:
        check: ``ECR login`` or ``instance profile``.
        region: The build's.
        architecture: The base AMI's.
        has_default_vpc: Whether the region has a default VPC; None when that is not known.
        refusal: What EC2 said against the dry run that Packer will make; None when nothing.
    """
    trial = f"Packer's plugin tries it with a {PROFILE_TRIAL_TYPE} as a dry run, without subnet and tags"
    fix = "Give iam_instance_profile in the Packer variables: a profile that may pull the image and read the models."
    if has_default_vpc is False:
        why = f"{region} has no default VPC, where that dry run would go"
    elif architecture != "x86_64":
        why = f"the base AMI is {architecture}, that type is not"
    elif refusal is not None and refusal.is_denied:
        # No proof: Packer's trial names the profile, which is not made yet, and a policy may insist on one.
        why = f"without a profile these credentials may not do that ({refusal.code})"
        bound = f"If that is a policy bound to tags, a type or a subnet, the build ends with {_NEVER_SEEN}"
        return Check(check, "warn", f"a temporary profile may not work: {trial}; {why}. {bound}", fix)
    elif refusal is not None:
        why = f"EC2 refuses that ({refusal})"
    else:
        return Check(check, "ok", "a temporary profile, which may just log in, pull the image and read the models")
    return Check(
        check,
        "fail",
        f"a temporary profile cannot work: {trial}, and {why}. "
        f"The build would end with {_NEVER_SEEN} and leave role and profile",
        fix,
    )


# The plugin's words for every refusal of that dry run but one.
_NEVER_SEEN = '"timed out waiting for IAM changes to propagate to EC2"'


def no_profile(profile: str, role: str | None) -> Check:
    """Return the verdict on an instance profile that is not there or holds no role."""
    what = "does not exist" if role is None else "holds no role"
    fix = "Fix iam_instance_profile, or leave it empty: the template then makes a temporary one that may do just that."
    return Check("instance profile", "fail", f"the instance profile {profile} {what}", fix)
