variable "gpu_ami_id" {
  description = "AMI that Batch launches GPU instances from. Written by `invoke update-tfvars` to gpu-ami.auto.tfvars.json."
  type        = string

  validation {
    condition     = can(regex("^ami-([0-9a-f]{8}|[0-9a-f]{17})$", var.gpu_ami_id))
    error_message = "gpu_ami_id must be an AMI id: ami- and 8 or 17 hexadecimal digits."
  }
}
