"""What the emulated programs do when they do not refuse, on the files of a fresh instance."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from gpu_ami_sandbox.guest.programs import (
    chown,
    cloud_init,
    dnf,
    identity,
    journalctl,
    kernel,
    mount,
    rpm,
    shutdown,
    sudo,
    systemctl,
)
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.programs.units import Units
from tests.sandbox.guest.parts import Inside, Watched

View = Callable[..., Inside]


def _run(module: object, command: str, here: Inside) -> str:
    """Run an emulated program; return its status and both streams, and forget the streams."""
    status = module.main(command.split(), here.system)  # type: ignore[attr-defined]
    text = f"{status}: {here.text}".rstrip("\n")
    here.system.out = here.out = io.StringIO()
    here.system.err = here.err = io.StringIO()
    return text


# systemctl


def test_enabling_links_and_disabling_unlinks(inside: View) -> None:
    """The links are what an instance of the image boots by."""
    here = inside()
    link = here.system.root / "etc/systemd/system/multi-user.target.wants/nvidia-persistenced.service"

    enabled = _run(systemctl, "systemctl enable --now nvidia-persistenced", here)
    linked = str(link.readlink())
    state = _run(systemctl, "systemctl is-enabled nvidia-persistenced", here)
    active = _run(systemctl, "systemctl is-active nvidia-persistenced", here)
    again = _run(systemctl, "systemctl enable nvidia-persistenced", here)
    disabled = _run(systemctl, "systemctl disable --now nvidia-persistenced", here)

    file = "/usr/lib/systemd/system/nvidia-persistenced.service"
    assert enabled == f"0: Created symlink /{link.relative_to(here.system.root)} → {file}."
    assert linked == file
    assert (state, active, again) == ("0: enabled", "0: active", "0: ")
    assert disabled.startswith("0: Removed ")
    assert not link.is_symlink()
    assert _run(systemctl, "systemctl is-enabled nvidia-persistenced", here) == "1: disabled"
    assert _run(systemctl, "systemctl is-active nvidia-persistenced", here) == "3: inactive"


def test_masking_goes_before_everything(inside: View) -> None:
    """The bake masks the agent, and the image must have it enabled again."""
    here = inside()

    masked = _run(systemctl, "systemctl mask --now ecs.service", here)

    assert masked == "0: Created symlink /etc/systemd/system/ecs.service → /dev/null."
    assert _run(systemctl, "systemctl mask ecs", here) == "0: "
    assert _run(systemctl, "systemctl is-enabled ecs", here) == "1: masked"
    assert "masked" in _run(systemctl, "systemctl status ecs", here)
    assert _run(systemctl, "systemctl show -p LoadState --value ecs", here) == "0: masked"
    assert _run(systemctl, "systemctl unmask ecs", here) == '0: Removed "/etc/systemd/system/ecs.service".'
    assert _run(systemctl, "systemctl is-enabled ecs", here) == "0: enabled"  # its link was there all along
    assert _run(systemctl, "systemctl mask --runtime ecs", here).endswith(
        "/run/systemd/system/ecs.service → /dev/null."
    )
    assert _run(systemctl, "systemctl mask no-such-unit", here).startswith(
        "0: Unit no-such-unit.service does not exist"
    )


def test_a_unit_of_the_bakes_own_cannot_be_masked(inside: View) -> None:
    """A file in /etc is in the way of the link, as on a real instance."""
    here = inside()
    (here.system.root / "etc/systemd/system/mine.service").write_text("[Service]\nExecStart=/bin/true\n")

    assert "File /etc/systemd/system/mine.service already exists" in _run(systemctl, "systemctl mask mine", here)
    assert _run(systemctl, "systemctl is-enabled mine", here) == "0: static"


def test_templates_and_drop_ins_are_units_too(inside: View) -> None:
    """A prewarm unit may be one for each device; Docker's staging folder is a drop-in."""
    here = inside()
    units = here.system.root / "etc/systemd/system"
    (units / "warm@.service").write_text("[Unit]\nDescription=Warm %i\n[Install]\nWantedBy=multi-user.target\n")
    (units / "docker.service.d").mkdir()
    (units / "docker.service.d/a.conf").write_text("[Service]\nEnvironment=A=b\n")

    assert _run(systemctl, "systemctl enable warm@xvda", here).startswith("0: Created symlink")
    assert _run(systemctl, "systemctl is-enabled warm@xvda.service", here) == "0: enabled"
    assert _run(systemctl, "systemctl show --property=Environment docker", here) == "0: Environment=A=b"
    assert "FragmentPath=/usr/lib/systemd/system/docker.service" in _run(systemctl, "systemctl show docker", here)


