"""The bill of materials: valid, the same twice, honest about what is not in it; a bad list is one line."""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.bake import bill_of_materials
from gpu_ami.errors import BuildError, UsageError
from gpu_ami.records import archive, bill

DIGEST = "sha256:" + "ab" * 32
PACKAGES = [
    ("openssl-libs", "1", "3.2.2", "1.amzn2023", "x86_64", "ASL 2.0"),
    ("kernel", "0", "6.1.9", "2.amzn2023", "x86_64", "GPLv2 and Redistributable, no modification permitted"),
    ("kernel", "0", "6.1.10", "1.amzn2023", "x86_64", "GPLv2"),
    ("gpg-pubkey", "0", "d832c631", "6515c85e", "(none)", "pubkey"),
    ("gpg-pubkey", "0", "d832c631", "6515c85e", "(none)", "pubkey"),
    ("libstdc++", "0", "11.5.0", "5.amzn2023", "x86_64", "(none)"),
]


def contents(**more: Any) -> dict[str, Any]:
    """Return what list-contents.sh writes."""
    names = ("name", "epoch", "version", "release", "arch", "license")
    return {
        "run_id": "run-1",
        "family": "gpu-batch",
        "pipeline_version": "0.1.0",
        "started_at": "2026-11-23T20:00:00Z",
        "source_ami": {"id": "ami-0123456789abcdef0", "name": "al2023-ami-ecs-gpu-hvm-x"},
        "os": "Amazon Linux 2023.9",
        "os_id": "amzn",
        "os_version": "2023",
        "kernel": "6.1.9-2.amzn2023.x86_64",
        "nvidia_driver": "580.159.03",
        "image": {
            "repository": "1.dkr.ecr.eu-west-1.amazonaws.com/team/App",
            "tag": "v1",
            "digest": DIGEST,
            "size_bytes": 9,
        },
        "models": {"dir": "/opt/ml/models", "files": [{"path": "ocr/a b.bin", "size_bytes": 3, "sha256": "cd" * 32}]},
        "packages": [dict(zip(names, package, strict=True)) for package in PACKAGES],
    } | more


def _composed(folder: Path, **more: Any) -> str:
    source = folder / "contents.json"
    source.write_text(json.dumps(contents(**more)))
    return bill_of_materials.compose(bill_of_materials.load(source))


