"""The way back: what a clean-up did is undone from its journal, or it is said what cannot be."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.cleanup import cleanup
from gpu_ami.cleanup.cleanup import Request
from gpu_ami.cleanup.journal import Journal, read
from gpu_ami.cleanup.journal_events import (
    Begin,
    Done,
    End,
    ImageRecord,
    OrphanDone,
    Removed,
    Restoring,
    SnapshotRecord,
    Will,
    WillDeleteOrphan,
    WillRemove,
)
from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import PartialError, SafetyError, UsageError
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.ec2.recycle_bin import recycle_bin
from tests.support.account import Task, World, task


def _clean(here: World, root: Path, mode: str = "delete", **more: Any) -> Task:
    done = task(here, root)
    flags = Flags(older_than="30d", keep="1", mode=mode)
    cleanup.run(done.run, Request(flags=flags, yes=True, **more))
    return done


def _restore(here: World, root: Path, journal: Path, **more: Any) -> Task:
    again = task(here, root, **more)
    cleanup.run(again.run, Request(restore=str(journal)))
    return again


def test_amis_come_back_with_snapshots_tags_and_permissions(here: World, tmp_path: Path) -> None:
    """What the Recycle Bin forgets, the journal remembers."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    tags = dict(here.maker.ec2.tags[image.id])
    journal = _clean(here, tmp_path).journals[0]
    kept = recycle_bin(here.maker.ec2)
    for entry in (kept.images[image.id], kept.snapshots[image.snapshot_ids[0]]):
        entry.tags.clear()

    back = _restore(here, tmp_path, journal)

    assert image.id in here.there()
    assert set(image.snapshot_ids) <= here.snapshots_there()
    assert here.maker.ec2.tags[image.id] == tags
    assert here.maker.ec2.tags[image.snapshot_ids[0]]["gpu-ami:family"] == "gpu-batch"
    assert [result["status"] for result in back.document["results"]] == ["restored"]


def test_snapshots_come_back_before_their_ami(here: World, tmp_path: Path) -> None:
    """EC2 refuses an AMI whose snapshots are not there."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    here.image()
    journal = _clean(here, tmp_path).journals[0]
    here.aws.gate.calls.clear()

    _restore(here, tmp_path, journal)

    calls = here.calls()
    assert calls.index("RestoreSnapshotFromRecycleBin") < calls.index("RestoreImageFromRecycleBin")


def test_an_ami_that_ec2_still_lists_comes_back(here: World, tmp_path: Path) -> None:
    """Lists lag behind, and undoing is urgent right after a mistake: what is in the bin is not there."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    journal = _clean(here, tmp_path).journals[0]
    here.maker.ec2.amis[image.id] = image

    back = _restore(here, tmp_path, journal)

    assert [result["status"] for result in back.document["results"]] == ["restored"]
    assert "RestoreImageFromRecycleBin" in here.calls()


