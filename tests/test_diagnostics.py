"""Error boxes read down to one line."""

from __future__ import annotations

import pytest

from gpu_ami.diagnostics import first_problem

TERRAFORM = """\
╷
│ Error: Invalid value for variable
│
│   on variables.tf line 1:
│    1: variable "gpu_ami_id" {
│
│ gpu_ami_id must be an AMI id.
│
│ This was checked by the validation rule at variables.tf:5,3-13.
╵
"""
PACKER = """\
Error: Unset variable "subnet_id"

A used variable must be set or have a default value; see
https://packer.io/docs for details.

Error: Another one

"""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (TERRAFORM, "Invalid value for variable (variables.tf line 1): This was checked"),
        (PACKER, 'Unset variable "subnet_id": A used variable must be set or have a default value; see'),
        ("Warning: x\nsomething broke\n", "something broke"),
        ("", "no output"),
    ],
)
def test_the_first_error_becomes_one_line(output: str, line: str) -> None:
    """People read the last line of a log: it must hold the reason and the place."""
    assert first_problem(output).startswith(line[:40])
    assert "\n" not in first_problem(output)
