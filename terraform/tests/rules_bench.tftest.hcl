# What IAM would refuse later is refused at the plan, and no pattern reaches a resource.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

run "refuses_wrong_values_1" {
  command = plan

  module {
    source = "./modules/bench"
  }

  variables {
    family             = "GPU"                              # capitals
    instance_role_arn  = "arn:aws:iam::123456789012:role/*" # a wildcard
    job_role_arns      = []                                 # none
    log_group_name     = "*"                                # a wildcard
    ecr_repository_arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/own"
  }

  expect_failures = [
    var.family,
    var.instance_role_arn,
    var.job_role_arns,
    var.log_group_name,
  ]
}
