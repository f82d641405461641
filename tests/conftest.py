"""What tests of several capabilities share."""

from __future__ import annotations

import functools
import gc
import io
import pickle
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from gpu_ami.aws import service_models
from gpu_ami.console import Console
from gpu_ami.hcl import parser
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.session import Sandbox, open_sandbox

if TYPE_CHECKING:
    # Loaded by those who ask for it: most tests need no moto.
    from gpu_ami_sandbox.aws.server import LocalAws
    from tests.support.account import World
    from tests.support.clock import Clock
    from tests.support.fake_terraform import FakeTerraform

_VALUES = parser.values
REGION = "ap-northeast-2"
TESTS = Path(__file__).parent
# Slow, and the same on every Python.
ONCE = (
    TESTS / "sandbox",
    TESTS / "cleanup" / "test_faults.py",
    TESTS / "cleanup" / "test_source_faults.py",
    TESTS / "bake" / "test_preflight_account.py",
    TESTS / "coldstart" / "test_calibration.py",
    TESTS / "workflows",
)
# Whoever has an account takes hundreds of calls, which show no Python anything new: of the cases of such a test each
# Python sees the first, and one run the others, which differ in what is in the account.
ACCOUNTS = frozenset({"aws_server", "local_aws"})
# With --briefly these are run whole: what Python itself does for them differs from version to version.
VERSION_DEPENDENT = frozenset(
    TESTS / name
    for name in (
        "test_collector.py",
        "test_files.py",
        "test_locks.py",
        "test_process.py",
        "test_scratch.py",
        "test_streams.py",
        "test_units.py",
        "tools/test_download.py",
    )
)

