"""README, example file and .gitignore of packer/ say what the template says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake.template import load_hcl, template_scripts
from tests.infra.box import PACKER

README = (PACKER / "README.md").read_text(encoding="utf-8")


def variables() -> dict[str, dict[str, Any]]:
    """Return the template's variables by name."""
    document = load_hcl(PACKER / "variables.pkr.hcl", what="template")
    return {name: body for block in document["variable"] for name, body in block.items()}


def documented() -> dict[str, tuple[str, str]]:
    """Return the README's table: name to (default, description)."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", README, flags=re.MULTILINE)
    return {name: (default, text) for name, default, text in rows}


def test_readme_documents_each_variable_with_its_default() -> None:
    """The table is what people read; the HCL is what Packer does."""
    expected = {
        name: (f"`{json.dumps(body['default'])}`" if "default" in body else "—", body["description"])
        for name, body in variables().items()
    }

    assert documented() == expected


def test_readme_lists_the_steps_in_the_template_s_order() -> None:
    """Who searches for the failing step finds it where the log says it is."""
    steps = [f"{name}.sh" for name in template_scripts(PACKER)]

    assert re.findall(r"^\| `([\w-]+\.sh)` \|", README, flags=re.MULTILINE) == steps


@pytest.mark.parametrize("name", sorted(variables()))
def test_each_variable_is_typed_described_and_checked(name: str) -> None:
    """A wrong value is told before an instance is paid for; a bool needs no check, a path is checked by use."""
    body = variables()[name]

    assert body["description"].endswith(".")
    assert "type" in body
    if body["type"] != "${bool}" and body["type"] != "bool":
        unchecked = {"manifest_path", "release_path", "contents_path", "bill_path", "bill_command"}
        unchecked |= {"provenance_folder", "ssh_host", "ssh_port"}
        assert ("validation" in body) != (name in unchecked)


def test_names_that_the_seed_gave_are_kept() -> None:
    """People's own variables files name these."""
    assert {"ecr_repository_url", "subnet_id", "security_group_id", "models_s3_bucket"} <= set(variables())


def test_sandbox_only_variables_are_off_by_default() -> None:
    """A build on AWS must not search for a guest on this machine."""
    assert all(
        variables()[name]["default"] is None for name in ("ssh_host", "ssh_port", "manifest_path", "release_path")
    )


def test_example_sets_existing_variables_and_all_required_ones(tmp_path: Path) -> None:
    """A copy of the example, filled in, is all that a first build needs."""
    copy = tmp_path / "variables.auto.pkrvars.hcl"
    copy.write_text((PACKER / "variables.auto.pkrvars.hcl.example").read_text(encoding="utf-8"), encoding="utf-8")
    given = set(load_hcl(copy, what="example"))
    required = {name for name, body in variables().items() if "default" not in body}

    assert given <= set(variables())
    assert required <= given
    assert not given & {"region", "family"}, "pipeline.yaml owns these"


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("variables.auto.pkrvars.hcl", True),
        ("mine.pkrvars.json", True),
        ("manifest.json", True),
        ("release.json", True),
        ("contents.json", True),
        ("builds/ami-0123456789abcdef0/bill.cdx.json", True),
        ("rootfs/usr/builds/x", False),
        ("ec2_gpu.pem", True),
        ("crash.log", True),
        ("packer_cache/x", True),
        ("variables.auto.pkrvars.hcl.example", False),
        ("variables.pkr.hcl", False),
        ("scripts/cleanup.sh", False),
    ],
)
def test_git_ignores_what_is_private_or_generated(tmp_path: Path, name: str, ignored: bool) -> None:
    """Account ids and login keys must not be committed; the template must."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_bytes((PACKER / ".gitignore").read_bytes())
    done = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", "--quiet", name], check=False)

    assert (done.returncode == 0) is ignored
