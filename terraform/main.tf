# Uses the baked AMI: a Batch side that starts jobs on it, and what the next bake needs.
# Values that pipeline.yaml owns (region, account) come from the caller's AWS settings, as `invoke plan` passes them.

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

data "aws_region" "current" {}

locals {
  # Never gpu-ami:run: `invoke sweep` takes that for a builder's.
  tags = {
    "gpu-ami:pipeline" = "gpu-ami-pipeline"
    "gpu-ami:family"   = var.family
  }

  make_network              = length(var.subnet_ids) == 0
  subnet_ids                = local.make_network ? module.network[0].subnet_ids : var.subnet_ids
  security_group_ids        = local.make_network ? [module.network[0].batch_security_group_id] : var.security_group_ids
  builder_security_group_id = local.make_network ? module.network[0].builder_security_group_id : var.builder_security_group_id
}

module "network" {
  source = "./modules/network"
  count  = local.make_network ? 1 : 0

  name              = var.family
  cidr_block        = var.network_cidr_block
  zones             = var.network_zones
  builder_ssh_cidrs = var.builder_ssh_cidrs
}

module "bake" {
  source = "./modules/bake"

  family               = var.family
  ecr_repository_url   = var.ecr_repository_url
  models_bucket        = var.models_bucket
  allow_session_tunnel = var.allow_session_tunnel
}

module "verify" {
  source = "./modules/verify"
  count  = var.verify_instance_profile == null ? 0 : 1

  family = var.family
  name   = var.verify_instance_profile
}

module "pipeline" {
  source = "./modules/pipeline"

  family     = var.family
  gpu_ami_id = var.gpu_ami_id
  tags       = local.tags

  subnet_ids         = local.subnet_ids
  security_group_ids = local.security_group_ids

  instance_types           = var.instance_types
  spot_max_vcpus           = var.spot_max_vcpus
  spot_min_vcpus           = var.spot_min_vcpus
  spot_allocation_strategy = var.spot_allocation_strategy
  on_demand_max_vcpus      = var.on_demand_max_vcpus
  on_demand_min_vcpus      = var.on_demand_min_vcpus
  update_timeout_minutes   = var.update_timeout_minutes

  volume_size_gib                  = var.volume_size_gib
  volume_iops                      = var.volume_iops
  volume_throughput_mib_s          = var.volume_throughput_mib_s
  volume_initialization_rate_mib_s = var.volume_initialization_rate_mib_s
  metadata_hop_limit               = var.metadata_hop_limit
  ecs_settings                     = var.ecs_settings

  create_job_queue    = var.create_job_queue
  job_image           = var.job_image
  job_command         = var.job_command
  job_environment     = var.job_environment
  job_vcpus           = var.job_vcpus
  job_memory_mib      = var.job_memory_mib
  job_gpus            = var.job_gpus
  job_attempts        = var.job_attempts
  job_timeout_minutes = var.job_timeout_minutes
  job_policy_json     = var.job_policy_json
  log_retention_days  = var.log_retention_days

  ecr_repository_arn = module.bake.ecr_repository_arn
}

module "bench" {
  source = "./modules/bench"
  count  = var.allow_bench ? 1 : 0

  family             = var.family
  instance_role_arn  = module.pipeline.role_arns.instance
  job_role_arns      = [module.pipeline.role_arns.execution, module.pipeline.role_arns.job]
  log_group_name     = module.pipeline.log_group_name
  ecr_repository_arn = module.bake.ecr_repository_arn
}

module "github_oidc" {
  source = "./modules/github-oidc"
  count  = var.github_subject == null ? 0 : 1

  family          = var.family
  subject         = var.github_subject
  branch          = var.github_branch
  create_provider = var.github_create_provider

  pass_role_arns       = merge(module.pipeline.role_arns, { builder = module.bake.builder_role_arn })
  ecr_repository_arn   = module.bake.ecr_repository_arn
  models_bucket        = module.bake.models_bucket
  state_bucket         = var.state_bucket
  state_key            = var.state_key
  parameter_path       = var.parameter_path
  kms_key_arns         = var.kms_key_arns
  make_signing_key     = var.make_signing_key
  signing_key_arn      = var.signing_key_arn
  ami_regions          = var.ami_regions
  reader_role_arns     = var.reader_role_arns
  allow_session_tunnel = var.allow_session_tunnel
  read_services        = var.read_services

  verify_instance_profile = var.verify_instance_profile
  allow_bench             = var.allow_bench
  bench_policy_jsons      = concat(module.bench[*].caller_policy_json, module.verify[*].caller_policy_json)
}
