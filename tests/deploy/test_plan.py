"""What was handed over, read from every form that `invoke update-tfvars` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.deploy import plan
from gpu_ami.deploy.plan import handed_over
from gpu_ami.errors import UsageError
from gpu_ami.handover import update_tfvars
from gpu_ami.settings import Handover
from tests.support.account import REGION, task
from tests.support.fake_terraform import FakeTerraform
from tests.support.plans import change

A = "ami-0123456789abcdef0"


@pytest.mark.parametrize(
    ("name", "text", "variable", "expected"),
    [
        ("x.auto.tfvars.json", f'{{"gpu_ami_id": "{A}"}}', "gpu_ami_id", A),
        ("x.auto.tfvars.json", "{}", "gpu_ami_id", None),
        ("x.auto.tfvars.json", '{"gpu_ami_id": null}', "gpu_ami_id", None),
        ("x.auto.tfvars.json", '{"gpu_ami_id": ""}', "gpu_ami_id", None),
        ("x.auto.tfvars.json", f'{{"amis": {{"{REGION}": "{A}", "us-east-1": "ami-00000001"}}}}', "amis", A),
        ("x.auto.tfvars.json", '{"amis": {"us-east-1": "ami-00000001"}}', "amis", None),
        ("x.auto.tfvars", f'# old\ngpu_ami_id = "{A}" # new\n', "gpu_ami_id", A),
        ("variables.tf", f'variable "gpu_ami_id" {{\n  default = "{A}"\n}}\n', "gpu_ami_id", A),
    ],
)
def test_the_handed_over_ami_is_read_back(
    terraform: FakeTerraform, name: str, text: str, variable: str, expected: str | None
) -> None:
    """The guard compares the plan with it: a form that it could not read would be compared with nothing."""
    file = terraform.folder / name
    file.write_text(text)
    run = task(terraform.here, terraform.folder.parent, handover=Handover(variable=variable)).run

    assert handed_over(run, file) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.auto.tfvars.json", '{"gpu_ami_id": ["ami-00000001"]}'),
        ("x.auto.tfvars", "gpu_ami_id = var.other\n"),
        ("x.auto.tfvars", 'gpu_ami_id = "latest"\n'),
    ],
)
def test_what_is_no_ami_is_named_with_its_line(terraform: FakeTerraform, name: str, text: str) -> None:
    """Nothing could be compared with it."""
    file = terraform.folder / name
    file.write_text(text)

    with pytest.raises(UsageError, match=r"line \d+ .*no AMI id"):
        handed_over(task(terraform.here, terraform.folder.parent).run, file)


@pytest.mark.parametrize(
    ("name", "bad", "fixed"),
    [
        ("gpu-ami.auto.tfvars.json", '{"gpu_ami_id": "TODO"}', '{"gpu_ami_id": null}'),
        ("gpu-ami.auto.tfvars.json", '{"gpu_ami_id": 5}', '{"gpu_ami_id": null}'),
        ("gpu-ami.auto.tfvars.json", '{"gpu_ami_id": ["a"]}', '{"gpu_ami_id": null}'),
        ("x.auto.tfvars", "gpu_ami_id = var.other\n", "gpu_ami_id = null\n"),
    ],
)
def test_what_is_advised_about_it_works(terraform: FakeTerraform, name: str, bad: str, fixed: str) -> None:
    """Advice that a command refuses sends people in a circle."""
    file = terraform.folder / name
    run = task(terraform.here, terraform.folder.parent, handover=Handover(file=f"terraform/{name}")).run
    file.write_text(bad)

    with pytest.raises(UsageError, match="write null there by hand and run `invoke update-tfvars`"):
        handed_over(run, file)
    with pytest.raises(UsageError):
        update_tfvars.plan_hand_over(run, {REGION: A})
    file.write_text(fixed)

    assert update_tfvars.plan_hand_over(run, {REGION: A}).new == A


def test_without_a_file_nothing_was_handed_over(terraform: FakeTerraform, tmp_path: Path) -> None:
    """Before the first build."""
    assert handed_over(task(terraform.here, terraform.folder.parent).run, tmp_path / "none.tfvars.json") is None


def test_the_table_has_the_amis_first(terraform: FakeTerraform) -> None:
    """They are what a person looks for; the rest follows, with what forces a replacement."""
    ami = terraform.here.image(5).id
    terraform.hand_over(ami)
    because = [["name"]]
    kind = "aws_iam_role"
    terraform.extra = [change(f"{kind}.x", ("delete", "create"), kind=kind, before={}, after={}, because=because)]
    done = task(terraform.here, terraform.folder.parent, output="table")

    plan.run(done.run, plan.Request())

    lines = [line for line in done.out.getvalue().splitlines() if "aws_" in line]
    assert [f"none -> {ami}" in line for line in lines] == [True, True, False]
    assert lines[2].split() == ["replace", f"{kind}.x", "name"]
    assert "2 to create, 1 to replace" in done.out.getvalue()
