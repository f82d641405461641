# Every input of aws-gpu-ami.pkr.hcl. README.md lists them; a test keeps the two alike.

# --- What is baked -------------------------------------------------------------------------------

variable "ecr_repository_url" {
  description = "ECR repository of the container image to bake in, without tag: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME, or its FIPS or dual-stack host."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}\\.(dkr\\.ecr(-fips)?\\.[a-z0-9-]+\\.amazonaws\\.(com(\\.cn)?|eu)|dkr-ecr(-fips)?\\.[a-z0-9-]+\\.on\\.(aws|amazonwebservices\\.(com\\.cn|eu)))/[a-z0-9][a-z0-9._/-]*$", var.ecr_repository_url))
    error_message = "The ecr_repository_url must look like 123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/batch-processor, without a tag."
  }
}

variable "image_tag" {
  description = "Tag of the container image; looked up once in the bake, then pulled by digest."
  type        = string
  default     = "latest"

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag))
    error_message = "The image_tag must be a Docker tag: up to 128 letters, digits, dots, dashes and underscores."
  }
}

variable "image_digest" {
  description = "Digest of the container image (sha256:...); empty looks image_tag up in ECR."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(sha256:[0-9a-f]{64})?$", var.image_digest))
    error_message = "The image_digest must be empty or sha256: and 64 hexadecimal digits."
  }
}

variable "models_s3_bucket" {
  description = "Bucket whose models/ prefix is synced to models_dir; empty syncs nothing."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$", var.models_s3_bucket))
    error_message = "The models_s3_bucket must be the bare name of a bucket, without s3:// and prefix."
  }
}

variable "models_dir" {
  description = "Folder of the models in the image."
  type        = string
  default     = "/opt/ml/models"

  validation {
    condition     = can(regex("^/opt/[A-Za-z0-9_./-]+$", var.models_dir)) && !strcontains(var.models_dir, "..")
    error_message = "The models_dir must be an absolute path below /opt."
  }
}

variable "model_downloads" {
  description = "Models to download besides the bucket's and those in models.yaml: path is relative to models_dir, sha256 may be empty."
  type        = list(object({ url = string, path = string, sha256 = string }))
  default     = []

  validation {
    condition     = alltrue([for model in var.model_downloads : can(regex("^(https?|s3)://[^\"\\\\\\s]+$", model.url))])
    error_message = "Each url in model_downloads must be an http(s) or s3 address without blanks, quotes and backslashes."
  }

  validation {
    condition = alltrue([
      for model in var.model_downloads : can(regex("^[A-Za-z0-9_][A-Za-z0-9_./-]*$", model.path)) && !strcontains(model.path, "..")
    ])
    error_message = "Each path in model_downloads must be a relative path inside models_dir."
  }

  validation {
    condition     = alltrue([for model in var.model_downloads : can(regex("^([0-9a-f]{64})?$", model.sha256))])
    error_message = "Each sha256 in model_downloads must be empty or 64 hexadecimal digits."
  }
}

# --- Where it is baked ---------------------------------------------------------------------------

variable "region" {
  description = "AWS region of the builder and of the AMI."
  type        = string
  default     = "ap-northeast-2"

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", var.region))
    error_message = "The region must be an AWS region, such as ap-northeast-2."
  }
}

variable "subnet_id" {
  description = "Subnet of the builder; it needs a route to ECR, S3 and the package repositories."
  type        = string

  validation {
    condition     = can(regex("^subnet-([0-9a-f]{8}|[0-9a-f]{17})$", var.subnet_id))
    error_message = "The subnet_id must be subnet- and 8 or 17 hexadecimal digits."
  }
}

variable "fallback_subnet_ids" {
  description = "Subnets, best in other zones, that `invoke build` tries in turn when subnet_id's zone has no capacity."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.fallback_subnet_ids : can(regex("^subnet-([0-9a-f]{8}|[0-9a-f]{17})$", id))])
    error_message = "Each of fallback_subnet_ids must be subnet- and 8 or 17 hexadecimal digits."
  }
}

variable "security_group_id" {
  description = "Security group of the builder; empty makes a temporary one that lets only the caller in."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(sg-([0-9a-f]{8}|[0-9a-f]{17}))?$", var.security_group_id))
    error_message = "The security_group_id must be empty, or sg- and 8 or 17 hexadecimal digits."
  }
}

