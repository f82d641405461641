"""Error boxes read down to one line."""

from __future__ import annotations

import pytest

from gpu_ami.diagnostics import first_problem

# `terraform fmt` and its like print boxes too, with frames.
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
    """People read the last line of a log: it must hold the reason and the location."""
    assert first_problem(output).startswith(line[:40])
    assert "\n" not in first_problem(output)


WRAPPED = """\
Error: Invalid value for cmd variable

  on  line 0:
  (source code not available)

The volume_size_gib must be a whole number from 30 (the base AMI's size) to
16384.

This was checked by the validation rule at variables.pkr.hcl:239,3-13.


"""
WITH_AN_ADDRESS = """\
╷
│ Error: Invalid index
│
│   with module.gpu.aws_batch_compute_environment.this["spot"],
│   on modules/gpu/main.tf line 12, in resource "aws_batch_compute_environment" "this":
│   12:   subnets = var.subnets[3]
│     ├────────────────
│     │ var.subnets is a list with 1 element
│
│ the given key does not identify an element in this collection value: the
│ given index is greater than or equal to the length.
╵
"""
LISTED = """\
Error: Inconsistent dependency lock file

The following selections are inconsistent with the configuration:

  - provider aws: required, but no version is selected

To make them, run terraform init.
"""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (TERRAFORM, "Invalid value for variable (variables.tf line 1): gpu_ami_id must be an AMI id"),
        (
            WRAPPED,
            (
                "Invalid value for cmd variable: The volume_size_gib must be a whole number from 30 (the base AMI's "
                "size) to 16384"
            ),
        ),
        (
            WITH_AN_ADDRESS,
            (
                "Invalid index (modules/gpu/main.tf line 12): the given key does not identify an element in this "
                "collection value: the given index is greater than or equal to the length"
            ),
        ),
        (
            LISTED,
            (
                "Inconsistent dependency lock file: The following selections are inconsistent with the configuration: "
                "- provider aws: required, but no version is selected"
            ),
        ),
        ("Error: No reason\n\nError: Another one\n\nIts reason.\n", "No reason"),
    ],
)
def test_a_wrapped_reason_is_said_to_its_end(output: str, line: str) -> None:
    """Half a sentence with a full stop behind it reads like a whole one, and says something else."""
    assert first_problem(output) == line


def test_an_endless_reason_is_cut_where_it_shows() -> None:
    """A last line of a log that fills the screen is not read; one that hides its cut misleads."""
    said = first_problem("Error: Too much\n\n" + "word \n" * 1000)

    assert said.endswith("word […]")
    assert len(said) < 450
