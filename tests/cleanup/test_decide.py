"""The decision: what goes, what stays, and every reason."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws.images import Image
from gpu_ami.aws.references.source import Reference
from gpu_ami.cleanup.decide import Decision, SourceReport, Verdict, age_of, decide, find_blocks, newest_of, show_span
from gpu_ami.cleanup.policy import Policy, Scope, family_key, family_of

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
SEEN = SourceReport("instances", "r", "ok", references=1)
POLICY = Policy(older_than=timedelta(days=30), keep=0)


def _image(number: int, age_days: float = 100, **more: Any) -> Image:
    values: dict[str, Any] = {
        "image_id": f"ami-{number:017x}",
        "region": "r",
        "name": "gpu",
        "created": NOW - timedelta(days=age_days),
        "snapshot_ids": (f"snap-{number:017x}",),
    }
    return Image(**values | more)


def _decide(*images: Image, needed: tuple[str, ...] = (), reports: tuple[SourceReport, ...] = (SEEN,)) -> Decision:
    return decide(images, [Reference(image_id, "batch", "an environment") for image_id in needed], reports, POLICY, NOW)


def _with(policy: Policy, *images: Image, needed: tuple[str, ...] = ()) -> Decision:
    return decide(images, [Reference(image_id, "batch", "an environment") for image_id in needed], [SEEN], policy, NOW)


def _only(decision: Decision) -> Verdict:
    (verdict,) = decision.verdicts
    return verdict


def _codes(decision: Decision) -> list[str]:
    return [reason.code for reason in _only(decision).reasons]


def test_an_old_ami_that_nothing_needs_goes() -> None:
    """Otherwise the tool would be of no use."""
    verdict = _only(_decide(_image(1)))

    assert (verdict.action, verdict.is_selected) == ("delete", True)
    assert [reason.code for reason in verdict.reasons] == ["unneeded", "old", "not-among-newest"]
    assert "not made or launched for 100 days" in verdict.reasons[1].detail


def test_a_verdict_names_every_reason() -> None:
    """Whoever removes one reason must know what else keeps the AMI."""
    image = _image(1, 1, tags={"gpu-ami:keep": "true", "gpu-ami:handover": "pending"}, state="pending")

    assert _codes(_decide(image, needed=(image.image_id,))) == [
        "not-finished",
        "keep-tag",
        "too-young",
        "handover-pending",
        "batch",
    ]


@pytest.mark.parametrize("target", ["ami-00000000000000001", "snap-00000000000000001"])
def test_a_reference_to_the_ami_or_its_snapshot_keeps_it(target: str) -> None:
    """A launch template can name a snapshot of an AMI, which goes with it."""
    assert _codes(_decide(_image(1), needed=(target,))) == ["batch"]


def test_many_references_of_one_source_are_counted_not_listed() -> None:
    """A thousand instances of an AMI must not make a table of a thousand lines; equal ones are said once."""
    references = [Reference(_image(1).image_id, "instances", f"instance {n // 2}") for n in range(14)]

    reasons = _only(decide([_image(1)], references, [SEEN], POLICY, NOW)).reasons

    assert [reason.detail for reason in reasons] == ["instance 0", "instance 1", "instance 2", "and 4 more"]
    few = _only(decide([_image(1)], references[:6], [SEEN], POLICY, NOW)).reasons
    assert [reason.detail for reason in few] == ["instance 0", "instance 1", "instance 2"]


@pytest.mark.parametrize(
    ("age_days", "action"), [(30.0, "delete"), (30.0001, "delete"), (29.9999, "keep")], ids=["at", "over", "under"]
)
def test_the_age_limit_is_inclusive(age_days: float, action: str) -> None:
    """`--older-than 30d` means at least thirty days."""
    assert _only(_decide(_image(1, age_days))).action == action


@pytest.mark.parametrize(
    ("launched_days", "action"), [(31.001, "delete"), (30.5, "keep"), (5.0, "keep"), (150.0, "delete")]
)
def test_a_launch_counts_and_is_known_a_day_late(launched_days: float, action: str) -> None:
    """EC2 reports launches up to 24 hours late, so a launch date is taken for a day younger."""
    image = _image(1, 100, last_launched=NOW - timedelta(days=launched_days))

    assert _only(_decide(image)).action == action


@pytest.mark.parametrize(
    ("launched_days", "text"),
    [(None, "made 2026-11-13, less than 30 days ago"), (5.0, "launched 2026-11-18, less than 30 days ago")],
)
def test_a_young_ami_says_what_makes_it_young(launched_days: float | None, text: str) -> None:
    """An AMI of last year that was launched last week must not read as made last week."""
    launched = None if launched_days is None else NOW - timedelta(days=launched_days)

    assert _only(_decide(_image(1, 10, last_launched=launched))).reasons[0].detail == text


def test_age_is_unknown_without_a_creation_date() -> None:
    """An AMI of unknown age is not an old one, launched or not."""
    assert age_of(_image(1, created=None, last_launched=NOW), NOW) is None
    assert _codes(_decide(_image(1, created=None))) == ["no-date"]
    assert _codes(_decide(_image(1, created=None, tags={"gpu-ami:handover": "pending"}))) == ["no-date"]


@pytest.mark.parametrize("more", [{"created": NOW + timedelta(days=2)}, {"last_launched": NOW + timedelta(hours=1)}])
def test_a_date_in_the_future_keeps(more: dict[str, Any]) -> None:
    """One of the two clocks is wrong, and with it every age."""
    assert _codes(_decide(_image(1, **more))) == ["future-date"]


@pytest.mark.parametrize(("minutes", "code"), [(2, "too-young"), (5, "too-young"), (5.1, "future-date")])
def test_clocks_may_differ_by_minutes(minutes: float, code: str) -> None:
    """A creation time two minutes ahead is an everyday thing: the AMI is young, not from the future."""
    assert _codes(_decide(_image(1, created=NOW + timedelta(minutes=minutes)))) == [code]


@pytest.mark.parametrize("state", ["pending", "transient", "deregistered", "something new"])
def test_an_ami_that_is_not_done_stays(state: str) -> None:
    """A pending AMI belongs to a build that is under way; an unknown state may mean anything."""
    assert _codes(_decide(_image(1, state=state))) == ["not-finished"]


@pytest.mark.parametrize("state", ["available", "disabled", "failed", "error", "invalid"])
def test_an_ami_that_is_done_may_go(state: str) -> None:
    """Disabled and failed AMIs cost as much as others."""
    assert _only(_decide(_image(1, state=state))).is_selected


@pytest.mark.parametrize(("value", "stays"), [("true", True), ("", True), ("until May", True), ("false", False)])
def test_the_keep_tag_keeps(value: str, stays: bool) -> None:
    """Whatever somebody writes behind gpu-ami:keep, they mean it, unless they wrote no."""
    assert _only(_decide(_image(1, tags={"gpu-ami:keep": value}))).is_selected is not stays


def test_what_ec2_says_unreadably_keeps() -> None:
    """A date that cannot be read may be today's."""
    assert _codes(_decide(_image(1, problems=("LastLaunchedTime 'soon' is not a date",)))) == ["unreadable"]


