variable "family" {
  description = "AMIs of one pipeline: whoever benches may take away only what carries it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,39}$", var.family))
    error_message = "The family must be 2 to 40 lower-case letters, digits and dashes, starting with a letter."
  }
}

variable "instance_role_arn" {
  description = "Role in the instance profile of production's Batch instances: a bench's hosts get the same."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[^*?]+$", var.instance_role_arn))
    error_message = "The instance_role_arn must be the ARN of a role without wildcards."
  }
}

variable "job_role_arns" {
  description = "Roles that production's job definition names: its execution role and the jobs' own."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.job_role_arns) > 0 && alltrue([for arn in var.job_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "The job_role_arns must be ARNs of roles without wildcards."
  }
}

variable "log_group_name" {
  description = "Log group that production's job definition names, where the hosts may write: a bench's jobs write there, too."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_./#-]{1,512}$", var.log_group_name))
    error_message = "The log_group_name must be a log group's name without wildcards."
  }
}

variable "ecr_repository_arn" {
  description = "ECR repository of the container image: how much a pull transfers is part of the price."
  type        = string
  nullable    = false
}
