"""What may need an AMI: each source of references is one small class, and `SOURCES` names them all."""
