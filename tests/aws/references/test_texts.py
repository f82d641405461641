"""Mentions in texts: every value that can name an AMI, what comes masked or cut, what is read again, and no secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gpu_ami.aws.caller import RefusedError, UnansweredError
from gpu_ami.aws.references.lambda_functions import LambdaFunctions
from gpu_ami.aws.references.maintenance_windows import MaintenanceWindows
from gpu_ami.aws.references.registry import USES
from gpu_ami.aws.references.schedules import Schedules
from gpu_ami.aws.references.source import Found, Source, SourceQuery
from gpu_ami.aws.references.stacks import Stacks
from gpu_ami.aws.references.state_machines import StateMachines
from gpu_ami.errors import AwsError
from tests.support.fake_caller import FakeCaller, Script

TEXTS: tuple[Source, ...] = (Stacks(), LambdaFunctions(), StateMachines(), Schedules(), MaintenanceWindows())
SECRET = "hunter2-the-password"
NOBODY: Script = {
    "describe_stacks": [{"Stacks": []}],
    "list_functions": [{"Functions": []}],
    "list_state_machines": [{"stateMachines": []}],
    "list_schedules": [{"Schedules": []}],
    "describe_maintenance_windows": [{"WindowIdentities": []}],
}


def _ami(number: int) -> str:
    return f"ami-{number:017x}"


def _find(source: Source, script: Script, query: SourceQuery | None = None) -> Found:
    return source.find(FakeCaller(script), query or SourceQuery())


def _said(found: Found) -> dict[str, str]:
    return {reference.target: reference.detail for reference in found.references}


def _fails(source: Source, script: Script) -> str:
    with pytest.raises(AwsError) as caught:
        _find(source, script)
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("source", TEXTS, ids=lambda source: source.name)
def test_a_service_that_is_not_used_costs_one_call(source: Source) -> None:
    """Most accounts have none of some of these, in each of their regions."""
    caller = FakeCaller(NOBODY)

    found = source.find(caller, SourceQuery())

    assert not [*found.references, *found.notes]
    assert caller.calls == 1


@pytest.mark.parametrize("source", TEXTS, ids=lambda source: source.name)
def test_a_mention_is_no_proof_that_uses_are_seen(source: Source) -> None:
    """An id in a text may be about anything: it keeps its AMI, and may be left out."""
    assert not source.is_use
    assert not source.is_essential
    assert type(source) in {type(known) for known in USES}, "texts of other accounts are read, too"


# --- stacks


def _stack(name: str = "s", status: str = "CREATE_COMPLETE", **more: Any) -> dict[str, Any]:
    return {"StackName": name, "StackStatus": status, **more}


def _parameter(key: str, value: str, **more: Any) -> dict[str, Any]:
    return {"ParameterKey": key, "ParameterValue": value, **more}


def test_parameters_resolved_values_and_outputs_of_stacks_count() -> None:
    """A stack that is updated or rolled back launches what its values say; the reason names them, never a value."""
    rows = [
        _stack("plain", Parameters=[_parameter("Image", f"{_ami(1)},{_ami(2)}"), _parameter("Key", SECRET)]),
        _stack("open", Parameters=[_parameter("Principal", "*")]),
        _stack("ssm", Parameters=[_parameter("Image", "/golden", ResolvedValue=_ami(3))]),
        _stack("out", Outputs=[{"OutputKey": "Image", "OutputValue": json.dumps({"r": _ami(4).upper()})}]),
        _stack("neither", Description=_ami(5), Tags=[{"Key": "image", "Value": _ami(6)}]),
    ]

    found = _find(Stacks(), {"describe_stacks": [{"Stacks": rows}]})

    assert _said(found) == {
        _ami(1): "stack plain: parameter Image",
        _ami(2): "stack plain: parameter Image",
        _ami(3): "stack ssm: parameter Image, resolved",
        _ami(4): "stack out: output Image",
    }
    assert found.notes == []


def test_stacks_count_in_every_state_but_deleted() -> None:
    """A failed or rolled-back stack has the values that its next update goes on from; nested ones are stacks."""
    states = ["CREATE_FAILED", "ROLLBACK_COMPLETE", "DELETE_FAILED", "REVIEW_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]
    rows = [
        _stack(state, state, ParentId="arn:root", Parameters=[_parameter("Image", _ami(n))])
        for n, state in enumerate([*states, "DELETE_COMPLETE"])
    ]
    pages: Any = [{"Stacks": rows[:2], "NextToken": "a"}, {"Stacks": [], "NextToken": "b"}, {"Stacks": rows[2:]}]

    assert sorted(_said(_find(Stacks(), {"describe_stacks": pages}))) == [_ami(n) for n in range(len(states))]


def test_masked_parameters_are_said_once_and_are_no_failure() -> None:
    """NoEcho is in every second stack; nobody can read such a value, and AMI ids are seldom secret."""
    masked = [_parameter("Password", "****"), _parameter("Secret", "/x", ResolvedValue="*****")]
    rows = [_stack(f"s{n}", Parameters=[*masked, _parameter("Image", _ami(n))]) for n in range(3)]

    found = _find(Stacks(), {"describe_stacks": [{"Stacks": rows}]})

    assert found.notes == ["NoEcho parameters of stacks come masked and were not read"]
    assert len(_said(found)) == 3


def test_the_values_before_an_update_are_said_not_to_be_seen() -> None:
    """Whichever values AWS shows meanwhile, the stack may end with the others: a reader should know."""
    rows = [_stack("a", "UPDATE_IN_PROGRESS"), _stack("b", "UPDATE_ROLLBACK_IN_PROGRESS"), _stack("c")]

    (note,) = _find(Stacks(), {"describe_stacks": [{"Stacks": rows}]}).notes

    assert "update is under way" in note


@pytest.mark.parametrize(
    "more",
    [
        {"Parameters": [{"ParameterKey": "Image"}]},
        {"Outputs": [{"OutputKey": "Image"}]},
        {"Parameters": [{"ParameterKey": "Image", "ParameterValue": 7}]},
    ],
)
def test_a_value_that_is_missing_has_failed_by_the_name_of_its_stack(more: dict[str, Any]) -> None:
    """A cut answer must not look like a stack that names nothing."""
    rows = [_stack("other", Parameters=[_parameter("Password", SECRET)]), _stack("cut", **more)]

    assert "stack cut: " in _fails(Stacks(), {"describe_stacks": [{"Stacks": rows}]})


def test_a_stack_with_two_hundred_parameters_is_read_to_its_end() -> None:
    """CloudFormation's limit."""
    rows = [_stack(Parameters=[_parameter(f"p{n}", _ami(n)) for n in range(200)])]

    assert len(_said(_find(Stacks(), {"describe_stacks": [{"Stacks": rows}]}))) == 200


