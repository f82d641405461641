"""Downloads of several models from a server that throttles each connection: ours over the seed's, one after another."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from tests.bench.measure import say, seconds
from tests.infra.box import Box

FILES = 8
SIZE = 1024 * 1024  # at the server's 640 KiB/s about 1.6 s each
RUNS = 3
AT_LEAST = 3.0

_SERVE = """
python3 /srv/model_server.py /srv/files /srv/requests & server=$!
trap 'kill $server' EXIT
for _ in {1..500}; do (: </dev/tcp/127.0.0.1/8080) 2>/dev/null && break; sleep 0.02; done
"""
# As the seed's script has it: check whether it is there, download, next.
_SEED = """
for n in {0..%d}; do
  [[ -f /opt/ml/models/$n.pt ]] || curl --fail --silent --location --output "/opt/ml/models/$n.pt" "http://127.0.0.1:8080/slow/$n.pt"
done
"""


def ours() -> float:
    """Return the seconds of download-models.sh in a machine of its own, its clean-up included."""
    listed = [{"url": f"http://127.0.0.1:8080/slow/{n}.pt", "path": f"{n}.pt", "sha256": ""} for n in range(FILES)]
    code = f"{_SERVE}\nMODEL_DOWNLOADS='{json.dumps(listed)}' bash /scripts/download-models.sh"
    return _timed(code)


def theirs() -> float:
    """Return the seconds of the seed's way."""
    return _timed(f"{_SERVE}\nmkdir -p /opt/ml/models\n{_SEED % (FILES - 1)}")


def _timed(code: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder).resolve())
        server = Path(__file__).parents[1] / "infra" / "model_server.py"
        box.write("/srv/model_server.py", server.read_text(encoding="utf-8"))
        for n in range(FILES):
            box.write(f"/srv/files/{n}.pt").write_bytes(bytes([n]) * SIZE)
        taken = seconds(lambda: _must(box, code))
        for n in range(FILES):
            if box.path(f"/opt/ml/models/{n}.pt").read_bytes() != bytes([n]) * SIZE:
                msg = f"{n}.pt did not arrive whole"
                raise RuntimeError(msg)
    return taken


def _must(box: Box, code: str) -> None:
    done = box.bash(code, {"MODELS_DIR": "/opt/ml/models"})
    if done.status:
        raise RuntimeError(done.said)


def bench() -> bool:
    """Print and judge the seed's seconds over ours: at least 3, the median of three pairs."""
    pairs = [(ours(), theirs()) for _ in range(RUNS)]
    ratio = statistics.median(seed / mine for mine, seed in pairs)
    detail = ", ".join(f"{seed:.1f} s / {mine:.1f} s" for mine, seed in pairs)
    return say(
        f"{FILES} models one after another / download-models.sh (at least {AT_LEAST:.0f}, median of {RUNS})",
        f"{ratio:.1f} ({detail})",
        good=ratio >= AT_LEAST,
    )
