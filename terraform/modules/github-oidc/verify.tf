# Verifying what a build has made, before it is handed over (verify.before in pipeline.yaml). A build's own rights let it
# launch, tag and end the instance already; it lacks the instance's role (build.tf) and the way into it.

locals {
  verify_profiles = var.verify_instance_profile == null ? [] : [var.verify_instance_profile]

  # modules/verify gives the role the profile's name.
  verify_role_arns = [for name in local.verify_profiles : "arn:${local.partition}:iam::${local.account}:role/${name}"]
  verify_arns = concat(local.verify_role_arns, [
    for name in local.verify_profiles : "arn:${local.partition}:iam::${local.account}:instance-profile/${name}"
  ])
}

data "aws_iam_policy_document" "verify" {
  count = var.verify_instance_profile == null ? 0 : 1

  statement {
    sid       = "RunShellScripts"
    actions   = ["ssm:SendCommand"]
    resources = ["arn:${local.partition}:ssm:${local.region}::document/AWS-RunShellScript"]
  }

  statement {
    sid       = "OnInstancesOfARun"
    actions   = ["ssm:SendCommand"]
    resources = ["${local.ec2}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "Null"
      variable = "ssm:resourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  # None of these can be bound to a resource or a tag.
  statement {
    sid       = "FollowScripts"
    actions   = ["ssm:CancelCommand", "ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation"]
    resources = ["*"]
  }
}
