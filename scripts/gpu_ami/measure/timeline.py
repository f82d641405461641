"""What a bench knows of each of its hosts: the moments of its start, each with its clock, and what proves it fresh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Arm = Literal["stock", "plain", "rated", "live"]
# Whose clock a moment is of. Between two moments of one clock a phase is exact; between others there is skew.
Clock = Literal["batch", "ec2", "ebs", "autoscaling", "ecs", "logs", "host"]

# Of a host that was not measured to its end because the bench itself ended: `Host.trouble`.
CUT = "the bench was cut off before it was measured"
# What it begins with where a job ended well and nobody could read what it said.
NO_LOG = "its log could not be read"
# What is missing of a probe whose log was read and has nothing of it. Batch overrides an image's CMD and has no member
# for its ENTRYPOINT (botocore 1.44.8: `command` of ContainerProperties, TaskContainerProperties, ContainerOverrides).
SILENT = "the probe has said not a line: does the image's ENTRYPOINT run what it is given?"
# In the order in which they come; `coldstart.bench_result.MOMENTS` has those that its phases lie between.
NAMES = (
    "submitted",  # Batch took the job
    "asked",  # Auto Scaling began to launch
    "launched",  # EC2's LaunchTime
    "kernel_up",  # the host's time less its uptime
    "registered",  # ECS knows the container instance
    "placed",  # ECS has a task there: Batch's STARTING
    "pull_started",  # absent where nothing was pulled
    "pull_stopped",
    "started",  # ECS: the container runs
    "running",  # Batch says so
    "first_line",  # the probe's first words
    "imports_done",
    "models_done",
    "ended",  # Batch's stoppedAt
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One moment of a host's start.

    Attributes:
        at: Seconds since 1970, with the probe's own seconds before it taken off; None where it is missing.
        clock: Whose clock.
        source: The call and member that says so, such as ``batch:DescribeJobs createdAt``.
        resolution_s: How finely that source tells time, seconds.
        missing: Why there is none; None where there is one.
    """

    at: float | None
    clock: Clock
    source: str
    resolution_s: float
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a host of an arm has to be.

    Attributes:
        ami_id: The AMI.
        is_baked: Whether the container image is in it: then nothing may be pulled.
        digest: The image's, ``sha256:…``.
        rate_mib_s: The rate of its launch template; None without one.
        instance_type: Its type.
    """

    ami_id: str
    is_baked: bool
    digest: str
    rate_mib_s: int | None
    instance_type: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was read of a host while it lived; None, or an empty value, where that was not to be had.

    Attributes:
        job_id: The Batch job.
        attempts: How many attempts Batch made.
        exit_code: The container's.
        status: Batch's last word on the job, such as ``SUCCEEDED``.
        status_reason: Batch's reason.
        instance_id: By ECS's container instance.
        said_instance_id: By the probe, from the instance's metadata.
        boot_id: By the probe, the kernel's.
        instances: All that were started for this host's environment.
        tasks: All tasks that its container instance had.
        instance_type: EC2's.
        zone: EC2's.
        ami_id: EC2's.
        digest: ECS's digest of the container's image.
        pulled: Whether ECS noted a pull.
        rate_mib_s: The root volume's; None without one.
        volume_kind: DescribeVolumeStatus's ``default``, ``provisioned-rate`` or ``volume-copy``.
        volume_id: The root volume.
        copied_rate_mib_s: The rate in Batch's own copy of the launch template; None without one, or unread.
        is_copy_read: Whether that copy could be read.
        models_bytes: How much the probe read of models.
        models_skipped: How many files and folders of models it could not read.
        group: The Auto Scaling group's name.
        is_fast_restored: EBS's ``FastRestored`` of the root volume: Fast Snapshot Restore had a credit for it.
        has_task_metadata: Whether the probe got its task's metadata (``ECS_CONTAINER_METADATA_URI_V4``).
    """

    job_id: str = ""
    attempts: int | None = None
    exit_code: int | None = None
    status: str = ""
    status_reason: str = ""
    instance_id: str = ""
    said_instance_id: str = ""
    boot_id: str = ""
    instances: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    instance_type: str = ""
    zone: str = ""
    ami_id: str = ""
    digest: str = ""
    pulled: bool | None = None
    rate_mib_s: int | None = None
    volume_kind: str = ""
    volume_id: str = ""
    copied_rate_mib_s: int | None = None
    is_copy_read: bool = False
    models_bytes: int | None = None
    models_skipped: int | None = None
    group: str = ""
    is_fast_restored: bool | None = None
    has_task_metadata: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host of a bench, as it was seen.

    Attributes:
        arm: Its arm.
        round: Its round, from 1 on: hosts of one round are compared with each other.
        expected: What it has to be.
        facts: What was read of it.
        moments: By `NAMES`; each is there, missing ones with their reason.
        trouble: Why it never came as far as a measurement (no capacity, a misconfiguration, a cut); None otherwise.
    """

    arm: Arm
    round: int
    expected: Expected
    facts: Facts = field(default_factory=Facts)
    moments: Mapping[str, Moment] = field(default_factory=dict)
    trouble: str | None = None
