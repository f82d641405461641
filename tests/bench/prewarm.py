"""Reading ahead on a disk that is loaded lazily: prewarm.py, the build before it and one file after another.

The disk is tests/bench/lazy_disk.py below a loop device, with ext4 on it: a first touch of a block waits, a second one
does not, and everything has its pace, as on a volume made from a snapshot. What the builds differ in is how well they
keep the disk busy; it tests the reading, not how fast AWS is. Root and Linux.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import lazy_disk
from tests.bench.measure import say, seconds

READERS = 16
SMALL, LARGE = 2000, 6  # files of 16 KiB and of 12 MiB
SMALL_BYTES, LARGE_BYTES = 16 * 1024, 12 * 1024 * 1024
RUNS = 5
MIB = 1024 * 1024

# The commit that has the build to compare with: files shared out, the large ones in pieces of 4 MiB.
BEFORE = "237a078"
FASTER = 1.5
ASKED_AT_MOST = 1.05  # times the files' size
MEMORY_AT_MOST = 64 * MIB
# The job's own read, scaled down from 1 GiB: it reads about 25 MiB/s here, and ten such runs would take seven minutes.
JOB_BYTES = 64 * MIB
OTHER_FILES = 24
OTHER_BYTES = 128 * MIB
SLOWED_AT_MOST = 1.15

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "packer/rootfs/usr/local/libexec/gpu-ami/prewarm.py"
# A process of its own: Linux counts the memory of whoever starts a program as the program's.
MEASURED = """
import json, os, sys, time
started = time.perf_counter()
child = os.fork() or os.execv(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(child, 0)
print(json.dumps([time.perf_counter() - started, used.ru_maxrss]))
sys.exit(status != 0)
"""
PROGRAMS = ("losetup", "mkfs.ext4", "mount", "umount", "git")


@dataclass
class Asked:
    """What a mounted disk was asked for, known once it is unmounted."""

    said: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run over the files: how long, and bytes asked of the disk and of memory."""

    took_s: float
    asked: int
    memory: int


def _run(*arguments: str | Path) -> str:
    return subprocess.run(
        [str(argument) for argument in arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def fill(folder: Path) -> None:
    """Write files as an image has them: many small files in folders, a few large ones."""
    for n in range(SMALL):
        path = folder / f"layer{n % 5}" / f"package{n % 20}" / f"{n}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(SMALL_BYTES))
    for n in range(LARGE):
        (folder / f"weights{n}.pt").write_bytes(os.urandom(LARGE_BYTES))


def fill_for_job(folder: Path) -> None:
    """Write the file that the job reads itself, and others that keep prewarm busy meanwhile."""
    (folder / "job").write_bytes(os.urandom(MIB) * (JOB_BYTES // MIB))
    (folder / "others").mkdir()
    for n in range(OTHER_FILES):
        (folder / "others" / f"{n}.pt").write_bytes(os.urandom(MIB) * (OTHER_BYTES // MIB))


def make_image(folder: Path, write: Callable[[Path], None]) -> Path:
    """Return an ext4 image in *folder* with the files that *write* writes."""
    files, image = folder / "files", folder / "disk.img"
    files.mkdir(parents=True)
    write(files)
    size = sum(path.stat().st_size for path in files.rglob("*"))
    with image.open("wb") as file:
        file.truncate(size + size // 8 + 64 * MIB)
    _run("mkfs.ext4", "-q", "-O", "^has_journal", "-d", files, image)
    shutil.rmtree(files)
    return image


@contextlib.contextmanager
def lazy_mount(image: Path) -> Iterator[tuple[Path, Asked]]:
    """Mount *image* so that nothing of it is in memory or was touched; yield where, and what it was asked for."""
    disk, mounted, asked = image.with_name("disk"), image.with_name("mounted"), Asked()
    disk.touch()
    mounted.mkdir(exist_ok=True)
    command = [sys.executable, "-m", lazy_disk.__name__, str(image), str(disk)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        stack.callback(lambda: asked.said.update(json.loads(server.communicate(timeout=30)[0])))
        _wait_until(disk.stat, lambda found: found.st_size > 0)
        # The loop device may let go of the disk a little after it is detached; a plain umount would fail until then,
        # and the server that is never told of an end would be waited for without end.
        stack.callback(_run, "umount", "--lazy", disk)
        loop = _run("losetup", "--find", "--show", "--read-only", "--direct-io=on", disk)
        stack.callback(_run, "losetup", "--detach", loop)
        # What EBS's NVMe devices take at once.
        Path(f"/sys/block/{Path(loop).name}/queue/max_sectors_kb").write_text("256", encoding="ascii")
        _run("mount", "-o", "ro,noload", loop, mounted)
        stack.callback(_run, "umount", mounted)
        yield mounted, asked


def _wait_until(look: Callable[[], os.stat_result], good: Callable[[os.stat_result], bool]) -> None:
    end = time.monotonic() + 30
    while not good(look()):
        if time.monotonic() > end:
            msg = "the disk did not appear"
            raise RuntimeError(msg)
        time.sleep(0.02)


def command(script: Path, *paths: Path) -> list[str]:
    """Return the command of a build of prewarm.py over *paths*."""
    config = script.with_name("prewarm.json")
    config.write_text(json.dumps({"readers": READERS, "seconds": 600, "paths": [str(path) for path in paths]}))
    return [sys.executable, "-I", str(script), str(config)]


def prewarmed(image: Path, script: Path) -> Run:
    """Read everything with a build of prewarm.py."""
    with lazy_mount(image) as (mounted, asked):
        *_, said, figures = _run(sys.executable, "-I", "-c", MEASURED, *command(script, mounted)).splitlines()
    took, memory = json.loads(figures)
    match = re.fullmatch(r"prewarm: (\d+) MiB of (\d+) files .*, everything there is; \d+ could not be read", said)
    # Files and large ones only: a folder such as lost+found holds none.
    if match is None or (int(match[1]), int(match[2])) != (size_of_files() // MIB, SMALL + LARGE):
        raise RuntimeError(said)
    return Run(took, int(asked.said["asked"]), memory * 1024)


def size_of_files() -> int:
    """Return the size of all files, bytes."""
    return SMALL * SMALL_BYTES + LARGE * LARGE_BYTES


def one_after_another(image: Path) -> float:
    """Return how long it takes to read the same files one after another, seconds."""
    with lazy_mount(image) as (mounted, _):
        return seconds(lambda: _run("bash", "-c", 'find "$0" -type f -exec cat {} + | wc -c', mounted))


def job(image: Path, script: Path | None) -> float:
    """Return how long the job's first read of its own file takes, seconds, beside a build of prewarm.py or alone."""
    with lazy_mount(image) as (mounted, _), contextlib.ExitStack() as stack:
        process = subprocess.Popen(command(script, mounted / "others"), stdout=subprocess.DEVNULL) if script else None
        if process:
            stack.enter_context(process)
            stack.callback(process.kill)
            time.sleep(0.5)
        took = seconds(lambda: _run("bash", "-c", 'cat "$0" | wc -c', mounted / "job"))
        if process and process.poll() is not None:
            msg = "prewarm ended before the job had read its file"
            raise RuntimeError(msg)
    return took


def _faster(folder: Path, before: Path, now: Path) -> list[bool]:
    image = make_image(folder / "image", fill)
    pairs = [(prewarmed(image, before), prewarmed(image, now)) for _ in range(RUNS)]
    ratio = statistics.median(old.took_s / new.took_s for old, new in pairs)
    detail = ", ".join(f"{old.took_s:.2f} s / {new.took_s:.2f} s" for old, new in pairs)
    asked = statistics.median(new.asked for _, new in pairs) / size_of_files()
    asked_before = statistics.median(old.asked for old, _ in pairs) / size_of_files()
    memory = max(new.memory for _, new in pairs)
    best = statistics.median(new.took_s for _, new in pairs) / (size_of_files() / lazy_disk.PACE)
    plain = one_after_another(image)
    name = f"prewarm.py of {BEFORE} / prewarm.py, {READERS} readers, {SMALL} small and {LARGE} large files"
    return [
        say(f"{name} (at least {FASTER})", f"{ratio:.2f}, median of {RUNS} ({detail})", good=ratio >= FASTER),
        say(
            "    that is",
            f"{best:.2f} times what the disk's pace allows; one file after another takes {plain:.1f} s",
            good=True,
        ),
        say(
            f"    asked of the disk / size of the files (at most {ASKED_AT_MOST})",
            f"{asked:.3f}; {BEFORE}: {asked_before:.3f}",
            good=asked <= ASKED_AT_MOST,
        ),
        say(
            f"    memory (at most {MEMORY_AT_MOST // MIB} MiB)",
            f"{memory / MIB:.0f} MiB; {BEFORE}: {max(old.memory for old, _ in pairs) / MIB:.0f} MiB",
            good=memory <= MEMORY_AT_MOST,
        ),
    ]


def _slowed(folder: Path, before: Path, now: Path) -> bool:
    image = make_image(folder / "job", fill_for_job)
    runs = [(job(image, None), job(image, now), job(image, before)) for _ in range(RUNS)]
    alone, beside, beside_before = (statistics.median(column) for column in zip(*runs, strict=True))
    ratio = statistics.median(ours / plain for plain, ours, _ in runs)
    return say(
        f"the job's first read of {JOB_BYTES // MIB} MiB beside prewarm.py / alone (at most {SLOWED_AT_MOST})",
        f"{ratio:.2f}, median of {RUNS} ({beside:.2f} s / {alone:.2f} s; beside {BEFORE} {beside_before:.2f} s)",
        good=ratio <= SLOWED_AT_MOST,
    )


def bench() -> bool:
    """Print and judge how much faster than before, what it takes for that, and what the job notices of it."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0 or not Path("/dev/fuse").exists():
        what = f"{', '.join(missing)} missing" if missing else "it needs root, /dev/fuse and loop devices"
        return say("reading ahead", f"cannot be measured here, {what}", good=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        builds = [folder / "before" / "prewarm.py", folder / "now" / "prewarm.py"]
        for path in builds:
            path.parent.mkdir()
        builds[0].write_text(_run("git", "-C", ROOT, "show", f"{BEFORE}:{SCRIPT.relative_to(ROOT)}"), encoding="utf-8")
        shutil.copy(SCRIPT, builds[1])
        results = _faster(folder, *builds)
        return all([*results, _slowed(folder, *builds)])