# By their seconds.
LONGEST_FIRST = (
    "e2e/test_apply_slow.py",
    "cleanup/test_faults.py",
    "cleanup/test_source_faults.py",
    "cleanup/test_other_accounts.py",
    "e2e/test_workflows.py",
    "e2e/test_apply.py",
    "e2e/test_rebuilds.py",
    "e2e/test_places.py",
    "e2e/test_failures.py",
    "e2e/test_secrets.py",
    "e2e/test_interrupted.py",
    "e2e/test_by_hand.py",
    "e2e/test_build.py",
    "e2e/test_states.py",
    "e2e/test_families.py",
    "e2e/test_last_words.py",
    "e2e/test_debug.py",
    "e2e/test_permissions.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a Python between the oldest and the newest run what could fail on it alone."""
    parser.addoption(
        "--briefly",
        action="store_true",
        help="of each file the first unit test, and whole files where Python's own versions differ",
    )


def pytest_configure() -> None:
    """Let service models and HCL texts be read once, and tests and their programs hear what a terminal or nox sends.

    A shell's background job ignores that of a terminal.
    """
    # A test makes few cycles, and hundreds of thousands of objects that stay: moto's classes, botocore's models.
    gc.set_threshold(50_000, 20, 50)
    service_models.share()  # before moto is loaded, which would read EC2's in its own, slower way
    parser.values = _parsed_once  # most tests read the same template, which takes a while
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Nox ends with it what runs side by side; what the fixtures have started is to end too, in sessions of their own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` has ignored


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while thousands of tests are made, nor ever again among them: both took a third of the time.

    They live to the end.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# On a busy machine an example takes longer than Hypothesis's 200 ms, and to make one longer than it likes: that says
# nothing of the code.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what one run of all tests needs only once, and what needs the real programs: by the folder it lies in."""
    seen: set[str] = set()
    for item in items:
        function = item.nodeid.partition("[")[0]
        is_another_case = function in seen and not ACCOUNTS.isdisjoint(getattr(item, "fixturenames", ()))
        seen.add(function)
        mark = _mark(item.path) or ("slow" if is_another_case else "")
        if mark and (mark == "slow" or item.get_closest_marker("slow") is None):
            item.add_marker(mark)
    # Else one worker would run a long file alone at the end. A file's own tests stay in their order.
    tests = Counter(item.path for item in items)
    order = {path: place for place, path in enumerate(sorted(tests, key=lambda p: (_rank(p), -tests[p], p)))}
    items.sort(key=lambda item: order[item.path])
    if config.getoption("briefly"):
        kept = _some(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = [item for item in items if item in kept]


def _some(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return of each file the first unit test, and all of those that depend on Python's version."""
    unit = [item for item in items if not any(item.get_closest_marker(name) for name in ("slow", "infra", "e2e"))]
    first = {item.path: item for item in reversed(unit)}
    return {item for item in unit if item.path in VERSION_DEPENDENT or first[item.path] is item}


@functools.cache
def _mark(path: Path) -> str:
    """Return the mark of all tests in a file, by where it lies; empty for a unit test."""
    if any(path.is_relative_to(place) for place in ONCE):
        return "slow"
    return next((name for name in ("infra", "e2e") if path.is_relative_to(TESTS / name)), "")


@functools.cache
def _rank(path: Path) -> int:
    """Return a file's place among those that are known to take long, whatever the number of their tests."""
    name = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture(scope="session")
def one_kms_key() -> Iterator[None]:
    """Moto makes an RSA key for each KMS key, also for those that never sign: here it makes one of each kind."""
    from moto.kms import models

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "generate_private_key", functools.cache(models.generate_private_key))
        yield


@pytest.fixture(scope="session")
def one_noise() -> Iterator[None]:
    """Half of what a demo account takes are the megabytes of its model files and image layers: always the same ones."""
    from gpu_ami_sandbox.demo import content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "_noise", functools.cache(content._noise))
        yield


@functools.cache
def _pickled_values(text: str) -> bytes:
    return pickle.dumps(_VALUES(text))


@functools.wraps(_VALUES)
def _parsed_once(text: str) -> dict[str, Any]:
    values: dict[str, Any] = pickle.loads(_pickled_values(text))
    return values


@pytest.fixture(scope="session")
def local_aws(one_kms_key: None, one_noise: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The demo account, to be looked at: tests that change it start a sandbox of their own."""
    workspace = Workspace(tmp_path_factory.mktemp("local-aws"), sandbox=True)
    console = Console(err=io.StringIO())
    with open_sandbox(workspace, region=REGION, console=console, with_guest=False) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def aws_server(one_kms_key: None, one_noise: None) -> Iterator[LocalAws]:
    """The local AWS of one process of tests, which each test that changes it empties and fills.

    Starting another one takes time, and so does making clients for another port.
    """
    from gpu_ami_sandbox.aws.server import LocalAws
    from tests.support.at_hand import at_hand

    server = LocalAws(REGION)
    server.start()
    with at_hand(server):
        yield server
    server.stop()


@pytest.fixture
def over_http() -> Iterator[None]:
    """In this test AWS is called over the network also by the tests' own process."""
    from tests.support import at_hand

    with at_hand.over_http():
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Pauses between two calls of AWS take no time; this is the time that they would have taken."""
    from tests.support.clock import hurry

    return hurry(monkeypatch)


@pytest.fixture
def here(aws_server: LocalAws, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> World:
    """An account with nothing in it."""
    from gpu_ami_sandbox.aws import batch_environments
    from gpu_ami_sandbox.aws.ec2 import images
    from tests.support.account import world

    monkeypatch.setattr(images, "PENDING_S", 0.0)
    # Nor do Batch's environments and queues: pauses take no time here, and so nothing would be over after one.
    for name in ("CREATING_S", "UPDATING_S", "DELETING_S", "RELATED_S"):
        monkeypatch.setattr(batch_environments, name, 0.0)
    return world(aws_server)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a template and a Terraform folder, both tiny, and things that must not travel."""
    for name, text in {
        "packer/a.pkr.hcl": 'variable "x" {\n  default = "y"\n}\n',
        "packer/variables.auto.pkrvars.hcl": 'x = "real account"\n',
        "packer/scripts/a.sh": "true\n",
        "terraform/main.tf": "",
        "terraform/modules/m/main.tf": "",
        "terraform/backend.tf": 'terraform {\n  backend "s3" {}\n}\n',
        "terraform/terraform.tfvars": 'y = "real account"\n',
        "terraform/z.auto.tfvars.json": "{}",
        "terraform/terraform.tfstate": "{}",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


@pytest.fixture
def terraform(here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTerraform:
    """A root module with two environments in a repository of its own."""
    from tests.support.fake_terraform import FakeTerraform

    return FakeTerraform(here, tmp_path / "terraform").install(monkeypatch)