variable "caller_cidrs" {
  description = "Who may reach the temporary security group; empty asks checkip.amazonaws.com for this machine's own address."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.caller_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "Each of caller_cidrs must be a CIDR such as 203.0.113.7/32, and not the whole internet."
  }
}

variable "ssh_interface" {
  description = "How Packer reaches the builder: public_ip, private_ip or session_manager (needs session-manager-plugin on this machine)."
  type        = string
  default     = "public_ip"

  validation {
    condition     = contains(["public_ip", "private_ip", "session_manager"], var.ssh_interface)
    error_message = "The ssh_interface must be public_ip, private_ip or session_manager."
  }
}

variable "iam_instance_profile" {
  description = "Instance profile of the builder; empty makes a temporary one that may only read this image and these models, which takes a default VPC in the region and an x86_64 AMI."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{0,128}$", var.iam_instance_profile))
    error_message = "The iam_instance_profile must be the name (not the ARN) of an instance profile, or empty."
  }
}

# --- The builder ---------------------------------------------------------------------------------

variable "source_ami" {
  description = "AMI to start from; empty takes the one that base_ami_parameter names."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(ami-([0-9a-f]{8}|[0-9a-f]{17}))?$", var.source_ami))
    error_message = "The source_ami must be empty, or ami- and 8 or 17 hexadecimal digits."
  }
}

variable "base_ami_parameter" {
  description = "Public SSM parameter that holds the id of the ECS GPU-optimized Amazon Linux 2023 AMI."
  type        = string
  default     = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"

  validation {
    condition     = can(regex("^/[A-Za-z0-9_./-]+$", var.base_ami_parameter))
    error_message = "The base_ami_parameter must be the path of an SSM parameter, starting with a slash."
  }
}

variable "instance_type" {
  description = "Type of an on-demand builder. A GPU is not needed to bake."
  type        = string
  default     = "c7i.4xlarge"

  validation {
    condition     = can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", var.instance_type))
    error_message = "The instance_type must be an EC2 instance type, such as c7i.4xlarge."
  }
}

