"""A build in the sandbox among a user's own settings: none of them may lead it to a real account."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

from tests.e2e.conftest import Checkout


class Trap:
    """A server on another loopback port: whoever connects there has left the sandbox."""

    def __init__(self) -> None:
        """Listen at once."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


BACKEND = """\
terraform {
  backend "s3" {
    bucket = "leak"
    key    = "leak"
    region = "eu-west-1"
  }
}
"""


def test_no_variable_of_the_user_leads_the_sandbox_off_loopback(whole_checkout: Checkout, tmp_path: Path) -> None:
    """Each of these gets past a plain AWS_ENDPOINT_URL; together they must change nothing."""
    trap = Trap()
    there = f"http://127.0.0.1:{trap.port}"
    config = tmp_path / "config"
    config.write_text(f"[profile leak]\nregion = eu-west-1\nendpoint_url = {there}\naws_access_key_id = a\n")
    (whole_checkout.root / "packer" / "variables.auto.pkrvars.hcl").write_text('subnet_id = "subnet-leak"\n')
    (whole_checkout.root / "terraform" / "terraform.tfvars").write_text('gpu_ami_id = "ami-leak"\n')
    (whole_checkout.root / "terraform" / "backend.tf").write_text(BACKEND)
    leaks = {
        "AWS_PROFILE": "leak",
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_ENDPOINT_URL": there,
        "AWS_ENDPOINT_URL_EC2": there,
        "AWS_ENDPOINT_URL_SSM": there,
        "AWS_ENDPOINT_URL_S3": there,
        "AWS_ENDPOINT_URL_STS": there,
        "AWS_REGION": "eu-west-1",
        "AWS_CA_BUNDLE": str(tmp_path / "none.pem"),
        "HTTP_PROXY": there,
        "HTTPS_PROXY": there,
        "http_proxy": there,
        "https_proxy": there,
        "ALL_PROXY": there,
        "PKR_VAR_subnet_id": "subnet-leak",
        "PACKER_LOG": "1",
        "PACKER_CONFIG": str(tmp_path / "packerconfig"),
        "TF_VAR_gpu_ami_id": "ami-leak",
        "TF_CLI_ARGS": "-nonsense",
        "TF_CLI_ARGS_init": "-backend-config=bucket=leak",
        "TF_WORKSPACE": "leak",
        "TF_CLI_CONFIG_FILE": str(tmp_path / "none.rc"),
    }
    try:
        done = whole_checkout.invoke("build", "--sandbox", "--output", "json", **leaks)
    finally:
        trap.close()

    assert done.returncode == 0, done.stderr
    assert trap.connections == 0
    built = json.loads(done.stdout)
    handed = json.loads((whole_checkout.root / built["tfvars"]).read_text())
    assert handed == {"gpu_ami_id": built["ami_id"]}
    for file in (whole_checkout.root / ".sandbox").rglob("*"):
        if file.is_file() and os.access(file, os.R_OK) and file.stat().st_size < 1_000_000:
            assert b"subnet-leak" not in file.read_bytes(), file
