"""The identifiers and tags that stations hand each other."""

from __future__ import annotations

import re

from gpu_ami.errors import UsageError

# EC2 gave out 8 hexadecimal digits until 2018 and gives out 17 since; both are alive.
AMI_ID = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")
REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")

# On everything the pipeline makes.
PIPELINE_TAG = "gpu-ami:pipeline"
FAMILY_TAG = "gpu-ami:family"
# ``pending`` from the bake on, ``applied`` once Terraform has taken the AMI.
HANDOVER_TAG = "gpu-ami:handover"


def checked_ami_id(text: str, *, name: str = "AMI id") -> str:
    """Return *text* when it is an AMI id.

    Raises:
        UsageError: It is something else.
    """
    if AMI_ID.fullmatch(text) is None:
        msg = f"{name} {text[:80]!r} is not an AMI id: give ami- and 8 or 17 hexadecimal digits."
        raise UsageError(msg)
    return text
