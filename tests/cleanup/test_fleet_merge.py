"""Parts of a fleet's survey: whatever happened to one on its way, the plan keeps everything and says where."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import zlib
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpu_ami import __version__
from gpu_ami.cleanup import fleet_part
from gpu_ami.cleanup.decide import SourceReport
from gpu_ami.cleanup.fleet_merge import Expected, files_of, merge, opened
from gpu_ami.cleanup.fleet_part import PartError, PlacePart, SourcePart, lines, packed, read
from gpu_ami.cleanup.over_accounts import account_reports, regions_again
from gpu_ami.errors import UsageError
from gpu_ami.fleet.entry import Entered
from gpu_ami.fleet.fleet_list import LeftOutRow, MemberRow, Run
from gpu_ami.fleet.members import Member
from tests.support.random_fleets import (
    ACCOUNTS,
    NOW,
    POLICY,
    REGIONS,
    Ami,
    RandomFleet,
    expected_of,
    list_made,
    part_made,
    plan_of_parts,
)

HERE, THERE = REGIONS
# Every account has an AMI that nobody needs, and one that its neighbour needs.
AMIS = [
    ami
    for number, account in enumerate(ACCOUNTS)
    for ami in (
        Ami(f"ami-{number:017x}", account, HERE, (), frozenset()),
        Ami(f"ami-{number + 16:017x}", account, HERE, (), frozenset({ACCOUNTS[number - 1]})),
    )
]
FLEET = RandomFleet(AMIS, set(), set(), set(), POLICY)
LISTED = list_made(FLEET, 3)
SHARDS = LISTED.names
PARTS = {shard: part_made(shard, FLEET, LISTED) for shard in SHARDS}
Parts = dict[str, bytes]


def kept(parts: Parts, expected: Expected | None = None) -> list[SourceReport]:
    """Return why the plan of *parts* keeps everything."""
    plan, reports = plan_of_parts(parts, FLEET, expected or expected_of(LISTED))
    assert plan.decision.selected == ()
    assert plan.decision.blocks
    assert all(report.status == "failed" for report in reports)
    return reports


def rewritten(content: bytes, *, drop: int | None = None, twice: bool = False, **header: object) -> bytes:
    """Return a part with another header, or other places; whole all the same."""
    part = read(BytesIO(content))
    places = [place for number, place in enumerate(part.places) if number != drop]
    return packed(lines(msgspec.structs.replace(part.header, **header), [*places, *(places[:1] if twice else [])]))


def aged(content: bytes, age: timedelta) -> bytes:
    """Return a part whose places were read so long ago."""
    part = read(BytesIO(content))
    for place in part.places:
        place.aws_time = NOW - age
    return packed(lines(part.header, part.places))


def line_dropped(content: bytes) -> bytes:
    """Return a part that lost a line."""
    first, _, *others = zlib.decompress(content, 31).splitlines(keepends=True)
    return packed([first, *others])


def places_of(shard: str) -> list[tuple[str, str]]:
    """Return the account and the region of each place of a shard."""
    return [(row.account, region) for row in LISTED.members_of(shard) for region in row.read]


def test_whole_parts_are_one_plan() -> None:
    """What the faults below are measured by: here something goes, and what another shard needs stays."""
    plan, reports = plan_of_parts(PARTS, FLEET, expected_of(LISTED))

    assert reports == []
    assert {verdict.image.image_id for verdict in plan.decision.selected} == {ami.key for ami in AMIS if not ami.users}
    assert plan.owners == ACCOUNTS


FAULTS: dict[str, Callable[[str], Parts]] = {
    "missing": lambda k: {name: part for name, part in PARTS.items() if name != k},
    "a line dropped": lambda k: PARTS | {k: line_dropped(PARTS[k])},
    "a place dropped": lambda k: PARTS | {k: rewritten(PARTS[k], drop=0)},
    "a place twice": lambda k: PARTS | {k: rewritten(PARTS[k], twice=True)},
    "the part twice": lambda k: PARTS | {"again": PARTS[k]},
    "another run's": lambda k: PARTS | {k: rewritten(PARTS[k], run="8")},
    "another repository's": lambda k: PARTS | {k: rewritten(PARTS[k], repository="o/other")},
    "an older attempt's": lambda k: PARTS | {k: rewritten(PARTS[k], attempt=1)},
    "an older attempt's beside": lambda k: PARTS | {"before": rewritten(PARTS[k], attempt=1)},
    "another list's": lambda k: PARTS | {k: rewritten(PARTS[k], list_sha256="m")},
    "another policy's": lambda k: PARTS | {k: rewritten(PARTS[k], policy_sha256="q")},
    "other code's": lambda k: PARTS | {k: rewritten(PARTS[k], code="d")},
    "a clock 2 h ahead": lambda k: PARTS | {k: rewritten(PARTS[k], began=NOW + timedelta(hours=2))},
    "a clock 2 h behind": lambda k: PARTS | {k: rewritten(PARTS[k], began=NOW - timedelta(hours=2))},
    "read after now": lambda k: PARTS | {k: aged(PARTS[k], timedelta(minutes=-6))},
    "read before the list": lambda k: PARTS | {k: aged(PARTS[k], timedelta(minutes=6))},
    "swapped": lambda k: PARTS | {k: rewritten(PARTS[k], shard=SHARDS[SHARDS.index(k) - 1])},
    "of a shard that is none": lambda k: PARTS | {k: rewritten(PARTS[k], shard="9/9")},
    "empty": lambda k: PARTS | {k: b""},
    "no gzip": lambda k: PARTS | {k: b"{}"},
    "no part": lambda k: PARTS | {k: packed([b"{}\n"])},
    "with something behind": lambda k: PARTS | {k: PARTS[k] + b"\n"},
    "with another file behind": lambda k: PARTS | {k: PARTS[k] * 2},
}


@pytest.mark.parametrize("shard", SHARDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_part_that_is_not_to_be_believed_keeps_everything(fault: str, shard: str) -> None:
    """And the line names account, region and shard: whoever is on call needs nothing else."""
    reports = kept(FAULTS[fault](shard))

    told = {(str(report.account), str(report.region)) for report in reports if f"shard {shard}: " in str(report.error)}
    everything = set(places_of(shard))
    assert told
    assert told <= everything
    if fault not in ("a place dropped", "a place twice"):
        assert told == everything


@pytest.mark.parametrize("shard", SHARDS)
def test_a_part_that_is_cut_off_anywhere_is_refused(shard: str) -> None:
    """An upload that broke off; the end of the file proves that all of it is there."""
    content = PARTS[shard]

    for end in (*range(0, len(content), 10), len(content) - 1):
        with pytest.raises(PartError):
            read(BytesIO(content[:end]))
    assert any("cut off" in str(report.error) for report in kept(PARTS | {shard: content[:-1]}))


def test_a_byte_that_changed_is_refused_or_means_nothing() -> None:
    """Two bytes of gzip's own header say when and where a file was packed."""
    content = PARTS[SHARDS[0]]
    whole = read(BytesIO(content))

    for place in range(0, len(content), 7):
        changed = content[:place] + bytes([content[place] ^ 0x20]) + content[place + 1 :]
        try:
            found = read(BytesIO(changed))
        except PartError:
            continue
        assert found == whole


