# No pattern may reach a trust policy or the organization that is entered.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  organization_id = "o-abcdefghij"
  subject         = "repo:acme/video"
}

run "refuses_wrong_values_1" {
  command = plan

  module {
    source = "./modules/fleet-hub"
  }

  variables {
    organization_id  = "o-*"                                # a wildcard
    name             = "hub/plan"                           # with a path
    subject          = "repo:acme/*"                        # a wildcard
    branch           = "*"                                  # a wildcard
    environment      = "*"                                  # a wildcard
    people_role_arns = ["arn:aws:iam::123456789012:role/*"] # a wildcard
    read_role        = "*"                                  # a wildcard
    cleanup_role     = "*"                                  # a wildcard
  }

  expect_failures = [
    var.organization_id,
    var.name,
    var.subject,
    var.branch,
    var.environment,
    var.people_role_arns,
    var.read_role,
    var.cleanup_role,
  ]
}

run "roles_that_nobody_could_use_are_refused" {
  command = plan

  module {
    source = "./modules/fleet-hub"
  }

  variables {
    subject = null
  }

  expect_failures = [aws_iam_role.this]
}

run "people_need_no_provider" {
  command = plan

  module {
    source = "./modules/fleet-hub"
  }

  variables {
    subject          = null
    people_role_arns = ["arn:aws:iam::123456789012:role/people"]
    owns_amis        = false
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && !contains(keys(aws_iam_role_policy.this), "cleanup/cleanup")
    error_message = "It makes more than was asked for."
  }
}
