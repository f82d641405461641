"""AMIs and snapshots: listed whole, read as they are, never guessed."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from gpu_ami.aws import image_changes, images
from gpu_ami.aws.caller import RefusedError, UnansweredError
from gpu_ami.aws.pending_ami import snapshot_percent
from gpu_ami.aws.references.protections import LaunchPermissions
from gpu_ami.aws.references.source import SourceQuery
from gpu_ami.errors import AwsError
from tests.support.fake_caller import FakeCaller

ROW = {
    "ImageId": "ami-1",
    "OwnerId": "1",
    "Name": "gpu",
    "State": "available",
    "CreationDate": "2026-01-02T03:04:05.000Z",
    "LastLaunchedTime": "2026-02-02T03:04:05Z",
    "Tags": [{"Key": "a", "Value": "b"}],
    "BlockDeviceMappings": [
        {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 80}},
        {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
        {"DeviceName": "/dev/sdc", "Ebs": {"VolumeSize": 10}},
        {"DeviceName": "/dev/sdd", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 80}},
    ],
}


def _listed(row: dict[str, Any]) -> images.Image:
    (image,) = images.own_images(FakeCaller({"describe_images": [{"Images": [row]}]}), "1")
    return image


def test_an_ami_is_read_as_it_is() -> None:
    """Instance-store devices and empty volumes have no snapshot; one snapshot twice is one."""
    image = _listed(ROW)

    assert image.created == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert image.last_launched == datetime(2026, 2, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert (image.snapshot_ids, image.volume_gib, image.tags) == (("snap-1",), 170, {"a": "b"})
    assert image.problems == ()


def test_what_ec2_leaves_out_is_not_invented() -> None:
    """An AMI without name, date, state and devices is still one."""
    image = _listed({"ImageId": "ami-1", "OwnerId": "1"})

    assert (image.name, image.state, image.created, image.snapshot_ids) == ("", "unknown", None, ())


def test_an_ami_says_whose_it_is_and_what_it_starts_from() -> None:
    """Families are counted per owner, and a root volume cannot be smaller than its base's."""
    row = {
        **ROW,
        "OwnerId": "1",
        "ImageOwnerAlias": "amazon",
        "SourceImageId": "ami-0",
        "RootDeviceName": "/dev/xvda",
        "RootDeviceType": "instance-store",
    }
    image = _listed(row)

    assert (image.account, image.is_amazons, image.source_ami_id) == ("1", True, "ami-0")
    assert (image.root_gib, image.root_device) == (80, "instance-store")
    bare = _listed({**row, "RootDeviceName": None, "ImageOwnerAlias": "aws-marketplace"})
    assert (bare.root_gib, bare.is_amazons) == (0, False)


@pytest.mark.parametrize("key", ["CreationDate", "LastLaunchedTime", "DeprecationTime"])
def test_a_date_that_cannot_be_read_is_a_problem_not_none(key: str) -> None:
    """None means never launched; something unreadable means that we do not know."""
    image = _listed({**ROW, key: "soon"})

    assert image.problems == (f"{key} 'soon' is not a date",)


def test_only_own_amis_are_candidates() -> None:
    """AMIs shared with this account must never appear, even if EC2 forgets its filter."""
    caller = FakeCaller({"describe_images": [{"Images": [{**ROW, "OwnerId": "2"}]}]})

    assert images.own_images(caller, "1") == []
    request = caller.requests[0][1]
    assert (request["Owners"], request["IncludeDisabled"], request["IncludeDeprecated"]) == (["self"], True, True)


@pytest.mark.parametrize(
    "row", [{"OwnerId": "1"}, {"ImageId": "ami-1"}, {**ROW, "Tags": [{}]}, {**ROW, "BlockDeviceMappings": [3]}]
)
def test_a_malformed_row_fails_the_listing(row: dict[str, Any]) -> None:
    """One unreadable AMI makes the list incomplete, and an incomplete list is none."""
    with pytest.raises(UnansweredError):
        images.own_images(FakeCaller({"describe_images": [{"Images": [row]}]}), "1")


