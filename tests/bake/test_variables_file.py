"""The variables file that `invoke init` writes: whose value goes where, and what stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import template, variables_file
from gpu_ami.bake.variables_file import Plan
from gpu_ami.errors import UsageError

PACKER = Path(__file__).parents[2] / "packer"
EXAMPLE = (PACKER / "variables.auto.pkrvars.hcl.example").read_text(encoding="utf-8")
DEFAULTS = template.template_defaults(PACKER)
FILE = Path("variables.auto.pkrvars.hcl")
REPOSITORY = "210987654321.dkr.ecr.us-east-1.amazonaws.com/own"
SUBNET = "subnet-0123456789abcdef0"


def planned(text: str | None, **values: str) -> Plan:
    """Return the plan for *text* with *values* from a flag."""
    chosen = {name: (value, "a flag") for name, value in values.items()}
    return variables_file.plan(FILE, text, EXAMPLE, chosen, DEFAULTS, source="the file")


def read(tmp_path: Path, text: str) -> dict[str, Any]:
    """Return what Packer would read from *text*."""
    file = tmp_path / "a.pkrvars.hcl"
    file.write_text(text, encoding="utf-8")
    return template.load_hcl(file, what="file")


def test_a_new_file_is_the_example_filled_in(tmp_path: Path) -> None:
    """The example's comments say what each value is; its placeholders must not reach AWS."""
    plan = planned(None, ecr_repository_url=REPOSITORY, subnet_id=SUBNET)

    values = read(tmp_path, plan.after)
    assert (values["ecr_repository_url"], values["subnet_id"]) == (REPOSITORY, SUBNET)
    assert values["models_s3_bucket"] == values["iam_instance_profile"] == ""
    assert [line for line in EXAMPLE.splitlines() if line.startswith("#")] == [
        line for line in plan.after.splitlines() if line.startswith("#")
    ]
    assert (plan.before, plan.replaced, plan.changed) == (None, (), True)


def test_hand_edits_and_comments_stay(tmp_path: Path) -> None:
    """The file is the user's: only the requested value changes, where it is."""
    text = f'# mine\nimage_tag   = "v7" # pin\r\nsubnet_id = "subnet-11111111"\necr_repository_url = "{REPOSITORY}"'

    plan = planned(text, subnet_id=SUBNET)

    assert plan.after == text.replace("subnet-11111111", SUBNET)
    assert [setting.name for setting in plan.replaced] == ["subnet_id"]


def test_a_value_of_the_example_is_nobodys_own() -> None:
    """Who copied the example and filled in half of it is not asked about the other half."""
    plan = planned(EXAMPLE, ecr_repository_url=REPOSITORY, subnet_id=SUBNET)

    assert plan.replaced == ()
    assert {setting.name: setting.old for setting in plan.settings}["subnet_id"] == "subnet-0abc123def456789a"


def test_what_is_right_already_changes_nothing() -> None:
    """A second run leaves the file, and its date, alone."""
    first = planned(None, ecr_repository_url=REPOSITORY, subnet_id=SUBNET)

    second = planned(first.after, ecr_repository_url=REPOSITORY, subnet_id=SUBNET)

    assert not second.changed
    assert second.diff("x") == ""
    assert all(not setting.changed for setting in second.settings)


def test_the_diff_names_the_file_and_the_values() -> None:
    """It is what a person decides by."""
    plan = planned(f'subnet_id = "{SUBNET}"\n', subnet_id="subnet-22222222")

    assert plan.diff("f.hcl").splitlines() == [
        "--- a/f.hcl",
        "+++ b/f.hcl",
        "@@ -1 +1 @@",
        f'-subnet_id = "{SUBNET}"',
        '+subnet_id = "subnet-22222222"',
    ]


def test_what_nothing_gives_is_named() -> None:
    """The template's defaults are an answer; an example's placeholder is not."""
    own = variables_file.own_values(EXAMPLE, EXAMPLE, source="the file")

    assert own == {}
    assert variables_file.missing({}, own, DEFAULTS) == ["ecr_repository_url", "subnet_id"]
    assert variables_file.missing({"subnet_id": SUBNET}, {"ecr_repository_url": REPOSITORY}, DEFAULTS) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("subnet_id = \n", "the file does not parse at line 1"),
        (f'subnet_id = "{SUBNET}"\nsubnet_id = "{SUBNET}"\n', "occurs twice"),
        ('subnet_id = "subnet-${var.x}"\n', "the expression"),
    ],
)
def test_a_file_that_cannot_be_edited_is_refused(text: str, problem: str) -> None:
    """Guessing would spoil it."""
    with pytest.raises(UsageError, match=re.escape(problem)):
        planned(text, subnet_id=SUBNET)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subnet_id", ""),
        ("subnet_id", "vpc-0123456789abcdef0"),
        ("subnet_id", f"{SUBNET}\n"),
        ("security_group_id", "sg-xyz"),
        ("ecr_repository_url", f"{REPOSITORY}:latest"),
        ("ecr_repository_url", "<html>"),
        ("models_s3_bucket", "s3://bucket"),
        ("iam_instance_profile", "arn:aws:iam::123456789012:instance-profile/x"),
        ("iam_instance_profile", "x" * 129),
    ],
)
def test_a_value_that_the_template_would_refuse_is_refused_here(name: str, value: str) -> None:
    """Otherwise it is in the file, and the next command says so."""
    with pytest.raises(UsageError, match=f"^{name} is .* by --flag: it must be "):
        variables_file.checked(name, value, "--flag")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subnet_id", SUBNET),
        ("subnet_id", "subnet-12345678"),
        ("security_group_id", ""),
        ("ecr_repository_url", REPOSITORY),
        ("models_s3_bucket", ""),
        ("iam_instance_profile", "gpu-batch-bake-1"),
    ],
)
def test_a_good_value_passes(name: str, value: str) -> None:
    """Optional ones may be empty."""
    assert variables_file.checked(name, value, "--flag") == value


def test_the_shapes_are_the_templates() -> None:
    """Two rules for one value drift apart; the template's is what counts."""
    template = (PACKER / "variables.pkr.hcl").read_text(encoding="utf-8")

    for name, shape in variables_file.SHAPES.items():
        written = re.findall(rf'regex\("(.*)", var\.{name}\)', template)
        assert [rule.replace("\\\\", "\\") for rule in written] == [f"^{shape.pattern.pattern}$"], name