def _family(*ages: float, **more: Any) -> list[Image]:
    return [_image(number, age, tags={"gpu-ami:family": "f"}, **more) for number, age in enumerate(ages, start=1)]


def _stay(decision: Decision) -> list[str]:
    return [v.image.image_id[-1] for v in decision.verdicts if not v.is_selected]


def test_the_newest_of_each_family_stay() -> None:
    """Two AMIs to go back to, in each family of its own."""
    other = _image(9, 400, name="other", tags={"gpu-ami:family": "g"})
    policy = dataclasses.replace(POLICY, keep=2)

    assert _stay(_with(policy, *_family(100, 200, 300), other)) == ["9", "2", "1"]
    assert _stay(_with(policy, *_family(300, 200, 100))) == ["2", "3"]


def test_the_newest_count_over_all_amis_of_the_family() -> None:
    """An AMI in use and one outside the scope count too: keep 1 means that one stays, not one more."""
    policy = dataclasses.replace(POLICY, keep=1, scope=Scope(name="old-*"))
    newer = _image(2, 50, name="new-1", tags={"gpu-ami:family": "f"})
    older = _image(1, 100, name="old-1", tags={"gpu-ami:family": "f"})

    assert _only(_with(policy, newer, older)).is_selected
    assert _with(policy, newer, older).outside == 1


