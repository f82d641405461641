output "role_arns" {
  description = "ARN of each role: plan, build, apply, cleanup. Set them as the repository variables GPU_AMI_PLAN_ROLE and so on."
  value       = { for purpose, role in aws_iam_role.this : purpose => role.arn }
}

output "provider_arn" {
  description = "GitHub's identity provider in this account."
  value       = local.provider_arn
}
