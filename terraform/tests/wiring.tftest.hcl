# What each variable makes, as the plan says; nothing is created.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["ap-northeast-2c", "ap-northeast-2a", "ap-northeast-2b", "ap-northeast-2d"] }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_region" {
    defaults = { id = "ap-northeast-2" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  gpu_ami_id         = "ami-0123456789abcdef0"
  subnet_ids         = ["subnet-0123456789abcdef0", "subnet-11111111"]
  security_group_ids = ["sg-0123456789abcdef0"]
  ecr_repository_url = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/own"
  models_bucket      = "own-models"
  job_image          = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/own@sha256:702d6df0084a3968e8bd4998d126ce53898da3dccf25ac373e6bf3a7f131564e"
}

run "both_markets_start_on_the_ami" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    family             = "gpu-batch"
    ecr_repository_arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/own"
  }

  assert {
    condition = alltrue([
      for environment in aws_batch_compute_environment.video_analysis_gpu :
      environment.compute_resources[0].ec2_configuration[0].image_id_override == var.gpu_ami_id
      && environment.compute_resources[0].ec2_configuration[0].image_type == "ECS_AL2023_NVIDIA"
    ])
    error_message = "An environment would not start on the AMI."
  }

  assert {
    condition = {
      for market, environment in aws_batch_compute_environment.video_analysis_gpu :
      market => "${environment.compute_resources[0].type} ${environment.compute_resources[0].allocation_strategy}"
    } == { spot = "SPOT SPOT_CAPACITY_OPTIMIZED", on_demand = "EC2 BEST_FIT_PROGRESSIVE" }
    error_message = "Other strategies make each new AMI a replacement."
  }

  assert {
    condition = alltrue([
      for environment in aws_batch_compute_environment.video_analysis_gpu :
      environment.update_policy[0].job_execution_timeout_minutes == 360 && !environment.update_policy[0].terminate_jobs_on_update
    ])
    error_message = "An update would end running jobs early."
  }

  assert {
    condition     = [for step in aws_batch_job_queue.video_analysis_gpu[0].compute_environment_order : step.order] == [0, 1]
    error_message = "The queue needs both environments, Spot first."
  }

  assert {
    condition     = local.queue_order == ["spot", "on_demand"]
    error_message = "The queue must try Spot first."
  }
}

run "one_market_is_enough" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    family             = "gpu-batch"
    ecr_repository_arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/own"
    spot_max_vcpus     = 0
    create_job_queue   = false
    job_image          = null
  }

  assert {
    condition     = keys(aws_batch_compute_environment.video_analysis_gpu) == ["on_demand"]
    error_message = "Without Spot only On-Demand must be left."
  }

  assert {
    condition     = length(aws_batch_job_queue.video_analysis_gpu) + length(aws_batch_job_definition.video_analysis_gpu) == 0
    error_message = "Neither queue nor job definition was asked for."
  }
}

run "the_template_hydrates_the_volume" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    family             = "gpu-batch"
    ecr_repository_arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/own"
    tags               = { "gpu-ami:family" = "gpu-batch" }
    ecs_settings       = { ECS_CONTAINER_START_TIMEOUT = "20m" }
  }

  assert {
    condition = (
      aws_launch_template.video_analysis_gpu.block_device_mappings[0].ebs[0].volume_initialization_rate == 300
      && aws_launch_template.video_analysis_gpu.block_device_mappings[0].ebs[0].throughput == 500
      && aws_launch_template.video_analysis_gpu.block_device_mappings[0].ebs[0].volume_type == "gp3"
    )
    error_message = "A cold volume makes a baked AMI slower than a pull."
  }

  assert {
    condition     = aws_launch_template.video_analysis_gpu.metadata_options[0].http_tokens == "required"
    error_message = "IMDSv1 must be off."
  }

  assert {
    condition = alltrue([
      for specification in aws_launch_template.video_analysis_gpu.tag_specifications : specification.tags["gpu-ami:family"] == "gpu-batch"
    ]) && length(aws_launch_template.video_analysis_gpu.tag_specifications) == 2
    error_message = "Instances and volumes must carry the tags."
  }

  assert {
    condition = (
      startswith(local.user_data, "MIME-Version: 1.0\n")
      && strcontains(local.user_data, "\nECS_DISABLE_IMAGE_CLEANUP=true\n")
      && strcontains(local.user_data, "\nECS_CONTAINER_START_TIMEOUT=20m\n")
    )
    error_message = "Batch would clean the baked image up, or not take the user data at all."
  }
}

