# What the other files of this module share.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  # The id, because its other name changed between aws 5 and 6.
  region = data.aws_region.current.id

  # AWS allows 38 characters for the prefix of a role's name.
  role_prefix = substr(var.family, 0, 26)
}

resource "aws_cloudwatch_log_group" "jobs" {
  name              = "/gpu-ami/${var.family}"
  retention_in_days = var.log_retention_days
}
