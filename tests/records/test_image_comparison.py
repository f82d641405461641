"""Two AMIs side by side: what differs, what cannot be said, and the one line that a pull request carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.records import build_facts, image_facts
from gpu_ami.records.archive import BILL, BUILD, RELEASE
from gpu_ami.records.image_comparison import cells, compare, summary
from gpu_ami.records.image_facts import ImageFacts

OLD, NEW = "ami-0123456789abcdef1", "ami-0123456789abcdef2"
BASE = "ami-0123456789abcdef0"


def bill_text(run_id: str, packages: Mapping[str, str], **more: Any) -> str:
    """Return a bill as `bake.bill_of_materials` composes it, as far as it is read."""
    components = [
        {"name": name, "version": version, "properties": [{"name": "gpu-ami:kind", "value": "rpm"}]}
        for name, version in packages.items()
    ]
    properties = [{"name": "gpu-ami:run", "value": run_id}]
    return json.dumps(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "metadata": {"properties": properties},
            "components": components,
        }
        | more
    )


def archived(ami: str = OLD, run_id: str = "run-1", **more: Any) -> dict[str, str]:
    """Return the files of an archive."""
    packages = more.pop("packages", {"bash": "5.2-1", "glibc": "2.34-1", "docker": "25-1"})
    models = more.pop("models", {"a.pt": (1024, "a"), "b.pt": (2048, "b")})
    tags = {"gpu-ami:run": run_id, "gpu-ami:fingerprint-scripts": "s1", "gpu-ami:fingerprint-settings": "t1"}
    tags |= {"gpu-ami:snapshot-gib": "28.00", "gpu-ami:pipeline-version": "0.1.0"} | more.pop("tags", {})
    settings = more.pop("settings", {"volume_size_gib": 80, "prewarm": True})
    bill = more.pop("bill", bill_text(run_id, packages))
    record = {
        "run_id": run_id,
        "bake_seconds": 1,
        "os": "Amazon Linux 2023",
        "kernel": "6.1.141",
        "nvidia_driver": "580.1",
        "docker": "25-1",
        "ecs_agent": "1.1",
        "source_ami": {"id": BASE, "name": "al2023-ami-ecs-gpu-1"},
        "image": {"repository": "r/app", "tag": "v1", "digest": "sha256:" + "a" * 64, "size_bytes": 9},
        "models": {
            "dir": "/opt/ml/models",
            "files": [
                {"path": path, "size_bytes": size, "sha256": letter * 64} for path, (size, letter) in models.items()
            ],
        },
        "bill_sha256": hashlib.sha256(bill.encode()).hexdigest(),
    } | more
    facts = build_facts.BuildFacts(ami=ami, amis={"eu-west-1": ami}, tags=tags, settings=settings)
    return {RELEASE: json.dumps(record), BILL: bill, BUILD: build_facts.encode(facts)}


def facts_of(ami: str, files: Mapping[str, str]) -> ImageFacts:
    """Return what an archive says."""
    found = image_facts.archived(ami, files, where=f"packer/builds/{ami}")
    assert found is not None
    return found


def _told(found: Any) -> list[tuple[str, str, str | None, str | None]]:
    return [(one["kind"], one["name"], one["old"], one["new"]) for one in found.document()["differences"]]


def test_every_kind_of_difference_is_found() -> None:
    """What a team asks before production moves: which base, kernel, driver, packages, image, models, settings."""
    new = archived(
        NEW,
        "run-2",
        packages={"bash": "5.2-1", "glibc": "2.34-2", "jq": "1.7-1", "docker": "26-1"},
        models={"a.pt": (4096, "c"), "new/c.pt": (1, "d")},
        tags={
            "gpu-ami:fingerprint-scripts": "s2",
            "gpu-ami:snapshot-gib": "29.50",
            "gpu-ami:pipeline-version": "0.2.0",
        },
        settings={"volume_size_gib": 100, "prewarm": True, "kms_key_id": ""},
        os="Amazon Linux 2023.1",
        kernel="6.1.150",
        nvidia_driver="580.2",
        docker="26-1",
        ecs_agent="1.2",
        source_ami={"id": "ami-0123456789abcdef9", "name": "al2023-ami-ecs-gpu-2"},
        image={"repository": "r/app", "tag": "v2", "digest": "sha256:" + "b" * 64, "size_bytes": 9},
    )

    found = compare(facts_of(OLD, archived()), facts_of(NEW, new))

    assert _told(found) == [
        ("base", "id", BASE, "ami-0123456789abcdef9"),
        ("base", "name", "al2023-ami-ecs-gpu-1", "al2023-ami-ecs-gpu-2"),
        ("os", "os", "Amazon Linux 2023", "Amazon Linux 2023.1"),
        ("kernel", "kernel", "6.1.141", "6.1.150"),
        ("driver", "driver", "580.1", "580.2"),
        ("docker", "docker", "25-1", "26-1"),
        ("agent", "agent", "1.1", "1.2"),
        ("image", "digest", "sha256:" + "a" * 64, "sha256:" + "b" * 64),
        ("image", "tag", "v1", "v2"),
        ("model", "a.pt", "sha256:" + "a" * 64, "sha256:" + "c" * 64),
        ("model", "b.pt", "sha256:" + "b" * 64, None),
        ("model", "new/c.pt", None, "sha256:" + "d" * 64),
        ("package", "glibc", "2.34-1", "2.34-2"),
        ("package", "jq", None, "1.7-1"),
        ("setting", "kms_key_id", None, ""),
        ("setting", "volume_size_gib", "80", "100"),
        ("scripts", "fingerprint", "s1", "s2"),
        ("pipeline", "version", "0.1.0", "0.2.0"),
        ("snapshot", "gib", "28.00", "29.50"),
    ]
    assert found.unknown == []
    assert summary(found) == (
        "base AMI al2023-ami-ecs-gpu-1 → al2023-ami-ecs-gpu-2, OS Amazon Linux 2023 → Amazon Linux 2023.1, "
        "kernel 6.1.141 → 6.1.150, driver 580.1 → 580.2, Docker 25-1 → 26-1, ECS agent 1.1 → 1.2, "
        "container image v1 → v2, 1 model new, 1 model changed, 1 model gone, 1 package new, 1 package changed, "
        "1 setting new, 1 setting changed, scripts changed, pipeline 0.1.0 → 0.2.0, snapshot 28.00 → 29.50 GiB"
    )
    (model,) = (one for one in found.document()["differences"] if one["name"] == "a.pt")
    assert (model["old_bytes"], model["new_bytes"]) == (1024, 4096)


def test_the_same_is_no_difference() -> None:
    """Exit 0 stands on it; the run's own name and time are none."""
    found = compare(facts_of(OLD, archived()), facts_of(NEW, archived(NEW, "run-2")))

    assert (found.changes, found.unknown, found.same, summary(found)) == ([], [], True, "no difference")