def test_the_agent_writes_its_state_when_it_stops(inside: View) -> None:
    """Who empties /var/lib/ecs/data first and stops the agent then bakes the state in."""
    here = inside()
    systemctl.boot_agent(here.system)
    state = here.system.root / "var/lib/ecs/data/agent.db"
    state.unlink()

    assert _run(systemctl, "systemctl stop ecs", here) == "0: "
    assert state.exists()
    state.unlink()
    assert _run(systemctl, "systemctl stop ecs", here) == "0: "
    assert not state.exists()  # it was down already


def test_a_masked_agent_does_not_start_at_boot(inside: View) -> None:
    """The user data's mask counts: the unit waits for cloud-init."""
    here = inside()
    _run(systemctl, "systemctl mask ecs", here)

    systemctl.boot_agent(here.system)

    assert not Units(here.system).is_active("ecs.service")
    assert Units(here.system).is_active("docker.service")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("systemctl restart docker", "0: "),
        ("systemctl restart docker.service --no-block", "0: "),
        ("systemctl kill auditd", "0: "),
        (
            "systemctl stop docker",
            "0: Warning: Stopping docker.service, but it can still be activated by:",
        ),
        ("systemctl start ecs", "0: "),
        ("systemctl daemon-reload", "0: "),
        ("systemctl reset-failed", "0: "),
        ("systemctl is-active --quiet docker", "0: "),
        ("systemctl is-enabled -q docker", "0: "),
        ("systemctl --failed --no-pager", "0:   UNIT LOAD ACTIVE SUB DESCRIPTION\n0 loaded units listed."),
        ("systemctl reboot", "0: "),
    ],
)
def test_verbs(inside: View, command: str, says: str) -> None:
    """Each verb that scripts use answers as systemd's."""
    assert _run(systemctl, command, inside()).startswith(says)


def test_lists_name_what_runs(inside: View) -> None:
    """collect-logs prints them after a failure."""
    here = inside()

    assert "docker.service loaded active running" in _run(systemctl, "systemctl", here)
    assert "active (running)" in _run(systemctl, "systemctl status docker", here)
    assert _run(systemctl, "systemctl status nvidia-persistenced", here).startswith("3: ○")


# dnf and rpm


def test_an_update_needs_the_releasever(inside: View) -> None:
    """Amazon Linux 2023 is locked to its AMI's release: a bare update finds nothing."""
    here = inside()

    assert "Nothing to do." in _run(dnf, "dnf -y update", here)
    assert _run(dnf, "dnf -y -q update", here) == "0: "
    updated = _run(dnf, "dnf -y --releasever=latest update", here)

    assert "system-release-2023.12.20261102" in updated
    assert "2023.12.20261102" in (here.system.root / "etc/os-release").read_text()
    assert "Nothing to do." in _run(dnf, "dnf -y --releasever latest update", here)


def test_locked_packages_stay(inside: View) -> None:
    """A bake must not break the driver; who deletes the lock gets a newer one."""
    here = inside()

    assert "nvidia" not in _run(dnf, "dnf -y --releasever=latest update", here)
    assert "nvidia-driver-3:580.159.03" in _run(dnf, "dnf versionlock list", here)
    _run(dnf, "dnf versionlock delete nvidia-driver", here)
    assert "nvidia-driver-580.173.02" in _run(dnf, "dnf -y --releasever=latest update nvidia-driver", here)
    _run(dnf, "dnf versionlock add nvidia-driver", here)
    assert "nvidia-driver-0:580.173.02-1.amzn2023.*" in _run(dnf, "dnf versionlock", here)


_STACK = ("containerd", "docker", "ecs-init", "runc")


@pytest.mark.parametrize(
    ("option", "kept"),
    [
        ("", ()),
        ("--exclude=docker,containerd,runc,ecs-init", _STACK),
        ("--exclude docker --exclude=containerd", ("containerd", "docker")),
        ("-x run?,ecs*", ("ecs-init", "runc")),
        ("--exclude=", ()),
    ],
)
def test_what_is_excluded_stays(inside: View, option: str, kept: tuple[str, ...]) -> None:
    """The base AMI locks neither Docker nor the ECS agent: who does not exclude them gets newer ones."""
    here = inside()

    updated = _run(dnf, f"dnf -y --releasever=latest {option} update", here)

    assert [name for name in _STACK if f"  {name}-" not in updated] == list(kept)
    assert "openssl-libs-3.2.2-1.amzn2023.0.5" in updated
    assert _run(rpm, "rpm -q docker", here).startswith("0: docker-25.0.1" + ("6" if "docker" in kept else "7"))


