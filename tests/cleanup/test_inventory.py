"""Querying everything: a source that cannot see is reported, never counted as having seen nothing."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

import pytest

from gpu_ami.aws.caller import RefusedError, UnansweredError
from gpu_ami.aws.images import Image
from gpu_ami.aws.references.beanstalk import BeanstalkConfigurations
from gpu_ami.aws.references.ecs import EcsVolumes
from gpu_ami.aws.references.instances import Instances
from gpu_ami.aws.references.lambda_functions import LambdaFunctions
from gpu_ami.aws.references.registry import LONGEST, USES
from gpu_ami.aws.references.source import Found, Reference, SourceQuery
from gpu_ami.aws.references.stacks import Stacks
from gpu_ami.aws.references.texts import way_round
from gpu_ami.cleanup.decide import SourceReport
from gpu_ami.cleanup.inventory import Location, Survey, in_parallel, query_source
from gpu_ami.cleanup.local_references import LocalSource
from gpu_ami.errors import AwsError
from tests.support.account import EVERYTHING
from tests.support.fake_caller import FakeCaller, Script

DENIED = RefusedError("batch: AccessDeniedException: no", "AccessDeniedException")
NO_HOST = UnansweredError("batch: no answer: Could not connect to the endpoint URL")


class Eyes:
    """A source that shows what it is given."""

    service = "batch"
    is_essential = True
    is_use = True
    reads: tuple[str, ...] = ()

    def __init__(self, name: str, shows: Found | Exception, *, service: str = "batch") -> None:
        """Show *shows*."""
        self.name = name
        self.service = service
        self.shows = shows
        self.queries: list[SourceQuery] = []

    def find(self, caller: Any, query: SourceQuery) -> Found:
        """Return or raise it."""
        self.queries.append(query)
        if isinstance(self.shows, Exception):
            raise self.shows
        return self.shows


def _location(script: Script | None = None, region: str = "here", *, is_own: bool = True) -> Location:
    return Location(FakeCaller(script or {}, region=region), "1", is_own)


def _regions(*names: str) -> Script:
    return {"get_parameters_by_path": [{"Parameters": [{"Value": name} for name in names]}]}


@pytest.mark.parametrize("problem", [DENIED, NO_HOST, KeyError("State")])
def test_a_source_that_cannot_see_has_failed(problem: Exception) -> None:
    """Denied, unreachable, malformed: all of them mean that AMIs may be in use unseen."""
    state = query_source(_location(_regions("here")), Eyes("batch", problem), SourceQuery())

    assert (state.report.status, state.references) == ("failed", ())
    assert state.report.error


@pytest.mark.parametrize("read", ["batch:DescribeWishes wishes[]", "batch:DescribeComputeEnvironments wishes[]"])
def test_a_source_whose_members_botocore_lacks_has_failed(read: str) -> None:
    """Botocore drops a member that it does not know: an old one would find nothing where an AMI is named."""
    eyes = Eyes("batch", Found())
    eyes.reads = ("batch:DescribeComputeEnvironments computeEnvironments[].computeResources.imageId", read)

    state = query_source(_location(), eyes, SourceQuery())

    assert state.report.status == "failed"
    assert read in str(state.report.error)
    assert "upgrade boto3" in str(state.report.error)
    assert not eyes.queries


def test_only_the_public_list_can_say_that_a_service_is_not_there() -> None:
    """In a region without Batch nothing can be in use by Batch."""
    state = query_source(_location(_regions("elsewhere")), Eyes("batch", NO_HOST), SourceQuery())

    assert state.report.status == "skipped"
    assert "does not exist in here" in str(state.report.error)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (_regions("elsewhere"), DENIED),
        ({"get_parameters_by_path": [{"Parameters": []}]}, NO_HOST),
        ({"get_parameters_by_path": [DENIED]}, NO_HOST),
        ({"get_parameters_by_path": [{}]}, NO_HOST),
        ({}, NO_HOST),
    ],
    ids=["denied although absent", "empty list", "list denied", "list cut off", "no list at all"],
)
def test_everything_else_is_a_failure(script: Script, problem: Exception) -> None:
    """A DNS error on this machine is exactly like a missing service."""
    assert query_source(_location(script), Eyes("batch", problem), SourceQuery()).report.status == "failed"


NOT_HERE = [
    ("UnknownOperationException", "The requested operation is not supported in the called region."),
    ("UnknownOperationException", "None"),
    ("InvalidAction", "Operation (X) is not supported in this region"),
    ("UnsupportedOperation", "The functionality you requested is not available in this region."),
    ("UnsupportedOperationException", "This is not supported in this region."),
]


class Lister(Eyes):
    """A source that lists things, and then shows each."""

    def __init__(self, name: str, *, service: str = "sagemaker", is_essential: bool = False) -> None:
        """Be no essential one."""
        super().__init__(name, Found(), service=service)
        self.is_essential = is_essential

    def find(self, caller: Any, query: SourceQuery) -> Found:
        """Return a reference for each thing."""
        self.queries.append(query)
        rows = caller.call("sagemaker", "list_clusters")["ClusterSummaries"]
        return Found([Reference(caller.call("sagemaker", "describe_cluster")["Ami"], self.name, "c") for _ in rows])


def _clusters(*answers: Any, shown: Any = None) -> Script:
    return _regions("here") | {"list_clusters": list(answers), "describe_cluster": [shown or {"Ami": "ami-1"}]}


def _refused(code: str, message: str) -> RefusedError:
    return RefusedError(f"sagemaker:ListClusters in here: {code}: {message}", code)


@pytest.mark.parametrize(("code", "message"), NOT_HERE)
def test_what_cannot_be_listed_in_a_region_is_not_there(code: str, message: str) -> None:
    """us-west-1 has SageMaker and not all of it, GovCloud EC2 and no Spot fleets; clean-up goes on there."""
    report = query_source(_location(_clusters(_refused(code, message))), Lister("hyperpod"), SourceQuery()).report

    assert report.status == "skipped"
    assert str(report.error).startswith("AWS says that here has no such operation: sagemaker:ListClusters in here: ")


@pytest.mark.parametrize("name", ["launch-permissions", "public-snapshots", "image-references"])
def test_what_is_there_all_the_same_has_failed(name: str) -> None:
    """An AMI is shared, or used, whether or not this region can say so."""
    location = _location(_clusters(_refused(*NOT_HERE[0])))

    assert query_source(location, Lister(name), SourceQuery()).report.status == "failed"


@pytest.mark.parametrize(
    ("script", "is_essential"),
    [
        (_clusters(_refused(*NOT_HERE[0])), True),
        (_clusters({"ClusterSummaries": [{}]}, shown=_refused(*NOT_HERE[0])), False),
        (_clusters(_refused("UnsupportedOperation", "This account is not set up for it.")), False),
        (_clusters(_refused("ValidationException", "not supported in this region")), False),
        (_clusters(UnansweredError("UnknownOperationException: not supported in the called region")), False),
    ],
    ids=["essential", "the second call", "another meaning", "another code", "no refusal"],
)
def test_no_other_refusal_says_that_nothing_is_there(script: Script, *, is_essential: bool) -> None:
    """What was listed and cannot be shown is there; a service of its own kind of refusal is anything."""
    source = Lister("hyperpod", is_essential=is_essential)

    report = query_source(_location(script), source, SourceQuery()).report

    assert report.status == "failed"
    assert ("name hyperpod in cleanup.skip_sources in pipeline.yaml." in str(report.error)) is not is_essential


@pytest.mark.parametrize("problem", [DENIED, NO_HOST, KeyError("State"), _refused("ThrottlingException", "Slow.")])
def test_a_source_that_may_be_left_out_says_how(problem: Exception) -> None:
    """In China AWS's public list is empty, so a service that is missing there looks like a cable that is cut."""
    empty: Script = {"get_parameters_by_path": [{"Parameters": []}]}

    def error(name: str, *, is_essential: bool) -> str:
        eyes = Eyes(name, problem)
        eyes.is_essential = is_essential
        report = query_source(_location(empty, "cn-north-1"), eyes, SourceQuery()).report
        assert report.status == "failed"
        return str(report.error)

    assert error("emr", is_essential=False).endswith(
        "To do without, name emr in cleanup.skip_sources in pipeline.yaml."
    )
    assert "skip_sources" not in error("batch", is_essential=True)
    # With --usage-reports that would be refused, and without it would delete what is shared.
    assert "skip_sources" not in error("launch-permissions", is_essential=False)