def test_each_region_keeps_its_own_newest() -> None:
    """A copy in another region launches nothing here."""
    policy = dataclasses.replace(POLICY, keep=1)

    assert _stay(_with(policy, *_family(100), msgspec.structs.replace(_image(2, 50), region="s"))) == ["1", "2"]


@pytest.mark.parametrize("other", [{"account": "2"}, {"region": "s"}, {"tags": {"gpu-ami:family": "g"}}])
def test_families_are_counted_apart_per_account_and_region(other: dict[str, Any]) -> None:
    """The newest AMI of another account or region is nothing to go back to here, and its hand-over is not ours."""
    policy = dataclasses.replace(POLICY, keep=1)
    (here,) = _family(100, account="1")
    there = _image(2, 50, **{"account": "1", "tags": here.tags} | other)

    assert _stay(_with(policy, here, there)) == ["1", "2"]
    assert newest_of([here, there], {here.image_id}, 1) == {here.image_id}
    pending = msgspec.structs.replace(here, tags={**here.tags, "gpu-ami:handover": "pending"})
    applied = msgspec.structs.replace(there, tags={**there.tags, "gpu-ami:handover": "applied"})
    assert "1" in _stay(_with(POLICY, pending, applied))


def test_one_familys_amis_are_counted_together() -> None:
    """Of one account and region only so many stay, however they are listed."""
    first, second = _family(100, 50, account="1")
    policy = dataclasses.replace(POLICY, keep=1)

    assert _stay(_with(policy, first, second)) == ["2"]
    assert newest_of([first, second], {first.image_id}, 1) == {second.image_id}
    assert family_key(first) == family_key(second) == ("1", "f", "r")


@pytest.mark.parametrize("state", ["failed", "disabled"])
def test_an_ami_that_cannot_be_launched_takes_no_place_among_the_newest(state: str) -> None:
    """After three failed builds there must still be one AMI to go back to."""
    broken = _image(5, 40, tags={"gpu-ami:family": "f"}, state=state)
    policy = dataclasses.replace(POLICY, keep=1)

    assert "1" in _stay(_with(policy, *_family(100), broken))


def test_an_ami_that_a_failed_build_left_takes_no_place_among_the_newest() -> None:
    """It can be launched, but nobody should: three bad nights would push out the AMIs to go back to."""
    left = _image(5, 40, tags={"gpu-ami:family": "f", "gpu-ami:handover": "pending", "gpu-ami:finished": "false"})
    policy = dataclasses.replace(POLICY, keep=1)

    assert "1" in _stay(_with(policy, *_family(100), left))


def test_an_ami_without_date_pushes_none_out() -> None:
    """Taken for the newest, it would let the real newest go."""
    policy = dataclasses.replace(POLICY, keep=1)
    undated = _image(5, created=None, tags={"gpu-ami:family": "f"})

    assert _stay(_with(policy, *_family(100, 200), undated)) == ["5", "1"]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpu-batch-20261101T101500Z-abc123", "gpu-batch"),
        ("gpu-batch-2026-11-01", "gpu-batch"),
        ("gpu_batch_1700000000", "gpu_batch"),
        ("gpu-batch v1.2.3", "gpu-batch"),
        ("ubuntu-22.04-gpu", "ubuntu-22.04-gpu"),
        ("", "ami-00000000000000001"),
    ],
)
def test_a_family_without_tag_is_the_name_without_its_end(name: str, family: str) -> None:
    """Too little cut off makes families of one, which stay; too much would mix families."""
    assert family_of(_image(1, name=name)) == family