def test_a_second_restore_changes_nothing(here: World, tmp_path: Path) -> None:
    """Whoever is not sure whether it worked runs it again, and reads why nothing was to do."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    here.image()
    journal = _clean(here, tmp_path).journals[0]
    _restore(here, tmp_path, journal)

    back = _restore(here, tmp_path, journal)

    (result,) = back.document["results"]
    assert (result["status"], result["reason"]) == ("unchanged", "it is there")


def test_what_is_gone_for_good_is_said_and_the_rest_comes_back(here: World, tmp_path: Path) -> None:
    """One AMI that left the bin must not keep the others in it."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    gone, half, back = here.image(200), here.image(210), here.image(220)
    journal = _clean(here, tmp_path).journals[0]
    del recycle_bin(here.maker.ec2).images[gone.id]
    del recycle_bin(here.maker.ec2).snapshots[half.snapshot_ids[0]]

    with pytest.raises(PartialError, match="2 of 3"):
        _restore(here, tmp_path, journal)

    assert back.id in here.there()
    assert not {gone.id, half.id} & here.there()


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "504 Gateway Timeout"])
def test_an_ami_that_went_behind_a_gateways_back_comes_back(here: World, tmp_path: Path, status: str) -> None:
    """AWS deregisters it, a gateway answers that all is broken, each time: nobody may write "still there"."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    gate = here.aws.gate
    inner = gate._application

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        started: list[Any] = []
        body = list(inner(environ, lambda *given: started.append(given)))
        if environ["sandbox.call"].action == "DeregisterImage":
            start_response(status, [("Content-Type", "text/html")])
            return [b"<html>gateway</html>"]
        start_response(*started[0])
        return body

    gate._application = application
    try:
        with pytest.raises(PartialError, match="nobody knows"):
            _clean(here, tmp_path)
    finally:
        gate._application = inner
    assert image.id not in here.there()
    (journal,) = (tmp_path / "logs").glob("*.jsonl")
    assert read(journal).entries[image.id].status == "unknown"

    _restore(here, tmp_path, journal)

    assert image.id in here.there()


def test_disabled_amis_are_enabled_again(here: World, tmp_path: Path) -> None:
    """The gentle way out has a way back too."""
    here.newest()
    here.in_use()
    image = here.image()
    journal = _clean(here, tmp_path, mode="disable").journals[0]
    assert image.state == "disabled"

    _restore(here, tmp_path, journal)

    assert image.state == "available"


def test_deprecation_is_taken_back(here: World, tmp_path: Path) -> None:
    """And the AMI is found by name again."""
    here.newest()
    here.in_use()
    image = here.image()
    journal = _clean(here, tmp_path, mode="deprecate").journals[0]
    assert image.deprecation_time is not None

    _restore(here, tmp_path, journal)

    assert image.deprecation_time is None


def test_permissions_that_are_missing_are_given_again(here: World, tmp_path: Path) -> None:
    """Disabling takes them away for good; a deleted and restored AMI may have lost them as well."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    image.launch_permissions.append({"UserId": "210987654321"})
    done = task(here, tmp_path)
    flags = Flags(older_than="30d", keep="1", include_shared=True)
    cleanup.run(done.run, Request(flags=flags, yes=True))
    recycle_bin(here.maker.ec2).images[image.id].thing.launch_permissions.clear()

    _restore(here, tmp_path, done.journals[0])

    assert image.launch_permissions == [{"UserId": "210987654321"}]


def test_an_ami_that_was_disabled_before_is_disabled_after(here: World, tmp_path: Path) -> None:
    """Undone means as it was."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    image.state = "disabled"
    journal = _clean(here, tmp_path).journals[0]
    recycle_bin(here.maker.ec2).images[image.id].thing.state = "available"

    _restore(here, tmp_path, journal)

    assert image.state == "disabled"


def test_orphans_come_back_too(here: World, tmp_path: Path) -> None:
    """A snapshot without AMI may be all that is left of something."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    left, lost = here.image(200), here.image(210)
    for image in (left, lost):
        here.maker.ec2.deregister_image(image.id)
    journal = _clean(here, tmp_path, orphans=True).journals[0]
    assert not {*left.snapshot_ids, *lost.snapshot_ids} & here.snapshots_there()
    del recycle_bin(here.maker.ec2).snapshots[lost.snapshot_ids[0]]

    with pytest.raises(PartialError, match="gone for good"):
        _restore(here, tmp_path, journal)

    assert left.snapshot_ids[0] in here.snapshots_there()
    assert lost.snapshot_ids[0] not in here.snapshots_there()


