# --- Whose it is ---------------------------------------------------------------------------------

variable "family" {
  description = "AMIs of one pipeline: begins the names here and is the value of the tag gpu-ami:family."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,39}$", var.family))
    error_message = "The family must be 2 to 40 lower-case letters, digits and dashes, starting with a letter."
  }
}

variable "tags" {
  description = "Tags of the instances and volumes that Batch starts."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !contains(keys(var.tags), "gpu-ami:run")
    error_message = "The tags must not hold gpu-ami:run: `invoke sweep` ends instances that carry it."
  }
}

# --- Compute environments ------------------------------------------------------------------------

variable "gpu_ami_id" {
  description = "AMI that Batch launches GPU instances from; null leaves the choice to Batch, which then starts slowly."
  type        = string

  validation {
    condition     = var.gpu_ami_id == null || can(regex("^ami-([0-9a-f]{8}|[0-9a-f]{17})$", var.gpu_ami_id))
    error_message = "gpu_ami_id must be an AMI id: ami- and 8 or 17 hexadecimal digits."
  }
}

variable "subnet_ids" {
  description = "Subnets of the instances, best one in each zone; they need a route to ECS, ECR, S3 and CloudWatch Logs."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "The subnet_ids must be one or more ids such as subnet-0123456789abcdef0."
  }
}

variable "security_group_ids" {
  description = "Security groups of the instances; 443 must be let out, nothing in."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.security_group_ids) > 0 && alltrue([for id in var.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "The security_group_ids must be one or more ids such as sg-0123456789abcdef0."
  }
}

variable "instance_types" {
  description = "NVIDIA GPU instance types or whole families, x86_64 as the AMI is. More of them find capacity more often."
  type        = list(string)
  default     = ["g5.xlarge", "g5.2xlarge", "g6.xlarge", "g6.2xlarge"]
  nullable    = false

  validation {
    condition = length(var.instance_types) > 0 && alltrue([
      for type in var.instance_types : can(regex("^(g[4-9]([d-f][a-z]*)?|gr[6-9][a-z]*|p[4-9][a-z]*)(-[a-z0-9]+)?(\\.([0-9]*x?large|metal))?$", type))
    ])
    error_message = "The instance_types must be NVIDIA GPU types or families for x86_64, such as g5.xlarge or g6; AMD's g4ad and Arm's g5g are not."
  }
}

variable "spot_max_vcpus" {
  description = "Most vCPUs of Spot Instances at a time; 0 makes no Spot environment."
  type        = number
  default     = 64
  nullable    = false

  validation {
    condition     = var.spot_max_vcpus >= 0 && floor(var.spot_max_vcpus) == var.spot_max_vcpus
    error_message = "The spot_max_vcpus must be a whole number, 0 or more."
  }
}

variable "spot_min_vcpus" {
  description = "vCPUs of Spot Instances that are kept warm, and paid for, without a job."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.spot_min_vcpus >= 0 && var.spot_min_vcpus <= var.spot_max_vcpus && floor(var.spot_min_vcpus) == var.spot_min_vcpus
    error_message = "The spot_min_vcpus must be a whole number from 0 to spot_max_vcpus."
  }
}

variable "spot_allocation_strategy" {
  description = "SPOT_CAPACITY_OPTIMIZED, or SPOT_PRICE_CAPACITY_OPTIMIZED with aws 6.10 or newer: older ones replace the environment at each new AMI."
  type        = string
  default     = "SPOT_CAPACITY_OPTIMIZED"
  nullable    = false

  validation {
    condition     = contains(["SPOT_CAPACITY_OPTIMIZED", "SPOT_PRICE_CAPACITY_OPTIMIZED"], var.spot_allocation_strategy)
    error_message = "The spot_allocation_strategy must be SPOT_CAPACITY_OPTIMIZED or SPOT_PRICE_CAPACITY_OPTIMIZED: BEST_FIT cannot be updated in place."
  }
}

