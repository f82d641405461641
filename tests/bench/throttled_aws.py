"""An AWS that knows only what clean-up tools ask, answers fast, and throttles as AWS does.

    python -m tests.bench.throttled_aws IMAGES SELECTED_EVERY TEMPLATES RATE DELAY_S

Independent of moto, which takes longer for an answer than AWS does. EC2's documented token buckets (a burst, then a
steady rate, per API and region), the rates times RATE. It prints its address, serves until its input ends, and
answers each line of it with what it counted.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
# Burst and calls a second, from EC2's documentation of its API throttling.
READ, CHANGE = (100, 20), (50, 5)
# Times the documented rates, in the throttling bench.
RATE = 10
CHANGES = ("DeregisterImage", "DeleteSnapshot")
EMPTY = {
    "DescribeTags": "tagSet",
    "DescribeSpotInstanceRequests": "spotInstanceRequestSet",
    "DescribeSpotFleetRequests": "spotFleetRequestConfigSet",
    "DescribeFleets": "fleetSet",
    "DescribeLockedSnapshots": "snapshotSet",
    "DescribeSnapshots": "snapshotSet",
    "DescribeImageReferences": "imageReferenceSet",
    "DescribeReplaceRootVolumeTasks": "replaceRootVolumeTaskSet",
    "DescribeStoreImageTasks": "storeImageTaskResultSet",
    "DescribeExportImageTasks": "exportImageTaskSet",
    "DescribeFastSnapshotRestores": "fastSnapshotRestoreSet",
}
INSTANCE = (
    "<reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><imageId>ami-00000000000000001</imageId>"
    "<instanceState><code>16</code><name>running</name></instanceState></item></instancesSet></item></reservationSet>"
)
FIXED = {"DescribeInstances": INSTANCE, "GetAllowedImagesSettings": "<state>disabled</state>"}
JSON = {
    "/v1/describecomputeenvironments": {"computeEnvironments": []},
    "/ListImageRecipes": {"requestId": "1", "imageRecipeSummaryList": []},
    "/ListContainerRecipes": {"requestId": "1", "containerRecipeSummaryList": []},
    "/list-rules": {"Rules": []},
    "/2015-03-31/functions": {"Functions": []},
    "/schedules": {"Schedules": []},
    "/capacity-providers": {"capacityProviders": []},
    # Of the services that name their operation in a header: each takes what it knows of it.
    "/": {
        "Parameters": [],
        "InvalidParameters": [],
        "WindowIdentities": [],
        "stateMachines": [],
        "clusterArns": [],
        "clusters": [],
        "ClusterSummaries": [],
        "Clusters": [],
        "fleets": [],
    },
}


class Bucket:
    """A token bucket."""

    def __init__(self, burst: float, per_s: float) -> None:
        """Start full."""
        self._burst, self._per_s = burst, per_s
        self._tokens, self._at = float(burst), time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Return whether a call is let through."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
            self._at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


@dataclass(frozen=True)
class Terms:
    """What the account holds and how it answers.

    Attributes:
        images: AMIs in each region.
        selected_every: Every so many of them are old and unused, the others young.
        templates: Launch templates, each with one young AMI.
        rate: Times the documented rates; 0 never throttles.
        delay_s: Added to each call.
    """

    images: int
    selected_every: int
    templates: int = 0
    rate: float = 0.0
    delay_s: float = 0.0


class Aws:
    """What it serves and counts."""

    def __init__(self, terms: Terms) -> None:
        """Prepare the AMIs; every region has the same."""
        self._terms = terms
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._lock = threading.Lock()
        now = time.time()
        self._images = [_image(number, now, old=number % terms.selected_every == 0) for number in range(terms.images)]
        self._gone: dict[str, set[str]] = {"image": set(), "snapshot": set()}
        self._under_way = self.most = 0
        self.calls: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()

    def answer(self, region: str, action: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body of the answer to one EC2 call."""
        if not self._let_through(region, action):
            text = "<Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message>"
            return 503, f"<Response><Errors><Error>{text}</Error></Errors></Response>".encode()
        return 200, _xml(action, self._body(action, region, parameters))

    def _body(self, action: str, region: str, parameters: dict[str, str]) -> str:
        image = parameters.get("ImageId", "")
        if action == "DescribeImages":
            return self._listing(region, parameters)
        if action == "DescribeImageAttribute":
            return f"<imageId>{image}</imageId><launchPermission/>"
        if action == "DeregisterImage":
            return self._deregister(region, image, with_snapshots="DeleteAssociatedSnapshots" in parameters)
        if action == "DeleteSnapshot":
            self._gone["snapshot"].add(f"{region} {parameters['SnapshotId']}")
            return "<return>true</return>"
        if action == "DescribeLaunchTemplates":
            return f"<launchTemplates>{''.join(map(_template, range(self._terms.templates)))}</launchTemplates>"
        if action == "DescribeLaunchTemplateVersions":
            return _version(int(parameters["LaunchTemplateId"][3:], 16))
        return FIXED.get(action) or f"<{EMPTY[action]}/>"

    def _listing(self, region: str, parameters: dict[str, str]) -> str:
        if parameters.get("Filter.1.Name") == "image-id":
            ids = [value for name, value in parameters.items() if name.startswith("Filter.1.Value.")]
            rows = [self._images[int(image[4:], 16)] for image in ids if f"{region} {image}" not in self._gone["image"]]
            return f"<imagesSet>{''.join(rows)}</imagesSet>"
        if parameters.get("Filter.1.Name") == "state":
            return "<imagesSet/>"  # none of them is pending
        start, size = int(parameters.get("NextToken", 0)), int(parameters.get("MaxResults", self._terms.images))
        rows = [
            row
            for number, row in enumerate(self._images[start : start + size], start)
            if f"{region} {_id(number)}" not in self._gone["image"]
        ]
        more = f"<nextToken>{start + size}</nextToken>" if start + size < len(self._images) else ""
        return f"<imagesSet>{''.join(rows)}</imagesSet>{more}"

    def _deregister(self, region: str, image: str, *, with_snapshots: bool) -> str:
        self._gone["image"].add(f"{region} {image}")
        if not with_snapshots:
            return "<return>true</return>"
        snapshot = f"snap-{image[4:]}"
        self._gone["snapshot"].add(f"{region} {snapshot}")
        row = f"<item><snapshotId>{snapshot}</snapshotId><returnCode>success</returnCode></item>"
        return f"<return>true</return><deleteSnapshotResultSet>{row}</deleteSnapshotResultSet>"

    @contextlib.contextmanager
    def counting(self, action: str) -> Iterator[None]:
        """Count a call, and how many are under way; wait as a network does."""
        with self._lock:
            self.calls[action] += 1
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        try:
            time.sleep(self._terms.delay_s)
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def _let_through(self, region: str, action: str) -> bool:
        burst, per_s = CHANGE if action in CHANGES else READ
        with self._lock:
            bucket = self._buckets.setdefault((region, action), Bucket(burst, per_s * self._terms.rate))
        if not self._terms.rate or bucket.take():
            return True
        with self._lock:
            self.throttled[action] += 1
        return False

    def state(self) -> dict[str, Any]:
        """Return what is gone, and the calls so far."""
        numbers = {f"{_id(number)}": number for number in range(self._terms.images)}
        gone = [numbers[image.partition(" ")[2]] for image in self._gone["image"]]
        unused = [f"unused_{number}" for number in gone if number % self._terms.selected_every == 0]
        return {
            "gone": unused + [f"young_{number}" for number in gone if number % self._terms.selected_every],
            "snapshots": self._terms.images - len(self._gone["snapshot"]),
            "calls": sum(self.calls.values()),
            "by_action": dict(self.calls.most_common()),
            "throttled": dict(self.throttled),
            "at_once": self.most,
        }


