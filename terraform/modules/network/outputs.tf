output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "subnet_ids" {
  description = "Its public subnets, one in each zone, in the zones' order."
  value       = [for zone in local.zones : aws_subnet.public[zone].id]
}

output "batch_security_group_id" {
  description = "Security group of Batch's instances: everything out, nothing in."
  value       = aws_security_group.batch.id
}

output "builder_security_group_id" {
  description = "Security group of Packer's build instance; null where nobody may log in, so that Packer makes a temporary one."
  value       = length(var.builder_ssh_cidrs) > 0 ? aws_security_group.builder.id : null
}