def test_a_bill_says_what_is_in_the_image(tmp_path: Path) -> None:
    """Packages with versions, epochs and licences, the image by digest, each model; and what is not in it."""
    document = json.loads(_composed(tmp_path))

    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["bom-ref"]: part for part in document["components"]}
    openssl = parts["pkg:rpm/amzn/openssl-libs@3.2.2-1.amzn2023?arch=x86_64&distro=amzn-2023&epoch=1"]
    assert (openssl["version"], openssl["licenses"]) == ("1:3.2.2-1.amzn2023", [{"license": {"name": "ASL 2.0"}}])
    assert "licenses" not in parts["pkg:rpm/amzn/libstdc%2B%2B@11.5.0-5.amzn2023?arch=x86_64&distro=amzn-2023"]
    image = parts[f"image:{DIGEST}"]
    assert image["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert image["purl"].startswith(f"pkg:oci/app@{DIGEST}?repository_url=")
    model = parts["model:ocr/a b.bin"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": "cd" * 32}]
    assert {"name": "gpu-ami:size-bytes", "value": "3"} in model["properties"]
    assert len(parts) == len(document["components"]) == 7, "a key that rpm lists twice is one"
    properties = {one["name"]: one["value"] for one in document["metadata"]["properties"]}
    assert "packages inside it are not listed" in properties["gpu-ami:scope"]
    assert properties["gpu-ami:kernel"] == "6.1.9-2.amzn2023.x86_64"
    (root,) = (entry for entry in document["dependencies"] if entry["ref"] == "ami")
    assert set(root["dependsOn"]) == set(parts)


def test_a_bill_is_plain_ascii(tmp_path: Path) -> None:
    """Packer's file() composes a letter and its accent (NFC): its SHA-256 would not be the file's."""
    model = {"path": "gewichte-u\u0308.pt", "size_bytes": 3, "sha256": "cd" * 32}

    text = _composed(tmp_path, models={"dir": "/opt/ml/models", "files": [model]})

    assert text.isascii()
    assert model["path"] in {part["name"] for part in json.loads(text)["components"]}


def test_many_models_are_not_compared_each_with_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder is paid for meanwhile: ten thousand files took minutes, and forty thousand more than a builder has."""
    keywords: Any = importlib.import_module("jsonschema._keywords")

    compared: list[int] = []
    real = keywords.uniq

    def uniq(container: list[Any]) -> bool:
        compared.append(len(container) if isinstance(container[0], dict) else 0)
        return bool(real(container))

    monkeypatch.setattr(keywords, "uniq", uniq)
    models = [{"path": f"{number}.pt", "size_bytes": 3, "sha256": "cd" * 32} for number in range(20)]

    document = json.loads(_composed(tmp_path, models={"dir": "/opt/ml/models", "files": models}))

    assert max(compared, default=0) < len(models)
    refs = [part["bom-ref"] for part in document["components"]]
    assert len(refs) == len(set(refs)) > len(models)
    assert {entry["ref"] for entry in document["dependencies"]} == {"ami", *refs}


def test_a_bill_that_no_archive_takes_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out when the AMI is made, it would cost the bake; before the record is written it costs the bill."""
    monkeypatch.setattr(archive, "LIMITS", {**archive.LIMITS, archive.BILL: 4000})

    with pytest.raises(BuildError, match=r"would have \d\.\d KiB, and no archive takes one of that size"):
        _composed(tmp_path)


def test_a_long_licence_costs_no_bill(tmp_path: Path) -> None:
    """A kernel's or a firmware's is an expression of thousands of characters: it must not cost all the rest."""
    package = contents()["packages"][0] | {"license": "GPL-2.0-only AND " * 1000 + 'MIT "as is" | é <x>'}

    document = json.loads(_composed(tmp_path, packages=[package]))

    (part,) = (part for part in document["components"] if part["name"] == "openssl-libs")
    assert part["licenses"][0]["license"]["name"] == package["license"]


def test_a_bill_is_the_same_whenever_it_is_composed(tmp_path: Path) -> None:
    """Whoever doubts a digest composes it anew: of the same list, in whatever order, and of nothing else."""
    once = _composed(tmp_path)

    assert _composed(tmp_path) == once
    other = json.loads(_composed(tmp_path, run_id="run-2"))
    assert other["serialNumber"] != json.loads(once)["serialNumber"]


def test_a_bill_is_read_back(tmp_path: Path) -> None:
    """Of a package in several versions all count."""
    found = bill.parse(_composed(tmp_path), source="x")

    assert found.run_id == "run-1"
    assert found.packages == {
        "gpg-pubkey": "d832c631-6515c85e",
        "kernel": "6.1.10-1.amzn2023, 6.1.9-2.amzn2023",
        "libstdc++": "11.5.0-5.amzn2023",
        "openssl-libs": "1:3.2.2-1.amzn2023",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a bill of materials that can be used: .*truncated"),
        ('{"bomFormat": "CycloneDX", "specVersion": "1.6", "compo', "not a bill of materials that can be used"),
        ("[]", "not a bill of materials that can be used"),
        ("[" * 100_000, "not a bill of materials that can be used"),
        ('{"spdxVersion": "SPDX-2.3"}', "is 'no bill of materials', this version reads CycloneDX 1.6"),
        ('{"bomFormat": "CycloneDX", "specVersion": "2.0", "components": 3}', "is 'CycloneDX 2.0', this version reads"),
        ('{"bomFormat": "CycloneDX", "specVersion": "1.6"}', "does not say which build it is of"),
        ('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{}]}', "missing required field `name`"),
    ],
)
def test_what_is_no_bill_of_ours_is_one_line(text: str, reason: str) -> None:
    """Cut off, no JSON, another format or version: nothing is guessed of it."""
    with pytest.raises(UsageError, match=reason) as caught:
        bill.parse(text, source="x.json")

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350


def test_the_command_composes_it_in_a_shell(tmp_path: Path) -> None:
    """As Packer runs it: from whatever folder, with blanks in the path, and with nothing of the caller's Python."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "contents.json").write_text(json.dumps(contents()))
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    command = bill_of_materials.command(folder / "contents.json", folder / "bill.cdx.json")

    done = subprocess.run(
        ["/bin/sh", "-e", "-c", command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "bill of materials: 6 packages, in bill.cdx.json\n"
    assert (folder / "bill.cdx.json").read_text() == _composed(tmp_path)
    assert str(folder / "bill.cdx.json") in shlex.split(command)


NAMELESS = contents()["packages"][0] | {"name": ""}


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        (None, 2, "does not exist"),
        ("{", 2, "is not a list of an image's contents"),
        (json.dumps(contents(packages=3)), 2, "Expected `array`"),
        (json.dumps(contents(started_at="yesterday")), 2, "Invalid RFC3339"),
        (json.dumps(contents(packages=[NAMELESS])), 5, "No bill of materials can be made"),
    ],
    ids=["none", "no JSON", "no list", "no time", "no name"],
)
def test_a_list_that_cannot_be_used_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, code: int, reason: str
) -> None:
    """Packer's log then says why there is no bill, and the bake goes on."""
    source, target = tmp_path / "contents.json", tmp_path / "bill.cdx.json"
    if text is not None:
        source.write_text(text)

    assert bill_of_materials.main([str(source), str(target)]) == code

    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert not target.exists()


def test_a_bill_that_is_not_valid_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library composes is held to CycloneDX's own schema: a digest of something else proves nothing."""
    from cyclonedx.output.json import JsonV1Dot6

    monkeypatch.setattr(JsonV1Dot6, "output_as_string", lambda _self, **_given: '{"bomFormat": "CycloneDX", "x": 1}')

    with pytest.raises(BuildError, match=r"not valid CycloneDX 1\.6: "):
        _composed(tmp_path)
