"""download-models.sh: what arrives is complete and correct, however bad the network."""

from __future__ import annotations

import pytest

from tests.infra.box import Box
from tests.infra.downloads import ENV, MODEL, SHA256, WEIGHTS, download, requests, with_server


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
    """The log line must be enough to fix the list of models."""
    result = download(box, "gone", DOWNLOAD_ATTEMPTS="2")

    assert result.status == 1
    assert len(requests(box)) == 2
    assert "Detector: the transfer ended with 22: curl: (22) The requested URL returned error: 404" in result.said
    assert f"gave up on {MODEL} from http://127.0.0.1:8080/gone/detector.pt" in result.said


def test_neither_query_nor_user_of_an_address_is_shown(box: Box) -> None:
    """A token is a token, wherever the server wants it."""
    url = "http://someone:t0ken@127.0.0.1:8080/gone/detector.pt?signature=s1gned"
    result = with_server(
        box, f'download_if_missing "{url}" {MODEL} Detector\nwait_for_downloads', DOWNLOAD_ATTEMPTS="1"
    )

    assert result.status == 1
    assert f"gave up on {MODEL} from http://127.0.0.1:8080/gone/detector.pt" in result.said
    assert "t0ken" not in result.said
    assert "s1gned" not in result.said


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
    """Servers throttle each connection: eight at once take about as long as one, not eight times.

    Here each waits for the seven others: with fewer at a time none would end.
    """
    code = """
for n in {0..7}; do download_if_missing http://127.0.0.1:8080/eight/$n.pt $MODEL_DIR/$n.pt $n; done
wait_for_downloads
"""
    result = with_server(box, code, DOWNLOAD_ATTEMPTS="1")

    assert result.status == 0, result.said
    assert len(list(box.path("/opt/ml/models").iterdir())) == 8


def test_presigned_query_never_reaches_the_log_or_the_process_list(box: Box) -> None:
    """The signature of a presigned URL is a credential."""
    secret = "X-Amz-Signature=5ec2e7"
    code = f"""
download_if_missing "http://127.0.0.1:8080/held/0.pt?{secret}" $MODEL_DIR/0.pt Zero
until [[ -s /srv/requests ]]; do sleep 0.01; done
tr '\\0' ' ' </proc/$(pgrep -x curl)/cmdline; echo; touch /srv/released
download_if_missing "http://127.0.0.1:8080/gone/1.pt?{secret}" $MODEL_DIR/1.pt One
wait_for_downloads
"""
    result = with_server(box, code, DOWNLOAD_ATTEMPTS="1")

    assert "curl --config -" in result.said, "the process list was read"
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
