# Wrong values of the pipeline module are refused at the plan, before anything is touched.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["ap-northeast-2a"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  family             = "gpu-batch"
  gpu_ami_id         = "ami-0123456789abcdef0"
  subnet_ids         = ["subnet-0123456789abcdef0"]
  security_group_ids = ["sg-0123456789abcdef0"]
  ecr_repository_arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/own"
}

run "refuses_wrong_values_1" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    family                           = "GPU"                                                          # capitals
    tags                             = { "gpu-ami:run" = "x" }                                        # the builders' tag
    gpu_ami_id                       = "ami-123"                                                      # too short
    subnet_ids                       = []                                                             # empty
    security_group_ids               = []                                                             # empty
    instance_types                   = []                                                             # empty
    spot_min_vcpus                   = 65                                                             # above the most
    spot_allocation_strategy         = "BEST_FIT"                                                     # cannot be updated
    on_demand_min_vcpus              = 1.5                                                            # in parts
    update_timeout_minutes           = 361                                                            # old providers refuse it
    volume_size_gib                  = 29                                                             # below the base AMI
    volume_iops                      = 2999                                                           # below gp3's
    volume_initialization_rate_mib_s = 99                                                             # too low
    metadata_hop_limit               = 3                                                              # there are no three hops
    ecs_settings                     = { ECS_A = "a b" }                                              # blanks
    job_image                        = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/own:latest" # by tag
    job_environment                  = { AWS_BATCH_X = "1" }                                          # Batch's own
    job_vcpus                        = 0.5                                                            # in parts
    job_memory_mib                   = 0                                                              # none
    job_gpus                         = 0                                                              # none
    job_attempts                     = 11                                                             # more than Batch allows
    job_timeout_minutes              = 0                                                              # none
    job_policy_json                  = "read everything"                                              # no policy
    log_retention_days               = 31                                                             # not one of CloudWatch's
    ecr_repository_arn               = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/own"        # a URL
  }

  expect_failures = [
    var.family,
    var.tags,
    var.gpu_ami_id,
    var.subnet_ids,
    var.security_group_ids,
    var.instance_types,
    var.spot_min_vcpus,
    var.spot_allocation_strategy,
    var.on_demand_min_vcpus,
    var.update_timeout_minutes,
    var.volume_size_gib,
    var.volume_iops,
    var.volume_initialization_rate_mib_s,
    var.metadata_hop_limit,
    var.ecs_settings,
    var.job_image,
    var.job_environment,
    var.job_vcpus,
    var.job_memory_mib,
    var.job_gpus,
    var.job_attempts,
    var.job_timeout_minutes,
    var.job_policy_json,
    var.log_retention_days,
    var.ecr_repository_arn,
  ]
}

run "refuses_wrong_values_2" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    gpu_ami_id                       = "ami-0123456789ABCDEF0"      # capitals
    subnet_ids                       = ["vpc-0123456789abcdef0"]    # of a VPC
    instance_types                   = ["g5.xlarge", "c7i.4xlarge"] # no GPU
    spot_max_vcpus                   = -1                           # negative
    volume_throughput_mib_s          = 751                          # above a quarter of the IOPS
    volume_initialization_rate_mib_s = 301                          # too high
    ecs_settings                     = { ECS_CLUSTER = "default" }  # another cluster
  }

  expect_failures = [
    var.gpu_ami_id,
    var.subnet_ids,
    var.instance_types,
    var.spot_max_vcpus,
    var.volume_throughput_mib_s,
    var.volume_initialization_rate_mib_s,
    var.ecs_settings,
  ]
}

run "refuses_wrong_values_3" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    gpu_ami_id              = ""                           # empty
    instance_types          = ["g5.xlarge", "g4ad.xlarge"] # AMD
    on_demand_max_vcpus     = 0                            # no market left
    volume_throughput_mib_s = 2001                         # above gp3's
    spot_max_vcpus          = 0
    volume_iops             = 80000
  }

  expect_failures = [
    var.gpu_ami_id,
    var.instance_types,
    var.on_demand_max_vcpus,
    var.volume_throughput_mib_s,
  ]
}

run "refuses_wrong_values_4" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    instance_types = ["g5.xlarge", "g5g.xlarge"] # Arm
  }

  expect_failures = [
    var.instance_types,
  ]
}

run "refuses_wrong_values_5" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    instance_types = ["g5.xlarge", "optimal"] # any type
  }

  expect_failures = [
    var.instance_types,
  ]
}

run "refuses_wrong_values_6" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    instance_types = ["g5.xlarge", "g5.xxlarge1"] # misspelt
  }

  expect_failures = [
    var.instance_types,
  ]
}

run "accepts_what_may_be_left_out" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    gpu_ami_id                       = null
    volume_initialization_rate_mib_s = null
    volume_size_gib                  = null
    job_image                        = null
    job_policy_json                  = null
  }
}

run "accepts_families_and_large_values" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    instance_types          = ["g5", "gr6.4xlarge", "g6e.12xlarge", "g4dn.metal", "p4d.24xlarge", "p6-b200.48xlarge", "g6f.large"]
    volume_iops             = 16000
    volume_throughput_mib_s = 1000
    gpu_ami_id              = "ami-12345678"
  }
}