variable "fallback_instance_types" {
  description = "Types that `invoke build` tries in turn when instance_type is not to be had; those of another kind (GPU or not) are left out."
  type        = list(string)
  default     = ["c6i.4xlarge", "m7i.4xlarge", "m6i.4xlarge"]

  validation {
    condition     = alltrue([for name in var.fallback_instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", name))])
    error_message = "Each of fallback_instance_types must be an EC2 instance type, such as c7i.4xlarge."
  }
}

variable "spot" {
  description = "Whether the builder is a Spot Instance of one of spot_instance_types; an interruption fails the build."
  type        = bool
  default     = false
}

variable "spot_allocation_strategy" {
  description = "How EC2 picks among spot_instance_types."
  type        = string
  default     = "price-capacity-optimized"

  validation {
    condition     = contains(["price-capacity-optimized", "capacity-optimized", "lowest-price", "diversified"], var.spot_allocation_strategy)
    error_message = "The spot_allocation_strategy must be price-capacity-optimized, capacity-optimized, lowest-price or diversified."
  }
}

variable "spot_instance_types" {
  description = "Types that a Spot builder may have; EC2 picks by price and capacity."
  type        = list(string)
  default     = ["c7i.4xlarge", "c6i.4xlarge", "m7i.4xlarge", "m6i.4xlarge"]

  validation {
    condition     = length(var.spot_instance_types) > 0 && alltrue([for name in var.spot_instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", name))])
    error_message = "The spot_instance_types must be one or more EC2 instance types, such as c7i.4xlarge."
  }
}

variable "volume_size_gib" {
  description = "Root volume of builder and AMI, GiB; a 17 GB image and its staging do not fit in the base AMI's 30."
  type        = number
  default     = 80

  validation {
    condition     = var.volume_size_gib >= 30 && var.volume_size_gib <= 16384 && floor(var.volume_size_gib) == var.volume_size_gib
    error_message = "The volume_size_gib must be a whole number from 30 (the base AMI's size) to 16384."
  }
}

variable "volume_iops" {
  description = "gp3 IOPS of the builder's root volume."
  type        = number
  default     = 6000

  validation {
    condition     = var.volume_iops >= 3000 && var.volume_iops <= 16000
    error_message = "The volume_iops must be 3000 to 16000, the limits of the amazon plugin for gp3."
  }
}

variable "volume_throughput_mib_s" {
  description = "gp3 throughput of the builder's root volume, MiB/s; at most a quarter of volume_iops."
  type        = number
  default     = 1000

  validation {
    condition     = var.volume_throughput_mib_s >= 125 && var.volume_throughput_mib_s <= 1000
    error_message = "The volume_throughput_mib_s must be 125 to 1000, the limits of the amazon plugin for gp3."
  }
}

variable "kms_key_id" {
  description = "KMS key that encrypts volume and snapshot; empty takes the account's default EBS key."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:kms:.+|alias/.+|(mrk-)?[0-9a-f-]{32,36})?$", var.kms_key_id))
    error_message = "The kms_key_id must be empty, a key id, an alias/NAME or an ARN."
  }
}

variable "min_free_gib" {
  description = "Space that must be free on the finished root volume, GiB."
  type        = number
  default     = 5

  validation {
    condition     = var.min_free_gib >= 1 && floor(var.min_free_gib) == var.min_free_gib
    error_message = "The min_free_gib must be a whole number, 1 or more."
  }
}

variable "require_gpu" {
  description = "Whether verify-gpu.sh fails on a builder without a GPU."
  type        = bool
  default     = false
}

variable "update_container_stack" {
  description = "Whether update-system.sh also moves docker, containerd, runc and ecs-init, which the base AMI has in versions that were tested together."
  type        = bool
  default     = false
}

variable "mps_pipe" {
  description = "Where the base AMI starts NVIDIA MPS with its pipe in /tmp/nvidia-mps, which makes every GPU job a client of MPS: repair moves the pipe as newer base AMIs do, fail fails the bake. GPU sharing by ECS: take a newer base AMI."
  type        = string
  default     = "repair"

  validation {
    condition     = contains(["repair", "fail"], var.mps_pipe)
    error_message = "The mps_pipe must be repair or fail."
  }
}

variable "max_build_minutes" {
  description = "After so long the builder shuts down, even if Packer's machine has died: On-Demand that ends it, a Spot builder is left for `invoke sweep`."
  type        = number
  default     = 180

  validation {
    condition     = var.max_build_minutes >= 10 && var.max_build_minutes <= 1440 && floor(var.max_build_minutes) == var.max_build_minutes
    error_message = "The max_build_minutes must be a whole number from 10 to 1440."
  }
}

variable "poll_delay_seconds" {
  description = "A budget, no interval: poll_delay_seconds times poll_max_attempts is the longest that Packer waits for the instance, the AMI or its snapshots. For an AMI the amazon plugin looks every 15 to 120 s whatever this is."
  type        = number
  default     = 15

  validation {
    condition     = var.poll_delay_seconds >= 1 && var.poll_delay_seconds <= 120 && floor(var.poll_delay_seconds) == var.poll_delay_seconds
    error_message = "The poll_delay_seconds must be a whole number from 1 to 120: with more the amazon plugin fails at its first wait. For more time raise poll_max_attempts."
  }
}

variable "poll_max_attempts" {
  description = "The other factor of that budget, 2 hours by default; raise this one for more time."
  type        = number
  default     = 480

  validation {
    condition     = var.poll_max_attempts >= 10 && var.poll_max_attempts <= 5000 && floor(var.poll_max_attempts) == var.poll_max_attempts
    error_message = "The poll_max_attempts must be a whole number from 10 to 5000."
  }
}

# --- The ECS agent's settings in the image -------------------------------------------------------

variable "ecs_image_pull_behavior" {
  description = "ECS_IMAGE_PULL_BEHAVIOR: only prefer-cached uses the baked image without a pull and keeps it from image clean-up."
  type        = string
  default     = "prefer-cached"

  validation {
    condition     = contains(["prefer-cached", "default", "once", "always"], var.ecs_image_pull_behavior)
    error_message = "The ecs_image_pull_behavior must be prefer-cached, default, once or always."
  }
}

variable "ecs_container_start_timeout" {
  description = "ECS_CONTAINER_START_TIMEOUT: a container's first start reads from a cold volume, the agent's own 3m is too short for that."
  type        = string
  default     = "15m"

  validation {
    condition     = can(regex("^[1-9][0-9]*[sm]$", var.ecs_container_start_timeout))
    error_message = "The ecs_container_start_timeout must be a duration such as 15m or 90s."
  }
}

variable "ecs_container_create_timeout" {
  description = "ECS_CONTAINER_CREATE_TIMEOUT; the agent's own is 4m."
  type        = string
  default     = "15m"

  validation {
    condition     = can(regex("^[1-9][0-9]*[sm]$", var.ecs_container_create_timeout))
    error_message = "The ecs_container_create_timeout must be a duration such as 15m or 90s."
  }
}

variable "ecs_image_pull_inactivity_timeout" {
  description = "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT, for images that are not baked in; the agent's own is 1m."
  type        = string
  default     = "5m"

  validation {
    condition     = can(regex("^[1-9][0-9]*[sm]$", var.ecs_image_pull_inactivity_timeout))
    error_message = "The ecs_image_pull_inactivity_timeout must be a duration such as 5m or 90s."
  }
}

variable "ecs_spot_instance_draining" {
  description = "ECS_ENABLE_SPOT_INSTANCE_DRAINING: whether the agent stops taking tasks when Spot announces that it takes the instance back."
  type        = bool
  default     = true
}

variable "ecs_extra_config" {
  description = "More ECS agent settings by name; each value is one line. Settings that have a variable of their own are refused here."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.ecs_extra_config : can(regex("^ECS_[A-Z0-9_]+$", key)) && !can(regex("\\s", value))])
    error_message = "The ecs_extra_config keys must look like ECS_NAME and the values must hold no blanks."
  }

  validation {
    condition = !anytrue([for key in keys(var.ecs_extra_config) : contains([
      "ECS_IMAGE_PULL_BEHAVIOR", "ECS_CONTAINER_START_TIMEOUT", "ECS_CONTAINER_CREATE_TIMEOUT",
      "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "ECS_ENABLE_SPOT_INSTANCE_DRAINING", "ECS_ENABLE_GPU_SUPPORT",
    ], key)])
    error_message = "The ecs_extra_config must not hold what has a variable of its own (ecs_image_pull_behavior, ecs_container_start_timeout, ecs_container_create_timeout, ecs_image_pull_inactivity_timeout, ecs_spot_instance_draining), nor ECS_ENABLE_GPU_SUPPORT, which is always true."
  }

  validation {
    condition     = !anytrue([for key in keys(var.ecs_extra_config) : startswith(key, "ECS_ENGINE_AUTH_")])
    error_message = "The ecs_extra_config must not hold a registry's password (ECS_ENGINE_AUTH_…): whoever can start the AMI can read it; use the job's repository credentials."
  }
}

