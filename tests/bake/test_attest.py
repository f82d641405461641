"""What Packer wrote at the end of a bake: one provenance, of this bake, kept and tagged; and what it must not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import attest, fingerprint, prepare, secret_values, template, variable_values
from gpu_ami.bake.job import Baked, Job
from gpu_ami.bake.packer_command import Inputs, Packer
from gpu_ami.errors import BuildError, UsageError
from gpu_ami.records import archive, provenance
from gpu_ami.records.manifest_file import Build
from gpu_ami.settings import Provenance
from gpu_ami.terraform.terraform_command import Terraform
from tests.support.account import REGION, Task, World, task
from tests.support.provenances import PAIRS, said, statement

ROOT = Path(__file__).parents[2]
AMI, RUN = "ami-0123456789abcdef0", "20261130T120000Z-abc123"
MADE = Build(builder_type="amazon-ebs", artifact_id=f"{REGION}:{AMI}")


@pytest.fixture
def there(here: World, tmp_path: Path) -> tuple[Task, Baked, Path]:
    """A bake that is over, and the folder that Packer wrote into."""
    done, folder = task(here, tmp_path), tmp_path / "out"
    folder.mkdir()
    job = Job(
        packer=Packer(Path("packer"), tmp_path, {}),
        terraform=Terraform(Path("terraform"), tmp_path, {}, None),
        inputs=Inputs(files=(), variables={"provenance_folder": str(folder)}),
        plugin_path=tmp_path,
        run_id=RUN,
    )
    vars(job)["_values"] = {}
    return done, Baked(job, None), folder


def put(folder: Path, content: object, name: str = "gpu.a") -> bytes:
    """Write a provenance as Packer names it."""
    data = json.dumps(content).encode()
    (folder / f"{name}.provenance.json").write_bytes(data)
    return data


def test_it_is_what_packer_wrote_and_its_digest_is_the_tag(there: tuple[Task, Baked, Path]) -> None:
    """Byte for byte: the tag is compared with the file for as long as the AMI lives."""
    done, baked, folder = there
    data = put(folder, statement({REGION: AMI}, said()))
    (folder / "gpu.a.provenance.sigstore.json").write_text('{"b": 1}')

    written = attest.read(done.run, baked, MADE)

    assert written.tags == {"gpu-ami:provenance": provenance.digest(data)}
    assert written.files == {archive.PROVENANCE: data.decode(), archive.SIGSTORE: '{"b": 1}'}
    assert not done.run.workspace.builds.exists(), "who archives the rest of the build keeps it, once"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "Packer wrote no provenance of the build"),
        ({"a": statement({REGION: AMI}, said()), "b": {}}, "Packer wrote 2 provenances for one build"),
        ({"a": statement({REGION: AMI}, said(run_id="other"))}, "and the run other, not of this build"),
        ({"a": statement({REGION: "ami-0fedcba9876543210"}, said())}, "not of this build"),
        ({"a": {"_type": "x"}}, "cannot be used: a.provenance.json states x"),
        ({"a": [1]}, "cannot be used: a.provenance.json is no provenance"),
    ],
    ids=["none", "two", "of another run", "of another AMI", "another statement", "no statement"],
)
def test_what_is_not_one_of_this_bake_ends_the_build(
    there: tuple[Task, Baked, Path], files: dict[str, Any], why: str
) -> None:
    """Exit 5, before the AMI is called finished: nothing is tagged or handed over."""
    done, baked, folder = there
    for name, content in files.items():
        put(folder, content, name)

    with pytest.raises(BuildError, match=why) as failed:
        attest.read(done.run, baked, MADE)

    assert failed.value.exit_code == 5
    assert "\n" not in str(failed.value)


def test_in_more_regions_than_fit_there_is_none(there: tuple[Task, Baked, Path]) -> None:
    """Packer could not name its file; the build goes on, and says so."""
    done, baked, _ = there
    regions = [REGION, "us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1"]
    many = Build(builder_type="amazon-ebs", artifact_id=",".join(f"{region}:{AMI}" for region in regions))

    assert attest.read(done.run, baked, many) == attest.Written()
    assert "No provenance: Packer cannot write one of AMIs in 6 regions" in done.err.getvalue()


@pytest.mark.parametrize(
    ("signer", "given"),
    [
        ("none", "none"),
        ("keyless", "keyless"),
        ("awskms:///alias/x", "awskms:///alias/x"),
        ("keys/a.pem", "ROOT/keys/a.pem"),
        ("/etc/a.pem", "/etc/a.pem"),
    ],
)
def test_the_settings_say_who_signs(here: World, tmp_path: Path, signer: str, given: str) -> None:
    """Packer runs in another folder than the settings are in."""
    run = task(here, tmp_path, provenance=Provenance(signer=signer)).run
    assert attest.variables(run) == {"provenance_signer": given.replace("ROOT", str(tmp_path))}


def test_nobody_else_signs_than_the_settings_say(here: World, tmp_path: Path) -> None:
    """The AMI would be refused for it once it is baked."""
    run = task(here, tmp_path, provenance=Provenance(signer="awskms:///alias/x")).run

    with pytest.raises(UsageError, match=r"provenance_signer is 'none' in --packer-var but 'awskms:///alias/x' in"):
        prepare.prepare(run, ["provenance_signer=none"])


def test_packer_gets_no_value_of_another_template(tmp_path: Path) -> None:
    """Its provenance holds each PKR_VAR_… there is, and a stranger's may be a password."""
    environment = {"PATH": "/bin", "PKR_VAR_image_tag": "v3", "PKR_VAR_db_password": "s3cret"}

    kept = variable_values.without_strangers(environment, {"image_tag": "string"})
    assert kept == {"PATH": "/bin", "PKR_VAR_image_tag": "v3"}
    assert prepare._without_strangers(environment, ROOT / "packer") == kept
    (tmp_path / "a.pkr.hcl").write_text("variable {{{")
    assert prepare._without_strangers(environment, tmp_path) == environment, "Packer itself says what is wrong"
    assert prepare._without_strangers({"PATH": "/bin"}, tmp_path) == {"PATH": "/bin"}


def test_the_template_states_what_is_compared_and_no_secret() -> None:
    """What a tag repeats is in it; of variables that may hold a secret it says nothing, whoever gives them."""
    text = (ROOT / "packer" / "aws-gpu-ami.pkr.hcl").read_text()
    document = template.template(ROOT / "packer" / "aws-gpu-ami.pkr.hcl")
    bodies = [
        post["provenance"] for build in document["build"] for post in build["post-processor"] if "provenance" in post
    ]

    assert len(bodies) == 1
    stated = str(bodies[0]["user_variables"])
    assert [name for name in (*PAIRS, "family", "release_sha256", "sandbox") if name not in stated] == []
    unstated = next(block["unstated"] for block in document["locals"] if "unstated" in block)
    assert secret_values.private_names(ROOT / "packer") <= set(unstated)
    assert "for name in local.unstated" in text
    assert {name for name in template.template_kinds(ROOT / "packer") if name.startswith("provenance_")} <= (
        fingerprint.ELSEWHERE
    )