def test_an_ami_that_waits_for_its_hand_over_stays() -> None:
    """It is new and nothing needs it yet: that is the state of one that waits."""
    pending = _image(1, 100, tags={"gpu-ami:handover": "pending", "gpu-ami:family": "f"})
    applied = _image(2, 80, tags={"gpu-ami:handover": "applied", "gpu-ami:family": "f"})
    older = _image(3, 120, tags={"gpu-ami:handover": "applied", "gpu-ami:family": "f"})

    also_pending = msgspec.structs.replace(applied, tags={"gpu-ami:handover": "pending", "gpu-ami:family": "f"})
    undated = msgspec.structs.replace(applied, created=None)
    same_time = msgspec.structs.replace(applied, created=pending.created)
    assert _codes(_decide(pending)) == ["handover-pending"]
    for other in (older, also_pending, undated, same_time):
        assert "1" in _stay(_decide(pending, other))
    assert "1" not in _stay(_decide(pending, applied))
    assert "1" not in _stay(_decide(pending, applied, older))


def test_a_waiting_ami_that_was_overtaken_stays_thirty_days() -> None:
    """Somebody may go back to it on purpose; with a short age limit this is what protects it."""
    policy = dataclasses.replace(POLICY, older_than=timedelta(days=1))
    pending = _image(1, 20, tags={"gpu-ami:handover": "pending", "gpu-ami:family": "f"})
    applied = _image(2, 10, tags={"gpu-ami:handover": "applied", "gpu-ami:family": "f"})

    assert _stay(_with(policy, pending, applied)) == ["1"]
    at_last = msgspec.structs.replace(pending, created=NOW - timedelta(days=30))
    assert _stay(_with(policy, at_last, applied)) == []


def test_a_failed_source_keeps_everything_and_says_so() -> None:
    """What was not queried may need anything."""
    failed = SourceReport("batch", "r", "failed", account="1", error="AccessDenied")

    decision = _decide(_image(1), reports=(SEEN, failed))

    assert decision.blocks == ("batch (r 1) could not be read: AccessDenied",)
    assert _only(decision).action == "keep"
    assert _codes(decision) == ["blocked", "unneeded", "old", "not-among-newest"]


ROLE = "arn:aws:sts::1:assumed-role/gpu-batch-github-plan/run"


def _denied(name: str, action: str, region: str = "r", **more: Any) -> SourceReport:
    error = f"{name} in {region}: AccessDeniedException: User: {ROLE} is not authorized to perform: {action}"
    values = {"error": error, "denied": action, "principal": ROLE}
    return SourceReport(name, region, "failed", **values | more)


def test_all_denials_are_one_line_with_the_ways_out() -> None:
    """After an upgrade that reads more a role may lack a dozen actions, and again in each region."""
    reports = [_denied("lambda-x", "lambda:ListFunctions", region) for region in ("r", "s")]
    reports += [_denied("pcs-x", "pcs:ListClusters"), _denied("batch", "batch:DescribeComputeEnvironments")]
    other = SourceReport("receipts", None, "failed", error="broken")

    line, rest = find_blocks([SEEN, other, *reports], POLICY)

    assert rest == "receipts could not be read: broken"
    assert line.startswith(
        f"3 sources in r, s could not be read: {ROLE} may not do batch:DescribeComputeEnvironments, "
        "lambda:ListFunctions, pcs:ListClusters. "
    )
    assert "docs/cleanup.md lists under Permissions" in line
    # Without Batch's environments AMIs in use would go: there is no flag for it.
    assert line.endswith("cleanup.skip_sources in pipeline.yaml, of lambda-x, pcs-x")


def test_one_denial_reads_as_ever() -> None:
    """AWS's own words say more than a list of one."""
    report = _denied("pcs-x", "pcs:ListClusters")

    assert find_blocks([SEEN, report], POLICY) == (f"pcs-x (r) could not be read: {report.error}",)