def test_snapshots_are_asked_for_200_at_a_time() -> None:
    """EC2 takes no more values in a filter; one that is gone does not fail the others."""
    caller = FakeCaller(
        {
            "describe_snapshots": lambda Filters, **_: {  # noqa: N803 - AWS's name
                "Snapshots": [{"SnapshotId": snapshot} for snapshot in Filters[0]["Values"] if snapshot != "snap-7"]
            }
        }
    )

    found = images.snapshots(caller, [f"snap-{n}" for n in range(450)])

    assert (len(found), caller.calls) == (449, 3)


def test_a_snapshots_size_is_unknown_unless_ec2_says_it() -> None:
    """An invented size would be a promise of savings."""
    rows = [
        {
            "SnapshotId": "a",
            "OwnerId": "1",
            "FullSnapshotSizeInBytes": 3 * 1024**3,
            "StartTime": "2026-01-01T00:00:00Z",
        },
        {"SnapshotId": "b", "OwnerId": "1", "VolumeSize": 8, "State": "completed"},
        {"SnapshotId": "c", "OwnerId": "2"},
    ]
    found = images.own_snapshots(FakeCaller({"describe_snapshots": [{"Snapshots": rows}]}), "1")

    assert [(row.snapshot_id, row.full_gib, row.volume_gib) for row in found] == [
        ("a", 3.0, 0),
        ("b", None, 8),
    ]


def test_what_an_ami_holds_is_known_of_all_its_snapshots_or_not_at_all() -> None:
    """A part of it would be a price too low."""
    image = images.Image(image_id="ami-1", region="r", snapshot_ids=("a", "b"))
    known = [{"SnapshotId": name, "FullSnapshotSizeInBytes": size} for name, size in (("a", 2**30), ("b", 2**29))]
    script: Any = {"describe_snapshots": [{"Snapshots": known}, {"Snapshots": [known[0], {"SnapshotId": "b"}]}]}
    caller = FakeCaller(script)

    assert images.written_gib(caller, image) == 1.5
    assert images.written_gib(caller, image) is None
    assert caller.requests[0] == ("describe_snapshots", {"SnapshotIds": ["a", "b"]})
    assert images.written_gib(FakeCaller({}), images.Image(image_id="ami-1", region="r")) is None


FOUND = {"ImageId": "ami-1", "OwnerId": "1", "State": "available", "Architecture": "x86_64"}


def test_an_ami_is_looked_up_whoever_owns_it_and_whatever_became_of_it() -> None:
    """Deprecated and disabled ones are requested too: a person must hear why theirs is refused."""
    more = {
        "StateReason": {"Message": "no space"},
        "DeprecationTime": "2026-01-02T03:04:05.000Z",
        "Tags": [{"Key": "a", "Value": "b"}],
    }
    caller = FakeCaller({"describe_images": [{"Images": [{**FOUND, **more}]}]})

    assert images.look_up(caller, "ami-1") == images.Image(
        image_id="ami-1",
        region="r",
        state_reason="no space",
        account="1",
        architecture="x86_64",
        deprecated_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        tags={"a": "b"},
        root_device="",
    )
    assert caller.requests[0][1] == {"ImageIds": ["ami-1"], "IncludeDeprecated": True, "IncludeDisabled": True}


def test_the_instance_types_of_an_ami_are_read_as_two_lists() -> None:
    """Most AMIs have none; one with an empty list of supported types runs on all."""

    def rules(given: Any) -> images.TypeRules | None:
        row = {**FOUND, "InstanceTypeSpecification": given}
        found = images.look_up(FakeCaller({"describe_images": [{"Images": [row]}]}), "ami-1")
        assert found is not None
        return found.type_rules

    both = {
        "SupportedInstanceTypes": [{"InstanceType": "g5.*"}, {"InstanceType": "p5.*"}],
        "UnsupportedInstanceTypes": [{"InstanceType": "g5.xlarge"}],
    }
    assert rules(None) is None
    assert rules(both) == images.TypeRules(("g5.*", "p5.*"), ("g5.xlarge",))
    assert rules({"UnsupportedInstanceTypes": both["UnsupportedInstanceTypes"]}) == images.TypeRules((), ("g5.xlarge",))
    with pytest.raises(UnansweredError):
        rules({"SupportedInstanceTypes": ["g5.*"]})


