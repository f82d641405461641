"""An AWS that only says what a clean-up asks, fast, and throttles as AWS does: ``python -m … IMAGES RATE``.

Independent of moto: EC2's documented token buckets (a burst, then a steady rate, per API and region), the rates
times RATE. It prints its address, serves until its input ends, and answers each line of it with what it counted.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
PAGE = 1000
# Every tenth AMI is old and unused.
DOOMED_EVERY = 10
# Burst and calls a second, from EC2's documentation of its API throttling.
READ, CHANGE = (100, 20), (50, 5)
EMPTY = {
    "DescribeLaunchTemplates": "launchTemplates",
    "DescribeSpotInstanceRequests": "spotInstanceRequestSet",
    "DescribeSpotFleetRequests": "spotFleetRequestConfigSet",
    "DescribeFleets": "fleetSet",
    "DescribeLockedSnapshots": "snapshotSet",
    "DescribeSnapshots": "snapshotSet",
    "DescribeImageReferences": "imageReferenceSet",
}
INSTANCE = (
    "<reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><imageId>ami-00000000</imageId>"
    "<instanceState><code>16</code><name>running</name></instanceState></item></instancesSet></item></reservationSet>"
)
JSON = {
    "/v1/describecomputeenvironments": {"computeEnvironments": []},
    "/ListImageRecipes": {"requestId": "1", "imageRecipeSummaryList": []},
    "/ListContainerRecipes": {"requestId": "1", "containerRecipeSummaryList": []},
    "/list-rules": {"Rules": []},
    "/": {"Parameters": [], "InvalidParameters": []},
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


class Aws:
    """What it serves and counts."""

    def __init__(self, count: int, rate: float) -> None:
        """Prepare the pages of AMIs; a *rate* of 0 never throttles."""
        self._rate = rate
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.pages = [self._page(start, count) for start in range(0, count, PAGE)]

    def _page(self, start: int, count: int) -> bytes:
        now = time.time()
        rows = "".join(_image(number, now) for number in range(start, min(start + PAGE, count)))
        token = f"<nextToken>{start // PAGE + 1}</nextToken>" if start + PAGE < count else ""
        return _xml("DescribeImages", f"<imagesSet>{rows}</imagesSet>{token}")

    def answer(self, region: str, action: str, parameters: dict[str, list[str]]) -> tuple[int, bytes]:
        """Return status and body of the answer to one EC2 call."""
        if not self._let_through(region, action):
            text = "<Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message>"
            return 503, f"<Response><Errors><Error>{text}</Error></Errors></Response>".encode()
        image = parameters.get("ImageId", [""])[0]
        if action == "DescribeImages":
            return 200, self.pages[int(parameters.get("NextToken", ["0"])[0])]
        if action == "DescribeImageAttribute":
            return 200, _xml(action, f"<imageId>{image}</imageId><launchPermission/>")
        if action == "DeregisterImage":
            result = f"<item><snapshotId>snap-{image[4:]}</snapshotId><returnCode>success</returnCode></item>"
            return 200, _xml(
                action, f"<return>true</return><deleteSnapshotResultSet>{result}</deleteSnapshotResultSet>"
            )
        if action == "DescribeInstances":
            return 200, _xml(action, INSTANCE)
        if action == "GetAllowedImagesSettings":
            return 200, _xml(action, "<state>disabled</state>")
        return 200, _xml(action, f"<{EMPTY[action]}/>")

    def _let_through(self, region: str, action: str) -> bool:
        burst, per_s = CHANGE if action == "DeregisterImage" else READ
        with self._lock:
            self.calls[action] += 1
            bucket = self._buckets.setdefault((region, action), Bucket(burst, per_s * self._rate))
        if not self._rate or bucket.take():
            return True
        with self._lock:
            self.throttled[action] += 1
        return False


def _image(number: int, now: float) -> str:
    old = number % DOOMED_EVERY == 0
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
    "DescribeLaunchConfigurations": _query("DescribeLaunchConfigurations", "<LaunchConfigurations/>"),
}


def handler_of(aws: Aws) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers HTTP for *aws*."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            """Answer one call."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = self._answer(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST  # noqa: N815 - the server looks for this name

        def _answer(self, body: bytes) -> tuple[int, bytes]:
            scope = re.search(r"Credential=[^/]*/[^/]*/([^/]*)/([^/]*)/", self.headers["Authorization"])
            assert scope is not None
            region, service = scope.groups()
            if "form" not in (self.headers.get("Content-Type") or ""):
                return 200, json.dumps(JSON[self.path.partition("?")[0]]).encode()
            parameters = parse_qs(body.decode())
            action = parameters["Action"][0]
            return (200, QUERY[action]) if service != "ec2" else aws.answer(region, action, parameters)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


def main(count: str, rate: str) -> None:
    """Serve until the input ends."""
    aws = Aws(int(count), float(rate))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(aws))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"endpoint_url": f"http://127.0.0.1:{server.server_port}", "made": {}}), flush=True)  # noqa: T201
    for _line in sys.stdin:
        state = {"calls": dict(aws.calls), "throttled": dict(aws.throttled)}
        print(json.dumps(state), flush=True)  # noqa: T201
    server.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