def test_denials_of_several_roles_and_unknown_ones_are_kept_apart() -> None:
    """Another account's reader lacks other things than ours; a service may not say who is denied."""
    reader = "arn:aws:sts::2:assumed-role/reader/run"
    reports = [
        _denied("pcs-x", "pcs:ListClusters"),
        _denied("pcs-x", "pcs:ListClusters", principal=reader, account="2"),
        _denied("emr-x", "elasticmapreduce:ListClusters", principal="", error="with an explicit deny in a policy"),
    ]

    (line,) = find_blocks(reports, POLICY)

    assert f"{ROLE} may not do pcs:ListClusters; {reader} may not do pcs:ListClusters; these credentials" in line
    assert "an explicit deny is among them" in line


def test_only_essential_denials_have_one_way_out() -> None:
    """A flag that is refused is no advice."""
    (line,) = find_blocks([_denied("batch", "batch:X"), _denied("instances", "ec2:Y")], POLICY)

    assert "skip_sources" not in line
    assert line.endswith("allow what docs/cleanup.md lists under Permissions")


@pytest.mark.parametrize("usage_reports", [False, True])
def test_with_usage_reports_sharing_may_not_be_left_out(*, usage_reports: bool) -> None:
    """The advice would be refused by the next run."""
    policy = dataclasses.replace(POLICY, include_shared=True, usage_reports=usage_reports)
    denied = [_denied("launch-permissions", "ec2:DescribeImageAttribute"), _denied("pcs-x", "pcs:ListClusters")]

    (line,) = find_blocks(denied, policy)

    assert line.endswith(f"in pipeline.yaml, of {'' if usage_reports else 'launch-permissions, '}pcs-x")


def test_a_failed_source_without_a_place_is_named_alone() -> None:
    """Files are in no region."""
    failed = SourceReport("receipts", None, "failed", error="denied")

    assert _decide(_image(1), reports=(SEEN, failed)).blocks == ("receipts could not be read: denied",)


def test_a_skipped_source_blocks_nothing() -> None:
    """It was left out on purpose, or does not exist in the region."""
    skipped = SourceReport("image-builder", "r", "skipped", error="left out by --skip-source")

    assert _decide(_image(1), reports=(SEEN, skipped)).blocks == ()


def test_an_account_where_nothing_needs_any_ami_is_not_believed() -> None:
    """More likely the credentials are for the wrong account, or blind."""
    sharing = SourceReport("launch-permissions", "r", "ok", references=3, is_use=False)
    quiet = (SourceReport("instances", "r", "ok"), sharing)

    assert "--allow-no-references" in _decide(_image(1), reports=quiet).blocks[0]
    believed = dataclasses.replace(POLICY, allow_no_references=True)
    assert decide([_image(1)], [], quiet, believed, NOW).blocks == ()


def test_where_nothing_would_go_silence_alarms_nobody() -> None:
    """A new account's nightly plan would fail every night; a source that failed is said all the same."""
    quiet = (SourceReport("instances", "r", "ok"),)
    young = _image(1, age_days=1)

    assert decide([young], [], quiet, POLICY, NOW).blocks == ()
    assert "--allow-no-references" in find_blocks(quiet, POLICY)[0]
    assert "--allow-no-references" in decide([young], [], quiet, POLICY, NOW, with_orphans=True).blocks[0]
    failed = (SourceReport("instances", "r", "failed", error="denied"),)
    assert "denied" in decide([young], [], failed, POLICY, NOW).blocks[0]


def test_only_the_oldest_go_when_there_is_a_limit() -> None:
    """A mistake then costs few AMIs, and those that were missed least."""
    policy = dataclasses.replace(POLICY, max_deletions=1)

    decision = _with(policy, _image(1, 100), _image(2, 300), _image(3, 200), needed=())

    assert [v.image.image_id[-1] for v in decision.selected] == ["2"]
    assert [v.reasons[0].code for v in decision.verdicts[1:]] == ["max-deletions", "max-deletions"]


def test_a_limit_counts_only_what_goes() -> None:
    """AMIs that stay anyway must not use up the limit."""
    policy = dataclasses.replace(POLICY, max_deletions=1)

    decision = _with(policy, _image(1, 300), _image(2, 200), needed=(_image(1).image_id,))

    assert [v.image.image_id[-1] for v in decision.selected] == ["2"]
    assert [r.code for r in decision.verdicts[0].reasons] == ["batch"]


