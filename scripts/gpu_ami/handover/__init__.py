"""AMI to Terraform: the variable that carries the id."""
