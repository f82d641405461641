# Roles that GitHub's workflows sign in to without any stored key: one per purpose, each bound to the tokens of its jobs.
#
# What destroys or changes something is bound to our tag, and where a build's own things are meant to gpu-ami:run as well:
# Batch's instances carry the first tag, but never the second.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {
  lifecycle {
    # The plugin's IsRestricted: there it tags what it has made in a second call.
    postcondition {
      condition     = self.partition == "aws"
      error_message = "The workflows' roles work in AWS's commercial regions only: in GovCloud and China Packer makes AMIs without the tags that the build role is bound to."
    }
  }
}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  issuer       = "token.actions.githubusercontent.com"
  provider_arn = var.create_provider ? aws_iam_openid_connect_provider.github[0].arn : "arn:${local.partition}:iam::${local.account}:oidc-provider/${local.issuer}"

  # The whole subject of each token that may sign in; nothing is matched by pattern.
  subjects = { for purpose, some in local.every_subject : purpose => some if purpose != "bench" || var.allow_bench }
  every_subject = {
    plan = [
      "${var.subject}:pull_request", # GitHub gives a fork's pull request no token
      "${var.subject}:ref:refs/heads/${var.branch}",
      "${var.subject}:environment:${var.environments.build}",
    ]
    build   = ["${var.subject}:environment:${var.environments.build}"]
    apply   = ["${var.subject}:environment:${var.environments.apply}"]
    cleanup = ["${var.subject}:environment:${var.environments.cleanup}", "${var.subject}:environment:${var.environments.sweep}"]
    bench   = ["${var.subject}:environment:${var.environments.bench}"]
  }

  descriptions = {
    plan    = "Reads what a plan, a status or a clean-up's plan needs"
    build   = "Bakes AMIs"
    apply   = "Moves Batch to another AMI"
    cleanup = "Removes AMIs that nothing needs, and what dead builds left"
    bench   = "Verifies AMIs on a GPU and measures their cold starts through Batch"
  }

  # AWS ends a session in the middle of a bake otherwise.
  session_s = { plan = 3600, build = 14400, apply = 7200, cleanup = 7200, bench = 14400 }

  policies = { for purpose in keys(local.subjects) : purpose => local.every_policy[purpose] }
  every_policy = {
    plan    = data.aws_iam_policy_document.plan.json
    build   = data.aws_iam_policy_document.build.json
    apply   = data.aws_iam_policy_document.apply.json
    cleanup = data.aws_iam_policy_document.cleanup.json
    bench   = data.aws_iam_policy_document.bench.json
  }

  ec2 = "arn:${local.partition}:ec2:*:${local.account}"
  # AMIs and the snapshots' own ARNs have no account in them.
  images    = "arn:${local.partition}:ec2:*::image/*"
  snapshots = "arn:${local.partition}:ec2:*::snapshot/*"

  pipeline_tag = "gpu-ami:pipeline"
  pipeline     = "gpu-ami-pipeline"
  run_tag      = "gpu-ami:run"
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.create_provider ? 1 : 0

  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

# Measuring what a build has made, in an environment of its own: GPU hosts cost money, and a reviewer may be asked first.
data "aws_iam_policy_document" "bench" {
  source_policy_documents = var.bench_policy_jsons
}

data "aws_iam_policy_document" "trust" {
  for_each = local.subjects

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = each.value
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.subjects

  name                 = "${var.family}-github-${each.key}"
  description          = local.descriptions[each.key]
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = local.session_s[each.key]
}

resource "aws_iam_role_policy" "this" {
  for_each = local.policies

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = each.value
}
