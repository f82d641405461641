output "compute_environment_arns" {
  description = "ARN of each compute environment, by market: spot, on_demand."
  value       = { for market, environment in aws_batch_compute_environment.video_analysis_gpu : market => environment.arn }
}

output "job_queue_arn" {
  description = "ARN of the job queue; null without one."
  value       = one(aws_batch_job_queue.video_analysis_gpu[*].arn)
}

output "job_definition_arn" {
  description = "ARN of the job definition's revision; null without one."
  value       = one(aws_batch_job_definition.video_analysis_gpu[*].arn)
}

output "launch_template_id" {
  description = "Launch template of the instances."
  value       = aws_launch_template.video_analysis_gpu.id
}

output "log_group_name" {
  description = "Log group of the jobs."
  value       = aws_cloudwatch_log_group.jobs.name
}

output "job_role_name" {
  description = "Role of the jobs, to attach more policies to."
  value       = aws_iam_role.job.name
}

output "role_arns" {
  description = "ARN of each role: instance, execution, job; for whoever must be allowed to pass them."
  value = {
    instance  = aws_iam_role.instance.arn
    execution = aws_iam_role.execution.arn
    job       = aws_iam_role.job.arn
  }
}