@pytest.mark.parametrize("answer", [{"Images": []}, RefusedError("x", "InvalidAMIID.NotFound")])
def test_an_ami_that_is_gone_is_none(answer: Any) -> None:
    """EC2 says so in two ways; who needs it hears which one it was."""
    assert images.look_up(FakeCaller({"describe_images": [answer]}), "ami-1") is None
    with pytest.raises(AwsError, match="The AMI ami-1 does not exist in r: was it deregistered"):
        images.describe(FakeCaller({"describe_images": [answer]}), "ami-1")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Images": None},
        {"Images": ["x"]},
        *({"Images": [{key: value for key, value in FOUND.items() if key != left}]} for left in FOUND),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(answer: Any) -> None:
    """Nothing known is not nothing wrong."""
    with pytest.raises(UnansweredError, match="makes no sense"):
        images.look_up(FakeCaller({"describe_images": [answer]}), "ami-1")


def test_a_refusal_for_another_reason_is_passed_on() -> None:
    """A missing permission must not be taken for a missing AMI."""
    with pytest.raises(RefusedError, match="no rights"):
        images.look_up(FakeCaller({"describe_images": [RefusedError("no rights", "UnauthorizedOperation")]}), "ami-1")


@pytest.mark.parametrize(
    ("answer", "percent"),
    [
        ({"Snapshots": [{"Progress": "40%"}, {"Progress": "7%"}, {}]}, 7),
        ({"Snapshots": [{"Progress": ""}]}, None),
        ({"Snapshots": []}, None),
        ({}, None),
        (RefusedError("no rights", "UnauthorizedOperation"), None),
    ],
)
def test_a_pending_ami_is_as_far_as_its_slowest_snapshot(answer: Any, percent: int | None) -> None:
    """Whoever may not see the snapshots waits without a number; the build goes on."""
    assert snapshot_percent(FakeCaller({"describe_snapshots": [answer]}), "ami-1") == percent


@pytest.mark.parametrize("answer", [{}, {"ImageId": "ami-2", "LaunchPermissions": []}, {"ImageId": "ami-1"}])
def test_permissions_without_a_list_are_not_no_permissions(answer: dict[str, Any]) -> None:
    """An AMI whose sharing is not known must not pass for a private one."""
    with pytest.raises(UnansweredError):
        images.launch_permissions(FakeCaller({"describe_image_attribute": [answer]}), "ami-1")


def test_a_snapshots_sharing_without_a_list_is_not_none() -> None:
    """The same for snapshots."""
    script: Any = {"describe_snapshot_attribute": [{"CreateVolumePermissions": [{"UserId": "2"}]}, {}]}
    caller = FakeCaller(script)

    assert images.snapshot_is_shared(caller, "snap-1")
    with pytest.raises(UnansweredError):
        images.snapshot_is_shared(caller, "snap-1")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01T00:00:00.000Z", datetime(2026, 1, 1, tzinfo=timezone.utc)),
        ("2026-01-01T09:00:00+09:00", datetime(2026, 1, 1, tzinfo=timezone.utc)),
        ("2026-01-01T00:00:00", datetime(2026, 1, 1, tzinfo=timezone.utc)),
        (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone.utc)),  # noqa: DTZ001 - what a parser may give
        ("", None),
        (3, None),
        ("2026-13-01T00:00:00Z", None),
    ],
)
def test_times_are_utc_or_unknown(text: object, moment: datetime | None) -> None:
    """A local time taken for UTC would be half a day wrong."""
    assert images.parse_time(text) == moment


def _refused(code: str) -> RefusedError:
    return RefusedError(f"ec2: {code}: x", code)


def test_an_ami_that_is_gone_already_counts_as_gone() -> None:
    """The answer to the first try may have been lost on its way."""
    assert (
        image_changes.deregister(FakeCaller({"deregister_image": [_refused("InvalidAMIID.NotFound")]}), "ami-1") == {}
    )


