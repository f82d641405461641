variable "family" {
  description = "AMIs of one pipeline: begins the names here."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,39}$", var.family))
    error_message = "The family must be 2 to 40 lower-case letters, digits and dashes, starting with a letter."
  }
}

variable "ecr_repository_url" {
  description = "Existing ECR repository of the container image, without tag; null makes one."
  type        = string
  default     = null

  validation {
    condition     = var.ecr_repository_url == null || can(regex("^[0-9]{12}\\.(dkr\\.ecr(-fips)?\\.[a-z0-9-]+\\.amazonaws\\.(com(\\.cn)?|eu)|dkr-ecr(-fips)?\\.[a-z0-9-]+\\.on\\.(aws|amazonwebservices\\.(com\\.cn|eu)))/[a-z0-9][a-z0-9._/-]*$", var.ecr_repository_url))
    error_message = "The ecr_repository_url must look like 123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/batch-processor, without a tag."
  }
}

variable "models_bucket" {
  description = "Existing bucket whose models/ prefix is baked in; null makes one, an empty string means that there are no models in S3."
  type        = string
  default     = null

  validation {
    condition     = var.models_bucket == null || can(regex("^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$", var.models_bucket))
    error_message = "The models_bucket must be the bare name of a bucket, without s3:// and prefix."
  }
}

variable "allow_session_tunnel" {
  description = "Whether the build instance may be reached through Session Manager (ssh_interface = session_manager in Packer's variables)."
  type        = bool
  default     = false
  nullable    = false
}