# --- Lambda functions


def _function(name: str, variables: dict[str, str] | None = None, version: str = "$LATEST") -> dict[str, Any]:
    environment = {} if variables is None else {"Environment": {"Variables": variables}}
    return {"FunctionName": name, "Version": version, **environment}


def _functions(*rows: dict[str, Any]) -> Script:
    return {"list_functions": [{"Functions": list(rows)}]}


def test_variables_of_functions_and_their_versions_count() -> None:
    """An alias may lead to an old version. Variables are called as people like, so also like tags and user data."""
    rows = [
        _function("launch", {"AMI": _ami(1), "TOKEN": SECRET}),
        _function("launch", {"AMI": _ami(2)}, "7"),
        _function("boot", {"UserData": f"#!/bin/sh\naws ec2 run-instances --image-id {_ami(3)}", "Tags": _ami(4)}),
        _function("plain"),
        _function("empty", {}),
    ]
    caller = FakeCaller(_functions(*rows))

    assert _said(LambdaFunctions().find(caller, SourceQuery())) == {
        _ami(1): "Lambda function launch: variable AMI",
        _ami(2): "Lambda function launch version 7: variable AMI",
        _ami(3): "Lambda function boot: variable UserData",
        _ami(4): "Lambda function boot: variable Tags",
    }
    assert caller.requests == [("list_functions", {"FunctionVersion": "ALL"})]


