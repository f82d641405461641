"""Faults at every call of every source: what cannot be read has failed and is named; what can be is read to its end.

Over the registry: a source that is added joins by itself, once a use in the sandbox shows it something.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.images import own_images
from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.aws.references.source import Reference, Source, SourceQuery
from gpu_ami.cleanup.decide import find_blocks
from gpu_ami.cleanup.inventory import Location, SourceState, query_source
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.gate import Gate
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.factory import Maker
from gpu_ami_sandbox.demo.rare_uses import RARE_USES
from gpu_ami_sandbox.demo.uses import USES, Use
from tests.support.account import EVERYTHING, REGION, World, world
from tests.support.fake_caller import FakeCaller

CALLING = [pytest.param(source, id=source.name) for source in SOURCES if source.service]
# It finds nothing by design: it tells of a setting.
SILENT = {"allowed-images"}
# What services call a page token.
TOKENS = ("NextToken", "nextToken", "NextMarker", "nextMarker", "Marker", "marker", "NextPageToken", "PageToken")
# Of an account's hundred AMIs these are queried one by one.
SINGLE = ("running_instance", "launch_permission", "recent_launch")

Answer = dict[str, Any]


def _fleet_override(make: Maker, image: SandboxAmi) -> None:
    specification = {"LaunchTemplateId": make.template("fleet-override", make.filler()), "Version": "1"}
    configs = [{"LaunchTemplateSpecification": specification, "Overrides": [{"ImageId": image.id}]}]
    capacity = {"TotalTargetCapacity": 0, "DefaultTargetCapacityType": "on-demand"}
    make.ec2.create_fleet({}, {}, capacity, configs, "termination", False, False, "maintain", None, None, [])


def _group_override(make: Maker, image: SandboxAmi) -> None:
    base = {"LaunchTemplateId": make.template("group-override", make.filler()), "Version": "$Default"}
    overrides = [{"InstanceType": "g6.xlarge", "ImageId": image.id}]
    policy = {"LaunchTemplate": {"LaunchTemplateSpecification": base, "Overrides": overrides}}
    make.group("group-override", mixed_instances_policy=policy)


def _spot_request(make: Maker, image: SandboxAmi) -> None:
    wanted = {"ImageId": image.id, "InstanceType": "g5.xlarge", "SubnetId": make.location.subnet_id}
    make.ec2.request_spot_instances(
        "1",
        image.id,
        1,
        "one-time",
        None,
        None,
        None,
        None,
        "",
        [],
        None,
        wanted["InstanceType"],
        None,
        None,
        None,
        False,
        make.location.subnet_id,
    )


# Sources that find something only where it is named without a template.
MORE: dict[str, Use] = {
    "fleet_override": _fleet_override,
    "group_override": _group_override,
    "spot_request": _spot_request,
}


@dataclass
class Full:
    """An account with every use there is.

    Attributes:
        here: The account.
        query: A query about all its AMIs.
        clean: What each source finds without any fault, with the calls that it makes.
    """

    here: World
    query: SourceQuery
    clean: dict[str, Clean] = field(default_factory=dict)

    @property
    def gate(self) -> Gate:
        """What lets the faults in."""
        return self.here.aws.gate

    def ask(self, source: Source, caller: Caller | None = None) -> SourceState:
        """Query *source* anew, as the first query of a run does."""
        query = SourceQuery(self.query.images, self.query.selected)
        there = Location(caller or Caller(self.here.access, REGION), self.here.account)
        return query_source(there, source, query)

    def without_fault(self, source: Source) -> Clean:
        """Return what *source* finds without any fault, and which calls it makes."""
        if source.name not in self.clean:
            before = len(self.gate.calls)
            noting = Noting(self.here.access, REGION)
            state = self.ask(source, noting)
            made = dict.fromkeys((call.service, call.action) for call in self.gate.calls[before:])
            self.clean[source.name] = Clean(state, tuple(made), tuple(dict.fromkeys(noting.made)))
        return self.clean[source.name]


@dataclass(frozen=True)
class Clean:
    """A query without faults.

    Attributes:
        state: What came of it.
        actions: Its different calls: service and operation, as the gate sees them.
        operations: The same, by boto3's names.
    """

    state: SourceState
    actions: tuple[tuple[str, str], ...]
    operations: tuple[tuple[str, str], ...]

    @property
    def found(self) -> set[Reference]:
        """What was found."""
        return set(self.state.references)


class Noting(Caller):
    """A caller that notes which operations are called, by boto3's names."""

    def __init__(self, access: Access, region: str) -> None:
        """Note nothing yet."""
        super().__init__(access, region)
        self.made: list[tuple[str, str]] = []

    def counting(self) -> Caller:
        """Return itself."""
        return self

    def call(self, service: str, operation: str, *, doing: str = "", **parameters: Any) -> Answer:
        """Note it, and let it through."""
        self.made.append((service, operation))
        return super().call(service, operation, doing=doing, **parameters)