# --- Reading ahead at boot -----------------------------------------------------------------------

variable "prewarm" {
  description = "Whether instances read the baked files ahead at each boot, beside the ECS agent."
  type        = bool
  default     = true
}

variable "prewarm_readers" {
  description = "How many read at once; the first touch of a block waits for S3, and each reader waits for one block at a time."
  type        = number
  default     = 32

  validation {
    condition     = var.prewarm_readers >= 1 && var.prewarm_readers <= 256 && floor(var.prewarm_readers) == var.prewarm_readers
    error_message = "The prewarm_readers must be a whole number from 1 to 256."
  }
}

variable "prewarm_seconds" {
  description = "After so many seconds reading ahead ends, however much is left."
  type        = number
  default     = 60

  validation {
    condition     = var.prewarm_seconds >= 1 && var.prewarm_seconds <= 3600 && floor(var.prewarm_seconds) == var.prewarm_seconds
    error_message = "The prewarm_seconds must be a whole number from 1 to 3600."
  }
}

variable "prewarm_paths" {
  description = "Files, folders, patterns and parts of files (FILE#OFFSET+BYTES) to read ahead, the hottest first; empty takes the driver's libraries, models_dir and Docker's layers."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for path in var.prewarm_paths : can(regex("^/[^\\s]+$", path))])
    error_message = "Each of prewarm_paths must be an absolute path without blanks."
  }
}

# --- The AMI -------------------------------------------------------------------------------------

