"""`invoke verify --sandbox` against the same calls made by a bare script, on one local AWS and guest."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpu_ami.aws import images
from gpu_ami.aws.caller import Caller
from gpu_ami.measure import checks, verify
from gpu_ami.measure.power_off import user_data
from gpu_ami.records.tags import IMAGE_TAG
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.packer_values import packer_values
from gpu_ami_sandbox.session import Sandbox
from tests.bench.measure import in_turn, say
from tests.e2e.conftest import Checkout, make_checkout

ROOT = Path(__file__).parents[2]
_FAMILY, _TYPE, _MOST = "gpu-batch", "g5.xlarge", 2


def main() -> bool:
    """Measure it: at most 2. The instance's own seconds are the same for both, the guest's boot among them."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = make_checkout(Path(folder) / "checkout")
        with checkout.sandbox() as sandbox:
            ami = checkout.document("build", "--sandbox")["ami_id"]
            request = json.dumps(_request(checkout, sandbox, ami))
            env = sandbox.access.child_environment({})
            bare = [sys.executable, "-m", "tests.bench.bare_verify"]
            pair = in_turn(
                lambda: checkout.document("verify", "--sandbox"),
                lambda: subprocess.run(bare, cwd=ROOT, env=env, input=request, text=True, check=True),
            )
    return say(f"invoke verify / the same calls bare (at most {_MOST})", str(pair), good=pair.ratio <= _MOST)


def _request(checkout: Checkout, sandbox: Sandbox, ami: str) -> dict[str, Any]:
    """Return what the bare script is to start and run: what `invoke verify` does."""
    caller = Caller(sandbox.access)
    image = images.look_up(caller, ami)
    assert image is not None, ami
    tags = [{"Key": "Name", "Value": "bench"}]
    launch = {
        "ImageId": ami,
        "InstanceType": _TYPE,
        "SubnetId": packer_values(sandbox, Workspace(checkout.root, sandbox=True))["subnet_id"],
        "IamInstanceProfile": {"Name": "gpu-ami-verify"},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "BlockDeviceMappings": [verify._root(caller, _FAMILY, image).mapping],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
        "UserData": user_data(verify.LONGEST_MIN),
    }
    script = (checkout.root / "packer" / "scripts" / "verify-gpu.sh").read_text()
    scripts = [checks.gpu_script(script, image.tags[IMAGE_TAG]), checks.BOOT_SCRIPT, checks.PREWARM_SCRIPT]
    return {"ImageId": ami, "launch": launch, "scripts": scripts}
