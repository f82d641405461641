# Cleaning up: docs/cleanup.md of the repository lists the calls. Nothing without our tag can be removed, whatever the code
# above it decides, and tags can only be put on what has that one already.

locals {
  # Names of the profile and the role that Packer makes for one build.
  temporary = [
    "arn:${local.partition}:iam::${local.account}:instance-profile/packer-*",
    "arn:${local.partition}:iam::${local.account}:role/packer-*",
  ]
}

data "aws_iam_policy_document" "cleanup" {
  source_policy_documents = [data.aws_iam_policy_document.look.json]

  statement {
    sid = "RemoveAndBringBackOwnImages"
    actions = [
      "ec2:CreateTags",
      "ec2:DeleteSnapshot",
      "ec2:DeregisterImage",
      "ec2:DisableImage",
      "ec2:DisableImageDeprecation",
      "ec2:EnableImage",
      "ec2:EnableImageDeprecation",
      "ec2:ModifyImageAttribute",
      "ec2:RestoreImageFromRecycleBin",
      "ec2:RestoreSnapshotFromRecycleBin",
    ]
    resources = [local.images, local.snapshots]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  # `--usage-reports`: on our AMIs, with our tag from the start, and deleted by it.
  statement {
    sid       = "ReportOnOwnImages"
    actions   = ["ec2:CreateImageUsageReport"]
    resources = [local.images]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  statement {
    sid       = "MakeTaggedUsageReports"
    actions   = ["ec2:CreateImageUsageReport"]
    resources = ["${local.ec2}:image-usage-report/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  statement {
    sid       = "TagUsageReportsInTheActOfMaking"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:image-usage-report/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateImageUsageReport"]
    }
  }

  statement {
    sid       = "DeleteOwnUsageReports"
    actions   = ["ec2:DeleteImageUsageReport"]
    resources = ["${local.ec2}:image-usage-report/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  statement {
    sid = "SweepWhatBuildsLeft"
    actions = [
      "ec2:DeleteKeyPair",
      "ec2:DeleteLaunchTemplate",
      "ec2:DeleteSecurityGroup",
      "ec2:DeleteVolume",
      "ec2:TerminateInstances",
    ]
    resources = [
      "${local.ec2}:instance/*",
      "${local.ec2}:key-pair/*",
      "${local.ec2}:launch-template/*",
      "${local.ec2}:security-group/*",
      "${local.ec2}:volume/*",
    ]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  # Production's queue and environments carry the pipeline's tag, too: only a bench's names, and with a run.
  statement {
    sid = "SweepWhatBenchesLeft"
    actions = [
      "batch:DeleteComputeEnvironment",
      "batch:DeleteJobQueue",
      "batch:DeregisterJobDefinition",
      "batch:UpdateComputeEnvironment",
      "batch:UpdateJobQueue",
    ]
    resources = [
      "arn:${local.partition}:batch:*:${local.account}:compute-environment/gpu-ami-bench-*",
      "arn:${local.partition}:batch:*:${local.account}:job-definition/gpu-ami-bench-*",
      "arn:${local.partition}:batch:*:${local.account}:job-queue/gpu-ami-bench-*",
    ]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  # A job's ARN has no name in it.
  statement {
    sid       = "EndJobsOfBenches"
    actions   = ["batch:TerminateJob"]
    resources = ["arn:${local.partition}:batch:*:${local.account}:job/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid       = "FindProfilesThatBuildsLeft"
    actions   = ["iam:ListInstanceProfiles", "iam:ListRoles"]
    resources = ["*"]
  }

  statement {
    sid = "LookAtProfilesThatBuildsLeft"
    actions = [
      "iam:GetInstanceProfile",
      "iam:GetRole",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListRolePolicies",
    ]
    resources = local.temporary
  }

  # Every team's Packer names them alike; ours puts the tags of the build on both.
  statement {
    sid = "SweepProfilesThatBuildsLeft"
    actions = [
      "iam:DeleteInstanceProfile",
      "iam:DeleteRole",
      "iam:DeleteRolePolicy",
      "iam:DetachRolePolicy",
      "iam:RemoveRoleFromInstanceProfile",
    ]
    resources = local.temporary

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }
}
