"""download-models.sh: the models folder is what bucket and lists name, and nothing else."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.infra.box import Box
from tests.infra.downloads import ENV, MODEL, SHA256, WEIGHTS, bucket, download, requests, with_server


def test_listed_models_and_the_bucket_s_arrive_together(box: Box) -> None:
    """MODEL_DOWNLOADS and S3 are used side by side in one bake."""
    bucket(box, tracker_onnx="tracker\n")
    listed = [{"url": "http://127.0.0.1:8080/ok/0.pt", "path": "sub/0.pt", "sha256": SHA256}]

    result = with_server(box, "main", MODELS_S3_BUCKET="demo", MODEL_DOWNLOADS=json.dumps(listed))

    assert result.status == 0, result.said
    assert box.path("/opt/ml/models/sub/0.pt").read_bytes() == WEIGHTS
    assert box.read("/opt/ml/models/tracker.onnx") == "tracker\n"
    flags = "--exact-timestamps --no-progress --only-show-errors"
    assert f"aws s3 sync s3://demo/models/ /opt/ml/models {flags}" in box.calls()


@pytest.mark.parametrize("listing", ["", "2026-09-01 00:00:00 0 models/\n"], ids=["nothing", "folder marker"])
def test_empty_prefix_fails_and_is_named(box: Box, listing: str) -> None:
    """An image without its models looks fine until the first job."""
    bucket(box)
    box.write("/srv/listing", listing)

    result = box.run("download-models.sh", **ENV, MODELS_S3_BUCKET="demo")

    assert result.status == 1
    assert "there is nothing under s3://demo/models/" in result.said


@pytest.mark.parametrize(("content", "status"), [("weights\n", 0), ("cut off", 1)], ids=["good", "bad"])
def test_sha256sums_in_the_bucket_is_checked(box: Box, content: str, status: int) -> None:
    """Who uploads checksums gets them checked in the image."""
    bucket(
        box, detector_pt=content, SHA256SUMS=f"{hashlib.sha256(b'weights' + bytes([10])).hexdigest()}  detector.pt\n"
    )

    result = box.run("download-models.sh", **ENV, MODELS_S3_BUCKET="demo")

    assert result.status == status, result.said
    assert ("detector.pt: FAILED" in result.said) is (status == 1)


def test_s3_address_is_copied(box: Box) -> None:
    """A single object beside the synced prefix, with the same checks as a download."""
    bucket(box, detector_pt="weights\n")
    code = f"source /scripts/download-models.sh; download_if_missing s3://other/x/detector.pt {MODEL} Detector"

    result = box.bash(f"{code} {hashlib.sha256(b'weights' + bytes([10])).hexdigest()}; wait_for_downloads", ENV)

    assert result.status == 0, result.said
    assert box.read(MODEL) == "weights\n"
    assert f"aws s3 cp s3://other/x/detector.pt {MODEL}.part --no-progress --only-show-errors" in box.calls()


def test_models_that_nothing_wants_any_more_are_removed(box: Box) -> None:
    """A bake on top of an earlier image: the folder holds the bucket's and the listed models, nothing of before."""
    bucket(box, tracker_onnx="tracker\n")
    box.write("/opt/ml/models/old/left.pt", "of the bake before")
    box.write("/opt/ml/models/0.pt.part", "of a bake that was cut")
    box.write("/opt/ml/models/kept.pt")
    listed = [{"url": "http://127.0.0.1:8080/ok/0.pt", "path": "0.pt", "sha256": SHA256}]
    mine = "my_models() { keep $MODEL_DIR/kept.pt; aws s3 cp s3://demo/x/tracker.onnx $MODEL_DIR/by-hand.onnx; }"

    result = with_server(box, f"{mine}; main", MODELS_S3_BUCKET="demo", MODEL_DOWNLOADS=json.dumps(listed))

    assert result.status == 0, result.said
    left = sorted(path.name for path in box.path("/opt/ml/models").iterdir())
    assert left == ["0.pt", "by-hand.onnx", "kept.pt", "tracker.onnx"]
    assert "removed /opt/ml/models/old/left.pt: nothing wants it any more" in result.said


