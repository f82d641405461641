"""What would change a cold start: the questions that one asks first, each as another set of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.coldstart.assumptions import Inputs, Range, with_given
from gpu_ami.coldstart.model import Host, Start, Variant, predict


@dataclass(frozen=True)
class WhatIf:
    """One change, and the whole start with it.

    Attributes:
        change: What is changed, in words.
        variant: Which way to start it is about.
        total: From submission to models ready, with the change.
        against_s: The likely total's difference to the same way without it; negative is faster.
    """

    change: str
    variant: Variant
    total: Range
    against_s: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {
            "change": self.change,
            "variant": self.variant,
            **self.total.document(),
            "against_s": round(self.against_s, 1),
        }


_RATES = (100, 150, 200, 250, 300)
_THROUGHPUTS = (125, 250, 500, 1000)
_LESS_GIB = 5.0


def what_ifs(inputs: Inputs, host: Host) -> list[WhatIf]:
    """Return the usual questions: a smaller image, each rate, each throughput, instance store."""
    found = [
        _asked("image 5 GiB smaller", variant, _smaller(inputs), inputs, host)
        for variant in ("stock", "plain", "rated")
    ]
    found += [_asked(f"rate {rate} MiB/s", "rated", {"rate_mib_s": float(rate)}, inputs, host) for rate in _RATES]
    for throughput in _THROUGHPUTS:
        changes = {"throughput_mib_s": float(throughput)}
        found += [
            _asked(f"throughput {throughput} MiB/s", variant, changes, inputs, host) for variant in ("stock", "rated")
        ]
    stock = predict(Start("stock", host), inputs).total
    fast = predict(Start("fast_pull", host), inputs).total
    return [*found, WhatIf("instance store (NVMe) for the pull", "fast_pull", fast, fast.likely - stock.likely)]


def _smaller(inputs: Inputs) -> dict[str, float]:
    """Return the changes of an image that has 5 GiB less, unpacked, compressed, read and in the snapshot."""
    image = inputs["image_gib"].range
    assert image is not None, "the image's size is always known"
    share = max(0.0, 1 - _LESS_GIB / image.likely) if image.likely else 1.0
    changed = {"image_gib": image.likely * share}
    for name in ("compressed_gib", "touched_gib"):
        known = inputs[name].range
        if known is not None:
            changed[name] = known.likely * share
    snapshot = inputs["snapshot_gib"].range
    if snapshot is not None:
        changed["snapshot_gib"] = max(0.0, snapshot.likely - image.likely * (1 - share))
    return changed


def _asked(change: str, variant: Variant, changes: Mapping[str, float], inputs: Inputs, host: Host) -> WhatIf:
    start = Start(variant, host)
    changed = with_given(inputs, {name: Range(value, value, value) for name, value in changes.items()}, "what if")
    total = predict(start, changed).total
    return WhatIf(change, variant, total, total.likely - predict(start, inputs).total.likely)
