"""What other code needs to know of a sandbox: where it answers and what its demo account holds.

No moto here: an invocation that attaches to a running sandbox must not wait for its import.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

LOOPBACK = "127.0.0.1"
# Who asks here with the right token knows that it is the sandbox and not another program on the same port.
ALIVE_PATH = "/sandbox/alive"
TOKEN_HEADER = "X-Sandbox-Token"  # noqa: S105 - a header's name


@dataclass(frozen=True)
class DemoAccount:
    """What is in the demo account, by the names that Packer's and Terraform's variables have.

    Attributes:
        account_id: The account.
        region: Where everything is.
        vpc_id: A VPC with an internet gateway.
        subnet_id: A public subnet in it.
        security_group_id: A group without ingress that lets 80 and 443 out.
        instance_profile: What a build instance runs as.
        source_ami_id: The ECS GPU AMI that the public parameter names.
        ecr_repository_url: Repository of the container image.
        image_tag: Its immutable tag; ``latest`` names the same image.
        image_digest: Its digest, ``sha256:...``.
        models_bucket: Bucket with the models.
        models_prefix: Where in it.
        model_checksums: SHA-256 of each model file, by its path under the prefix.
        compute_environment: Name of the Batch compute environment.
        job_queue: Name of its job queue.
        family: Family of the AMIs.
        live_ami_id: The AMI that Batch starts instances of.
        images_in_use: AMIs that something needs, by what needs them.
        unused_images: AMIs that nothing needs and that are older than 30 days.
        orphan_snapshots: Snapshots of AMIs that are gone.
        leftovers: What an incomplete build left behind, by kind; ``image`` among it.
    """

    account_id: str
    region: str
    vpc_id: str
    subnet_id: str
    security_group_id: str
    instance_profile: str
    source_ami_id: str
    ecr_repository_url: str
    image_tag: str
    image_digest: str
    models_bucket: str
    models_prefix: str
    model_checksums: dict[str, str]
    compute_environment: str
    job_queue: str
    family: str
    live_ami_id: str
    images_in_use: dict[str, str]
    unused_images: list[str]
    orphan_snapshots: list[str]
    leftovers: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the account as a JSON document; ``DemoAccount(**document)`` reads it back."""
        return asdict(self)
