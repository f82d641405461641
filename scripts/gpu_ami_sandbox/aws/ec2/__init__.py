"""The local EC2, part by part."""