def _id(number: int) -> str:
    return f"ami-{number:017x}"


def _template(number: int) -> str:
    return (
        f"<item><launchTemplateId>lt-{number:017x}</launchTemplateId><launchTemplateName>t{number}</launchTemplateName>"
        "<defaultVersionNumber>1</defaultVersionNumber><latestVersionNumber>1</latestVersionNumber></item>"
    )


def _version(number: int) -> str:
    data = f"<launchTemplateData><imageId>{_id(number * 5 + 1)}</imageId></launchTemplateData>"
    return (
        f"<launchTemplateVersionSet><item><launchTemplateId>lt-{number:017x}</launchTemplateId>"
        f"<launchTemplateName>t{number}</launchTemplateName><versionNumber>1</versionNumber>{data}"
        "</item></launchTemplateVersionSet>"
    )


def _image(number: int, now: float, *, old: bool) -> str:
    age_days = 40 + number % 400 if old else number % 28
    made = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now - age_days * 86400))
    digits = f"{number:017x}"
    tags = "".join(
        f"<item><key>{key}</key><value>{value}</value></item>"
        for key, value in (("gpu-ami:family", "gpu-batch"), ("Name", f"gpu-batch-{number}"))
    )
    return (
        f"<item><imageId>ami-{digits}</imageId><imageOwnerId>123456789012</imageOwnerId><imageState>available</imageState>"
        f"<name>gpu-batch-{number}</name><creationDate>{made}</creationDate><isPublic>false</isPublic>"
        "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs>"
        f"<snapshotId>snap-{digits}</snapshotId><volumeSize>80</volumeSize></ebs></item></blockDeviceMapping>"
        f"<tagSet>{tags}</tagSet></item>"
    )