@pytest.mark.parametrize(
    ("include", "mode", "stays"),
    [(False, "delete", True), (True, "delete", False), (True, "disable", True), (True, "deprecate", False)],
)
def test_sharing_keeps_unless_it_is_included(include: bool, mode: Any, stays: bool) -> None:
    """Disabling takes the permissions away for good, so a shared AMI is never disabled."""
    policy = dataclasses.replace(POLICY, include_shared=include, mode=mode)
    sharing = Reference(_image(1).image_id, "launch-permissions", "shared with 2")

    assert _only(decide([_image(1)], [sharing], [SEEN], policy, NOW)).is_selected is not stays


@pytest.mark.parametrize(
    ("include", "mode", "stays"),
    [
        (False, "delete", True),
        (True, "delete", False),
        (False, "disable", False),
        (True, "disable", False),
        (False, "deprecate", False),
    ],
)
def test_a_public_snapshot_keeps_its_ami_from_being_deleted(include: bool, mode: Any, stays: bool) -> None:
    """Only deleting takes the snapshot away."""
    policy = dataclasses.replace(POLICY, include_shared=include, mode=mode)
    sharing = Reference(_image(1).snapshot_ids[0], "public-snapshots", "snapshot is public")

    assert _only(decide([_image(1)], [sharing], [SEEN], policy, NOW)).is_selected is not stays


def test_including_shared_amis_includes_nothing_else() -> None:
    """--include-shared is about sharing: what Batch needs stays."""
    policy = dataclasses.replace(POLICY, include_shared=True)

    assert _codes(_with(policy, _image(1), needed=(_image(1).image_id,))) == ["batch"]


@pytest.mark.parametrize(
    ("mode", "more", "code"),
    [
        ("disable", {"state": "disabled"}, "already-disabled"),
        ("deprecate", {"deprecated_at": NOW}, "already-deprecated"),
    ],
)
def test_what_is_done_already_is_not_done_again(mode: Any, more: dict[str, Any], code: str) -> None:
    """A second run has nothing to do, and an own deprecation date is not overwritten."""
    policy = dataclasses.replace(POLICY, mode=mode)

    assert _codes(_with(policy, _image(1, **more))) == [code]
    assert _only(_with(policy, _image(1))).action == mode


@pytest.mark.parametrize("mode", ["delete", "disable"])
def test_a_deprecated_ami_may_go(mode: Any) -> None:
    """Every AMI of ours gets a deprecation date when it is made; it must not live forever for it."""
    assert _only(_with(dataclasses.replace(POLICY, mode=mode), _image(1, deprecated_at=NOW))).is_selected


def test_verdicts_come_oldest_first() -> None:
    """The order of the table is the order of the deletions."""
    decision = _decide(_image(1, 50), _image(2, 70), _image(3, created=None))

    assert [v.image.image_id[-1] for v in decision.verdicts] == ["3", "2", "1"]


SPANS = [
    (timedelta(days=30), "30 days"),
    (timedelta(days=1), "1 day"),
    (timedelta(hours=36), "36 hours"),
    (timedelta(hours=1), "1 hour"),
]


@pytest.mark.parametrize(("span", "text"), SPANS)
def test_spans_are_said_in_days_or_hours(span: timedelta, text: str) -> None:
    """A reason must not round 36 hours to a day."""
    assert show_span(span) == text


# --- any account