def test_an_advice_is_given_once() -> None:
    """A source that reads encrypted texts has words of its own for it."""
    problem = UnansweredError(f"Lambda function f: the variables come encrypted. {way_round('lambda-functions')}")
    eyes = Eyes("lambda-functions", problem, service="")
    eyes.is_essential = False

    assert str(query_source(_location(), eyes, SourceQuery()).report.error).count("cleanup.skip_sources") == 1


@pytest.mark.parametrize("later", [_refused(*NOT_HERE[0]), NO_HOST])
def test_what_answered_before_is_not_absent(later: Exception) -> None:
    """A region does not lose an operation, or a service, between the plan and the act."""
    script = _images("ami-1") | _regions("elsewhere")
    script |= {"list_clusters": [{"ClusterSummaries": []}, later]}
    survey = _survey(_location(script), uses=(Lister("hyperpod"),))
    survey.query()
    assert [report.status for report in survey.reports] == ["ok"]

    survey.query_again(set())

    assert {report.name: report.status for report in survey.reports}["hyperpod"] == "failed"


def test_a_source_without_service_has_no_list() -> None:
    """What reads AMIs' own properties cannot be absent."""
    assert (
        query_source(_location(_regions("x")), Eyes("backup", NO_HOST, service=""), SourceQuery()).report.status
        == "failed"
    )