def test_a_part_that_went_stale_keeps_everything() -> None:
    """An hour after it was read an AMI may be needed; by AWS's time, whatever the machine says."""
    older = msgspec.structs.replace(LISTED, as_of=NOW - timedelta(hours=3))
    expected = dataclasses.replace(expected_of(LISTED), listed=older)
    fresh = {name: aged(part, timedelta(minutes=59)) for name, part in PARTS.items()}
    stale = fresh | {SHARDS[1]: aged(PARTS[SHARDS[1]], timedelta(minutes=61))}

    assert plan_of_parts(fresh, FLEET, expected)[0].decision.selected
    reports = kept(stale, expected)

    assert {(report.account, report.region) for report in reports} == set(places_of(SHARDS[1]))
    assert "more than 60 minutes ago" in str(reports[0].error)


def test_no_part_at_all_keeps_everything() -> None:
    """An artifact's pattern that matches nothing ends green, so the merge counts."""
    reports = kept({})

    assert [(report.account, report.region) for report in reports] == list(LISTED.places)
    assert {report.error for report in reports} == {
        f"shard {shard}: no part has it: `invoke survey --shard {shard}` makes one" for shard in SHARDS
    }


def test_a_list_without_anybody_keeps_everything() -> None:
    """That nothing was read is not that nothing is needed."""
    nobody = msgspec.structs.replace(LISTED, members=(), shards=())

    _, reports = plan_of_parts({}, FLEET, dataclasses.replace(expected_of(LISTED), listed=nobody))

    assert [report.status for report in reports] == ["failed"]