run "the_job_runs_the_baked_digest" {
  command = plan

  module {
    source = "./modules/pipeline"
  }

  variables {
    family             = "gpu-batch"
    ecr_repository_arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/own"
    job_environment    = { STAGE = "test" }
    job_policy_json    = "{\"Version\": \"2012-10-17\", \"Statement\": []}"
  }

  override_resource {
    target          = aws_iam_role.job
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:role/job" }
  }

  override_resource {
    target          = aws_iam_role.execution
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:role/execution" }
  }

  assert {
    condition     = jsondecode(aws_batch_job_definition.video_analysis_gpu[0].container_properties).image == var.job_image
    error_message = "The job must run the image of the AMI."
  }

  assert {
    condition = {
      for row in jsondecode(aws_batch_job_definition.video_analysis_gpu[0].container_properties).resourceRequirements : row.type => row.value
    } == { GPU = "1", MEMORY = "14000", VCPU = "4" }
    error_message = "The job must get a GPU."
  }

  assert {
    condition = {
      for row in jsondecode(aws_batch_job_definition.video_analysis_gpu[0].container_properties).environment : row.name => row.value
    } == { AWS_DEFAULT_REGION = "ap-northeast-2", STAGE = "test" }
    error_message = "A job must be told the region: not every SDK asks the metadata service."
  }

  assert {
    condition = [
      for rule in aws_batch_job_definition.video_analysis_gpu[0].retry_strategy[0].evaluate_on_exit :
      "${rule.action} ${coalesce(rule.on_status_reason, rule.on_reason)}"
    ] == ["RETRY Host EC2*", "RETRY DockerTimeoutError*", "EXIT *"]
    error_message = "A reclaimed instance must be tried again, and a job's own failure must not."
  }

  assert {
    condition     = length(aws_iam_role_policy.job) == 1
    error_message = "The job's policy was not attached."
  }
}

run "own_subnets_make_no_network" {
  command = plan

  assert {
    condition     = length(module.network) == 0 && output.subnet_id == "subnet-0123456789abcdef0"
    error_message = "A network was made beside the one that was given."
  }

  assert {
    condition     = output.security_group_id == "" && output.ecr_repository_url == var.ecr_repository_url && output.models_s3_bucket == "own-models"
    error_message = "Packer would be told of other things than were given."
  }

  assert {
    condition     = length(module.github_oidc) == 0 && output.github_role_arns == null
    error_message = "Roles for workflows were not asked for."
  }
}

run "nothing_given_makes_network_repository_and_bucket" {
  command = plan

  variables {
    subnet_ids         = []
    security_group_ids = []
    ecr_repository_url = null
    models_bucket      = null
    job_image          = null
  }

  assert {
    condition     = length(module.network) == 1
    error_message = "There is no network to run in."
  }

  assert {
    condition     = output.security_group_id == ""
    error_message = "Nobody may log in to a builder until builder_ssh_cidrs says who."
  }
}

run "the_network_is_small_and_spread" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    name              = "gpu-batch"
    builder_ssh_cidrs = ["203.0.113.7/32"]
  }

  assert {
    condition = { for zone, subnet in aws_subnet.public : zone => subnet.cidr_block } == {
      ap-northeast-2a = "10.83.0.0/22", ap-northeast-2b = "10.83.4.0/22", ap-northeast-2c = "10.83.8.0/22"
    }
    error_message = "Each zone must have a subnet of its own, the same at each plan."
  }

  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3.service_name == "com.amazonaws.ap-northeast-2.s3"
    error_message = "Image layers must come from S3 for free."
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.builder_ssh : "${rule.from_port} ${rule.cidr_ipv4}"] == ["22 203.0.113.7/32"]
    error_message = "Only who was named may log in to a builder."
  }
}

run "zones_that_are_named_keep_their_addresses" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    name  = "gpu-batch"
    zones = ["ap-northeast-2b", "ap-northeast-2d"]
  }

  assert {
    condition = { for zone, subnet in aws_subnet.public : zone => subnet.cidr_block } == {
      ap-northeast-2b = "10.83.0.0/22", ap-northeast-2d = "10.83.4.0/22"
    }
    error_message = "A zone that comes earlier in the alphabet would replace the subnets."
  }
}

run "no_bucket_means_no_right_to_one" {
  command = plan

  module {
    source = "./modules/bake"
  }

  variables {
    family        = "gpu-batch"
    models_bucket = ""
  }

  assert {
    condition     = length(aws_s3_bucket.models) == 0 && output.models_bucket == ""
    error_message = "No bucket was asked for."
  }

  assert {
    condition     = output.ecr_repository_arn == "arn:aws:ecr:ap-northeast-2:123456789012:repository/own"
    error_message = "The builder would be allowed to pull from another repository."
  }
}