def test_a_skipped_source_is_not_asked() -> None:
    """And the plan shows that it was not."""
    eyes = Eyes("image-builder", Found())

    assert query_source(_location(), eyes, SourceQuery(), skip=True).report.status == "skipped"
    assert eyes.queries == []


def _images(*ids: str) -> Script:
    return {"describe_images": [{"Images": [{"ImageId": image_id, "OwnerId": "1"} for image_id in ids]}]}


def _survey(*locations: Location, **tables: Any) -> Survey:
    return Survey(locations, EVERYTHING, **({"uses": (), "own": (), "per_image": ()} | tables))


def test_everything_is_merged_before_anything_is_decided() -> None:
    """What one region's sources show counts in all of them."""
    here, there = _location(_images("ami-1"), "here"), _location(_images("ami-2"), "there")
    eyes = Eyes("parameters", Found([Reference("ami-2", "parameters", "p")]))

    survey = _survey(here, there, uses=(eyes,))
    survey.query()

    assert {image.image_id for image in survey.images} == {"ami-1", "ami-2"}
    assert [r.target for r in survey.references] == ["ami-2", "ami-2"]
    assert {report.region for report in survey.reports} == {"here", "there"}


class Reader(Eyes):
    """A source of a service that tells when it is queried."""

    def __init__(self, name: str, service: str, begun: threading.Event | None = None) -> None:
        """Read what botocore knows."""
        super().__init__(name, Found(), service=service)
        self.reads = {"ec2": _READ_OF_EC2, "batch": _READ_OF_BATCH}[service]
        self._begun = begun or threading.Event()

    def find(self, caller: Any, query: SourceQuery) -> Found:
        """Return nothing."""
        self._begun.set()
        return super().find(caller, query)


_READ_OF_EC2 = ("ec2:DescribeInstances Reservations[].Instances[].ImageId",)
_READ_OF_BATCH = ("batch:DescribeComputeEnvironments computeEnvironments[].computeResources.imageId",)


def test_ec2_has_its_requests_before_other_services_clients_are_made() -> None:
    """Thirteen services' models keep the processor busy for longer than EC2 takes to list a thousand AMIs."""
    listing, uses = threading.Event(), threading.Event()
    found = _images("ami-1")["describe_images"]

    def listed(**_: Any) -> dict[str, Any]:
        listing.set()
        assert isinstance(found, list)
        assert isinstance(found[0], dict)
        return found[0]

    class Making(FakeCaller):
        def prepare(self, service: str) -> None:
            super().prepare(service)
            if service == "batch":
                # Both are called by now, or are about to be, whatever this thread does meanwhile.
                assert listing.wait(30)
                assert uses.wait(30)

    caller = Making({"describe_images": listed})
    survey = _survey(Location(caller, "1"), uses=(Reader("batch", "batch"), Reader("instances", "ec2", uses)))

    survey.query()

    assert caller.prepared == ["ec2", "batch"]
    assert [report.status for report in survey.reports] == ["ok", "ok"]


