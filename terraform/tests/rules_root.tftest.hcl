# What the root itself decides by.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["ap-northeast-2a"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  subnet_ids         = ["subnet-0123456789abcdef0"]
  security_group_ids = ["sg-0123456789abcdef0"]
}

run "refuses_wrong_values_1" {
  command = plan

  variables {
    gpu_ami_id                = "<html>"                   # a page
    security_group_ids        = ["sg-0123456789abcdef0"]   # without subnets
    builder_security_group_id = "subnet-0123456789abcdef0" # a subnet
    subnet_ids                = []
  }

  expect_failures = [
    var.gpu_ami_id,
    var.security_group_ids,
    var.builder_security_group_id,
  ]
}

run "refuses_wrong_values_2" {
  command = plan

  variables {
    security_group_ids = [] # subnets without groups
  }

  expect_failures = [
    var.security_group_ids,
  ]
}
