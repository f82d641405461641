"""The release record, which a machine full of other people's code wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.errors import BuildError, UsageError
from gpu_ami.records.release import completed, load, measured, tags

DIGEST = f"sha256:{'a' * 64}"
RECORD: dict[str, Any] = {
    "run_id": "r1",
    "family": "gpu-batch",
    "bake_seconds": 61,
    "source_ami": {"id": "ami-1", "name": "base"},
    "os": "Amazon Linux 2023.9.20260901",
    "kernel": "6.1.150-180.273.amzn2023.x86_64",
    "nvidia_driver": "580.159.03",
    "docker": "25.0.16-1.amzn2023",
    "ecs_agent": "1.106.2-1.amzn2023",
    "image": {"repository": "r/app", "tag": "v1", "digest": DIGEST, "size_bytes": 7},
    "models": {
        "dir": "/opt/ml/models",
        "files": [
            {"path": "a.pt", "size_bytes": 3, "sha256": "b" * 64},
            {"path": "ü/b.pt", "size_bytes": 4, "sha256": "c" * 64},
        ],
    },
    "mps_pipe": "repair",
    "packages_moved": [
        {"name": "openssl-libs", "old": "3.2.2-1", "new": "3.2.2-5"},
        {"name": "jq", "old": None, "new": "1.7.1-51"},
    ],
    "of_a_later_version": True,
}


def _write(folder: Path, **changed: Any) -> Path:
    path = folder / "release.json"
    path.write_text(json.dumps(RECORD | changed))
    return path


def test_the_record_s_facts_become_tags(tmp_path: Path) -> None:
    """Who looks at an AMI in the console sees what is in it."""
    made = tags(load(_write(tmp_path), run_id="r1"), snapshot_gib=28.125)

    assert made["gpu-ami:os"] == "Amazon Linux 2023.9.20260901"
    assert made["gpu-ami:kernel"] == "6.1.150-180.273.amzn2023.x86_64"
    assert made["gpu-ami:nvidia-driver"] == "580.159.03"
    assert made["gpu-ami:image-digest"] == DIGEST
    assert (made["gpu-ami:image-bytes"], made["gpu-ami:models-count"], made["gpu-ami:models-bytes"]) == ("7", "2", "7")
    assert (made["gpu-ami:bake-seconds"], made["gpu-ami:snapshot-gib"]) == ("61", "28.12")
    assert made["gpu-ami:models-digest"].startswith("sha256:")
    assert {"gpu-ami:docker", "gpu-ami:ecs-agent", "gpu-ami:image-tag"} <= set(made)
    assert len(made) <= 20, "EC2 allows 50 in all"


def test_the_models_digest_is_of_paths_and_checksums(tmp_path: Path) -> None:
    """Two images with the same models have the same one, in whatever order the record lists them."""

    def digest(files: list[dict[str, Any]]) -> str:
        record = load(_write(tmp_path, models={"dir": "/m", "files": files}), run_id="r1")
        return tags(record, snapshot_gib=None)["gpu-ami:models-digest"]

    one, two = RECORD["models"]["files"]
    assert digest([one, two]) == digest([two, one])
    assert digest([one]) != digest([one | {"path": "other"}])


def test_an_unknown_size_has_no_tag_and_is_null(tmp_path: Path) -> None:
    """Zero would be a lie."""
    path = _write(tmp_path)

    assert "gpu-ami:snapshot-gib" not in tags(load(path, run_id="r1"), snapshot_gib=None)
    assert json.loads(completed(path.read_text(), snapshot_gib=None))["snapshot_gib"] is None


def test_completing_keeps_what_the_record_says(tmp_path: Path) -> None:
    """Fields of a later version of the scripts stay."""
    path = _write(tmp_path)

    assert json.loads(completed(path.read_text(), snapshot_gib=1.5)) == RECORD | {"snapshot_gib": 1.5}


def test_what_the_bake_moved_is_in_the_record(tmp_path: Path) -> None:
    """Records of version 0.1.0 lack it, and one where nobody noted what was there has null."""
    moved = load(_write(tmp_path), run_id="r1").packages_moved
    assert moved is not None
    assert [(row.name, row.old, row.new) for row in moved] == [
        ("openssl-libs", "3.2.2-1", "3.2.2-5"),
        ("jq", None, "1.7.1-51"),
    ]
    assert load(_write(tmp_path, packages_moved=None), run_id="r1").packages_moved is None
    earlier = {name: value for name, value in RECORD.items() if name not in ("mps_pipe", "packages_moved")}
    (tmp_path / "release.json").write_text(json.dumps(earlier))
    release = load(tmp_path / "release.json", run_id="r1")
    assert (release.packages_moved, release.mps_pipe) == (None, "")


@pytest.mark.parametrize(
    ("base", "policy", "tag"),
    [
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260813-kernel-6.1-x86_64-ebs", "repair", "repair"),
        ("our-base", "fail", "fail"),
        ("al2023-ami-ecs-gpu-hvm-2023.0.20260901-kernel-6.1-x86_64-ebs", "repair", None),
        ("our-base", "", None),
    ],
)
def test_a_bake_that_looked_for_mps_says_so(tmp_path: Path, base: str, policy: str, tag: str | None) -> None:
    """Only where the base may have it: EC2 allows few tags."""
    release = load(_write(tmp_path, source_ami={"id": "ami-1", "name": base}, mps_pipe=policy), run_id="r1")

    assert tags(release, snapshot_gib=None).get("gpu-ami:mps-pipe") == tag


def test_tags_stay_within_ec2_s_limits(tmp_path: Path) -> None:
    """EC2 would refuse the whole call: characters outside its set are replaced, long values cut."""
    made = tags(load(_write(tmp_path, os="x" * 1000, kernel="6 <b>ü</b>"), run_id="r1"), snapshot_gib=None)

    assert made["gpu-ami:os"] == "x" * 256
    assert made["gpu-ami:kernel"] == "6 _b___/b_"


@pytest.mark.parametrize(
    "changed",
    [
        {"os": 7},
        {"os": "a\nb"},
        {"kernel": "\x1b[31m"},
        {"os": "x" * 2000},
        {"docker": None},
        {"bake_seconds": -1},
        {"bake_seconds": "61"},
        {"bake_seconds": 10**30},
        {"image": {}},
        {"image": RECORD["image"] | {"digest": "latest"}},
        {"image": RECORD["image"] | {"digest": f"{DIGEST}\n"}},
        {"models": []},
        {"models": {"dir": "/m", "files": [{"path": "a", "size_bytes": 1, "sha256": "x"}]}},
        {"mps_pipe": "a\nb"},
        {"packages_moved": {}},
        {"packages_moved": [{"name": "a"}]},
        {"packages_moved": [{"name": "a\x1b[31m", "old": None, "new": "1"}]},
        {"packages_moved": [{"name": "a", "old": 1, "new": "1"}]},
        {"run_id": "another"},
    ],
)
def test_a_record_that_no_bake_writes_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    """What is wrong in the record may be wrong in the image; and its text reaches terminals and tags."""
    with pytest.raises(BuildError) as caught:
        load(_write(tmp_path, **changed), run_id="r1")

    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"run_id": "r1"}', b"[" * 100_000, b" " * (17 * 1024 * 1024)],
    ids=["empty", "cut off", "list", "null", "no text", "half", "deep", "huge"],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    """A download that was cut off, a page of a proxy, an attack on the reader."""
    path = tmp_path / "release.json"
    path.write_bytes(content)

    with pytest.raises(BuildError):
        load(path, run_id="r1")


def test_a_missing_record_is_a_failed_build(tmp_path: Path) -> None:
    """Packer downloads it before it makes the AMI."""
    with pytest.raises(BuildError, match="does not exist"):
        load(tmp_path / "none.json", run_id="r1")


def test_what_was_measured_is_read_of_less_than_a_whole_record() -> None:
    """A price needs two figures, and a record of another version may lack other things."""
    found = measured('{"run_id": "r1", "bake_seconds": 840, "used_bytes": 5}', source="release.json")

    assert (found.run_id, found.bake_seconds, found.used_bytes) == ("r1", 840, 5)
    for bad in ("[" * 100_000, "{", '{"run_id": "r1"}', '{"run_id": "r1", "bake_seconds": -1}'):
        with pytest.raises(UsageError, match=r"release\.json is not a release record that can be used"):
            measured(bad, source="release.json")