variable "on_demand_max_vcpus" {
  description = "Most vCPUs of On-Demand Instances at a time, used when Spot has no room; 0 makes no On-Demand environment."
  type        = number
  default     = 64
  nullable    = false

  validation {
    condition     = var.on_demand_max_vcpus >= 0 && floor(var.on_demand_max_vcpus) == var.on_demand_max_vcpus
    error_message = "The on_demand_max_vcpus must be a whole number, 0 or more."
  }

  validation {
    condition     = var.on_demand_max_vcpus + var.spot_max_vcpus > 0
    error_message = "One of spot_max_vcpus and on_demand_max_vcpus must be above 0, or no job can run."
  }
}

variable "on_demand_min_vcpus" {
  description = "vCPUs of On-Demand Instances that are kept warm, and paid for, without a job."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.on_demand_min_vcpus >= 0 && var.on_demand_min_vcpus <= var.on_demand_max_vcpus && floor(var.on_demand_min_vcpus) == var.on_demand_min_vcpus
    error_message = "The on_demand_min_vcpus must be a whole number from 0 to on_demand_max_vcpus."
  }
}

variable "update_timeout_minutes" {
  description = "Minutes that a running job gets to finish when its environment is updated, a new AMI included; Batch ends it then."
  type        = number
  default     = 360
  nullable    = false

  validation {
    condition     = var.update_timeout_minutes >= 1 && var.update_timeout_minutes <= 360 && floor(var.update_timeout_minutes) == var.update_timeout_minutes
    error_message = "The update_timeout_minutes must be a whole number from 1 to 360: aws providers before 6 take no more."
  }
}

# --- Instances -----------------------------------------------------------------------------------

variable "volume_size_gib" {
  description = "Root volume, GiB; null is the AMI's size."
  type        = number
  default     = null

  validation {
    condition     = var.volume_size_gib == null ? true : var.volume_size_gib >= 30 && var.volume_size_gib <= 65536
    error_message = "The volume_size_gib must be null or 30 to 65536, and not below the AMI's size."
  }
}

variable "volume_iops" {
  description = "gp3 IOPS of the root volume; 3000 are free."
  type        = number
  default     = 3000
  nullable    = false

  validation {
    condition     = var.volume_iops >= 3000 && var.volume_iops <= 80000
    error_message = "The volume_iops must be 3000 to 80000."
  }
}

variable "volume_throughput_mib_s" {
  description = "gp3 throughput of the root volume, MiB/s; 125 are free. More than 1000 needs an aws provider that knows of it."
  type        = number
  default     = 500
  nullable    = false

  validation {
    condition     = var.volume_throughput_mib_s >= 125 && var.volume_throughput_mib_s <= 2000
    error_message = "The volume_throughput_mib_s must be 125 to 2000."
  }

  validation {
    condition     = var.volume_throughput_mib_s * 4 <= var.volume_iops
    error_message = "The volume_throughput_mib_s must be at most a quarter of volume_iops: raise volume_iops with it."
  }
}

variable "volume_initialization_rate_mib_s" {
  description = "Rate at which EBS reads the AMI's snapshot into a new volume, MiB/s, billed by the GiB of each launch; null leaves each block to its first touch."
  type        = number
  default     = 300

  validation {
    condition     = var.volume_initialization_rate_mib_s == null ? true : var.volume_initialization_rate_mib_s >= 100 && var.volume_initialization_rate_mib_s <= 300
    error_message = "The volume_initialization_rate_mib_s must be null (off) or 100 to 300."
  }
}

variable "metadata_hop_limit" {
  description = "How far answers of the instance metadata service go (IMDSv2 in any case); 1 keeps it from containers with a network of their own. Batch's jobs have the host's and reach it all the same."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains([1, 2], var.metadata_hop_limit)
    error_message = "The metadata_hop_limit must be 1 or 2."
  }
}

