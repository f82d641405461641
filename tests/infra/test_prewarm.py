"""Reading ahead at boot: what the script reads and when it ends, what the unit promises, what the step installs."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gpu_ami.bake.template import load_hcl
from tests.bench import touched
from tests.infra.box import PACKER, Box, Result
from tests.infra.finished import PREWARM_CONFIG, PREWARM_SCRIPT, PREWARM_UNIT, add_fakes

ROOTFS = PACKER / "rootfs"
UNIT = ROOTFS / PREWARM_UNIT.lstrip("/")
SCRIPT = ROOTFS / PREWARM_SCRIPT.lstrip("/")
MIB = 1024 * 1024
INPUTS = {
    "PREWARM": "1",
    "PREWARM_READERS": "16",
    "PREWARM_SECONDS": "30",
    "PREWARM_PATHS": '["/opt/ml/models", "/var/lib/docker/overlay2"]',
    "ROOTFS": "/tmp/rootfs",
}


def prewarm(box: Box, *paths: str, readers: int = 16, seconds: int = 60, before: str = "", mounted: str = "") -> Result:
    """Run the script in *box* on *paths*, after the shell lines *before*."""
    box.write("/srv/prewarm.py", SCRIPT.read_text(encoding="utf-8"))
    box.write("/srv/prewarm.json", json.dumps({"readers": readers, "seconds": seconds, "paths": paths}))
    return box.bash(f"{before}\nexec /usr/bin/python3 -I /srv/prewarm.py /srv/prewarm.json", mounted=mounted)


def test_everything_below_the_paths_is_read_once(box: Box) -> None:
    """Large files in pieces, small ones whole, hard links and overlapping paths once, links not at all."""
    box.write("/opt/ml/models/large.pt").write_bytes(b"x" * (9 * MIB + 5))
    for n in range(20):
        box.write(f"/opt/ml/models/a/b/{n}").write_bytes(b"y" * MIB)
    box.path("/opt/ml/models/again").hardlink_to(box.path("/opt/ml/models/large.pt"))
    box.path("/opt/ml/models/elsewhere").symlink_to("/usr")

    result = prewarm(box, "/opt/ml/models", "/opt/ml/models/a", "/opt/none")

    assert result.status == 0, result.said
    assert re.fullmatch(
        r"prewarm: 29 MiB of 21 files in [\d.]+ s by 16 readers, everything there is; 0 could not be read\n",
        result.said,
    )


def test_another_file_system_is_not_entered(box: Box) -> None:
    """The merged view of a running container is its image once more."""
    box.write("/opt/layer/file")
    box.path("/opt/merged").mkdir()

    result = prewarm(box, "/opt", before="touch /opt/merged/{1,2}; ls /opt/merged", mounted="/opt/merged")

    assert result.said.startswith("1\n2\nprewarm: 0 MiB of 1 files"), result.said


def test_patterns_and_single_files_are_paths_too(box: Box) -> None:
    """The driver's libraries lie among a thousand others."""
    for name in ("libcuda.so.580", "libcudart.so", "libz.so"):
        box.write(f"/opt/lib/{name}")
    box.path("/opt/lib/libcuda.so").symlink_to("libcuda.so.580")

    assert "of 2 files" in prewarm(box, "/opt/lib/libcuda*").said
    assert "of 1 files" in prewarm(box, "/opt/lib/libz.so").said


def test_it_ends_at_its_limit_however_much_is_left(box: Box) -> None:
    """A boot is not kept busy: terabytes on a file system that does not say what is a hole take hours."""
    box.path("/opt").mkdir(exist_ok=True)

    result = prewarm(box, "/opt", seconds=1, before="truncate --size 7T /opt/endless", mounted="/opt")

    assert result.status == 0, result.said
    assert "stopped at the limit of 1 s" in result.said


def test_parts_of_files_come_as_named(box: Box) -> None:
    """What a recorded start touched first: the end of a large file before its beginning."""
    box.write("/opt/ml/weights.pt").write_bytes(b"x" * (6 * MIB))
    box.write("/opt/ml/odd#1+2").write_bytes(b"y" * MIB)

    first = prewarm(
        box, f"/opt/ml/weights.pt#{4 * MIB}+{MIB}", "/opt/ml/none#0+1", f"/opt/ml/weights.pt#{5 * MIB}+{9 * MIB}"
    )
    odd = prewarm(box, "/opt/ml/odd#1+2")

    assert first.said.startswith("prewarm: 2 MiB of 0 files"), first.said
    assert "everything there is; 0 could not" in first.said
    assert odd.said.startswith("prewarm: 1 MiB of 1 files"), odd.said


