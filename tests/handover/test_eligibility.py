"""Which AMIs may be handed over."""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from gpu_ami.aws.images import Image
from gpu_ami.handover.eligibility import BLOCKS_APPLY, Code, Expected, blocking, problems

NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)
EXPECTED = Expected(
    account="123456789012", family="gpu-batch", architectures=("x86_64",), instance_type="g5.xlarge", now=NOW
)
GOOD = Image(
    image_id="ami-12345678",
    region="ap-northeast-2",
    account="123456789012",
    architecture="x86_64",
    deprecated_at=NOW + timedelta(days=1),
    tags={"gpu-ami:pipeline": "gpu-ami-pipeline", "gpu-ami:family": "gpu-batch"},
)


def test_our_own_available_ami_may_go() -> None:
    """Nothing speaks against it."""
    assert problems(GOOD.region, GOOD, EXPECTED) == []


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"state": "pending"}, "pending", "aws ec2 wait image-available --image-ids ami-12345678"),
        ({"state": "failed", "state_reason": "out of space"}, "state", r"is failed \(out of space\), so no instance"),
        ({"state": "disabled"}, "state", "is disabled, so no instance can start"),
        ({"account": "210987654321", "tags": {}}, "owner", "belongs to account 210987654321, not to 123456789012"),
        ({"tags": {}}, "foreign", "carries no gpu-ami:pipeline and gpu-ami:family tags"),
        ({"tags": {"gpu-ami:family": "gpu-batch"}}, "foreign", "none of this pipeline's"),
        ({"tags": {**GOOD.tags, "gpu-ami:family": "x"}}, "foreign", "carries gpu-ami:family=x"),
        ({"architecture": "arm64"}, "architecture", "is arm64, but g5.xlarge, which runs the jobs, takes x86_64"),
        ({"deprecated_at": NOW}, "deprecated", "is deprecated since 2026-11-24"),
        (
            {"tags": {**GOOD.tags, "gpu-ami:handover": "pending", "gpu-ami:finished": "false"}},
            "unfinished",
            "--resources ami-12345678 --tags Key=gpu-ami:finished,Value=true Key=gpu-ami:handover,Value=pending",
        ),
    ],
)
def test_what_speaks_against_an_ami_is_said(changed: dict[str, Any], code: str, message: str) -> None:
    """Each one alone is enough, and says what to do."""
    (found,) = problems(GOOD.region, msgspec.structs.replace(GOOD, **changed), EXPECTED)

    assert found.code == code
    assert re.search(message, found.text)


def test_an_ami_that_ec2_does_not_show_is_gone() -> None:
    """Deregistered, of another region or of an account that does not share it: EC2 does not tell which."""
    (found,) = problems("ap-northeast-2", None, EXPECTED)

    assert (found.code, "does not exist in ap-northeast-2" in found.text) == ("gone", True)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (None, "was it deregistered"),
        (True, "a sandbox that has ended made it; run `invoke build`"),
        (
            False,
            "starts a fresh AWS; run `invoke sandbox` in another terminal, which keeps one up, then `invoke build`",
        ),
    ],
)
def test_in_the_sandbox_the_ami_went_with_its_sandbox(kept: bool | None, message: str) -> None:
    """Nobody deregistered it: a newcomer would look for it in vain, and make the next one in vain too."""
    (found,) = problems("ap-northeast-2", None, dataclasses.replace(EXPECTED, kept=kept))

    assert message in found.text


@pytest.mark.parametrize("tags", [{"gpu-ami:finished": "true"}, {"gpu-ami:handover": "applied"}])
def test_an_ami_that_no_sweep_takes_may_go(tags: dict[str, str]) -> None:
    """What is finished, and what was applied although nobody called it finished."""
    kept = {**GOOD.tags, "gpu-ami:finished": "false", **tags}

    assert problems(GOOD.region, msgspec.structs.replace(GOOD, tags=kept), EXPECTED) == []


def test_everything_is_said_at_once() -> None:
    """A person should not find one problem after the other."""
    bad = msgspec.structs.replace(GOOD, state="pending", architecture="arm64", tags={})

    assert [problem.code for problem in problems(GOOD.region, bad, EXPECTED)] == ["pending", "foreign", "architecture"]


@pytest.mark.parametrize(
    ("changed", "blocks"),
    [
        ({}, []),
        ({"state": "pending"}, ["pending"]),
        ({"state": "disabled"}, ["state"]),
        ({"account": "210987654321", "state": "failed"}, ["state", "owner"]),
        ({"tags": {}}, []),
        ({"architecture": "arm64"}, []),
        ({"deprecated_at": NOW}, []),
        ({"tags": {**GOOD.tags, "gpu-ami:finished": "false"}}, []),
    ],
)
def test_apply_refuses_only_what_batch_could_not_use(changed: dict[str, Any], blocks: list[str]) -> None:
    """An AMI that is live and has only grown old must be appliable again, or nothing else could be changed."""
    found = blocking(GOOD.region, msgspec.structs.replace(GOOD, **changed), EXPECTED)

    assert [problem.code for problem in found] == blocks
    assert [problem.code for problem in blocking(GOOD.region, None, EXPECTED)] == ["gone"]


def test_an_architecture_that_was_not_looked_up_is_no_problem() -> None:
    """`apply` does not query it; unknown is not wrong here, as Terraform and not the settings names the types."""
    unknown = dataclasses.replace(EXPECTED, architectures=None)

    assert problems(GOOD.region, msgspec.structs.replace(GOOD, architecture="arm64"), unknown) == []


def test_the_page_says_who_refuses_what() -> None:
    """Who is refused by one command and not by the other must be able to look it up."""
    page = (Path(__file__).parents[2] / "docs" / "apply.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z]+)` \| [^|]+ \| (yes|no)[^|]* \| (yes|no)[^|]* \|$", page, re.MULTILINE)

    assert {code: (handed, applied) for code, handed, applied in rows} == {
        code: ("yes", "yes" if code in BLOCKS_APPLY else "no") for code in get_args(Code)
    }
