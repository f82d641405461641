"""The guest as Packer meets it: log-in, boot, commands, files, power."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import asyncssh
import pytest

from gpu_ami import tools
from gpu_ami.errors import ToolError
from gpu_ami.measure.power_off import user_data
from gpu_ami_sandbox.guest import Builder, Guest, Ran, Script, host_programs, interpreter, machine
from gpu_ami_sandbox.guest.userdata import UserData
from tests.sandbox.guest.parts import REGION, Client, Endpoint, World, running_guest


def test_an_instance_looks_like_the_ecs_ami(client: Client, world: World) -> None:
    """The scripts look for exactly these files."""
    answer = client.run(
        ". /etc/os-release; echo $ID $VERSION_ID; cat /var/lib/ecs/ecs.config; wc -c </etc/ecs/ecs.config; "
        "test -x /etc/docker-runtimes.d/nvidia && test -s /var/lib/ecs/data/agent.db && test -d /var/lib/ecs/deps && "
        "test ! -e /var/lib/ecs/gpu/nvidia-gpu-info.json && test -s /etc/machine-id && ls /etc/ssh/ssh_host_*_key; "
        "df --output=avail /"
    )

    lines = answer.stdout.split()
    assert lines[:4] == ["amzn", "2023", "ECS_ENABLE_GPU_SUPPORT=true", "0"]
    assert "/etc/ssh/ssh_host_ed25519_key" in lines
    assert int(lines[-1]) > 0
    keys = (world.root(client) / "home/ec2-user/.ssh/authorized_keys").read_text()
    assert keys == client.key.export_public_key().decode()


def test_status_streams_and_input_are_the_commands_own(client: Client) -> None:
    """Packer judges a step by its status and shows both streams."""
    answer = client.run("cat; echo out; echo err >&2; exit 42", stdin=b"given\n")

    assert (answer.status, answer.stdout, answer.stderr) == (42, "given\nout\n", "err\n")


@pytest.mark.parametrize(
    ("command", "status"), [("kill -TERM $$", 143), ("no-such-program", 127), ("/etc/hosts", 126), ("false", 1)]
)
def test_every_kind_of_end_is_told(client: Client, command: str, status: int) -> None:
    """A provisioner that dies must not be taken for one that ended well."""
    assert client.run(command).status == status


def test_a_pipe_that_closes_early_is_no_error(client: Client) -> None:
    """Python ignores SIGPIPE and its children inherit that: `yes | head` would complain."""
    answer = client.run("set -o pipefail; yes | head -n 1; echo ${PIPESTATUS[0]}")

    assert answer.stdout == "y\n141\n"
    assert answer.stderr == ""


def test_a_shell_without_a_command_reads_its_input(client: Client) -> None:
    """`ssh guest` works for whoever looks around by hand."""

    async def talk() -> str:
        async with client.connect() as connection:
            done = await connection.run(None, input="echo $((6 * 7)); exit\n")
            return str(done.stdout)

    assert "42" in client.do(talk())


def test_a_terminal_is_granted_and_pipes_are_given(client: Client) -> None:
    """Packer's ssh_pty asks for one; the command works without."""
    assert client.run("test -t 0 || echo no terminal", term_type="xterm").stdout == "no terminal\n"


def test_large_streams_arrive_whole(client: Client) -> None:
    """File transfer rests on it."""
    data = os.urandom(3 * 1024 * 1024)

    async def send() -> bytes:
        async with client.connect() as connection:
            done = await connection.run("cat", input=data, encoding=None)
            return bytes(done.stdout)

    assert client.do(send()) == data


def test_a_client_that_leaves_ends_its_command(client: Client, world: World) -> None:
    """A killed Packer must not leave its step running."""
    beat = world.home / "roots"

    async def leave() -> Path:
        async with client.connect() as connection:
            await connection.create_process("while :; do date +%N >beat; sleep 0.01; done")
            file = world.root(client) / "home/ec2-user/beat"
            while not file.exists() or not file.read_text():
                await asyncio.sleep(0.01)
            return file

    file = client.do(leave())

    assert file.is_relative_to(beat)
    deadline = time.monotonic() + 300
    last = ""
    while (now := file.read_text()) != last and time.monotonic() < deadline:
        last = now
        time.sleep(0.2)
    assert now == last