variable "family" {
  description = "AMIs of one pipeline: prefix of the AMI's name and value of the tag gpu-ami:family."
  type        = string
  default     = "gpu-batch"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,39}$", var.family))
    error_message = "The family must be 2 to 40 lower-case letters, digits and dashes, starting with a letter."
  }
}

variable "run_id" {
  description = "Name of this one build: end of the AMI's name and value of the tag gpu-ami:run; null makes one from the clock."
  type        = string
  default     = null

  validation {
    condition     = var.run_id == null || can(regex("^[A-Za-z0-9-]{4,64}$", var.run_id))
    error_message = "The run_id must be 4 to 64 letters, digits and dashes."
  }
}

variable "pipeline_version" {
  description = "Version of the pipeline, for the tag gpu-ami:pipeline-version and the release record."
  type        = string
  default     = "by-hand"

  validation {
    condition     = can(regex("^[A-Za-z0-9.+_-]{1,64}$", var.pipeline_version))
    error_message = "The pipeline_version must be 1 to 64 letters, digits, dots, plus signs, underscores and dashes."
  }
}

variable "git_commit" {
  description = "Commit of the repository, for the release record."
  type        = string
  default     = "unknown"

  validation {
    condition     = can(regex("^([0-9a-f]{7,64}|unknown)$", var.git_commit))
    error_message = "The git_commit must be a commit hash or unknown."
  }
}

variable "deprecate_after_days" {
  description = "Days after which EC2 marks the AMI deprecated (it still works, but accounts that it is shared with may refuse it by their Allowed AMIs settings); 0 never."
  type        = number
  default     = 180

  validation {
    condition     = var.deprecate_after_days >= 0 && var.deprecate_after_days <= 3650 && floor(var.deprecate_after_days) == var.deprecate_after_days
    error_message = "The deprecate_after_days must be a whole number of days from 0 to 3650."
  }
}

variable "deregistration_protection" {
  description = "Whether EC2 refuses to deregister the AMI: off, on, or with-cooldown (24 hours more); clean-up then keeps it."
  type        = string
  default     = "off"

  validation {
    condition     = contains(["off", "on", "with-cooldown"], var.deregistration_protection)
    error_message = "The deregistration_protection must be off, on or with-cooldown."
  }
}

variable "ami_regions" {
  description = "Regions to copy the finished AMI to, besides its own."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.ami_regions : can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", name))])
    error_message = "Each of ami_regions must be an AWS region, such as us-east-1."
  }
}

variable "snapshot_copy_duration_minutes" {
  description = "Within how many minutes, a multiple of 15 up to 2880, EC2 is to finish each copy of ami_regions; AWS charges $0.005 to $0.020 per GiB more for it. 0 copies without such a promise."
  type        = number
  default     = 0

  validation {
    condition     = var.snapshot_copy_duration_minutes == 0 || (var.snapshot_copy_duration_minutes >= 15 && var.snapshot_copy_duration_minutes <= 2880 && floor(var.snapshot_copy_duration_minutes / 15) * 15 == var.snapshot_copy_duration_minutes)
    error_message = "The snapshot_copy_duration_minutes must be 0, or a multiple of 15 from 15 to 2880 (48 hours)."
  }
}

variable "region_kms_key_ids" {
  description = "KMS key of the copy in each of ami_regions; empty takes each region's default EBS key. kms_key_id does not reach other regions."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in values(var.region_kms_key_ids) : can(regex("^(arn:aws[a-z-]*:kms:.+|alias/.+|(mrk-)?[0-9a-f-]{32,36})$", key))])
    error_message = "Each of region_kms_key_ids must be a key id, an alias/NAME or an ARN of that region."
  }
}

variable "ami_users" {
  description = "Accounts that may launch the AMI; sharing needs kms_key_id, and region_kms_key_ids for each copy, whose key policies let them."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.ami_users : can(regex("^[0-9]{12}$", id))])
    error_message = "Each of ami_users must be an account id: 12 digits in quotes."
  }
}

variable "ami_org_arns" {
  description = "ARNs of AWS organizations whose accounts may launch the AMI; keys as for ami_users."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.ami_org_arns : can(regex("^arn:aws[a-z-]*:organizations::[0-9]{12}:organization/o-[a-z0-9]+$", arn))])
    error_message = "Each of ami_org_arns must be like arn:aws:organizations::123456789012:organization/o-abcde12345."
  }
}

