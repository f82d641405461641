"""What can go wrong with a job's cold start in the sandbox: asked for by a test, or by a tag of the AMI.

A test says `rig`. A person at a running sandbox tags the AMI: ``sandbox:batch`` with names of `FAULTS` and commas, or
``gpu-ami-sandbox:slow`` with a factor by which its hosts are slower.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Final

from moto.batch.models import batch_backends

from gpu_ami_sandbox.aws.refusals import refuse

FAULT_TAG: Final = "sandbox:batch"
SLOW_TAG: Final = "gpu-ami-sandbox:slow"
FAULTS: Final = {
    "no-capacity": "EC2 has no such instance: the job stays RUNNABLE",
    "misconfiguration": "Batch finds no environment that is large enough for the job, and says so",
    "invalid": "the environment is INVALID as soon as it is there",
    "second-host": "one more host comes up in the environment",
    "reused": "the host was there before the job, and has had another task",
    "rate-dropped": "Batch leaves the rate out of its copy of the launch template",
    "rate-ignored": "the copy has the rate, the volume has none",
    "pulled": "the image is pulled although the AMI holds it",
    "other-digest": "the task runs another image than the one that was asked for",
    "no-log": "no line reaches the log, and there is no stream",
    "late-log": "the stream is there only minutes after the job's end",
    "task-gone": "ECS has forgotten the task by the time that it runs",
    "host-lost": "the instance is terminated while the job runs",
    "fails": "the job's import fails, and so does the job",
    "hangs": "the job says its first words and then nothing",
    "stale-relationship": "a queue that is gone keeps its environment from being deleted, once more",
    "delete-hangs": "the environment stays DELETING for ever",
}


def rig(account: str, region: str, fault: str, name: str = "*") -> None:
    """Let *fault*, one of `FAULTS`, befall the environments whose names fit the pattern *name*, and their jobs."""
    if fault not in FAULTS:
        msg = f"no such fault: {fault}"
        raise ValueError(msg)
    kept: list[tuple[str, str]] = vars(batch_backends[account][region]).setdefault("sandbox_faults", [])
    kept.append((fault, name))


def rigged(backend: Any, name: str) -> frozenset[str]:
    """Return the faults that tests asked for of the environment *name*."""
    kept: list[tuple[str, str]] = vars(backend).get("sandbox_faults", [])
    return frozenset(fault for fault, pattern in kept if fnmatchcase(name, pattern))


def faults_of(image: Any) -> frozenset[str]:
    """Return the faults that the tag of moto's *image* asks for.

    Raises:
        RefusalError: It names something else: the start would be a good one, and a test of the fault would pass.
    """
    text = _tags(image).get(FAULT_TAG, "")
    named = frozenset(part.strip() for part in text.split(",") if part.strip())
    if unknown := named - FAULTS.keys():
        text = f"The tag {FAULT_TAG} of {image.id} is '{', '.join(sorted(unknown))}', none of {', '.join(FAULTS)}."
        refuse("InvalidParameterValue", text)
    return named


def slowness_of(image: Any) -> float:
    """Return the factor by which the tag of moto's *image* makes its hosts slower; 1 without one.

    Raises:
        RefusalError: It is no factor from 1 to 100.
    """
    text = _tags(image).get(SLOW_TAG)
    if text is None:
        return 1.0
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 1.0 <= factor <= 100.0:
        refuse("InvalidParameterValue", f"The tag {SLOW_TAG} of {image.id} is '{text}', no factor from 1 to 100.")
    return factor


def _tags(image: Any) -> dict[str, str]:
    return {tag["key"]: str(tag["value"]) for tag in image.get_tags()} if image is not None else {}
