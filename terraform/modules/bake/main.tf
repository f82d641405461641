# What a bake reads: the repository of the container image, the bucket of the models, and the build instance's right to them.

data "aws_partition" "current" {}

locals {
  role_prefix = substr(var.family, 0, 26)

  # Empty means: none at all.
  make_repository = var.ecr_repository_url == null
  make_bucket     = var.models_bucket == null

  repository_url = local.make_repository ? aws_ecr_repository.image[0].repository_url : var.ecr_repository_url
  existing       = try(regex("^(?P<account>[0-9]+)\\.dkr[.-]ecr(?:-fips)?\\.(?P<region>[a-z0-9-]+)\\.[a-z.]+/(?P<name>.+)$", var.ecr_repository_url), null)
  repository_arn = local.make_repository ? aws_ecr_repository.image[0].arn : "arn:${data.aws_partition.current.partition}:ecr:${local.existing.region}:${local.existing.account}:repository/${local.existing.name}"
  bucket         = local.make_bucket ? aws_s3_bucket.models[0].bucket : var.models_bucket
  bucket_arn     = "arn:${data.aws_partition.current.partition}:s3:::${local.bucket}"
}

# --- Container image -----------------------------------------------------------------------------

resource "aws_ecr_repository" "image" {
  count = local.make_repository ? 1 : 0

  name = var.family
  # A tag that moves is frozen in an AMI at what it named during the bake.
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }
}

# --- Models --------------------------------------------------------------------------------------

resource "aws_s3_bucket" "models" {
  count = local.make_bucket ? 1 : 0

  bucket_prefix = "${substr(var.family, 0, 29)}-models-"
}

resource "aws_s3_bucket_public_access_block" "models" {
  count = local.make_bucket ? 1 : 0

  bucket                  = aws_s3_bucket.models[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# --- Build instance ------------------------------------------------------------------------------

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }
}

data "aws_iam_policy_document" "builder" {
  statement {
    sid       = "LogInToEcr"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "PullTheImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"]
    resources = [local.repository_arn]
  }

  dynamic "statement" {
    for_each = var.models_bucket == "" ? {} : { ListTheModels = "s3:ListBucket", ReadTheModels = "s3:GetObject" }
    content {
      sid       = statement.key
      actions   = [statement.value]
      resources = [statement.value == "s3:ListBucket" ? local.bucket_arn : "${local.bucket_arn}/models/*"]
    }
  }

  dynamic "statement" {
    for_each = var.allow_session_tunnel ? ["the agent's side of the tunnel"] : []
    content {
      sid = "SessionManager"
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
}

resource "aws_iam_role" "builder" {
  name_prefix        = "${local.role_prefix}-bake-"
  description        = "Packer's build instances of ${var.family}"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "builder" {
  name   = "read-image-and-models"
  role   = aws_iam_role.builder.id
  policy = data.aws_iam_policy_document.builder.json
}

resource "aws_iam_instance_profile" "builder" {
  name_prefix = "${local.role_prefix}-bake-"
  role        = aws_iam_role.builder.name
}
