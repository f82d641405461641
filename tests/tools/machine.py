"""A machine made of small shell scripts: its PATH, home and cache are folders of the test."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.console import Console
from gpu_ami.tools.cache import Cache
from gpu_ami.tools.tool import executable, host_platform

GO = """\
case "$1" in
  version) echo "go version go1.26.8 linux/amd64"; exit ;;
  env) echo "$STOCK/gocache"; echo "$STOCK/gomod"; exit ;;
  list)
    for package; do :; done
    echo "fetch $(basename "$package")" >> "$STOCK/calls"
    echo "go: downloading example.com/module v1.0.0"
    exit ;;
esac
while [ "$1" != -o ]; do shift; done
echo "build $(basename "$2")" >> "$STOCK/calls"
echo "go: downloading example.com/module v1.0.0"
echo "internal/cpu"
cp "$STOCK/$(basename "$2")" "$2"
"""

PACKER = f"""\
case "$1" in
  version) echo "Packer v1.16.0"; exit ;;
esac
# plugins install --path FILE SOURCE
folder="$PACKER_PLUGIN_PATH/$5"
mkdir -p "$folder"
name="packer-plugin-amazon_v1.8.2_x5.0_{executable(host_platform())}"
cp "$4" "$folder/$name"
echo sum > "$folder/${{name}}_SHA256SUM"
"""

# Waits until a file is there, a minute at most.
AWAIT = 'await() { n=0; until [ -e "$1" ]; do n=$((n + 1)); [ $n -lt 3000 ] || exit 1; sleep 0.02; done; }'


@dataclass(frozen=True)
class Machine:
    """The machine under test.

    Attributes:
        root: Everything is below it.
        said: What the console printed.
        console: The console to hand to the code under test.
    """

    root: Path
    said: io.StringIO
    console: Console

    @property
    def bin(self) -> Path:
        """The only folder on PATH."""
        return self.root / "bin"

    @property
    def stock(self) -> Path:
        """What the fake Go "builds": files by product name, and the list of its calls."""
        return self.root / "stock"

    @property
    def cache(self) -> Cache:
        """The user's cache."""
        return Cache(self.root / "cache")

    def program(self, name: str, script: str, *, folder: Path | None = None) -> Path:
        """Put a shell script called *name* on PATH; it sees the real system's tools."""
        file = (folder or self.bin) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n", encoding="utf-8")
        file.chmod(0o755)
        return file

    def says(self, name: str, line: str, *, folder: Path | None = None) -> Path:
        """Put a program on PATH that answers everything with *line*."""
        return self.program(name, f"cat <<'END'\n{line}\nEND", folder=folder)

    def plugin(self, folder: Path, version: str = "1.8.2", *, with_sum: bool = True) -> Path:
        """Install the amazon plugin in the plugin folder *folder* as Packer would."""
        name = f"packer-plugin-amazon_v{version}_x5.0_{executable(host_platform())}"
        file = folder / "github.com" / "hashicorp" / "amazon" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("plugin", encoding="utf-8")
        if with_sum:
            file.with_name(f"{name}_SHA256SUM").write_text("sum", encoding="utf-8")
        return file

    def provider(self, mirror: Path, version: str = "5.100.0") -> Path:
        """Put the aws provider into *mirror* and return the mirror."""
        (mirror / "registry.terraform.io" / "hashicorp" / "aws" / version / host_platform()).mkdir(parents=True)
        return mirror

    def guest(self) -> None:
        """Put everything the sandbox's guest needs on PATH; bubblewrap allows everything."""
        self.program("bwrap", '[ "$1" != --version ] || echo "bubblewrap 0.8.0"')
        for name in ("scp", "jq", "curl"):
            self.program(name, ":")

    def go(self, script: str = GO) -> None:
        """Put a Go on PATH that "builds" a working Packer and plugin."""
        self.program("go", script)
        self.program("packer", PACKER, folder=self.stock)
        self.program("packer-plugin-amazon", ":", folder=self.stock)

    def calls(self) -> list[str]:
        """Return what the fake Go was called to do, in order: ``fetch PRODUCT`` and ``build PRODUCT``."""
        file = self.stock / "calls"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def builds(self) -> list[str]:
        """Return what the fake Go was called to build, in order."""
        return [product for verb, product in map(str.split, self.calls()) if verb == "build"]

    def complete(self) -> None:
        """Make everything `setup` searches for present on PATH and in the home."""
        self.guest()
        self.says("packer", "Packer v1.16.0")
        self.says("terraform", "Terraform v1.11.4\non linux_amd64")
        self.plugin(self.root / "home" / ".config" / "packer" / "plugins")
