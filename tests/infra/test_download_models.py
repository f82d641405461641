"""download-models.sh: what arrives is complete and correct, however bad the network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.infra.box import Box, Result

pytestmark = pytest.mark.infra

WEIGHTS = bytes(range(256)) * 1024  # 256 KiB
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
MODEL = "/opt/ml/models/detector.pt"
ENV = {"DOWNLOAD_PAUSE_S": "0", "MODELS_DIR": "/opt/ml/models"}

_SERVE = """
python3 /srv/model_server.py /srv/files /srv/requests & server=$!
trap 'kill $server' EXIT
for _ in {1..200}; do (: </dev/tcp/127.0.0.1/8080) 2>/dev/null && break; sleep 0.02; done
"""


def with_server(box: Box, code: str, **env: str) -> Result:
    """Run *code* with the script's functions and the web server there."""
    box.write("/srv/model_server.py", (Path(__file__).parent / "model_server.py").read_text(encoding="utf-8"))
    for name in ("detector.pt", *(f"{n}.pt" for n in range(8))):
        path = box.write(f"/srv/files/{name}")
        path.write_bytes(WEIGHTS)
    return box.bash(f"{_SERVE}\nsource /scripts/download-models.sh\n{code}", ENV | env)


def download(box: Box, manner: str, *, sha256: str = "", **env: str) -> Result:
    """Download the one model from the server in the given *manner*."""
    url = f"http://127.0.0.1:8080/{manner}/detector.pt"
    return with_server(box, f'download_if_missing "{url}" {MODEL} Detector {sha256}\nwait_for_downloads', **env)


def requests(box: Box) -> list[str]:
    """Return path and range of each request for more than the size that reached the server."""
    path = box.path("/srv/requests")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line for line in lines if not line.endswith(" bytes=0-0")]


@pytest.mark.parametrize("sha256", ["", SHA256], ids=["unchecked", "checked"])
def test_missing_file_is_downloaded(box: Box, sha256: str) -> None:
    """The plain case; jobs of any user may read it, nobody but root may change it."""
    result = download(box, "ok", sha256=sha256)

    assert result.status == 0, result.said
    assert box.path(MODEL).read_bytes() == WEIGHTS
    assert box.path(MODEL).stat().st_mode & 0o777 == 0o644
    assert list(box.path("/opt/ml/models").iterdir()) == [box.path(MODEL)], "nothing half-done stays"


@pytest.mark.parametrize(("there", "sha256"), [(WEIGHTS, SHA256), (b"anything", "")], ids=["checked", "unchecked"])
def test_file_that_is_there_is_not_downloaded_again(box: Box, there: bytes, sha256: str) -> None:
    """A second run of the step costs nothing."""
    box.write(MODEL).write_bytes(there)

    result = download(box, "ok", sha256=sha256)

    assert "already there" in result.said
    assert requests(box) == []


def test_file_with_another_checksum_is_replaced(box: Box) -> None:
    """An older version of a model under the same name must not be baked in."""
    box.write(MODEL, "an older version")

    assert download(box, "ok", sha256=SHA256).status == 0
    assert box.path(MODEL).read_bytes() == WEIGHTS


def test_wrong_checksum_fails_and_names_the_file(box: Box) -> None:
    """Silently baking in wrong weights is the worst that can happen."""
    result = download(box, "wrong", sha256=SHA256)

    assert result.status == 1
    assert f"{MODEL} has the wrong SHA-256 (wanted {SHA256}" in result.said
    assert not box.path(MODEL).exists()
    assert list(box.path("/opt/ml/models").iterdir()) == []


def test_broken_transfer_goes_on_where_it_ended(box: Box) -> None:
    """A model of some GB is not started over because the connection broke near its end."""
    result = download(box, "cut", sha256=SHA256)

    assert result.status == 0, result.said
    assert requests(box) == ["/cut/detector.pt -", f"/cut/detector.pt bytes={len(WEIGHTS) // 2}-"]
    assert box.path(MODEL).read_bytes() == WEIGHTS


def test_server_without_ranges_is_started_over(box: Box) -> None:
    """Resuming is a wish: a server that ignores it must not leave a file of two beginnings."""
    result = download(box, "stubborn", sha256=SHA256)

    assert result.status == 0, result.said
    assert box.path(MODEL).read_bytes() == WEIGHTS


def test_stale_part_of_a_larger_file_is_thrown_away(box: Box) -> None:
    """The part of another version, left by a stopped bake, answers 416; it must not block the download for good."""
    box.write(f"{MODEL}.part").write_bytes(WEIGHTS * 2)

    result = download(box, "ok", sha256=SHA256)

    assert result.status == 0, result.said
    assert box.path(MODEL).read_bytes() == WEIGHTS


def test_busy_server_is_asked_again(box: Box) -> None:
    """A 503 is no reason to throw away a bake of half an hour."""
    assert download(box, "busy", sha256=SHA256).status == 0
    assert len(requests(box)) == 3


