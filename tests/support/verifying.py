"""The calls of a verification: what a real one makes, and what its role must allow."""

from __future__ import annotations

# By IAM's names; who asks STS for its own identity needs no right to.
VERIFYING = frozenset(
    {
        "batch:DescribeComputeEnvironments",
        "ec2:CreateTags",
        "ec2:DescribeImages",
        "ec2:DescribeInstances",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeVolumeStatus",
        "ec2:DescribeVolumes",
        "ec2:RunInstances",
        "ec2:TerminateInstances",
        "ssm:CancelCommand",
        "ssm:DescribeInstanceInformation",
        "ssm:GetCommandInvocation",
        "ssm:SendCommand",
    }
)
