"""The demo organization: the demo account shares AMIs with others, which use some of them, each in another way.

It is made when somebody first asks for the organization: the start of a sandbox is not to wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.ec2.service import ensure_base_image
from gpu_ami_sandbox.aws.iam import add_caller
from gpu_ami_sandbox.aws.organizations import MemberAccount, Organization
from gpu_ami_sandbox.demo.demo_account import BATCH_INSTANCE_PROFILE, add_profiles, network
from gpu_ami_sandbox.demo.factory import DemoLocation, Maker
from gpu_ami_sandbox.demo.images import add_bin_rules
from gpu_ami_sandbox.fleet import CLEANUP_ROLE, READ_ROLE, REFUSES, SUSPENDED, member_ids, regions_of

_ROOT, _MEDIA, _LAB = "r-dm01", "ou-dm01-media001", "ou-dm01-lab00001"
# Nobody's in this organization.
_STRANGER = "998877665544"
_AGE_DAYS = 300
_NEWEST_DAYS = (3, 13, 23)
_READ = ["*:Describe*", "*:Get*", "*:List*", "*:BatchGet*", "sts:*", "ssm:*"]


def build_demo_fleet(account_id: str, region: str, now: datetime) -> Organization:
    """Make the organization of the demo account, with its members and what they need; *now* dates the AMIs."""
    ids = member_ids(account_id)
    here, second, third = regions_of(region)
    root = f"o-demo{account_id[-6:]}/{_ROOT}/"
    found = Organization(organization_id=f"o-demo{account_id[-6:]}", management=account_id)
    members = (
        MemberAccount(account_id, "platform", root),
        MemberAccount(ids["video"], "video", f"{root}{_MEDIA}/"),
        MemberAccount(ids["research"], "research", f"{root}{_LAB}/", off=frozenset({third})),
        MemberAccount(ids[REFUSES], REFUSES, root),
        MemberAccount(ids[SUSPENDED], SUSPENDED, root, state="SUSPENDED"),
    )
    found.members = {one.account: one for one in members}
    for one in members:
        if one.account != account_id:
            add_caller(one.account, region)
            add_profiles(one.account)
        if one.name != REFUSES:
            _add_roles(one.account, account_id)
    _share(found, ids, {name: _maker(account_id, name, now) for name in (here, second, third)}, now)
    return found


def _add_roles(account: str, hub: str) -> None:
    iam = iam_backends[account]["aws"]
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{hub}:root"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for name, actions in ((READ_ROLE, _READ), (CLEANUP_ROLE, ["*"])):
        iam.create_role(name, trust, "/", None, "", [], "3600")
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        iam.put_role_policy(name, "own", json.dumps(document))


def _maker(account: str, region: str, now: datetime) -> Maker:
    ec2 = ec2_backends[account][region]
    ensure_base_image(ec2)
    made = network(ec2, region)
    where = DemoLocation(account, region, made["subnet_id"], made["security_group_id"], BATCH_INSTANCE_PROFILE)
    return Maker(where, now.replace(tzinfo=None))


def _share(found: Organization, ids: Mapping[str, str], own: Mapping[str, Maker], now: datetime) -> None:
    """Make the AMIs that are shared, each with what needs it, if anything does."""
    here, second, third = own
    theirs = {(name, region): _maker(ids[name], region, now) for name in ("video", "research") for region in own}

    def shared(region: str, name: str, *who: dict[str, str]) -> SandboxAmi:
        image = own[region].image(_AGE_DAYS, f"gpu-batch-shared-{name}")
        image.launch_permissions.extend(who)
        image.add_tags({"gpu-ami:handover": "applied"})
        return image

    video, research = {"UserId": ids["video"]}, {"UserId": ids["research"]}
    organization = {"OrganizationArn": found.arn}
    image = shared(here, "template", video)
    theirs["video", here].template("transcoder", image.id)
    image = shared(here, "batch", {"OrganizationalUnitArn": found.unit_arn(_LAB)})
    theirs["research", here].environment(
        "experiments", ec2Configuration=[{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": image.id}]
    )
    image = shared(second, "parameter", organization)
    # A text in another region may be what launches it.
    theirs["video", here].parameter("/video/us-image", image.id)
    shared(here, "unused", video, research)
    shared(second, "unused-unit", {"OrganizationalUnitArn": found.unit_arn(_MEDIA)})
    shared(here, "outside", {"UserId": _STRANGER})
    shared(here, "suspended", {"UserId": ids[SUSPENDED]})
    shared(third, "switched-off", research)
    for region, make in own.items():
        # The demo account has its rules already.
        if region != here:
            add_bin_rules(make)
        _newest(make)
    _own(theirs["video", here])


def _own(make: Maker) -> None:
    """Let an account have AMIs of its own: the newest, one in use, one that nothing needs."""
    add_bin_rules(make)
    _newest(make)
    used = _built(make, _AGE_DAYS, "gpu-batch-video-used")
    make.template("own", used.id)
    _built(make, _AGE_DAYS, "gpu-batch-video-unused")


def _newest(make: Maker) -> None:
    for age in _NEWEST_DAYS:
        _built(make, age, handover="pending")


def _built(make: Maker, age_days: int, name: str = "", *, handover: str = "applied") -> SandboxAmi:
    """Make an AMI whose build has come to its end: without a word of that a sweep takes it for a failed one's."""
    image = make.image(age_days, name)
    image.add_tags({"gpu-ami:handover": handover, "gpu-ami:finished": "true"})
    return image
