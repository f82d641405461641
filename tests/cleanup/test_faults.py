"""Faults at every single call: nothing needed is ever deleted, the journal is true, a re-run completes."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.cleanup import Request
from gpu_ami.cleanup.journal import read
from gpu_ami.cleanup.journal_events import DELETED
from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import PipelineError
from gpu_ami_sandbox.aws.gate import Call, ConnectionCutError, Fault, error_answer
from gpu_ami_sandbox.demo.uses import USES
from tests.support.account import REGION, World, task

ROOT = Path(__file__).parents[2]
YES = Request(flags=Flags(older_than="30d", keep="1"), yes=True, permanent=True)
# A run has fewer calls than LAST, and none of those before FIRST_ACT changes anything.
FIRST_ACT, LAST = 79, 82


@dataclass
class Account:
    """An account with AMIs that must stay and AMIs that should go."""

    here: World
    needed: dict[str, set[str]]
    unused: dict[str, set[str]]

    def check_needed(self) -> None:
        """Fail if anything that is needed is gone."""
        assert set(self.needed) <= self.here.there()
        for snapshots in self.needed.values():
            assert snapshots <= self.here.snapshots_there()

    def check_journals(self, folder: Path) -> None:
        """Fail if a journal says something that is not so."""
        there = self.here.there()
        for path in folder.glob("*.jsonl"):
            for image_id, entry in read(path).entries.items():
                assert entry.status != "done" or image_id not in there
                assert entry.status != "failed" or image_id in there
                for snapshot_id, outcome in entry.snapshot_status.items():
                    assert outcome != DELETED or snapshot_id not in self.here.snapshots_there()

    def is_untouched(self) -> bool:
        """Return whether nothing was changed yet."""
        images = self.needed | self.unused
        snapshots = {snapshot_id for ids in images.values() for snapshot_id in ids}
        return self.here.there() == set(images) and snapshots <= self.here.snapshots_there()

    def check_clean(self) -> None:
        """Fail if something that is unused is left."""
        assert self.here.there() == set(self.needed)
        assert self.here.snapshots_there() == {snapshot_id for ids in self.needed.values() for snapshot_id in ids}


@pytest.fixture
def account(here: World) -> Account:
    """A small account with each way of being needed that costs a call, and two AMIs that nothing needs."""
    needed = [here.newest()]
    for number, reason in enumerate(["running_instance", "template_alias", "batch_image_id", "launch_permission"]):
        image = here.image(100 + number)
        USES[reason](here.maker, image)
        needed.append(image)
    unused = [here.image(200), here.image(300)]
    return Account(
        here,
        {image.id: set(image.snapshot_ids) for image in needed},
        {image.id: set(image.snapshot_ids) for image in unused},
    )


def _try(account: Account, root: Path) -> PipelineError | None:
    try:
        cleanup.run(task(account.here, root).run, YES)
    except PipelineError as exc:
        return exc
    return None


def _calls_of_a_whole_run(account: Account, root: Path) -> int:
    assert _try(account, root) is None
    account.check_clean()
    return len(account.here.aws.gate.calls)


def test_the_tests_below_try_every_call_of_a_run(account: Account, tmp_path: Path) -> None:
    """If a run grew longer, or began to act earlier, some of its calls would go untested."""
    assert _calls_of_a_whole_run(account, tmp_path) < LAST
    assert "DeregisterImage" not in account.here.calls()[:FIRST_ACT]
    assert account.here.calls()[0] == "GetCallerIdentity"


def _strike_from(account: Account, number: int, answer: Callable[[Call, Any], Any]) -> None:
    def strike(call: Call, environ: Any) -> Any:
        return answer(call, environ) if call.number >= number else None

    account.here.aws.gate.add(Fault(strike))


def _cut(_call: Call, _environ: Any) -> None:
    raise ConnectionCutError


def _after_the_storm(account: Account, root: Path) -> None:
    account.check_needed()
    account.check_journals(root / "logs")
    account.here.aws.gate.clear()
    if account.is_untouched() and not list(root.iterdir()):
        # Neither on AWS nor here anything is left of it: the next run is `_calls_of_a_whole_run`.
        return
    assert _try(account, root) is None
    account.check_needed()
    account.check_journals(root / "logs")
    account.check_clean()


@pytest.mark.parametrize("number", range(1, LAST))
def test_the_network_goes_away_at_every_call(account: Account, tmp_path: Path, number: int) -> None:
    """From call k on there is no network; afterwards a new run finishes."""
    _strike_from(account, number, _cut)

    problem = _try(account, tmp_path)

    assert problem is None or problem.exit_code in (4, 7, 8)
    if number == 1:  # whose account it is, is not known: nothing has begun
        assert problem is not None
        assert problem.exit_code == 4
        assert not list(tmp_path.iterdir())
    _after_the_storm(account, tmp_path)


@contextlib.contextmanager
def _between(account: Account, change: Callable[[dict[str, Any], Any, list[bytes]], list[bytes]]) -> Iterator[None]:
    """Put *change* between AWS and the network; it gets each request, the status and the whole answer."""
    gate = account.here.aws.gate
    inner = gate._application

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        started: list[Any] = []
        body = list(inner(environ, lambda *given: started.append(given)))
        changed = change(environ, started[0][0], body)
        headers = [pair for pair in started[0][1] if pair[0].lower() != "content-length"]
        start_response(started[0][0], [*headers, ("Content-Length", str(len(b"".join(changed))))])
        return changed

    gate._application = application
    try:
        yield
    finally:
        gate._application = inner


@pytest.mark.parametrize("number", range(FIRST_ACT, LAST))
def test_the_answer_to_every_call_is_lost_after_it_was_done(
    account: Account, tmp_path: Path, over_http: None, number: int
) -> None:
    """AWS does what was requested, and nobody hears of it: the most dangerous fault for a journal."""

    def lose(environ: dict[str, Any], _status: str, body: list[bytes]) -> list[bytes]:
        if environ["sandbox.call"].number >= number:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionCutError
        return body

    with _between(account, lose):
        _try(account, tmp_path)

    _after_the_storm(account, tmp_path)


def test_every_call_is_lost_once(account: Account, tmp_path: Path, over_http: None) -> None:
    """Networks lose a packet; the call is made again and the run does not notice."""
    account.here.aws.gate.add(Fault(_first_time(_cut)))

    assert _try(account, tmp_path) is None
    account.check_clean()
    account.check_journals(tmp_path / "logs")


def test_every_call_is_throttled_twice(account: Account, tmp_path: Path) -> None:
    """AWS throttles whenever it likes, and each call in its turn."""

    def throttle(_call: Call, environ: Any) -> Any:
        return error_answer(environ, "RequestLimitExceeded", "Request limit exceeded.", 503)

    for _ in range(2):
        account.here.aws.gate.add(Fault(_first_time(throttle)))

    assert _try(account, tmp_path) is None
    account.check_clean()


def _first_time(answer: Callable[[Call, Any], Any]) -> Callable[[Call, Any], Any]:
    """Return a fault that strikes each different call once; the SDK's own calls for the credentials are spared."""
    struck: set[str] = set()

    def strike(call: Call, environ: Any) -> Any:
        what = f"{call.service} {call.action} {sorted(call.parameters.items(), key=str)}"
        if call.service == "sts" or what in struck:
            return None
        struck.add(what)
        return answer(call, environ)

    return strike


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _page(_body: bytes) -> bytes:
    return b"<html><body>Please log in</body></html>"


