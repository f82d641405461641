# --- For Packer: `invoke init` writes these to packer/variables.auto.pkrvars.hcl -------------------

output "region" {
  description = "Region of everything here."
  value       = data.aws_region.current.id
}

output "subnet_id" {
  description = "Subnet of Packer's build instance."
  value       = local.subnet_ids[0]
}

output "security_group_id" {
  description = "Security group of Packer's build instance; empty lets Packer make a temporary one."
  value       = local.builder_security_group_id == null ? "" : local.builder_security_group_id
}

output "ecr_repository_url" {
  description = "ECR repository of the container image, without tag."
  value       = module.bake.ecr_repository_url
}

output "models_s3_bucket" {
  description = "Bucket with the models; empty when there is none."
  value       = module.bake.models_bucket
}

output "iam_instance_profile" {
  description = "Instance profile of Packer's build instance."
  value       = module.bake.instance_profile_name
}

# --- For people and the pipeline -----------------------------------------------------------------

output "gpu_ami_id" {
  description = "AMI that Batch launches GPU instances from; null before the first bake."
  value       = var.gpu_ami_id
}

output "compute_environment_arns" {
  description = "ARN of each compute environment, by market: spot, on_demand."
  value       = module.pipeline.compute_environment_arns
}

output "job_queue_arn" {
  description = "ARN of the job queue; null without one."
  value       = module.pipeline.job_queue_arn
}

output "job_definition_arn" {
  description = "ARN of the job definition's revision; null without job_image."
  value       = module.pipeline.job_definition_arn
}

output "launch_template_id" {
  description = "Launch template of Batch's instances."
  value       = module.pipeline.launch_template_id
}

output "log_group_name" {
  description = "Log group of the jobs."
  value       = module.pipeline.log_group_name
}

output "job_role_name" {
  description = "Role of the jobs, to attach more policies to."
  value       = module.pipeline.job_role_name
}

output "github_role_arns" {
  description = "ARN of each role of GitHub's workflows, by purpose: plan, build, apply, cleanup, and bench with allow_bench; null without github_subject."
  value       = one(module.github_oidc[*].role_arns)
}

output "github_skip_sources" {
  description = "Sources of clean-up that the workflows' roles may not read, for cleanup.skip_sources in pipeline.yaml; null without github_subject."
  value       = one(module.github_oidc[*].skip_sources)
}

output "verify_policy_json" {
  description = "Policy of whoever runs `invoke verify`: put it on their role; null without verify_instance_profile."
  value       = one(module.verify[*].caller_policy_json)
}

output "bench_policy_json" {
  description = "Policy of whoever runs `invoke bench`: put it on their role; null without allow_bench."
  value       = one(module.bench[*].caller_policy_json)
}