def test_five_thousand_functions_are_read_page_by_page() -> None:
    """Lambda shows 50 at a time; its page token has two names. A page in the middle may be empty."""
    rows = [_function(f"f{n}", {"AMI": _ami(n)}) for n in range(5000)]

    def page(FunctionVersion: str, Marker: str = "0") -> dict[str, Any]:  # noqa: N803 - AWS's names
        assert FunctionVersion == "ALL"
        number = int(Marker)
        shown = [] if number == 50 else rows[(number - (number > 50)) * 50 :][:50]
        return {"Functions": shown} | ({"NextMarker": str(number + 1)} if number < 100 else {})

    assert len(_said(_find(LambdaFunctions(), {"list_functions": page}))) == 5000


def test_encrypted_variables_have_failed_by_the_name_of_the_function() -> None:
    """Lambda puts an error in the place of what it may not decrypt for the caller; its words may hold anything."""
    masked = {"Error": {"ErrorCode": "AccessDeniedException", "Message": f"no access to {SECRET}"}}
    rows = [
        _function("open", {"AMI": _ami(1)}),
        *({**_function(f"f{n}", None, version), "Environment": masked} for n, version in enumerate(["$LATEST", "3"])),
    ]

    said = _fails(LambdaFunctions(), _functions(*rows))

    assert "Lambda function f0, f1 version 3: the variables come encrypted (AccessDeniedException)" in said
    assert "kms:Decrypt" in said
    assert "name lambda-functions in cleanup.skip_sources" in said


@pytest.mark.parametrize(
    "environment",
    [{}, {"Variables": None}, {"Variables": {"A": 7}}, {"Variables": ["A"]}, {"Error": {}}],
)
def test_an_environment_without_variables_has_failed(environment: dict[str, Any]) -> None:
    """Only a function without any environment has no variables."""
    rows = [_function("open", {"TOKEN": SECRET}), {**_function("cut"), "Environment": environment}]

    assert "Lambda function cut: " in _fails(LambdaFunctions(), _functions(*rows))


# --- state machines


def _definition(*amis: str) -> str:
    return json.dumps({"StartAt": "a", "States": {"a": {"Type": "Pass", "Result": list(amis), "End": True}}})


class Machines:
    """Step Functions with some machines; it notes what was read."""

    def __init__(self, *names: str) -> None:
        """Have machines of these names and no versions."""
        self.described: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, list[str]] = {}
        self.rows = [{"stateMachineArn": f"arn:{name}", "name": name, "creationDate": "c"} for name in names]
        self.caller = FakeCaller(
            {
                "list_state_machines": lambda **_: {"stateMachines": self.rows},
                "list_state_machine_versions": self._versions,
                "describe_state_machine": self._describe,
            }
        )

    def define(self, arn: str, text: str | None, revision: str | None = "1") -> None:
        """Give a machine or a version its definition."""
        self.described[arn] = {"definition": text, "revisionId": revision}

    def _versions(self, stateMachineArn: str, maxResults: int) -> dict[str, Any]:  # noqa: N803 - AWS's names
        assert maxResults == 1000
        arns = self.versions.get(stateMachineArn, [])
        return {"stateMachineVersions": [{"stateMachineVersionArn": arn, "creationDate": "v"} for arn in arns]}

    def _describe(self, stateMachineArn: str) -> dict[str, Any]:  # noqa: N803 - AWS's names
        if stateMachineArn not in self.described:
            msg = f"StateMachineDoesNotExist: {stateMachineArn}"
            raise RefusedError(msg, "StateMachineDoesNotExist")
        return self.described[stateMachineArn]

    def read(self, query: SourceQuery) -> dict[str, str]:
        """Query the source."""
        self.caller.requests.clear()
        return _said(StateMachines().find(self.caller, query))

    def requested(self, operation: str) -> list[str]:
        """Return the ARNs for which *operation* was called by the last query."""
        return sorted(given["stateMachineArn"] for name, given in self.caller.requests if name == operation)


def test_definitions_of_state_machines_and_their_versions_count() -> None:
    """Whatever starts a version launches what it says, long after the machine moved on."""
    aws = Machines("render", "gone")
    aws.define("arn:render", _definition(_ami(1), json.dumps({"input": json.dumps({"ImageId": _ami(2).upper()})})))
    aws.define("arn:render:4", _definition(_ami(3), "ami-12345678", "ami-123456789"))
    aws.versions["arn:render"] = ["arn:render:5", "arn:render:4"]

    assert aws.read(SourceQuery()) == {
        _ami(1): "state machine render: definition",
        _ami(2): "state machine render: definition",
        _ami(3): "state machine render version 4: definition",
        "ami-12345678": "state machine render version 4: definition",
    }


