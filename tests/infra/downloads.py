"""What the tests of download-models.sh share: a web server and a bucket in the scratch machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.infra.box import Box, Result

WEIGHTS = bytes(range(256)) * 1024  # 256 KiB
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
MODEL = "/opt/ml/models/detector.pt"
ENV = {"DOWNLOAD_PAUSE_S": "0", "MODELS_DIR": "/opt/ml/models"}

# Not one of the shell's jobs, which the script counts as downloads.
_SERVE = """
python3 /srv/model_server.py /srv/files /srv/requests & server=$!; disown $server
trap 'kill $server' EXIT
until (: </dev/tcp/127.0.0.1/8080) 2>/dev/null || ! kill -0 $server; do sleep 0.02; done
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
