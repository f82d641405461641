# Where a fleet is entered from: the role that plans over all accounts, and the one that cleans up.
#
# GitHub's workflows sign in without a stored key, each by the exact subject of its job; people by the ARN of their role.
# The hub's own account is read, and cleaned up, by these roles themselves: it needs no member's roles.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition

  issuer       = "token.actions.githubusercontent.com"
  provider_arn = try(aws_iam_openid_connect_provider.github[0].arn, "arn:${local.partition}:iam::${local.account}:oidc-provider/${local.issuer}")

  # The whole subject of the one job that may sign in to each; nothing is matched by pattern.
  subjects = var.subject == null ? {} : {
    plan    = "${var.subject}:ref:refs/heads/${var.branch}"
    cleanup = "${var.subject}:environment:${var.environment}"
  }

  descriptions = {
    plan    = "Reads every account of the fleet for a clean-up's plan"
    cleanup = "Removes AMIs that nothing in the fleet needs"
  }

  enters = {
    plan    = [var.read_role]
    cleanup = [var.read_role, var.cleanup_role]
  }

  # What the roles of a member may do, for the hub's own account.
  template = yamldecode(file("${path.module}/../fleet-member/member-roles.cfn.yaml")).Resources
  policies = {
    for name, resource in local.template : name => replace(
      replace(jsonencode(resource.Properties.PolicyDocument), "/\\{\"Fn::Sub\":(\"[^\"]*\")\\}/", "$1"),
      "$${AWS::Partition}", local.partition
    ) if resource.Type == "AWS::IAM::RolePolicy"
  }

  inline = merge(
    { for purpose in keys(local.enters) : "${purpose}/enter" => data.aws_iam_policy_document.enter[purpose].json },
    { for purpose in keys(local.enters) : "${purpose}/read" => local.policies.ReadPolicy },
    var.read_services ? { for purpose in keys(local.enters) : "${purpose}/services" => local.policies.ServicesPolicy } : {},
    var.owns_amis ? { "cleanup/cleanup" = local.policies.CleanupPolicy } : {},
  )
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.subject != null && var.create_provider ? 1 : 0

  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "trust" {
  for_each = local.enters

  dynamic "statement" {
    for_each = var.subject == null ? [] : [local.subjects[each.key]]
    content {
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
        values   = [statement.value]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.people_role_arns) > 0 ? [var.people_role_arns] : []
    content {
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }
}

data "aws_iam_policy_document" "enter" {
  for_each = local.enters

  # Five hundred ARNs would not fit: a role of this name, in any account of the organization.
  statement {
    sid       = "EnterMembers"
    actions   = ["sts:AssumeRole"]
    resources = [for name in each.value : "arn:${local.partition}:iam::*:role/${name}"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceOrgID"
      values   = [var.organization_id]
    }
  }

  statement {
    sid       = "ListMembers"
    actions   = ["organizations:DescribeOrganization", "organizations:ListAccounts"]
    resources = ["*"]
  }
}

resource "aws_iam_role" "this" {
  for_each = local.enters

  name                 = "${var.name}-${each.key}"
  description          = local.descriptions[each.key]
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 7200

  lifecycle {
    precondition {
      condition     = var.subject != null || length(var.people_role_arns) > 0
      error_message = "Nobody could use the hub's roles: give subject, people_role_arns or both."
    }
  }
}

resource "aws_iam_role_policy" "this" {
  for_each = local.inline

  name   = split("/", each.key)[1]
  role   = aws_iam_role.this[split("/", each.key)[0]].id
  policy = each.value
}

locals {
  attached = merge([for purpose in keys(local.enters) : { for arn in var.more_policy_arns : "${purpose} ${arn}" => { purpose = purpose, arn = arn } }]...)
}

resource "aws_iam_role_policy_attachment" "more" {
  for_each = local.attached

  role       = aws_iam_role.this[each.value.purpose].name
  policy_arn = each.value.arn
}
