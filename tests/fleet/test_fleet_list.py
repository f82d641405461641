"""The list of a fleet for many machines: whole accounts in even shards, and no file that contradicts itself."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpu_ami.errors import UsageError
from gpu_ami.fleet.entry import Entered
from gpu_ami.fleet.fleet_list import FleetList, HubRow, Run, cut, digest_of, list_of, load, run_of
from gpu_ami.fleet.members import Member
from gpu_ami.settings import LeftOut

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)
FIRST, SECOND, REFUSES, LEFT = (f"{number}" * 12 for number in (1, 2, 3, 4))
HERE, THERE = "eu-west-1", "us-east-1"
ENTERED = [
    Entered(member=Member(account=FIRST, name="a", paths=("o-1/r-1/",)), regions=(HERE, THERE)),
    Entered(member=Member(account=SECOND, regions=(THERE,)), regions=(HERE, THERE), off=("ap-south-2",)),
    Entered(member=Member(account=REFUSES), trouble="no", fix="make the role"),
    Entered(member=Member(account=LEFT, left_out=LeftOut(id=LEFT, reason="r", until=date(2099, 1, 1)))),
]


def made(*, shards: int = 2, regions: tuple[str, ...] = ()) -> FleetList:
    """Return the list of four accounts, of which two can be read."""
    hub, run = HubRow(FIRST, "arn:aws:iam::111111111111:role/hub"), Run("7", 1, "o/r")
    return list_of(ENTERED, None, units=(), regions=regions, hub=hub, run=run, as_of=NOW, shards=shards)


def test_accounts_are_cut_evenly_and_never_in_two() -> None:
    """An AMI's family, and whether anything of an account is used, is the account's own."""
    weights = {f"{number:012d}": 17 for number in range(500)} | {"9" * 12: 0}
    shards = cut(weights, 20)

    assert sorted(account for shard in shards for account in shard) == sorted(weights)
    assert {sum(weights[account] for account in shard) for shard in shards} == {25 * 17}
    assert cut({"a": 1, "b": 1}, 3) == (("a",), ("b",))
    assert cut({"a": 0, "b": 0, "c": 0}, 2) == (("a", "c"), ("b",))
    assert cut({}, 3) == ()


def test_who_is_read_where_comes_back_from_the_file(tmp_path: Path) -> None:
    """An account's own regions go before those that are asked for; who cannot be read is in no shard."""
    path = tmp_path / "fleet.json"
    path.write_bytes(made().encoded())
    found, digest = load(path)

    assert digest == digest_of(path.read_bytes())
    assert found.names == ("1/2", "2/2")
    assert found.places == ((FIRST, HERE), (FIRST, THERE), (SECOND, THERE))
    assert made(regions=(HERE,)).places == ((FIRST, HERE), (SECOND, THERE))
    assert [row.account for row in found.members_of("2/2")] == [SECOND]
    assert [row.entered.trouble for row in found.members] == [None, None, "no", None]
    assert [row.member.left_out for row in found.members] == [one.member.left_out for one in ENTERED]
    for wrong in ("0/2", "3/2", "1/3", "1", "", "1/2 ", "٣/٣"):
        with pytest.raises(UsageError, match="is not a shard of the list, which has 1/2 to 2/2"):
            found.members_of(wrong)


def test_a_list_of_every_region_has_what_earlier_versions_know(tmp_path: Path) -> None:
    """They refuse a member that they do not know; one that would say nothing is not in the file."""
    path = tmp_path / "fleet.json"
    whole, some = made(), msgspec.structs.replace(made(regions=(HERE,)), regions_by=("--regions",))
    known = {"format", "run", "as_of", "hub", "organization", "members", "shards"}

    assert set(json.loads(whole.encoded())) == known
    assert set(json.loads(some.encoded())) == known | {"regions_by"}
    for written, by in (
        (whole.encoded(), ()),
        (b'{"regions_by":[],' + whole.encoded()[1:], ()),
        (some.encoded(), ("--regions",)),
    ):
        path.write_bytes(written)
        assert (load(path)[0].regions_by or ()) == by


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "gpu-ami-fleet-2"}, "is no list of a fleet"),
        ({"as_of": "2026-11-30T00:00:00"}, "is no list of a fleet"),
        ({"later": 1}, "is no list of a fleet"),
        ({"shards": [[FIRST], [SECOND, FIRST]]}, "an account stands twice among its shards"),
        ({"shards": [[FIRST]]}, f"account {SECOND} is in no shard"),
        ({"shards": [[FIRST], [SECOND, REFUSES]]}, f"account {REFUSES} is in a shard and cannot be read"),
        ({"shards": [[FIRST], ["../x"]]}, "is no list of a fleet"),
        ({"members": [{"account": FIRST, "read": [HERE, HERE]}], "shards": [[FIRST]]}, "is to be read twice"),
        ({"members": [{"account": FIRST}, {"account": FIRST}], "shards": [[FIRST]]}, "twice among its members"),
        ({"run": {"id": "7", "attempt": 0}}, "is no list of a fleet"),
    ],
)
def test_a_list_that_nobody_made_here_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """One line with the file: what is not in the list would not be missed."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(json.loads(made().encoded()) | change))

    with pytest.raises(UsageError, match=said) as caught:
        load(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"format": "gpu-ami-cleanup-plan-2"}', "[" * 100000])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    """A plan, a file that was cut off, or nothing."""
    path = tmp_path / "fleet.json"
    path.write_text(text)

    with pytest.raises(UsageError, match="is no list of a fleet"):
        load(path)


def test_the_run_is_github_s_where_there_is_one() -> None:
    """By hand there is none, and the list's is drawn."""
    assert run_of({}) is None
    assert run_of({"GITHUB_RUN_ID": " "}) is None
    named = {"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2", "GITHUB_REPOSITORY": "o/r"}
    assert run_of(named) == Run("7", 2, "o/r")
    assert str(run_of(named)) == "run 7 of o/r, attempt 2"
    for wrong in ("0", "-1", "x", "٢", "9" * 7):
        with pytest.raises(UsageError, match="GITHUB_RUN_ATTEMPT"):
            run_of({"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": wrong})