@pytest.mark.parametrize(
    ("state", "is_gone"), [(None, True), ("deregistered", True), ("pending", False), ("available", False)]
)
def test_an_unavailable_ami_is_gone_only_when_it_is_not_listed(state: str | None, *, is_gone: bool) -> None:
    """EC2 says the same word of AMIs that are in no state for the request; those are still there."""
    rows = [{"ImageId": "ami-1", "OwnerId": "1", "State": state}] if state else []
    script: Any = {
        "deregister_image": [_refused("InvalidAMIID.Unavailable")],
        "describe_image_attribute": [_refused("InvalidAMIID.Unavailable")],
        "describe_images": [{"Images": rows}],
    }
    query = SourceQuery([images.Image(image_id="ami-1", region="r")], {"ami-1"})

    if is_gone:
        assert image_changes.deregister(FakeCaller(script), "ami-1") == {}
        assert not LaunchPermissions().find(FakeCaller(script), query).references
        return
    with pytest.raises(RefusedError, match="Unavailable"):
        image_changes.deregister(FakeCaller(script), "ami-1")
    with pytest.raises(RefusedError, match="Unavailable"):
        LaunchPermissions().find(FakeCaller(script), query)


def test_an_ami_that_ec2_still_lists_as_deregistered_is_not_there() -> None:
    """EC2 shows it for a while; a restore would take it for safe and well."""
    caller = FakeCaller({"describe_images": [{"Images": [{**ROW, "State": "deregistered"}]}]})

    assert images.own_images(caller, "1") == []
    assert images.some_images(caller, ["ami-1"]) == []
    assert images.images_with(caller, {"name": "gpu"}) == []


def test_a_refusal_to_deregister_is_an_error() -> None:
    """The AMI is still there."""
    with pytest.raises(RefusedError):
        image_changes.deregister(FakeCaller({"deregister_image": [_refused("AuthFailure")]}), "ami-1")


def test_ec2s_word_on_each_snapshot_is_returned() -> None:
    """The AMI goes even when a snapshot stays: only this result tells."""
    rows = [{"SnapshotId": "a", "ReturnCode": "success"}, {"SnapshotId": "b", "ReturnCode": "missing-permissions"}]
    caller = FakeCaller({"deregister_image": [{"Return": True, "DeleteSnapshotResults": rows}]})

    assert image_changes.deregister(caller, "ami-1") == {"a": "success", "b": "missing-permissions"}
    assert caller.requests[0][1]["DeleteAssociatedSnapshots"] is True


@pytest.mark.parametrize("answer", [{}, {"Return": False}, {"Return": True, "DeleteSnapshotResults": [{}]}])
def test_an_answer_that_does_not_say_done_is_not_done(answer: dict[str, Any]) -> None:
    """A journal that said deleted would not be true."""
    with pytest.raises(UnansweredError):
        image_changes.deregister(FakeCaller({"deregister_image": [answer]}), "ami-1")


def test_a_snapshot_that_is_gone_already_counts_as_gone() -> None:
    """EC2 may have deleted it with its AMI after all; other refusals are errors."""
    script: Any = {"delete_snapshot": [_refused("InvalidSnapshot.NotFound"), _refused("InvalidSnapshot.InUse")]}
    caller = FakeCaller(script)

    image_changes.delete_snapshot(caller, "snap-1")
    with pytest.raises(RefusedError):
        image_changes.delete_snapshot(caller, "snap-1")


def test_an_ami_is_marked_with_its_snapshots() -> None:
    """A sweep looks at either."""
    caller = FakeCaller({"create_tags": [{}]})

    image_changes.mark_finished(caller, images.Image(image_id="ami-1", region="r", snapshot_ids=("snap-1",)))

    tags = [{"Key": "gpu-ami:finished", "Value": "true"}]
    assert caller.requests == [("create_tags", {"Resources": ["ami-1", "snap-1"], "Tags": tags})]


def test_tags_of_aws_are_left_out() -> None:
    """EC2 refuses a whole request over one tag that starts with aws:."""
    caller = FakeCaller({"create_tags": [{}]})

    image_changes.add_tags(caller, "ami-1", {"aws:dlm": "x", "a": "1"})
    image_changes.add_tags(caller, "ami-1", {"aws:dlm": "x"})

    assert caller.requests == [("create_tags", {"Resources": ["ami-1"], "Tags": [{"Key": "a", "Value": "1"}]})]
