"""The programs that the guest borrows from this machine, copied: an allow-list, nothing else of the host is seen."""

from __future__ import annotations

import shutil
from pathlib import Path

from gpu_ami.errors import ToolError
from gpu_ami.process import find_program
from gpu_ami_sandbox.guest.bubblewrap import Bind

_SYSTEM_FOLDERS = "/usr/bin:/usr/sbin:/bin:/sbin"

# coreutils, without what an emulated program answers (chown, chgrp, id, sync, who, whoami, ...).
_COREUTILS = """
    [ arch b2sum base32 base64 basename cat chmod cksum comm cp csplit cut date dd df dir dirname du echo env expand
    expr factor false fmt fold head join link ln ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt od
    paste pathchk pr printenv printf pwd readlink realpath rm rmdir seq sha1sum sha224sum sha256sum sha384sum
    sha512sum shred shuf sleep sort split stat stdbuf stty sum tac tail tee test timeout touch tr true truncate tsort
    tty uname unexpand uniq unlink vdir wc yes
"""

REQUIRED = ("bash", "curl", "find", "flock", "grep", "gzip", "scp", "sed", "tar", "xargs", *_COREUTILS.split())

# Part of the real image too, but no script can do without the ones above.
OPTIONAL = """
    cmp diff egrep fallocate fgrep file findmnt free getent getopt gunzip kill logger lsblk mcookie mountpoint namei
    nsenter openssl patch pgrep pkill ps setsid ssh-keygen unzstd uptime uuidgen which xz xzcat zcat zstd
"""

# On the real image only after `dnf install`.
PACKAGED = ("jq",)

# The first of these that is here; Amazon Linux has the first.
_AWK = ("gawk", "mawk", "original-awk", "busybox")


def copy_programs(folder: Path) -> list[str]:
    """Copy the allow-list into the new *folder* and return the names that are there now.

    Links are followed (``awk`` is a chain of them on Debian), set-user-id bits are left behind.

    Raises:
        ToolError: One that scripts cannot do without is missing here.
    """
    copier = _Copier(folder)
    missing = [name for name in REQUIRED if not copier.copy(name)]
    if not any(copier.copy(name, "awk") for name in _AWK):
        missing.append("awk")
    _check(missing)
    for name in OPTIONAL.split():
        copier.copy(name)
    copier.copy("bash", "sh")  # as on Amazon Linux; dash knows less
    return sorted(path.name for path in folder.iterdir())


def copy_packaged(folder: Path) -> None:
    """Copy what the emulated ``dnf`` can install into the new *folder*.

    Raises:
        ToolError: One of them is missing here.
    """
    copier = _Copier(folder)
    _check([name for name in PACKAGED if not copier.copy(name)])


def _check(missing: list[str]) -> None:
    if missing:
        msg = f"The sandbox's guest needs {', '.join(missing)} of this machine: run `invoke setup`."
        raise ToolError(msg)


class _Copier:
    """Copies programs into a new folder; a file with many names, such as busybox, is copied once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._copied: dict[Path, Path] = {}

    def copy(self, name: str, target_name: str = "") -> bool:
        """Copy *name*, under another name if one is given; return whether this machine has it."""
        # The system's own first: one of a version manager may be linked to libraries that the guest does not see.
        found = shutil.which(name, path=_SYSTEM_FOLDERS) or find_program(name)
        if found is None:
            return False
        source, target = Path(found).resolve(), self._folder / (target_name or name)
        if source in self._copied:
            target.hardlink_to(self._copied[source])
        else:
            shutil.copyfile(source, target)
            target.chmod(0o755)
            self._copied[source] = target
        return True


def library_binds() -> list[Bind]:
    """Return the folders of shared libraries that the programs are linked to."""
    folders = [path for path in sorted(Path("/usr/lib").glob("*-linux-gnu")) if (path / "libc.so.6").exists()]
    lib64 = Path("/usr/lib64")
    folders += [lib64] if lib64.is_dir() and not lib64.is_symlink() else []
    return [Bind(path, str(path)) for path in folders]


def loaders() -> list[Path]:
    """Return the dynamic loaders that lie in /usr/lib itself, as on Debian's arm64."""
    return sorted(Path("/usr/lib").glob("ld-linux*.so.*"))
