"""The demo account: a network, an image, models, a Batch environment and two years of AMIs.

It is put straight into moto's backends: a few hundred requests would cost seconds at each start.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from moto.batch.models import batch_backends
from moto.ec2.models import ec2_backends
from moto.ecr.models import ecr_backends
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends

from gpu_ami_sandbox.account import DemoAccount
from gpu_ami_sandbox.aws.base_image import base_image_id
from gpu_ami_sandbox.aws.batch import service_linked_role
from gpu_ami_sandbox.aws.ec2.service import ensure_base_image
from gpu_ami_sandbox.aws.ecr import blobs
from gpu_ami_sandbox.aws.iam import add_caller
from gpu_ami_sandbox.demo.content import container_image, models
from gpu_ami_sandbox.demo.factory import FAMILY, DemoLocation
from gpu_ami_sandbox.demo.images import DemoImages, add_images

REPOSITORY = "batch-processor"
IMAGE_TAG = "2026.09.1"
BUILDER_PROFILE = "gpu-ami-builder"
BATCH_INSTANCE_PROFILE = "ecsInstanceRole"
VERIFY_PROFILE = "gpu-ami-verify"
MODELS_PREFIX = "models/"
COMPUTE_ENVIRONMENT = "batch-video-analysis-gpu"
JOB_QUEUE = "batch-video-analysis"
_JOB_RUNS_FOR = timedelta(minutes=12)
_EVERYWHERE = [{"CidrIp": "0.0.0.0/0"}]
_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ],
    }
)


def build_demo_account(account_id: str, region: str, now: datetime) -> DemoAccount:
    """Fill moto's empty, seeded state with the demo account; *now* dates its AMIs."""
    ec2 = ec2_backends[account_id][region]
    ensure_base_image(ec2)
    made = network(ec2, region)
    add_profiles(account_id)
    digest = _repository(account_id, region)
    bucket, checksums = _model_bucket(account_id, region)
    _let_the_builder_read(account_id, region, bucket)
    location = DemoLocation(account_id, region, made["subnet_id"], made["security_group_id"], BATCH_INSTANCE_PROFILE)
    url = f"{account_id}.dkr.ecr.{region}.amazonaws.com/{REPOSITORY}"
    images = add_images(location, now.replace(tzinfo=None), f"{url}@{digest}")
    _batch(location, images, f"{url}@{digest}", now)
    add_caller(account_id, region)
    return DemoAccount(
        account_id=account_id,
        region=region,
        **made,
        instance_profile=BUILDER_PROFILE,
        source_ami_id=base_image_id(region),
        ecr_repository_url=url,
        image_tag=IMAGE_TAG,
        image_digest=digest,
        models_bucket=bucket,
        models_prefix=MODELS_PREFIX,
        model_checksums=checksums,
        compute_environment=COMPUTE_ENVIRONMENT,
        job_queue=JOB_QUEUE,
        family=FAMILY,
        live_ami_id=images.live,
        images_in_use=images.in_use,
        unused_images=images.unused,
        orphan_snapshots=images.orphan_snapshots,
        leftovers=images.leftovers,
    )


def network(ec2: Any, region: str) -> dict[str, str]:
    """Make a VPC with a public subnet and a security group; return their ids, by their names."""
    vpc = ec2.create_vpc("10.20.0.0/16", tags=[{"Key": "Name", "Value": "gpu-ami-demo"}])
    subnet = ec2.create_subnet(vpc.id, "10.20.1.0/24", availability_zone=f"{region}a")
    ec2.modify_subnet_attribute(subnet.id, "map_public_ip_on_launch", True)
    gateway = ec2.create_internet_gateway()
    ec2.attach_internet_gateway(gateway.id, vpc.id)
    table = ec2.create_route_table(vpc.id)
    ec2.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)
    ec2.associate_route_table(table.id, subnet_id=subnet.id)
    group = ec2.create_security_group("gpu-ami-builder", "Lets a build instance fetch what it needs", vpc.id)
    ec2.revoke_security_group_egress(group.id, "-1", None, None, _EVERYWHERE, vpc_id=vpc.id)
    for port in ("80", "443"):
        ec2.authorize_security_group_egress(group.id, "tcp", port, port, _EVERYWHERE, vpc_id=vpc.id)
    return {"vpc_id": vpc.id, "subnet_id": subnet.id, "security_group_id": group.id}


