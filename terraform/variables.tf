# --- Whose it is ---------------------------------------------------------------------------------

variable "region" {
  description = "AWS region; null takes AWS_REGION, which `invoke plan` and `invoke apply` set from pipeline.yaml."
  type        = string
  default     = null
}

variable "family" {
  description = "AMIs of one pipeline, as in pipeline.yaml: begins the names here and is the value of the tag gpu-ami:family."
  type        = string
  default     = "gpu-batch"
  nullable    = false
}

# --- The AMI -------------------------------------------------------------------------------------

variable "gpu_ami_id" {
  description = "AMI that Batch launches GPU instances from; null, before the first bake, leaves the choice to Batch. Written by `invoke update-tfvars` to gpu-ami.auto.tfvars.json."
  type        = string
  default     = null

  validation {
    condition     = var.gpu_ami_id == null || can(regex("^ami-([0-9a-f]{8}|[0-9a-f]{17})$", var.gpu_ami_id))
    error_message = "gpu_ami_id must be an AMI id: ami- and 8 or 17 hexadecimal digits."
  }
}

# --- Network -------------------------------------------------------------------------------------

variable "subnet_ids" {
  description = "Subnets for the instances; they need a route to ECS, ECR, S3 and CloudWatch Logs. Empty makes a small VPC (modules/network)."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "security_group_ids" {
  description = "Security groups of Batch's instances; required with subnet_ids, unused without."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = (length(var.subnet_ids) == 0) == (length(var.security_group_ids) == 0)
    error_message = "Give subnet_ids and security_group_ids together, or neither: then a network is made."
  }
}

variable "builder_security_group_id" {
  description = "Security group of Packer's build instance in your own subnets; null lets Packer make a temporary one."
  type        = string
  default     = null

  validation {
    condition     = var.builder_security_group_id == null || can(regex("^sg-[0-9a-f]+$", var.builder_security_group_id))
    error_message = "The builder_security_group_id must be an id such as sg-0123456789abcdef0."
  }
}

variable "network_cidr_block" {
  description = "Addresses of the VPC that is made, a /16 to /24."
  type        = string
  default     = "10.83.0.0/20"
  nullable    = false
}