def test_missing_url_gives_up_after_the_attempts_and_names_file_and_server(box: Box) -> None:
    """The log line must be enough to mend the list of models."""
    result = download(box, "gone", DOWNLOAD_ATTEMPTS="2")

    assert result.status == 1
    assert len(requests(box)) == 2
    assert "Detector: the transfer ended with 22: curl: (22) The requested URL returned error: 404" in result.said
    assert f"gave up on {MODEL} from http://127.0.0.1:8080/gone/detector.pt" in result.said


def test_one_failure_among_many_fails_the_step_after_the_others_ended(box: Box) -> None:
    """A background job's failure must not be lost, and the good files are kept for the next attempt."""
    base = "http://127.0.0.1:8080"
    code = f"""
download_if_missing {base}/gone/0.pt $MODEL_DIR/0.pt Zero
for n in 1 2 3; do download_if_missing {base}/ok/$n.pt $MODEL_DIR/$n.pt "Number $n"; done
wait_for_downloads
echo not reached
"""
    result = with_server(box, code, DOWNLOAD_ATTEMPTS="1", PARALLEL_DOWNLOADS="2")

    assert result.status == 1
    assert "1 download(s) failed" in result.said
    assert "not reached" not in result.said
    assert sorted(path.name for path in box.path("/opt/ml/models").iterdir()) == ["1.pt", "2.pt", "3.pt"]


def test_downloads_run_side_by_side(box: Box) -> None:
    """Servers throttle each connection: eight at once take about as long as one (0.4 s here), not eight times."""
    code = """
start=$EPOCHREALTIME
for n in {0..7}; do download_if_missing http://127.0.0.1:8080/slow/$n.pt $MODEL_DIR/$n.pt $n; done
wait_for_downloads
echo "took $(((${EPOCHREALTIME/./} - ${start/./}) / 1000)) ms"
"""
    result = with_server(box, code)

    took_ms = int(result.tail().split()[1])
    assert 400 <= took_ms < 2000


def test_presigned_query_never_reaches_the_log_or_the_process_list(box: Box) -> None:
    """The signature of a presigned URL is a credential."""
    secret = "X-Amz-Signature=5ec2e7"
    code = f"""
download_if_missing "http://127.0.0.1:8080/slow/0.pt?{secret}" $MODEL_DIR/0.pt Zero
sleep 0.2; tr '\\0' ' ' </proc/$(pgrep -x curl)/cmdline; echo
download_if_missing "http://127.0.0.1:8080/gone/1.pt?{secret}" $MODEL_DIR/1.pt One
wait_for_downloads
"""
    result = with_server(box, code, DOWNLOAD_ATTEMPTS="1")

    assert "curl --config -" in result.said, "the process list was looked at"
    assert "from http://127.0.0.1:8080/gone/1.pt" in result.said
    assert "5ec2e7" not in result.said
    assert any(secret in line for line in requests(box))


@pytest.mark.parametrize("url", ["http://x/a b", 'http://x/a"b', "http://x/a\\b"])
def test_url_that_would_break_out_of_curl_s_configuration_is_refused(box: Box, url: str) -> None:
    """Quotes and line ends in a URL could add options to curl."""
    result = box.bash(
        f"source /scripts/download-models.sh; download_if_missing '{url}' {MODEL} Bad; wait_for_downloads", ENV
    )

    assert "has blanks, quotes or backslashes" in result.said
    assert result.status == 1


def test_file_urls_are_refused(box: Box) -> None:
    """A list of models must not be able to copy /etc/shadow into the image's models."""
    result = box.bash(
        f"source /scripts/download-models.sh; download_if_missing file:///etc/hostname {MODEL} Bad; wait_for_downloads",
        ENV | {"DOWNLOAD_ATTEMPTS": "1"},
    )

    assert result.status == 1
    assert not box.path(MODEL).exists()


_AWS = r"""
case "$1 $2" in
  "s3 cp") cp "/srv/bucket/${3##*/}" "$4" ;;
  "s3 ls") cat /srv/listing; [[ -s /srv/listing ]] ;;
  "s3 sync") cp -r /srv/bucket/. "$4" ;;
esac
"""


def bucket(box: Box, **files: str) -> None:
    """Put *files* (underscores are dots) in the fake bucket."""
    box.fake("aws", _AWS)
    named = {name.replace("_", "."): content for name, content in files.items()}
    for name, content in named.items():
        box.write(f"/srv/bucket/{name}", content)
    listing = [f"2026-09-01 00:00:00 {len(content)} models/{name}\n" for name, content in named.items()]
    box.write("/srv/listing", "".join(listing))


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
    """Told with the number that mends it, not as a full disk after ten minutes."""
    result = download(box, manner, MIN_FREE_GIB="1000000")

    assert result.status == 1
    assert f"Detector: {MODEL} does not fit: 0 MiB, " in result.said
    assert "raise volume_size_gib" in result.said
    assert not box.path(f"{MODEL}.part").exists()
    assert requests(box) == []


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