ACTIONS = [
    ("sts:GetCallerIdentity", 4),
    ("ec2:DescribeImages", 4),
    ("ec2:DescribeInstances", 8),
    ("ec2:DescribeLaunchTemplates", 8),
    ("ec2:DescribeLaunchTemplateVersions", 8),
    ("ec2:DescribeSpotInstanceRequests", 8),
    ("ec2:DescribeSpotFleetRequests", 8),
    ("ec2:DescribeFleets", 8),
    ("ec2:DescribeImageReferences", 8),
    ("ec2:DescribeImageAttribute", 8),
    ("ec2:DescribeLockedSnapshots", 8),
    ("ec2:DescribeSnapshots", 8),
    ("ec2:GetAllowedImagesSettings", 8),
    ("autoscaling:DescribeAutoScalingGroups", 8),
    ("autoscaling:DescribeLaunchConfigurations", 8),
    ("batch:DescribeComputeEnvironments", 8),
    ("ssm:DescribeParameters", 8),
    ("ssm:GetParameters", 8),
    ("imagebuilder:ListImageRecipes", 8),
    ("imagebuilder:ListContainerRecipes", 8),
    ("cloudformation:DescribeStacks", 8),
    ("lambda:ListFunctions", 8),
    ("states:ListStateMachines", 8),
    ("scheduler:ListSchedules", 8),
    ("ssm:DescribeMaintenanceWindows", 8),
    ("bedrock-agentcore:ListCapacityProviders", 8),
    ("codebuild:ListFleets", 8),
    ("ec2:DescribeExportImageTasks", 8),
    ("ec2:DescribeFastSnapshotRestores", 8),
    ("ec2:DescribeReplaceRootVolumeTasks", 8),
    ("ec2:DescribeStoreImageTasks", 8),
    ("ecs:DescribeClusters", 8),
    ("ecs:ListClusters", 8),
    ("elasticbeanstalk:DescribeApplications", 8),
    ("elasticmapreduce:ListClusters", 8),
    ("pcs:ListClusters", 8),
    ("rds:DescribeDBEngineVersions", 8),
    ("sagemaker:ListClusters", 8),
    ("ec2:DeregisterImage", 7),
]