def add_profiles(account_id: str) -> None:
    """Make the instance profiles of builders, Batch's hosts and verifications, each with a role of its name."""
    iam = iam_backends[account_id]["aws"]
    for name in (BUILDER_PROFILE, BATCH_INSTANCE_PROFILE, VERIFY_PROFILE):
        iam.create_role(name, _TRUST, "/", None, "", [], "3600")
        iam.create_instance_profile(name, "/", [])
        iam.add_role_to_instance_profile(name, name)
    # Without a right to ECR a container that starts proves that its image is in the AMI.
    actions = ["ssm:UpdateInstanceInformation", "ssmmessages:*"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(VERIFY_PROFILE, "report-to-ssm", document)


def _let_the_builder_read(account_id: str, region: str, bucket: str) -> None:
    """Give the builder's role what the template's temporary profile would have."""
    repository = f"arn:aws:ecr:{region}:{account_id}:repository/{REPOSITORY}"
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"]
    models_ = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{MODELS_PREFIX}*"]
    granted = (
        (["ecr:GetAuthorizationToken"], ["*"]),
        (pull, [repository]),
        (["s3:GetObject", "s3:ListBucket"], models_),
    )
    statements = [{"Effect": "Allow", "Action": actions, "Resource": on} for actions, on in granted]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam_backends[account_id]["aws"].put_role_policy(BUILDER_PROFILE, "read-image-and-models", document)


def _repository(account_id: str, region: str) -> str:
    ecr, image = ecr_backends[account_id][region], container_image()
    ecr.create_repository(REPOSITORY, None, None, None, "MUTABLE", [])
    for tag in (IMAGE_TAG, "latest"):
        ecr.put_image(REPOSITORY, image.manifest, tag, image.media_type, image.digest)
    blobs(account_id, region).update(image.blobs)
    return image.digest


def _model_bucket(account_id: str, region: str) -> tuple[str, dict[str, str]]:
    s3, bucket, files = s3_backends[account_id]["aws"], f"gpu-ami-models-{account_id}-{region}", models()
    s3.create_bucket(bucket, region)
    for name, content in files.items():
        s3.put_object(bucket, f"{MODELS_PREFIX}{name}", content, disable_notification=True)
    return bucket, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _batch(location: DemoLocation, images: DemoImages, image: str, now: datetime) -> None:
    batch = batch_backends[location.account_id][location.region]
    role = service_linked_role(location.account_id)
    resources = location.compute_resources(
        launchTemplate={"launchTemplateId": images.batch_template_id, "version": "$Latest"},
        ec2Configuration=[{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": images.live}],
    )
    tags = {"gpu-ami:family": FAMILY}
    environment = batch.create_compute_environment(COMPUTE_ENVIRONMENT, "MANAGED", "ENABLED", resources, role, tags)
    order = [{"order": 1, "computeEnvironment": environment.arn}]
    batch.create_job_queue(JOB_QUEUE, 1, None, "ENABLED", order)
    container = {"image": image, "vcpus": 4, "memory": 14000}
    batch.register_job_definition(
        def_name=JOB_QUEUE,
        parameters={},
        _type="container",
        tags=tags,
        retry_strategy={},
        container_properties=container,
        node_properties=None,
        eks_properties=None,
        timeout={},
        platform_capabilities=["EC2"],
        propagate_tags=False,
    )
    _, job_id, _ = batch.submit_job("camera-17", JOB_QUEUE, JOB_QUEUE, {})
    batch._jobs[job_id].job_started_at = now - _JOB_RUNS_FOR