def test_a_recorded_start_is_what_the_script_takes(tmp_path: Path) -> None:
    """The recorder's lines, in the order in which the pieces came into memory, name just these pieces."""
    script, path = load_script(), tmp_path / "weights.pt"
    known = {(str(path), offset): 512 * 1024 for offset in (MIB, MIB + 512 * 1024, 0)}
    lines = touched.lines(known)

    assert lines == [f"{path}#{MIB}+{MIB}", f"{path}#0+{512 * 1024}"]
    assert [script.part(line) for line in lines] == [(str(path), MIB, 2 * MIB), (str(path), 0, 512 * 1024)]

    # What was just written is in memory.
    path.write_bytes(b"x" * (MIB + 1))
    found: dict[tuple[str, int], int] = {}
    for name in touched.files([str(tmp_path)]):
        touched.note(found, name)
    assert touched.lines(found) == [f"{path}#0+{MIB + 1}"]


def load_script() -> ModuleType:
    """Return the script as a module of its own, and leave no bytecode where the files of the image lie."""
    module = ModuleType("prewarm_of_the_image")
    sys.modules[module.__name__] = module
    exec(compile(SCRIPT.read_text(encoding="utf-8"), SCRIPT, "exec"), module.__dict__)
    return module


class Extents:
    """A file system that says where files lie: each block of 4 KiB of a file in an extent of its own."""

    def __init__(self, physical: int, count: int, *, flags: int = 0) -> None:
        """Let a file have *count* extents, every other page of it, on the disk from *physical* on."""
        self.asked = 0
        self._known = [(n * 8192, physical + n * 4096, 4096, flags) for n in range(count)]

    def __call__(self, descriptor: int, request: int, buffer: bytearray) -> int:
        """Answer FS_IOC_FIEMAP as Linux does: the extents from the start on, the last one marked."""
        start, length, _, _, room, _ = struct.unpack_from("=QQIIII", buffer)
        found = [one for one in self._known if one[0] + one[2] > start and one[0] < start + length][:room]
        struct.pack_into("=I", buffer, 20, len(found))
        for n, (logical, physical, size, flags) in enumerate(found):
            last = 1 if (logical, physical, size, flags) == self._known[-1] else 0
            struct.pack_into("=QQQ16xI12x", buffer, 32 + 56 * n, logical, physical, size, flags | last)
        self.asked += 1
        return 0


def test_a_file_in_many_extents_is_found_whole_and_by_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One answer holds 64 extents; holes are not read, and what lies in one block of the disk goes to one reader."""
    script = load_script()
    extents = Extents(3 * 512 * 1024 - 8192, 200)
    monkeypatch.setattr(script.fcntl, "ioctl", extents)
    path, size = tmp_path / "sparse", 200 * 8192
    path.write_bytes(b"")
    item, found = script.Item(0, 0, str(path), 7, 0, script.ALL), []

    with path.open() as file:
        while item.start < size:
            pieces, end = script.blocks(file.fileno(), item, size)
            assert end > item.start
            assert len(pieces) <= 64, "memory grows with the file"
            found += pieces
            item = item._replace(start=end)

    assert [piece.start for _, piece in found] == [n * 8192 for n in range(200)]
    assert {piece.size for _, piece in found} == {4096}
    assert [block for block, _ in found] == [(7, 2)] * 2 + [(7, 3)] * 128 + [(7, 4)] * 70
    assert extents.asked == 4


def test_a_long_extent_is_cut_where_the_disk_s_blocks_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two readers that wait for one block wait for nothing else meanwhile."""
    script, mib = load_script(), MIB

    def answer(_: int, __: int, buffer: bytearray) -> int:
        struct.pack_into("=I", buffer, 20, 1)
        struct.pack_into("=QQQ16xI12x", buffer, 32, 0, mib - 4096, 100 * mib, 1)
        return 0

    monkeypatch.setattr(script.fcntl, "ioctl", answer)
    path = tmp_path / "large"
    path.write_bytes(b"")
    with path.open() as file:
        pieces, end = script.blocks(file.fileno(), script.Item(0, 0, str(path), 7, 0, script.ALL), 100 * mib)

    assert [(block[1], piece.start, piece.size) for block, piece in pieces[:3]] == [
        (1, 0, 4096),
        (2, 4096, 512 * 1024),
        (3, 4096 + 512 * 1024, 512 * 1024),
    ]
    assert (len(pieces), end) == (64, 4096 + 63 * 512 * 1024)


