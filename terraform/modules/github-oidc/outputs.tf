output "role_arns" {
  description = "ARN of each role: plan, build, apply, cleanup, and bench with allow_bench. Set them as the repository variables GPU_AMI_PLAN_ROLE and so on."
  value       = { for purpose, role in aws_iam_role.this : purpose => role.arn }
}

output "provider_arn" {
  description = "GitHub's identity provider in this account."
  value       = local.provider_arn
}

output "skip_sources" {
  description = "Sources of clean-up that the roles may not read, as read_services says. Set them as cleanup.skip_sources in pipeline.yaml; by hand each is a --skip-source."
  value       = local.skip_sources
}

output "signing_key_arn" {
  description = "KMS key that signs the provenance of AMIs; null where there is none. Set awskms:///alias/FAMILY-provenance, or awskms:/// and this ARN, as provenance.signer in pipeline.yaml."
  value       = local.signing_key_arn
}
