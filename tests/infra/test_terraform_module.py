"""terraform/ keeps its own rules: layout, documents, one truth per variable, and a test for each rule on a value."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake.template import load_hcl
from gpu_ami.tools import terraform_tools
from tests.infra.devtools import TFLINT, go_tool

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
MODULES = sorted(path for path in (TERRAFORM / "modules").iterdir() if path.is_dir())
FOLDERS = [TERRAFORM, *MODULES]
# Which module's variable a root variable hands on under another name.
RENAMED = {
    "github_subject": "subject",
    "github_branch": "branch",
    "github_create_provider": "create_provider",
    "network_cidr_block": "cidr_block",
    "network_zones": "zones",
}
# The root decides on these itself, or says more of them than the module does.
OWN = {"family", "gpu_ami_id", "subnet_ids", "security_group_ids", "subject", "cidr_block", "models_bucket"}


def declared(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Return the variables or outputs of a module by name."""
    document = load_hcl(folder / f"{kind}s.tf", what="module")
    return {name: body for block in document[kind] for name, body in block.items()}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program without a Terraform or AWS setting of ours."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
    env |= {"CHECKPOINT_DISABLE": "1", "NO_COLOR": "1"}
    return subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=600, check=False)


@pytest.fixture(scope="module")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder with its provider installed: nobody's state, backend or variables take part."""
    folder = tmp_path_factory.mktemp("module") / "terraform"
    ours = shutil.ignore_patterns(".terraform*", "backend.tf", "*.tfvars*", "*.tfstate*")
    shutil.copytree(TERRAFORM, folder, ignore=ours)
    tools = terraform_tools()
    mirror = [f"-plugin-dir={tools.provider_mirror}"] if tools.provider_mirror else []
    done = run(str(tools.terraform.path), "init", "-input=false", "-no-color", *mirror, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_rules_and_wiring_hold(initialized: Path) -> None:
    """`terraform test`: wrong values are refused at the plan, and each variable makes what it says."""
    done = run(str(terraform_tools().terraform.path), "test", "-no-color", cwd=initialized)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! [1-9]\d* passed, 0 failed\.", done.stdout)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_each_rule_on_a_value_is_seen_to_refuse(folder: Path) -> None:
    """A rule that can never fail looks the same as one that works, until somebody's plan goes through."""
    told = folder.name.replace("-", "_") if folder != TERRAFORM else "root"
    refused = (TERRAFORM / "tests" / f"rules_{told}.tftest.hcl").read_text(encoding="utf-8")
    guarded = {name for name, body in declared(folder, "variable").items() if "validation" in body}

    assert guarded == set(re.findall(r"^ +var\.(\w+),$", refused, re.MULTILINE))


def test_tflint_finds_nothing() -> None:
    """All rules: documented and typed variables, names, structure, versions, nothing unused."""
    done = run(str(go_tool(TFLINT)), "--recursive", f"--config={TERRAFORM / '.tflint.hcl'}", cwd=TERRAFORM)

    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_tflint_would_find_an_unused_variable(tmp_path: Path) -> None:
    """A linter that is not set up right finds nothing either."""
    (tmp_path / "variables.tf").write_text('variable "Unused" {}\n')

    done = run(str(go_tool(TFLINT)), f"--config={TERRAFORM / '.tflint.hcl'}", cwd=tmp_path)

    assert done.returncode == 2
    for rule in ("unused_declarations", "documented_variables", "typed_variables", "naming_convention"):
        assert f"terraform_{rule}" in done.stdout


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_readme_documents_variables_and_outputs(folder: Path) -> None:
    """The tables are what people read; the HCL is what Terraform does."""
    readme = (folder / "README.md").read_text(encoding="utf-8")
    variables = {
        name: (
            f"`{json.dumps(body['default'], ensure_ascii=False)}`" if "default" in body else "—",
            body["description"],
        )
        for name, body in declared(folder, "variable").items()
    }
    outputs = {name: body["description"] for name, body in declared(folder, "output").items()}
    _, _, tables = readme.partition("## Variables")
    inputs, _, results = tables.partition("## Outputs")

    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", inputs, re.MULTILINE)
    assert {name: (default, text) for name, default, text in rows} == variables
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", results, re.MULTILINE)) == outputs


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_structure_and_versions_are_the_same_everywhere(folder: Path) -> None:
    """Whoever knows one module finds their way in each; one that allows other versions breaks the rest."""
    assert {"main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"} <= {
        path.name for path in folder.iterdir()
    }
    assert (folder / "versions.tf").read_bytes() == (TERRAFORM / "versions.tf").read_bytes()
    assert 'version = ">= 5.100, < 7"' in (folder / "versions.tf").read_text()
    for kind in ("variable", "output"):
        for name, body in declared(folder, kind).items():
            assert body["description"].endswith("."), name


def test_root_hands_its_variables_on_as_they_are() -> None:
    """Two defaults or two descriptions of one value drift apart."""
    inside = {
        name: body for module in MODULES for name, body in declared(module, "variable").items() if name not in OWN
    }
    shared = {
        name: (body, inside[RENAMED.get(name, name)])
        for name, body in declared(TERRAFORM, "variable").items()
        if RENAMED.get(name, name) in inside
    }

    assert len(shared) > 30
    for name, (outer, inner) in shared.items():
        for key in ("description", "type", "default", "nullable"):
            assert outer.get(key) == inner.get(key), f"{name}.{key}"


def test_environments_have_no_name_of_ours() -> None:
    """Its argument has other names in aws 5 and 6, and a fixed name stops a replacement half-way."""
    document = load_hcl(TERRAFORM / "modules" / "pipeline" / "batch-video-analysis-gpu.tf", what="module")
    (environment,) = (
        body
        for block in document["resource"]
        for kind, named in block.items()
        for body in named.values()
        if kind == "aws_batch_compute_environment"
    )

    assert not {key for key in environment if "name" in key or key == "service_role"}
    assert environment["lifecycle"][0]["create_before_destroy"] is True


def test_git_holds_no_lock_and_no_backend() -> None:
    """A lock made on one platform shuts the others out; a backend leads everybody to one account."""
    tracked = subprocess.run(["git", "ls-files", "terraform"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [Path(line).name for line in tracked.stdout.splitlines()]

    assert "backend.tf.example" in names
    assert not {".terraform.lock.hcl", "backend.tf", "terraform.tfstate"} & set(names)


def test_the_backend_example_is_a_backend_with_a_lock(tmp_path: Path, initialized: Path) -> None:
    """Copied and filled in it must work: two applies at once would lose one's state."""
    backend = load_hcl(_copied(tmp_path), what="example")["terraform"][0]["backend"][0]["s3"]

    assert backend["use_lockfile"] is True
    assert backend["encrypt"] is True
    assert set(backend) == {"bucket", "key", "region", "encrypt", "use_lockfile"}


def _copied(folder: Path) -> Path:
    copy = folder / "backend.tf"
    shutil.copy2(TERRAFORM / "backend.tf.example", copy)
    return copy
