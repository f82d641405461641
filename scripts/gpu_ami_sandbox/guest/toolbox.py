"""The guest's toolbox: everything that its instances share, put together once and seen by them read-only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_ami_sandbox.guest import host_programs, interpreter, layout
from gpu_ami_sandbox.guest.bubblewrap import Bind

_EMULATED = Path(__file__).with_name("programs")


@dataclass(frozen=True)
class Toolbox:
    """What all instances share.

    Attributes:
        socket: Where the way to the local AWS has to listen, on the host.
        binds: Read-only parts of the host that the isolation lets through, in the order in which it has to be mounted.
        programs: Names of the borrowed programs that an instance has from the start.
        profile: Environment of every command: how it finds the local AWS.
    """

    socket: Path
    binds: tuple[Bind, ...]
    programs: tuple[str, ...]
    profile: Mapping[str, str]


def make_toolbox(folder: Path, *, region: str, endpoint_port: int) -> Toolbox:
    """Fill the new *folder*; takes about 0.1 s, most of it to copy the borrowed programs.

    Raises:
        ToolError: A program that the guest needs is missing on this machine, or the AWS CLI in this environment.
    """

    def host(path: str) -> Path:
        return folder / Path(path).relative_to(layout.TOOLBOX)

    names = host_programs.copy_programs(host(layout.PROGRAMS))
    host_programs.copy_packaged(host(layout.PACKAGES))
    for source, target in (
        (_EMULATED / "launch.py", layout.LAUNCHER),
        (_EMULATED / "aws.py", layout.AWS_CLI),
    ):
        # Copied, to be sure of the mode: an installed package may have lost it.
        shutil.copyfile(source, host(target))
        host(target).chmod(0o755)
    profile = instance_profile(region, endpoint_port)
    host(layout.INSTANCE).write_text(json.dumps(profile))
    binds = [
        *interpreter.python_binds(),
        *interpreter.aws_cli_binds(),
        Bind(_EMULATED, layout.EMULATED),
    ]
    for bind in binds:
        _mount_point(host(bind.target), bind.source)
    if (wrapper := interpreter.wrapper()) is not None:
        script = host(layout.INTERPRETER)
        script.write_text(wrapper)
        script.chmod(0o755)
    return Toolbox(
        socket=host(layout.SOCKET),
        binds=(Bind(folder, layout.TOOLBOX), *host_programs.library_binds(), *binds),
        programs=tuple(names),
        profile=profile,
    )


def instance_profile(region: str, endpoint_port: int) -> dict[str, str]:
    """Return the variables that replace what a real instance gets from its metadata service."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{endpoint_port}",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _mount_point(path: Path, source: Path) -> None:
    """Make the empty file or folder that bubblewrap mounts *source* over."""
    if source.is_dir():
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