def test_a_second_query_reads_what_can_have_changed() -> None:
    """The listing has no stamp, so each machine is read again; versions only where a revision may have brought one."""
    aws, query = Machines("a", "b", "old"), SourceQuery()
    for name in "ab":
        aws.define(f"arn:{name}", _definition(_ami(1)))
    aws.define("arn:old", _definition(_ami(1)), None)  # it was never updated
    aws.versions["arn:a"] = ["arn:a:1"]
    aws.define("arn:a:1", _definition(_ami(2)))
    first = aws.read(query)

    aws.define("arn:b", _definition(_ami(3)), "2")
    aws.versions["arn:b"] = ["arn:b:1"]
    aws.define("arn:b:1", _definition(_ami(4)))
    second = aws.read(query)

    assert sorted(first) == [_ami(1), _ami(2)]
    assert sorted(second) == [_ami(n) for n in (1, 2, 3, 4)]
    assert aws.requested("describe_state_machine") == ["arn:a", "arn:b", "arn:b:1", "arn:old"]
    assert aws.requested("list_state_machine_versions") == ["arn:b"]


@pytest.mark.parametrize("revision", ["1", None])
def test_a_definition_that_is_another_has_versions_of_its_own(revision: str | None) -> None:
    """Whatever AWS calls its revision."""
    aws, query = Machines("a"), SourceQuery()
    aws.define("arn:a", _definition(_ami(1)), revision)
    assert sorted(aws.read(query)) == [_ami(1)]

    aws.define("arn:a", _definition(_ami(2)), revision)
    aws.define("arn:a:1", _definition(_ami(3)))
    aws.versions["arn:a"] = ["arn:a:1"]

    assert sorted(aws.read(query)) == [_ami(2), _ami(3)]


def test_a_version_that_is_not_shown_yet_is_read_the_next_time() -> None:
    """Step Functions is eventually consistent: "does not exist" may be a matter of a second."""
    aws, query = Machines("a"), SourceQuery()
    aws.define("arn:a", _definition())
    aws.versions["arn:a"] = ["arn:a:1"]
    assert aws.read(query) == {}

    aws.define("arn:a:1", _definition(_ami(2)))

    assert sorted(aws.read(query)) == [_ami(2)]


def test_a_machine_that_is_gone_needs_nothing_any_more() -> None:
    """Its memory goes with it; one that takes its name is another."""
    aws, query = Machines("a"), SourceQuery()
    aws.define("arn:a", _definition(_ami(1)))
    assert sorted(aws.read(query)) == [_ami(1)]

    aws.rows[0]["creationDate"] = "later"
    aws.define("arn:a", _definition(_ami(2)))
    assert sorted(aws.read(query)) == [_ami(2)]
    aws.described.clear()
    assert aws.read(query) == {}


@pytest.mark.parametrize(
    "text", ["{}", "", None, "[]", '"States"', _definition(SECRET)[:-1], f'{{"Comment": "{SECRET}"}}', "\ud800"]
)
@pytest.mark.parametrize("where", ["arn:a", "arn:a:1"])
def test_a_masked_or_cut_definition_has_failed_by_the_name_of_its_machine(text: str | None, where: str) -> None:
    """Step Functions answers ``{}`` where it shows no definition; half of one may lack the half that names an AMI."""
    aws = Machines("a")
    aws.define("arn:a", _definition(_ami(1)))
    aws.define("arn:a:1", _definition(_ami(1)))
    aws.versions["arn:a"] = ["arn:a:1"]
    aws.define(where, text)

    with pytest.raises(UnansweredError, match=r"state machine a.*masked or cut off") as caught:
        aws.read(SourceQuery())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("code", ["KmsAccessDeniedException", "KmsInvalidStateException", "AccessDeniedException"])