def test_installed_means_there(inside: View) -> None:
    """The link in /usr/bin is what `command -v` finds."""
    here = inside(stdin="y\n")
    aws = here.system.root / "usr/bin/aws"

    assert "Is this ok" in _run(dnf, "dnf install awscli-2 docker", here)
    assert aws.is_symlink()
    assert "already installed" in _run(dnf, "dnf -y install awscli-2", here)
    assert _run(rpm, "rpm -q awscli-2", here) == "0: awscli-2-2.30.4-1.amzn2023.0.1.x86_64"


def test_what_dnf_leaves_is_what_clean_removes(inside: View) -> None:
    """A bake without the clean-up must fail its image check."""
    here = inside()
    cache = here.system.root / "var/cache/dnf"

    _run(dnf, "dnf -y update", here)

    assert list(cache.iterdir())
    assert (here.system.root / "var/lib/dnf/history.sqlite").exists()
    assert _run(dnf, "dnf clean all", here) == "0: 1 files removed"
    assert list(cache.iterdir()) == []
    cache.rmdir()
    assert _run(dnf, "dnf clean all", here) == "0: 0 files removed"


@pytest.mark.parametrize(
    ("command", "status"),
    [("dnf", 1), ("dnf -y install", 1), ("dnf update --releasever=latest", 1)],
)
def test_dnf_without_an_answer_does_nothing(inside: View, command: str, status: int) -> None:
    """A script that forgets -y must not go on."""
    here = inside()

    assert _run(dnf, command, here).startswith(f"{status}: ")
    assert _run(rpm, "rpm -q docker", here).startswith("0: docker-25")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-q", "--queryformat", "%{VERSION}-%{RELEASE}\\n", "docker"], "25.0.16-1.amzn2023.0.1\n"),
        (["-qa", "--qf=%{NAME}\\t%{ARCH}\\n", "ecs-*"], "ecs-init\tx86_64\n"),
        (["-q", "-a", "--queryformat=%{NAME}\\n", "run?"], "runc\n"),
    ],
)
def test_rpm_formats(inside: View, arguments: list[str], says: str) -> None:
    """The release record is written with these."""
    here = inside()

    assert rpm.main(["rpm", *arguments], here.system) == 0
    assert here.out.getvalue() == says


# sudo, id and their like


def test_sudo_resets_the_environment(inside: View) -> None:
    """A script that leans on the caller's variables fails on AWS, so it must fail here."""
    here = inside("ec2-user", SECRET="x", LANG="C.UTF-8", AWS_REGION="changed")

    sudo.main(["sudo", "true"], here.system)
    sudo.main(["sudo", "-E", "A=b", "true"], here.system)
    sudo.main(["sudo", "-nu", "true"], here.system)
    sudo.main(["sudo", "-n", "-H", "--user=ec2-user", "--", "true"], here.system)
    sudo.main(["sudo", "--preserve-env=SECRET", "true"], here.system)

    plain, kept, as_user, preserved = (env for _, env in here.became)
    assert "SECRET" not in plain
    assert plain["USER"] == "root"
    assert plain["HOME"] == "/root"
    assert plain["SUDO_USER"] == "ec2-user"
    assert plain["PATH"] == "/sbin:/bin:/usr/sbin:/usr/bin"
    assert plain["LANG"] == "C.UTF-8"
    assert plain["AWS_REGION"] == "ap-northeast-2"  # the instance's own, as from its metadata
    assert (kept["SECRET"], kept["A"], kept["PATH"]) == ("x", "b", plain["PATH"])
    assert as_user["USER"] == "ec2-user"
    assert as_user["HOME"] == "/home/ec2-user"
    assert preserved["SECRET"] == "x"


@pytest.mark.parametrize(
    ("user", "command", "says"),
    [
        ("root", "id -u", "0"),
        ("ec2-user", "id -u", "1000"),
        ("ec2-user", "id -un", "ec2-user"),
        ("root", "id -gn ec2-user", "ec2-user"),
        ("root", "id -g ec2-user", "1000"),
        ("ec2-user", "id", "uid=1000(ec2-user) gid=1000(ec2-user) groups=1000(ec2-user),4(adm),10(wheel)"),
        ("root", "id", "uid=0(root) gid=0(root) groups=0(root)"),
        ("ec2-user", "whoami", "ec2-user"),
        ("stranger", "whoami", "root"),
        ("root", "hostname", "ip-10-0-1-2"),
    ],
)
def test_who_and_where(inside: View, user: str, command: str, says: str) -> None:
    """Sudo changes who one is."""
    assert _run(identity, command, inside(user)).startswith(f"0: {says}")