def test_the_longest_begin_first() -> None:
    """Of what is queried last a plan waits for each call: a listing ends soon, ECS's services take four in turn."""
    location = _location(_images("ami-1"))
    survey = _survey(location, uses=(LambdaFunctions(), EcsVolumes(), Instances(), Stacks(), BeanstalkConfigurations()))

    survey.query()

    assert isinstance(location.caller, FakeCaller)
    assert location.caller.prepared == ["ec2", "elasticbeanstalk", "ecs", "lambda", "cloudformation"]


def test_every_service_that_begins_first_is_one_of_a_sources() -> None:
    """One that is misspelled would begin among the last."""
    assert set(LONGEST) <= {read.partition(":")[0] for source in USES for read in source.reads[:1]}


def test_reports_come_in_the_order_of_the_sources() -> None:
    """A plan is compared with yesterday's: whichever service answers first."""
    sources = (Reader("batch", "batch"), Reader("instances", "ec2"), Eyes("files", Found(), service=""))
    survey = _survey(_location(_images("ami-1")), uses=sources[:2], own=(sources[2], Reader("locks", "ec2")))

    survey.query()

    assert [report.name for report in survey.reports] == ["batch", "instances", "files", "locks"]


def test_what_calls_aws_does_not_wait_for_the_list_of_amis() -> None:
    """A thousand AMIs take EC2 longer than anything else; what reads those AMIs themselves still comes after them."""
    begun, found = threading.Event(), _images("ami-1")["describe_images"]

    def listed(**_: Any) -> dict[str, Any]:
        assert begun.wait(30)
        assert isinstance(found, list)
        assert isinstance(found[0], dict)
        return found[0]

    backups = Eyes("backup", Found(), service="")
    survey = _survey(_location({"describe_images": listed}), own=(backups, Reader("locks", "ec2", begun)))

    survey.query()

    assert [[image.image_id for image in query.images] for query in backups.queries] == [["ami-1"]]


def test_no_client_is_made_for_what_is_left_out() -> None:
    """Whoever leaves SageMaker out is spared its model, the largest but for that of EC2."""
    location = _location(_images("ami-1"))
    policy = dataclasses.replace(EVERYTHING, skip_sources=frozenset({"batch"}))
    sources = (Reader("instances", "ec2"), Reader("batch", "batch"))

    survey = Survey([location], policy, uses=sources, own=(), per_image=())
    survey.query()

    assert isinstance(location.caller, FakeCaller)
    assert location.caller.prepared == ["ec2"]
    assert [report.status for report in survey.reports] == ["ok", "skipped"]


def test_two_accounts_of_one_region_are_kept_apart() -> None:
    """One account's sources know nothing of the other's AMIs, and what is gone there is not gone here."""
    mine = _location(_images("ami-1"))
    listed: Script = {"describe_images": [{"Images": [{"ImageId": "ami-2", "OwnerId": "2"}]}, {"Images": []}]}
    theirs = Location(FakeCaller(listed, region="here"), "2")
    eyes = Eyes("launch-permissions", Found())
    survey = _survey(mine, theirs, per_image=(eyes,))

    survey.query()
    survey.query_images({"ami-1", "ami-2"})
    assert sorted([image.image_id for image in query.images] for query in eyes.queries) == [["ami-1"], ["ami-2"]]
    for query, who in zip(eyes.queries, ("a", "b"), strict=True):
        query.memory["permissions"] = {image.image_id: ({"UserId": who},) for image in query.images}
    told = [survey.permissions(image) for image in survey.images]
    assert sorted(call[0]["UserId"] for call in told if call) == ["a", "b"]
    survey.query_again({"ami-2"})
    assert [image.image_id for image in survey.images] == ["ami-1"]


def test_other_accounts_are_only_asked_for_uses() -> None:
    """Their AMIs are no candidates, and sharing is the owner's to tell."""
    uses, own = Eyes("instances", Found()), Eyes("locks", Found())
    survey = _survey(_location(_images("ami-1")), _location(is_own=False, region="theirs"), uses=(uses,), own=(own,))

    survey.query()

    assert (len(uses.queries), len(own.queries)) == (2, 1)


