"""What a repository's lifecycle policy does to the image that is baked, rule by rule as ECR goes by them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws.ecr import ContainerImage, RepositoryUrl
from gpu_ami.bake.checks import lifecycle
from gpu_ami.bake.checks.check import Check

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
REPOSITORY = RepositoryUrl(account="123456789012", region="ap-northeast-2", name="batch-processor")


def ago(days: float) -> datetime:
    """Return the time so many days before."""
    return NOW - timedelta(days=days)


IMAGE = ContainerImage("sha256:1", 10, tags=("v1",), status="ACTIVE", pushed_at=ago(20), pulled_at=ago(10))


def a_rule(priority: int = 1, action: str = "expire", **selection: Any) -> dict[str, Any]:
    """Return a rule as a policy has it: by default it deletes anything that was pushed 30 days ago."""
    kind = {"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 30} | selection
    if kind["countType"] == "imageCountMoreThan":
        del kind["countUnit"]
    to = {"targetStorageClass": "archive"} if action == "transition" else {}
    return {"rulePriority": priority, "description": "x", "selection": kind, "action": {"type": action, **to}}


def a_policy(*rules: Any) -> str:
    """Return the text of a policy."""
    return json.dumps({"rules": list(rules)})


def judged(
    policy: str | None, image: ContainerImage = IMAGE, *others: ContainerImage, deprecate_after_days: float = 180
) -> Check:
    """Return the verdict."""
    return lifecycle.judge(policy, image, REPOSITORY, others, deprecate_after_days=deprecate_after_days, now=NOW)


def pushed(*days: float, **changed: Any) -> list[ContainerImage]:
    """Return other images that were pushed so many days ago."""
    return [replace(IMAGE, digest=f"sha256:{9 + n}", pushed_at=ago(day), **changed) for n, day in enumerate(days)]


def test_without_a_policy_nothing_goes() -> None:
    """Most repositories have none."""
    assert (judged(None).status, judged(None).fix) == ("ok", "")


@pytest.mark.parametrize(
    ("number", "days", "status", "said"),
    [
        (30, 180, "warn", "rule 1 deletes it 30 days after its push: on 2026-11-11"),
        (20, 180, "warn", "rule 1 deletes it 20 days after its push: within 24 hours"),
        (1, 180, "warn", "rule 1 deletes it 1 day after its push: within 24 hours"),
        (200, 180, "warn", "rule 1 deletes it 200 days after its push: on 2027-04-30"),
        (201, 180, "ok", "rule 1 deletes it 201 days after its push, which is not within 180 days"),
        (201, 0, "warn", "on 2027-05-01"),
        (999_999_999, 0, "ok", "which is not within 3650 days"),
    ],
)
def test_by_age(number: int, days: float, status: str, said: str) -> None:
    """From the push on, whoever needs the image; what outlives the AMI's deprecation is no finding."""
    check = judged(a_policy(a_rule(countNumber=number)), deprecate_after_days=days)

    assert (check.status, check.detail) == (status, said) if said.startswith("rule") else said in check.detail
    assert (check.status, bool(check.fix)) == (status, status == "warn")


@pytest.mark.parametrize(
    ("changed", "number", "status", "said"),
    [
        ({}, 90, "warn", "rule 1 archives it 90 days after its last pull, and no instance of the AMI pulls it"),
        ({}, 10, "warn", "within 24 hours, unless something pulls it before"),
        ({"pulled_at": ago(400)}, 200, "warn", "within 24 hours, unless something pulls it before"),
        # Never pulled: the push counts.
        ({"pulled_at": None}, 20, "warn", "within 24 hours, unless something pulls it before"),
        ({"pulled_at": None, "pushed_at": None}, 200, "ok", "which is not within 180 days"),
        # Back from the archive and not pulled since: that counts.
        ({"pulled_at": ago(400), "activated_at": ago(2)}, 200, "ok", "which is not within 180 days"),
        ({"pulled_at": ago(1), "activated_at": ago(400)}, 200, "ok", "which is not within 180 days"),
        ({}, 181, "ok", "which is not within 180 days"),
    ],
)
def test_by_the_last_pull(changed: dict[str, Any], number: int, status: str, said: str) -> None:
    """It hits just the image that is baked: the bake pulls it once, and its instances never."""
    rule = a_rule(action="transition", countType="sinceImagePulled", countNumber=number)

    check = judged(a_policy(rule), replace(IMAGE, **changed))

    assert (check.status, said in check.detail) == (status, True), check
    assert "; archived it cannot be pulled" in check.detail