def test_tags_alone_say_what_they_can() -> None:
    """An AMI of before there were archives: what is not known is no difference, and is named."""
    tags = {
        "Name": "x",
        "gpu-ami:kernel": "6.1.150",
        "gpu-ami:nvidia-driver": "580.1",
        "gpu-ami:image-digest": "sha256:" + "a" * 64,
        "gpu-ami:models-digest": "sha256:" + "f" * 64,
        "gpu-ami:fingerprint-settings": "t2",
    }

    found = compare(image_facts.tagged(OLD, tags), facts_of(NEW, archived(NEW)))

    assert [(kind, name) for kind, name, _, _ in _told(found)] == [
        ("kernel", "kernel"),
        ("models", "digest"),
        ("settings", "fingerprint"),
    ]
    assert found.unknown == [
        *("base", "os", "docker", "agent", "model", "package", "setting", "scripts", "pipeline", "snapshot"),
    ]
    assert summary(found) == "kernel 6.1.150 → 6.1.141, models changed, settings changed"
    assert (found.same, found.undecided) == (False, ())
    assert found.document()["from_source"] == "tags"


def test_models_of_one_digest_are_the_same_without_their_list() -> None:
    """The tag has one digest of them all: which they are need not be known."""
    new = facts_of(NEW, archived(NEW))
    digest = new.kinds["models"]
    assert digest is not None

    found = compare(image_facts.tagged(OLD, {"gpu-ami:models-digest": digest["digest"].text}), new)

    assert not {"model", "models"} & {*found.unknown, *(change.kind for change in found.changes)}


