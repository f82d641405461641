"""Opening the sandbox: alone, attached, after a crash, twice at once, and never outliving its process."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import __version__
from gpu_ami.aws.sts import identify
from gpu_ami.console import Console
from gpu_ami.errors import SafetyError, ToolError, UsageError
from gpu_ami.process import Command, run
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox import session
from gpu_ami_sandbox.aws import run_command
from gpu_ami_sandbox.guest.builder import Builder, Gpus
from gpu_ami_sandbox.guest.script import Ran, Script
from gpu_ami_sandbox.session import Sandbox, builders, exports, lent, open_sandbox, running_session, serve
from tests.support.resources import REGION, an_instance

_ENDS_WITHIN_S = 300.0
# Of version 0.1.0 before it said its version.
FIRST_SESSION = Path(__file__).parents[1] / "data" / "v0" / "session.json"


class FakeGuest:
    """Takes what the guest takes; its SSH is a number."""

    port = 2222
    running: set[Path] = set()  # noqa: RUF012 - shared on purpose: what is left here was not stopped
    fails = False

    last: FakeGuest

    def __init__(
        self,
        *,
        home: Path,
        endpoint_port: int,
        region: str,
        builders: Callable[[], list[Builder]],
        powered_off: Callable[[str], object],
    ) -> None:
        """Note where it lives."""
        self.home, self.builders, self.powered_off = home, builders, powered_off
        self.scripts: list[tuple[Builder, str]] = []
        FakeGuest.last = self

    def start(self) -> None:
        """Run, or fail as a machine without bubblewrap does."""
        if self.fails:
            msg = "bubblewrap is missing: run `invoke setup`."
            raise ToolError(msg)
        self.running.add(self.home)

    def stop(self) -> None:
        """End."""
        self.running.remove(self.home)

    def script(self, builder: Builder, text: str) -> Script:
        """Note the script; it has ended at once."""
        self.scripts.append((builder, text))
        done: concurrent.futures.Future[Ran] = concurrent.futures.Future()
        done.set_result(Ran(0, "seen", ""))
        return Script(done)

    def root_of(self, instance_id: str) -> Path:
        """Return what the real one returns."""
        return self.home / "roots" / instance_id


@pytest.fixture(autouse=True)
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeGuest]]:
    """No bubblewrap here: the guest has tests of its own."""
    monkeypatch.setattr("gpu_ami_sandbox.guest.Guest", FakeGuest)
    monkeypatch.setattr(FakeGuest, "fails", False)
    yield FakeGuest
    assert FakeGuest.running == set()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A repository of its own."""
    return Workspace(tmp_path, sandbox=True)


def opened(
    workspace: Workspace, *, region: str = REGION, with_guest: bool = False
) -> contextlib.AbstractContextManager[Sandbox]:
    """Open a sandbox quietly."""
    return open_sandbox(workspace, region=region, console=Console(err=io.StringIO()), with_guest=with_guest)