@pytest.mark.parametrize(
    ("others", "number", "status", "said"),
    [
        # Three are newer: it is the fourth.
        (pushed(1, 2, 3, 30), 3, "warn", "within 24 hours, 3 are newer"),
        (pushed(1, 2, 3, 30), 4, "warn", "3 are newer, and 5 came in the last 30 days"),
        # At five in 30 days, 27 more take 162 days; 28 take 168; 30 take 180, 31 longer.
        (pushed(1, 2, 3, 30), 33, "warn", "3 are newer"),
        (pushed(1, 2, 3, 30), 34, "ok", "which is not within 180 days"),
        # Alone, or in a new repository, nobody knows the pace.
        ([], 5, "ok", "0 are newer, and the pace is not known yet"),
        # A rule that keeps the newest alone leaves no other to tell the pace by.
        ([], 1, "warn", "0 are newer, and 1 came in the last 20 days"),
        # The idiom that protects.
        ([], 9999, "ok", "0 are newer, and so many never come"),
        (pushed(1, 2, 3, 30), 9999, "ok", "3 are newer, and so many never come"),
    ],
)
def test_by_count(others: list[ContainerImage], number: int, status: str, said: str) -> None:
    """The newest stay. How soon it is none of them is told by how often an image comes."""
    check = judged(a_policy(a_rule(countType="imageCountMoreThan", countNumber=number)), IMAGE, *others)

    assert (check.status, said in check.detail) == (status, True), check


@pytest.mark.parametrize(
    ("age", "others", "number", "status", "said"),
    [
        (5 / 1440, [], 100, "ok", "0 are newer, and the pace is not known yet"),
        (5 / 1440, [], 9999, "ok", "0 are newer, and so many never come"),
        (3, pushed(1, 2), 100, "ok", "2 are newer, and the pace is not known yet"),
        (13.9, pushed(1, 2), 10, "ok", "2 are newer, and the pace is not known yet"),
        (14.1, pushed(1, 2), 10, "warn", "2 are newer, and 3 came in the last 14 days"),
        # As many as the rule keeps: those before them are gone, so that the repository only looks new.
        (3, pushed(1, 2, 4, 5), 5, "warn", "2 are newer, and 5 came in the last 5 days"),
        (3, pushed(1, 2, 4, 5), 6, "ok", "2 are newer, and the pace is not known yet"),
        (5 / 1440, [], 1, "warn", "0 are newer, and 1 came in the last 1 day"),
        # Whatever the pace.
        (3, pushed(1, 2), 2, "warn", "within 24 hours, 2 are newer"),
    ],
)
def test_by_count_in_a_young_repository(
    age: float, others: list[ContainerImage], number: int, status: str, said: str
) -> None:
    """The first image of a repository is no flood of them: it would be taken for hundreds in half a year."""
    rule = a_rule(countType="imageCountMoreThan", countNumber=number)

    check = judged(a_policy(rule), replace(IMAGE, pushed_at=ago(age)), *others)

    assert (check.status, said in check.detail) == (status, True), check


def test_only_what_the_rule_selects_is_counted() -> None:
    """Ten newer images of another kind push nothing out."""
    rule = a_rule(tagStatus="tagged", tagPrefixList=["v"], countType="imageCountMoreThan", countNumber=3)
    others = [*pushed(*range(1, 11), tags=("other",)), *pushed(1, 2)]

    check = judged(a_policy(rule), IMAGE, IMAGE, *others)

    assert "2 are newer, and 3 came" in check.detail


def test_a_restored_image_counts_from_then_on() -> None:
    """ECR takes the time of the restoration for that of the push."""
    count = a_policy(a_rule(countType="imageCountMoreThan", countNumber=1))
    age = a_policy(a_rule(countNumber=30))
    restored = replace(IMAGE, pushed_at=ago(400), activated_at=ago(0.5))

    assert "within 24 hours, 1 are newer" in judged(count, replace(restored, activated_at=None), *pushed(1)).detail
    assert "0 are newer" in judged(count, restored, *pushed(1)).detail
    assert "on 2026-12-01" in judged(age, restored).detail


