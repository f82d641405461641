# A network that lets everybody in, or that has no room, is refused at the plan.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["ap-northeast-2a"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name = "gpu-batch"
}

run "refuses_wrong_values_1" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    name              = "GPU"         # capitals
    cidr_block        = "10.0.0.0/8"  # too large
    zone_count        = 0             # none
    zones             = ["2a"]        # no zone
    builder_ssh_cidrs = ["0.0.0.0/0"] # everybody
  }

  expect_failures = [
    var.name,
    var.cidr_block,
    var.zone_count,
    var.zones,
    var.builder_ssh_cidrs,
  ]
}

run "refuses_wrong_values_2" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    cidr_block        = "fd00::/16"                            # IPv6
    zones             = ["ap-northeast-2a", "ap-northeast-2a"] # the same twice
    builder_ssh_cidrs = ["203.0.113.7"]                        # no mask
  }

  expect_failures = [
    var.cidr_block,
    var.zones,
    var.builder_ssh_cidrs,
  ]
}
