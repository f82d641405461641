"""Nothing of the user's environment leads a sandbox call off the local AWS.

Each of these variables got past a plain AWS_ENDPOINT_URL when it was tried. A trap on another loopback port plays
the real AWS: it must not see one connection.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_ami.console import Console
from gpu_ami.process import Command, run
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.session import open_sandbox
from tests.support.resources import REGION

# What any program that we start would do: a client as boto3 makes it from its environment.
CHILD = """
import boto3
session = boto3.Session()
print(session.client("sts").get_caller_identity()["Account"])
print(len(session.client("ec2").describe_images(Owners=["self"])["Images"]))
print(len(session.client("s3").list_buckets()["Buckets"]))
"""
PROFILE = """
[default]
region = us-east-1
endpoint_url = {trap}
[profile real]
region = us-east-1
endpoint_url = {trap}
services = real
[services real]
ec2 =
  endpoint_url = {trap}
"""


class Trap:
    """A port that counts who comes."""

    def __init__(self) -> None:
        """Open it."""
        self.visits = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        """Let go of the port."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _count(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    """Emulates everything that is not the local AWS."""
    trap = Trap()
    yield trap
    trap.close()


LEAKS: dict[str, dict[str, str]] = {
    "endpoints ignored": {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
    "another endpoint": {"AWS_ENDPOINT_URL": "{trap}"},
    "endpoint of one service": {
        "AWS_ENDPOINT_URL_EC2": "{trap}",
        "AWS_ENDPOINT_URL_STS": "{trap}",
        "AWS_ENDPOINT_URL_S3": "{trap}",
        "AWS_ENDPOINT_URL_SSM": "{trap}",
    },
    "profile": {"AWS_PROFILE": "real", "AWS_CONFIG_FILE": "{config}", "AWS_SHARED_CREDENTIALS_FILE": "{config}"},
    "default profile": {"AWS_CONFIG_FILE": "{config}"},
    "profile that is not there": {"AWS_PROFILE": "none", "AWS_DEFAULT_PROFILE": "none"},
    "proxy": {"HTTP_PROXY": "{trap}", "HTTPS_PROXY": "{trap}", "http_proxy": "{trap}", "ALL_PROXY": "{trap}"},
    "certificates": {"AWS_CA_BUNDLE": "{missing}", "REQUESTS_CA_BUNDLE": "{missing}", "SSL_CERT_FILE": "{missing}"},
    "another region": {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"},
    "keys": {"AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"},
    "metadata service": {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "{trap}",
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{trap}/credentials",
    },
    "web identity": {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "{missing}"},
    "other endpoints": {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "defaults": {"AWS_DEFAULTS_MODE": "nonsense", "AWS_MAX_ATTEMPTS": "0", "AWS_RETRY_MODE": "nonsense"},
    "account endpoints": {"AWS_ACCOUNT_ID_ENDPOINT_MODE": "required", "AWS_ACCOUNT_ID": "999999999999"},
    "moto": {"MOTO_ACCOUNT_ID": "999999999999", "MOTO_ALLOW_NONEXISTENT_REGION": "1"},
}


@pytest.mark.parametrize("name", LEAKS)
def test_neither_we_nor_our_programs_leave_the_local_aws(
    name: str, trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set before the sandbox opens, as a user's shell would have it."""
    config = tmp_path / "config"
    config.write_text(PROFILE.format(trap=trap.url))
    for variable, value in LEAKS[name].items():
        monkeypatch.setenv(variable, value.format(trap=trap.url, config=config, missing=tmp_path / "missing"))
    workspace = Workspace(tmp_path / "repository", sandbox=True)
    console = Console(err=io.StringIO())

    with open_sandbox(workspace, region=REGION, console=console, with_guest=False) as sandbox:
        assert sandbox.gate is not None
        images = sandbox.access.client("ec2").describe_images(Owners=["self"])["Images"]
        account = sandbox.access.client("sts").get_caller_identity()["Account"]
        buckets = sandbox.access.client("s3").list_buckets()["Buckets"]
        ours = len(sandbox.gate.calls)
        child = run(Command((sys.executable, "-c", CHILD), env=sandbox.access.child_environment({})), timeout_s=300)
        theirs = sandbox.gate.calls[ours:]

    assert account == sandbox.account.account_id
    assert set(sandbox.account.images_in_use.values()) < {image["ImageId"] for image in images}
    assert len(buckets) == 1
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == [account, str(len(images)), "1"]
    assert [call.region for call in theirs[:2]] == [REGION, REGION]
    assert [call.service for call in theirs] == ["sts", "ec2", "s3"]
    assert trap.visits == 0


def test_the_trap_would_notice(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without the sandbox's environment the same program walks into it."""
    environment = dict(os.environ) | {
        "AWS_ENDPOINT_URL": trap.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_MAX_ATTEMPTS": "1",
    }
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}

    child = run(Command((sys.executable, "-c", CHILD), env=environment | keys), timeout_s=300)

    assert child.returncode != 0
    assert trap.visits > 0, child.stderr


def test_the_users_variables_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other code of this process still sees them."""
    monkeypatch.setenv("AWS_PROFILE", "none")
    before = dict(os.environ)

    with open_sandbox(
        Workspace(tmp_path, sandbox=True), region=REGION, console=Console(err=io.StringIO()), with_guest=False
    ):
        assert os.environ["AWS_PROFILE"] == "none"

    assert {k: v for k, v in os.environ.items() if not k.startswith("MOTO_")} == {
        k: v for k, v in before.items() if not k.startswith("MOTO_")
    }
