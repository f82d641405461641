# --- Who may -------------------------------------------------------------------------------------

variable "family" {
  description = "AMIs of one pipeline: begins the roles' names."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,39}$", var.family))
    error_message = "The family must be 2 to 40 lower-case letters, digits and dashes, starting with a letter."
  }
}

variable "subject" {
  description = "How GitHub's tokens name the repository: repo:OWNER/NAME, or with ids where the repository has immutable subjects (its OIDC settings show it)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^repo:[A-Za-z0-9@_.-]+/[A-Za-z0-9@_.-]+$", var.subject))
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

variable "environments" {
  description = "GitHub environments of the workflows; each protects its role by the branches and reviewers that are set for it."
  type = object({
    build   = optional(string, "gpu-ami-build")
    apply   = optional(string, "gpu-ami-apply")
    cleanup = optional(string, "gpu-ami-cleanup")
    sweep   = optional(string, "gpu-ami-sweep")
    bench   = optional(string, "gpu-ami-bench")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in values(var.environments) : can(regex("^[A-Za-z0-9._-]+$", name))])
    error_message = "The environments must be names of letters, digits, dots, dashes and underscores."
  }
}

variable "create_provider" {
  description = "Whether to make GitHub's identity provider; an account has one at most, so false where it is there already."
  type        = bool
  default     = true
  nullable    = false
}

# --- What they may touch -------------------------------------------------------------------------

variable "pass_role_arns" {
  description = "Roles that the workflows hand to AWS: builder to the build instance, instance, execution and job to Batch."
  type = object({
    builder   = string
    instance  = string
    execution = string
    job       = string
  })
  nullable = false
}

variable "ecr_repository_arn" {
  description = "ECR repository of the container image, looked up before a build."
  type        = string
  nullable    = false
}

variable "models_bucket" {
  description = "Bucket with the models, looked up before a build; empty when there is none."
  type        = string
  default     = ""
  nullable    = false
}

variable "state_bucket" {
  description = "Bucket of Terraform's state and of the receipts; null gives no access to any."
  type        = string
  default     = null

  validation {
    condition     = var.state_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.state_bucket))
    error_message = "The state_bucket must be the bare name of a bucket."
  }
}

variable "state_key" {
  description = "Terraform's state in that bucket; the receipts are in receipts/ and the archives of builds in builds/ beside it."
  type        = string
  default     = "gpu-ami/terraform.tfstate"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9/_.=-]{0,511}$", var.state_key))
    error_message = "The state_key must be an object's key without wildcards, such as gpu-ami/terraform.tfstate."
  }
}

variable "parameter_path" {
  description = "Path of the SSM parameters that the pipeline may write; null lets it write none."
  type        = string
  default     = null

  validation {
    condition     = var.parameter_path == null || can(regex("^/[A-Za-z0-9_./-]*[A-Za-z0-9_.-]$", var.parameter_path))
    error_message = "The parameter_path must look like /gpu-ami, without a slash at its end and without wildcards."
  }
}

variable "kms_key_arns" {
  description = "Customer-managed KMS keys that AMIs are encrypted with; empty when the account's default EBS key is used."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.kms_key_arns : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))])
    error_message = "The kms_key_arns must be ARNs of keys (not aliases)."
  }
}

variable "make_signing_key" {
  description = "Whether to make a KMS key, alias/FAMILY-provenance, that builds sign the provenance of AMIs with (provenance.signer in pipeline.yaml)."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !(var.make_signing_key && var.signing_key_arn != null)
    error_message = "The make_signing_key must be false where signing_key_arn names a key that is there."
  }
}

variable "signing_key_arn" {
  description = "KMS key that is there already, for the same; null is none."
  type        = string
  default     = null

  validation {
    condition     = var.signing_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.signing_key_arn))
    error_message = "The signing_key_arn must be the ARN of a key (not of an alias)."
  }
}

variable "ami_regions" {
  description = "Regions that builds copy the AMI to, as ami_regions of Packer's variables; there a build may tag any snapshot that has no tag of ours."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.ami_regions : can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", name))])
    error_message = "Each of ami_regions must be an AWS region, such as us-east-1."
  }
}

variable "reader_role_arns" {
  description = "Roles in other accounts that clean-up reads uses through (cleanup.accounts in pipeline.yaml)."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.reader_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "The reader_role_arns must be ARNs of roles without wildcards."
  }
}

variable "allow_session_tunnel" {
  description = "Whether the build instance may be reached through Session Manager (ssh_interface = session_manager in Packer's variables)."
  type        = bool
  default     = false
  nullable    = false
}

variable "allow_spot_builds" {
  description = "Whether a build instance may be a Spot Instance: that takes a fleet and a temporary launch template."
  type        = bool
  default     = true
  nullable    = false
}

# --- What clean-up looks through -----------------------------------------------------------------

variable "read_services" {
  description = "Whether to read each service in which something may need an AMI, by its name, such as { lambda = false }: true where none is given. Where it is false its permissions are left out and its sources of clean-up are among skip_sources. What is read can hold secrets."
  type        = map(bool)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.read_services), keys(local.services))) == 0 && !contains([for is_read in values(var.read_services) : is_read == null], true)
    error_message = "The read_services must be true or false for ${join(", ", keys(local.services))}."
  }
}

variable "verify_instance_profile" {
  description = "Instance profile, and role in it, of the instances that `invoke verify` boots, as verify.instance_profile in pipeline.yaml; null is none."
  type        = string
  default     = null

  validation {
    condition     = var.verify_instance_profile == null || can(regex("^[A-Za-z0-9_+=,.@-]{1,64}$", var.verify_instance_profile))
    error_message = "The verify_instance_profile must be up to 64 letters, digits and +=,.@_- without wildcards."
  }
}

variable "allow_bench" {
  description = "Whether `invoke bench` may be run: makes its caller's policy, and the role of the workflow that measures."
  type        = bool
  default     = false
  nullable    = false
}

variable "bench_policy_jsons" {
  description = "What that role may: the policies of modules/bench and modules/verify. Needed with allow_bench."
  type        = list(string)
  default     = []
  nullable    = false
}