def _xml(action: str, body: str) -> bytes:
    return f'<{action}Response xmlns="{NAMESPACE}"><requestId>1</requestId>{body}</{action}Response>'.encode()


def _query(action: str, body: str) -> bytes:
    return f"<{action}Response><{action}Result>{body}</{action}Result></{action}Response>".encode()


STS = "<Account>123456789012</Account><Arn>arn:aws:iam::123456789012:user/bench</Arn><UserId>1</UserId>"
QUERY = {
    "GetCallerIdentity": _query("GetCallerIdentity", STS),
    "DescribeAutoScalingGroups": _query("DescribeAutoScalingGroups", "<AutoScalingGroups/>"),
    "DescribeApplications": _query("DescribeApplications", "<Applications/>"),
    "DescribeDBEngineVersions": _query("DescribeDBEngineVersions", "<DBEngineVersions/>"),
    "DescribeStacks": _query("DescribeStacks", "<Stacks/>"),
    "DescribeLaunchConfigurations": _query("DescribeLaunchConfigurations", "<LaunchConfigurations/>"),
}


class Answering(BaseHTTPRequestHandler):
    """Reads each call, and writes what `answer` makes of it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer one call."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scope = re.search(r"Credential=([^/]*)/[^/]*/([^/]*)/([^/]*)/", self.headers["Authorization"])
        assert scope is not None
        status, answer = self.answer(body, *scope.groups())
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST  # noqa: N815 - the server calls this name

    @property
    def is_query(self) -> bool:
        """Whether the call names its action in a form, as those of the services with XML do."""
        return "form" in (self.headers.get("Content-Type") or "")

    def answer(self, body: bytes, key: str, region: str, service: str) -> tuple[int, bytes]:
        """Return status and answer of a call that the access key *key* signed for *service* in *region*."""
        raise NotImplementedError

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def handler_of(aws: Aws) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers HTTP for *aws*."""

    class Handler(Answering):
        def answer(self, body: bytes, key: str, region: str, service: str) -> tuple[int, bytes]:
            del key
            if not self.is_query:
                with aws.counting(service):
                    return 200, json.dumps(JSON[self.path.partition("?")[0]]).encode()
            parameters = dict(parse_qsl(body.decode()))
            action = parameters["Action"]
            with aws.counting(action):
                return (200, QUERY[action]) if service != "ec2" else aws.answer(region, action, parameters)

    return Handler


def main(arguments: list[str]) -> None:
    """Serve until the input ends."""
    aws = Aws(Terms(*(int(size) for size in arguments[:3]), *(float(term) for term in arguments[3:])))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(aws))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"endpoint_url": f"http://127.0.0.1:{server.server_port}", "made": {}}), flush=True)  # noqa: T201
    for _line in sys.stdin:
        print(json.dumps(aws.state()), flush=True)  # noqa: T201
    server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
