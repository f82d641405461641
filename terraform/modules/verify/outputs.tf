output "instance_profile_name" {
  description = "Instance profile of the instances that are verified."
  value       = aws_iam_instance_profile.instance.name
}

output "caller_policy_json" {
  description = "Policy of whoever runs `invoke verify`: put it on their role."
  value       = data.aws_iam_policy_document.caller.json
}
