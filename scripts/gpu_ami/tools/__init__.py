"""Finds or installs the external programs that the pipeline runs."""

from gpu_ami.tools.locate import guest_tools, packer_program, packer_tools, terraform_tools
from gpu_ami.tools.tool import GuestTools, PackerTools, TerraformTools, Tool

__all__ = [
    "GuestTools",
    "PackerTools",
    "TerraformTools",
    "Tool",
    "guest_tools",
    "packer_program",
    "packer_tools",
    "terraform_tools",
]