variable "network_zones" {
  description = "Availability zones of the network that is made, in the order of their subnets, new ones last; empty takes the first of the alphabet, and a new zone there replaces subnets."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "builder_ssh_cidrs" {
  description = "Who may log in to a build instance over SSH; empty is nobody, for session_manager or Packer's temporary group."
  type        = list(string)
  default     = []
  nullable    = false
}

# --- What is baked -------------------------------------------------------------------------------

variable "ecr_repository_url" {
  description = "Existing ECR repository of the container image, without tag; null makes one."
  type        = string
  default     = null
}

variable "models_bucket" {
  description = "Existing bucket whose models/ prefix is baked in; null makes one, an empty string means that there are no models in S3."
  type        = string
  default     = null
}

variable "allow_session_tunnel" {
  description = "Whether the build instance may be reached through Session Manager (ssh_interface = session_manager in Packer's variables)."
  type        = bool
  default     = false
  nullable    = false
}

variable "verify_instance_profile" {
  description = "Instance profile, and role in it, of the instances that `invoke verify` boots, as verify.instance_profile in pipeline.yaml; null is none."
  type        = string
  default     = null
}

variable "allow_bench" {
  description = "Whether `invoke bench` may be run: makes its caller's policy, and the role of the workflow that measures."
  type        = bool
  default     = false
  nullable    = false
}

# --- Compute environments ------------------------------------------------------------------------

variable "instance_types" {
  description = "NVIDIA GPU instance types or whole families, x86_64 as the AMI is. More of them find capacity more often."
  type        = list(string)
  default     = ["g5.xlarge", "g5.2xlarge", "g6.xlarge", "g6.2xlarge"]
  nullable    = false
}

variable "spot_max_vcpus" {
  description = "Most vCPUs of Spot Instances at a time; 0 makes no Spot environment."
  type        = number
  default     = 64
  nullable    = false
}

variable "spot_min_vcpus" {
  description = "vCPUs of Spot Instances that are kept warm, and paid for, without a job."
  type        = number
  default     = 0
  nullable    = false
}

variable "spot_allocation_strategy" {
  description = "SPOT_CAPACITY_OPTIMIZED, or SPOT_PRICE_CAPACITY_OPTIMIZED with aws 6.10 or newer: older ones replace the environment at each new AMI."
  type        = string
  default     = "SPOT_CAPACITY_OPTIMIZED"
  nullable    = false
}

variable "on_demand_max_vcpus" {
  description = "Most vCPUs of On-Demand Instances at a time, used when Spot has no room; 0 makes no On-Demand environment."
  type        = number
  default     = 64
  nullable    = false
}

variable "on_demand_min_vcpus" {
  description = "vCPUs of On-Demand Instances that are kept warm, and paid for, without a job."
  type        = number
  default     = 0
  nullable    = false
}

variable "update_timeout_minutes" {
  description = "Minutes that a running job gets to finish when its environment is updated, a new AMI included; Batch ends it then."
  type        = number
  default     = 360
  nullable    = false
}

# --- Instances -----------------------------------------------------------------------------------

variable "volume_size_gib" {
  description = "Root volume, GiB; null is the AMI's size."
  type        = number
  default     = null
}

variable "volume_iops" {
  description = "gp3 IOPS of the root volume; 3000 are free."
  type        = number
  default     = 3000
  nullable    = false
}

variable "volume_throughput_mib_s" {
  description = "gp3 throughput of the root volume, MiB/s; 125 are free. More than 1000 needs an aws provider that knows of it."
  type        = number
  default     = 500
  nullable    = false
}

variable "volume_initialization_rate_mib_s" {
  description = "Rate at which EBS reads the AMI's snapshot into a new volume, MiB/s, billed by the GiB of each launch; null leaves each block to its first touch."
  type        = number
  default     = 300
}

variable "metadata_hop_limit" {
  description = "How far answers of the instance metadata service go (IMDSv2 in any case); 1 keeps it from containers with a network of their own. Batch's jobs have the host's and reach it all the same."
  type        = number
  default     = 1
  nullable    = false
}

variable "ecs_settings" {
  description = "ECS agent settings by name, besides image clean-up, which is off; they beat the AMI's and Batch's."
  type        = map(string)
  default     = {}
  nullable    = false
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
}

variable "job_vcpus" {
  description = "vCPUs of a job; with 4 and one GPU a job fills a g5.xlarge."
  type        = number
  default     = 4
  nullable    = false
}

variable "job_memory_mib" {
  description = "Memory of a job, MiB; an instance keeps some of its own for system and agent."
  type        = number
  default     = 14000
  nullable    = false
}

variable "job_gpus" {
  description = "GPUs of a job."
  type        = number
  default     = 1
  nullable    = false
}

variable "job_attempts" {
  description = "Attempts of a job whose instance was reclaimed or whose container did not start in time; a failure of its own is final."
  type        = number
  default     = 3
  nullable    = false
}

variable "job_timeout_minutes" {
  description = "Minutes after which Batch ends an attempt. Keep it at or below update_timeout_minutes, and no update cuts a job short."
  type        = number
  default     = 360
  nullable    = false
}

variable "job_policy_json" {
  description = "IAM policy of the job role, such as the buckets that jobs read and write; null gives jobs no permission at all."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "Days for which CloudWatch keeps the jobs' logs; 0 is for ever."
  type        = number
  default     = 30
  nullable    = false
}

# --- GitHub's workflows ----------------------------------------------------------------------------

variable "github_subject" {
  description = "How GitHub's tokens name your repository, repo:OWNER/NAME; null makes no roles for workflows."
  type        = string
  default     = null
}

variable "github_branch" {
  description = "Branch whose scheduled and manual runs may plan."
  type        = string
  default     = "main"
  nullable    = false
}

variable "github_create_provider" {
  description = "Whether to make GitHub's identity provider; an account has one at most, so false where it is there already."
  type        = bool
  default     = true
  nullable    = false
}

variable "read_services" {
  description = "Whether to read each service in which something may need an AMI, by its name, such as { lambda = false }: true where none is given. Where it is false its permissions are left out and its sources of clean-up are among skip_sources. What is read can hold secrets."
  type        = map(bool)
  default     = {}
  nullable    = false
}

variable "state_bucket" {
  description = "Bucket of Terraform's state and of the receipts; null gives no access to any."
  type        = string
  default     = null
}

variable "state_key" {
  description = "Terraform's state in that bucket; the receipts are in receipts/ and the archives of builds in builds/ beside it."
  type        = string
  default     = "gpu-ami/terraform.tfstate"
  nullable    = false
}

variable "parameter_path" {
  description = "Path of the SSM parameters that the pipeline may write; null lets it write none."
  type        = string
  default     = null
}

variable "kms_key_arns" {
  description = "Customer-managed KMS keys that AMIs are encrypted with; empty when the account's default EBS key is used."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "make_signing_key" {
  description = "Whether to make a KMS key, alias/FAMILY-provenance, that builds sign the provenance of AMIs with (provenance.signer in pipeline.yaml)."
  type        = bool
  default     = false
  nullable    = false
}

variable "signing_key_arn" {
  description = "KMS key that is there already, for the same; null is none."
  type        = string
  default     = null
}

variable "ami_regions" {
  description = "Regions that builds copy the AMI to, as ami_regions of Packer's variables; there a build may tag any snapshot that has no tag of ours."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "reader_role_arns" {
  description = "Roles in other accounts that clean-up reads uses through (cleanup.accounts in pipeline.yaml)."
  type        = list(string)
  default     = []
  nullable    = false
}