@pytest.fixture(scope="module")
def full(aws_server: LocalAws) -> Iterator[Full]:
    """The account; nothing below changes it."""
    patched = pytest.MonkeyPatch()
    from gpu_ami_sandbox.aws.ec2 import images

    patched.setattr(images, "PENDING_S", 0.0)
    here = world(aws_server)
    made = {}
    for number, (name, use) in enumerate((USES | RARE_USES | MORE).items()):
        made[name] = here.image(100 + number)
        use(here.maker, made[name])
    listed = own_images(Caller(here.access, REGION), here.account)
    yield Full(here, SourceQuery(listed, {made[name].id for name in SINGLE}))
    patched.undo()


@pytest.fixture(autouse=True)
def _no_faults(full: Full) -> Iterator[None]:
    yield
    full.gate.clear()


@pytest.mark.parametrize("source", CALLING)
def test_the_account_shows_each_source_something(full: Full, source: Source) -> None:
    """A source that finds nothing anyway would pass every test below."""
    clean = full.without_fault(source)

    assert clean.actions
    assert len(clean.actions) == len(clean.operations)
    assert clean.state.report.status == "ok"
    assert bool(clean.found) is (source.name not in SILENT)


def _cut(gate: Gate, service: str, action: str) -> None:
    gate.cut(service=service, action=action)


def _denied(gate: Gate, service: str, action: str) -> None:
    gate.deny(f"{service}:{action}")


def _broken(gate: Gate, service: str, action: str) -> None:
    gate.fail("InternalFailure", service=service, action=action, status=503)


def _malformed(gate: Gate, service: str, action: str) -> None:
    gate.reply(b"<html><body>Please log in</body></html>", service=service, action=action)


def _cut_off(gate: Gate, service: str, action: str) -> None:
    gate.reply(b'{"Rows": [{"Id": "ami-', service=service, action=action)


def _starved(gate: Gate, service: str, action: str) -> None:
    gate.fail("ThrottlingException", "Rate exceeded", service=service, action=action)


pytestmark = pytest.mark.usefixtures("clock")