@pytest.mark.parametrize(("action", "exit_code"), ACTIONS)
def test_a_permission_that_is_missing_keeps_everything(
    account: Account, tmp_path: Path, action: str, exit_code: int
) -> None:
    """Without any single permission nothing is deleted, and the exit code says why."""
    before = account.here.there()
    account.here.aws.gate.deny(action)

    problem = _try(account, tmp_path)

    assert problem is not None
    assert problem.exit_code == exit_code
    assert action.partition(":")[2] in str(problem)
    assert account.here.there() == before
    assert [call.action for call in account.here.aws.gate.calls].count(action.partition(":")[2]) >= 1


@pytest.mark.parametrize("spoil", [_half, _page], ids=["cut off", "login page"])
@pytest.mark.parametrize("action", [action for action, _ in ACTIONS])
def test_an_answer_that_makes_no_sense_keeps_everything(
    account: Account, tmp_path: Path, action: str, spoil: Callable[[bytes], bytes]
) -> None:
    """Half an answer, or a proxy's page with status 200, is no list of references; nor is it a deregistration."""

    def change(environ: dict[str, Any], _status: str, body: list[bytes]) -> list[bytes]:
        call = environ["sandbox.call"]
        return [spoil(b"".join(body))] if f"{call.service}:{call.action}" == action else body

    before = account.here.there()
    with _between(account, change):
        problem = _try(account, tmp_path)

    assert problem is not None
    assert action == "ec2:DeregisterImage" or account.here.there() == before
    account.check_needed()
    account.check_journals(tmp_path / "logs")


@pytest.mark.parametrize("action", ["rbin:ListRules", "rbin:GetRule"])
def test_what_decides_nothing_may_be_missing(account: Account, tmp_path: Path, action: str) -> None:
    """The Recycle Bin only informs: with --permanent the clean-up goes on without them."""
    account.here.keep_deleted()
    account.here.aws.gate.deny(action)

    assert _try(account, tmp_path) is None
    account.check_clean()


def test_sizes_may_be_missing(account: Account, tmp_path: Path) -> None:
    """They only inform, too: whoever leaves out the public snapshots can do without the permission."""
    account.here.aws.gate.deny("ec2:DescribeSnapshots")
    flags = dataclasses.replace(YES.flags, skip_source=("public-snapshots",))

    cleanup.run(task(account.here, tmp_path).run, dataclasses.replace(YES, flags=flags))

    account.check_clean()


def test_every_call_of_a_run_is_in_the_tables_above(account: Account, tmp_path: Path) -> None:
    """A new call must come with a test of what its denial does."""
    account.here.keep_deleted()
    _calls_of_a_whole_run(account, tmp_path)

    made = {f"{call.service}:{call.action}" for call in account.here.aws.gate.calls}

    tried = {action for action, _ in ACTIONS} | {"rbin:ListRules", "rbin:GetRule"}
    assert made == tried


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before AWS acts", "after AWS acted"])
def test_a_run_that_is_killed_is_finished_by_the_next(
    account: Account, tmp_path: Path, at: int, *, after: bool
) -> None:
    """Kill -9 of the real process in the middle of its k-th deregistration."""
    url = account.here.access.endpoint_url
    command = [sys.executable, "-m", "tests.bench.cleanup_ours", str(url), str(tmp_path), REGION, "30d"]
    seen = itertools.count(1)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:

        def kill(environ: dict[str, Any], _status: str, body: list[bytes]) -> list[bytes]:
            if environ["sandbox.call"].action == "DeregisterImage" and next(seen) == at:
                child.kill()
            return body

        def kill_first(_call: Call, _environ: Any) -> None:
            if next(seen) == at:
                child.kill()
                child.wait()
                raise ConnectionCutError

        if not after:
            account.here.aws.gate.add(Fault(kill_first, action="DeregisterImage"))
        with _between(account, kill) if after else contextlib.nullcontext():
            child.wait(timeout=300)
    assert child.returncode == -signal.SIGKILL
    assert list((tmp_path / "logs").glob("*.jsonl"))

    _after_the_storm(account, tmp_path)
