# A small VPC for those who have none: public subnets, so that nothing is paid for a NAT gateway, and a free way to S3.

data "aws_availability_zones" "available" {
  state = "available"

  # No local zones: they have neither Batch nor most GPU types.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_region" "current" {}

locals {
  # A subnet's addresses follow from its zone's place in this list.
  zones = length(var.zones) > 0 ? var.zones : slice(
    sort(data.aws_availability_zones.available.names),
    0,
    min(var.zone_count, length(data.aws_availability_zones.available.names)),
  )
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr_block
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name} public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_subnet" "public" {
  for_each = { for number, zone in local.zones : zone => number }

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.cidr_block, 2, each.value)
  # ECS, ECR and CloudWatch are reached over the internet gateway.
  map_public_ip_on_launch = true

  tags = { Name = "${var.name} public ${each.key}" }
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

# Image layers lie in S3: through the gateway they are free and do not leave AWS.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${data.aws_region.current.id}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.public.id]

  tags = { Name = "${var.name} s3" }
}

# --- Batch's instances ---------------------------------------------------------------------------

resource "aws_security_group" "batch" {
  name_prefix = "${var.name}-batch-"
  description = "Batch instances: out only"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name} batch" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "batch" {
  security_group_id = aws_security_group.batch.id
  description       = "Jobs fetch their videos from wherever they are"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

# --- Packer's build instance ---------------------------------------------------------------------

resource "aws_security_group" "builder" {
  name_prefix = "${var.name}-builder-"
  description = "Packer's build instance"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name} builder" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "builder" {
  for_each = { http = 80, https = 443 }

  security_group_id = aws_security_group.builder.id
  description       = "ECR, S3 and package repositories by ${each.key}"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "builder_ssh" {
  for_each = toset(var.builder_ssh_cidrs)

  security_group_id = aws_security_group.builder.id
  description       = "Packer"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = each.value
}