@contextlib.contextmanager
def serving(workspace: Workspace) -> Iterator[io.StringIO]:
    """Keep a sandbox up in another thread, as `invoke sandbox` does in another process; yield what it says."""
    stop, said = threading.Event(), io.StringIO()
    arguments: dict[str, Any] = {"region": REGION, "console": Console(err=said), "stop": stop}
    thread = threading.Thread(target=serve, args=(workspace,), kwargs=arguments)
    thread.start()
    try:
        wait_for(lambda: (workspace.state / "session.json").exists())
        yield said
    finally:
        stop.set()
        thread.join(_ENDS_WITHIN_S)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    end = time.monotonic() + _ENDS_WITHIN_S
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def is_open(url: str) -> bool:
    """Return whether anything listens at a loopback URL."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def write_session(workspace: Workspace, **changed: Any) -> Path:
    """Write the session file of a sandbox that is not there, and return its path."""
    document = {
        "endpoint_url": "http://127.0.0.1:9",
        "pid": os.getpid(),
        "token": "t",
        "guest_port": None,
        "region": REGION,
        "account": {},
        "version": __version__,
    }
    path = workspace.state / "session.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document | changed))
    return path


def test_alone_it_starts_and_ends_with_the_block(workspace: Workspace) -> None:
    """Nothing outlives the invocation but files."""
    with opened(workspace) as sandbox:
        assert identify(sandbox.access).account == sandbox.account.account_id
        assert sandbox.attached is False
        assert is_open(str(sandbox.access.endpoint_url))
        assert sandbox.gate is not None
        assert len(sandbox.gate.calls) == 1

    assert not is_open(str(sandbox.access.endpoint_url))
    assert not (workspace.state / "session.json").exists()
    assert (workspace.state / "home" / "empty").read_bytes() == b""


def test_it_ends_when_the_block_fails(workspace: Workspace) -> None:
    """Also on Ctrl-C."""
    with pytest.raises(KeyboardInterrupt), opened(workspace, with_guest=True) as sandbox:
        os.kill(os.getpid(), signal.SIGINT if sandbox.guest_port else 0)

    assert not is_open(str(sandbox.access.endpoint_url))
    with opened(workspace):
        pass


def test_programs_get_an_environment_that_leads_nowhere_else(workspace: Workspace) -> None:
    """Only the local endpoint, dummy keys and empty configuration."""
    with opened(workspace) as sandbox:
        environment = sandbox.access.child_environment({"EXTRA": "1"})

    assert environment["AWS_ENDPOINT_URL"] == sandbox.access.endpoint_url
    assert environment["HOME"] == str(workspace.state / "home")
    assert environment["EXTRA"] == "1"
    assert Path(environment["AWS_CONFIG_FILE"]).read_bytes() == b""
    assert exports(sandbox).items() <= environment.items()
    assert all(name.startswith("AWS_") for name in exports(sandbox))


def test_a_region_that_does_not_exist_is_one_line(workspace: Workspace) -> None:
    """Not a traceback out of moto."""
    with pytest.raises(UsageError, match="knows no region 'mars-north-1'"), opened(workspace, region="mars-north-1"):
        pass


def test_two_at_once_in_one_folder_are_refused(workspace: Workspace) -> None:
    """They would overwrite each other's manifest; the message says what to do."""
    with (
        opened(workspace),
        pytest.raises(
            SafetyError, match=r"is using \.sandbox/: wait for it \(`invoke sandbox` says when it is up\), or run"
        ),
        opened(workspace),
    ):
        pass


def test_a_folder_that_cannot_be_written_to_is_one_line(workspace: Workspace) -> None:
    """A full disk, or another user's folder: it is named, and a way out."""
    workspace.state.mkdir()
    (workspace.state / "home").write_text("")

    with (
        pytest.raises(UsageError, match=r"cannot start: .+home\)\. Make \.sandbox a folder .* or a link"),
        opened(workspace),
    ):
        pass


def test_what_is_not_the_disks_fault_is_not_put_on_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken: another folder would not help."""

    def taken(*_: object, **__: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("gpu_ami_sandbox.session._start", taken)

    with pytest.raises(OSError, match="Address already in use"), opened(workspace):
        pass


def test_a_link_to_another_disk_is_where_everything_is(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The file systems of builders take room: people move the folder and leave a link."""
    disk = tmp_path_factory.mktemp("disk")
    (workspace.root / ".sandbox").symlink_to(disk)

    for _ in range(2):  # the second one finds what the first has left
        workspace.check_sandbox_folder()
        with opened(workspace) as sandbox:
            assert sandbox.access.child_environment({})["HOME"] == str(disk / "home")
    assert workspace.state == disk
    assert workspace.shown(workspace.manifest) == ".sandbox/manifest.json"


def test_the_notes_of_killed_builds_go_with_their_sandbox(workspace: Workspace) -> None:
    """What they left was in an AWS that is gone."""
    workspace.logs.mkdir(parents=True)
    note = workspace.logs / f"build-20261130T080000Z-abcdef.{REGION}.123456789012.gpu-batch.unfinished"
    note.write_text("")

    with opened(workspace):
        assert not note.exists()


