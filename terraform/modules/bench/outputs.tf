output "caller_policy_json" {
  description = "Policy of whoever runs `invoke bench`: put it on their role."
  value       = data.aws_iam_policy_document.caller.json
}