@pytest.mark.parametrize(
    ("selection", "tags", "selects"),
    [
        ({"tagStatus": "any"}, ("v1",), True),
        ({"tagStatus": "any"}, (), True),
        ({"tagStatus": "untagged"}, (), True),
        ({"tagStatus": "untagged"}, ("v1",), False),
        ({"tagStatus": "tagged", "tagPatternList": ["v*"]}, ("v1",), True),
        ({"tagStatus": "tagged", "tagPatternList": ["*v*"]}, ("rev1",), True),
        ({"tagStatus": "tagged", "tagPatternList": ["v"]}, ("v1",), False),
        ({"tagStatus": "tagged", "tagPatternList": ["v?", "[v]1"]}, ("v1",), False),
        # All of several patterns, each by any of the tags.
        ({"tagStatus": "tagged", "tagPatternList": ["v*", "prod*"]}, ("v1",), False),
        ({"tagStatus": "tagged", "tagPatternList": ["v*", "prod*"]}, ("v1", "prod-2"), True),
        ({"tagStatus": "tagged", "tagPrefixList": ["v"]}, ("v1",), True),
        ({"tagStatus": "tagged", "tagPrefixList": ["v", "prod"]}, ("v1",), False),
        ({"tagStatus": "tagged", "tagPrefixList": ["*"]}, ("v1",), False),
        ({"tagStatus": "tagged", "tagPatternList": ["v*"]}, (), False),
        ({"tagStatus": "tagged"}, ("v1",), False),
    ],
)
def test_which_images_a_rule_is_about(selection: dict[str, Any], tags: tuple[str, ...], *, selects: bool) -> None:
    """Patterns know the star alone; a prefix is a prefix."""
    check = judged(a_policy(a_rule(**selection)), replace(IMAGE, tags=tags))

    assert (check.status == "warn") is selects
    if not selects:
        assert check.detail == "no rule of batch-processor selects the image"


def test_a_pattern_of_stars_is_read_in_no_time() -> None:
    """ECR takes four of them; a text that has hundreds must not keep a build waiting."""
    rule = a_rule(tagStatus="tagged", tagPatternList=["*a" * 500 + "b"])

    assert judged(a_policy(rule), replace(IMAGE, tags=("a" * 128,))).status == "ok"


def test_what_is_quoted_of_a_policy_is_short() -> None:
    """A line of a table, not thirty thousand characters of somebody's text."""
    assert len(judged(a_policy(a_rule(countType="x" * 30_000))).detail) < 400


def test_a_rule_that_fits_first_keeps_the_others_off() -> None:
    """ECR: what fits the tags of a rule cannot be taken by one of a higher number, acting or not."""
    keeps = a_rule(2, tagStatus="tagged", tagPatternList=["v*"], countType="imageCountMoreThan", countNumber=9999)
    takes = a_rule(3, countNumber=1)

    assert judged(a_policy(takes)).status == "warn"
    assert judged(a_policy(takes, keeps)).status == "ok", "the order of the text does not matter"
    assert judged(a_policy(keeps | {"rulePriority": 4}, takes)).status == "warn", "the number does"
    assert judged(a_policy(keeps, takes), replace(IMAGE, tags=("other",))).status == "warn"


def test_rules_of_the_other_storage_class_do_not_count() -> None:
    """One about the archive says nothing of an image that is not there, whatever its number."""
    archive = a_rule(1, countType="sinceImageTransitioned", storageClass="archive", countNumber=90)
    standard = a_rule(2, countNumber=30)

    assert judged(a_policy(archive)).status == "ok"
    assert "rule 2 deletes it" in judged(a_policy(archive, standard)).detail


def test_what_follows_in_the_archive_is_said() -> None:
    """Archived it can be brought back; what is deleted there cannot."""
    archives = a_rule(1, action="transition", countType="sinceImagePulled", countNumber=30)
    deletes = a_rule(2, countType="sinceImageTransitioned", storageClass="archive", countNumber=365)

    assert judged(a_policy(archives)).detail.endswith("; archived it cannot be pulled")
    check = judged(a_policy(archives, deletes))
    assert check.detail.endswith("; archived it cannot be pulled, and rule 2 deletes it 365 days later")