def test_the_journal_is_found_by_the_name_that_the_run_printed(here: World, tmp_path: Path) -> None:
    """It is said from the repository's root, wherever the caller is."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    printed = _clean(here, tmp_path).document["journal"]

    _restore(here, tmp_path, Path(printed))

    assert not Path(printed).is_absolute()
    assert image.id in here.there()


def test_a_dry_run_says_what_would_come_back(here: World, tmp_path: Path) -> None:
    """And changes nothing."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    journal = _clean(here, tmp_path).journals[0]

    back = _restore(here, tmp_path, journal, dry_run=True)

    assert f"would bring back 1 AMI of {journal}" in back.err.getvalue()
    assert back.document == {"dry_run": True, "commands": [], "notes": [f"bring back 1 AMI of {journal}."]}
    assert image.id not in here.there()

    _restore(here, tmp_path, journal)
    assert "would bring back 0 AMIs of" in _restore(here, tmp_path, journal, dry_run=True).err.getvalue()


def test_a_dry_run_counts_orphans_too(here: World, tmp_path: Path) -> None:
    """A snapshot without an AMI is all that such a journal brings back; one that was kept is nothing."""
    journal = Journal(tmp_path / "logs" / "cleanup-0.jsonl")
    journal.write(Begin(account=here.account))
    for number, status in enumerate(("deleted", "kept: it is shared", "failed: denied"), 1):
        name = f"snap-0000000{number}"
        record = SnapshotRecord(snapshot_id=name, region="ap-northeast-2", description="", tags={})
        journal.write(WillDeleteOrphan(snapshot=record))
        journal.write(OrphanDone(snapshot_id=name, status=status))
    journal.close()

    said = _restore(here, tmp_path, journal.path, dry_run=True).err.getvalue()

    assert f"would bring back 0 AMIs and 1 orphan snapshot of {journal.path}" in said


def test_a_sweeps_journal_is_refused(here: World, tmp_path: Path) -> None:
    """What a sweep removed cannot come back; "0 brought back" would sound as if all were well."""
    path = tmp_path / "logs" / "sweep-1.jsonl"
    journal = Journal(path)
    journal.write(Begin(account=here.account, older_than_s=1))
    journal.write(WillRemove(kind="instance", id="i-1", region="ap-northeast-2"))
    journal.write(Removed(kind="instance", id="i-1"))
    journal.write(End(failed=0))
    journal.close()

    with pytest.raises(UsageError, match="nothing to bring back"):
        _restore(here, tmp_path, path)


def test_another_accounts_journal_is_refused(here: World, tmp_path: Path) -> None:
    """Its AMIs are not here; nothing would be found and everything reported lost."""
    journal = tmp_path / "j"
    journal.write_text('{"event": "begin", "format": 1, "account": "999999999999"}\n')

    with pytest.raises(SafetyError, match="999999999999"):
        _restore(here, tmp_path, journal)


def test_restore_takes_no_other_flags(here: World, tmp_path: Path) -> None:
    """`--restore J --keep 0` would promise something that it does not do."""
    with pytest.raises(UsageError, match="--restore"):
        cleanup.run(task(here, tmp_path).run, Request(restore="j", flags=Flags(keep="0")))


def test_a_disabled_ami_that_somebody_deleted_is_said(here: World, tmp_path: Path) -> None:
    """Enabling it again is not possible, and pretending so would be worse."""
    here.newest()
    here.in_use()
    image = here.image()
    journal = _clean(here, tmp_path, mode="disable").journals[0]
    here.maker.ec2.deregister_image(image.id)

    with pytest.raises(PartialError, match="gone for good"):
        _restore(here, tmp_path, journal)


@pytest.mark.parametrize("mode", ["disable", "deprecate"])
def test_what_somebody_undid_already_is_unchanged(here: World, tmp_path: Path, mode: str) -> None:
    """By hand, in the console."""
    here.newest()
    here.in_use()
    image = here.image()
    journal = _clean(here, tmp_path, mode=mode).journals[0]
    image.state, image.deprecation_time = "available", None

    back = _restore(here, tmp_path, journal)

    assert [result["status"] for result in back.document["results"]] == ["unchanged"]


