variable "family" {
  description = "AMIs of one pipeline: whoever verifies may end and command only instances that carry it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,39}$", var.family))
    error_message = "The family must be 2 to 40 lower-case letters, digits and dashes, starting with a letter."
  }
}

variable "name" {
  description = "Name of the instance profile and of the role in it, as verify.instance_profile in pipeline.yaml."
  type        = string
  default     = "gpu-ami-verify"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@-]{1,64}$", var.name))
    error_message = "The name must be up to 64 letters, digits and +=,.@_- as IAM takes them."
  }
}
