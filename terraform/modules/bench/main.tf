# What whoever runs `invoke bench` may: make environments, queues, definitions and launch templates of a bench's own names,
# hand production's roles to Batch, and take away what carries a run. It makes nothing itself: the hosts are production's kind.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  batch = "arn:${local.partition}:batch:${local.region}:${local.account}"
  ec2   = "arn:${local.partition}:ec2:${local.region}:${local.account}"
  ecs   = "arn:${local.partition}:ecs:${local.region}:${local.account}"
  logs  = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group"

  pipeline_tag = "gpu-ami:pipeline"
  pipeline     = "gpu-ami-pipeline"
  family_tag   = "gpu-ami:family"
  run_tag      = "gpu-ami:run"
  # Batch names its clusters after the environment.
  prefix = "gpu-ami-bench-"
}

data "aws_iam_policy_document" "caller" {
  # None of these can be bound to a resource or a tag.
  statement {
    sid = "LookAround"
    actions = [
      "autoscaling:DescribeScalingActivities",
      "batch:DescribeComputeEnvironments",
      "batch:DescribeJobDefinitions",
      "batch:DescribeJobQueues",
      "batch:DescribeJobs",
      "batch:ListJobs",
      "ec2:DescribeImages",
      "ec2:DescribeInstanceTypeOfferings",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribeSubnets",
      "ec2:DescribeVolumeStatus",
      "ec2:DescribeVolumes",
      "servicequotas:GetServiceQuota",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "LookAtTheImage"
    actions   = ["ecr:BatchGetImage", "ecr:DescribeImages"]
    resources = [var.ecr_repository_arn]
  }

  statement {
    sid     = "LookAtHosts"
    actions = ["ecs:DescribeContainerInstances", "ecs:DescribeTasks", "ecs:ListTasks"]
    resources = [
      "${local.ecs}:container-instance/AWSBatch-${local.prefix}*",
      "${local.ecs}:task/AWSBatch-${local.prefix}*",
    ]
  }

  # The jobs' log group is production's, and so is the beginning of the streams' names.
  statement {
    sid       = "ReadTheJobsLines"
    actions   = ["logs:GetLogEvents"]
    resources = ["${local.logs}:/aws/batch/job:log-stream:${local.prefix}*", "${local.logs}:${var.log_group_name}:log-stream:*"]
  }

  # Batch has no key for "while it is made", as EC2 has: who may make a thing with tags may put them on another one of the
  # same name. So only a bench's names count.
  statement {
    sid = "MakeBatchsSideTaggedAsOurs"
    actions = [
      "batch:CreateComputeEnvironment",
      "batch:CreateJobQueue",
      "batch:RegisterJobDefinition",
      "batch:TagResource",
    ]
    resources = [
      "${local.batch}:compute-environment/${local.prefix}*",
      "${local.batch}:job-definition/${local.prefix}*",
      "${local.batch}:job-queue/${local.prefix}*",
    ]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.family_tag}"
      values   = [var.family]
    }

    # A sweep finds by it what a bench that was killed left.
    condition {
      test     = "Null"
      variable = "aws:RequestTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid     = "SubmitToOwnQueues"
    actions = ["batch:SubmitJob"]
    resources = [
      "${local.batch}:job-definition/${local.prefix}*",
      "${local.batch}:job-queue/${local.prefix}*",
    ]
  }

  # A job's ARN has no name in it.
  statement {
    sid       = "SubmitJobsTaggedAsOurs"
    actions   = ["batch:SubmitJob", "batch:TagResource"]
    resources = ["${local.batch}:job/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.family_tag}"
      values   = [var.family]
    }

    condition {
      test     = "Null"
      variable = "aws:RequestTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid = "TakeAwayWhatWasMade"
    actions = [
      "batch:DeleteComputeEnvironment",
      "batch:DeleteJobQueue",
      "batch:DeregisterJobDefinition",
      "batch:UpdateComputeEnvironment",
      "batch:UpdateJobQueue",
    ]
    resources = [
      "${local.batch}:compute-environment/${local.prefix}*",
      "${local.batch}:job-definition/${local.prefix}*",
      "${local.batch}:job-queue/${local.prefix}*",
    ]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.family_tag}"
      values   = [var.family]
    }

    # Production's carry the family, and no run.
    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid       = "EndOwnJobs"
    actions   = ["batch:TerminateJob"]
    resources = ["${local.batch}:job/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.family_tag}"
      values   = [var.family]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid       = "MakeLaunchTemplates"
    actions   = ["ec2:CreateLaunchTemplate"]
    resources = ["${local.ec2}:launch-template/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.family_tag}"
      values   = [var.family]
    }

    condition {
      test     = "Null"
      variable = "aws:RequestTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid       = "TagThemInTheActOfMaking"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:launch-template/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateLaunchTemplate"]
    }
  }

  statement {
    sid       = "DeleteThem"
    actions   = ["ec2:DeleteLaunchTemplate"]
    resources = ["${local.ec2}:launch-template/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.family_tag}"
      values   = [var.family]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid       = "GiveInstancesTheirRole"
    actions   = ["iam:PassRole"]
    resources = [var.instance_role_arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["batch.amazonaws.com", "ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }

  statement {
    sid       = "GiveJobsTheirRoles"
    actions   = ["iam:PassRole"]
    resources = var.job_role_arns

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  statement {
    sid       = "LetBatchHaveItsRole"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/aws-service-role/batch.amazonaws.com/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["batch.amazonaws.com"]
    }
  }
}
