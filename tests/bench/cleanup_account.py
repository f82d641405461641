"""A local AWS in a process of its own, with an account for clean-up tools; ends when its input does.

python -m tests.bench.cleanup_account reasons WAY_OF_BEING_NEEDED …
python -m tests.bench.cleanup_account many IMAGES DOOMED TEMPLATES DELAY_S
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gpu_ami.sandbox import images
from gpu_ami.sandbox.demouses import USES
from gpu_ami.sandbox.server import LocalAws
from tests.cleanup.world import REGION, World, world


def with_reasons(here: World, reasons: Sequence[str]) -> dict[str, str]:
    """Make one AMI for each of the ways of being needed, and two that nothing needs."""
    made = {}
    for number, reason in enumerate(reasons):
        image = here.image(100 + 3 * number)
        USES[reason](here.maker, image)
        made[reason] = image.id
    return made | {f"unused_{n}": here.image(90 + n).id for n in (1, 2)}


def with_many(here: World, count: int, doomed: int, templates: int) -> dict[str, str]:
    """Make *count* AMIs, *doomed* of them old and unused; the others are young, *templates* of them in templates."""
    old = [here.image(40 + number, name=f"gpu-batch-{number}") for number in range(doomed)]
    young = [here.image(number % 28, name=f"gpu-batch-{doomed + number}") for number in range(count - doomed)]
    for number in range(templates):
        here.maker.template(f"t{number}", young[number].id)
    return {f"unused_{number}": image.id for number, image in enumerate(old)} | {
        f"young_{number}": image.id for number, image in enumerate(young)
    }


class Traffic:
    """Counts calls, and how many are under way at once."""

    def __init__(self) -> None:
        """Count from nothing."""
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def watch(self, here: World) -> None:
        """Stand in front of the account."""
        gate = here.aws.gate
        inner = gate.__class__.__call__

        def counted(environ: dict[str, Any], start_response: Any) -> Any:
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            try:
                return inner(gate, environ, start_response)
            finally:
                with self._lock:
                    self._now -= 1

        server: Any = here.aws._server
        server.app = counted


def state(here: World, made: Mapping[str, str], traffic: Traffic) -> dict[str, Any]:
    """Return what is left of the account, and what it took."""
    calls = Counter(call.action for call in here.aws.gate.calls)
    return {
        "gone": sorted(reason for reason, image_id in made.items() if image_id not in here.there()),
        "snapshots": len(here.snapshots_there()),
        "calls": sum(calls.values()),
        "by_action": dict(calls.most_common()),
        "at_once": traffic.most,
    }


def warm(here: World) -> None:
    """Let moto load its services: AWS's are up before the first call, too."""
    for service, operation in (
        ("autoscaling", "describe_auto_scaling_groups"),
        ("batch", "describe_compute_environments"),
        ("ec2", "describe_instances"),
        ("imagebuilder", "list_image_recipes"),
        ("rbin", "list_rules"),
        ("ssm", "describe_parameters"),
        ("sts", "get_caller_identity"),
    ):
        parameters = {"ResourceType": "EC2_IMAGE"} if service == "rbin" else {}
        getattr(here.access.client(service), operation)(**parameters)


def main(words: list[str]) -> None:
    """Serve until the input ends; each line of it is answered with the account's state."""
    images.PENDING_S = 0.0
    aws = LocalAws(REGION)
    aws.start()
    here, traffic = world(aws), Traffic()
    made = with_reasons(here, words[1:]) if words[0] == "reasons" else with_many(here, *map(int, words[1:4]))
    warm(here)
    if words[0] == "many":
        aws.gate.delay_s = float(words[4])
    aws.gate.calls.clear()
    traffic.watch(here)
    print(json.dumps({"endpoint_url": aws.endpoint_url, "made": made}), flush=True)  # noqa: T201
    for _line in sys.stdin:
        print(json.dumps(state(here, made, traffic)), flush=True)  # noqa: T201
    aws.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
