"""Builds that a person stops."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from gpu_ami.bake.template import template_scripts
from tests.e2e.conftest import ROOT, Checkout
from tests.e2e.leftovers import all_left_resources

SCRIPTS = template_scripts(ROOT / "packer")


@pytest.mark.parametrize(
    "said",
    ["launching the builder", f"step 1 of {len(SCRIPTS)}", f"step 5 of {len(SCRIPTS)}", "making the AMI"],
)
def test_ctrl_c_leaves_nothing_behind(scene: tuple[Checkout, Any], said: str) -> None:
    """Whatever Packer was doing, one Ctrl-C ends the build, the instance and everything made for it."""
    checkout, sandbox = scene
    child = checkout.popen("build", "--sandbox")
    assert child.stderr is not None
    lines: list[str] = []
    for line in child.stderr:
        lines.append(line)
        if said in line:
            child.send_signal(signal.SIGINT)
            break
    rest, _ = child.stderr.read(), child.wait(timeout=120)
    if child.stdout is not None:
        child.stdout.close()
    child.stderr.close()

    assert said in "".join(lines), "".join(lines)
    assert child.returncode == 130, rest
    assert "interrupted" in rest.strip().splitlines()[-1]
    assert all_left_resources(sandbox) == []
