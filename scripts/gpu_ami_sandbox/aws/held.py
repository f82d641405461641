"""Services of which the sandbox only lists and shows what was put there: clean-up looks there for AMIs, and no more.

moto has most of them, too; loading those takes longer than a whole clean-up. So moto's answers for a service only once
something is done there that is not in the table below, such as making a function by Terraform.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore import xform_name
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.models import ec2_backends
from moto.iam.models import get_account_id_from

from gpu_ami_sandbox.aws.gate import ACCOUNT_HEADER, CALL, Call, Environ, StartResponse
from gpu_ami_sandbox.aws.paging import PAGE_SIZES, page
from gpu_ami_sandbox.aws.refusals import refuse
from gpu_ami_sandbox.aws.services import application_of, straight

_PAGE = 100
_LOOKING = ("BatchGet", "Describe", "Get", "List")


@dataclass(frozen=True)
class Listing:
    """An operation that lists rows.

    Attributes:
        rows: The answer's list.
        token: What the request calls the page token.
        following: What the answer calls it; empty when that is the same.
        size: What the request calls the number of rows on a page; empty when it has none.
        of: What the request may call the thing whose rows are listed, such as a cluster; each has rows of its own then.
    """

    rows: str
    token: str = "NextToken"  # noqa: S105 - a page's
    following: str = ""
    size: str = ""
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """An operation that shows several things, each by its key, and says which of them are not there.

    Attributes:
        keys: What the request calls the list of keys.
        answer: The answer's list of things.
        missing: The answer's list of keys that nothing is there of.
    """

    keys: str
    answer: str
    missing: str


@dataclass(frozen=True)
class Lookup:
    """An operation that shows one thing.

    Attributes:
        key: What the request calls the thing: its name, id or ARN.
        answer: The answer's member that holds it; empty when the answer is the thing itself.
        missing: AWS's code for a thing that is not there.
    """

    key: str
    answer: str = ""
    missing: str = "ResourceNotFoundException"


# By signing name and operation.
HELD: dict[str, dict[str, Batch | Listing | Lookup]] = {
    "bedrock-agentcore": {
        "GetCapacityProvider": Lookup("capacityProviderId"),
        "ListCapacityProviders": Listing("capacityProviders", "nextToken", size="maxResults"),
    },
    "cloudformation": {"DescribeStacks": Listing("Stacks")},
    "codebuild": {
        "BatchGetFleets": Batch("names", "fleets", "fleetsNotFound"),
        "ListFleets": Listing("fleets", "nextToken", size="maxResults"),
    },
    "elasticbeanstalk": {
        "DescribeApplications": Listing("Applications"),
        "DescribeConfigurationSettings": Listing("ConfigurationSettings", of=("EnvironmentName", "TemplateName")),
        "DescribeEnvironments": Listing("Environments", size="MaxRecords"),
        "DescribePlatformVersion": Lookup("PlatformArn", "PlatformDescription", "InvalidParameterValue"),
        "ListPlatformVersions": Listing("PlatformSummaryList", size="MaxRecords"),
    },
    "elasticmapreduce": {
        "DescribeCluster": Lookup("ClusterId", "Cluster", "InvalidRequestException"),
        "ListClusters": Listing("Clusters", "Marker"),
        "ListInstanceFleets": Listing("InstanceFleets", "Marker", of=("ClusterId",)),
        "ListInstanceGroups": Listing("InstanceGroups", "Marker", of=("ClusterId",)),
    },
    "lambda": {"ListFunctions": Listing("Functions", "Marker", "NextMarker", "MaxItems")},
    "pcs": {
        "GetComputeNodeGroup": Lookup("computeNodeGroupIdentifier", "computeNodeGroup"),
        "ListClusters": Listing("clusters", "nextToken", size="maxResults"),
        "ListComputeNodeGroups": Listing(
            "computeNodeGroups", "nextToken", size="maxResults", of=("clusterIdentifier",)
        ),
    },
    "rds": {"DescribeDBEngineVersions": Listing("DBEngineVersions", "Marker", size="MaxRecords")},
    "sagemaker": {
        "DescribeCluster": Lookup("ClusterName", missing="ResourceNotFound"),
        "ListClusters": Listing("ClusterSummaries", size="MaxResults"),
    },
    "scheduler": {"GetSchedule": Lookup("Name"), "ListSchedules": Listing("Schedules", size="MaxResults")},
    "states": {
        "DescribeStateMachine": Lookup("stateMachineArn", missing="StateMachineDoesNotExist"),
        "ListStateMachineVersions": Listing(
            "stateMachineVersions", "nextToken", size="maxResults", of=("stateMachineArn",)
        ),
        "ListStateMachines": Listing("stateMachines", "nextToken", size="maxResults"),
    },
}


def rows(account: str, region: str, service: str, operation: str, of: str = "") -> list[Any]:
    """Return the rows of the listing *operation*, to add to; a reset of moto empties them.

    Args:
        account: Whose.
        region: Where.
        service: Its signing name.
        operation: The listing.
        of: The thing whose rows they are, where the listing has an `of`.
    """
    kept: list[Any] = _kept(account, region).setdefault((service, f"{operation} {of}".strip()), [])
    return kept


def things(account: str, region: str, service: str, operation: str) -> dict[str, dict[str, Any]]:
    """Return what the look-up *operation* shows, by its key, to add to; a reset of moto empties it."""
    kept: dict[str, dict[str, Any]] = _kept(account, region).setdefault((service, operation), {})
    return kept


def _kept(account: str, region: str) -> dict[tuple[str, str], Any]:
    kept: dict[tuple[str, str], Any] = vars(ec2_backends[account][region]).setdefault("sandbox_held", {})
    return kept


class _Held(BaseResponse):
    """Answers the operations of one service in `HELD`."""

    signing_name: str
    model_name: str

    def __init__(self) -> None:
        super().__init__(service_name=self.model_name)
        self.automated_parameter_parsing = True

    def list_rows(self, operation: str, listing: Listing) -> ActionResult:
        """Answer *operation* with a page of its rows."""
        given = self._get_param(listing.size) if listing.size else None
        size = min(int(given or _PAGE), PAGE_SIZES.get(operation, _PAGE))
        of = next((str(key) for name in listing.of if (key := self._get_param(name))), "")
        all_rows = rows(self.current_account, self.region, self.signing_name, operation, of)
        shown, token = page(all_rows, self._get_param(listing.token), size)
        return ActionResult({listing.rows: shown, listing.following or listing.token: token})

    def show(self, operation: str, lookup: Lookup) -> ActionResult:
        """Answer *operation* with the thing that the request names."""
        key = str(self._get_param(lookup.key))
        thing = things(self.current_account, self.region, self.signing_name, operation).get(key)
        if thing is None:
            refuse(lookup.missing, f"{lookup.key} {key} does not exist.")
        return ActionResult({lookup.answer: thing} if lookup.answer else thing)

    def show_all(self, operation: str, batch: Batch) -> ActionResult:
        """Answer *operation* with the things that the request names."""
        there = things(self.current_account, self.region, self.signing_name, operation)
        keys = [str(key) for key in self._get_param(batch.keys) or []]
        shown = [there[key] for key in keys if key in there]
        return ActionResult({batch.answer: shown, batch.missing: [key for key in keys if key not in there]})


def _response(service: str, model: str, operations: Mapping[str, Batch | Listing | Lookup]) -> type[_Held]:
    members: dict[str, Any] = {"signing_name": service, "model_name": model}
    for operation, kind in operations.items():
        members[xform_name(operation)] = _answering(operation, kind)
    return type(f"Held{service.title().replace('-', '')}", (_Held,), members)


def _answering(operation: str, kind: Batch | Listing | Lookup) -> Any:
    if isinstance(kind, Batch):
        return lambda self: self.show_all(operation, kind)
    if isinstance(kind, Listing):
        return lambda self: self.list_rows(operation, kind)
    return lambda self: self.show(operation, kind)


# botocore's names of models, where they are not the signing name.
_MODELS: dict[str, str] = {
    "bedrock-agentcore": "bedrock-agentcore-control",
    "elasticmapreduce": "emr",
    "states": "stepfunctions",
}
# moto's names of its services, where they are not the signing name.
_MOTO: dict[str, str] = {
    "bedrock-agentcore": "bedrockagentcorecontrol",
    "elasticmapreduce": "emr",
    "lambda": "awslambda",
    "states": "stepfunctions",
}


class HeldService:
    """The application of one service: ours for what `HELD` has, moto's once anything else was requested there."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._operations = HELD[service]
        self._ours = straight(_response(service, _MODELS.get(service, service), self._operations).dispatch)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        call: Call = environ[CALL]
        kept = _kept(environ.get(ACCOUNT_HEADER) or get_account_id_from(_access_key(environ)), call.region)
        is_held = call.action in self._operations
        if not is_held and not call.action.startswith(_LOOKING):
            kept[self._service, ""] = True
        if not is_held or (self._service, "") in kept:
            # moto calls its folders as the services sign, with a few exceptions; what it lacks is refused as ever.
            return application_of(_MOTO.get(self._service, self._service))(environ, start_response)
        return self._ours(environ, start_response)


def _access_key(environ: Environ) -> str:
    """Return the key that signed a request; moto knows whose those are that it gave out itself, as for a role."""
    signature: str = environ.get("HTTP_AUTHORIZATION", "")
    return signature.partition("Credential=")[2].partition("/")[0]