def test_an_ami_that_was_never_deleted_is_left_alone(here: World, tmp_path: Path) -> None:
    """EC2 refused it; its tags may have changed since, on purpose."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    here.aws.gate.fail("OperationNotPermitted", action="DeregisterImage")
    done = task(here, tmp_path)
    with pytest.raises(PartialError):
        cleanup.run(done.run, Request(flags=Flags(older_than="30d", keep="1"), yes=True))
    here.aws.gate.clear()
    del here.maker.ec2.tags[image.id]["Name"]

    back = _restore(here, tmp_path, done.journals[0])

    assert [result["status"] for result in back.document["results"]] == ["unchanged"]
    assert "Name" not in here.maker.ec2.tags[image.id]


def test_what_another_run_deleted_is_left_to_its_journal(here: World, tmp_path: Path) -> None:
    """The first run failed at this AMI; that the second deleted it is not the first one's to undo."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    here.aws.gate.fail("OperationNotPermitted", "It is protected.", action="DeregisterImage", at=1)
    first = task(here, tmp_path)
    with pytest.raises(PartialError):
        cleanup.run(first.run, Request(flags=Flags(older_than="30d", keep="1"), yes=True))
    (failed,) = first.journals
    _clean(here, tmp_path)
    assert image.id not in here.there()

    back = _restore(here, tmp_path, failed)

    (result,) = back.document["results"]
    assert (result["status"], result["reason"]) == ("unchanged", "the run of this journal did not delete it")
    assert image.id not in here.there()


def _share(image: SandboxAmi, *who: dict[str, str]) -> None:
    image.launch_permissions.extend(dict(permission) for permission in who)


def _edited(journal: Path, image: SandboxAmi, *who: dict[str, str], event: str = "done") -> None:
    """Make a journal say that its run deleted *image*, which such people could launch."""
    record = ImageRecord(
        image_id=image.id,
        region="ap-northeast-2",
        name=image.name,
        state="available",
        created=None,
        deprecated_at=None,
        tags={},
        snapshot_ids=tuple(image.snapshot_ids),
    )
    with Journal(journal, is_new=False) as edited:
        edited.write(Will(mode="delete", image=record, permissions=who, snapshots=()))
        edited.write(Done(image_id=image.id))
        if event == "restoring":
            edited.write(Restoring(image_id=image.id))


def _gone(here: World, root: Path, mode: str, *who: dict[str, str]) -> tuple[SandboxAmi, Path]:
    """Return an AMI that such people could launch, by now deleted or disabled, and the journal of that."""
    image = here.image()
    if mode == "delete":
        _share(image, *who)
    done = task(here, root)
    flags = Flags(older_than="30d", keep="1", include_shared=True, mode=mode)
    cleanup.run(done.run, Request(flags=flags, yes=True))
    (journal,) = done.journals
    if mode == "delete":
        recycle_bin(here.maker.ec2).images[image.id].thing.launch_permissions.clear()
    else:
        # A shared AMI is never disabled; one may be given away between the look and the act.
        journal.write_text(journal.read_text().replace('"permissions": []', f'"permissions": {json.dumps(who)}'))
    return image, journal


PUBLIC = {"Group": "all"}
PARTNER = {"UserId": "210987654321"}


def test_an_edited_journal_makes_no_live_ami_public(here: World, tmp_path: Path) -> None:
    """Nobody took that AMI's permissions away: a file that anybody may have written must not give it to the world."""
    here.keep_deleted()
    newest = here.newest()
    here.in_use()
    here.image()
    journal = _clean(here, tmp_path).journals[0]
    _edited(journal, newest, PUBLIC, PARTNER)
    here.aws.gate.calls.clear()

    back = task(here, tmp_path)
    cleanup.run(back.run, Request(restore=str(journal), make_public=True))

    assert newest.launch_permissions == []
    assert "ModifyImageAttribute" not in here.calls()
    found = {result["image_id"]: (result["status"], result["reason"]) for result in back.document["results"]}
    status, reason = found[newest.id]
    assert status == "unchanged"
    assert reason.startswith("it is there; its launch permissions are not the journal's")


