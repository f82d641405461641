"""That a fleet is not read everywhere is said, with what says so: an AMI that only a text elsewhere names could go."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.console import Console
from gpu_ami.errors import UsageError
from gpu_ami.fleet.entry import Entered
from gpu_ami.fleet.members import Member
from gpu_ami.fleet.narrowing import OF_AN_ACCOUNT, Narrowing, narrowing, region_setting
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options, options_from

A, B = "111111111111", "222222222222"


def account(number: str, *regions: str, chosen: tuple[str, ...] = (), **more: Any) -> Entered:
    """Return an account with these regions."""
    return Entered(member=Member(account=number, regions=chosen), regions=regions, **more)


def invocation(tmp_path: Path, arguments: list[str], environment: Mapping[str, str], settings: str) -> Invocation:
    """Return one whose pipeline.yaml has *settings*."""
    (tmp_path / "pipeline.yaml").write_text(f"region: ap-northeast-2\n{settings}\n")
    return Invocation(tmp_path, options_from(arguments, environment), Console())


@pytest.mark.parametrize(
    ("arguments", "environment", "settings", "flag", "by"),
    [
        ([], {}, "", (), ""),
        ([], {"GPU_AMI_REGION": "eu-west-1"}, "", (), "GPU_AMI_REGION"),
        (["--region", "us-east-1"], {"GPU_AMI_REGION": "eu-west-1"}, "", (), "--region"),
        ([], {}, "cleanup: {regions: [eu-west-1]}", (), "cleanup.regions in pipeline.yaml"),
        ([], {"GPU_AMI_REGION": "eu-west-1"}, "cleanup: {regions: [eu-west-1]}", (), "GPU_AMI_REGION"),
        ([], {"GPU_AMI_REGION": "eu-west-1"}, "", ("us-east-1",), "--regions"),
        ([], {"GPU_AMI_REGION": "eu-west-1"}, "", ("all",), ""),
    ],
)
def test_what_names_the_regions_is_known(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], settings: str, flag: tuple[str, ...], by: str
) -> None:
    """The variable is set once for a repository, and nobody thinks of it before a fleet's plan."""
    run = invocation(tmp_path, arguments, environment, settings)

    assert region_setting(run, flag) == by


def test_a_slip_in_a_region_is_refused(tmp_path: Path) -> None:
    """As where the regions themselves are read."""
    with pytest.raises(UsageError, match="eu-wets"):
        region_setting(invocation(tmp_path, [], {}, ""), ("eu-wets",))


def test_a_fleet_that_is_read_everywhere_says_nothing() -> None:
    """Nor do accounts that are left out or cannot be entered: those are named by themselves."""
    whole = [
        account(A, "r-1", "r-2"),
        account(B, trouble="refuses"),
        account("333333333333", "r-1", trouble="refuses"),
    ]

    assert narrowing(whole, [(A, "r-1"), (A, "r-2")], "--region") is None
    assert narrowing([], [], "") is None


def test_what_is_left_out_is_told_by_account() -> None:
    """A region that is read in one account and not in another is not read."""
    found = [account(A, "r-1", "r-2"), account(B, "r-1", "r-3")]

    said = narrowing(found, [(A, "r-1"), (A, "r-2"), (B, "r-1")], "GPU_AMI_REGION")

    assert said == Narrowing(by=("GPU_AMI_REGION",), read=("r-1", "r-2"), unread=("r-3",))
    assert said.text == "Read in r-1, r-2 alone, because of GPU_AMI_REGION; not read where they are on: 1 region."
    from_earlier_version = dataclasses.replace(said, by=())
    assert from_earlier_version.text == "Read in r-1, r-2 alone; not read where they are on: 1 region."


@pytest.mark.parametrize(
    ("chosen", "by"),
    [
        ((("r-1",), ("r-1",)), (OF_AN_ACCOUNT,)),
        ((("r-1",), ()), ("cleanup.regions in pipeline.yaml", OF_AN_ACCOUNT)),
        (((), ()), ("cleanup.regions in pipeline.yaml",)),
    ],
)
def test_each_that_narrows_is_named(chosen: tuple[tuple[str, ...], tuple[str, ...]], by: tuple[str, ...]) -> None:
    """An account's own regions go before those of the settings, and whoever takes one out must find the other."""
    found = [account(number, "r-1", "r-2", chosen=some) for number, some in zip((A, B), chosen, strict=True)]

    said = narrowing(found, [(A, "r-1"), (B, "r-1")], "cleanup.regions in pipeline.yaml")

    assert said is not None
    assert said.by == by


def test_many_regions_and_none_are_one_line() -> None:
    """A wrong region leaves nothing to read; twenty of them fill no screen."""
    names = tuple(f"r-{number}" for number in range(10, 31))
    many = narrowing([account(A, *names)], [(A, name) for name in names[1:]], "--regions")
    none = narrowing([account(A, *names)], [], "--regions")

    assert many is not None
    assert none is not None
    assert many.text.startswith("Read in r-11, r-12, r-13, r-14, r-15, r-16 and 14 more alone, because of --regions")
    assert none.text == "Read nowhere, because of --regions; not read where they are on: 21 regions."


def test_options_say_what_named_the_region() -> None:
    """A flag goes before the variable."""
    assert Options().region_by == "--region"
    assert options_from(["cleanup"], {"GPU_AMI_REGION": ""}).region_by == "--region"
