# No pattern may reach a trust policy or a resource: one star would open the roles.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["ap-northeast-2a"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
}

variables {
  family             = "gpu-batch"
  subject            = "repo:acme/video"
  ecr_repository_arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/own"
  pass_role_arns     = { builder = "arn:aws:iam::123456789012:role/b", instance = "arn:aws:iam::123456789012:role/i", execution = "arn:aws:iam::123456789012:role/e", job = "arn:aws:iam::123456789012:role/j" }
}

run "refuses_wrong_values_1" {
  command = plan

  module {
    source = "./modules/github-oidc"
  }

  variables {
    subject          = "repo:acme/*"                                  # a wildcard
    branch           = "*"                                            # a wildcard
    environments     = { apply = "*" }                                # a wildcard
    state_bucket     = "bucket/prefix"                                # with a prefix
    state_key        = "state/*"                                      # a wildcard
    parameter_path   = "/"                                            # every parameter
    kms_key_arns     = ["arn:aws:kms:us-east-1:123456789012:alias/x"] # an alias
    signing_key_arn  = "arn:aws:kms:us-east-1:123456789012:alias/x"   # an alias
    reader_role_arns = ["arn:aws:iam::123456789012:role/*"]           # a wildcard
    family           = "GPU"                                          # capitals
    ami_regions      = ["*"]                                          # a wildcard
    read_services    = { lamda = false }                              # no service

    verify_instance_profile = "*" # a wildcard
  }

  expect_failures = [
    var.subject,
    var.branch,
    var.environments,
    var.state_bucket,
    var.state_key,
    var.parameter_path,
    var.kms_key_arns,
    var.signing_key_arn,
    var.reader_role_arns,
    var.family,
    var.ami_regions,
    var.read_services,
    var.verify_instance_profile,
  ]
}

run "refuses_wrong_values_2" {
  command = plan

  module {
    source = "./modules/github-oidc"
  }

  variables {
    subject        = "repo:*" # all repositories
    parameter_path = "/gpu/*" # a wildcard

    make_signing_key = true # beside one that is there
    signing_key_arn  = "arn:aws:kms:us-east-1:123456789012:key/abc-1"
  }

  expect_failures = [
    var.subject,
    var.parameter_path,
    var.make_signing_key,
  ]
}

run "refuses_partitions_where_packer_tags_too_late_1" {
  command = plan

  module {
    source = "./modules/github-oidc"
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-us-gov", dns_suffix = "amazonaws.com" }
  }

  expect_failures = [
    data.aws_partition.current,
  ]
}

run "refuses_partitions_where_packer_tags_too_late_2" {
  command = plan

  module {
    source = "./modules/github-oidc"
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }

  expect_failures = [
    data.aws_partition.current,
  ]
}

run "accepts_a_subject_with_ids" {
  command = plan

  module {
    source = "./modules/github-oidc"
  }

  variables {
    subject   = "repo:acme@12345/video@67890"
    state_key = "terraform.tfstate"
  }
}

run "a_service_that_is_left_out_is_left_out_of_clean_up_too" {
  command = plan

  module {
    source = "./modules/github-oidc"
  }

  variables {
    read_services = { lambda = false, emr = true, step_functions = false }
  }

  assert {
    condition     = toset(output.skip_sources) == toset(["lambda-functions", "state-machines"])
    error_message = "Clean-up would fail at what the roles may not read."
  }
}