def test_two_at_once_in_two_folders_are_fine(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two checkouts on one machine."""
    other = Workspace(tmp_path_factory.mktemp("other"), sandbox=True)

    with opened(workspace) as first, opened(other) as second:
        assert first.access.endpoint_url != second.access.endpoint_url


def test_a_running_one_is_attached_to_and_goes_on(workspace: Workspace) -> None:
    """State is shared between invocations, and survives them."""
    with serving(workspace):
        with opened(workspace, with_guest=True) as first:
            instance = an_instance(first.access.client("ec2"))
        with opened(workspace) as second:
            found = second.access.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"]

        assert (first.attached, second.attached) == (True, True)
        assert first.gate is None
        assert first.account == second.account
        assert len(found) == 1
        assert (first.guest_host, first.guest_port) == ("127.0.0.1", FakeGuest.port)
        assert first.guest_root("i-1") == workspace.state / "guest" / "roots" / "i-1"


def test_a_running_one_says_how_to_use_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exports lead any AWS program there, from a folder with a blank in its name, too."""
    monkeypatch.setattr(session, "exports", lambda sandbox: {**exports(sandbox), "AWS_CONFIG_FILE": "/my repo/empty"})
    with serving(workspace) as said, opened(workspace) as sandbox:
        text = said.getvalue()

        assert f"export AWS_ENDPOINT_URL={sandbox.access.endpoint_url}\n" in text
        assert "export AWS_SECRET_ACCESS_KEY=sandbox\n" in text
        assert "export AWS_CONFIG_FILE='/my repo/empty'\n" in text
        assert f"SSH is at 127.0.0.1:{FakeGuest.port}." in text


def test_the_session_file_is_private_and_goes_away(workspace: Workspace) -> None:
    """It holds the token that proves who is at the endpoint."""
    path = workspace.state / "session.json"

    with serving(workspace):
        assert path.stat().st_mode & 0o777 == 0o600
        assert json.loads(path.read_text())["pid"] == os.getpid()

    assert not path.exists()


def test_a_second_server_is_refused(workspace: Workspace) -> None:
    """One sandbox per folder."""
    with serving(workspace), pytest.raises(SafetyError, match=f"runs already .process {os.getpid()}"):
        serve(workspace, region=REGION, console=Console(err=io.StringIO()))


def test_another_region_than_the_running_ones_is_refused(workspace: Workspace) -> None:
    """Its demo account is elsewhere: nothing would be found."""
    with (
        serving(workspace),
        pytest.raises(UsageError, match="is in ap-northeast-2, not in us-east-1: give --region ap-northeast-2"),
        opened(workspace, region="us-east-1"),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_server(workspace: Workspace, number: signal.Signals) -> None:
    """Ctrl-C is the way to end it, and no error; the old handlers are back afterwards."""
    before = signal.getsignal(number)

    def send() -> None:
        wait_for(lambda: (workspace.state / "session.json").exists())
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    serve(workspace, region=REGION, console=Console(err=io.StringIO()))
    sender.join()

    assert signal.getsignal(number) == before
    assert running_session(workspace) is None


def ended_pid() -> int:
    """Return the id of a process that has ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.mark.parametrize(
    "changed",
    [
        {"pid": None},
        {},
        {"endpoint_url": "http://127.0.0.1:0"},
        {"endpoint_url": "nonsense"},
        {"more": 1},
        {"version": "0.0.1"},
    ],
    ids=["process gone", "nobody answers", "no port", "no URL", "another shape", "another version's"],
)
def test_a_stale_session_is_removed(workspace: Workspace, changed: dict[str, Any]) -> None:
    """After a crash or a power cut the next invocation starts afresh and says nothing."""
    if changed == {"pid": None}:
        changed = {"pid": ended_pid()}
    path = write_session(workspace, **changed)

    with opened(workspace) as sandbox:
        assert sandbox.attached is False

    assert not path.exists()


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 1', "\x00"], ids=["empty", "a list", "cut off", "binary"])
def test_a_broken_session_file_is_removed(workspace: Workspace, content: str) -> None:
    """Whatever is in it."""
    path = write_session(workspace)
    path.write_text(content)

    assert running_session(workspace) is None
    with opened(workspace):
        assert not path.exists()


def test_another_program_on_the_port_is_not_attached_to(workspace: Workspace) -> None:
    """Ports and process ids are used again: the token tells."""
    with opened(workspace) as sandbox:
        path = write_session(workspace, endpoint_url=sandbox.access.endpoint_url, token="somebody else's")

        assert running_session(workspace) is None
        path.unlink()


def test_a_sandbox_that_is_slow_to_answer_keeps_its_file(workspace: Workspace) -> None:
    """One invocation gives up; the next ones attach again."""
    with serving(workspace):
        path = workspace.state / "session.json"
        document = path.read_text()
        path.write_text(json.dumps(json.loads(document) | {"endpoint_url": "http://127.0.0.1:9"}))

        with pytest.raises(SafetyError, match="Another invocation is using"), opened(workspace):
            pass
        path.write_text(document)
        with opened(workspace) as sandbox:
            assert sandbox.attached is True


@pytest.mark.parametrize(
    ("changed", "theirs"),
    [({"version": "0.0.1"}, "version 0.0.1"), ({"version": "9.0.0", "later": 1}, "version 9.0.0"), ({}, "an earlier")],
    ids=["older", "newer", "without a version"],
)
def test_a_sandbox_of_another_version_is_not_attached_to(
    workspace: Workspace, changed: dict[str, Any], theirs: str
) -> None:
    """What its demo account holds is a guess; starting one beside it would say "another invocation" and not why."""
    with serving(workspace):
        path = workspace.state / "session.json"
        document = json.loads(path.read_text())
        assert document.pop("version") == __version__
        assert document.keys() == json.loads(FIRST_SESSION.read_text()).keys()
        path.write_text(json.dumps(document | changed))

        with pytest.raises(UsageError, match=f"is of {theirs}.*end it with Ctrl-C") as refused, opened(workspace):
            pass

    assert "\n" not in str(refused.value)


def test_attaching_does_not_import_moto(workspace: Workspace) -> None:
    """It takes two seconds: more than many a task that attaches."""
    program = (
        "import io, sys; from pathlib import Path; from gpu_ami.console import Console;"
        "from gpu_ami_sandbox import open_sandbox; from gpu_ami.workspace import Workspace;"
        "opened = open_sandbox(Workspace(Path(sys.argv[1]), sandbox=True), region='ap-northeast-2',"
        " console=Console(err=io.StringIO()), with_guest=True);"
        "sandbox = opened.__enter__();"
        "print(sandbox.attached, {'moto', 'boto3', 'asyncssh'} & set(sys.modules))"
    )

    with serving(workspace):
        child = run(Command((sys.executable, "-c", program, str(workspace.root))), timeout_s=300)

    assert child.stdout == "True set()\n", child.stderr


def test_a_process_of_another_user_counts_as_alive(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal to it is not permitted; then the endpoint decides."""

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    with serving(workspace):
        monkeypatch.setattr(os, "kill", refuse)

        assert running_session(workspace) is not None


def test_a_guest_is_started_once_it_is_asked_for_and_stopped(workspace: Workspace, guest: type[FakeGuest]) -> None:
    """Its address and its roots are what the build needs; a cleanup needs neither."""
    with opened(workspace, with_guest=True) as sandbox:
        assert guest.running == set()
        assert (sandbox.guest_host, sandbox.guest_port) == ("127.0.0.1", guest.port)
        assert sandbox.guest_port == guest.port
        assert guest.running == {workspace.state / "guest"}
        assert sandbox.guest_root("i-1") == workspace.state / "guest" / "roots" / "i-1"

    assert guest.running == set()


def test_without_a_guest_there_is_no_root(workspace: Workspace) -> None:
    """A clear error, not a None somewhere else."""
    with opened(workspace) as sandbox, pytest.raises(ToolError, match="no build instance to log in to"):
        sandbox.guest_root("i-1")

    assert (sandbox.guest_host, sandbox.guest_port) == (None, None)


def test_a_machine_that_cannot_have_a_guest(workspace: Workspace, guest: type[FakeGuest]) -> None:
    """A build fails with the reason, and leaves nothing running."""
    guest.fails = True

    with opened(workspace, with_guest=True) as sandbox, pytest.raises(ToolError, match="bubblewrap is missing"):
        _ = sandbox.guest_port
    with opened(workspace):
        pass


def test_serving_without_a_guest_still_serves_the_aws(workspace: Workspace, guest: type[FakeGuest]) -> None:
    """`cleanup --sandbox` works on macOS; a build that attaches is told why it can't."""
    guest.fails = True

    with serving(workspace) as said:
        with opened(workspace) as sandbox:
            assert identify(sandbox.access).account == sandbox.account.account_id
        with pytest.raises(ToolError, match="no build instance"), opened(workspace, with_guest=True):
            pass
        assert "bubblewrap is missing" in said.getvalue()


def _launch(sandbox: Any, **more: Any) -> str:
    """Start an instance whose profile lets SSM's agent report."""
    iam, ec2 = sandbox.access.client("iam"), sandbox.access.client("ec2")
    actions = ["ssm:UpdateInstanceInformation", "ssmmessages:*"]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    profile = sandbox.account.instance_profile
    iam.put_role_policy(RoleName=profile, PolicyName="ssm", PolicyDocument=json.dumps(document))
    answer = ec2.run_instances(
        ImageId=sandbox.account.live_ami_id,
        MinCount=1,
        MaxCount=1,
        SubnetId=sandbox.account.subnet_id,
        IamInstanceProfile={"Name": profile},
        **more,
    )
    return str(answer["Instances"][0]["InstanceId"])


def test_run_commands_scripts_reach_the_guest(
    workspace: Workspace, guest: type[FakeGuest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance without a key pair runs commands, too; the guest starts for the first one."""
    monkeypatch.setattr(run_command, "ONLINE_AFTER_S", 0.0)
    monkeypatch.setattr(run_command, "KNOWN_AFTER_S", 0.0)
    with opened(workspace, with_guest=True) as sandbox:
        ssm, instance = sandbox.access.client("ssm"), _launch(sandbox)
        sent = ssm.send_command(
            DocumentName="AWS-RunShellScript", InstanceIds=[instance], Parameters={"commands": ["id", "uptime"]}
        )["Command"]
        seen = ssm.get_command_invocation(CommandId=sent["CommandId"], InstanceId=instance)

        assert (seen["Status"], seen["StandardOutputContent"]) == ("Success", "seen")
        ((builder, text),) = guest.last.scripts
        assert (builder.instance_id, text) == (instance, "id\nuptime")

    assert not run_command.RUNNERS


@pytest.mark.parametrize(("behaviour", "state"), [("terminate", "terminated"), ("stop", "stopped")])
@pytest.mark.usefixtures("guest")
def test_a_power_off_from_inside_ends_the_instance(workspace: Workspace, behaviour: Any, state: str) -> None:
    """That is the dead man's switch of whatever starts instances and may be killed."""
    with opened(workspace, with_guest=True) as sandbox:
        instance = _launch(sandbox, InstanceInitiatedShutdownBehavior=behaviour)

        FakeGuest.last.powered_off(instance)
        FakeGuest.last.powered_off("i-0123456789abcdef0")

        (row,) = sandbox.access.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"]
        assert row["Instances"][0]["State"]["Name"] == state


def test_who_can_be_logged_in_to(workspace: Workspace) -> None:
    """Running instances with a key pair, the newest first, with their user data as it was given."""
    with opened(workspace) as sandbox:
        ec2 = sandbox.access.client("ec2")
        for name in ("first", "second", "gone"):
            ec2.create_key_pair(KeyName=name, KeyType="ed25519")
        ended = an_instance(ec2, KeyName="first")
        ec2.terminate_instances(InstanceIds=[ended])
        older = an_instance(ec2, KeyName="first", UserData="#!/bin/sh\necho ü\n")
        newer = an_instance(ec2, KeyName="second")
        an_instance(ec2)
        an_instance(ec2, KeyName="gone")
        ec2.delete_key_pair(KeyName="gone")

        found = builders(sandbox.account.account_id, REGION)

        assert [b.instance_id for b in found][:2] == [newer, older]
        assert ended not in [b.instance_id for b in found]
        assert found[0].public_key.startswith("ssh-ed25519 ")
        assert (found[0].user_data, found[1].user_data) == (b"", "#!/bin/sh\necho ü\n".encode())
        assert found[0].gpus is None


def test_an_instance_has_the_gpus_of_its_type_and_the_fault_of_its_ami(workspace: Workspace) -> None:
    """The guest knows nothing of EC2: this is where it learns what the instance has."""
    with opened(workspace) as sandbox:
        ec2 = sandbox.access.client("ec2")
        ec2.create_key_pair(KeyName="key", KeyType="ed25519")
        launch = {"MinCount": 1, "MaxCount": 1, "KeyName": "key", "ImageId": sandbox.account.source_ami_id}
        ec2.run_instances(**launch, InstanceType="g5.12xlarge")
        good = builders(sandbox.account.account_id, REGION)[0]
        ec2.create_tags(Resources=[launch["ImageId"]], Tags=[{"Key": "sandbox:gpu", "Value": "driver-mismatch"}])
        rigged = builders(sandbox.account.account_id, REGION)[0]

        assert good.gpus == Gpus("A10G", 22888, 4)
        assert rigged.gpus == Gpus("A10G", 22888, 4, "driver-mismatch")


def test_a_sandbox_that_has_ended_leaves_no_connection(tmp_path: Path) -> None:
    """A process that opens many, as the tests do, would run out of descriptors."""

    def sockets() -> int:
        descriptors = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum(str(path.readlink()).startswith("socket:") for path in descriptors)

    def open_once() -> None:
        console = Console(err=io.StringIO())
        workspace = Workspace(tmp_path, sandbox=True)
        with open_sandbox(workspace, region=REGION, console=console, with_guest=False) as sandbox:
            sandbox.access.client("ec2").describe_vpcs()

    open_once()
    before = sockets()
    open_once()

    assert sockets() <= before


def test_a_sandbox_of_one_command_can_be_lent(workspace: Workspace) -> None:
    """Builds side by side are processes that share one; who attaches knows that it ends with who lent it."""
    with opened(workspace) as sandbox:
        with lent(workspace, sandbox):
            assert (workspace.state / "session.json").stat().st_mode & 0o777 == 0o600
            with opened(workspace) as theirs:
                assert (theirs.attached, theirs.is_lasting, theirs.identity) == (True, False, sandbox.identity)
                with lent(workspace, theirs):
                    pass
            assert running_session(workspace) is not None
        assert running_session(workspace) is None
