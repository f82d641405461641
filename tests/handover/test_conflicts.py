"""The same variable given twice: Terraform would take one of the two and say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.handover import conflicts, tfvars

OLD, NEW, SEOUL = "ami-0123456789abcdef0", "ami-12345678", "ap-northeast-2"
TARGETS = {
    "gpu-ami.auto.tfvars.json": f'{{"gpu_ami_id": "{OLD}"}}',
    "terraform.tfvars": f'gpu_ami_id = "{OLD}"\n',
    "a.auto.tfvars": f'gpu_ami_id = "{OLD}"\n',
    "variables.tf": f'variable "gpu_ami_id" {{\n  default = "{OLD}"\n}}\n',
}


def _check(folder: Path, name: str, variable: str = "gpu_ami_id") -> None:
    conflicts.check(tfvars.plan(folder / name, variable, {SEOUL: NEW}, region=SEOUL))


OTHERS = {
    "terraform.tfvars": f'# x\ngpu_ami_id = "{OLD}"\n',
    "terraform.tfvars.json": f'{{"gpu_ami_id":\n"{OLD}"}}',
    "z.auto.tfvars": f'\ufeff\r\ngpu_ami_id = "{OLD}"',
    "z.auto.tfvars.json": f'{{\n"gpu_ami_id": "{OLD}"}}',
}


@pytest.mark.parametrize(("target", "other"), [(one, two) for one in TARGETS for two in OTHERS if one != two])
def test_another_value_in_another_file_is_refused(tmp_path: Path, target: str, other: str) -> None:
    """Both files are named, and the line: a person decides which one stays."""
    (tmp_path / target).write_text(TARGETS[target])
    (tmp_path / other).write_bytes(OTHERS[other].encode())

    with pytest.raises(UsageError, match=rf"{target} but is .*{OLD}.* at line [12] of .*{other}: keep it in one"):
        _check(tmp_path, target)


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_value_elsewhere_is_no_contradiction(tmp_path: Path, target: str) -> None:
    """Nor are files that Terraform reads only when they are named, or files without the variable."""
    (tmp_path / target).write_text(TARGETS[target])
    (tmp_path / "0.auto.tfvars").write_text(f'gpu_ami_id = "{NEW}"\n')
    (tmp_path / "prod.tfvars").write_text(f'gpu_ami_id = "{OLD}"\n')
    (tmp_path / "empty.auto.tfvars.json").write_text("")
    (tmp_path / "other.auto.tfvars").write_text('x = { gpu_ami_id = "ami-1" } # gpu_ami_id = "y"\n')

    _check(tmp_path, target)


def test_a_file_that_is_read_only_when_named_may_differ(tmp_path: Path) -> None:
    """``-var-file=prod.tfvars`` beats the others on purpose."""
    (tmp_path / "prod.tfvars").write_text(f'gpu_ami_id = "{OLD}"\n')
    (tmp_path / "terraform.tfvars").write_text(f'gpu_ami_id = "{OLD}"\n')

    _check(tmp_path, "prod.tfvars")


def test_a_literal_in_a_block_is_nobodys_variable(tmp_path: Path) -> None:
    """Variables files cannot contradict it."""
    (tmp_path / "main.tf").write_text(f'locals {{\n  gpu_ami_id = "{OLD}"\n}}\n')
    (tmp_path / "terraform.tfvars").write_text(f'gpu_ami_id = "{OLD}"\n')

    _check(tmp_path, "main.tf", "locals.gpu_ami_id")


@pytest.mark.parametrize(("value", "is_same"), [(NEW, True), (OLD, False)])
def test_maps_are_compared_whole(tmp_path: Path, value: str, is_same: bool) -> None:
    """Whatever the order and the syntax of their entries."""
    (tmp_path / "a.auto.tfvars.json").write_text(f'{{"m": {{"us-east-1": "ami-1", "{SEOUL}": "{OLD}"}}}}')
    (tmp_path / "b.auto.tfvars").write_text(f'm = {{\n  {SEOUL} = "{value}"\n  us-east-1 = "ami-1"\n}}\n')

    if is_same:
        _check(tmp_path, "a.auto.tfvars.json", "m")
    else:
        with pytest.raises(UsageError, match="m would be another map in"):
            _check(tmp_path, "a.auto.tfvars.json", f'm["{SEOUL}"]')


def test_a_neighbour_that_does_not_parse_is_named(tmp_path: Path) -> None:
    """What it says of the variable is unknown, and Terraform would stop at it anyway."""
    (tmp_path / "terraform.tfvars").write_text("x = \n")

    with pytest.raises(UsageError, match=r"terraform\.tfvars does not parse at line 1"):
        _check(tmp_path, "gpu-ami.auto.tfvars.json")


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("terraform.tfvars", True),
        ("gpu.auto.tfvars.json", True),
        ("gpu.tf", True),
        ("modules/gpu/main.tf", True),
        ("gpu.tfvars", False),
        ("gpu.tfvars.json", False),
        ("../gpu.auto.tfvars", False),
        ("envs/gpu.auto.tfvars.json", False),
        ("envs/../gpu.auto.tfvars", True),
    ],
)
def test_terraform_takes_only_some_files_by_itself(tmp_path: Path, name: str, taken: bool) -> None:
    """By their names, and only from the folder it runs in."""
    (tmp_path / "root" / "envs").mkdir(parents=True)

    assert conflicts.is_taken(tmp_path / "root" / name, tmp_path / "root") is taken
