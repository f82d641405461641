output "ecr_repository_url" {
  description = "ECR repository of the container image, without tag."
  value       = local.repository_url
}

output "ecr_repository_arn" {
  description = "Its ARN."
  value       = local.repository_arn
}

output "models_bucket" {
  description = "Bucket with the models; empty when there is none."
  value       = local.bucket
}

output "instance_profile_name" {
  description = "Instance profile of Packer's build instance."
  value       = aws_iam_instance_profile.builder.name
}

output "builder_role_arn" {
  description = "Role in that profile, for whoever must be allowed to pass it."
  value       = aws_iam_role.builder.arn
}
