# No pattern may reach a trust policy: one star would let a whole organization delete AMIs.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  organization_id      = "o-abcdefghij"
  plan_hub_role_arn    = "arn:aws:iam::123456789012:role/hub-plan"
  cleanup_hub_role_arn = "arn:aws:iam::123456789012:role/hub-cleanup"
}

run "refuses_wrong_values_1" {
  command = plan

  module {
    source = "./modules/fleet-member"
  }

  variables {
    organization_id      = "*"                                # a wildcard
    plan_hub_role_arn    = "arn:aws:iam::123456789012:root"   # a whole account
    cleanup_hub_role_arn = "arn:aws:iam::123456789012:role/*" # a wildcard
    read_role            = "path/read"                        # with a path
    cleanup_role         = ""                                 # empty
  }

  expect_failures = [
    var.organization_id,
    var.plan_hub_role_arn,
    var.cleanup_hub_role_arn,
    var.read_role,
    var.cleanup_role,
  ]
}

run "an_account_without_amis_has_no_role_that_deletes" {
  command = plan

  module {
    source = "./modules/fleet-member"
  }

  variables {
    owns_amis     = false
    read_services = false
  }

  assert {
    condition     = length(aws_iam_role.cleanup) == 0 && length(aws_iam_role_policy.cleanup) == 0
    error_message = "Somebody could delete AMIs there."
  }

  assert {
    condition     = keys(aws_iam_role_policy.read) == ["read"]
    error_message = "Texts that may hold secrets could be read."
  }
}