_ids = st.integers(min_value=0, max_value=30)
_images = st.builds(
    lambda number, age, launched, family, account, region, state, tags, shared: _image(
        number,
        age,
        last_launched=None if launched is None else NOW - timedelta(days=launched),
        account=account,
        region=region,
        state=state,
        name=f"{family}-{number}",
        tags=tags,
        snapshot_ids=(f"snap-{shared:017x}",),
    ),
    _ids,
    st.integers(-3, 900),
    st.none() | st.integers(-3, 900),
    st.sampled_from("ab"),
    st.sampled_from("12"),
    st.sampled_from("rs"),
    st.sampled_from(["available", "available", "disabled", "pending", "failed"]),
    st.dictionaries(
        st.sampled_from(["gpu-ami:keep", "gpu-ami:handover", "gpu-ami:family"]),
        st.sampled_from(["true", "pending", "applied", "f"]),
    ),
    _ids,
)
_accounts = st.lists(_images, max_size=12, unique_by=lambda image: image.image_id)
_references = st.lists(
    st.builds(
        lambda kind, number, source: Reference(f"{kind}-{number:017x}", source, "x"),
        st.sampled_from(["ami", "snap"]),
        _ids,
        st.sampled_from(["instances", "batch", "receipts", "launch-permissions"]),
    ),
    max_size=6,
)
_policies = st.builds(
    Policy,
    older_than=st.integers(1, 400).map(lambda days: timedelta(days=days)),
    keep=st.integers(0, 4),
    scope=st.sampled_from([Scope(), Scope(family="f"), Scope(name="a*"), Scope(tags={"gpu-ami:keep": "true"})]),
    mode=st.sampled_from(["delete", "disable", "deprecate"]),
    max_deletions=st.none() | st.integers(1, 5),
)
_reports = st.lists(
    st.builds(
        SourceReport,
        st.sampled_from(["instances", "batch"]),
        st.just("r"),
        st.sampled_from(["ok", "ok", "ok", "skipped", "failed"]),
        references=st.integers(0, 2),
    ),
    max_size=4,
)


@given(_accounts, _references, _reports, _policies)
def test_in_no_account_does_a_needed_ami_go(
    images: list[Image], references: list[Reference], reports: list[SourceReport], policy: Policy
) -> None:
    """The one promise, for any account: needed, young, newest, tagged and unfinished AMIs stay."""
    decision = decide(images, references, reports, policy, NOW)

    needed = {reference.target for reference in references}
    for verdict in decision.selected:
        image = verdict.image
        assert not {image.image_id, *image.snapshot_ids} & needed
        assert image.tags.get("gpu-ami:keep") != "true"
        assert image.state != "pending"
        assert image.created is not None
        assert NOW - image.created >= policy.older_than
        assert image.last_launched is None or NOW - image.last_launched >= policy.older_than
        assert policy.scope.covers(image.name, image.tags)


@given(_accounts, _references, _reports, _policies)
def test_in_no_account_does_a_failed_source_let_anything_go(
    images: list[Image], references: list[Reference], reports: list[SourceReport], policy: Policy
) -> None:
    """Half an answer is no answer."""
    failed = SourceReport("batch", "r", "failed", error="cut short")

    assert decide(images, references, [*reports, failed], policy, NOW).selected == ()


@given(_accounts, _references, _policies)
def test_in_every_account_the_newest_stay_and_every_ami_has_a_reason(
    images: list[Image], references: list[Reference], policy: Policy
) -> None:
    """Each family keeps its newest in each region, the limit holds, and no verdict is without a reason."""
    decision = decide(images, references, [SEEN], policy, NOW)

    gone = {verdict.image.image_id for verdict in decision.selected}
    for family in {family_key(image) for image in images}:
        members = [image for image in images if family_key(image) == family]
        usable = [image for image in members if image.state in ("available", "disabled", "pending")]
        left = [image for image in usable if image.image_id not in gone]
        assert len(left) >= min(policy.keep, len(usable))
    assert all(verdict.reasons for verdict in decision.verdicts)
    assert len(decision.verdicts) + decision.outside == len(images)
    assert policy.max_deletions is None or len(gone) <= policy.max_deletions


@given(_accounts, _references, _policies, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    images: list[Image], references: list[Reference], policy: Policy, random: Any
) -> None:
    """AWS lists in any order; two runs on the same account must agree."""
    shuffled = random.sample(images, len(images))

    assert (
        decide(images, references, [SEEN], policy, NOW).selected
        == decide(shuffled, references, [SEEN], policy, NOW).selected
    )
