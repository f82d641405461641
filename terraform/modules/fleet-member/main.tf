# The two roles of a fleet's member, made from the template that a StackSet rolls out: one truth for both ways.

data "aws_partition" "current" {}

locals {
  template = yamldecode(file("${path.module}/member-roles.cfn.yaml")).Resources

  # {"Fn::Sub": "arn:${AWS::Partition}:…"} becomes the ARN; the template has no other function in a policy.
  policies = {
    for name, resource in local.template : name => replace(
      replace(jsonencode(resource.Properties.PolicyDocument), "/\\{\"Fn::Sub\":(\"[^\"]*\")\\}/", "$1"),
      "$${AWS::Partition}", data.aws_partition.current.partition
    ) if resource.Type == "AWS::IAM::RolePolicy"
  }

  read_policies = merge(
    { read = local.policies.ReadPolicy },
    var.read_services ? { services = local.policies.ServicesPolicy } : {},
  )
  cleanup_policies = var.owns_amis ? { cleanup = local.policies.CleanupPolicy } : {}
}

data "aws_iam_policy_document" "trust" {
  for_each = {
    read    = [var.plan_hub_role_arn, var.cleanup_hub_role_arn]
    cleanup = [var.cleanup_hub_role_arn]
  }

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = each.value
    }

    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalOrgID"
      values   = [var.organization_id]
    }
  }
}

resource "aws_iam_role" "read" {
  name                 = var.read_role
  description          = local.template.ReadRole.Properties.Description
  assume_role_policy   = data.aws_iam_policy_document.trust["read"].json
  max_session_duration = local.template.ReadRole.Properties.MaxSessionDuration
}

resource "aws_iam_role_policy" "read" {
  for_each = local.read_policies

  name   = each.key
  role   = aws_iam_role.read.id
  policy = each.value
}

resource "aws_iam_role" "cleanup" {
  count = var.owns_amis ? 1 : 0

  name                 = var.cleanup_role
  description          = local.template.CleanupRole.Properties.Description
  assume_role_policy   = data.aws_iam_policy_document.trust["cleanup"].json
  max_session_duration = local.template.CleanupRole.Properties.MaxSessionDuration
}

resource "aws_iam_role_policy" "cleanup" {
  for_each = local.cleanup_policies

  name   = each.key
  role   = aws_iam_role.cleanup[0].id
  policy = each.value
}