def test_another_accounts_recipe_may_start_from_our_image() -> None:
    """It names an image of Image Builder that we share; which AMI that is only our own tags tell."""
    image = "arn:aws:imagebuilder:here:1:image/base"
    ours = _images("ami-1")
    ours["describe_images"][0]["Images"][0]["Tags"] = [{"Key": "Ec2ImageBuilderArn", "Value": f"{image}/1.0.0/1"}]  # type: ignore[index]
    theirs = Eyes("image-builder", Found([Reference(f"{image}/x.x.x", "image-builder", "their recipe")]))
    survey = _survey(_location(ours), _location(is_own=False, region="theirs"), uses=(theirs,))

    survey.query()

    assert [reference.target for reference in survey.references] == ["ami-1", "ami-1"]
    assert {report.is_use for report in survey.reports} == {True}


def test_sources_see_the_amis_of_their_region_only() -> None:
    """Asking EC2 in one region about another's AMIs is an error."""
    here, there = _location(_images("ami-1"), "here"), _location(_images("ami-2"), "there")
    single = Eyes("image-references", Found())
    survey = _survey(here, there, per_image=(single,))
    survey.query()

    survey.query_images({"ami-1", "ami-2"})

    assert sorted((sorted(query.selected), [i.image_id for i in query.images]) for query in single.queries) == [
        (["ami-1"], ["ami-1"]),
        (["ami-2"], ["ami-2"]),
    ]


def test_a_second_look_replaces_the_first_and_has_its_memory() -> None:
    """A source that fails the second time must not live on its first success."""
    uses, own = Eyes("batch", Found([Reference("ami-1", "batch", "x")])), Eyes("backup", Found(), service="")
    survey = _survey(_location(_images("ami-1")), uses=(uses,), own=(own,))
    survey.query()
    uses.queries[0].memory["seen"] = 1
    uses.shows = DENIED

    survey.query_again({"ami-1"})

    assert uses.queries[1].memory == {"seen": 1}
    assert [(r.name, r.status) for r in survey.reports if r.name == "batch"] == [("batch", "failed")]
    assert survey.references == []
    assert len(own.queries) == 2  # it calls nothing, and the AMIs were read anew


def test_a_second_look_reads_the_files_again() -> None:
    """One that cannot be read the second time must not live on its first success."""
    answers = [
        LocalSource(SourceReport("receipts", None, "ok"), (Reference("ami-1", "receipts", "x"),)),
        LocalSource(SourceReport("receipts", None, "failed", error="gone")),
    ]
    survey = _survey(_location(_images("ami-1")), local=lambda: [answers.pop(0)])
    survey.query()
    assert [r.target for r in survey.references] == ["ami-1"]

    survey.query_again({"ami-1"})

    assert ("receipts", "failed") in [(r.name, r.status) for r in survey.reports]
    assert survey.references == []


def test_amis_that_cannot_be_listed_end_the_look() -> None:
    """Without candidates there is nothing to decide."""
    with pytest.raises(AwsError):
        _survey(_location({"describe_images": [DENIED]}), uses=(Eyes("batch", Found()),)).query()


def test_permissions_are_unknown_until_they_are_looked_up() -> None:
    """Unknown is not none: the act refuses without them."""
    survey = _survey(_location(_images("ami-1")), per_image=(Eyes("launch-permissions", Found()),))
    survey.query()
    image = Image(image_id="ami-1", account="1", region="here")

    assert survey.permissions(image) is None
    assert survey.permissions(Image(image_id="ami-1", account="1", region="nowhere")) is None
    survey.query_images({"ami-1"})
    assert survey.permissions(image) is None


def test_work_side_by_side_keeps_its_order_and_ends_with_the_first_failure() -> None:
    """Of the hundred thousand queries of a fleet the rest must not go on behind a failure or Ctrl-C."""
    assert in_parallel(list(range(100)), lambda number: number * 2, workers=7) == list(range(0, 200, 2))
    assert in_parallel([], lambda number: number) == []
    begun: list[int] = []

    def fails(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise ZeroDivisionError
        time.sleep(0.001)
        return number

    with pytest.raises(ZeroDivisionError):
        in_parallel(list(range(2000)), fails, workers=4)
    assert len(begun) < 1000
