"""An organization of many accounts that answers fast: which account is meant is in the access key, as a role's is.

    python -m tests.bench.fleet_aws ACCOUNTS IMAGES DELAY_S

Every account has IMAGES AMIs in each region, most of them old. Each third is named by a launch template of the next
account, which is all that needs it; the buckets are those that `throttled_aws` documents, for each account.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tests.bench.throttled_aws import EMPTY, JSON, QUERY, READ, Answering, Bucket, _query, _xml

FIRST = 100_000_000_000
HUB = f"{FIRST:012d}"
REGIONS = (
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1", "eu-west-1", "eu-west-2"),
    *("eu-west-3", "eu-central-1", "eu-north-1", "ap-south-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3"),
    *("ap-southeast-1", "ap-southeast-2"),
)
ORGANIZATION = "o-bench00001"
# Every so many of an account's AMIs are named by the next account.
NAMED_EVERY = 3


def account_of(number: int) -> str:
    """Return the id of the account *number*."""
    return f"{FIRST + number:012d}"


def image_id(account: str, region: str, number: int) -> str:
    """Return the id of an AMI: no two places have the same."""
    return f"ami-{int(account) - FIRST:06x}{REGIONS.index(region):03x}{number:08x}"


def named_elsewhere(image: str) -> bool:
    """Return whether a launch template of another account names the AMI *image*."""
    return int(image[-8:], 16) % NAMED_EVERY == 0


class Organization:
    """What it serves and counts."""

    def __init__(self, accounts: int, images: int, delay_s: float) -> None:
        self.accounts = [account_of(number) for number in range(accounts)]
        self.images, self.delay_s = images, delay_s
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self._lock = threading.Lock()
        self._now = time.time()
        self.calls: Counter[str] = Counter()
        self.throttled = 0

    def count(self, action: str) -> None:
        """Count a call, and wait as a network does."""
        with self._lock:
            self.calls[action] += 1
        time.sleep(self.delay_s)

    def lets_through(self, account: str, region: str, action: str) -> bool:
        """Return whether the bucket of this API has a token."""
        with self._lock:
            bucket = self._buckets.setdefault((account, region, action), Bucket(*READ))
            is_through = bucket.take()
            self.throttled += not is_through
        return is_through

    def ec2(self, account: str, region: str, action: str, parameters: dict[str, str]) -> str:
        """Return what stands in EC2's answer."""
        if action == "DescribeImages":
            return self._images(account, region, parameters)
        if action == "DescribeRegions":
            rows = (
                f"<item><regionName>{name}</regionName><optInStatus>opted-in</optInStatus></item>" for name in REGIONS
            )
            return f"<regionInfo>{''.join(rows)}</regionInfo>"
        if action == "DescribeLaunchTemplates":
            return f"<launchTemplates>{_TEMPLATE}</launchTemplates>"
        if action == "DescribeLaunchTemplateVersions":
            return self._versions(account, region)
        if action == "DescribeImageAttribute":
            return f"<imageId>{parameters['ImageId']}</imageId><launchPermission/>"
        if action == "DescribeInstances":
            return "<reservationSet/>"
        if action == "GetAllowedImagesSettings":
            return "<state>disabled</state>"
        return f"<{EMPTY[action]}/>"

    def _images(self, account: str, region: str, parameters: dict[str, str]) -> str:
        if parameters.get("Filter.1.Name") == "state":
            return "<imagesSet/>"
        return _listing(account, region, self.images, self._now)

    def _versions(self, account: str, region: str) -> str:
        before = self.accounts[self.accounts.index(account) - 1]
        rows = (
            f"<item><launchTemplateId>lt-1</launchTemplateId><launchTemplateName>t</launchTemplateName><versionNumber>"
            f"{number + 1}</versionNumber><launchTemplateData><imageId>{image_id(before, region, number)}</imageId>"
            "</launchTemplateData></item>"
            for number in range(0, self.images, NAMED_EVERY)
        )
        return f"<launchTemplateVersionSet>{''.join(rows)}</launchTemplateVersionSet>"

    def organizations(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what Organizations answers."""
        if operation == "DescribeOrganization":
            arn = f"arn:aws:organizations::{HUB}:organization/{ORGANIZATION}"
            return {"Organization": {"Id": ORGANIZATION, "Arn": arn, "MasterAccountId": HUB}}
        start = int(body.get("NextToken") or 0)
        rows = [
            {"Id": account, "Name": "bench", "State": "ACTIVE", "Paths": [f"{ORGANIZATION}/r-1/{account}/"]}
            for account in self.accounts[start : start + 20]
        ]
        more = {"NextToken": str(start + 20)} if start + 20 < len(self.accounts) else {}
        return {"Accounts": rows} | more

    def state(self) -> dict[str, Any]:
        """Return the calls so far."""
        return {"calls": sum(self.calls.values()), "by_action": dict(self.calls), "throttled": self.throttled}


_TEMPLATE = (
    "<item><launchTemplateId>lt-1</launchTemplateId><launchTemplateName>t</launchTemplateName>"
    "<defaultVersionNumber>1</defaultVersionNumber><latestVersionNumber>9</latestVersionNumber></item>"
)


@functools.cache
def _listing(account: str, region: str, images: int, now: float) -> str:
    rows = []
    for number in range(images):
        made = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now - (40 + number) * 86400))
        key = image_id(account, region, number)
        rows.append(
            f"<item><imageId>{key}</imageId><imageOwnerId>{account}</imageOwnerId><imageState>available</imageState>"
            f"<name>gpu-batch-{number}</name><creationDate>{made}</creationDate><isPublic>false</isPublic>"
            "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs>"
            f"<snapshotId>snap-{key[4:]}</snapshotId><volumeSize>80</volumeSize></ebs></item></blockDeviceMapping>"
            "<tagSet><item><key>gpu-ami:family</key><value>gpu-batch</value></item></tagSet></item>"
        )
    return f"<imagesSet>{''.join(rows)}</imagesSet>"


def _assumed(role: str) -> bytes:
    account = role.split(":")[4]
    keys = (
        f"<AccessKeyId>ASIA{account}BENC</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
    )
    user = f"<Arn>arn:aws:sts::{account}:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId>"
    return _query("AssumeRole", f"<Credentials>{keys}</Credentials><AssumedRoleUser>{user}</AssumedRoleUser>")


def _identity(account: str) -> bytes:
    said = f"<Account>{account}</Account><Arn>arn:aws:iam::{account}:user/bench</Arn><UserId>1</UserId>"
    return _query("GetCallerIdentity", said)


def handler_of(served: Organization) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers HTTP for *served*."""

    class Handler(Answering):
        def answer(self, body: bytes, key: str, region: str, service: str) -> tuple[int, bytes]:
            account = key[4:16] if key.startswith("ASIA") else HUB
            if service == "organizations":
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                served.count(operation)
                return 200, json.dumps(served.organizations(operation, json.loads(body))).encode()
            if not self.is_query:
                served.count(service)
                return 200, json.dumps(JSON[self.path.partition("?")[0]]).encode()
            parameters = dict(parse_qsl(body.decode()))
            action = parameters["Action"]
            served.count(action)
            if service == "sts":
                return 200, _assumed(parameters["RoleArn"]) if action == "AssumeRole" else _identity(account)
            if service != "ec2":
                return 200, QUERY[action]
            if not served.lets_through(account, region, action):
                text = "<Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message>"
                return 503, f"<Response><Errors><Error>{text}</Error></Errors></Response>".encode()
            return 200, _xml(action, served.ec2(account, region, action, parameters))

    return Handler


@contextmanager
def serving(accounts: int, images: int, delay_s: float) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Serve an organization from a process of its own; yield its URL and what returns its `state`."""
    command = [sys.executable, "-m", "tests.bench.fleet_aws", str(accounts), str(images), str(delay_s)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        sent, said = server.stdin, server.stdout
        assert sent is not None
        assert said is not None

        def state() -> dict[str, Any]:
            sent.write("\n")
            sent.flush()
            answer: dict[str, Any] = json.loads(said.readline())
            return answer

        try:
            yield said.readline().strip(), state
        finally:
            sent.close()


class _Server(ThreadingHTTPServer):
    """Takes many connections at once, as AWS does: of a full queue the kernel lets each wait for a second."""

    request_queue_size = 1024
    daemon_threads = True


def main(arguments: list[str]) -> None:
    """Serve until the input ends."""
    served = Organization(int(arguments[0]), int(arguments[1]), float(arguments[2]))
    server = _Server(("127.0.0.1", 0), handler_of(served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
    for _line in sys.stdin:
        print(json.dumps(served.state()), flush=True)  # noqa: T201
    server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