def test_what_lies_in_one_block_is_taken_by_one_reader() -> None:
    """Thirty small files in a block cost one wait, and the other readers wait for other blocks meanwhile."""
    script = load_script()
    queue = script.Queue(4)
    queue.put_pieces(1, [((7, n // 3), script.Piece(f"/{n}", 0, 1)) for n in range(6)])
    queue.put_pieces(0, [((7, 9), script.Piece("/hot", 0, 1))])

    taken = [queue.take() for _ in range(3)]

    assert [[piece.path for piece in pieces] for pieces in taken] == [["/hot"], ["/0", "/1", "/2"], ["/3", "/4", "/5"]]
    for _ in taken:
        queue.done()
    assert queue.take() is None


@pytest.mark.parametrize(
    ("others", "wait", "allowed"),
    [
        (0, 0.100, [16, 16, 16]),  # nobody to make way for
        (MIB, 0.020, [16, 16, 16]),  # the disk has room for both
        (MIB, 0.030, [8, 4, 4]),  # it has not: down to a quarter
    ],
)
def test_readers_make_way_for_others_that_would_wait(
    monkeypatch: pytest.MonkeyPatch, others: int, wait: float, allowed: list[int]
) -> None:
    """The scheduling class alone does nothing on an NVMe device: whoever keeps its queue full delays the job."""
    script = load_script()
    manners = script.Manners(16)
    manners.note(0.020)
    monkeypatch.setattr(manners, "_others", lambda: others)
    manners.look()

    said = []
    for _ in allowed:
        for _ in range(5):
            manners.note(wait)
        manners.note(0.0001)  # a block that was there already says nothing
        said.append(manners.look())

    assert said == allowed


def test_others_reads_are_the_disk_s_less_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not say, nobody else reads: a container's root, a file system without a device."""
    script = load_script()
    manners = script.Manners(16)
    manners.add_disk(os.makedev(0, 999))

    assert (manners._others(), manners._others()) == (0, 0)
    totals = iter([50 * MIB, 53 * MIB])
    monkeypatch.setattr(script, "_disk_read", lambda _: next(totals))
    assert manners._others() == 0, "the first look has nothing to compare with"
    assert 3 * MIB - manners._others() < MIB


def test_nothing_to_read_is_no_failure(box: Box) -> None:
    """An image without models, a host without a driver."""
    result = prewarm(box, "/opt/none", "/opt/no*")

    assert (result.status, "prewarm: 0 MiB of 0 files" in result.said) == (0, True), result.said


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("{", "Expecting property name"),
        ("[]", "not an object"),
        ('{"readers": 1, "seconds": 1, "paths": "x"}', "paths is 'x'"),
        ('{"readers": 1, "seconds": 1, "paths": ["x"]}', "not a list of absolute paths"),
        ('{"readers": 0, "seconds": 1, "paths": []}', "readers is 0"),
        ('{"readers": 1, "seconds": true, "paths": []}', "seconds is True"),
        ('{"readers": 1, "seconds": 4000, "paths": []}', "seconds is 4000"),
    ],
)
def test_configuration_that_cannot_be_used_is_told(box: Box, config: str, problem: str) -> None:
    """The bake checks it with the image's own Python; nobody watches a boot."""
    box.write("/srv/prewarm.py", SCRIPT.read_text(encoding="utf-8"))
    box.write("/srv/prewarm.json", config)

    result = box.bash("exec /usr/bin/python3 -I /srv/prewarm.py --check /srv/prewarm.json")

    assert result.status == 2
    assert problem in result.said


def test_the_script_runs_on_the_image_s_python() -> None:
    """Amazon Linux 2023 has 3.9, and nothing from PyPI."""
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}

    used = {"fcntl", "glob", "heapq", "json", "os", "re", "stat", "struct", "sys", "threading", "time"}
    assert imported == used
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Match)]


