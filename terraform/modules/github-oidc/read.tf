# Reading: where an AMI is used, what Terraform manages, and the state.

# What any of the roles may look up. None of this has resources or tags to bind it to.
data "aws_iam_policy_document" "look" {
  statement {
    sid = "Look"
    actions = [
      "autoscaling:Describe*",
      "batch:Describe*",
      "batch:ListJobs",
      "batch:ListTagsForResource",
      "ec2:Describe*",
      "ec2:GetAllowedImagesSettings",
      "ec2:ListImagesInRecycleBin",
      "ec2:ListSnapshotsInRecycleBin",
      "ecs:DescribeContainerInstances",
      "ecs:ListContainerInstances",
      "imagebuilder:GetContainerRecipe",
      "imagebuilder:GetImageRecipe",
      "imagebuilder:ListContainerRecipes",
      "imagebuilder:ListImageRecipes",
      "pricing:GetProducts",
      "rbin:GetRule",
      "rbin:ListRules",
      "ssm:DescribeParameters",
    ]
    resources = ["*"]
  }

  # Services that start instances of their own from an AMI of ours, or make volumes from one of its snapshots.
  statement {
    sid       = "ReadParallelClusters"
    actions   = ["pcs:GetComputeNodeGroup", "pcs:ListClusters", "pcs:ListComputeNodeGroups"]
    resources = ["*"]
  }

  statement {
    sid       = "ReadHyperPod"
    actions   = ["sagemaker:DescribeCluster", "sagemaker:ListClusters"]
    resources = ["*"]
  }

  statement {
    sid = "ReadMapReduce"
    actions = [
      "elasticmapreduce:DescribeCluster",
      "elasticmapreduce:ListClusters",
      "elasticmapreduce:ListInstanceFleets",
      "elasticmapreduce:ListInstanceGroups",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "ReadBuildFleets"
    actions   = ["codebuild:BatchGetFleets", "codebuild:ListFleets"]
    resources = ["*"]
  }

  # On less than all, Elastic Beanstalk leaves out the rest without a word.
  statement {
    sid = "ReadBeanstalk"
    actions = [
      "elasticbeanstalk:DescribeApplications",
      "elasticbeanstalk:DescribeConfigurationSettings",
      "elasticbeanstalk:DescribeEnvironments",
      "elasticbeanstalk:DescribePlatformVersion",
      "elasticbeanstalk:ListPlatformVersions",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "ReadContainerServices"
    actions   = ["ecs:DescribeClusters", "ecs:DescribeServices", "ecs:ListClusters", "ecs:ListServices"]
    resources = ["*"]
  }

  statement {
    sid       = "ReadAgentCore"
    actions   = ["bedrock-agentcore:GetCapacityProvider", "bedrock-agentcore:ListCapacityProviders"]
    resources = ["*"]
  }

  # Any parameter may hold an AMI id; a SecureString's value needs a key that is not given here. A launch template may
  # name one that another account shares: that account decides who may read it.
  statement {
    sid     = "ReadParameters"
    actions = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
    resources = [
      "arn:${local.partition}:ssm:*:*:parameter/*",
      "arn:${local.partition}:ssm:*::parameter/aws/service/*",
    ]
  }

  # What people wrote in these may mention an AMI. It may hold secrets, too: of what is read only ids are kept.
  statement {
    sid = "ReadStacks"
    # Without the name of a stack DescribeStacks needs ListStacks, too.
    actions   = ["cloudformation:DescribeStacks", "cloudformation:ListStacks"]
    resources = ["*"]
  }

  statement {
    sid       = "ReadFunctions"
    actions   = ["lambda:ListFunctions"]
    resources = ["*"]
  }

  statement {
    sid       = "ReadStateMachines"
    actions   = ["states:DescribeStateMachine", "states:ListStateMachineVersions", "states:ListStateMachines"]
    resources = ["*"]
  }

  statement {
    sid       = "ReadSchedules"
    actions   = ["scheduler:GetSchedule", "scheduler:ListSchedules"]
    resources = ["*"]
  }

  statement {
    sid = "ReadMaintenanceWindows"
    actions = [
      "ssm:DescribeMaintenanceWindowTasks",
      "ssm:DescribeMaintenanceWindows",
      "ssm:GetMaintenanceWindowTask",
    ]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = length(var.reader_role_arns) > 0 ? [var.reader_role_arns] : []
    content {
      sid       = "ReadUsesInOtherAccounts"
      actions   = ["sts:AssumeRole"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = var.state_bucket == null ? {} : {
      FindTheState = { actions = ["s3:ListBucket"], suffixes = [""] }
      # Terraform's lock is an object beside the state.
      ReadTheState = { actions = ["s3:GetObject"], suffixes = ["/${var.state_key}", "/${local.receipts}*"] }
      LockTheState = { actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], suffixes = ["/${var.state_key}.tflock"] }
    }
    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = [for suffix in statement.value.suffixes : "arn:${local.partition}:s3:::${var.state_bucket}${suffix}"]
    }
  }
}

locals {
  state_folder = join("/", slice(split("/", var.state_key), 0, length(split("/", var.state_key)) - 1))
  receipts     = local.state_folder == "" ? "receipts/" : "${local.state_folder}/receipts/"
}

# What a refresh of the root module reads besides.
data "aws_iam_policy_document" "plan" {
  source_policy_documents = [data.aws_iam_policy_document.look.json]

  statement {
    sid = "RefreshWhatHasNoResources"
    actions = [
      "logs:DescribeLogGroups",
      "logs:ListTagsForResource",
      "iam:ListOpenIDConnectProviders",
    ]
    resources = ["*"]
  }

  statement {
    sid = "RefreshRoles"
    actions = [
      "iam:GetInstanceProfile",
      "iam:GetOpenIDConnectProvider",
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListRolePolicies",
    ]
    resources = [
      "arn:${local.partition}:iam::${local.account}:role/${substr(var.family, 0, 26)}-*",
      "arn:${local.partition}:iam::${local.account}:role/${var.family}-github-*", # these names are not cut
      "arn:${local.partition}:iam::${local.account}:instance-profile/${substr(var.family, 0, 26)}-*",
      "arn:${local.partition}:iam::${local.account}:oidc-provider/${local.issuer}",
    ]
  }

  statement {
    sid       = "RefreshTheRepository"
    actions   = ["ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:GetLifecyclePolicy", "ecr:ListTagsForResource"]
    resources = [var.ecr_repository_arn]
  }

  dynamic "statement" {
    for_each = var.models_bucket == "" ? [] : [var.models_bucket]
    content {
      sid = "RefreshTheBucket"
      actions = [
        "s3:GetAccelerateConfiguration",
        "s3:GetBucket*",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:GetReplicationConfiguration",
        "s3:ListBucket",
      ]
      resources = ["arn:${local.partition}:s3:::${statement.value}"]
    }
  }
}