def test_user_data_runs_once_before_the_first_command(world: World) -> None:
    """The bake's user data masks the ECS agent and schedules the builder's end; both must be done by then."""
    client = world.add(
        b"#!/bin/bash\nsleep 0.2\nid -un >>/var/lib/ran\nsystemctl mask --now ecs.service\nshutdown -h +60\n"
    )

    first, second = client.run_all(["cat /var/lib/ran; systemctl is-enabled ecs", "cat /var/lib/ran"])
    status = client.run(
        "cloud-init status --wait; cat /run/systemd/shutdown/scheduled; cat /var/log/cloud-init-output.log"
    )

    assert first.stdout == "root\nmasked\n"
    assert second.stdout == "root\n"
    assert status.stdout.startswith("status: done\n")
    assert "MODE=poweroff" in status.stdout
    assert "Shutdown scheduled for" in status.stdout


def test_user_data_that_fails_is_told_by_cloud_init(world: World) -> None:
    """The instance can be logged in to all the same, as on AWS."""
    client = world.add(b"#!/bin/bash\necho trouble >&2\nexit 3\n")

    answer = client.run("cloud-init status --long; echo $?; cat /var/log/cloud-init.log")

    assert "status: error" in answer.stdout
    assert "part-001 [3]" in answer.stdout


def test_a_shutdown_in_user_data_switches_the_instance_off(world: World) -> None:
    """Nobody can run anything on an instance that is down, and the host goes on."""
    client = world.add(b"#!/bin/bash\nshutdown -h now\n")

    assert client.run("true").status is None  # the connection breaks
    with pytest.raises(asyncssh.PermissionDenied):
        client.run("true")


def test_memory_is_gone_after_a_reboot_and_files_are_not(client: Client) -> None:
    """What lies in /run or /tmp is in no image."""
    client.run("echo x >/tmp/file; sudo bash -c 'echo x >/run/file'; echo x >file; sudo systemctl stop docker")
    before = client.run("ls /tmp/file /run/file file; systemctl is-active docker")

    broken = client.run("sudo reboot")
    after = client.run("ls /tmp/file /run/file file; systemctl is-active docker")

    assert broken.status is None
    assert before.stdout.split() == ["/run/file", "/tmp/file", "file", "inactive"]
    assert after.stdout.split() == ["file", "active"]


def test_each_instance_has_files_of_its_own(world: World) -> None:
    """Two builds at once must not meet."""
    one, other = world.add(), world.add()

    one.run("echo one >file")
    answer = other.run("cat file; hostname")

    assert "No such file" in answer.stderr
    assert one.run("hostname").stdout != answer.stdout


def test_a_root_is_made_quickly(world: World) -> None:
    """Log-in, file system, boot and command together: Packer notices nothing."""
    client = world.add()
    world.add().run("true")  # whatever is slow only once
    begun = time.monotonic()

    client.run("true")

    # About 0.2 s on an idle machine; the bound only tells that from a boot, whatever else runs here.
    assert time.monotonic() - begun < 30


def test_old_roots_are_kept_but_not_all(endpoint: Endpoint, tmp_path: Path) -> None:
    """Tests read what a bake left; a hundred bakes must not fill the disk."""
    home = tmp_path / "guest"
    for number in range(7):
        old = home / "roots" / f"i-old{number}"
        (old / "closed").mkdir(parents=True)
        (old / "closed").chmod(0)
        os.utime(old, (number, number))
    with running_guest(home, endpoint.port) as world:
        world.add().run("true")

    left = sorted(path.name for path in (home / "roots").iterdir())
    assert left == [world.builders[0].instance_id, "i-old3", "i-old4", "i-old5", "i-old6"]
    assert not (home / "live").exists()


