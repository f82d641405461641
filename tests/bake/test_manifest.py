"""`invoke manifest` as a task: what it says of AMIs whose sandbox has ended."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gpu_ami.bake import manifest
from gpu_ami.bake.manifest import Request
from gpu_ami.console import Console
from gpu_ami.errors import AwsError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options, Output
from gpu_ami.records import archive
from tests.support.account import REGION, World
from tests.support.provenances import envelope, said, statement
from tests.support.schemas import problems

LOST = "ami-0123456789abcdef0"


def _shown(root: Path, *amis: str, sandbox: bool = True, output: Output = "json", access: object = None) -> str:
    """Return what the task prints of a manifest with *amis*; *access* leads to a sandbox that is there."""
    builds = [{"name": "b", "builder_type": "amazon-ebs", "artifact_id": f"{REGION}:{ami}"} for ami in amis]
    out = io.StringIO()
    run = Invocation(root, Options(sandbox=sandbox, output=output), Console(output, out=out, sandbox=sandbox))
    if access is not None:
        vars(run.target)["sandbox"] = SimpleNamespace(access=access, attached=True)
    run.workspace.manifest.parent.mkdir(parents=True, exist_ok=True)
    run.workspace.manifest.write_text(json.dumps({"builds": builds}))
    manifest.run(run, Request(all=True))
    return out.getvalue()


def test_an_ami_is_gone_with_its_sandbox(tmp_path: Path) -> None:
    """The manifest outlives it: who goes on with the id from there is told that it does not exist."""
    document = json.loads(_shown(tmp_path, LOST))
    assert problems("manifest", document) == []
    assert document[0]["gone"] == [LOST]

    table = _shown(tmp_path, LOST, output="table")
    assert f"{LOST} (gone)" in table
    assert "each --sandbox command starts a fresh AWS; run `invoke sandbox` in another terminal" in table


def test_only_what_the_running_sandbox_lacks_is_gone(here: World, tmp_path: Path) -> None:
    """A manifest holds the builds of many sandboxes."""
    alive = here.image(3).id
    document = json.loads(_shown(tmp_path, alive, LOST, access=here.access))
    assert [build["gone"] for build in document] == [[], [LOST]]

    table = _shown(tmp_path, alive, LOST, output="table", access=here.access)
    assert f"{alive} (gone)" not in table
    assert "a sandbox that has ended made it; run `invoke build --sandbox`." in table


def test_on_aws_nobody_is_asked(tmp_path: Path) -> None:
    """The task reads a file, and works without credentials."""
    document = json.loads(_shown(tmp_path, LOST, sandbox=False))

    assert document[0]["gone"] == []
    assert "gone" not in _shown(tmp_path, LOST, sandbox=False, output="table")


def test_what_cannot_be_asked_is_not_called_gone(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest is shown all the same."""

    def refused(*_: object) -> None:
        msg = "AWS refused."
        raise AwsError(msg)

    monkeypatch.setattr("gpu_ami.aws.images.look_up", refused)

    assert json.loads(_shown(tmp_path, LOST, access=here.access))[0]["gone"] == []
    assert "Whether the AMIs are still there is not known. AWS refused." in capsys.readouterr().err


def test_the_provenance_of_each_build_is_said_as_the_tree_has_it(tmp_path: Path) -> None:
    """Nobody is asked and nothing is verified: whether it is there, signed, and about this build."""

    def states(*, output: Output = "json") -> str:
        out = io.StringIO()
        run = Invocation(tmp_path, Options(output=output), Console(output, out=out))
        manifest.run(run, Request(all=True))
        return out.getvalue()

    amis = [f"ami-0{letter * 16}" for letter in "abcd"]
    builds = [
        {"name": "b", "builder_type": "amazon-ebs", "artifact_id": f"{REGION}:{ami}", "custom_data": {"run_id": "r"}}
        for ami in amis
    ]
    builds.append({"name": "other", "builder_type": "docker", "artifact_id": "sha256:1"})
    (tmp_path / "packer").mkdir()
    (tmp_path / "packer/manifest.json").write_text(json.dumps({"builds": builds}))
    key = ec.generate_private_key(ec.SECP256R1())
    for ami, content in (
        (amis[0], json.dumps(statement({REGION: amis[0]}, said(run_id="r"))).encode()),
        (amis[1], envelope(statement({REGION: amis[1]}, said(run_id="r")), key)),
        (amis[2], envelope(statement({REGION: amis[2]}, said(run_id="another")), key)),
    ):
        archive.keep(tmp_path / "packer/builds", ami, {archive.PROVENANCE: content})

    document = json.loads(states())

    assert problems("manifest", document) == []
    assert [build["provenance"] and build["provenance"]["state"] for build in document] == [
        *("unsigned", "signed", "refused", "none"),
        None,
    ]
    assert "is about another build" in document[2]["provenance"]["detail"]
    (tmp_path / "packer/builds" / amis[0] / archive.PROVENANCE).write_text("{")
    assert json.loads(states())[0]["provenance"]["state"] == "refused"
    assert "unsigned" not in states(output="table")
    assert "signed" in states(output="table")
