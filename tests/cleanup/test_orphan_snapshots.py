"""Orphan snapshots: whose AMI is really gone, and what keeps them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gpu_ami.aws.images import Image, Snapshot
from gpu_ami.aws.references.source import Reference
from gpu_ami.cleanup.orphan_snapshots import find_orphans, made_for, without_shared
from gpu_ami.cleanup.plan_document import Orphan
from gpu_ami.cleanup.policy import Policy, Scope

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
POLICY = Policy(older_than=timedelta(days=30), keep=3, scope=Scope(family="f"))
GONE = "ami-0123456789abcdef0"


def _snapshot(**more: Any) -> Snapshot:
    values: dict[str, Any] = {
        "snapshot_id": "snap-1",
        "region": "r",
        "description": f"Created by CreateImage(i-0123456789abcdef0) for {GONE}",
        "started": NOW - timedelta(days=100),
        "tags": {"gpu-ami:family": "f"},
    }
    return Snapshot(**values | more)


def _find(snapshot: Snapshot, *images: Image, needed: Any = None, in_bin: Any = None) -> list[Orphan]:
    bins = {"r": set()} if in_bin is None else in_bin
    return find_orphans([snapshot], images, needed or {}, bins, POLICY, NOW)


@pytest.mark.parametrize(
    ("description", "image_id"),
    [
        (f"Created by CreateImage(i-0123456789abcdef0) for {GONE}", GONE),
        (f"Created by CreateImage(i-0123456789abcdef0) for {GONE} from vol-1", GONE),
        (f"Copied for DestinationAmi {GONE} from SourceAmi ami-12345678 for SourceSnapshot snap-1.", GONE),
        (f"backup of {GONE}", None),
        ("", None),
    ],
)
def test_ec2s_own_words_tell_what_a_snapshot_was_made_for(description: str, image_id: str | None) -> None:
    """A person's description that mentions an AMI proves nothing."""
    assert made_for(_snapshot(description=description)) == image_id


def test_a_snapshot_whose_ami_is_gone_goes() -> None:
    """These are what other tools leave behind and what costs on."""
    (orphan,) = _find(_snapshot())

    assert (orphan.action, orphan.image_id, orphan.reasons[0].code) == ("delete", GONE, "orphan")


@pytest.mark.parametrize(
    ("snapshot", "images"),
    [
        ({}, [Image(image_id=GONE, region="r", state="pending")]),
        ({}, [Image(image_id="ami-2", region="r", snapshot_ids=("snap-1",))]),
        ({"description": "mine"}, []),
        ({"tags": {}}, []),
    ],
    ids=["pending AMI", "used by another AMI", "not an AMI's", "outside the scope"],
)
def test_other_snapshots_are_none_of_our_business(snapshot: dict[str, Any], images: list[Image]) -> None:
    """A pending AMI names its snapshots only when it is done, but its snapshots name it at once."""
    assert _find(_snapshot(**snapshot), *images) == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"started": NOW - timedelta(days=29)}, "too-young"),
        ({"started": None}, "no-date"),
        ({"state": "pending"}, "not-finished"),
        ({"tags": {"gpu-ami:family": "f", "gpu-ami:keep": "true"}}, "keep-tag"),
        ({"tags": {"gpu-ami:family": "f", "aws:backup:source-resource": "x"}}, "managed"),
        ({"tags": {"gpu-ami:family": "f", "aws:dlm:lifecycle-policy-id": "x"}}, "managed"),
    ],
)
def test_properties_keep_an_orphan(more: dict[str, Any], code: str) -> None:
    """The least doubt keeps it."""
    (orphan,) = _find(_snapshot(**more))

    assert (orphan.action, [reason.code for reason in orphan.reasons]) == ("keep", [code])


@pytest.mark.parametrize("target", ["snap-1", GONE])
def test_a_reference_keeps_an_orphan(target: str) -> None:
    """A launch template may attach the snapshot itself; a lock is a reference too."""
    (orphan,) = _find(_snapshot(), needed={target: [Reference(target, "launch-templates", "template t")]})

    assert [reason.code for reason in orphan.reasons] == ["launch-templates"]


@pytest.mark.parametrize(("in_bin", "code"), [({"r": {GONE}}, "in-recycle-bin"), ({}, "bin-unknown")])
def test_an_ami_in_the_recycle_bin_keeps_its_snapshots(in_bin: Any, code: str) -> None:
    """Without them it could not come back; and if the bin cannot be listed, it may be there."""
    (orphan,) = _find(_snapshot(), in_bin=in_bin)

    assert [reason.code for reason in orphan.reasons] == [code]


def test_a_shared_orphan_stays() -> None:
    """Another account may make volumes of it; what was not read counts as shared."""
    selected = _find(_snapshot())

    assert without_shared(selected, {"snap-1": None})[0].action == "delete"
    assert without_shared(selected, {"snap-1": "shared with another account"})[0].reasons[0].code == "shared"
    assert without_shared(selected, {})[0].action == "keep"
    kept = _find(_snapshot(state="pending"))
    assert without_shared(kept, {}) == kept
