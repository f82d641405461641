"""Packer manifests of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.records.manifest_file import last_build, load, load_if_any, parse, the_build
from gpu_ami.workspace import Workspace

AMI = "ami-0123456789abcdef0"


def _build(**changed: Any) -> dict[str, Any]:
    return {
        "name": "gpu",
        "builder_type": "amazon-ebs",
        "build_time": 1763900000,
        "files": None,
        "artifact_id": f"ap-northeast-2:{AMI}",
        "packer_run_uuid": "run-1",
        "custom_data": {"run_id": "r"},
    } | changed


def _text(*builds: dict[str, Any], last: str | None = "run-1") -> str:
    return json.dumps({"builds": list(builds), **({} if last is None else {"last_run_uuid": last})})


def test_where_only_the_sandbox_has_a_manifest_the_error_says_so(tmp_path: Path) -> None:
    """Whoever has built there and forgets --sandbox once is not to build on AWS because a message says so."""
    on_aws = Workspace(tmp_path)
    with pytest.raises(UsageError, match=r"does not exist\. Run `invoke build` first\.$"):
        last_build(on_aws)

    manifest = Workspace(tmp_path, sandbox=True).manifest
    manifest.parent.mkdir()
    manifest.write_text(_text(_build()))

    with pytest.raises(UsageError, match=r"first, or add --sandbox for the one that was made there\."):
        last_build(on_aws)
    assert last_build(Workspace(tmp_path, sandbox=True)).amis == {"ap-northeast-2": AMI}


def test_the_last_run_counts_not_the_last_entry() -> None:
    """Packer appends, and parallel builds finish in any order: the position in the list says nothing."""
    text = _text(_build(packer_run_uuid="run-2", artifact_id="eu-west-1:ami-12345678"), _build(), last="run-2")

    build = the_build(parse(text, source="m").last_run, source="m")

    assert build.amis == {"eu-west-1": "ami-12345678"}


def test_one_artifact_can_hold_many_regions() -> None:
    """ami_regions makes copies; each region's id is needed for its Terraform."""
    text = _text(_build(artifact_id=f"us-west-2:ami-12345678,ap-northeast-2:{AMI}"))

    assert parse(text, source="m").builds[0].amis == {"ap-northeast-2": AMI, "us-west-2": "ami-12345678"}


def test_other_builders_are_listed_but_have_no_amis() -> None:
    """A docker or null builder beside amazon-ebs is not an error."""
    manifest = parse(_text(_build(), _build(name="box", builder_type="docker", artifact_id="sha256:1")), source="m")

    assert [build.name for build in manifest.last_run] == ["gpu", "box"]
    assert the_build(manifest.last_run, source="m").name == "gpu"


@pytest.mark.parametrize("builder", ["amazon-import", "qemu", "virtualbox-iso"])
def test_an_imported_ami_is_one(builder: str) -> None:
    """The post-processor amazon-import makes an AMI of another builder's image: what counts is what was made."""
    imported = _build(builder_type=builder, artifact_id=f"ap-northeast-2:{AMI}")

    assert the_build(parse(_text(imported), source="m").last_run, source="m").amis == {"ap-northeast-2": AMI}


@pytest.mark.parametrize(
    "artifact", ["ap-northeast-2:snap-0123456789abcdef0", f"{AMI}", f"eu-west-1:{AMI},x", ":ami-12345678", ""]
)
def test_another_builders_other_artifact_is_none(artifact: str) -> None:
    """amazon-ebsvolume names volumes and snapshots in the same form."""
    assert parse(_text(_build(builder_type="amazon-ebsvolume", artifact_id=artifact)), source="m").last_amis == {}


def test_a_manifest_whose_builds_are_null_is_empty() -> None:
    """Packer writes and reads it so."""
    assert parse('{"builds": null, "last_run_uuid": null}', source="m").builds == ()
    assert parse('{"builds": null}', source="m").last_run == ()


@pytest.mark.parametrize(
    ("written", "time"),
    [
        (1763900000, "2025-11-23T12:13:20Z"),
        (1763900000123, "2025-11-23T12:13:20Z"),
        (1763900000123456789, "2025-11-23T12:13:20Z"),
        (-1763900000, None),
        (-(10**18), None),
    ],
)
def test_a_time_in_another_unit_is_read(written: int, time: str | None) -> None:
    """Other writers note milliseconds, and a number of any size must not end in a traceback."""
    assert parse(_text(_build(build_time=written)), source="m").builds[0].document()["build_time"] == time