def test_a_list_of_another_attempt_keeps_everything() -> None:
    """To re-run failed jobs alone leaves the list, and most parts, as they were; some of those may be hours old."""
    expected = dataclasses.replace(expected_of(LISTED), run=Run("7", 3, "o/r"))

    (report,) = kept(PARTS, expected)

    assert "run all of its jobs again" in str(report.error)


def test_a_place_that_nobody_listed_keeps_everything() -> None:
    """Somebody's part has slipped in, or the list has lost an account."""
    part = read(BytesIO(PARTS[SHARDS[0]]))
    stranger = PlacePart("999999999999", HERE, aws_time=NOW)

    (report,) = kept(PARTS | {SHARDS[0]: packed(lines(part.header, [*part.places, stranger]))})

    assert (report.account, report.region) == ("999999999999", HERE)
    assert "the list does not have that place" in str(report.error)


def test_what_a_place_cannot_have_keeps_everything() -> None:
    """An AMI of another place, or a source of which nothing is said."""
    part = read(BytesIO(PARTS[SHARDS[0]]))
    busy = next(place for place in part.places if place.images)
    busy.images = (msgspec.structs.replace(busy.images[0], region=THERE), *busy.images[1:])
    assert "of another place" in str(kept(PARTS | {SHARDS[0]: packed(lines(part.header, part.places))})[0].error)

    part = read(BytesIO(PARTS[SHARDS[0]]))
    next(place for place in part.places if place.images).sources = {}
    plan, _ = plan_of_parts(PARTS | {SHARDS[0]: packed(lines(part.header, part.places))}, FLEET, expected_of(LISTED))
    assert "its part says nothing of instances" in plan.decision.blocks[0]

    part = read(BytesIO(PARTS[SHARDS[0]]))
    for place in part.places:
        place.asked = ()
    plan, _ = plan_of_parts(PARTS | {SHARDS[0]: packed(lines(part.header, part.places))}, FLEET, expected_of(LISTED))
    assert "nobody asked about ami-" in plan.decision.blocks[0]

    part = read(BytesIO(PARTS[SHARDS[0]]))
    for place in part.places:
        if sharing := place.sources.get("launch-permissions"):
            place.sources["launch-permissions"] = msgspec.structs.replace(sharing, permissions=None)
    plan, _ = plan_of_parts(PARTS | {SHARDS[0]: packed(lines(part.header, part.places))}, FLEET, expected_of(LISTED))
    assert "its part does not say who may launch ami-" in plan.decision.blocks[0]


def test_a_place_of_which_nobody_knows_when_it_was_read_keeps_everything() -> None:
    """Although something failed there: in a region without AMIs nobody asks about that, so it would tell nobody."""
    part = read(BytesIO(PARTS[SHARDS[0]]))
    quiet = next(place for place in part.places if place.region == THERE)
    quiet.aws_time, quiet.sources = None, {"instances": SourcePart(status="failed", error="no answer")}

    (report,) = kept(PARTS | {SHARDS[0]: packed(lines(part.header, part.places))})

    assert (report.account, report.region) == quiet.place
    assert "when it was read is not known" in str(report.error)


def test_an_account_that_is_not_left_out_any_more_keeps_everything() -> None:
    """The list was made on the last day of that decision: by now it is to be read, or to hold everything up."""
    row = MemberRow(account="555555555555", left_out=LeftOutRow("r", NOW.date()))
    listed = msgspec.structs.replace(LISTED, members=(*LISTED.members, row))
    expected = dataclasses.replace(expected_of(LISTED), listed=listed)
    assert plan_of_parts(PARTS, FLEET, expected)[0].decision.selected

    aged_row = msgspec.structs.replace(row, left_out=LeftOutRow("r", NOW.date() - timedelta(days=1)))
    listed = msgspec.structs.replace(LISTED, members=(*LISTED.members, aged_row))
    (report,) = kept(PARTS, dataclasses.replace(expected, listed=listed))

    assert report.account == row.account
    assert "list the fleet anew" in str(report.error)