def test_a_definition_that_may_not_be_decrypted_has_failed_by_the_name_of_its_machine(code: str) -> None:
    """The key is named by AWS, the machine by us, and what kind of refusal it is stays known."""
    script = NOBODY | {
        "list_state_machines": [{"stateMachines": [{"stateMachineArn": "arn:a", "name": "a", "creationDate": "c"}]}],
        "describe_state_machine": [RefusedError(f"stepfunctions:DescribeStateMachine in r: {code}: no.", code)],
    }

    with pytest.raises(RefusedError, match=r"^state machine a: stepfunctions:DescribeStateMachine") as caught:
        _find(StateMachines(), script)
    assert caught.value.code == code
    assert caught.value.is_denied is (code == "AccessDeniedException")
    assert ("name state-machines in cleanup.skip_sources" in str(caught.value)) is code.startswith("Kms")


@pytest.mark.parametrize("code", ["StateMachineDoesNotExist", "InvalidArn", "ValidationException"])
def test_a_machine_that_goes_while_its_versions_are_listed_is_not_remembered(code: str) -> None:
    """The listing has no code for it, so whether it is there the machine itself says. The next query looks again."""
    aws, query = Machines("a"), SourceQuery()
    aws.define("arn:a", _definition(_ami(1)))
    aws.define("arn:a:1", _definition(_ami(2)))
    script = aws.caller._script
    own = script["list_state_machine_versions"]

    def gone(**_: Any) -> dict[str, Any]:
        del aws.described["arn:a"]
        raise RefusedError(code, code)

    script["list_state_machine_versions"] = gone
    assert aws.read(query) == {}
    assert query.memory["machines"] == {}

    script["list_state_machine_versions"] = own
    aws.define("arn:a", _definition(_ami(1)))
    aws.versions["arn:a"] = ["arn:a:1"]
    assert sorted(aws.read(query)) == [_ami(1), _ami(2)]


@pytest.mark.parametrize("code", ["StateMachineDoesNotExist", "InvalidArn", "ValidationException", "AccessDenied"])
def test_versions_that_are_refused_of_a_machine_that_is_there_have_failed(code: str) -> None:
    """Whatever the code, an alias may lead to a version that nobody has seen."""
    aws, query = Machines("a"), SourceQuery()
    aws.define("arn:a", _definition(_ami(1)))
    aws.caller._script["list_state_machine_versions"] = [RefusedError(code, code)]

    with pytest.raises(RefusedError, match=r"^state machine a: "):
        aws.read(query)
    assert not query.memory["machines"]


def test_a_definition_of_a_megabyte_is_read_to_its_end() -> None:
    """The largest that Step Functions takes."""
    aws = Machines("a")
    aws.define("arn:a", _definition("x" * (1024 * 1024 - 200), _ami(1)))

    assert sorted(aws.read(SourceQuery())) == [_ami(1)]


