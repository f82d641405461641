# What Packer would refuse later is refused at the plan.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["ap-northeast-2a"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  family = "gpu-batch"
}

run "refuses_wrong_values_1" {
  command = plan

  module {
    source = "./modules/bake"
  }

  variables {
    family             = "GPU"                                                      # capitals
    ecr_repository_url = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/own:v1" # with a tag
    models_bucket      = "s3://bucket"                                              # a URL
  }

  expect_failures = [
    var.family,
    var.ecr_repository_url,
    var.models_bucket,
  ]
}

run "takes_every_host_of_ecr" {
  command = plan

  module {
    source = "./modules/bake"
  }

  variables {
    ecr_repository_url = "123456789012.dkr-ecr-fips.us-gov-west-1.on.aws/team/own"
  }

  assert {
    condition     = endswith(output.ecr_repository_arn, ":ecr:us-gov-west-1:123456789012:repository/team/own")
    error_message = "The builder may pull from the repository that the URL names, whatever its host."
  }
}
