"""`invoke plan` and `invoke apply` against the same Terraform commands run bare in the same folder."""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gpu_ami.tools import terraform_tools
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.session import Sandbox
from tests.bench.measure import Pair, in_turn
from tests.e2e.conftest import Checkout, make_checkout

_NO_QUEUE = "create_job_queue=false"
_MOST = 1.1


def main() -> bool:
    """Measure both: at most 1.1 each.

    The job queue is left out, because the provider waits 30 s for it: that would make any overhead seem small. Every
    apply moves the environments to another AMI, in place.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkout = make_checkout(Path(folder) / "checkout")
        with checkout.sandbox() as sandbox:
            root = Workspace(checkout.root, sandbox=True).terraform
            amis = itertools.cycle([sandbox.account.live_ami_id, sandbox.account.images_in_use["keep_tag"]])
            _ours(checkout, "plan")
            _hand_over(root, amis)
            _ours(checkout, "apply")
            _hand_over(root, amis)
            plan = in_turn(lambda: _ours(checkout, "plan"), lambda: _bare(root, sandbox), runs=5)
            good = _say("invoke plan / bare init, plan -out, show -json", plan)

            def ours() -> None:
                _hand_over(root, amis)
                _ours(checkout, "apply")

            def bare() -> None:
                _hand_over(root, amis)
                _bare(root, sandbox, "apply")

            return _say("invoke apply / the same and apply", in_turn(ours, bare, runs=5)) and good


def _say(name: str, pair: Pair) -> bool:
    good = pair.ratio <= _MOST
    print(f"{'ok  ' if good else 'MISS'} {name} (at most {_MOST}): {pair}", flush=True)  # noqa: T201
    return good


def _hand_over(root: Path, amis: Iterator[str]) -> None:
    (root / "gpu-ami.auto.tfvars.json").write_text(json.dumps({"gpu_ami_id": next(amis)}))


def _ours(checkout: Checkout, task: str) -> None:
    done = checkout.invoke(task, "--var", _NO_QUEUE, "--sandbox")
    if done.returncode != 0:
        raise RuntimeError(done.stderr)


def _bare(root: Path, sandbox: Sandbox, *more: str) -> None:
    """Run what we run, in the same folder and environment."""
    tools = terraform_tools()
    terraform = str(tools.terraform.path)
    mirror = [f"-plugin-dir={tools.provider_mirror}"] if tools.provider_mirror else []
    with tempfile.TemporaryDirectory() as folder:
        plan = str(Path(folder) / "plan")
        plan_arguments = ["plan", f"-out={plan}", "-detailed-exitcode", "-input=false", f"-var={_NO_QUEUE}"]
        for command in (
            ["init", "-input=false", *mirror],
            plan_arguments,
            ["show", "-json", plan],
            *([name, "-input=false", plan] for name in more),
        ):
            env = sandbox.access.child_environment({"TF_IN_AUTOMATION": "1"})
            done = subprocess.run([terraform, *command], cwd=root, env=env, capture_output=True, text=True, check=False)
            if done.returncode not in (0, 2):
                raise RuntimeError(done.stderr)