@pytest.mark.parametrize(
    ("archived", "said"), [(ago(80), "on 2026-11-11"), (ago(90), "within 24 hours"), (None, "ECR")]
)
def test_an_image_in_the_archive(archived: datetime | None, said: str) -> None:
    """Its own check says that it cannot be pulled; this one, how long it can still be brought back."""
    deletes = a_rule(1, countType="sinceImageTransitioned", storageClass="archive", countNumber=90)

    check = judged(a_policy(deletes), replace(IMAGE, status="ARCHIVED", archived_at=archived))

    assert (check.status, said in check.detail) == ("warn", True), check


def test_latest_moves_on_and_leaves_an_image_without_tags() -> None:
    """It is the template's default tag: the next push takes it away, and a rule about untagged images follows."""
    untagged = a_rule(1, tagStatus="untagged", countNumber=200)
    soon = a_rule(1, tagStatus="untagged", countType="imageCountMoreThan", countNumber=1)
    latest = replace(IMAGE, tags=("latest",))

    assert judged(a_policy(untagged)).status == "ok"
    check = judged(a_policy(untagged), latest)
    assert (check.status, check.detail.startswith("once `latest` names another image, rule 1 deletes it")) == (
        "warn",
        True,
    )
    assert lifecycle.counts(a_policy(soon), latest)
    assert not lifecycle.counts(a_policy(soon), IMAGE)
    # One rule for both states is said once.
    assert judged(a_policy(a_rule(2)), latest).detail.count("rule 2") == 1


def test_dates_that_ecr_does_not_give_are_no_pass() -> None:
    """What is not known is said, and not taken for late."""
    unknown = replace(IMAGE, pushed_at=None)
    count = a_policy(a_rule(countType="imageCountMoreThan", countNumber=9999))
    of_others = judged(count, IMAGE, replace(unknown, digest="sha256:7"))

    for check in (judged(a_policy(a_rule()), unknown), judged(count, unknown), of_others):
        assert (check.status, "ECR does not say when" in check.detail) == ("warn", True), check


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("", "it is no JSON"),
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "it has no list of rules"),
        ('{"rules": {}}', "it has no list of rules"),
        ('{"rules": [null]}', "one of its rules has no rulePriority"),
        ('{"rules": [{"rulePriority": "1"}]}', "one of its rules has no rulePriority"),
        ('{"rules": [{"rulePriority": true}]}', "one of its rules has no rulePriority"),
        (a_policy({"rulePriority": 1}), "rule 1 may take it away: this version cannot read it"),
        (a_policy(a_rule() | {"selection": []}), "rule 1 may take it away: this version cannot read it"),
        (a_policy(a_rule(countType="sinceImageScanned")), "sinceImageScanned"),
        (a_policy(a_rule(tagStatus="signed")), "signed"),
        (a_policy(a_rule(countUnit="weeks")), "weeks"),
        (a_policy(a_rule(countNumber=0)), "countNumber"),
        (a_policy(a_rule(countNumber="30")), "countNumber"),
        (a_policy(a_rule(countNumber=10**400)), "countNumber"),
        (a_policy(a_rule(action="quarantine")), "quarantine"),
        (a_policy(a_rule(storageClass="glacier")), "glacier"),
        (a_policy(a_rule(tagStatus="tagged", tagPatternList="v*")), "tagPatternList"),
    ],
)
def test_a_policy_that_cannot_be_read_is_a_warning(policy: str, said: str) -> None:
    """Never a crash, and never a pass: a rule of a kind that comes later may be the one that deletes."""
    check = judged(policy)

    assert (check.status, said in check.detail) == ("warn", True), check
    assert "aws ecr get-lifecycle-policy --registry-id 123456789012" in check.fix
    assert lifecycle.counts(policy, IMAGE) is False


def test_a_rule_that_cannot_be_read_does_not_matter_behind_one_that_decides() -> None:
    """A warning about what cannot happen helps nobody."""
    decides = a_rule(1, countType="imageCountMoreThan", countNumber=9999)

    assert judged(a_policy(decides, a_rule(2, countType="later"))).status == "ok"
    assert judged(a_policy(decides | {"rulePriority": 3}, a_rule(2, countType="later"))).status == "warn"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    name=st.sampled_from(["tagStatus", "countType", "countUnit", "countNumber", "tagPatternList", "storageClass"]),
    value=_JSON,
)
def test_no_value_of_a_rule_breaks_it(name: str, value: Any) -> None:
    """The policy is written by others and comes over the network."""
    assert judged(a_policy(a_rule(**{name: value}))).status in ("ok", "warn")
