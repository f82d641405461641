variable "organization_id" {
  description = "The organization, o-…; nobody outside of it gets in."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^o-[a-z0-9]{10,32}$", var.organization_id))
    error_message = "The organization_id must look like o-abcdefghij, without wildcards."
  }
}

variable "plan_hub_role_arn" {
  description = "The hub's role that plans (output role_arns.plan of modules/fleet-hub): it may only read. It must exist."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$", var.plan_hub_role_arn))
    error_message = "The plan_hub_role_arn must be the ARN of a role, without wildcards."
  }
}

variable "cleanup_hub_role_arn" {
  description = "The hub's role that cleans up (output role_arns.cleanup of modules/fleet-hub). It must exist."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$", var.cleanup_hub_role_arn))
    error_message = "The cleanup_hub_role_arn must be the ARN of a role, without wildcards."
  }
}

variable "read_role" {
  description = "Name of the role that may read, as fleet.read_role in pipeline.yaml."
  type        = string
  default     = "gpu-ami-fleet-read"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@-]{1,64}$", var.read_role))
    error_message = "The read_role must be up to 64 letters, digits and +=,.@_- as IAM takes them."
  }
}

variable "cleanup_role" {
  description = "Name of the role that may delete, as fleet.cleanup_role in pipeline.yaml."
  type        = string
  default     = "gpu-ami-fleet-cleanup"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@-]{1,64}$", var.cleanup_role))
    error_message = "The cleanup_role must be up to 64 letters, digits and +=,.@_- as IAM takes them."
  }
}

variable "owns_amis" {
  description = "Whether the pipeline's AMIs are made in this account; where false nobody gets a right to delete any."
  type        = bool
  default     = true
  nullable    = false
}

variable "read_services" {
  description = "Whether services may be read that an account can do without, such as Lambda. What is read can hold secrets; where false, cleanup.skip_sources has to name their sources, and an AMI that only they know of can go."
  type        = bool
  default     = true
  nullable    = false
}
