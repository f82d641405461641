"""Rarer ways in which something in an account needs an AMI, one function each; the demo account does without them."""

from __future__ import annotations

from gpu_ami_sandbox.demo.uses import Use

# By the function's name without its underscore, in the order below.
RARE_USES: dict[str, Use] = {}


def _use(function: Use) -> Use:
    RARE_USES[function.__name__.lstrip("_")] = function
    return function
