"""`setup` as a whole: on machines that lack something, twice at once, and killed half-way."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_ami.console import Console
from gpu_ami.errors import ToolError
from gpu_ami.options import Output
from gpu_ami.tools import download, isolation, packer_tools, pins, terraform_tools
from gpu_ami.tools.setup import Request, run, setup
from tests.support.schemas import problems
from tests.tools.machine import AWAIT, GO, PACKER, Machine

_Usage = namedtuple("_Usage", "total used free")
# While there is a file "slow": says in a file that it has started, and then takes its time.
STALL = '[ -e "$STOCK/slow" ] && echo $$ > "$STOCK/stalled" && exec sleep 60'

HALF = '[ -e "$STOCK/slow" ] && echo half > "$2"'


@pytest.fixture
def almost(machine: Machine) -> Machine:
    """A machine that has everything but Packer and its plugin, and a Go to build them with."""
    machine.guest()
    machine.says("terraform", "Terraform v1.11.4")
    machine.go()
    return machine


@contextlib.contextmanager
def other_process(first: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run `setup` in a process of its own with this test's environment, after the code *first*; end it in the end."""
    code = f"{first}\nfrom gpu_ami.console import Console; from gpu_ami.tools.setup import setup; setup(Console())"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def stalled(machine: Machine, name: str = "stalled") -> int:
    """Wait until the stalling program that writes to the file *name* runs and return its process id."""
    deadline = time.monotonic() + 300
    file = machine.stock / name
    while not (file.exists() and file.read_text(encoding="utf-8").strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (machine.stock / "slow").unlink(missing_ok=True)
    return int(file.read_text(encoding="utf-8"))


def test_a_complete_machine_is_left_alone(machine: Machine) -> None:
    """Nothing is installed twice; the second run of `setup` only checks."""
    machine.complete()

    tools = setup(machine.console)

    assert [(tool.name, tool.version) for tool in tools] == [
        ("packer", "1.16.0"),
        ("packer-plugin-amazon", "1.8.2"),
        ("terraform", "1.11.4"),
        ("bwrap", "0.8.0"),
        ("scp", ""),
        ("jq", ""),
        ("curl", ""),
    ]
    assert not (machine.cache.root / "setup.lock").exists()
    assert f"packer 1.16.0: {machine.bin / 'packer'} (PATH)" in machine.said.getvalue()
    assert "no mirror here, `terraform init` fetches 5.100.0 or newer" in machine.said.getvalue()


def test_a_script_gets_what_was_found_as_a_document(machine: Machine) -> None:
    """A runner's image is checked by what is ready on it, not by lines that may be worded anew."""
    machine.complete()
    out = io.StringIO()
    console = Console("json", out=out, err=machine.said)

    run(console, Request())

    document = json.loads(out.getvalue())
    assert problems("setup", document) == []
    assert document["tools"][0] == {
        "name": "packer",
        "version": "1.16.0",
        "path": str(machine.bin / "packer"),
        "source": "PATH",
    }
    assert {tool["name"]: tool["version"] for tool in document["tools"]}["jq"] is None


@pytest.mark.parametrize(("output", "is_printed"), [("json", True), ("table", False), ("markdown", False)])
def test_a_dry_run_of_a_setup_is_a_document_too(machine: Machine, output: Output, is_printed: bool) -> None:
    """For people it stays a line; nothing is searched for, so a machine without anything does."""
    out, err = io.StringIO(), io.StringIO()

    run(Console(output, out=out, err=err), Request(dry_run=True))

    assert err.getvalue().startswith("DRY RUN: would find or install Packer")
    assert bool(out.getvalue()) is is_printed
    if is_printed:
        assert problems("setup", json.loads(out.getvalue())) == []
    assert not machine.cache.root.exists()


def test_people_get_lines_and_no_table(machine: Machine) -> None:
    """As before there was a document: a table would say the same again."""
    machine.complete()
    out = io.StringIO()

    run(Console(out=out, err=machine.said), Request())

    assert out.getvalue() == ""


def test_the_mirror_is_among_the_tools(machine: Machine) -> None:
    """Whether Terraform will need the network is worth a line."""
    machine.complete()
    mirror = machine.provider(machine.root / "opt", "6.2.0")

    provider = next(tool for tool in setup(machine.console) if tool.name == "terraform-provider-aws")

    assert (provider.version, provider.path, provider.source) == ("6.2.0", mirror, "mirror")


def test_packer_and_plugin_are_built_where_the_release_cannot_be_had(almost: Machine) -> None:
    """Behind many companies' proxies the Go module proxy is open and the release site is not."""
    setup(almost.console)

    tools = packer_tools()
    assert almost.builds() == ["packer", "packer-plugin-amazon"]
    assert tools.packer.path == almost.cache.folder("packer", "1.16.0") / "packer"
    assert tools.plugin_path == almost.cache.folder("packer-plugin-amazon", "1.8.2")
    assert "packer: http://127.0.0.1:9/packer/1.16.0/" in almost.said.getvalue()
    assert "no checksum of its release" in almost.said.getvalue()
    assert list((almost.cache.root / "tmp").iterdir()) == []


def test_the_modules_of_both_are_fetched_before_the_first_is_compiled(almost: Machine) -> None:
    """The network is done with in one go, and compiling has the processor for itself."""
    setup(almost.console)

    both = ("packer", "packer-plugin-amazon")
    assert almost.calls() == [f"{verb} {product}" for verb in ("fetch", "build") for product in both]


def test_only_what_is_missing_is_fetched(almost: Machine) -> None:
    """A plugin that is gone does not bring 2.7 GiB of Packer's modules with it."""
    almost.program("packer", PACKER)

    setup(almost.console)

    assert almost.calls() == ["fetch packer-plugin-amazon", "build packer-plugin-amazon"]


def test_only_what_is_not_downloaded_is_fetched(almost: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packer's release can be had and the plugin's sum is not on record: the usual case with a network."""

    def fetch(product: str, folder: Path, note: object) -> Path:
        return almost.program(product, (almost.stock / product).read_text(encoding="utf-8"), folder=folder)

    monkeypatch.setattr(download, "fetch_release", fetch)

    setup(almost.console)

    assert almost.calls() == ["fetch packer-plugin-amazon", "build packer-plugin-amazon"]


def test_a_failed_fetch_is_not_the_end(almost: Machine) -> None:
    """A network that comes and goes: what is compiled next fetches again."""
    almost.go(GO.replace('    echo "go: downloading', '    exit 1\n    echo "go: downloading', 1))

    setup(almost.console)

    assert "Fetching the Go modules of packer 1.16.0 and packer-plugin-amazon 1.8.2: failed" in almost.said.getvalue()
    assert almost.builds() == ["packer", "packer-plugin-amazon"]


def test_packer_is_kept_where_the_plugin_cannot_be_built(almost: Machine) -> None:
    """Minutes of compiling are not done twice."""
    almost.go(GO.replace('cp "$STOCK', 'case "$2" in *amazon) echo "no such host"; exit 1 ;; esac\ncp "$STOCK', 1))

    with pytest.raises(
        ToolError, match=r"amazon 1\.8\.2 could not be built: no such host\..*Not downloaded.*no checksum"
    ):
        setup(almost.console)

    assert almost.cache.folder("packer", "1.16.0").exists()


def test_packer_is_kept_where_the_plugins_release_is_wrong(almost: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known before Packer is built, told after it, and not downloaded twice."""
    requested = []

    def fetch(product: str, folder: Path, note: object) -> Path:
        requested.append(product)
        if product == "packer":
            msg = "closed"
            raise download.RouteClosedError(msg)
        msg = "has the SHA-256 of something else"
        raise ToolError(msg)

    monkeypatch.setattr(download, "known_sum", lambda product: "known")
    monkeypatch.setattr(download, "fetch_release", fetch)

    with pytest.raises(ToolError, match=r"^has the SHA-256 of something else$"):
        setup(almost.console)

    assert almost.calls() == ["fetch packer", "build packer"]
    assert requested == ["packer", "packer-plugin-amazon"]
    assert almost.cache.folder("packer", "1.16.0").exists()


def test_a_second_setup_builds_nothing(almost: Machine) -> None:
    """The README says to run it whenever in doubt."""
    setup(almost.console)
    setup(almost.console)

    assert almost.builds() == ["packer", "packer-plugin-amazon"]


def test_an_old_packer_on_path_is_passed_over_aloud(almost: Machine) -> None:
    """Otherwise nobody understands why a Packer is built although there is one."""
    old = almost.says("packer", "Packer v1.6.6")

    setup(almost.console)

    assert f"Passing over {old}, which is 1.6.6." in almost.said.getvalue()
    assert packer_tools().packer.source == "cache"


def test_the_release_is_preferred_to_building(almost: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds instead of minutes, where the release site answers and the sum is right."""

    def fetch(product: str, folder: Path, note: object) -> Path:
        return almost.program(product, (almost.stock / product).read_text(encoding="utf-8"), folder=folder)

    monkeypatch.setattr(download, "fetch_release", fetch)
    monkeypatch.setattr(download, "known_sum", lambda product: "known")

    setup(almost.console)

    assert almost.builds() == []
    assert packer_tools().packer.version == "1.16.0"


def test_terraform_is_downloaded_where_it_is_missing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Terraform has no other way: its modules cannot be built from outside."""
    machine.complete()
    old = machine.says("terraform", "Terraform v1.5.7")

    def fetch(product: str, folder: Path, note: object) -> Path:
        return machine.says(product, "Terraform v1.11.4", folder=folder)

    monkeypatch.setattr(download, "fetch_release", fetch)

    setup(machine.console)

    assert terraform_tools().terraform.source == "cache"
    assert f"Passing over {old}, which is 1.5.7." in machine.said.getvalue()


def test_terraform_that_cannot_be_had_is_one_clear_line(machine: Machine) -> None:
    """No network, and nothing on PATH: the reader learns both."""
    machine.complete()
    (machine.bin / "terraform").unlink()

    with pytest.raises(ToolError, match=r"Terraform 1\.11\.0 or newer is not on PATH, and http://.*refused") as caught:
        setup(machine.console)

    assert caught.value.exit_code == 3


def test_one_problem_does_not_hide_another(almost: Machine) -> None:
    """Everything that can be installed is, and everything that cannot is told at once."""
    (almost.bin / "terraform").unlink()
    (almost.bin / "jq").unlink()

    with pytest.raises(ToolError, match=r"jq missing.*Terraform"):
        setup(almost.console)

    assert packer_tools().packer.source == "cache"


def test_a_wrong_checksum_is_never_followed_by_a_build(almost: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a warning about the network, not an inconvenience to work around."""

    def fetch(product: str, folder: Path, note: object) -> Path:
        msg = "has the SHA-256 of something else"
        raise ToolError(msg)

    monkeypatch.setattr(download, "fetch_release", fetch)

    with pytest.raises(ToolError, match="something else"):
        setup(almost.console)

    assert "packer" not in almost.builds()


def test_when_both_ways_fail_the_error_tells_both(almost: Machine) -> None:
    """No network at all: neither release nor modules."""
    almost.go(
        '[ "$1" = version ] && echo "go version go1.26.8 x" && exit; [ "$1" = env ] || echo "no such host"; exit 1'
    )

    with pytest.raises(ToolError, match=r"could not be built: no such host\..*Not downloaded either: http"):
        setup(almost.console)

    with pytest.raises(ToolError, match="Packer"):
        packer_tools()


def test_no_disk_space_is_told_before_anything_is_built(almost: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four minutes of compiling and then ENOSPC would be the other way to find out."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10, 9, 1))

    with pytest.raises(ToolError, match="MiB of disk"):
        setup(almost.console)

    assert almost.calls() == []


def test_a_disk_that_fills_up_meanwhile_is_one_line_too(almost: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any file operation may be the one that meets the full disk."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "rename", full)

    with pytest.raises(ToolError, match=r"No space left on device .*GPU_AMI_CACHE_DIR names another folder"):
        setup(almost.console)

    assert list((almost.cache.root / "tmp").iterdir()) == []


def test_a_cache_that_is_no_folder_is_one_line(machine: Machine) -> None:
    """A typing error in GPU_AMI_CACHE_DIR."""
    machine.guest()
    machine.cache.root.write_text("a file", encoding="utf-8")

    with pytest.raises(ToolError, match="could not be installed: File exists"):
        setup(machine.console)


def test_a_build_that_is_not_what_was_asked_for_is_not_kept(almost: Machine) -> None:
    """The cache's folder name is trusted ever after, so its content is checked once."""
    almost.says("packer", "Packer v1.15.0", folder=almost.stock)

    with pytest.raises(ToolError, match=r"Packer 1\.16\.0 that was installed turned out to be 1\.15\.0"):
        setup(almost.console)

    assert not almost.cache.folder("packer", "1.16.0").exists()


def test_a_plugin_that_packer_refuses_is_not_kept(almost: Machine) -> None:
    """Packer runs the plugin's `describe` and may dislike the answer."""
    refuses = 'echo "Error: invalid plugin" >&2; exit 1'
    almost.program("packer", f'[ "$1" = version ] && echo "Packer v1.16.0" && exit; {refuses}', folder=almost.stock)

    with pytest.raises(ToolError, match="Packer refused the amazon plugin: Error: invalid plugin"):
        setup(almost.console)

    assert not almost.cache.folder("packer-plugin-amazon", "1.8.2").exists()


def test_a_packer_that_installs_nothing_is_found_out(almost: Machine) -> None:
    """Exit status 0 is not proof."""
    almost.program("packer", 'echo "Packer v1.16.0"', folder=almost.stock)

    with pytest.raises(ToolError, match="Packer took the amazon plugin, yet none is in"):
        setup(almost.console)


def test_missing_packages_are_installed_by_root(almost: Machine, as_root: None) -> None:
    """In a container, `setup` is the only command."""
    (almost.bin / "jq").unlink()
    almost.program("apt-get", f'printf "#!/bin/sh\\n" > {almost.bin}/jq; chmod +x {almost.bin}/jq')

    assert "jq" in [tool.name for tool in setup(almost.console)]


def test_apparmors_refusal_comes_with_the_profile(
    almost: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_user: None
) -> None:
    """Ubuntu 24.04 and GitHub's runners: what to paste is printed, and everything else is installed."""
    almost.program("bwrap", '[ "$1" = --version ] && echo "bubblewrap 0.9.0" && exit; echo "bwrap: denied" >&2; exit 1')
    (tmp_path / "sys" / "kernel").mkdir(parents=True)
    (tmp_path / "sys" / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("1", encoding="ascii")
    monkeypatch.setattr(isolation, "_PROC_SYS", tmp_path / "sys")

    with pytest.raises(ToolError, match=r"AppArmor refuses .*denied.*: run the commands above"):
        setup(almost.console)

    assert "sudo tee /etc/apparmor.d/bwrap" in almost.said.getvalue()
    assert packer_tools().packer.source == "cache"


def test_a_refusal_without_a_remedy_is_only_told(almost: Machine, as_root: None) -> None:
    """Inside an unprivileged container there is no command to paste."""
    almost.program("bwrap", '[ "$1" = --version ] && echo "bubblewrap 0.9.0" && exit; echo "bwrap: denied" >&2; exit 1')

    with pytest.raises(ToolError, match="in a container, start it with"):
        setup(almost.console)


def test_other_systems_get_everything_but_the_guest(almost: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS builds against AWS work; the sandbox does not, and `setup` says so."""
    monkeypatch.setattr(isolation, "is_supported", lambda: False)

    tools = setup(almost.console)

    assert [tool.name for tool in tools] == ["packer", "packer-plugin-amazon", "terraform"]
    assert "The sandbox's guest needs Linux" in almost.said.getvalue()
    assert [tool.name for tool in setup(almost.console)] == ["packer", "packer-plugin-amazon", "terraform"]


def test_a_machine_that_only_works_on_aws_needs_no_guest(almost: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that bakes on AWS is not stopped by its AppArmor."""
    monkeypatch.setattr(isolation, "refusal", lambda _bwrap: isolation.Refusal("no user namespaces"))
    with pytest.raises(ToolError, match="no user namespaces"):
        setup(almost.console)

    for _ in ("installs", "finds"):
        tools = setup(almost.console, guest=False)
        assert [tool.name for tool in tools] == ["packer", "packer-plugin-amazon", "terraform"]


def test_setup_installs_only_what_is_on_record(almost: Machine) -> None:
    """Versions come from one file; nothing picks a newer one by itself."""
    setup(almost.console)

    assert packer_tools().packer.version == pins.pins().releases["packer"].version


@pytest.mark.parametrize(
    "moment",
    [
        "while fetching",
        "while building Packer",
        "while checking it",
        "while building the plugin",
        "while installing it",
    ],
)
def test_a_killed_setup_leaves_nothing_half_installed(almost: Machine, moment: str) -> None:
    """A `kill -9` leaves no chance to clean up: what counts is what the next run finds."""
    (almost.stock / "slow").touch()
    match moment:
        case "while fetching":
            almost.go(GO.replace('    echo "go: downloading', f'{STALL}\necho "go: downloading', 1))
        case "while building Packer":
            almost.go(GO.replace('cp "$STOCK', f'{HALF}\n{STALL}\ncp "$STOCK', 1))
        case "while checking it":
            almost.program("packer", f"{STALL}\n{PACKER}", folder=almost.stock)
        case "while building the plugin":
            stall = f'case "$2" in *amazon) {HALF}\n{STALL} ;; esac'
            almost.go(GO.replace('cp "$STOCK', f'{stall}\ncp "$STOCK', 1))
        case _:
            almost.program("packer", PACKER.replace("folder=", f"{STALL}\nfolder=", 1), folder=almost.stock)

    with other_process() as process:
        child = stalled(almost)
        process.kill()
    os.kill(child, signal.SIGKILL)

    assert almost.cache.folder("packer", "1.16.0").exists() is ("plugin" in moment or "installing" in moment)
    assert not almost.cache.folder("packer-plugin-amazon", "1.8.2").exists()
    assert list((almost.cache.root / "tmp").iterdir()) != []
    setup(almost.console)
    assert packer_tools().plugin.source == "cache"
    assert list((almost.cache.root / "tmp").iterdir()) == []


def test_two_setups_at_once_build_everything_once(almost: Machine) -> None:
    """Two terminals, or two jobs on one runner."""
    held = f'{AWAIT}\necho $$ > "$STOCK/stalled"; await "$STOCK/go-on"'
    almost.go(GO.replace('cp "$STOCK', f'{held}\ncp "$STOCK', 1))

    with other_process() as first:
        stalled(almost)
        with other_process("from gpu_ami import console; console._HEARTBEAT_S = 0.05") as second:
            assert second.stderr is not None
            heard = ""
            while "Waiting" not in heard and (line := second.stderr.readline()):
                heard += line
            (almost.stock / "go-on").touch()
            said = [first.communicate(timeout=300)[1], heard + second.communicate(timeout=60)[1]]

    assert [first.returncode, second.returncode] == [0, 0], said
    assert almost.builds() == ["packer", "packer-plugin-amazon"]
    assert sum("Waiting for another `invoke setup`" in text for text in said) == 1


def test_ctrl_c_ends_the_build_and_leaves_nothing(almost: Machine) -> None:
    """The Go build must not go on for minutes behind a prompt that is back."""
    (almost.stock / "slow").touch()
    almost.go(GO.replace('cp "$STOCK', f'{STALL}\ncp "$STOCK', 1))

    with other_process() as process:
        child = stalled(almost)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)

    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert list((almost.cache.root / "tmp").iterdir()) == []
    assert not almost.cache.folder("packer", "1.16.0").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_both_fetches_and_leaves_nothing(almost: Machine, number: signal.Signals) -> None:
    """Ctrl-C, or a cancelled job: neither Go goes on fetching behind the prompt."""
    stall = 'echo $$ > "$STOCK/stalled-$(basename "$package")"; exec sleep 60'
    almost.go(GO.replace("    exit ;;", f"    {stall} ;;", 1))

    with other_process() as process:
        children = [stalled(almost, f"stalled-{product}") for product in ("packer", "packer-plugin-amazon")]
        process.send_signal(number)
        process.communicate(timeout=300)

    assert process.returncode != 0
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    assert almost.calls() == ["fetch packer", "fetch packer-plugin-amazon"]
    assert list((almost.cache.root / "tmp").iterdir()) == []


def test_after_an_interrupt_no_other_fetch_begins(almost: Machine) -> None:
    """What Go says as it ends would otherwise start the next one, which nobody would interrupt."""
    script = 'trap "echo interrupted; exit 1" INT; echo $$ > "$STOCK/stalled"; while :; do sleep 0.05; done'
    almost.go(GO.replace('    echo "go: downloading', f'    {script}\n    echo "go: downloading', 1))

    with other_process() as process:
        stalled(almost)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)

    assert process.returncode != 0
    assert almost.calls() == ["fetch packer"]
