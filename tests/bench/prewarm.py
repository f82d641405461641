"""Reading ahead on a disk that is loaded lazily: many readers over the same files one after another.

A file system image is served by nbdkit with a delay for each read and mounted through FUSE and a loop device: a first
touch waits, as on a volume made from a snapshot. It tests the reading, not how fast AWS is. Root, Linux, and Debian's
packages nbdkit, libnbd-bin and fuse3.
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
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import say, seconds

READERS = 16
CONNECTIONS = 32
DELAY_MS = 20
SMALL, LARGE = 200, 3  # files of 16 KiB and of 12 MiB
RUNS = 3
AT_LEAST = 3.0

SCRIPT = Path(__file__).parents[2] / "packer/rootfs/usr/local/libexec/gpu-ami/prewarm.py"
PROGRAMS = ("nbdkit", "nbdfuse", "losetup", "mkfs.ext4", "mount", "umount", "fusermount3")


def _run(*arguments: str | Path) -> str:
    return subprocess.run(
        [str(argument) for argument in arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def _fill(folder: Path) -> None:
    """Write files as an image has them: many small files in folders, a few large ones."""
    for n in range(SMALL):
        path = folder / f"layer{n % 5}" / f"package{n % 20}" / f"{n}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(16 * 1024))
    for n in range(LARGE):
        (folder / f"weights{n}.pt").write_bytes(os.urandom(12 * 1024 * 1024))


def make_image(folder: Path) -> Path:
    """Return an ext4 image in *folder* with these files."""
    files, image = folder / "files", folder / "disk.img"
    files.mkdir()
    _fill(files)
    with image.open("wb") as file:
        file.truncate(128 * 1024 * 1024)
    _run("mkfs.ext4", "-q", "-O", "^has_journal", "-d", files, image)
    return image


@contextlib.contextmanager
def lazy_mount(image: Path, folder: Path) -> Iterator[Path]:
    """Mount *image* so that nothing of it is in memory and each read takes its time; yield where."""
    socket, disk, mounted = folder / "nbd.sock", folder / "disk", folder / "mounted"
    for path in (disk, mounted):
        path.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        command = ["nbdkit", "-f", "-r", "-t", str(2 * CONNECTIONS), "-U", str(socket), "--filter=delay"]
        server = stack.enter_context(subprocess.Popen([*command, "file", str(image), f"rdelay={DELAY_MS}ms"]))
        stack.callback(server.terminate)
        _wait_for(socket)
        bridge = stack.enter_context(
            subprocess.Popen(["nbdfuse", "-r", "-C", str(CONNECTIONS), str(disk), f"nbd+unix:///?socket={socket}"])
        )
        stack.callback(bridge.wait, timeout=30)
        _wait_for(disk / "nbd")
        stack.callback(_run, "fusermount3", "-u", disk)
        loop = _run("losetup", "--find", "--show", "--read-only", "--direct-io=on", disk / "nbd")
        stack.callback(_run, "losetup", "--detach", loop)
        _run("mount", "-o", "ro,noload", loop, mounted)
        stack.callback(_run, "umount", mounted)
        yield mounted
    socket.unlink(missing_ok=True)


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        if time.monotonic() > end:
            msg = f"{path} did not appear"
            raise RuntimeError(msg)
        time.sleep(0.02)


def ours(folder: Path, mounted: Path) -> None:
    """Read everything with prewarm.py."""
    config = folder / "prewarm.json"
    config.write_text(json.dumps({"readers": READERS, "seconds": 600, "paths": [str(mounted)]}))
    said = _run(sys.executable, "-I", SCRIPT, config)
    match = re.fullmatch(r"prewarm: \d+ MiB of (\d+) files .*, everything there is; \d+ could not be read", said)
    # Files and large ones only: a folder such as lost+found holds none.
    if match is None or int(match[1]) != SMALL + LARGE:
        raise RuntimeError(said)


def theirs(mounted: Path) -> None:
    """Read the same files one after another."""
    _run("bash", "-c", 'find "$0" -type f -exec cat {} + | wc -c', mounted)


def bench() -> bool:
    """Print and judge sequential seconds over ours: at least 3, the median of three pairs."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        what = f"{', '.join(missing)} missing: apt-get install nbdkit libnbd-bin fuse3" if missing else "it needs root"
        return say("reading ahead", f"cannot be measured here, {what}", good=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        image = make_image(folder)
        pairs = []
        for _ in range(RUNS):
            with lazy_mount(image, folder) as mounted:
                mine = seconds(lambda: ours(folder, mounted))
            with lazy_mount(image, folder) as mounted:
                plain = seconds(lambda: theirs(mounted))
            pairs.append((mine, plain))
    ratio = statistics.median(plain / mine for mine, plain in pairs)
    detail = ", ".join(f"{plain:.1f} s / {mine:.1f} s" for mine, plain in pairs)
    return say(
        f"one file after another / prewarm.py with {READERS} readers on a lazily loaded disk (at least {AT_LEAST:.0f})",
        f"{ratio:.1f}, median of {RUNS} ({detail})",
        good=ratio >= AT_LEAST,
    )
