# What IAM would refuse later is refused at the plan.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

run "refuses_wrong_values_1" {
  command = plan

  module {
    source = "./modules/verify"
  }

  variables {
    family = "GPU"            # capitals
    name   = "gpu-ami/verify" # with a path
  }

  expect_failures = [
    var.family,
    var.name,
  ]
}