def unit() -> dict[str, dict[str, str]]:
    """Return the unit's sections."""
    parser = configparser.ConfigParser(interpolation=None, strict=True, comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_unit_runs_beside_the_agent_and_behind_everybody() -> None:
    """An order towards Docker or the agent would delay the first job, which it is there to help."""
    sections = unit()
    orders = {key: value for key, value in sections["Unit"].items() if key in ("After", "Before", "Requires", "Wants")}

    assert orders == {"After": "local-fs.target"}
    assert sections["Install"] == {"WantedBy": "multi-user.target"}
    service = sections["Service"]
    # Not oneshot: multi-user.target would wait for its end.
    assert service["Type"] == "exec"
    assert (service["Nice"], service["IOSchedulingClass"]) == ("19", "idle")
    assert service["ExecStart"] == f"/usr/bin/python3 -I {PREWARM_SCRIPT} {PREWARM_CONFIG}"


def test_systemd_finds_no_fault_in_the_unit() -> None:
    """A misspelt key is ignored at boot, with a line in a journal that nobody reads."""
    known = {
        "Unit": {"Description", "After", "ConditionPathExists"},
        "Service": {"Type", "ExecStart", "Nice", "IOSchedulingClass", "OOMScoreAdjust", "TimeoutStopSec"}
        | {"NoNewPrivileges", "CapabilityBoundingSet"},
        "Install": {"WantedBy"},
    }
    assert {name: set(keys) for name, keys in unit().items()} == known
    # Where this machine has systemd, its own verdict too; the image's is 252.
    judge = shutil.which("systemd-analyze")
    if judge is not None:
        done = subprocess.run([judge, "verify", str(UNIT)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def uploaded(box: Box) -> None:
    """Give *box* what Packer uploads."""
    add_fakes(box)
    box.write("/srv/prewarm-unit", "disabled\n")
    shutil.copytree(ROOTFS, box.path("/tmp/rootfs"))


def test_step_installs_files_configuration_and_limit(box: Box) -> None:
    """What lies in packer/rootfs lies so in the image, root's own and not writable by others."""
    uploaded(box)

    result = box.run("install-prewarm.sh", **INPUTS)

    assert result.status == 0, result.said
    assert box.read(PREWARM_UNIT) == UNIT.read_text(encoding="utf-8")
    assert box.read(PREWARM_SCRIPT) == SCRIPT.read_text(encoding="utf-8")
    paths = ["/opt/ml/models", "/var/lib/docker/overlay2"]
    assert json.loads(box.read(PREWARM_CONFIG)) == {"readers": 16, "seconds": 30, "paths": paths}
    assert box.read(f"{PREWARM_UNIT}.d/limit.conf") == "[Service]\nRuntimeMaxSec=35\n"
    assert box.read("/srv/prewarm-unit") == "enabled\n"
    assert {box.path(path).stat().st_mode & 0o777 for path in (PREWARM_UNIT, PREWARM_SCRIPT, PREWARM_CONFIG)} == {0o644}
    assert not box.path("/tmp/rootfs").exists()
    assert "with 16 readers for at most 30 s: /opt/ml/models /var/lib/docker/overlay2" in result.said


def test_step_twice_is_step_once(box: Box) -> None:
    """A bake on top of an earlier image installs it again."""
    for _ in range(2):
        uploaded(box)
        assert box.run("install-prewarm.sh", **INPUTS).status == 0

    assert sorted(path.name for path in box.path("/etc/gpu-ami").iterdir()) == ["prewarm.json"]


def test_switched_off_it_takes_out_what_an_earlier_bake_put_in(box: Box) -> None:
    """`prewarm = false` means no unit, wherever the bake started."""
    uploaded(box)
    assert box.run("install-prewarm.sh", **INPUTS).status == 0
    uploaded(box)

    result = box.run("install-prewarm.sh", **INPUTS | {"PREWARM": "0"})

    assert result.status == 0, result.said
    assert "will not read ahead (prewarm = false)" in result.said
    assert "systemctl disable gpu-ami-prewarm.service" in box.calls()
    for path in (PREWARM_UNIT, f"{PREWARM_UNIT}.d", PREWARM_SCRIPT, PREWARM_CONFIG, "/tmp/rootfs"):
        assert not box.path(path).exists(), path


def test_upload_that_did_not_arrive_is_told(box: Box) -> None:
    """The line says which part of the repository is missing."""
    add_fakes(box)

    result = box.run("install-prewarm.sh", **INPUTS)

    assert result.status == 1
    assert "/tmp/rootfs is missing; did Packer upload packer/rootfs?" in result.tail()


def test_default_paths_and_limits_are_what_the_readme_says() -> None:
    """Off by a variable, 60 seconds, at least 16 readers; the list names driver, models and layers."""
    (defaults,) = [
        block["prewarm_env"]
        for block in load_hcl(PACKER / "aws-gpu-ami.pkr.hcl", what="template")["locals"]
        if "prewarm_env" in block
    ]
    for path in ("/var/lib/docker/overlay2", "/var/lib/containerd", "var.models_dir", "libcuda*", "libnvidia*"):
        assert path in defaults["PREWARM_PATHS"], path
    values = {
        name: body["default"]
        for block in load_hcl(PACKER / "variables.pkr.hcl", what="template")["variable"]
        for name, body in block.items()
        if name.startswith("prewarm")
    }
    assert values["prewarm"] is True
    assert values["prewarm_seconds"] == 60
    assert values["prewarm_readers"] >= 16


def test_the_image_keeps_nothing_of_rootfs_that_no_step_installs() -> None:
    """Each file of rootfs is known to the step and to validate-image.sh; tests that load one leave nothing there."""
    load_script()
    found = {f"/{path.relative_to(ROOTFS)}" for path in ROOTFS.rglob("*") if path.is_file()}

    assert found == {PREWARM_UNIT, PREWARM_SCRIPT}
    assert Path(PREWARM_SCRIPT).suffix == ".py", "ruff and mypy check it"