def test_an_empty_page_of_machines_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page token says whether there is more."""
    aws = Machines("a")
    aws.define("arn:a", _definition(_ami(1)))
    pages: Any = [{"stateMachines": [], "nextToken": "x"}, {"stateMachines": aws.rows}]
    monkeypatch.setitem(aws.caller._script, "list_state_machines", pages)

    assert sorted(aws.read(SourceQuery())) == [_ami(1)]


# --- schedules


class Scheduler:
    """EventBridge Scheduler with some schedules; it notes what was read."""

    def __init__(self) -> None:
        """Have none."""
        self.rows: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, Any] | Exception] = {}
        self.caller = FakeCaller({"list_schedules": self._list, "get_schedule": self._get})

    def add(self, name: str, group: str = "default", stamp: object = 1, **target: Any) -> None:
        """Make a schedule with a target; anything may stand in for the target's ARN."""
        self.rows = [row for row in self.rows if row["Name"] != name]
        self.rows.append({"Name": name, "GroupName": group, "LastModificationDate": stamp})
        self.answers[name] = {"Target": {"Arn": "arn:target", "RoleArn": "arn:role", **target}}

    def _list(self, MaxResults: int) -> dict[str, Any]:  # noqa: N803 - AWS's names
        assert MaxResults == 100
        return {"Schedules": self.rows}

    def _get(self, GroupName: str, Name: str) -> dict[str, Any]:  # noqa: N803 - AWS's names
        answer = self.answers.get(Name, RefusedError(f"no schedule {GroupName}/{Name}", "ResourceNotFoundException"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read(self, query: SourceQuery | None = None) -> dict[str, str]:
        """Query the source."""
        self.caller.requests.clear()
        return _said(Schedules().find(self.caller, query or SourceQuery()))


def test_inputs_of_schedules_count() -> None:
    """A schedule launches by itself: no template, no group, no instance until it strikes."""
    aws = Scheduler()
    aws.add("nightly", Input=json.dumps({"ImageId": _ami(1), "Token": SECRET}))
    aws.add("weekly", "video", Input=json.dumps({"Input": json.dumps({"ami": _ami(2).upper()})}))
    aws.add("train", SageMakerPipelineParameters={"PipelineParameterList": [{"Name": "Image", "Value": _ami(3)}]})
    constraint = {"type": "memberOf", "expression": f"attribute:ecs.ami-id == {_ami(4)}"}
    aws.add("task", EcsParameters={"PlacementConstraints": [constraint], "Tags": [{"image": _ami(5)}]})
    aws.add("default event")

    assert aws.read() == {
        _ami(1): "schedule nightly: Target.Input",
        _ami(2): "schedule video/weekly: Target.Input",
        _ami(3): "schedule train: Target.SageMakerPipelineParameters.PipelineParameterList[0].Value",
        _ami(4): "schedule task: Target.EcsParameters.PlacementConstraints[0].expression",
    }


def test_a_second_query_reads_only_schedules_that_changed() -> None:
    """There may be a million of them; one without a stamp, or not shown yet, is read again."""
    aws, query = Scheduler(), SourceQuery()
    for number, name in enumerate(["same", "moved", "late"]):
        aws.add(name, Input=_ami(number))
    aws.add("undated", stamp=None, Input=_ami(7))
    late = aws.answers.pop("late")
    assert sorted(aws.read(query)) == [_ami(0), _ami(1), _ami(7)]

    aws.add("moved", stamp=2, Input=_ami(9))
    aws.answers["late"] = late

    assert sorted(aws.read(query)) == [_ami(0), _ami(2), _ami(7), _ami(9)]
    assert sorted(given["Name"] for name, given in aws.caller.requests if name == "get_schedule") == [
        "late",
        "moved",
        "undated",
    ]


@pytest.mark.parametrize("answer", [{}, {"Target": {}}, {"Target": {"Input": SECRET}}, {"Target": SECRET}])
def test_a_schedule_without_its_target_has_failed_by_name(answer: dict[str, Any]) -> None:
    """Each has one with an ARN; without it the answer is a part of one."""
    aws = Scheduler()
    aws.add("cut", "video")
    aws.answers["cut"] = answer

    with pytest.raises(UnansweredError, match=r"schedule video/cut: .*target") as caught:
        aws.read()
    assert SECRET not in str(caught.value)


def test_a_schedule_that_may_not_be_decrypted_has_failed_by_name() -> None:
    """AWS refuses the whole schedule."""
    aws = Scheduler()
    aws.add("secret")
    aws.answers["secret"] = RefusedError("not authorized to perform: kms:Decrypt", "AccessDeniedException")

    with pytest.raises(RefusedError, match=r"^schedule secret: .*kms:Decrypt") as caught:
        aws.read()
    assert caught.value.is_denied


# --- maintenance windows


def _windows(**tasks: dict[str, Any] | Exception) -> Script:
    """Return an SSM with one window of tasks, by their ids, and one that was deleted meanwhile."""

    def list_tasks(WindowId: str, MaxResults: int) -> dict[str, Any]:  # noqa: N803 - AWS's names
        assert MaxResults == 100
        if WindowId != "mw-1":
            raise RefusedError(WindowId, "DoesNotExistException")
        return {"Tasks": [{"WindowTaskId": name, "Name": name} for name in tasks]}

    def get(WindowId: str, WindowTaskId: str) -> dict[str, Any]:  # noqa: N803 - AWS's names
        answer = tasks[WindowTaskId]
        if isinstance(answer, Exception):
            raise answer
        return {"WindowId": WindowId, "WindowTaskId": WindowTaskId, **answer}

    windows = [{"WindowId": "mw-0", "Name": "gone"}, {"WindowId": "mw-1", "Name": "patching"}]
    return {
        "describe_maintenance_windows": [{"WindowIdentities": windows}],
        "describe_maintenance_window_tasks": list_tasks,
        "get_maintenance_window_task": get,
    }


def _passes(**kinds: Any) -> dict[str, Any]:
    return {"TaskInvocationParameters": kinds}


def test_whatever_a_maintenance_window_passes_to_a_task_counts() -> None:
    """A runbook that makes the next AMI starts from the one in its parameters, which are called as people like."""
    script = _windows(
        runbook=_passes(Automation={"Parameters": {"SourceAmiId": [_ami(1)], "Tags": [_ami(2)], "Key": [SECRET]}}),
        command=_passes(RunCommand={"Parameters": {"commands": [f"aws ec2 run-instances --image-id {_ami(3)}"]}}),
        machine=_passes(StepFunctions={"Input": json.dumps({"ami": _ami(4)}), "Name": "n"}),
        function=_passes(Lambda={"Payload": json.dumps({"ami": _ami(5)}).encode() + b"\xff"}),
        early={"TaskParameters": {"image": {"Values": [_ami(6)]}}},
        plain={},
        gone=RefusedError("gone", "DoesNotExistException"),
    )

    said = _said(_find(MaintenanceWindows(), script))

    assert sorted(said) == [_ami(n) for n in range(1, 7)]
    automation = "TaskInvocationParameters.Automation.Parameters.SourceAmiId[0]"
    assert said[_ami(1)] == f"maintenance window patching task runbook: {automation}"


@pytest.mark.parametrize("answer", [{"WindowTaskId": None}, {"WindowTaskId": "another"}])
def test_an_answer_that_is_not_the_task_has_failed_by_name(answer: dict[str, Any]) -> None:
    """A task may have no parameters, so that it is the task shows by its id."""
    said = _fails(MaintenanceWindows(), _windows(runbook=answer))

    assert "maintenance window patching task runbook" in said


def test_a_task_that_may_not_be_read_has_failed_by_name() -> None:
    """The code stays: a denial is a denial."""
    script = _windows(runbook=RefusedError("denied", "AccessDeniedException"))

    with pytest.raises(RefusedError, match=r"^maintenance window patching task runbook: denied") as caught:
        _find(MaintenanceWindows(), script)
    assert caught.value.is_denied


# --- parameters that stand for ids


PARAMETER = "/golden/render:3"


class Ssm:
    """SSM with one version of a parameter; it notes what was requested."""

    def __init__(self, value: str) -> None:
        """Have it hold *value*."""
        self.value = value
        self.asked: list[list[str]] = []
        self.refused: dict[str, str] = {}

    def get(self, Names: list[str], WithDecryption: bool) -> dict[str, Any]:  # noqa: N803 - AWS's names
        """Answer GetParameters, which refuses all for one."""
        assert not WithDecryption
        self.asked.append(Names)
        for name in Names:
            if name in self.refused:
                raise RefusedError(name, self.refused[name])
        row = {"Name": "/golden/render", "Selector": ":3", "Value": self.value, "Version": 3}
        return {
            "Parameters": [row] if PARAMETER in Names else [],
            "InvalidParameters": [name for name in Names if name != PARAMETER],
        }


def _with_text(source: Source, text: str) -> Script:
    """Return an AWS in which what *source* reads has *text* in it."""
    if isinstance(source, Stacks):
        return {"describe_stacks": [{"Stacks": [_stack(Parameters=[_parameter("Image", text)])]}]}
    if isinstance(source, LambdaFunctions):
        return _functions(_function("f", {"AMI": text}))
    if isinstance(source, StateMachines):
        aws = Machines("m")
        aws.define("arn:m", _definition(text))
        return aws.caller._script
    if isinstance(source, Schedules):
        aws_scheduler = Scheduler()
        aws_scheduler.add("s", Input=json.dumps({"ImageId": text}))
        return aws_scheduler.caller._script
    return _windows(runbook=_passes(Automation={"Parameters": {"Image": [text]}}))


@pytest.mark.parametrize(
    "text",
    [
        f"resolve:ssm:{PARAMETER}",
        f"{{{{resolve:ssm:{PARAMETER}}}}}",
        f"{{{{ ssm:{PARAMETER} }}}}",
        json.dumps({"LaunchTemplateData": {"ImageId": f"resolve:ssm:{PARAMETER}"}}),
        f"launches resolve:ssm:{PARAMETER}. Then it waits.",
        f"resolve:ssm:{PARAMETER}".replace("/", "\\/"),
    ],
)
@pytest.mark.parametrize("source", TEXTS, ids=lambda source: source.name)
def test_a_parameter_in_a_text_stands_for_what_it_says_now(source: Source, text: str) -> None:
    """Its version or label need not be the newest, and that is all that `parameters` reads."""
    ssm, query = Ssm(json.dumps({"ami": _ami(7), "key": SECRET})), SourceQuery()
    script = _with_text(source, text) | {"get_parameters": ssm.get}

    first = source.find(FakeCaller(script), query)
    ssm.value = _ami(8)
    second = source.find(FakeCaller(script), query)

    assert ([use.target for use in first.references], first.notes) == ([_ami(7)], [])
    assert first.references[0].source == source.name
    assert first.references[0].detail.endswith(f", SSM parameter {PARAMETER}") or ". Then" in text
    assert [use.target for use in second.references] == [_ami(8)], "a parameter may move while the text stays"
    assert SECRET not in repr([first, query.memory])


@pytest.mark.parametrize("source", TEXTS, ids=lambda source: source.name)
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("/no/such", "", "does not exist"),
        ("/no/such:x:y", "", "does not exist"),
        ("/aws/nothing", "ValidationException", "could not be read (ValidationException)"),
        (
            "arn:aws:ssm:r:210987654321:parameter/x",
            "AccessDeniedException",
            "could not be read (AccessDeniedException)",
        ),
    ],
)
def test_a_name_in_a_text_that_is_none_is_a_note(source: Source, name: str, code: str, said: str) -> None:
    """A text may be about anything. SSM refuses all ten names for one; the others are requested again."""
    ssm = Ssm(_ami(7))
    ssm.refused = {name: code} if code else {}
    script = _with_text(source, f"resolve:ssm:{name} or resolve:ssm:{PARAMETER}, resolve:ssm: and resolve:ssm:${{x}}")

    found = source.find(FakeCaller(script | {"get_parameters": ssm.get}), SourceQuery())

    assert [use.target for use in found.references] == [_ami(7)]
    (note,) = found.notes
    assert note.endswith(f" names the SSM parameter {name}, which {said}")