def test_a_journal_alone_makes_nothing_public(here: World, tmp_path: Path) -> None:
    """An edited one can say that a restore was cut short: what the whole world may do needs somebody's word."""
    here.keep_deleted()
    newest = here.newest()
    here.in_use()
    here.image()
    journal = _clean(here, tmp_path).journals[0]
    _edited(journal, newest, PUBLIC, event="restoring")

    with pytest.raises(SafetyError, match=f"{newest.id}.*--make-public"):
        _restore(here, tmp_path, journal)

    assert newest.launch_permissions == []


@pytest.mark.parametrize("mode", ["delete", "disable"])
def test_what_was_public_is_so_again_with_consent_only(here: World, tmp_path: Path, mode: str) -> None:
    """The AMI and everybody else's permissions come back at once; the consent may come later."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image, journal = _gone(here, tmp_path, mode, PUBLIC, PARTNER)

    for status, ends in (
        ("restored", pytest.raises(SafetyError, match=f"Everybody could launch {image.id} before.*--make-public")),
        ("unchanged", contextlib.nullcontext()),  # whoever keeps it private knows by now
    ):
        back = task(here, tmp_path)
        with ends:
            cleanup.run(back.run, Request(restore=str(journal)))
        (result,) = back.document["results"]
        assert (result["status"], result["stays_private"]) == (status, True)
        assert "--make-public" in result["reason"]
        assert (image.state, image.launch_permissions) == ("available", [PARTNER])

    back = task(here, tmp_path)
    cleanup.run(back.run, Request(restore=str(journal), make_public=True))

    assert image.launch_permissions == [PARTNER, PUBLIC]
    (result,) = back.document["results"]
    assert (result["status"], result["stays_private"]) == ("restored", False)


@pytest.mark.parametrize("mode", ["delete", "disable"])
def test_a_restore_that_was_cut_short_is_finished(here: World, tmp_path: Path, mode: str) -> None:
    """The AMI is back, who may launch it was not said yet: the next run says it."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image, journal = _gone(here, tmp_path, mode, PARTNER)
    here.aws.gate.cut(action="ModifyImageAttribute")
    with pytest.raises(PartialError):
        _restore(here, tmp_path, journal)
    assert (image.state, image.launch_permissions) == ("available", [])
    here.aws.gate.clear()

    _restore(here, tmp_path, journal)

    assert image.launch_permissions == [PARTNER]


def test_what_is_given_without_consent_is_said(here: World, tmp_path: Path) -> None:
    """A run that is finished by the next one: the partner's permission is a change, although the world's stays away."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image, journal = _gone(here, tmp_path, "delete", PUBLIC, PARTNER)
    here.aws.gate.cut(action="ModifyImageAttribute")
    with pytest.raises(PartialError):
        _restore(here, tmp_path, journal)
    here.aws.gate.clear()

    back = task(here, tmp_path)
    with pytest.raises(SafetyError, match="--make-public"):
        cleanup.run(back.run, Request(restore=str(journal)))

    (result,) = back.document["results"]
    assert (result["status"], result["stays_private"]) == ("restored", True)
    assert image.launch_permissions == [PARTNER]


def test_permissions_that_were_taken_away_later_stay_away(here: World, tmp_path: Path) -> None:
    """A restore that is run once more must not undo what somebody decided since."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image = here.image()
    _share(image, PARTNER)
    done = task(here, tmp_path)
    cleanup.run(done.run, Request(flags=Flags(older_than="30d", keep="1", include_shared=True), yes=True))
    (journal,) = done.journals
    _restore(here, tmp_path, journal)
    image.launch_permissions.clear()

    back = _restore(here, tmp_path, journal)

    assert image.launch_permissions == []
    assert [result["status"] for result in back.document["results"]] == ["unchanged"]