def test_a_new_process_starts_an_instance_anew(endpoint: Endpoint, tmp_path: Path) -> None:
    """The sandbox gives out the same ids each time: what the last run left under an id is not this run's."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    builder = Builder("i-0123456789abcdef0", key.export_public_key().decode())
    for _ in range(2):
        guest = Guest(home=tmp_path, endpoint_port=endpoint.port, region=REGION, builders=lambda: [builder])
        guest.start()
        client = Client(guest, key)
        answer = client.run("cat mark; echo x >mark")
        client.loop.close()
        guest.stop()

        assert "No such file" in answer.stderr

    assert (guest.root_of("i-0123456789abcdef0") / "home/ec2-user/mark").exists()


def test_scp_copies_both_ways(client: Client, world: World, tmp_path: Path) -> None:
    """Packer's file provisioners: the host's scp here, the guest's there, and the mode bits kept."""
    key = tmp_path / "key"
    client.key.write_private_key(str(key))
    key.chmod(0o600)
    source = tmp_path / "a file"
    source.write_bytes(os.urandom(200_000))
    source.chmod(0o754)
    options = ["-O", "-q", "-P", str(client.guest.port), "-i", str(key), "-F", "none", "-o", "StrictHostKeyChecking=no"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"]
    scp = shutil.which("scp") or "scp"

    up = subprocess.run(
        [scp, *options, source, "ec2-user@127.0.0.1:/tmp/b"], capture_output=True, text=True, check=False
    )
    down = subprocess.run(
        [scp, *options, "ec2-user@127.0.0.1:/tmp/b", tmp_path / "c"], capture_output=True, text=True, check=False
    )

    assert (up.returncode, up.stderr) == (0, "")
    assert (down.returncode, down.stderr) == (0, "")
    assert (tmp_path / "c").read_bytes() == source.read_bytes()
    assert client.run("stat -c %a /tmp/b").stdout == "754\n"


@pytest.mark.parametrize("subsystem", ["sftp", "netconf"])
def test_subsystems_are_refused(client: Client, subsystem: str) -> None:
    """Asyncssh's own SFTP works on the host's files; it must not be reachable."""

    async def ask() -> None:
        async with client.connect() as connection:
            await connection.create_process(subsystem=subsystem)

    with pytest.raises(asyncssh.ChannelOpenError):
        client.do(ask())


def test_a_builder_with_a_broken_key_locks_nobody_else_out(world: World) -> None:
    """Key pairs of the local AWS may hold anything."""
    client = world.add()
    world.builders.insert(0, Builder("i-broken", "not a key"))
    try:
        assert client.run("true").status == 0
    finally:
        world.builders.pop(0)


def test_the_newest_instance_with_a_key_is_meant(world: World) -> None:
    """Two instances of one key pair: Packer has just started the newer one."""
    client = world.add()
    older = world.builders[0]
    world.builders.insert(0, Builder("i-newest", older.public_key))
    try:
        client.run("true")
    finally:
        world.builders.pop(0)

    assert (world.guest.root_of("i-newest") / "etc/hostname").exists()
    assert not world.guest.root_of(older.instance_id).exists()


def test_a_missing_local_aws_is_told_by_the_tools(endpoint: Endpoint, tmp_path: Path) -> None:
    """A connection that is closed at once, not one that hangs."""
    # Taken and not listened at: no other program can get it meanwhile.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with running_guest(tmp_path, closed.getsockname()[1]) as world:
            answer = world.add().run("curl -sS --max-time 60 $AWS_ENDPOINT_URL")

    assert answer.status in (52, 56)  # empty reply, or reset


def test_a_long_home_is_no_obstacle(endpoint: Endpoint, tmp_path: Path) -> None:
    """A unix socket's path may have 107 bytes; a checkout's may be longer."""
    home = tmp_path / ("long" * 20) / ("longer" * 20)
    with running_guest(home, endpoint.port) as world:
        answer = world.add().run("curl -sS $AWS_ENDPOINT_URL/far")

    assert answer.stdout == "hello from /far"


def test_a_guest_that_was_not_started_has_no_port(tmp_path: Path) -> None:
    """A sandbox that attaches to another process's guest asks only where its files are."""
    guest = Guest(home=tmp_path, endpoint_port=1, region=REGION, builders=list)

    guest.stop()  # nothing to do
    assert guest.root_of("i-1") == tmp_path / "roots" / "i-1"
    with pytest.raises(RuntimeError, match="not started"):
        _ = guest.port


@pytest.mark.parametrize("what", ["bwrap", "a program", "the AWS CLI"])
def test_what_is_missing_is_a_tool_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """One line and exit status 3, not a traceback of a thread."""
    if what == "bwrap":
        monkeypatch.setattr(tools, "guest_tools", _raise)
    elif what == "a program":
        monkeypatch.setattr(host_programs, "REQUIRED", ("no-such-program",))
    else:
        monkeypatch.setattr("gpu_ami_sandbox.guest.interpreter._AWS_CLI", "no-such-distribution")
    guest = Guest(home=tmp_path / "home", endpoint_port=1, region=REGION, builders=list)

    with pytest.raises(ToolError, match=r"run `invoke setup`|uv sync"):
        guest.start()

    assert not (tmp_path / "home" / "live").exists()


def _raise() -> None:
    msg = "bubblewrap is missing: run `invoke setup`."
    raise ToolError(msg)


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "is ended"])
def test_the_aws_cli_is_compiled_meanwhile(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """It takes a second or two and must neither hold up the start nor outlive the guest."""
    marker = tmp_path / "compiled"
    program = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(float(sys.argv[2]))"
    monkeypatch.setattr("gpu_ami_sandbox.guest._COMPILE", program)
    monkeypatch.setattr(interpreter, "uncompiled", lambda: [marker, "0" if ends else "1000"])
    begun = time.monotonic()

    with running_guest(tmp_path / "home", endpoint.port) as world:
        assert not marker.exists()  # nobody has logged in yet
        socket.create_connection(("127.0.0.1", world.guest.port)).close()
        while not marker.exists() and time.monotonic() - begun < 120:
            time.sleep(0.01)
        time.sleep(0.1 if ends else 0)

    assert marker.exists()
    assert time.monotonic() - begun < 300


def test_loaders_outside_of_the_bound_folders_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On arm64 the loader is in /lib itself."""
    link = tmp_path / "ld-linux-aarch64.so.1"
    link.symlink_to("aarch64-linux-gnu/ld-linux-aarch64.so.1")
    file = tmp_path / "ld-linux.so.2"
    file.touch()
    monkeypatch.setattr(host_programs, "loaders", lambda: [link, file])

    machine.make_root(tmp_path / "root", Builder("i-1", "key"), UserData(), tools=[], region=REGION)

    made = tmp_path / "root/usr/lib"
    assert str((made / link.name).readlink()) == "aarch64-linux-gnu/ld-linux-aarch64.so.1"
    assert (made / file.name).readlink() == file


def _ran(script: Script) -> Ran:
    """Wait for *script*."""
    until = time.monotonic() + 300
    while (ran := script.result()) is None and time.monotonic() < until:
        time.sleep(0.01)
    assert ran is not None
    return ran


def test_a_script_runs_as_root_from_a_file_of_its_own(own_world: World) -> None:
    """Run Command needs no key pair; its first line may name the interpreter, its standard input is empty."""
    builder = Builder("i-00000000000000abc", "")

    ran = _ran(
        own_world.guest.script(builder, "#!/bin/bash\nid -u; [[ -n $BASH ]]; echo $?; wc -c; echo no >&2; exit 7\n")
    )

    assert (ran.status, ran.output.split(), ran.errors) == (7, ["0", "0", "0"], "no\n")
    assert not list((own_world.guest.root_of(builder.instance_id) / "var/lib/amazon/ssm").glob("script.*"))


def test_a_script_that_asks_for_a_reboot_runs_again(own_world: World) -> None:
    """Exit status 194; what was in /run is gone then."""
    text = "test -e /var/once && { ls /run/once 2>/dev/null; exit 5; }; touch /var/once /run/once; exit 194"

    ran = _ran(own_world.guest.script(Builder("i-00000000000000abd", ""), text))

    assert (ran.status, ran.output) == (5, "")


def test_a_script_is_killed_with_what_it_started(own_world: World) -> None:
    """A cancelled command leaves nothing behind."""
    builder = Builder("i-00000000000000abe", "")
    script = own_world.guest.script(builder, "touch /var/begun; sleep 600 & wait; touch /var/ended")
    begun = own_world.guest.root_of(builder.instance_id) / "var/begun"
    until = time.monotonic() + 300
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.01)

    script.kill()

    assert _ran(script).status is None
    assert not (begun.parent / "ended").exists()


@pytest.mark.parametrize(
    "text",
    [
        "systemctl poweroff",
        # In a second, while a script runs.
        "shutdown -h +9; file=/run/systemd/shutdown/scheduled; echo USEC=$(( ($(date +%s) + 1) * 1000000 )) >$file",
    ],
)
def test_whoever_started_it_learns_of_a_power_off(endpoint: Endpoint, tmp_path: Path, text: str) -> None:
    """EC2 ends an instance that switches itself off, at once or when a scheduled time has come."""
    off: list[str] = []
    guest = Guest(
        home=tmp_path / "guest", endpoint_port=endpoint.port, region=REGION, builders=list, powered_off=off.append
    )
    guest.start()
    try:
        builder = Builder("i-00000000000000abf", "")
        _ran(guest.script(builder, text))
        until = time.monotonic() + 300
        while not off and time.monotonic() < until:
            time.sleep(0.01)

        assert off == [builder.instance_id]
        assert _ran(guest.script(builder, "true")).status is None
    finally:
        guest.stop()


@pytest.mark.parametrize("left_s", [8, 4], ids=["after the reboot", "during it"])
def test_the_power_off_of_a_measurement_survives_a_reboot(endpoint: Endpoint, tmp_path: Path, left_s: int) -> None:
    """Status 194 reboots, and so does a kernel that panics: what was scheduled in memory is lost, the instance billed.

    It counts from the first boot: with each boot anew, an instance that reboots over and over would never end.
    """
    off: list[str] = []
    guest = Guest(
        home=tmp_path / "guest", endpoint_port=endpoint.port, region=REGION, builders=list, powered_off=off.append
    )
    guest.start()
    try:
        builder = Builder("i-00000000000000ac3", "", user_data(45).encode())
        cloud, timer = "/var/lib/cloud/instance/gpu-ami-power-off", "/etc/systemd/system/gpu-ami-power-off.timer"
        once = f"test -e /var/once || {{ touch /var/once; echo $(( $(date +%s) + 900 )) >{cloud}; exit 194; }}"
        first = _ran(guest.script(builder, f"date +%s; cat {cloud}; systemctl is-active gpu-ami-power-off.timer"))
        again = _ran(guest.script(builder, f"{once}; cat {cloud}; grep OnCalendar {timer}"))
        now, due, state = first.output.split()
        noted, written = again.output.splitlines()

        assert int(now) + 45 * 60 - 30 <= int(due) <= int(now) + 45 * 60
        assert state == "active"
        assert written == f"OnCalendar={datetime.fromtimestamp(int(noted), timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        assert off == []

        soon = f"touch /var/twice; echo $(( $(date +%s) + {left_s} )) >{cloud}; exit 194"
        ended = _ran(guest.script(builder, f"test -e /var/twice || {{ {soon}; }}; sleep 600"))
        until = time.monotonic() + 300
        while not off and time.monotonic() < until:
            time.sleep(0.01)

        assert (off, ended.status) in [([builder.instance_id], status) for status in (None, -9)]
    finally:
        guest.stop()


def test_a_scheduled_shutdown_can_be_cancelled_and_is_no_way_out(own_world: World) -> None:
    """The file is the guest's to write: a link or a pipe there must neither be followed nor hold anything up."""
    builder = Builder("i-00000000000000ac0", "")
    now = "file=/run/systemd/shutdown/scheduled; rm -f $file; shutdown -h +9; "
    now += "echo USEC=$(( $(date +%s) * 1000000 )) >$file; "
    for trick in ("shutdown -c", "rm $file; mkfifo $file", "rm $file; ln -s /etc/hostname $file", "echo USEC=x >$file"):
        assert _ran(own_world.guest.script(builder, now + trick)).status == 0

    assert _ran(own_world.guest.script(builder, "echo up")).output == "up\n"
