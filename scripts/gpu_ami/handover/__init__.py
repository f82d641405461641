"""Hands AMI ids over: to the Terraform variable (`update-tfvars`) and to SSM parameters (`publish`)."""
