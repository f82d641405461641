output "role_arns" {
  description = "ARN of each role: plan, cleanup. The members' roles trust them; a workflow signs in to them."
  value       = { for purpose, role in aws_iam_role.this : purpose => role.arn }
}
