"""Template to AMI: what goes into Packer, what comes out of it, and what it left behind."""
