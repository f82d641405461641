"""A local AWS in a process of its own, with an account for clean-up tools; ends when its input does.

python -m tests.bench.cleanup_account reasons WAY_OF_BEING_NEEDED …
python -m tests.bench.cleanup_account many IMAGES SELECTED_EVERY TEMPLATES DELAY_S [REGIONS]

With REGIONS, a JSON list, something in each of them needs an AMI in each of the rarer ways, too.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gpu_ami.cleanup.planner import make_plan
from gpu_ami_sandbox.aws.ec2 import images
from gpu_ami_sandbox.aws.gate import Application, Environ, StartResponse
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.rare_uses import RARE_USES
from gpu_ami_sandbox.demo.uses import USES
from tests.support.account import REGION, World, other_region, world

# Ways of the demo account in which a text alone mentions an AMI.
MENTIONS = ("stack_parameter", "lambda_variable", "state_machine")


class AtOnce:
    """Counts how many calls are under way, in front of the gate.

    Attributes:
        most: The most so far.
    """

    def __init__(self, gate: Application) -> None:
        """Let everything through to *gate*."""
        self._gate = gate
        self._lock = threading.Lock()
        self._under_way = self.most = 0

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        try:
            return self._gate(environ, start_response)
        finally:
            with self._lock:
                self._under_way -= 1


def with_reasons(here: World, reasons: Sequence[str]) -> dict[str, str]:
    """Make one AMI for each of the ways of being needed, and two that nothing needs."""
    made = {}
    for number, reason in enumerate(reasons):
        image = here.image(100 + 3 * number)
        (USES | RARE_USES)[reason](here.maker, image)
        made[reason] = image.id
    return made | {f"unused_{n}": here.image(90 + n).id for n in (1, 2)}


def with_many(here: World, count: int, selected_every: int, templates: int) -> dict[str, str]:
    """Make *count* AMIs, one of *selected_every* old and unused, and *templates* that each name a young one."""
    made = {}
    for number in range(count):
        is_old = number % selected_every == 0
        age_days = 40 + number % 400 if is_old else number % 28
        image = here.image(age_days, name=f"gpu-batch-{number}")
        made[f"unused_{number}" if is_old else f"young_{number}"] = image.id
    for number in range(templates):
        here.maker.template(f"t{number}", made[f"young_{number * selected_every + 1}"])
    here.maker.parameter("/in/use", made["young_1"])
    return made


def with_rare_uses(here: World, regions: Sequence[str]) -> dict[str, str]:
    """Make one AMI for each of the rarer ways, and for each mention in a text, in each of *regions*."""
    made = {}
    mentions = {name: USES[name] for name in MENTIONS if name in USES}
    for region in regions:
        maker = here.maker if region == REGION else other_region(here, region)
        for name, use in (RARE_USES | mentions).items():
            image = maker.image(50)
            use(maker, image)
            made[f"{name} in {region}"] = image.id
    return made


def state(here: World, made: Mapping[str, str], most: int) -> dict[str, Any]:
    """Return what is left of the account, and what it took."""
    calls = Counter(call.action for call in here.aws.gate.calls)
    there = here.there()
    return {
        "gone": sorted(reason for reason, image_id in made.items() if image_id not in there),
        "snapshots": len(here.snapshots_there()),
        "calls": sum(calls.values()),
        "by_action": dict(calls.most_common()),
        "at_once": most,
        "cpu_s": round(time.process_time(), 2),
    }


def main(kind: str, *arguments: str) -> None:
    """Serve until the input ends; each line of it is answered with the account's state."""
    images.PENDING_S = 0.0
    aws = LocalAws(REGION)
    aws.start()
    here = world(aws)
    made = with_many(here, *(int(size) for size in arguments[:3])) if kind == "many" else with_reasons(here, arguments)
    if kind == "many" and arguments[4:] and arguments[4]:
        made |= with_rare_uses(here, json.loads(arguments[4]))
    # A running AWS has read its models; which tool comes first must not matter.
    make_plan(here.survey(), here.account, here.now)
    counter = AtOnce(aws.gate)
    assert aws._server is not None
    aws._server.application = counter
    aws.gate.calls.clear()
    aws.gate.delay_s = float(arguments[3]) if kind == "many" else 0.0
    print(json.dumps({"endpoint_url": aws.endpoint_url, "made": made}), flush=True)  # noqa: T201
    for _line in sys.stdin:
        print(json.dumps(state(here, made, counter.most)), flush=True)  # noqa: T201
    aws.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
