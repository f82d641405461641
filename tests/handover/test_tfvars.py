"""The machine-owned variables file for Terraform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.handover.tfvars import apply, plan

OLD, NEW = "ami-0123456789abcdef0", "ami-12345678"


def _file(tmp_path: Path, content: str | None = None) -> Path:
    file = tmp_path / "gpu-ami.auto.tfvars.json"
    if content is not None:
        file.write_text(content)
    return file


def test_a_new_file_holds_the_variable_alone(tmp_path: Path) -> None:
    """The first hand-over makes the file."""
    change = plan(_file(tmp_path), "gpu_ami_id", NEW)
    apply(change)

    assert (change.old, change.changed) == (None, True)
    assert change.file.read_text() == f'{{\n  "gpu_ami_id": "{NEW}"\n}}\n'


def test_other_variables_stay_and_keys_are_sorted(tmp_path: Path) -> None:
    """A diff shows the value that changed and nothing else."""
    file = _file(tmp_path, json.dumps({"z": [1], "gpu_ami_id": OLD, "a": {"한": "글"}}))

    change = plan(file, "gpu_ami_id", NEW)
    apply(change)

    assert list(json.loads(file.read_text()).items()) == [("a", {"한": "글"}), ("gpu_ami_id", NEW), ("z", [1])]
    assert change.document("f") == {"file": "f", "variable": "gpu_ami_id", "old": OLD, "new": NEW, "changed": True}
    assert f'+  "gpu_ami_id": "{NEW}"' in change.diff("f")


def test_an_equal_value_touches_nothing(tmp_path: Path) -> None:
    """A file in another layout is not rewritten: git would show a change where there is none."""
    file = _file(tmp_path, f'{{"gpu_ami_id":"{OLD}"}}')
    before = file.stat().st_mtime_ns

    change = plan(file, "gpu_ami_id", OLD)
    apply(change)

    assert (change.changed, change.diff("f"), file.stat().st_mtime_ns) == (False, "", before)


def test_planning_writes_nothing(tmp_path: Path) -> None:
    """--check and --dry-run only plan."""
    assert not plan(_file(tmp_path), "gpu_ami_id", NEW).file.exists()


@pytest.mark.parametrize(
    "ami", ["", "ami-", "ami-123", "i-0123456789abcdef0", "ami-0123456789ABCDEF0", f"{OLD}\n", f" {OLD}"]
)
def test_only_an_ami_id_is_handed_over(tmp_path: Path, ami: str) -> None:
    """Terraform would accept any string until the apply."""
    with pytest.raises(UsageError, match="is not an AMI id"):
        plan(_file(tmp_path), "gpu_ami_id", ami)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"gpu_ami_id": ', "is not JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "is not JSON"),
        ('{"gpu_ami_id": {"eu-west-1": "ami-12345678"}}', "not a string"),
        ('{"gpu_ami_id": "a", "gpu_ami_id": "b"}', "stands twice"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    """What cannot be read cannot be kept, so it is not replaced."""
    file = tmp_path / "x.tfvars.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(UsageError, match=problem):
        plan(file, "gpu_ami_id", NEW)


@pytest.mark.parametrize("name", ["x.json", "x.tfvars", "x.tf"])
def test_other_file_kinds_are_refused(tmp_path: Path, name: str) -> None:
    """JSON in a file that Terraform reads as HCL, or not at all, hands nothing over."""
    with pytest.raises(UsageError, match=r"not a \.tfvars\.json file"):
        plan(tmp_path / name, "gpu_ami_id", NEW)


@pytest.mark.parametrize("kind", ["symlink", "directory", "read-only"])
def test_unwritable_targets_are_refused_before_anything_happens(tmp_path: Path, kind: str) -> None:
    """--check must see them too, and root gets no special treatment."""
    file = _file(tmp_path)
    if kind == "symlink":
        file.symlink_to(tmp_path / "other.tfvars.json")
    elif kind == "directory":
        file.mkdir()
    else:
        file.write_text("{}")
        file.chmod(0o400)

    with pytest.raises(UsageError, match=str(file)):
        plan(file, "gpu_ami_id", NEW)


def test_a_change_in_between_is_not_overwritten(tmp_path: Path) -> None:
    """Two hand-overs at once: the second one must not undo what it never saw."""
    file = _file(tmp_path, f'{{"gpu_ami_id": "{OLD}"}}')
    change = plan(file, "gpu_ami_id", NEW)
    file.write_text(f'{{"gpu_ami_id": "{OLD}", "other": 1}}')

    with pytest.raises(UsageError, match="changed by somebody else"):
        apply(change)
    assert "other" in file.read_text()