def test_the_newest_build_is_found_whatever_the_unit() -> None:
    """A year ago in milliseconds is before today in seconds."""
    old, new = (_build(build_time=time, packer_run_uuid=None, name=str(time)) for time in (1732364000000, 1763900000))

    assert [build.name for build in parse(_text(old, new, last=None), source="m").last_run] == ["1763900000"]


def test_a_manifest_without_run_ids_falls_back_to_the_newest_build() -> None:
    """strip_time and other writers leave fields out."""
    old, new = _build(build_time=1, packer_run_uuid=None), _build(build_time=2, packer_run_uuid=None, name="new")

    manifest = parse(_text(new, old, last=None), source="m")

    assert [build.name for build in manifest.last_run] == ["new"]


def test_the_document_has_times_and_plain_values() -> None:
    """Scripts read ISO 8601 UTC, and null where the manifest has no time."""
    manifest = parse(_text(_build(), _build(build_time=0, custom_data=None)), source="m")

    first, second = (build.document() for build in manifest.builds)

    assert first["build_time"] == "2025-11-23T12:13:20Z"
    assert first["amis"] == {"ap-northeast-2": AMI}
    assert (second["build_time"], second["custom_data"]) == (None, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("<!DOCTYPE html><html></html>", "is a web page"),
        ('{"builds": [', "is not JSON"),
        ("[]", "holds a list"),
        ("null", "holds null"),
        ('{"version": 4, "terraform_version": "1.11"}', "keys terraform_version, version"),
        ("3", "holds a number"),
        ('{"builds": {}}', "not one that Packer wrote"),
        ('{"builds": [3]}', "not one that Packer wrote"),
        ('{"builds": [{"artifact_id": 3}]}', "not one that Packer wrote"),
        (_text(_build(artifact_id="ap-northeast-2:i-0abc")), "expected region:ami"),
        (_text(_build(artifact_id=AMI)), "expected region:ami"),
        ('{"builds": ' + "[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_reason(text: str, problem: str) -> None:
    """A wrong file must end here, not as a strange AMI id in Terraform."""
    with pytest.raises(UsageError, match=problem):
        parse(text, source="m.json")


def test_a_run_with_no_or_two_amis_is_refused() -> None:
    """Only one id can be handed over."""
    nothing = parse(_text(_build(artifact_id="")), source="m").last_run
    two = parse(_text(_build(), _build(name="other")), source="m").last_run

    with pytest.raises(UsageError, match="made no AMI"):
        the_build(nothing, source="m")
    with pytest.raises(UsageError, match=r"gpu, other.*--ami"):
        the_build(two, source="m")


def test_missing_and_huge_files_are_refused(tmp_path: Path) -> None:
    """50 MB of anything is not a manifest and is not read into memory."""
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(50 * 1024 * 1024)

    with pytest.raises(UsageError, match="Run `invoke build` first"):
        load(tmp_path / "none.json")
    with pytest.raises(UsageError, match="larger than 16 MiB"):
        load(huge)


def test_the_last_build_is_found_where_the_workspace_has_it(tmp_path: Path) -> None:
    """Each command means the same build, unless another file is named."""
    here = Workspace(tmp_path)
    here.packer.mkdir()
    with pytest.raises(UsageError, match="Run `invoke build` first"):
        last_build(here)
    here.manifest.write_text(_text(_build()))
    (tmp_path / "m.json").write_text(_text(_build(artifact_id="eu-west-1:ami-12345678")))

    assert last_build(here).amis == {"ap-northeast-2": AMI}
    assert last_build(here, str(tmp_path / "m.json")).amis == {"eu-west-1": "ami-12345678"}


def test_without_a_manifest_there_are_no_builds_but_a_broken_one_is_an_error(tmp_path: Path) -> None:
    """A checkout that never built is no fault; one whose file was cut off must not pass for it."""
    assert load_if_any(tmp_path / "m.json").last_amis == {}
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        load_if_any(tmp_path / "m.json")


def test_an_amis_copies_are_those_of_its_own_build() -> None:
    """An older run's AMI may be applied too, with its copies and not with the last run's."""
    old = _build(packer_run_uuid="run-0", artifact_id="ap-northeast-2:ami-12345678,us-west-2:ami-87654321")
    manifest = parse(_text(old, _build(), _build(name="b", artifact_id="ap-northeast-2:ami-00000002")), source="m")

    assert manifest.amis_with("ami-87654321") == {"ap-northeast-2": "ami-12345678", "us-west-2": "ami-87654321"}
    assert manifest.amis_with("ami-00000009") == {}
    assert manifest.last_amis == {"ap-northeast-2": AMI}
