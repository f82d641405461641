variable "organization_id" {
  description = "The organization, o-…; no role outside of it can be entered."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^o-[a-z0-9]{10,32}$", var.organization_id))
    error_message = "The organization_id must look like o-abcdefghij, without wildcards."
  }
}

variable "name" {
  description = "Begins the names of the roles, -plan and -cleanup."
  type        = string
  default     = "gpu-ami-fleet-hub"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@-]{1,50}$", var.name))
    error_message = "The name must be up to 50 letters, digits and +=,.@_- as IAM takes them."
  }
}

variable "subject" {
  description = "How GitHub's tokens name the repository: repo:OWNER/NAME, or with ids where the repository has immutable subjects (its OIDC settings show it); null lets no workflow in."
  type        = string
  default     = null

  validation {
    condition     = var.subject == null || can(regex("^repo:[A-Za-z0-9@_.-]+/[A-Za-z0-9@_.-]+$", var.subject))
    error_message = "The subject must be repo:OWNER/NAME without wildcards: the repository's OIDC settings show its own."
  }
}

variable "branch" {
  description = "Branch whose scheduled and manual runs may plan."
  type        = string
  default     = "main"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._/-]+$", var.branch))
    error_message = "The branch must be a branch's name without wildcards."
  }
}

variable "environment" {
  description = "GitHub environment of the job that cleans up; protect it by branches and reviewers."
  type        = string
  default     = "gpu-ami-cleanup"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+$", var.environment))
    error_message = "The environment must be a name of letters, digits, dots, dashes and underscores."
  }
}

variable "create_provider" {
  description = "Whether to make GitHub's identity provider; an account has one at most, so false where it is there already."
  type        = bool
  default     = true
  nullable    = false
}

variable "people_role_arns" {
  description = "Roles of people who may use both roles, by an AWS profile with role_arn or by fleet.hub_role in pipeline.yaml; empty is nobody."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.people_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "The people_role_arns must be ARNs of roles without wildcards."
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

variable "more_policy_arns" {
  description = "Managed policies for both roles besides, such as one that reads Terraform's state."
  type        = list(string)
  default     = []
  nullable    = false
}
