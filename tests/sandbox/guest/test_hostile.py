"""Code in the guest that means harm: nothing of the host is read, written, reached or typed into."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.sandbox.guest.parts import Client, Endpoint, World

_SECRET = "a-secret-of-the-host"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the host that this process could read and write."""
    file = tmp_path / "victim" / "file"
    file.parent.mkdir()
    file.write_text(_SECRET)
    return file


@pytest.fixture
def trap() -> Iterator[tuple[int, list[str]]]:
    """A service on the host's loopback that nobody in the guest may reach; each visit is noted."""
    visits: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, address = server.accept()
                visits.append(str(address))
                peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1], visits
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_a_link_to_a_host_file_is_followed_in_the_guest_only(client: Client, world: World, victim: Path) -> None:
    """Asyncssh's own file transfer overwrote and read host files through such a link, as root."""
    client.run(f"ln -s {victim} up; ln -s {victim} down; ln -s {victim.parent} folder")
    home = world.root(client) / "home/ec2-user"
    assert (home / "up").readlink() == victim  # set up: on the host this link leads to the file
    assert (home / "down").read_text() == _SECRET

    upload, into_folder = _upload(client, "up", b"overwritten"), _upload(client, "folder/new", b"overwritten")
    download = client.run("scp -f down", stdin=b"\0\0\0")

    assert not upload
    assert not into_folder
    assert "No such file or directory" in download.text
    assert _SECRET not in download.text
    assert victim.read_text() == _SECRET
    assert [path.name for path in victim.parent.iterdir()] == ["file"]


def test_the_same_path_in_the_guest_is_the_guests_own(client: Client, world: World, victim: Path) -> None:
    """Where the guest has made the folders itself, the link leads to its own file."""
    client.run(f"mkdir -p {victim.parent} && ln -s {victim} up")

    uploaded = _upload(client, "up", b"mine")
    read = client.run("cat up").stdout

    assert uploaded
    assert read == "mine"
    assert victim.read_text() == _SECRET


def _upload(client: Client, path: str, content: bytes) -> bool:
    """Upload with the protocol that Packer's file transfer speaks; return whether the guest took it."""
    name = path.rpartition("/")[2]
    answer = client.run(f"scp -t {path}", stdin=b"C0644 %d %s\n%s\0" % (len(content), name.encode(), content))
    return answer.status == 0 and "\x01" not in answer.stdout


def test_dots_do_not_lead_out(client: Client, victim: Path) -> None:
    """The root's parent is the root."""
    out = "/".join([".."] * 40)

    answers = client.run_all(
        [
            f"cat {out}{victim}",
            f"cat /proc/1/root{victim}",
            f"cat /proc/1/cwd/{out}{victim}",
            f"cat /proc/self/root{victim}",
        ]
    )
    uploaded = _upload(client, f"{out}{victim}", b"overwritten")

    assert all(answer.status == 1 and "No such file" in answer.stderr for answer in answers)
    assert not uploaded
    assert victim.read_text() == _SECRET


