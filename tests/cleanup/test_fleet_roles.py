"""A clean-up of the fleet with the roles of terraform/modules/fleet-member, each of its calls judged by IAM's rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from moto.iam.models import get_account_id_from, iam_backends

from gpu_ami.aws.references.registry import USES
from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.journal import unfinished
from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import PipelineError, SafetyError
from gpu_ami_sandbox.aws.ec2 import usage_reports as local
from gpu_ami_sandbox.aws.gate import Call, Environ, Fault
from gpu_ami_sandbox.aws.policies import principal_of
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.fleet import CLEANUP_ROLE, READ_ROLE
from tests.support import member_roles
from tests.support.demo_organization import REGION, DemoOrganization, demo_organization, said

pytestmark = pytest.mark.slow
FEW = tuple(source for source in USES if source.name in {"launch-templates", "batch", "parameters"})
# For what AWS's Recycle Bin may lose and the local one does not; tests/infra/test_fleet_roles.py has who calls them.
RARE = {"ec2:CreateTags", "ec2:DeleteSnapshot", "ec2:ModifyImageAttribute"}
HUBS = {"plan": "hub-plan", "cleanup": "hub-cleanup"}


def hub_policies(organization: str, purpose: str) -> dict[str, Any]:
    """Return what modules/fleet-hub gives its role; tests/infra holds the module to it."""
    names = [READ_ROLE] if purpose == "plan" else [READ_ROLE, CLEANUP_ROLE]
    enter = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Resource": [f"arn:aws:iam::*:role/{name}" for name in names],
        "Condition": {"StringEquals": {"aws:ResourceOrgID": organization}},
    }
    listing = ["organizations:DescribeOrganization", "organizations:ListAccounts"]
    more = {"Effect": "Allow", "Action": listing, "Resource": "*"}
    own = member_roles.policies()
    given = {"enter": {"Version": "2012-10-17", "Statement": [enter, more]}}
    given |= {"read": own["ReadPolicy"], "services": own["ServicesPolicy"]}
    return given | ({"cleanup": own["CleanupPolicy"]} if purpose == "cleanup" else {})


def put(account: str, name: str, trust: str, policies: dict[str, Any]) -> str:
    """Make a role anew; return its ARN."""
    iam = iam_backends[account]["aws"]
    for role in [role for role in iam.roles.values() if role.name == name]:
        iam.roles.pop(role.id)
    made = iam.create_role(name, trust, "/", None, "", [], "3600")
    for key, document in policies.items():
        iam.put_role_policy(name, key, json.dumps(document))
    return str(made.arn)


@pytest.fixture
def demo(aws_server: LocalAws, tmp_path: Path) -> Iterator[DemoOrganization]:
    """The demo organization with the template's roles, in which nobody may more than these say."""
    with demo_organization(aws_server, tmp_path) as made:
        organization = made.organization.organization_id
        people = json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]})
        hubs = {
            purpose: put(made.hub, name, people, hub_policies(organization, purpose)) for purpose, name in HUBS.items()
        }
        trust = member_roles.trusts(organization, **hubs)
        policies = member_roles.policies()
        for account in (made.ids["video"], made.ids["research"]):
            read = {"read": policies["ReadPolicy"], "services": policies["ServicesPolicy"]}
            put(account, READ_ROLE, trust["ReadRole"], read)
            put(account, CLEANUP_ROLE, trust["CleanupRole"], {"cleanup": policies["CleanupPolicy"]})
        made.aws.gate.enforcing = True
        yield made
        made.aws.gate.enforcing = False


def through(demo: DemoOrganization, purpose: str) -> Any:
    """Return the fleet's settings with a role of the hub."""
    arn = f"arn:aws:iam::{demo.hub}:role/{HUBS[purpose]}"
    return msgspec.structs.replace(demo.fleet, hub_role=arn)