@pytest.mark.parametrize(
    "command",
    [
        "chown -R root:root /opt",
        "chown 1000:1000 /etc/hosts",
        "chown :adm /etc/hosts",
        "chown ec2-user /etc/mtab",
        "chown --reference=/etc/passwd /etc/hosts",
    ],
)
def test_chown_takes_what_the_real_one_takes(inside: View, command: str) -> None:
    """Names, numbers, links and references."""
    assert _run(chown, command, inside()) == "0: "


def test_sync_takes_files_that_are_there(inside: View) -> None:
    """The bake ends with it; it must not flush the host's disks."""
    here = inside()

    assert _run(kernel, "sync", here) == "0: "
    assert _run(kernel, "sync /etc/hosts", here) == "0: "


# mount, shutdown, cloud-init, journalctl


def test_memory_can_be_mounted_and_is_emptied(inside: View) -> None:
    """The bake stages Docker's layers in a tmpfs and takes it away again."""
    here = inside()
    folder = here.system.root / "run/layers"
    (folder / "inner").mkdir(parents=True)

    mounted = _run(mount, "mount -t tmpfs -o size=512m,mode=0700 name /run/layers", here)
    (folder / "layer").touch()
    unmounted = _run(mount, "umount /run/layers", here)

    assert (mounted, unmounted) == ("0: ", "0: ")
    assert list(folder.iterdir()) == []
    assert "not mounted" in _run(mount, "umount /run/layers", here)
    assert "permission denied" in _run(mount, "mount --types tmpfs name /opt", here)


_NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        ("-h +240", "poweroff"),
        ("-r +5", "reboot"),
        ("", "poweroff"),
        ("--poweroff +1", "poweroff"),
    ],
)
def test_a_shutdown_is_scheduled_in_memory(inside: View, arguments: str, mode: str) -> None:
    """On the volume it would end every instance of the image."""
    here = inside()
    before = {path for path in here.system.root.rglob("*") if not path.is_relative_to(here.system.root / "run")}

    said = _run(shutdown, f"shutdown {arguments}", here)

    assert "scheduled for" in said
    assert f"MODE={mode}" in (here.system.root / "run/systemd/shutdown/scheduled").read_text()
    assert {path for path in here.system.root.rglob("*") if not path.is_relative_to(here.system.root / "run")} == before
    assert _run(shutdown, "shutdown -c", here) == "0: "
    assert not (here.system.root / "run/systemd/shutdown/scheduled").exists()


@pytest.mark.parametrize(
    ("command", "power"),
    [("shutdown -r now", "reboot"), ("reboot", "reboot"), ("poweroff", "poweroff")],
)
def test_the_power_goes_at_once(inside: View, command: str, power: str) -> None:
    """The mark tells the host; killing everything is left to a system that is one."""
    here = inside()

    assert _run(shutdown, command, here) == "0: "
    assert (here.system.root / "run/systemd/shutdown" / power).exists()


@pytest.mark.parametrize(
    ("timer", "service", "within_s"),
    [
        ("OnCalendar=2999-01-01 00:00:00 UTC\nOnBootSec=45min", "ExecStart=/usr/bin/systemctl poweroff", 45 * 60),
        ("OnCalendar=2001-01-01 00:00:00 UTC\nOnActiveSec=7", "ExecStart=/usr/bin/systemctl poweroff", 7),
        ("OnCalendar=2001-01-01 00:00:00 UTC", "ExecStart=/usr/bin/systemctl poweroff", None),
        ("OnCalendar=daily\nOnBootSec=1week", "ExecStart=/usr/bin/systemctl poweroff", None),
        ("OnBootSec=1s", "ExecStart=/usr/bin/true", None),
    ],
)
def test_a_timer_that_switches_off_is_noted_in_memory(
    inside: View, timer: str, service: str, within_s: int | None
) -> None:
    """The earliest of its times counts, one that is past never comes, and other timers switch nothing off."""
    here = inside()
    units = here.system.root / "etc/systemd/system"
    (units / "end.timer").write_text(f"[Timer]\n{timer}\n[Install]\nWantedBy=timers.target\n")
    (units / "end.service").write_text(f"[Service]\n{service}\n")
    note = here.system.root / "run/systemd/shutdown/timer"

    assert _run(systemctl, "systemctl enable --now end.timer", here).startswith("0: ")

    assert note.exists() == (within_s is not None)
    if within_s is not None:
        due = int(note.read_text().partition("USEC=")[2].splitlines()[0]) / 1e6
        assert 0 <= time.time() + within_s - due < 60
    assert _run(systemctl, "systemctl stop other.timer end.timer", here).startswith("5: ")
    assert not note.exists()


