"""Runs a build in this process, with the real Packer, so that a test can use the gate of the local AWS."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_ami.aws.access import Access
from gpu_ami.bake import build, prepare
from gpu_ami.bake.result import BuildResult
from gpu_ami.console import Console
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami.target import LocalSandbox
from gpu_ami_sandbox.aws.gate import Gate
from gpu_ami_sandbox.session import Sandbox
from tests.e2e.conftest import make_checkout


@dataclass
class Bench:
    """A checkout with its sandbox, in this process.

    Attributes:
        run: The invocation.
        err: What it said.
    """

    run: Invocation
    err: io.StringIO

    @property
    def sandbox(self) -> Sandbox:
        """Its sandbox."""
        assert isinstance(self.run.target, LocalSandbox)
        return self.run.target.sandbox

    @property
    def gate(self) -> Gate:
        """The gate of its AWS: records calls, injects faults."""
        assert self.sandbox.gate is not None
        return self.sandbox.gate

    @property
    def access(self) -> Access:
        """The way to its AWS."""
        return self.run.access

    def build(self, *variables: str, **flags: Any) -> BuildResult:
        """Build with *variables*, and forget what was said before."""
        self.err.truncate(self.err.seek(0))
        return build.build(self.run, prepare.prepare(self.run, variables), **flags)

    @property
    def said(self) -> str:
        """What the last build said."""
        return self.err.getvalue()

    def calls(self, action: str) -> list[dict[str, Any]]:
        """Return the parameters of each call of *action* so far; those of preflight's dry runs did nothing."""
        called = [dict(call.parameters) for call in self.gate.calls if call.action == action]
        return [parameters for parameters in called if parameters.get("DryRun") != "true"]


@contextlib.contextmanager
def bench(folder: Path, *, root_module: bool = False) -> Iterator[Bench]:
    """Open a checkout in *folder* and its sandbox; see `make_checkout` for *root_module*."""
    checkout = make_checkout(folder, root_module=root_module)
    err = io.StringIO()
    run = Invocation(checkout.root, Options(sandbox=True, output="json"), Console("json", err=err))
    try:
        yield Bench(run, err)
    finally:
        run.close()
