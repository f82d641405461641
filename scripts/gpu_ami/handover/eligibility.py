"""Judges whether an AMI may be used, by what EC2 says of it; pure, and the only judge of it.

`invoke update-tfvars` and `publish` refuse an AMI for any of its problems, `apply` and `rollback` for those of
`BLOCKS_APPLY`: what is live already must be appliable again when it has only grown old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from gpu_ami.records.tags import FAMILY_TAG, FINISHED_TAG, PIPELINE_TAG, finishing_command, is_unfinished

if TYPE_CHECKING:
    from gpu_ami.aws.images import Image

# What to do about an AMI that is not there, by whether the sandbox outlives the command; None on AWS.
WHERE_GONE = {
    None: "was it deregistered, or is it in another region or another account?",
    True: "a sandbox that has ended made it; run `invoke build`.",
    False: (
        "each --sandbox command starts a fresh AWS; run `invoke sandbox` in another terminal, which keeps one up, then "
        "`invoke build`."
    ),
}

Code = Literal["gone", "pending", "state", "owner", "architecture", "foreign", "deprecated", "unfinished", "failed"]
# With these Batch could start no instance of the AMI, or its owner could take it away at any time.
BLOCKS_APPLY: frozenset[Code] = frozenset({"gone", "pending", "state", "owner"})


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an AMI must be.

    Attributes:
        account: The account of the credentials.
        family: The settings' family.
        architectures: What the jobs' instances run; None when it was not looked up, and so is no problem.
        instance_type: Those instances, for the message.
        now: The moment of the decision, UTC.
        kept: Whether the sandbox outlives this command; None on AWS.
        failure: How its last verification failed, where the settings want one to come first; None where it did not.
    """

    account: str
    family: str
    architectures: Sequence[str] | None = None
    instance_type: str = ""
    now: datetime
    kept: bool | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Problem:
    """Why an AMI must not be used.

    Attributes:
        code: Which rule.
        detail: What is wrong, as the predicate of a sentence about the AMI.
        advice: What to do.
    """

    code: Code
    detail: str
    advice: str

    @property
    def text(self) -> str:
        """What is wrong and what to do."""
        return f"{self.detail}: {self.advice}"


def problems(region: str, found: Image | None, expected: Expected) -> list[Problem]:
    """Return everything that speaks against using an AMI in *region*; nothing when it may be.

    Args:
        region: Where it is to be used.
        found: What EC2 says of it; None when it shows none.
        expected: What it must be.
    """
    if found is None:
        return [Problem("gone", f"does not exist in {region}", WHERE_GONE[expected.kept])]
    return [*_state(found), *_origin(found, expected), *_fitness(found, expected)]


def blocking(region: str, found: Image | None, expected: Expected) -> list[Problem]:
    """Return what `apply` and `rollback` refuse the AMI for, of all its `problems`."""
    return [problem for problem in problems(region, found, expected) if problem.code in BLOCKS_APPLY]


def _state(found: Image) -> list[Problem]:
    if found.state == "available":
        return []
    if found.state == "pending":
        wait = f"aws ec2 wait image-available --image-ids {found.image_id} --region {found.region}"
        return [Problem("pending", "is still pending", f"wait until it is available (`{wait}`) and run this again.")]
    reason = f" ({found.state_reason})" if found.state_reason else ""
    return [Problem("state", f"is {found.state}{reason}, so no instance can start from it", "choose another one.")]


def _origin(found: Image, expected: Expected) -> list[Problem]:
    if found.account != expected.account:
        detail = f"belongs to account {found.account}, not to {expected.account}"
        return [Problem("owner", detail, "use credentials of its owner.")]
    if PIPELINE_TAG not in found.tags or found.tags.get(FAMILY_TAG) != expected.family:
        family = found.tags.get(FAMILY_TAG)
        tag = f"carries {FAMILY_TAG}={family}" if family else f"carries no {PIPELINE_TAG} and {FAMILY_TAG} tags"
        detail = f"{tag}, so it is none of this pipeline's ({expected.family})"
        return [Problem("foreign", detail, "check the id.")]
    return []


def _fitness(found: Image, expected: Expected) -> list[Problem]:
    made: list[Problem] = []
    if is_unfinished(found.tags):
        detail = f"carries {FINISHED_TAG}=false, so the next sweep takes it for a failed build's and removes it"
        advice = f"if it is whole, tag it (`{finishing_command(found.region, found.image_id)}`) and run this again."
        made.append(Problem("unfinished", detail, advice))
    if expected.architectures is not None and found.architecture not in expected.architectures:
        runs = " or ".join(expected.architectures)
        detail = f"is {found.architecture}, but {expected.instance_type}, which runs the jobs, takes {runs}"
        made.append(Problem("architecture", detail, "choose another one, or fix cost.instance_type in the settings."))
    if found.deprecated_at is not None and found.deprecated_at <= expected.now:
        made.append(Problem("deprecated", f"is deprecated since {found.deprecated_at:%Y-%m-%d}", "choose a newer one."))
    if expected.failure is not None:
        where = "" if expected.kept is None else " --sandbox"
        advice = f"choose another one, or have `invoke verify --ami {found.image_id}{where}` check it anew."
        made.append(Problem("failed", f"must not be handed over, as {expected.failure}", advice))
    return made
