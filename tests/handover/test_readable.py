"""What Terraform would refuse in a variables file is refused before anybody has paid for a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.handover.readable import check, check_text

AMI = "ami-0123456789abcdef0"
OURS = "gpu-ami.auto.tfvars.json"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (OURS, '\ufeff{"gpu_ami_id": null}', "begins with a byte-order mark.*: run `invoke update-tfvars`, which"),
        ("terraform.tfvars.json", "\ufeff{}", "begins with a byte-order mark.*: save it without"),
        (OURS, '{"a": 1, "b": 2,\n "a": 3}', "a occurs twice in .*, at lines 1 and 2, which Terraform refuses"),
        (OURS, '{"a": {"b": [{"c": 1, "c": 2}]}}', r"a\.b\[0\]\.c occurs twice"),
        (OURS, '{"a": NaN}', "NaN is no number"),
        (OURS, "", "is not JSON at line 1"),
        ("z.auto.tfvars", "a = 1\n\na = 2\n", "a occurs twice in .*, at lines 1 and 3"),
        ("z.auto.tfvars", 'a = 1\nx "y" {\n}\n', "has a block, x, at line 2"),
        ("z.auto.tfvars", b"a = \xff\n", "is not UTF-8"),
    ],
)
def test_what_terraform_would_not_read_is_named(tmp_path: Path, name: str, text: str | bytes, problem: str) -> None:
    """File, line and what to do; the file of the hand-over and those that Terraform reads beside it."""
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(UsageError, match=problem) as caught:
        check(tmp_path / OURS, tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (OURS, f'{{"//": "x", "//": "y", "gpu_ami_id": "{AMI}", "n": 1E400}}'),
        ("terraform.tfvars", "\ufeffa = { b = 1, c = 2 }\n"),
        ("z.auto.tfvars", 'a = "x\n'),
        ("variables.tf", 'variable "a" {}\n'),
        ("prod.tfvars.json", '\ufeff{"a": 1, "a": 2}'),
        ("x.json", "no"),
    ],
)
def test_what_it_reads_or_leaves_alone_passes(tmp_path: Path, name: str, text: str) -> None:
    """Comments may repeat, HCL may have a mark; what does not parse there `terraform fmt` explains better."""
    (tmp_path / name).write_text(text)

    check(tmp_path / OURS, tmp_path)


def test_a_hand_over_in_another_folder_is_looked_at_too(tmp_path: Path) -> None:
    """It is named with -var-file: Terraform reads it all the same."""
    (tmp_path / "envs").mkdir()
    file = tmp_path / "envs" / "prod.tfvars.json"
    file.write_text('\ufeff{"gpu_ami_id": null}')

    with pytest.raises(UsageError, match="byte-order mark"):
        check(file, tmp_path / "terraform")


def test_code_is_none_of_its_affair() -> None:
    """A variable's default in a .tf file: `terraform validate` reads that."""
    check_text(Path("x.tf"), 'variable "a" {}\nvariable "a" {}\n')
