"""The file system of one build instance: a folder that looks like the ECS GPU AMI a minute after its first boot."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from gpu_ami_sandbox.guest import host_programs, layout, lineage, mps
from gpu_ami_sandbox.guest.builder import Builder
from gpu_ami_sandbox.guest.programs.commands import COMMANDS
from gpu_ami_sandbox.guest.programs.images import Store
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.userdata import UserData

_AGENT_IMAGE = "amazon/amazon-ecs-agent:latest"
_FILES = Path(__file__).with_name("rootfs")

_FOLDERS = """\
    boot dev etc/docker etc/systemd/system mnt opt proc run srv sys tmp
    usr/lib/systemd/system usr/local/bin usr/local/sbin usr/share
    usr/libexec/guest var/cache/dnf var/lib/amazon/ssm var/lib/dnf var/lib/docker/containers var/lib/docker/tmp
    var/lib/docker/volumes var/lib/ecs/gpu var/lib/rpm var/lib/rsyslog var/lib/systemd var/log/amazon/ssm
    var/log/audit var/log/ecs var/log/sa var/spool/cron var/tmp
"""

# Amazon Linux has /usr merged, like the hosts whose libraries are bound there.
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "../run"}

_ENABLED = {
    "multi-user.target.wants": (
        "amazon-ssm-agent.service",
        "auditd.service",
        "chronyd.service",
        "containerd.service",
        "docker.service",
        "ecs.service",
        "nvidia-kmod-load.service",
        "sshd.service",
    ),
    "sockets.target.wants": ("docker.socket",),
}


# What _make_instance writes, as far as it lies in these.
_PER_INSTANCE = (
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    *(f"etc/ssh/ssh_host_{kind}_key{half}" for kind in ("ecdsa", "ed25519") for half in ("", ".pub")),
    *(f"{home}/.ssh" for home in ("root", layout.HOME.lstrip("/"))),
    "var/lib/amazon/ssm/registration",
    "var/lib/cloud",
    "var/lib/docker/engine-id",
    "var/lib/ecs/data",
    "var/lib/systemd/random-seed",
    "var/log",
)


def host_name(instance_id: str) -> str:
    """Return the private host name of the instance, the same each time."""
    number = hashlib.sha256(instance_id.encode()).digest()
    return f"ip-10-0-{number[0]}-{4 + number[1] % 250}"


def make_root(
    root: Path,
    builder: Builder,
    user_data: UserData,
    *,
    tools: Iterable[str],
    region: str,
    parent: Path | None = None,
) -> None:
    """Fill the new folder *root*; takes some hundredths of a second.

    Args:
        root: Does not exist yet.
        builder: Whose file system it is.
        user_data: Its scripts, which the caller runs afterwards.
        tools: Names of the programs in the toolbox.
        region: Where the instance is.
        parent: The file system that the instance's AMI was made of; None for the ECS GPU AMI.
    """
    if parent is None:
        _make_image(root, tools)
        mps.install(root, builder.base)
        _make_agent(root, builder)
        _make_instance(root, builder, user_data, region)
        return
    lineage.copy(parent, root)
    # A guest has written in there: a link may lead anywhere. So what the first boot writes is made beside and moved in.
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".first-boot-") as beside:
        boot = Path(beside, "root")
        _make_image(boot, tools)
        _make_instance(boot, builder, user_data, region)
        lineage.lay_over(boot, root, _PER_INSTANCE)


def _make_image(root: Path, tools: Iterable[str]) -> None:
    """Write what is on the ECS GPU AMI. Nothing of the guest has run yet: no link in *root* can lead elsewhere."""
    shutil.copytree(_FILES, root, symlinks=True)
    for name in _FOLDERS.split():
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    (root / "etc/docker-runtimes.d/nvidia").chmod(0o755)
    _link_programs(root, tools)
    _mount_points(root)
    for folder, units in _ENABLED.items():
        wants = root / "etc/systemd/system" / folder
        wants.mkdir(parents=True)
        for unit in units:
            (wants / unit).symlink_to(f"/usr/lib/systemd/system/{unit}")
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)


def _make_instance(root: Path, builder: Builder, user_data: UserData, region: str) -> None:
    """Write what is this instance's own, and what its first minute left."""
    _identity(root, builder)
    _first_boot(root, builder, user_data, region)
    (root / "var/lib/docker/engine-id").write_text("7f0b1f9e-2c3d-4f1a-8f53-0a4b6c8d9e10")
    (root / "var/lib/ecs/data").mkdir()
    _secret(root / "var/lib/ecs/data/agent.db", f"agent state of {builder.instance_id}\n")
    _logs(root)