variable "ecs_settings" {
  description = "ECS agent settings by name, besides image clean-up, which is off; they beat the AMI's and Batch's."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name, value in var.ecs_settings : can(regex("^ECS_[A-Z0-9_]+$", name)) && !can(regex("\\s", value))])
    error_message = "The ecs_settings keys must look like ECS_NAME and the values must hold no blanks."
  }

  validation {
    condition     = !contains(keys(var.ecs_settings), "ECS_CLUSTER")
    error_message = "The ecs_settings must not hold ECS_CLUSTER: Batch's own cluster is the only one that works."
  }
}

# --- Jobs ----------------------------------------------------------------------------------------

variable "create_job_queue" {
  description = "Whether to make the job queue; without it the environments stand alone."
  type        = bool
  default     = true
  nullable    = false
}

variable "job_image" {
  description = "Image of the job definition, by digest: REPOSITORY@sha256:…; null makes no job definition."
  type        = string
  default     = null

  validation {
    condition     = var.job_image == null || can(regex("^[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}$", var.job_image))
    error_message = "The job_image must be REPOSITORY@sha256: and 64 hexadecimal digits: a tag could name another image than the AMI holds."
  }
}

variable "job_command" {
  description = "Command of the job definition; empty is the image's own."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "job_environment" {
  description = "Environment variables of the job definition; no secrets, anybody who may describe it reads them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name, value in var.job_environment : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && !startswith(name, "AWS_BATCH")])
    error_message = "The job_environment names must be letters, digits and underscores and must not begin with AWS_BATCH, which Batch keeps for itself."
  }
}

variable "job_vcpus" {
  description = "vCPUs of a job; with 4 and one GPU a job fills a g5.xlarge."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.job_vcpus >= 1 && floor(var.job_vcpus) == var.job_vcpus
    error_message = "The job_vcpus must be a whole number, 1 or more."
  }
}

variable "job_memory_mib" {
  description = "Memory of a job, MiB; an instance keeps some of its own for system and agent."
  type        = number
  default     = 14000
  nullable    = false

  validation {
    condition     = var.job_memory_mib >= 4 && floor(var.job_memory_mib) == var.job_memory_mib
    error_message = "The job_memory_mib must be a whole number, 4 or more."
  }
}

variable "job_gpus" {
  description = "GPUs of a job."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.job_gpus >= 1 && var.job_gpus <= 16 && floor(var.job_gpus) == var.job_gpus
    error_message = "The job_gpus must be a whole number from 1 to 16."
  }
}

variable "job_attempts" {
  description = "Attempts of a job whose instance was reclaimed or whose container did not start in time; a failure of its own is final."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.job_attempts >= 1 && var.job_attempts <= 10 && floor(var.job_attempts) == var.job_attempts
    error_message = "The job_attempts must be a whole number from 1 to 10."
  }
}

variable "job_timeout_minutes" {
  description = "Minutes after which Batch ends an attempt. Keep it at or below update_timeout_minutes, and no update cuts a job short."
  type        = number
  default     = 360
  nullable    = false

  validation {
    condition     = var.job_timeout_minutes >= 1 && floor(var.job_timeout_minutes) == var.job_timeout_minutes
    error_message = "The job_timeout_minutes must be a whole number, 1 or more."
  }
}

variable "job_policy_json" {
  description = "IAM policy of the job role, such as the buckets that jobs read and write; null gives jobs no permission at all."
  type        = string
  default     = null

  validation {
    condition     = var.job_policy_json == null || can(jsondecode(var.job_policy_json).Statement)
    error_message = "The job_policy_json must be an IAM policy document in JSON: data.aws_iam_policy_document.x.json or jsonencode({...})."
  }
}

variable "log_retention_days" {
  description = "Days for which CloudWatch keeps the jobs' logs; 0 is for ever."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "The log_retention_days must be one that CloudWatch takes: 0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827 and so on."
  }
}

variable "ecr_repository_arn" {
  description = "ECR repository that instances and jobs may pull from."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/.+$", var.ecr_repository_arn))
    error_message = "The ecr_repository_arn must be the ARN of an ECR repository."
  }
}