def test_without_a_bill_packages_are_unknown() -> None:
    """A bake whose bill could not be composed is as good; only this is not known of it."""
    files = archived()
    del files[BILL]

    found = compare(facts_of(OLD, files), facts_of(NEW, archived(NEW)))

    assert (found.changes, found.unknown) == ([], ["package"])
    assert (found.same, summary(found)) == (None, "no difference is known (not compared: package)")


def test_what_says_nothing_of_the_image_decides_nothing() -> None:
    """How much the snapshot has is known only where EC2 says it."""
    files, new = archived(), archived(NEW, "run-2")
    both = facts_of(OLD, files), facts_of(NEW, new)
    without = [ImageFacts(ami=facts.ami, source="x", kinds={**facts.kinds, "snapshot": None}) for facts in both]

    found = compare(*without)

    assert (found.unknown, found.same, summary(found)) == (["snapshot"], True, "no difference is known")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (RELEASE, "{", "release.json is not a release record that can be used"),
        (RELEASE, archived(run_id="run-7")[RELEASE], "of the build 'run-7', the AMI of 'run-1': it is another AMI's"),
        (BUILD, archived(NEW)[BUILD], f"build.json is about {NEW}, not {OLD}: it is another AMI's"),
        (BUILD, '{"ami": 3}', "build.json is not what a build has noted of its AMI: Expected `str`, got `int`"),
        (BUILD, f'{{"format": 2, "ami": "{OLD}"}}', "build.json is of format 2, this version reads 1"),
        (BILL, bill_text("run-7", {}), "bill.cdx.json is of the build 'run-7'"),
        (BILL, bill_text("run-1", {"evil": "1"}), "is not the bill that the release record names by its SHA-256"),
        (BILL, bill_text("run-1", {}, specVersion="1.7"), "is 'CycloneDX 1.7', this version reads CycloneDX 1.6"),
        (BILL, archived()[BILL][:99], "is not a bill of materials that can be used"),
    ],
)
def test_a_file_that_is_not_this_amis_is_one_line(name: str, text: str, reason: str) -> None:
    """Of another AMI, altered, cut off, of another version: nothing is compared with it."""
    with pytest.raises(UsageError) as caught:
        facts_of(OLD, archived() | {name: text})

    assert reason in str(caught.value)
    assert f"packer/builds/{OLD}/{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_archive_without_its_record_says_nothing() -> None:
    """Then the tags are asked."""
    files = archived()
    del files[RELEASE]

    assert image_facts.archived(OLD, files, where="x") is None
    assert image_facts.archived(OLD, {}, where="x") is None


def test_long_values_show_where_they_differ() -> None:
    """Names of base AMIs have 60 characters, most of them the same; a column has room for 24."""
    names = [f"al2023-ami-ecs-gpu-hvm-2023.0.{day}-kernel-6.1-x86_64-ebs" for day in ("20260901", "20260915")]
    files = [archived(ami, source_ami={"id": BASE, "name": name}) for ami, name in zip((OLD, NEW), names, strict=True)]

    (change,) = compare(facts_of(OLD, files[0]), facts_of(NEW, files[1])).changes

    assert cells(change, 24) == ("…20260901-kernel-6.1-x8…", "…20260915-kernel-6.1-x8…")
    assert cells(change, 80) == tuple(names)
