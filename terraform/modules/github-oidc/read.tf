# Reading: where an AMI is used, what Terraform manages, and the state.

# What any of the roles may look up. None of this has resources or tags to bind it to.
data "aws_iam_policy_document" "look" {
  source_policy_documents = [data.aws_iam_policy_document.services.json]

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

  # Packer asks for the key's description too, to learn how it signs.
  dynamic "statement" {
    for_each = local.has_signing_key ? [local.signing_key_arn] : []
    content {
      sid       = "VerifyProvenance"
      actions   = ["kms:DescribeKey", "kms:GetPublicKey"]
      resources = [statement.value]
    }
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
      ReadTheState = { actions = ["s3:GetObject"], suffixes = ["/${var.state_key}", "/${local.receipts}*", "/${local.builds}*"] }
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
  builds       = local.state_folder == "" ? "builds/" : "${local.state_folder}/builds/"
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
    resources = concat(local.verify_arns, [
      "arn:${local.partition}:iam::${local.account}:role/${substr(var.family, 0, 26)}-*",
      "arn:${local.partition}:iam::${local.account}:role/${var.family}-github-*", # these names are not cut
      "arn:${local.partition}:iam::${local.account}:instance-profile/${substr(var.family, 0, 26)}-*",
      "arn:${local.partition}:iam::${local.account}:oidc-provider/${local.issuer}",
    ])
  }

  statement {
    sid       = "RefreshTheRepository"
    actions   = ["ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:GetLifecyclePolicy", "ecr:ListTagsForResource"]
    resources = [var.ecr_repository_arn]
  }

  dynamic "statement" {
    for_each = var.make_signing_key ? { RefreshTheKey = local.signing_key_arn, RefreshItsAlias = "*" } : {}
    content {
      sid       = statement.key
      actions   = statement.value == "*" ? ["kms:ListAliases"] : ["kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags"]
      resources = [statement.value]
    }
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
