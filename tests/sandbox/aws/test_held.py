"""Services that the sandbox only lists: pages, look-ups, refusals, and moto once something is made there."""

from __future__ import annotations

from datetime import datetime

import pytest

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami_sandbox.aws.held import rows, things
from gpu_ami_sandbox.aws.server import LocalAws
from tests.support.account import REGION, world


@pytest.fixture
def caller(aws: LocalAws) -> Caller:
    """Return a caller of an empty account."""
    return world(aws).location().caller


def test_a_listing_shows_what_was_put_there_in_pages(aws: LocalAws, caller: Caller) -> None:
    """Clean-up reads all pages of every service; an account has more stacks than a page."""
    stacks = rows(aws.account_id, REGION, "cloudformation", "DescribeStacks")
    stacks.extend({"StackName": f"s{n}", "StackStatus": "CREATE_COMPLETE"} for n in range(150))

    shown = [row["StackName"] for row in caller.pages("cloudformation", "describe_stacks", "Stacks")]

    assert shown == [f"s{n}" for n in range(150)]
    assert caller.calls == 2


def test_a_reset_empties_it(aws: LocalAws, caller: Caller) -> None:
    """Each test, and each sandbox, begins with an account of its own."""
    rows(aws.account_id, REGION, "lambda", "ListFunctions").append({"FunctionName": "f"})
    assert len(caller.call("lambda", "list_functions")["Functions"]) == 1

    aws.reset()

    assert caller.call("lambda", "list_functions")["Functions"] == []
    assert not things(aws.account_id, REGION, "lambda", "GetFunction")


def test_moto_answers_once_something_is_made_there(caller: Caller) -> None:
    """Terraform may make its own things in the sandbox, and finds them again."""
    with pytest.raises(RefusedError, match="ResourceNotFoundException"):
        caller.call("lambda", "get_function", FunctionName="gone")
    assert caller.call("lambda", "list_functions")["Functions"] == []

    caller.call("cloudformation", "create_stack", StackName="theirs", TemplateBody='{"Resources": {}}')

    assert [row["StackName"] for row in caller.call("cloudformation", "describe_stacks")["Stacks"]] == ["theirs"]


def test_rows_of_one_thing_are_its_own(aws: LocalAws, caller: Caller) -> None:
    """A state machine's versions are listed by its ARN."""
    for name in ("a", "b"):
        version = {"stateMachineVersionArn": f"arn:{name}:1", "creationDate": datetime(2026, 11, 1)}  # noqa: DTZ001
        rows(aws.account_id, REGION, "states", "ListStateMachineVersions", f"arn:{name}").append(version)

    shown = caller.call("stepfunctions", "list_state_machine_versions", stateMachineArn="arn:a")

    assert [row["stateMachineVersionArn"] for row in shown["stateMachineVersions"]] == ["arn:a:1"]


def test_each_thing_has_rows_of_its_own(aws: LocalAws, caller: Caller) -> None:
    """A cluster's groups are not another cluster's; a thing without any has an empty list."""
    rows(aws.account_id, REGION, "elasticmapreduce", "ListInstanceGroups", "j-1").append({"Id": "ig-1"})

    def groups(cluster: str) -> list[str]:
        return [row["Id"] for row in caller.call("emr", "list_instance_groups", ClusterId=cluster)["InstanceGroups"]]

    assert (groups("j-1"), groups("j-2")) == (["ig-1"], [])


def test_a_batch_says_what_is_not_there(aws: LocalAws, caller: Caller) -> None:
    """CodeBuild answers about each name that it was given."""
    things(aws.account_id, REGION, "codebuild", "BatchGetFleets")["arn:a"] = {"arn": "arn:a", "name": "a"}

    answer = caller.call("codebuild", "batch_get_fleets", names=["arn:a", "arn:b"])

    assert [fleet["name"] for fleet in answer["fleets"]] == ["a"]
    assert answer["fleetsNotFound"] == ["arn:b"]


def test_a_service_that_tells_operations_by_their_path_is_read_too(aws: LocalAws, caller: Caller) -> None:
    """AgentCore signs by a shorter name than its model has; what moto lacks is refused by its name."""
    key = "agents-0123456789"
    service = "bedrock-agentcore-control"
    things(aws.account_id, REGION, "bedrock-agentcore", "GetCapacityProvider")[key] = {"name": "agents"}

    assert caller.call(service, "get_capacity_provider", capacityProviderId=key)["name"] == "agents"
    assert aws.gate.calls[-1].action == "GetCapacityProvider"
    with pytest.raises(RefusedError, match="ResourceNotFoundException"):
        caller.call(service, "get_capacity_provider", capacityProviderId="tools-0123456789")