def test_a_host_secret_in_the_environment_stays_out(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries the sandbox has real keys in the environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", _SECRET)
    seen_outside = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout

    answer = client.run("env; sudo -E env; cat /proc/[0-9]*/environ | tr '\\0' '\\n'")

    assert _SECRET in seen_outside
    assert "AWS_SECRET_ACCESS_KEY=sandbox" in answer.stdout
    assert _SECRET not in answer.text


def test_the_clients_environment_requests_are_ignored(client: Client) -> None:
    """LD_PRELOAD by SSH would be a way to run code before the isolation is up."""
    answer = client.run("env", env={"LD_PRELOAD": "/tmp/evil.so", "BASH_ENV": "/tmp/evil"})

    assert "evil" not in answer.text


def test_only_the_local_aws_can_be_reached(client: Client, endpoint: Endpoint, trap: tuple[int, list[str]]) -> None:
    """No other port of this machine, no metadata service, no internet."""
    port, visits = trap
    with contextlib.closing(socket.create_connection(("127.0.0.1", port))):
        pass
    deadline = time.monotonic() + 300
    while not visits and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(visits) == 1  # set up: the trap notes who comes

    allowed = client.run("curl -sS $AWS_ENDPOINT_URL/from-the-guest")
    hosts = (f"127.0.0.1:{port}", f"[::1]:{port}", "169.254.169.254", "192.0.2.1", f"{_own_address()}:{port}")
    refused = client.run_all([f"curl -sS --max-time 60 http://{host}/" for host in hosts])

    assert allowed.stdout == "hello from /from-the-guest"
    assert "/from-the-guest" in endpoint.seen
    assert [answer.status for answer in refused] == [7] * len(hosts)
    assert len(visits) == 1


def _own_address() -> str:
    """Return an address of this machine that is not loopback, if it has one."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "192.0.2.2"
        return str(probe.getsockname()[0])


def test_abstract_sockets_of_the_host_are_out_of_reach(client: Client) -> None:
    """They live in the network's namespace, not in the file system: X11 and D-Bus use them."""
    name = f"\0guest-test-{os.getpid()}"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(name)
        server.listen()
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as near:
            near.connect(name)  # set up: it is reachable from here

        script = f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})"
        answer = client.run("python3 -", stdin=script.encode())

    assert "ConnectionRefusedError" in answer.stderr


def test_ssh_forwards_nothing(client: Client, trap: tuple[int, list[str]]) -> None:
    """Port forwarding runs on the host, outside the isolation."""
    port, visits = trap

    async def try_all() -> list[str]:
        refused = []
        async with client.connect() as connection:
            try:
                await connection.open_connection("127.0.0.1", port)
            except asyncssh.ChannelOpenError:
                refused.append("to a port")
            try:
                await connection.open_unix_connection("/run/dbus/system_bus_socket")
            except asyncssh.ChannelOpenError:
                refused.append("to a socket")
            try:
                await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
            except asyncssh.ChannelListenError:
                refused.append("back")
        return refused

    assert client.do(try_all()) == ["to a port", "to a socket", "back"]
    assert not visits


def test_a_wrong_key_is_refused(world: World, client: Client) -> None:
    """Only who holds the key pair of a build that runs may enter."""
    assert client.run("true").status == 0  # set up: the right key enters
    stranger = asyncssh.generate_private_key("ssh-ed25519")

    for options in (
        {"client_keys": [stranger]},
        {"username": "root"},
        {"client_keys": None, "password": "x"},
    ):
        with pytest.raises(asyncssh.PermissionDenied):
            client.do(_log_in(client, **options))


def test_the_key_of_a_build_that_ended_is_refused(world: World) -> None:
    """The list of builders counts at each log-in, not at the start."""
    client = world.add()
    assert client.run("true").status == 0
    builder = world.builders.pop(0)
    assert builder.public_key == client.key.export_public_key().decode()

    with pytest.raises(asyncssh.PermissionDenied):
        client.do(_log_in(client))


async def _log_in(client: Client, **options: object) -> None:
    async with client.connect(**options):
        pass


def test_what_runs_in_the_background_ends_with_the_guest(own_world: World) -> None:
    """A bake that leaves a loop behind must not leave it on this machine."""
    client = own_world.add()
    marker = f"beat-{os.getpid()}"
    beat = (
        f"setsid bash -c 'exec -a {marker} bash -c \"while :; do date +%N >/home/ec2-user/beat; sleep 0.02; done\"' &"
    )

    async def start_and_stop() -> None:
        async with client.connect() as connection:
            await connection.create_process(f"{beat} sleep 1000", encoding=None)
            await _until(lambda: (own_world.root(client) / "home/ec2-user/beat").exists() and _runs(marker))
            own_world.guest.stop()

    client.do(start_and_stop())

    assert not _runs(marker)
    before = (own_world.root(client) / "home/ec2-user/beat").read_text()
    time.sleep(0.2)
    assert (own_world.root(client) / "home/ec2-user/beat").read_text() == before


