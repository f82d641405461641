# Applying: moving Batch to another AMI, and what else changes week by week. Network, roles, repository and bucket are not
# among it: whoever could change those could give the workflows any right. A person applies them.

locals {
  batch = "arn:${local.partition}:batch:${local.region}:${local.account}"
}

data "aws_iam_policy_document" "apply" {
  source_policy_documents = [data.aws_iam_policy_document.plan.json]

  # Batch has no key for "while it is made", as EC2 has: who may make an environment with tags may put them on another one
  # of the same name. So only our own names count here, and the names that Terraform gives where the code gives none.
  statement {
    sid = "MakeBatchsSideTaggedAsOurs"
    actions = [
      "batch:CreateComputeEnvironment",
      "batch:CreateJobQueue",
      "batch:RegisterJobDefinition",
      "batch:TagResource",
    ]
    resources = [
      "${local.batch}:compute-environment/terraform-*",
      "${local.batch}:job-definition/${var.family}",
      "${local.batch}:job-definition/${var.family}:*",
      "${local.batch}:job-queue/${var.family}",
    ]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  statement {
    sid = "ChangeBatchsSide"
    actions = [
      "batch:DeleteComputeEnvironment",
      "batch:DeleteJobQueue",
      "batch:DeregisterJobDefinition",
      "batch:TagResource",
      "batch:UpdateComputeEnvironment",
      "batch:UpdateJobQueue",
      "batch:UntagResource",
    ]
    resources = ["${local.batch}:*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
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
  }

  statement {
    sid       = "TagLaunchTemplatesInTheActOfMaking"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:launch-template/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateLaunchTemplate"]
    }
  }

  statement {
    sid       = "ChangeLaunchTemplates"
    actions   = ["ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplate", "ec2:ModifyLaunchTemplate"]
    resources = ["${local.ec2}:launch-template/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  statement {
    sid       = "SayThatAnAmiIsApplied"
    actions   = ["ec2:CreateTags"]
    resources = [local.images, local.snapshots]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws:TagKeys"
      values   = ["gpu-ami:handover"]
    }
  }

  statement {
    sid       = "GiveInstancesTheirRole"
    actions   = ["iam:PassRole"]
    resources = [var.pass_role_arns.instance]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["batch.amazonaws.com", "ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }

  statement {
    sid       = "GiveJobsTheirRoles"
    actions   = ["iam:PassRole"]
    resources = [var.pass_role_arns.execution, var.pass_role_arns.job]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  statement {
    sid       = "LetBatchHaveItsRole"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/aws-service-role/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["batch.amazonaws.com", "spot.amazonaws.com"]
    }
  }

  statement {
    sid       = "KeepTheLog"
    actions   = ["logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:TagResource"]
    resources = ["arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/gpu-ami/${var.family}*"]
  }

  dynamic "statement" {
    for_each = var.state_bucket == null ? [] : [var.state_bucket]
    content {
      sid     = "WriteStateAndReceipts"
      actions = ["s3:PutObject"]
      resources = [
        "arn:${local.partition}:s3:::${statement.value}/${var.state_key}",
        "arn:${local.partition}:s3:::${statement.value}/${local.receipts}*",
        "arn:${local.partition}:s3:::${statement.value}/${local.builds}*",
      ]
    }
  }

  dynamic "statement" {
    for_each = var.parameter_path == null ? [] : [var.parameter_path]
    content {
      sid       = "PublishTheAmi"
      actions   = ["ssm:AddTagsToResource", "ssm:ListTagsForResource", "ssm:PutParameter"]
      resources = ["arn:${local.partition}:ssm:*:${local.account}:parameter${statement.value}/*"]
    }
  }
}
