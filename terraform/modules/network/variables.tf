variable "name" {
  description = "Begins the name of everything here."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,39}$", var.name))
    error_message = "The name must be 2 to 40 lower-case letters, digits and dashes, starting with a letter."
  }
}

variable "cidr_block" {
  description = "Addresses of the VPC, a /16 to /24."
  type        = string
  default     = "10.83.0.0/20"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.cidr_block)) && can(regex("/(1[6-9]|2[0-4])$", var.cidr_block))
    error_message = "The cidr_block must be an IPv4 range from /16 to /24, such as 10.83.0.0/20."
  }
}

variable "zone_count" {
  description = "Most availability zones to spread over; more of them find GPU capacity more often and cost nothing."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = contains([1, 2, 3, 4], var.zone_count)
    error_message = "The zone_count must be 1 to 4."
  }
}

variable "zones" {
  description = "Availability zones of the network that is made, in the order of their subnets, new ones last; empty takes the first of the alphabet, and a new zone there replaces subnets."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.zones) <= 4 && length(distinct(var.zones)) == length(var.zones) && alltrue([for zone in var.zones : can(regex("^[a-z]+(-[a-z]+)+-[0-9]+[a-z]$", zone))])
    error_message = "The zones must be up to 4 different availability zones of the region, such as ap-northeast-2a."
  }
}

variable "builder_ssh_cidrs" {
  description = "Who may log in to a build instance over SSH; empty is nobody, for session_manager or Packer's temporary group."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.builder_ssh_cidrs : can(cidrnetmask(cidr)) && !endswith(cidr, "/0")])
    error_message = "The builder_ssh_cidrs must be IPv4 ranges such as 203.0.113.7/32, and not the whole internet."
  }
}