def test_what_runs_in_the_background_ends_with_its_command(client: Client) -> None:
    """A connection that breaks takes the command and everything it started along."""
    marker = f"orphan-{os.getpid()}"
    answer = client.run(f"(setsid bash -c 'exec -a {marker} sleep 1000' >/dev/null 2>&1 &) ; echo started")

    assert answer.stdout == "started\n"
    deadline = time.monotonic() + 300
    while _runs(marker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(marker)


async def _until(true: object, within_s: float = 300) -> None:
    import asyncio

    deadline = time.monotonic() + within_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def _runs(marker: str) -> bool:
    """Return whether this machine has a process whose first argument is *marker*."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if file.read_bytes().partition(b"\0")[0] == marker.encode():
                return True
    return False


_KERNEL_CALLS = """\
import ctypes, errno, os

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    failed = getattr(libc, name)(*arguments) < 0
    print(name, arguments[1], errno.errorcode[ctypes.get_errno()] if failed else "DONE")


REMOUNT_RW, DETACH = 32 | 4096, 2
for path in (b"/usr/libexec/guest", b"/usr/lib64", b"/proc"):
    call("mount", None, path, None, REMOUNT_RW, None)
    call("umount2", path, DETACH)
call("mknod", b"/home/ec2-user/disk", 0o60600, os.makedev(*DISK))
call("mknod", b"/home/ec2-user/memory", 0o20600, os.makedev(1, 1))
# The same from a user namespace of one's own, where one has all capabilities.
if libc.unshare(0x10000000 | 0x00020000 | 0x20000000) == 0:
    print("unshared")
    for path in (b"/usr/libexec/guest", b"/usr/lib64", b"/proc"):
        call("mount", None, path, None, REMOUNT_RW, None)
        call("umount2", path, DETACH)
    if os.fork() == 0:
        os.makedirs("/home/ec2-user/proc", exist_ok=True)
        call("mount", b"proc", b"/home/ec2-user/proc", b"proc", 0, None)
        os._exit(0)
    os.wait()
"""


def test_no_call_to_the_kernel_opens_the_walls(client: Client) -> None:
    """Neither with the rights a command has nor with those it can give itself in a namespace of its own."""
    disk = Path("/").stat().st_dev

    answer = client.run(
        "PYTHONUNBUFFERED=1 python3 -",
        stdin=_KERNEL_CALLS.replace("*DISK", f"{os.major(disk)}, {os.minor(disk)}").encode(),
    )

    assert answer.status == 0, answer.stderr
    assert answer.stdout.count("EPERM") >= 8
    assert "DONE" not in answer.stdout


def test_the_kernels_settings_are_read_only(client: Client) -> None:
    """They ask for no capability but for user number 0: a guest of root's could have written core_pattern."""
    key = "/proc/sys/vm/overcommit_memory"
    value = Path(key).read_text().strip()

    # Its own value, so that nothing happens where the isolation is missing.
    answers = client.run_all(
        [f"echo {value} > {key}", "test ! -w /proc/sys/kernel/core_pattern", "test ! -w /proc/sysrq-trigger"]
    )

    assert answers[0].status == 1
    assert "Read-only file system" in answers[0].stderr or "Permission denied" in answers[0].stderr
    assert [answer.status for answer in answers[1:]] == [0, 0]


def test_the_hosts_programs_cannot_be_changed(client: Client) -> None:
    """What is borrowed is borrowed read-only; each attempt would change nothing if it got through."""
    library = next(Path("/usr/lib").glob("*-linux-gnu/libc.so.6"))
    attempts = (": >> {0}", "touch -c -r {0} {0}", "chmod --reference={0} {0}", "mv -n {0} {0}.moved")
    own = client.run("sudo bash -c 'cd /usr/bin; echo x >mine; : >>mine; touch -c -r mine mine; rm mine'")

    refused = client.run_all(
        [
            f"sudo bash -c '{attempt.format(file)}'"
            for file, tried in (
                (library, attempts[:3]),
                ("/usr/libexec/guest/bin/tar", attempts),
                ("/usr/libexec/guest/packages/jq", attempts),
                ("/usr/libexec/guest/lib/gpu_ami_sandbox/guest/programs/sudo.py", attempts[:3]),
            )
            for attempt in tried
        ]
    )

    assert own.status == 0  # set up: the same is allowed on a file of the guest's own
    assert [answer for answer in refused if answer.status != 1 or "Read-only file system" not in answer.stderr] == []


def test_nothing_of_the_host_is_seen(client: Client) -> None:
    """Only the allow-list: no editor, no compiler, no home, no other process."""
    answer = client.run("ls /usr/bin /home /root /opt; ls -d /proc/[0-9]* | wc -l")

    names = answer.stdout.split()
    assert {"bash", "curl", "scp", "docker"} <= set(names)
    assert not {"gcc", "perl", "apt-get", "mount.fuse", "git", "vi", "su", "unshare"} & set(names)
    assert int(names[-1]) < 10


def test_other_users_cannot_reach_what_the_guest_leaves(client: Client, world: World) -> None:
    """A guest of root's can leave a set-user-id program; nobody else may get at it."""
    client.run("cp /usr/bin/bash mine && chmod 4755 mine")
    left = world.root(client) / "home/ec2-user/mine"

    assert left.stat().st_mode & 0o4000  # set up: it is there
    assert (world.home / "roots").stat().st_mode & 0o077 == 0
    assert left.is_relative_to(world.home / "roots")


_TYPIST = """\
import fcntl, os, sys, termios
try:
    terminal = os.open("/dev/tty", os.O_RDWR)
except OSError as exc:
    sys.exit(f"closed {exc.errno}")
print("opened", flush=True)
for letter in sys.argv[1]:
    fcntl.ioctl(terminal, termios.TIOCSTI, letter.encode())
print("typed", flush=True)
"""

_UNDER_A_TERMINAL = """\
import subprocess, sys, tempfile
from pathlib import Path
from tests.sandbox.guest.parts import running_guest

typist = {typist!r}
control = subprocess.run([sys.executable, "-c", typist, "CONTROL"], capture_output=True, text=True)
print("control:", control.stdout.split(), flush=True)
with tempfile.TemporaryDirectory() as home, running_guest(Path(home), 40001) as world:
    client = world.add()
    for pty in (False, True):
        answer = client.run("python3 - GUEST", stdin=typist.encode(), term_type="xterm" if pty else None)
        print("guest:", answer.text.split(), flush=True)
"""


def test_nothing_is_typed_into_the_hosts_terminal() -> None:
    """Without --new-session guest code opened /dev/tty and TIOCSTI typed commands into the caller's shell."""
    said, typed = _run_under_a_terminal(_UNDER_A_TERMINAL.format(typist=_TYPIST))

    assert "control: ['opened'" in said  # set up: there is a terminal to open
    if "'typed'" in said.partition("guest:")[0]:  # where the kernel still lets anybody type, it shows
        assert "CONTROL" in typed
    assert said.count(f"guest: ['closed', '{errno.ENXIO}']") == 2
    assert "GUEST" not in typed


def _run_under_a_terminal(program: str) -> tuple[str, str]:
    """Run *program* as the leader of a new terminal; return what it printed and what was typed into the terminal."""
    reader, writer = os.pipe()
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - another process
        os.dup2(writer, 1)
        os.execve(sys.executable, [sys.executable, "-c", textwrap.dedent(program)], os.environ | {"PYTHONPATH": "."})
    os.close(writer)
    output, echoed = b"", b""
    ends = select.poll()  # not select(): a worker of the tests may have more than 1,024 files open
    ends.register(reader, select.POLLIN)
    ends.register(terminal, select.POLLIN)
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            ready = {descriptor for descriptor, _ in ends.poll(1000)}
            if terminal in ready:
                with contextlib.suppress(OSError):
                    echoed += os.read(terminal, 65536)
            if reader in ready:
                data = os.read(reader, 65536)
                if not data:
                    break
                output += data
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
        os.close(reader)
    return output.decode(), echoed.decode()
