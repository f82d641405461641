# What `invoke verify` needs: a profile for the instances that it boots, and the policy of whoever runs it.
#
# The instances may report to Systems Manager and nothing else. Without a right to ECR a container that starts proves that
# its image is in the AMI; without one to ECS the agent joins no cluster, not even `default`.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  ec2 = "arn:${local.partition}:ec2:${local.region}:${local.account}"

  pipeline_tag = "gpu-ami:pipeline"
  pipeline     = "gpu-ami-pipeline"
  family_tag   = "gpu-ami:family"
  run_tag      = "gpu-ami:run"
}

# --- The instances -------------------------------------------------------------------------------

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }
}

data "aws_iam_policy_document" "instance" {
  statement {
    sid = "ReportToSystemsManager"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role" "instance" {
  name               = var.name
  description        = "Instances on which AMIs are verified: Systems Manager, no ECS, no ECR"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "instance" {
  name   = "report-to-systems-manager"
  role   = aws_iam_role.instance.id
  policy = data.aws_iam_policy_document.instance.json
}

resource "aws_iam_instance_profile" "instance" {
  name = var.name
  role = aws_iam_role.instance.name
}

# --- Whoever verifies ----------------------------------------------------------------------------

data "aws_iam_policy_document" "caller" {
  # None of these can be bound to a resource or a tag.
  statement {
    sid = "Look"
    actions = [
      "batch:DescribeComputeEnvironments",
      "ec2:DescribeImages",
      "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeVolumeStatus",
      "ec2:DescribeVolumes",
      "ssm:CancelCommand",
      "ssm:DescribeInstanceInformation",
      "ssm:GetCommandInvocation",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "LaunchOwnImages"
    actions   = ["ec2:RunInstances"]
    resources = ["arn:${local.partition}:ec2:${local.region}::image/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  statement {
    sid     = "LaunchWithWhatIsThere"
    actions = ["ec2:RunInstances"]
    resources = [
      "arn:${local.partition}:ec2:${local.region}::snapshot/*",
      "${local.ec2}:network-interface/*",
      "${local.ec2}:security-group/*",
      "${local.ec2}:subnet/*",
    ]
  }

  statement {
    sid       = "LaunchWhatIsTaggedAsOurs"
    actions   = ["ec2:RunInstances"]
    resources = ["${local.ec2}:instance/*", "${local.ec2}:volume/*"]

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
    sid       = "TagInTheActOfMaking"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:instance/*", "${local.ec2}:volume/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["RunInstances"]
    }
  }

  statement {
    sid       = "EndWhatWasStarted"
    actions   = ["ec2:TerminateInstances"]
    resources = ["${local.ec2}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.family_tag}"
      values   = [var.family]
    }

    # Batch's own instances carry the family, and no run.
    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid       = "RunShellScripts"
    actions   = ["ssm:SendCommand"]
    resources = ["arn:${local.partition}:ssm:${local.region}::document/AWS-RunShellScript"]
  }

  statement {
    sid       = "OnWhatWasStarted"
    actions   = ["ssm:SendCommand"]
    resources = ["${local.ec2}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/${local.family_tag}"
      values   = [var.family]
    }

    condition {
      test     = "Null"
      variable = "ssm:resourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid       = "SayThatAnAmiIsVerified"
    actions   = ["ec2:CreateTags"]
    resources = ["arn:${local.partition}:ec2:${local.region}::image/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws:TagKeys"
      values   = ["gpu-ami:verified"]
    }
  }

  statement {
    sid       = "GiveTheInstanceItsRole"
    actions   = ["iam:PassRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/${var.name}"]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }
}
