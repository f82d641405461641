"""Measures what was baked on instances of its own: `invoke verify` boots the AMI on a GPU type and checks it."""
