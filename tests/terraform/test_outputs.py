"""What `terraform output -json` says."""

from __future__ import annotations

import json

import pytest

from gpu_ami.errors import TerraformError
from gpu_ami.terraform import outputs


def test_strings_that_are_no_secrets_are_taken() -> None:
    """A list or null is no value for Packer, and a secret must not land in a file."""
    document = {
        "subnet_id": {"value": "subnet-1", "type": "string", "sensitive": False},
        "empty": {"value": "", "type": "string"},
        "arns": {"value": {"spot": "arn"}, "type": ["map", "string"], "sensitive": False},
        "nothing": {"value": None, "type": "string", "sensitive": False},
        "secret": {"value": "hunter2", "type": "string", "sensitive": True},
    }

    assert outputs.parse(json.dumps(document)) == {"subnet_id": "subnet-1", "empty": ""}


@pytest.mark.parametrize("text", ["", "Warning: no outputs", "[]", '{"a": 1}', '{"a": {}}', "[" * 100_000, "null"])
def test_anything_else_is_refused(text: str) -> None:
    """Half-understood outputs would end in half a file."""
    with pytest.raises(TerraformError, match="which are no outputs"):
        outputs.parse(text)