@pytest.mark.parametrize("arguments", ["25:00", "+x"])
def test_times_that_are_none_are_refused(inside: View, arguments: str) -> None:
    """A typo must not leave a builder without its end."""
    assert "Failed to parse time specification" in _run(shutdown, f"shutdown -h {arguments}", inside())


def test_nothing_is_killed_outside_of_a_guest(tmp_path: Path) -> None:
    """This very process would be among it."""
    System(tmp_path, env={}, out=io.StringIO()).end_everything()
    System("/", env={}, out=io.StringIO()).end_everything()


def test_cloud_init_runs_boothooks_at_every_boot_and_scripts_once(inside: View) -> None:
    """Boothooks, twice at the first boot, then scripts by name; a second boot runs the boothooks alone.

    cloud-init 22.2.2 does so (handlers/boot_hook.py, cmd/main.py), and only warns of a boothook that fails.
    """
    here = inside()
    instance = here.system.root / "var/lib/cloud/instance"
    log = here.system.root / "order"
    for stage, name in (("scripts", "b"), ("scripts", "a"), ("boothooks", "z")):
        script = instance / stage / name
        script.write_text(f"#!/bin/sh\necho {name} >>{log}\n[ {stage} = scripts ]\n")
        script.chmod(0o700)
    (instance / "scripts/c").write_text("#!/no/such/interpreter\n")
    (instance / "scripts/c").chmod(0o700)

    first = _run(cloud_init, "cloud-init modules --mode=final", here)
    second = _run(cloud_init, "cloud-init modules --mode=final", here)

    assert (first, second) == ("0: ", "0: ")
    assert log.read_text().split() == ["z", "z", "a", "b", "z"]
    status = _run(cloud_init, "cloud-init status --long", here)
    assert "No such file" in status
    assert "boothooks/z" not in status
    assert (here.system.root / "var/log/cloud-init.log").read_text().count("Boothooks script") == 3


def test_cloud_init_cleans_what_it_knows_of(inside: View) -> None:
    """An image with the builder's state would think that it has booted before."""
    here = inside()
    cloud = here.system.root / "var/lib/cloud"
    (cloud / "seed").mkdir()
    (cloud / "stray").touch()

    assert _run(cloud_init, "cloud-init status", here) == "0: status: done"
    assert _run(cloud_init, "cloud-init clean --logs", here) == "0: "

    assert [path.name for path in cloud.iterdir()] == ["seed"]
    assert not (here.system.root / "var/log/cloud-init.log").exists()
    assert "invalid choice" in _run(cloud_init, "cloud-init query", here)


def test_the_journal_is_rotated_and_vacuumed(inside: View) -> None:
    """Both are needed: vacuuming alone leaves the file in use."""
    here = inside()
    folder = next((here.system.root / "var/log/journal").iterdir())

    rotated = _run(journalctl, "journalctl --rotate", here)
    files = {path.name for path in folder.iterdir()}
    vacuumed = _run(journalctl, "journalctl --vacuum-time=1s", here)

    assert rotated == "0: "
    assert len(files) == 2
    assert "Vacuuming done" in vacuumed
    assert [path.name for path in folder.iterdir()] == ["system.journal"]
    (folder / "system.journal").unlink()
    assert _run(journalctl, "journalctl --rotate", here) == "0: "
    assert _run(journalctl, "journalctl -u docker --no-pager", here) == "0: -- No entries --"


def test_a_system_becomes_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be started is told apart: not there, or not a program."""
    system = System(tmp_path, env={}, out=io.StringIO())
    closed = tmp_path / "closed"
    closed.write_text("")

    assert system.become([str(tmp_path / "missing")], {}) == 127
    assert system.become([str(closed)], {}) == 126
    assert isinstance(Watched(tmp_path), System)
    system.path("/usr/libexec/guest").mkdir(parents=True)
    system.path("/usr/libexec/guest/instance.json").write_text(json.dumps({"AWS_REGION": "x"}))
    assert system.profile() == {"AWS_REGION": "x"}