@pytest.mark.parametrize("source", TEXTS, ids=lambda source: source.name)
@pytest.mark.parametrize("answer", [UnansweredError("cut off"), {"Parameters": [], "InvalidParameters": []}], ids=str)
def test_a_parameter_that_is_not_answered_has_failed(source: Source, answer: Any) -> None:
    """A name that does not exist is said not to; silence may hide an AMI."""
    script = _with_text(source, f"resolve:ssm:{PARAMETER}") | {"get_parameters": [answer]}

    with pytest.raises(UnansweredError):
        _find(source, script)


# --- what is kept

MEMORIES: dict[str, Callable[[SourceQuery], object]] = {}


def _remembers(function: Callable[[SourceQuery], object]) -> Callable[[SourceQuery], object]:
    MEMORIES[function.__name__.strip("_")] = function
    return function


@_remembers
def _machines(query: SourceQuery) -> object:
    aws = Machines("a")
    aws.versions["arn:a"] = ["arn:a:1"]
    for arn in ("arn:a", "arn:a:1"):
        aws.define(arn, _definition(_ami(1), SECRET))
    return aws.read(query)


@_remembers
def _schedules(query: SourceQuery) -> object:
    aws = Scheduler()
    aws.add("nightly", Input=json.dumps({"ImageId": _ami(1), "Token": SECRET}))
    return aws.read(query)


@pytest.mark.parametrize("source", MEMORIES)
def test_of_texts_only_ids_are_remembered(source: str) -> None:
    """Definitions and inputs hold secrets; what is not kept can't be written down by mistake."""
    query = SourceQuery()

    MEMORIES[source](query)

    assert _ami(1) in repr(query.memory)
    assert SECRET not in repr(query.memory)