variable "ami_ou_arns" {
  description = "ARNs of organizational units whose accounts may launch the AMI; keys as for ami_users."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.ami_ou_arns : can(regex("^arn:aws[a-z-]*:organizations::[0-9]{12}:ou/o-[a-z0-9]+/ou-[a-z0-9-]+$", arn))])
    error_message = "Each of ami_ou_arns must be like arn:aws:organizations::123456789012:ou/o-abcde12345/ou-ab12-cdef3456."
  }
}

variable "fingerprints" {
  description = "What the image is made from, by fact, for the tags gpu-ami:fingerprint-*; `invoke build --if-stale` compares them."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for fact, value in var.fingerprints : can(regex("^[a-z]{1,20}$", fact)) && length(value) <= 256]) && length(var.fingerprints) <= 10
    error_message = "The fingerprints must be up to 10 values of up to 256 characters, by short lower-case names."
  }
}

variable "chain_length" {
  description = "How many incremental bakes lie between this image and a full one, for the tag gpu-ami:chain-length; 0 is a full one."
  type        = number
  default     = 0

  validation {
    condition     = var.chain_length >= 0 && var.chain_length <= 1000 && floor(var.chain_length) == var.chain_length
    error_message = "The chain_length must be a whole number from 0 to 1000."
  }
}

variable "finished" {
  description = "The tag gpu-ami:finished of this one build: `invoke build` gives false, and makes it true when Packer has ended well; null sets none."
  type        = bool
  default     = null
}

variable "extra_tags" {
  description = "More tags for the AMI and its snapshots, 20 at most: EC2 allows 50 in all."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.extra_tags) <= 20
    error_message = "The extra_tags must be 20 at most: the pipeline's own take the rest of EC2's 50."
  }

  validation {
    condition     = alltrue([for key, value in var.extra_tags : !startswith(key, "gpu-ami:") && !startswith(key, "aws:")])
    error_message = "The extra_tags must not start with gpu-ami: or aws:, which have owners."
  }
}

# --- Files on this machine -----------------------------------------------------------------------

variable "manifest_path" {
  description = "Where Packer writes its manifest; null is manifest.json beside the template."
  type        = string
  default     = null
}

variable "release_path" {
  description = "Where the release record of the image is downloaded to; null is release.json beside the template."
  type        = string
  default     = null
}

variable "contents_path" {
  description = "Where the list of what is in the image is downloaded to; null is contents.json beside the template."
  type        = string
  default     = null
}

variable "bill_path" {
  description = "Where bill_command writes the bill of materials; null is bill.cdx.json beside the template."
  type        = string
  default     = null
}

variable "bill_command" {
  description = "Composes the bill of materials of that list, in the shell of this machine; `invoke build` gives it, empty is none."
  type        = string
  default     = ""
}

# --- Provenance ----------------------------------------------------------------------------------

variable "provenance_signer" {
  description = "Who signs the provenance: none, keyless, a KMS key (awskms:///alias/NAME) or a private key's PEM file."
  type        = string
  default     = "none"

  validation {
    condition     = can(regex("^(awskms:///.+|[^:]+)$", var.provenance_signer))
    error_message = "The provenance_signer must be none, keyless, awskms:/// and a key, or a file."
  }
}

variable "provenance_folder" {
  description = "Folder that Packer writes the provenance into; null is the one of the template."
  type        = string
  default     = null
}

variable "provenance_identity" {
  description = "Whom Sigstore's certificate must name, for the signer keyless."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^\\S*$", var.provenance_identity))
    error_message = "The provenance_identity must have no blanks, such as https://github.com/OWNER/REPO/.github/workflows/FILE@REF."
  }
}

variable "provenance_issuer" {
  description = "Who vouches for that identity, for the signer keyless."
  type        = string
  default     = "https://token.actions.githubusercontent.com"

  validation {
    condition     = can(regex("^https://\\S+$", var.provenance_issuer))
    error_message = "The provenance_issuer must be an https:// address."
  }
}

# --- Only for the local AWS ----------------------------------------------------------------------

variable "ssh_host" {
  description = "Address of the guest that stands in for the builder in the sandbox; null on AWS."
  type        = string
  default     = null
}

variable "ssh_port" {
  description = "SSH port of the guest in the sandbox; null, that is 22, on AWS."
  type        = number
  default     = null
}
