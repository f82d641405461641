"""The probe of a bench: what runs in the real image on each host, and how its lines are read.

It runs as the container's command, with the image's own interpreter; an image with an entry point of its own gets it as
arguments instead and has to run them, as `exec "$@"` does: nothing in Batch takes an entry point's place. It says when
it began, what its host is, when the imports were done and when the models had been read, each in one line of JSON. What
it takes for itself it says, too: that is taken off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# More seconds, or bytes, than there can be: what a log line says may be anything.
_MOST = 1e15
FORMAT = 1
MARKS = ("first_line", "imports_done", "models_done")
# For Python 3.6 and later. The time is taken before any import: on a volume that is filled block by block the standard
# library's first touch is the job's to wait for, too. What comes between the imports and `own` is the probe's own.
# One reader, in big pieces, as a program reads weights that it loads one after the other; each file once, whatever
# links to it, as a cache of models has them.
SOURCE = """\
import time
def text(path):
    with open(path) as file:
        return file.read().strip()
def up():
    return float(text("/proc/uptime").split()[0])
T, U = time.time(), up()
import importlib, json, os, stat, sys, urllib.request
B = time.time()
A = json.loads(sys.argv[1])
own = 0.0
def say(mark, t, u, **more):
    print(json.dumps(dict(gpu_ami_bench=1, mark=mark, t=t, up=u, probe_s=own, **more)), flush=True)
def get(url, method="GET", **headers):
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = urllib.request.Request(url, headers=names, method=method)
        way = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return way.open(asked, timeout=2).read().decode()
    except Exception:
        return None
def task():
    where = os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
    said = get(where + "/task") if where else None
    if said is None:
        return None
    said = json.loads(said)
    mine = (said.get("Containers") or [{}])[0]
    return {"pull_started_at": said.get("PullStartedAt"), "pull_stopped_at": said.get("PullStoppedAt"),
            "created_at": mine.get("CreatedAt"), "started_at": mine.get("StartedAt")}
seen, skipped = set(), []
def read(name):
    count = 0
    try:
        found = os.stat(name)
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) in seen:
            return 0
        seen.add((found.st_dev, found.st_ino))
        with open(name, "rb", buffering=0) as file:
            piece = file.read(8388608)
            while piece:
                count += len(piece)
                piece = file.read(8388608)
    except OSError:
        skipped.append(name)
    return count
def read_all(path):
    if not os.path.isdir(path):
        return read(path) if os.path.exists(path) else 0
    walk = os.walk(path, onerror=lambda exc: skipped.append(exc.filename))
    return sum(read(os.path.join(at, name)) for at, _, names in walk for name in sorted(names))
try:
    at = "http://169.254.169.254/latest/"
    token = get(at + "api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
    instance = get(at + "meta-data/instance-id", X_aws_ec2_metadata_token=token) if token else None
    boot = text("/proc/sys/kernel/random/boot_id")
    say("first_line", T, U, instance_id=instance, boot_id=boot, task=task())
    own = time.time() - B
    for name in A["imports"]:
        importlib.import_module(name)
    say("imports_done", time.time(), up())
    count = sum(read_all(path) for path in A["models"])
    say("models_done", time.time(), up(), models_bytes=count, models_skipped=len(skipped))
except BaseException as exc:
    say("failed", time.time(), up(), why="%s: %s" % (type(exc).__name__, str(exc)[:300]))
    sys.exit(1)
"""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a probe said.

    Attributes:
        at: Mark to when it was, seconds since 1970 by the host's clock, the probe's own seconds before it taken off.
        kernel_up: When the host's kernel came up, by the same clock.
        instance_id: What the instance's metadata call it; empty where they did not answer.
        boot_id: The kernel's.
        knows_task: Whether the agent's metadata of the task answered in the job.
        pull_times: The agent's words on when the pull began and ended, as it writes them; empty where it says nothing.
        models_bytes: How much was read of models.
        models_skipped: How many files and folders of models could not be read.
        failed: Why the probe failed; empty where it did not.
    """

    at: Mapping[str, float] = field(default_factory=dict)
    kernel_up: float | None = None
    instance_id: str = ""
    boot_id: str = ""
    knows_task: bool = False
    pull_times: tuple[str, ...] = ()
    models_bytes: int | None = None
    models_skipped: int | None = None
    failed: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing more to come."""
        return bool(self.failed) or "models_done" in self.at


def command(python: str, imports: Sequence[str], models: Sequence[str]) -> list[str]:
    """Return the container's command.

    Args:
        python: The image's interpreter.
        imports: Modules to import, in this order.
        models: Folders or files to read, by their paths in the container.
    """
    arguments = {"gpu_ami_bench": FORMAT, "imports": list(imports), "models": list(models)}
    return [python, "-c", SOURCE, json.dumps(arguments)]


def parse(lines: Iterable[str]) -> Probed:
    """Return what the probe said among *lines*; what imported modules print there is not the probe's."""
    found = Probed()
    at: dict[str, float] = {}
    for line in lines:
        said = _said(line)
        if said is None:
            continue
        mark, t, up, own = said["mark"], _number(said.get("t")), _number(said.get("up")), _number(said.get("probe_s"))
        if mark == "failed":
            return _with(found, at, failed=str(said.get("why") or "it does not say why"))
        if mark not in MARKS or t is None or own is None:
            continue
        at[mark] = t - own
        if mark == "first_line":
            found = _begun(said, None if up is None else t - up)
        elif mark == "models_done":
            names = ("models_bytes", "models_skipped")
            found = _with(found, at, **{name: _count(said.get(name)) for name in names})
    return _with(found, at)


def _begun(said: Mapping[str, Any], kernel_up: float | None) -> Probed:
    task = said.get("task")
    times = [task.get(name) for name in ("pull_started_at", "pull_stopped_at")] if isinstance(task, dict) else []
    return Probed(
        kernel_up=kernel_up,
        instance_id=str(said.get("instance_id") or ""),
        boot_id=str(said.get("boot_id") or ""),
        knows_task=isinstance(task, dict),
        pull_times=tuple(str(one) for one in times if one),
    )


def _with(found: Probed, at: Mapping[str, float], **more: Any) -> Probed:
    return replace(found, at=dict(at), **more)


def _said(line: str) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and said.get("gpu_ami_bench") == FORMAT and "mark" in said else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else None


def _number(value: Any) -> float | None:
    # Of an integer with hundreds of digits not even that it is finite could be asked.
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    return float(value) if is_number else None
