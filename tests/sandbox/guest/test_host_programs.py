"""What is borrowed from this machine, and what is said when it is not there."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_ami.errors import ToolError
from gpu_ami_sandbox.guest import host_programs, interpreter, layout, machine
from gpu_ami_sandbox.guest.bubblewrap import Bind
from gpu_ami_sandbox.guest.programs.commands import COMMANDS


def test_programs_are_copies_without_special_bits(tmp_path: Path) -> None:
    """A link into the host's file system would lead nowhere in the guest, or out of it."""
    names = host_programs.copy_programs(tmp_path / "bin")

    files = list((tmp_path / "bin").iterdir())
    assert {"bash", "sh", "awk", "scp", "curl", "ls"} <= set(names)
    assert not any(path.is_symlink() for path in files)
    assert {path.stat().st_mode & 0o7777 for path in files} == {0o755}


def test_stand_ins_and_packages_are_not_borrowed() -> None:
    """The host's own chown, or a jq before it is installed, would hide a script's mistake."""
    borrowed = {*host_programs.REQUIRED, *host_programs.OPTIONAL.split()}

    assert not borrowed & set(COMMANDS)
    assert not borrowed & {*host_programs.PACKAGED, "aws", "docker", "dnf", "su", "mount", "unshare"}


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step is one command."""
    monkeypatch.setattr(host_programs, "REQUIRED", ("bash", "no-such-program"))
    monkeypatch.setattr(host_programs, "_AWK", ("no-such-awk",))
    monkeypatch.setattr(host_programs, "PACKAGED", ("no-such-jq",))

    with pytest.raises(ToolError, match=r"needs no-such-program, awk of this machine: run `invoke setup`"):
        host_programs.copy_programs(tmp_path / "bin")
    with pytest.raises(ToolError, match="needs no-such-jq of this machine"):
        host_programs.copy_packaged(tmp_path / "packages")


def test_the_aws_cli_comes_with_what_it_needs_and_nothing_else() -> None:
    """The guest must not see the rest of the developer's environment."""
    names = {bind.source.name for bind in interpreter.aws_cli_binds()}

    assert {"awscli", "docutils", "jmespath", "urllib3", "yaml", "six.py"} <= names
    assert not {"moto", "boto3", "pytest", "asyncssh", "gpu_ami"} & names


def test_the_interpreter_starts_from_its_three_parts_alone(tmp_path: Path) -> None:
    """pyenv's, the system's and uv's Pythons lie differently; moved together they must still find themselves."""
    for bind in interpreter.python_binds():
        path = tmp_path / Path(bind.target).relative_to(layout.TOOLBOX)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(bind.source) if bind.source.is_dir() else path.write_bytes(bind.source.read_bytes())
    executable = max((tmp_path / "python/bin").iterdir(), key=lambda path: len(path.name))
    executable.chmod(0o755)

    done = subprocess.run(
        [executable, "-IS", "-c", "import ssl, json, sys; print(sys.prefix)"],
        env={"LD_LIBRARY_PATH": str(tmp_path / "python/lib")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == (f"{tmp_path}/python\n", "")


@pytest.mark.parametrize(
    ("mapped", "shared"),
    [
        ("/home/me/.pyenv/versions/3.11.7/lib/libpython3.11.so.1.0", True),
        ("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", False),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", False),
    ],
)
def test_a_shared_interpreter_gets_a_wrapper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: str, shared: bool
) -> None:
    """Debian's libpython of the same version lies where the loader looks first."""
    maps = tmp_path / "maps"
    maps.write_text(f"7f0000000000-7f0000001000 r-xp 00000000 fe:00 42   {mapped}\n7ffe00000000 rw-p [stack]\n")
    monkeypatch.setattr(interpreter, "_MAPS", maps)

    targets = {bind.target: bind.source for bind in interpreter.python_binds()}

    assert (f"{layout.INTERPRETER}.real" in targets) is shared
    assert (Path(mapped) in targets.values()) is shared
    assert (f"{layout.INTERPRETER}.real" in (interpreter.wrapper() or "")) is shared


def test_bytecode_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages come without it from uv, and each call of the AWS CLI would compile for a second."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("x = 1\n")
    single = tmp_path / "single.py"
    single.touch()
    monkeypatch.setattr(
        interpreter,
        "aws_cli_binds",
        lambda: [Bind(package, "/site/package"), Bind(single, "/site/single.py")],
    )

    before = interpreter.uncompiled()
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], check=True)

    assert before == [package]
    assert interpreter.uncompiled() == []


def test_a_distribution_that_is_not_there_is_left_out_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a marker excludes on this machine is not installed; the AWS CLI itself must be."""
    real = importlib.metadata.distribution

    def without_colorama(name: str) -> importlib.metadata.Distribution:
        if name == "colorama":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", without_colorama)
    assert "colorama" not in {bind.source.name for bind in interpreter.aws_cli_binds()}
    monkeypatch.setattr(interpreter, "_AWS_CLI", "no-such-distribution")
    with pytest.raises(ToolError, match="no-such-distribution is not installed"):
        interpreter.aws_cli_binds()


def test_removing_a_root_follows_no_link(tmp_path: Path) -> None:
    """The guest decides what lies there."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    root = tmp_path / "root"
    (root / "closed/inner").mkdir(parents=True)
    (root / "closed/inner/link").symlink_to(kept)
    (root / "link").symlink_to(kept / "file")
    (root / "closed").chmod(0)

    machine.remove_tree(root)
    machine.remove_tree(root)  # it is gone: nothing to do

    assert not root.exists()
    assert (kept / "file").exists()
    assert oct(kept.stat().st_mode & 0o777) == oct(0o777 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
