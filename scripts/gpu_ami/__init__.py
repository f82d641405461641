"""Bake GPU AMIs for AWS Batch, hand them to Terraform, price them and clean them up."""

__version__ = "0.1.0"
