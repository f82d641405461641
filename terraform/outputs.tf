output "gpu_ami_id" {
  description = "AMI that Batch launches GPU instances from."
  value       = var.gpu_ami_id
}