def _link_programs(root: Path, tools: Iterable[str]) -> None:
    """Put the toolbox's and the emulated programs where the instance has them."""
    for folder in ("usr/bin", "usr/sbin"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in tools:
        (root / "usr/bin" / name).symlink_to(f"{layout.PROGRAMS}/{name}")
    for name in COMMANDS:
        path = root / "usr/bin" / name
        path.unlink(missing_ok=True)  # an emulated program goes before a program of the host
        path.symlink_to(layout.LAUNCHER)
    (root / "usr/bin/python3").symlink_to(layout.INTERPRETER)
    for loader in host_programs.loaders():
        (root / "usr/lib" / loader.name).symlink_to(loader.readlink() if loader.is_symlink() else loader)


def _mount_points(root: Path) -> None:
    for bind in host_programs.library_binds():
        (root / bind.target.lstrip("/")).mkdir(parents=True, exist_ok=True)


def _identity(root: Path, builder: Builder) -> None:
    """Write what is this one machine's: ids, names and keys; none of it may end up in the image."""
    seed = hashlib.sha256(builder.instance_id.encode()).hexdigest()
    (root / "etc/machine-id").write_text(seed[:32] + "\n")
    (root / "etc/hostname").write_text(f"{host_name(builder.instance_id)}\n")
    (root / "etc/resolv.conf").write_text("# The guest has no network but the local AWS.\n")
    # Nobody can log in with these: the SSH server in front of the guest has a key of its own.
    for kind in ("ecdsa", "ed25519"):
        _secret(root / f"etc/ssh/ssh_host_{kind}_key", f"host key of {builder.instance_id}, not a real one\n")
        (root / f"etc/ssh/ssh_host_{kind}_key.pub").write_text(
            f"ssh-{kind} AAAA root@{host_name(builder.instance_id)}\n"
        )
    for home in ("root", layout.HOME.lstrip("/")):
        ssh = root / home / ".ssh"
        ssh.mkdir(mode=0o700)
        _secret(ssh / "authorized_keys", builder.public_key.rstrip("\n") + "\n")
    (root / "var/lib/systemd/random-seed").write_bytes(os.urandom(32))
    _secret(root / "var/lib/amazon/ssm/registration", json.dumps({"ManagedInstanceID": builder.instance_id}))
    # What /sbin/mount, df and the like read.
    (root / "etc/mtab").symlink_to("../proc/self/mounts")
    (root / "etc/localtime").symlink_to("../usr/share/zoneinfo/UTC")


def _first_boot(root: Path, builder: Builder, user_data: UserData, region: str) -> None:
    """Write what cloud-init leaves behind, and the user data's scripts for the caller to run."""
    instance = root / "var/lib/cloud/instances" / builder.instance_id
    for name in ("boothooks", "scripts", "sem"):
        (instance / name).mkdir(parents=True)
    (root / "var/lib/cloud/instance").symlink_to(f"instances/{builder.instance_id}")
    for name in ("data", "sem", "scripts/per-boot", "scripts/per-instance", "scripts/per-once"):
        (root / "var/lib/cloud" / name).mkdir(parents=True)
    (root / "var/lib/cloud/data/instance-id").write_text(f"{builder.instance_id}\n")
    (root / "var/lib/cloud/sem/config_scripts_per_once.once").write_text("")
    _secret(instance / "user-data.txt", builder.user_data)
    for script in user_data.scripts:
        path = instance / script.stage / script.name
        path.write_bytes(script.content)
        path.chmod(0o700)
    lines = [f"Cloud-init v. 22.2.2 running 'init', instance {builder.instance_id}, region {region}"]
    lines += [f"__init__.py[WARNING]: {warning}" for warning in user_data.warnings]
    (root / "var/log/cloud-init.log").write_text("\n".join(lines) + "\n")
    (root / "var/log/cloud-init-output.log").write_text("")


def _make_agent(root: Path, builder: Builder) -> None:
    """Put the ECS agent's image and its running container where Docker has them."""
    store = Store(System(root, env={}))
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"diff_ids": []}}).encode()
    image_id = f"sha256:{hashlib.sha256(config).hexdigest()}"
    store.add(config, image_id, [_AGENT_IMAGE], [])
    container_id = hashlib.sha256(builder.instance_id.encode()).hexdigest()
    store.add_container(container_id, "ecs-agent", _AGENT_IMAGE, image_id)


def _logs(root: Path) -> None:
    """Write a few lines where a running instance has some; the bake has to empty these files, not lose them."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%b %d %H:%M:%S")
    for name in ("audit/audit.log", "boot.log", "cron", "dnf.log", "ecs/ecs-init.log", "maillog", "messages", "secure"):
        (root / "var/log" / name).write_text(f"{now} localhost the instance has started\n")
    for name in ("lastlog", "wtmp", "btmp"):
        (root / "var/log" / name).write_bytes(b"\x07" + bytes(31))
    journal = root / "var/log/journal" / (root / "etc/machine-id").read_text().strip()
    journal.mkdir(parents=True)
    (journal / "system.journal").write_bytes(b"LPKSHHRH" + bytes(120))


def _secret(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)


def make_memory(run: Path, tmp: Path) -> None:
    """Make the new folders that are the instance's ``/run`` and ``/tmp`` right after a boot."""
    for name in ("lock", "systemd/system", "systemd/shutdown", "cloud-init"):
        (run / name).mkdir(parents=True)
    tmp.mkdir()
    tmp.chmod(0o1777)


def remove_tree(folder: Path) -> None:
    """Remove *folder* if it is there, whatever the guest has done to it.

    Links are not followed; folders that the guest has closed to everybody are opened first.
    """
    if not folder.is_dir():
        return
    for parent, names, _ in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)
