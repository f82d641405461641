"""What a fleet's clean-up does when AWS changes under it: accounts that come, go and end in the middle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.iam.models import get_account_id_from

from gpu_ami.aws.references.registry import USES
from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.execute import Apply
from gpu_ami.cleanup.inventory import Survey
from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import AwsError, InterruptedRunError, SafetyError
from gpu_ami_sandbox.aws.gate import Answer, Call, Environ, Fault, error_answer
from gpu_ami_sandbox.aws.organizations import MemberAccount
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.demo_organization import REGION, DemoOrganization, demo_organization, said

pytestmark = pytest.mark.slow
UNUSED = {"gpu-batch-shared-unused", "gpu-batch-shared-unused-unit", "gpu-batch-video-unused"}
NEW = "777777777777"


@pytest.fixture
def demo(aws_server: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoOrganization]:
    """The demo organization, of which only the sources that find something are queried."""
    few = tuple(source for source in USES if source.name in {"launch-templates", "batch", "parameters"})
    defaults: dict[str, Any] = Survey.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "uses", few)
    with demo_organization(aws_server, tmp_path) as made:
        yield made


def is_whole(demo: DemoOrganization) -> bool:
    """Return whether every AMI that could go is there."""
    places = [(account, name) for account in (demo.hub, demo.ids["video"]) for name in demo.regions]
    return {name for account, region in places for name in demo.images(account, region)} >= UNUSED


def refuse(demo: DemoOrganization, account: str, code: str, *, service: str = "ec2") -> None:
    """Refuse every call in *account* from now on, as AWS does with credentials that have ended."""

    def answer(call: Call, environ: Environ) -> Answer | None:
        key = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0]
        is_it = call.service == service and get_account_id_from(key) == account
        return error_answer(environ, code, "The credentials have ended.", 403) if is_it else None

    demo.aws.gate.add(Fault(answer))


@pytest.mark.parametrize("name", ["research", "video"])
def test_an_account_that_ends_while_others_are_cleaned_up_stops_them(
    demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Closed, or its credentials ended, after the plan: what it needs by now nobody knows, so nobody deletes."""
    act = Apply.images

    def closed(self: Apply, verdicts: Any) -> Any:
        refuse(demo, demo.ids[name], "ExpiredToken")
        return act(self, verdicts)

    monkeypatch.setattr(Apply, "images", closed)

    run = demo.run()
    request = cleanup.Request(fleet=True, flags=Flags(include_shared=True), regions=demo.regions, yes=True)
    with pytest.raises(SafetyError, match=r"^Everything is kept: the check right before found: "):
        cleanup.run(run, request)

    done = said(run)
    assert {row["status"] for row in done["results"]} == {"kept"}
    for row in done["results"]:
        assert re.search(rf"launch-templates \(.* {demo.ids[name]}\) could not be read: .*ExpiredToken", row["error"])
    assert is_whole(demo)


def test_who_interrupts_it_sees_what_was_done_before(demo: DemoOrganization, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second account; what went in the first has its way back, and nobody should have to look for it."""
    act = Apply.images
    begun: list[int] = []

    def interrupted(self: Apply, verdicts: Any) -> Any:
        begun.append(1)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return act(self, verdicts)

    monkeypatch.setattr(Apply, "images", interrupted)
    run = demo.run()
    request = cleanup.Request(fleet=True, flags=Flags(include_shared=True), regions=demo.regions, yes=True)

    with pytest.raises(InterruptedRunError, match="a new run finishes it"):
        cleanup.run(run, request)

    assert {(row["account"], row["status"]) for row in said(run)["results"]} == {(demo.hub, "deleted")}
    assert [row["account"] for row in said(run)["journals"]] == [demo.hub]


def test_an_account_that_ends_while_it_is_read_keeps_everything(demo: DemoOrganization) -> None:
    """It could be entered, and says nothing more: that is not an account without anything."""
    video = demo.ids["video"]
    refuse(demo, video, "RequestExpired", service="ssm")

    with pytest.raises(
        SafetyError, match=rf"Everything is kept: parameters \(.* {video}\) could not be read: .*RequestExpired"
    ):
        demo.cleanup(yes=True)

    assert is_whole(demo)


def test_an_account_that_came_after_the_plan_holds_it_up(demo: DemoOrganization, tmp_path: Path) -> None:
    """It may launch what the organization shares, and nobody has read it."""
    path = tmp_path / "plan.json"
    demo.cleanup(plan=str(path))
    demo.organization.members[NEW] = MemberAccount(NEW, "new", next(iter(demo.organization.members.values())).path)

    with pytest.raises(SafetyError, match=rf"account \({NEW}\) could not be read: .*Make the role .*docs/fleet.md"):
        demo.cleanup(apply=str(path), flags=Flags())

    assert is_whole(demo)


def test_to_bring_something_back_enters_that_account_alone(demo: DemoOrganization) -> None:
    """At three in the morning nobody wants to wait for five hundred accounts, or for one that is in trouble."""
    video = demo.ids["video"]
    journal = next(row["journal"] for row in demo.cleanup(yes=True)["journals"] if row["account"] == video)
    demo.aws.gate.calls.clear()
    run = demo.run()

    cleanup.run(run, cleanup.Request(fleet=True, restore=str(demo.folder / journal)))

    assert [row["status"] for row in said(run)["results"]] == ["restored"]
    entered = [call.parameters["RoleArn"] for call in demo.aws.gate.calls if call.action == "AssumeRole"]
    assert entered == [f"arn:aws:iam::{video}:role/gpu-ami-fleet-cleanup"]


def test_a_throttled_sts_is_asked_again(demo: DemoOrganization) -> None:
    """Hundreds of accounts are entered at once; one answer of "slow down" must not hold up the night."""
    fault = demo.aws.gate.fail("Throttling", "Rate exceeded", action="AssumeRole", at=1)

    assert demo.cleanup(regions=(REGION,))["blocks"] == []
    assert fault.seen > 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b'{"Accounts": [], "NextToken": "again"}', "the page token repeats"),
        (b'{"Accounts": []}', "names no account"),
        (b"{}", "no list Accounts"),
    ],
)
def test_a_list_of_accounts_that_has_no_end_is_none(demo: DemoOrganization, answer: bytes, why: str) -> None:
    """Half a list would be taken for the fleet, and those that it leaves out for strangers."""
    demo.aws.gate.add(
        Fault(lambda *_: (200, {"Content-Type": "application/x-amz-json-1.1"}, answer), action="ListAccounts")
    )

    with pytest.raises(AwsError, match=re.escape(why)):
        demo.cleanup(yes=True)
