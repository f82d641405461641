"""A local AWS in a process of its own, with an account for clean-up tools; ends when its input does.

python -m tests.bench.cleanup_account reasons WAY_OF_BEING_NEEDED …
python -m tests.bench.cleanup_account many IMAGES DOOMED TEMPLATES DELAY_S
"""

from __future__ import annotations

import json
import sys
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


def state(here: World, made: Mapping[str, str]) -> dict[str, Any]:
    """Return what is left of the account, and what it took."""
    calls = Counter(call.action for call in here.aws.gate.calls)
    return {
        "gone": sorted(reason for reason, image_id in made.items() if image_id not in here.there()),
        "snapshots": len(here.snapshots_there()),
        "calls": sum(calls.values()),
        "by_action": dict(calls.most_common()),
    }


def main(reasons: list[str]) -> None:
    """Serve until the input ends; each line of it is answered with the account's state."""
    images.PENDING_S = 0.0
    aws = LocalAws(REGION)
    aws.start()
    here = world(aws)
    made = with_reasons(here, reasons)
    aws.gate.calls.clear()
    print(json.dumps({"endpoint_url": aws.endpoint_url, "made": made}), flush=True)  # noqa: T201
    for _line in sys.stdin:
        print(json.dumps(state(here, made)), flush=True)  # noqa: T201
    aws.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
