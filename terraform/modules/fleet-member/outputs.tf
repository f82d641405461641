output "role_arns" {
  description = "ARN of each role: read and, where the account owns AMIs, cleanup."
  value       = merge({ read = aws_iam_role.read.arn }, { for role in aws_iam_role.cleanup : "cleanup" => role.arn })
}
