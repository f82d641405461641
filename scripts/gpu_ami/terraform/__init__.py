"""Terraform itself: its command line, plan, state and errors, without knowledge of its callers."""