def test_an_account_in_trouble_needs_no_advice() -> None:
    """A list says what is wrong with an account, and may have nothing to say of what to do about it."""
    row = MemberRow(account="555555555555", trouble="it is shut")

    (report,) = account_reports([row.entered])

    assert (report.status, report.error) == ("failed", "it is shut")


def test_an_account_that_a_shard_could_not_enter_is_one_line() -> None:
    """Not one for each of its regions."""
    part = read(BytesIO(PARTS[SHARDS[0]]))
    account = part.places[0].account
    places = [PlacePart(*place.place, trouble="no") if place.account == account else place for place in part.places]

    (report,) = kept(PARTS | {SHARDS[0]: packed(lines(part.header, places))})

    assert (report.name, report.account, report.error) == ("account", account, "no")


def test_an_account_is_read_where_the_plan_was_made_from() -> None:
    """Whether the settings or the account's own choice is narrower by now: a text may name what goes from there."""
    own = Entered(member=Member(account="1", regions=(HERE,)), regions=(HERE, THERE), off=("eu-south-1",))
    free = Entered(member=Member(account="1"), regions=(HERE, THERE))

    assert regions_again(own, (), ()) == regions_again(free, [HERE], {("2", THERE)}) == [HERE]
    assert regions_again(own, (), {("1", THERE), ("1", "eu-south-1")}) == [HERE, THERE]
    assert regions_again(free, [HERE], {("1", THERE)}) == regions_again(free, (), ()) == [HERE, THERE]


@pytest.mark.parametrize(
    ("limit", "content"),
    [
        ("MOST_UNPACKED_BYTES", packed([b"0" * 1000000])),
        ("MOST_LINE_BYTES", packed([b"0" * 1000000])),
        ("MOST_PACKED_BYTES", packed([os.urandom(100000).replace(b"\n", b"")])),
    ],
)
def test_no_more_is_unpacked_than_a_part_may_have(monkeypatch: pytest.MonkeyPatch, limit: str, content: bytes) -> None:
    """A few bytes can be made to unpack to a disk full; here a megabyte stands for it."""
    monkeypatch.setattr(fleet_part, limit, 64 * 1024)
    monkeypatch.setattr(fleet_part, "_CHUNK", 16 * 1024)

    with pytest.raises(PartError, match=r"it is larger than 0\.062 MiB (un)?packed"):
        read(BytesIO(content))
    assert "larger than" in str(kept(PARTS | {"bomb": content})[0].error)


def test_a_folder_means_the_parts_in_it(tmp_path: Path) -> None:
    """As artifacts are downloaded, a folder each; the list and the plan beside them are no parts."""
    for name in ("a/part-1.jsonl.gz", "b/part-2.jsonl.gz", "fleet.json", "plan.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    first = tmp_path / "a/part-1.jsonl.gz"

    assert files_of([tmp_path, first]) == [first, tmp_path / "b/part-2.jsonl.gz"]
    assert files_of([tmp_path / "none"]) == []
    for wrong in ("gone.jsonl.gz", "fleet.json"):
        with pytest.raises(UsageError, match=wrong):
            files_of([tmp_path / wrong])


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of another user's: that no part is there would send its reader to the surveys."""
    (tmp_path / "a").mkdir()
    scandir = os.scandir

    def refused(path: Any) -> Any:
        if Path(path).name == "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)

    with pytest.raises(UsageError, match=r"a cannot be read \(Permission denied\), and there may be parts in it"):
        files_of([tmp_path])


def test_a_file_that_cannot_be_read_keeps_everything(tmp_path: Path) -> None:
    """A pipe never ends; one that is gone by now was there a moment ago."""
    pipe = tmp_path / "x.jsonl.gz"
    os.mkfifo(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)

    for file in (pipe, tmp_path / "gone.jsonl.gz"):
        reports = merge([opened(file)], expected_of(LISTED)).reports

        assert f"{file.name}: it cannot be read: it is no plain file" in str(reports[0].error)


def test_equal_places_are_equal_bytes() -> None:
    """Whoever compares two files sees a difference only where there is one."""
    assert part_made(SHARDS[0], FLEET, LISTED) == PARTS[SHARDS[0]]


def test_the_code_is_told_apart() -> None:
    """Two commits may have one version; the same commit is the same code on every machine."""
    version, _, digest = fleet_part.code().partition("+")

    assert version == __version__
    assert len(digest) == 16
    assert fleet_part.code.__wrapped__() == fleet_part.code()