@pytest.mark.parametrize("fault", [_cut, _denied, _broken, _malformed, _cut_off, _starved])
@pytest.mark.parametrize("source", CALLING)
def test_a_source_that_cannot_read_all_of_its_calls_has_failed(
    full: Full, source: Source, fault: Callable[[Gate, str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call in its turn, whatever goes wrong with it: no part of an answer is taken for the whole."""
    monkeypatch.setattr("gpu_ami.aws.caller._STARVED_S", 0.0)
    for service, action in full.without_fault(source).actions:
        full.gate.clear()
        fault(full.gate, service, action)

        state = full.ask(source)

        assert (state.report.status, list(state.references)) == ("failed", []), action
        assert state.report.error
        assert (state.report.denied == f"{service}:{action}") is (fault is _denied), action
        # And so nothing is deleted, and the source is named.
        (line,) = find_blocks([state.report], EVERYTHING)
        assert line.startswith(f"{source.name} ({REGION} {full.here.account}) could not be read: ")


@pytest.mark.parametrize("source", CALLING)
def test_throttling_is_waited_out_at_every_call(full: Full, source: Source) -> None:
    """A busy account is no reason to miss anything, nor to keep everything."""
    for service, action in full.without_fault(source).actions:
        full.gate.clear()
        for at in (1, 2):
            full.gate.fail("ThrottlingException", "Rate exceeded", service=service, action=action, at=at)

        state = full.ask(source)

        assert state.report.status == "ok", (action, state.report.error)
        assert set(state.references) == full.without_fault(source).found


class Between(Caller):
    """A caller that changes the answers of one operation before its source sees them.

    Attributes:
        tokens: What the operation calls its page token, in the request and in the answer; None where it has no pages.
        is_changed: Whether an answer was another than AWS's: one without any list is of no other kind.
    """

    def __init__(self, full: Full, service: str, operation: str, change: Callable[..., Answer]) -> None:
        """Let all other operations through; *change* gets the tokens, how to ask AWS, and the parameters."""
        super().__init__(full.here.access, REGION)
        self._service, self._operation, self._change = service, operation, change
        self.tokens = self._tokens()
        self.is_changed = False

    def counting(self) -> Caller:
        """Return itself."""
        return self

    def call(self, service: str, operation: str, *, doing: str = "", **parameters: Any) -> Answer:
        """Answer as AWS does, or as the change does."""
        ask = functools.partial(super().call, service, operation, doing=doing)
        if (service, operation) != (self._service, self._operation):
            return ask(**parameters)
        said: list[Answer] = []

        def noting(**given: Any) -> Answer:
            said.append(ask(**given))
            return dict(said[-1])

        answer = self._change(self.tokens, noting, parameters)
        self.is_changed |= answer not in said
        return answer

    def _tokens(self) -> tuple[str, str] | None:
        client = self.access.client(self._service, region=REGION, retries=False)
        model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[self._operation])
        given, got = (
            [name for name in TOKENS if shape is not None and name in shape.members]
            for shape in (model.input_shape, model.output_shape)
        )
        return (given[0], got[0]) if given and got else None


def _emptied(answer: Mapping[str, Any]) -> Answer:
    return {key: [] if isinstance(value, list) else value for key, value in answer.items()}


def _repeating(paged: tuple[str, str] | None, ask: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
    if paged is None:
        return ask(**parameters)
    parameters.pop(paged[0], None)
    return {**ask(**parameters), paged[1]: "again"}


def _with_empty_pages(paged: tuple[str, str] | None, ask: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
    """Answer with an empty page, the whole, and an empty page again."""
    if paged is None:
        return ask(**parameters)
    token = parameters.pop(paged[0], None)
    answer = {key: value for key, value in ask(**parameters).items() if key != paged[1]}
    following = {None: "second", "second": "third"}.get(token)
    shown = answer if token == "second" else _emptied(answer)
    return {**shown, paged[1]: following} if following else shown


def _empty(_paged: object, _ask: object, _parameters: object) -> Answer:
    return {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}


def _of_another_kind(_paged: object, ask: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
    """Answer with lists of texts where AWS has rows, and of rows where it has texts."""
    return {
        key: [{}]
        if isinstance(value, list) and isinstance(next(iter(value), None), str)
        else ["nonsense"]
        if isinstance(value, list)
        else value
        for key, value in ask(**parameters).items()
    }


@pytest.mark.parametrize("source", CALLING)
def test_empty_pages_are_no_end(full: Full, source: Source) -> None:
    """AWS promises no rows on a page: some services filter after they have counted."""
    for service, operation in full.without_fault(source).operations:
        state = full.ask(source, Between(full, service, operation, _with_empty_pages))

        assert state.report.status == "ok", (operation, state.report.error)
        assert set(state.references) == full.without_fault(source).found, operation


@pytest.mark.parametrize("source", CALLING)
def test_a_page_token_that_repeats_is_no_end(full: Full, source: Source) -> None:
    """Nobody knows what is behind it; a source that does not ask for the next page at all would miss it, too."""
    for service, operation in full.without_fault(source).operations:
        between = Between(full, service, operation, _repeating)
        if between.tokens is None:
            continue

        state = full.ask(source, between)

        assert (state.report.status, list(state.references)) == ("failed", []), operation
        assert "repeats" in str(state.report.error), operation


@pytest.mark.parametrize("change", [_empty, _of_another_kind])
@pytest.mark.parametrize("source", CALLING)
def test_an_answer_without_what_it_always_has_is_no_answer(
    full: Full, source: Source, change: Callable[..., Answer]
) -> None:
    """A member that is absent, or is something else, says nothing: that is not the same as that nothing is there."""
    for service, operation in full.without_fault(source).operations:
        between = Between(full, service, operation, change)
        state = full.ask(source, between)

        # What is shown one by one has lists that nobody reads, such as targets.
        if between.is_changed and (change is _empty or between.tokens):
            assert (state.report.status, list(state.references)) == ("failed", []), operation


class _Nowhere(FakeCaller):
    """A region where no name resolves; the public list of services can be read."""

    def call(self, service: str, operation: str, *, doing: str = "", **parameters: Any) -> Answer:
        if operation == "get_parameters_by_path":
            return {"Parameters": [{"Value": "elsewhere"}]}
        msg = f"{service}: no answer: Could not connect to the endpoint URL"
        raise UnansweredError(msg)


@pytest.mark.parametrize("source", CALLING)
def test_a_region_without_the_service_is_skipped_by_the_public_list(full: Full, source: Source) -> None:
    """No region has all of them; only AWS's list says which."""
    query = SourceQuery(full.query.images, full.query.selected)

    report = query_source(Location(_Nowhere({}, REGION), full.here.account), source, query).report

    assert report.status == "skipped"
    assert f"{source.service} does not exist in {REGION}" in str(report.error)
