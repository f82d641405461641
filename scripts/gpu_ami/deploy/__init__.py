"""Moving Terraform to an AMI: plan, apply and rollback, with a guard before and receipts after."""