def test_second_run_downloads_and_removes_nothing(box: Box) -> None:
    """Every step may run twice."""
    listed = json.dumps([{"url": "http://127.0.0.1:8080/ok/0.pt", "path": "0.pt", "sha256": ""}])
    with_server(box, "main", MODEL_DOWNLOADS=listed)
    once = requests(box)

    result = with_server(box, "main", MODEL_DOWNLOADS=listed)

    assert (result.status, requests(box)) == (0, once)
    assert "removed" not in result.said
    assert [path.name for path in box.path("/opt/ml/models").iterdir()] == ["0.pt"]


def test_file_of_another_address_is_brought_anew(box: Box) -> None:
    """Without a checksum the address is all that tells a new version from the baked one; its query does not count."""
    first = json.dumps([{"url": "http://127.0.0.1:8080/wrong/0.pt?sig=1", "path": "0.pt", "sha256": ""}])
    same = first.replace("sig=1", "sig=2")
    other = json.dumps([{"url": "http://127.0.0.1:8080/ok/0.pt", "path": "0.pt", "sha256": ""}])

    assert "already there" not in with_server(box, "main", MODEL_DOWNLOADS=first).said
    assert "already there" in with_server(box, "main", MODEL_DOWNLOADS=same).said
    assert "already there" not in with_server(box, "main", MODEL_DOWNLOADS=other).said
    assert box.path("/opt/ml/models/0.pt").read_bytes() == WEIGHTS


@pytest.mark.parametrize("manner", ["ok", "whole"], ids=["ranges", "no ranges"])
def test_model_that_does_not_fit_is_named_before_it_is_downloaded(box: Box, manner: str) -> None:
    """Told with the number that fixes it, not as a full disk after ten minutes."""
    result = download(box, manner, MIN_FREE_GIB="1000000")

    assert result.status == 1
    assert f"Detector: {MODEL} does not fit: 0 MiB, " in result.said
    assert "raise volume_size_gib" in result.said
    assert not box.path(f"{MODEL}.part").exists()
    assert requests(box) == []


def test_downloads_that_fit_only_one_by_one_are_told_before_they_fill_the_disk(box: Box) -> None:
    """Eight at once: each would find room, and together they would end as a full disk after ten minutes."""
    two = """
    df() { printf 'Avail\\n%s\\n' 307200; }
    remote_size() { echo 262144; }
    check_space http://x/a "$MODELS_DIR/a.part" A
    (check_space http://x/b "$MODELS_DIR/b.part" B) || echo "B must wait"
    brought
    check_space http://x/b "$MODELS_DIR/b.part" B && echo "B fits now"
    """

    said = with_server(box, two).said

    assert "B: /opt/ml/models/b does not fit" in said
    assert said.rstrip().endswith("B must wait\nB fits now")


def test_bucket_that_does_not_fit_is_told_before_the_copy(box: Box) -> None:
    """What is on the volume already does not count."""
    bucket(box, detector_pt="weights\n")
    box.write("/srv/listing", f"2026-09-01 00:00:00 {10**15} models/detector.pt\n")

    result = box.run("download-models.sh", **ENV, MODELS_S3_BUCKET="demo")

    assert result.status == 1
    assert "s3://demo/models/ does not fit: 953674316 MiB to copy" in result.said
    assert not [call for call in box.calls() if "s3 sync" in call]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x"])
def test_path_that_leads_out_of_the_models_folder_is_refused(box: Box, path: str) -> None:
    """models.yaml is a file that a pull request can change."""
    listed = [{"url": "http://127.0.0.1:8080/ok/0.pt", "path": path, "sha256": ""}]

    result = with_server(box, "main", MODEL_DOWNLOADS=json.dumps(listed))

    assert result.status == 1
    assert "leads out of /opt/ml/models" in result.said


def test_no_models_at_all_is_fine(box: Box) -> None:
    """A pipeline may keep its models in the container image."""
    result = box.run("download-models.sh", **ENV, MODEL_DOWNLOADS="[]")

    assert result.status == 0, result.said
    assert "0 files" in result.said


def test_models_are_readable_by_all_and_writable_by_root_alone(box: Box) -> None:
    """Files come from S3 with whatever umask there was."""
    bucket(box, detector_pt="weights\n")
    box.path("/srv/bucket/detector.pt").chmod(0o666)

    box.run("download-models.sh", **ENV, MODELS_S3_BUCKET="demo")

    assert box.path(MODEL).stat().st_mode & 0o777 == 0o644


def test_sourcing_the_script_starts_nothing(box: Box) -> None:
    """Tests and the curious can use its functions."""
    result = box.bash("source /scripts/download-models.sh; echo sourced", ENV)

    assert result.said == "sourced\n"