@pytest.mark.parametrize("mode", ["delete", "disable"])
def test_consent_that_comes_later_is_for_the_world_alone(here: World, tmp_path: Path, mode: str) -> None:
    """The partner's permission was taken away on purpose since: the world's consent does not give it back."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image, journal = _gone(here, tmp_path, mode, PUBLIC, PARTNER)
    with pytest.raises(SafetyError):
        _restore(here, tmp_path, journal)
    image.launch_permissions.clear()

    _restore(here, tmp_path, journal)
    assert image.launch_permissions == []
    cleanup.run(task(here, tmp_path).run, Request(restore=str(journal), make_public=True))
    assert image.launch_permissions == [PUBLIC]
    image.launch_permissions.clear()
    cleanup.run(task(here, tmp_path).run, Request(restore=str(journal), make_public=True))
    assert image.launch_permissions == []


def test_a_restore_whose_last_word_was_lost_is_over_with_the_next(here: World, tmp_path: Path) -> None:
    """All was given already: from then on what is taken away stays away."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    image, journal = _gone(here, tmp_path, "delete", PARTNER)
    _restore(here, tmp_path, journal)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"restored"' not in line))

    _restore(here, tmp_path, journal)
    image.launch_permissions.clear()
    _restore(here, tmp_path, journal)

    assert image.launch_permissions == []


def test_what_another_run_disabled_is_left_to_its_journal(here: World, tmp_path: Path) -> None:
    """The first run was refused; that the AMI is disabled by now is not its doing."""
    here.newest()
    here.in_use()
    image = here.image()
    here.aws.gate.fail("OperationNotPermitted", "It is protected.", action="DisableImage", at=1)
    first = task(here, tmp_path)
    flags = Flags(older_than="30d", keep="1", mode="disable")
    with pytest.raises(PartialError):
        cleanup.run(first.run, Request(flags=flags, yes=True))
    (failed,) = first.journals
    _clean(here, tmp_path, mode="disable")

    _restore(here, tmp_path, failed)

    assert image.state == "disabled"


def test_a_dry_run_says_what_would_stay_private(here: World, tmp_path: Path) -> None:
    """That is the moment to think about it."""
    here.keep_deleted()
    here.newest()
    here.in_use()
    _, journal = _gone(here, tmp_path, "delete", PUBLIC)

    def said() -> str:
        return _restore(here, tmp_path, journal, dry_run=True).err.getvalue()

    assert "Stay private without --make-public: 1." in said()
    with pytest.raises(SafetyError):
        _restore(here, tmp_path, journal)
    assert "Stay private without --make-public: 1." in said()
    cleanup.run(task(here, tmp_path).run, Request(restore=str(journal), make_public=True))
    assert "Stay private" not in said()


def test_what_was_never_private_does_not_stay_so(here: World, tmp_path: Path) -> None:
    """A deprecated AMI stays public all the time, and one that was not deleted does, too."""
    here.newest()
    here.in_use()
    _share(here.image(), PUBLIC)
    done = task(here, tmp_path)
    flags = Flags(older_than="30d", keep="1", include_shared=True, mode="deprecate")
    cleanup.run(done.run, Request(flags=flags, yes=True))
    here.keep_deleted()
    here.aws.gate.deny("ec2:DeregisterImage")
    refused = task(here, tmp_path)
    with pytest.raises(PartialError):
        cleanup.run(refused.run, Request(flags=Flags(older_than="30d", keep="1", include_shared=True), yes=True))

    assert len(refused.journals) == 2
    for journal in refused.journals:
        assert '"Group": "all"' in journal.read_text()
        assert "Stay private" not in _restore(here, tmp_path, journal, dry_run=True).err.getvalue()


def test_consent_without_a_restore_is_refused(here: World, tmp_path: Path) -> None:
    """Nothing else ever makes an AMI public: whoever thinks so should hear it."""
    with pytest.raises(UsageError, match="--restore"):
        cleanup.run(task(here, tmp_path).run, Request(make_public=True, yes=True))