def test_plan_act_and_restore_need_no_more_and_no_less(demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch) -> None:
    """One right too few holds up every night of a fleet; one too many is in five hundred accounts."""
    called: set[tuple[str, str]] = set()

    def note(call: Call, environ: Environ) -> None:
        key = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0]
        principal = principal_of(get_account_id_from(key), key)
        if principal is not None:
            called.add((principal.rpartition("/")[2], f"{call.service}:{call.action}"))

    demo.aws.gate.add(Fault(note))
    monkeypatch.setattr(local, "PENDING_S", 0.0)
    video = demo.ids["video"]

    planned = demo.cleanup(fleet=through(demo, "plan"))
    # Every source has been read by now.
    monkeypatch.setitem(Survey.__init__.__kwdefaults__ or {}, "uses", FEW)
    with pytest.raises(SafetyError, match=f"Nothing was changed in any account: .*{CLEANUP_ROLE}"):
        demo.cleanup(fleet=through(demo, "plan"), yes=True)
    results = []
    for mode in ("disable", "deprecate", "delete"):
        if mode == "delete":
            # On what is shared, a report.
            demo.images(video)["gpu-batch-video-unused"].launch_permissions.append({"UserId": demo.ids["research"]})
        flags = Flags(include_shared=True, mode=mode, usage_reports=mode == "delete")
        results.append(demo.cleanup(fleet=through(demo, "cleanup"), yes=True, flags=flags))
    journals = [row["journal"] for done in reversed(results) for row in done["journals"] if row["account"] == video]
    for journal in journals:
        run = demo.run(through(demo, "cleanup"))
        cleanup.run(run, cleanup.Request(fleet=True, restore=str(demo.folder / journal)))
        assert {row["status"] for row in said(run)["results"]} == {"restored"}

    assert {row["action"] for row in planned["verdicts"]} == {"keep", "delete"}
    assert [{row["status"] for row in done["results"]} for done in results] == [
        {"disabled"},
        {"deprecated"},
        {"deleted"},
    ]
    assert demo.images(video)["gpu-batch-video-unused"].state == "available"
    statements = member_roles.policies()["CleanupPolicy"]["Statement"]
    given = {action for statement in statements for action in statement["Action"]}
    assert given - RARE == {action for role, action in called if role == CLEANUP_ROLE} - {"sts:GetCallerIdentity"}


def test_a_killed_run_is_finished_with_the_rights_of_the_roles(
    demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may change an account may not look at all that decides: the role that reads it does."""
    monkeypatch.setitem(Survey.__init__.__kwdefaults__ or {}, "uses", FEW)
    make, snapshot = demo.killed_run(REGION)

    demo.cleanup(fleet=through(demo, "cleanup"), yes=True, flags=Flags(), regions=(REGION,))

    assert snapshot not in make.ec2.snapshots
    assert unfinished(demo.folder / "logs", demo.ids["video"]) == []


def test_what_is_not_ours_cannot_be_deleted_by_the_role(
    demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag is the last line, whatever the code decides: one AMI loses it between plan and act."""
    monkeypatch.setitem(Survey.__init__.__kwdefaults__ or {}, "uses", FEW)
    image = demo.images(demo.ids["video"])["gpu-batch-video-unused"]
    image.ec2_backend.tags[image.id].pop("gpu-ami:pipeline")

    with pytest.raises(PipelineError, match=r"failed, .* not authorized to perform: ec2:DeregisterImage"):
        demo.cleanup(fleet=through(demo, "cleanup"), yes=True)

    assert "gpu-batch-video-unused" in demo.images(demo.ids["video"])


def test_nobody_from_outside_gets_in(demo: DemoOrganization) -> None:
    """A role of the same name in another account, one that the member does not trust, another organization."""
    other = json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]})
    organization = demo.organization.organization_id
    put(demo.hub, "hub-plan", other, hub_policies("o-another0000", "plan"))
    put(demo.hub, "hub-other", other, hub_policies(organization, "cleanup"))
    fleet = msgspec.structs.replace(demo.fleet, hub_role=f"arn:aws:iam::{demo.hub}:role/hub-other")

    for given in (through(demo, "plan"), fleet):
        with pytest.raises(SafetyError, match=r"Everything is kept: account \(.*sts:AssumeRole"):
            demo.cleanup(fleet=given)
    hubs = {purpose: f"arn:aws:iam::{demo.hub}:role/{name}" for purpose, name in HUBS.items()}
    put(demo.ids["video"], READ_ROLE, member_roles.trusts("o-another0000", **hubs)["ReadRole"], {})
    with pytest.raises(SafetyError, match=rf"account \({demo.ids['video']}\) could not be read: .*sts:AssumeRole"):
        demo.cleanup(fleet=through(demo, "cleanup"))
