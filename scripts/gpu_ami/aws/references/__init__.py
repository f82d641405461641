"""Finds what references an AMI or snapshot: one small class per source; `registry.SOURCES` lists them all."""
