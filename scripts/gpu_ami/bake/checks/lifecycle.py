"""Judges what the repository's lifecycle policy does to the image that is baked: instances of the AMI never pull it.

How ECR goes by its rules is from its guide (Automate the cleanup of images by using lifecycle policies, "Lifecycle
policy evaluation rules", and Lifecycle policy properties): an image that fits the tags of a rule is out of the reach of
every rule of a higher number, whether the first one acts on it or not. Each acts within 24 hours of its time.
An image that a manifest list names goes only after the list, which is not looked at here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec

from gpu_ami.aws.ecr import ContainerImage, RepositoryUrl
from gpu_ami.bake.checks.check import Check
from gpu_ami.foreign_text import reason
from gpu_ami.units import show_count

NAME = "lifecycle policy"
# The one tag that is known to move on: the image that has it now will have none.
_MOVES = "latest"
_COUNTED = "imageCountMoreThan"
# The most that the template takes for the AMI's deprecation.
_LONGEST_DAYS = 3650
# The count that the advice gives: nobody comes so far.
_NEVER_REACHED = 9999
# From so long on images tell how often one comes.
_KNOWN_PACE = timedelta(days=14)
# As many days as a span of time can have.
_MOST = 999_999_999


class Selection(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What a rule selects, by the names of the policy."""

    tag_status: Literal["tagged", "untagged", "any"]
    count_type: Literal["imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned"]
    count_number: Annotated[int, msgspec.Meta(ge=1, le=_MOST)]
    count_unit: Literal["days"] = "days"
    tag_pattern_list: tuple[str, ...] = ()
    tag_prefix_list: tuple[str, ...] = ()
    storage_class: Literal["standard", "archive"] = "standard"

    def selects(self, image: ContainerImage) -> bool:
        """Return whether *image* fits the tags of the rule: each pattern must fit one of its tags."""
        if self.tag_status == "any":
            return True
        if self.tag_status == "untagged":
            return not image.tags
        wanted = (*self.tag_pattern_list, *(f"{_literal(prefix)}*" for prefix in self.tag_prefix_list))
        return bool(wanted) and all(any(_fits(pattern, tag) for tag in image.tags) for pattern in wanted)


class Action(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What a rule does, by the names of the policy."""

    type: Literal["expire", "transition"]
    target_storage_class: Literal["archive", ""] = ""


class Rule(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A rule of a policy.

    Attributes:
        rule_priority: Its number; the lowest goes first.
        selection: Which images it is about, and when it acts.
        action: What it does then.
    """

    rule_priority: int
    selection: Selection
    action: Action

    @property
    def is_deletion(self) -> bool:
        """Whether it deletes; otherwise it archives."""
        return self.action.type == "expire"


@dataclass(frozen=True)
class Unread:
    """A rule that this version cannot read, and why; what it would do nobody knows here."""

    rule_priority: int
    problem: str


@dataclass(frozen=True)
class Fate:
    """What a rule does to the image.

    Attributes:
        text: What, and when; for people.
        is_near: Whether that is to be expected while the AMI is not deprecated.
    """

    text: str
    is_near: bool


def read(policy: str) -> list[Rule | Unread]:
    """Return the rules of a *policy*, in the order in which ECR goes by them.

    Raises:
        ValueError: It is no policy: what is wrong with it.
    """
    try:
        document = json.loads(policy)
    except (ValueError, RecursionError) as exc:
        msg = "it is no JSON"
        raise ValueError(msg) from exc
    rules = document.get("rules") if isinstance(document, dict) else None
    if not isinstance(rules, list):
        msg = "it has no list of rules"
        raise ValueError(msg)
    return sorted((_rule(entry) for entry in rules), key=lambda rule: rule.rule_priority)


def _rule(entry: Any) -> Rule | Unread:
    priority = entry.get("rulePriority") if isinstance(entry, dict) else None
    if not isinstance(priority, int) or isinstance(priority, bool):
        msg = "one of its rules has no rulePriority"
        raise ValueError(msg)
    try:
        return msgspec.convert(entry, Rule)
    except msgspec.ValidationError as exc:
        return Unread(priority, reason(exc))


def counts(policy: str | None, image: ContainerImage) -> bool:
    """Return whether the other images of the repository matter: only to a rule that counts them."""
    try:
        rules = read(policy or "")
    except ValueError:
        return False
    found = (_governing(rules, state, "standard") for state, _ in _states(image))
    return any(isinstance(rule, Rule) and rule.selection.count_type == _COUNTED for rule in found)


def judge(
    policy: str | None,
    image: ContainerImage,
    repository: RepositoryUrl,
    others: Sequence[ContainerImage],
    *,
    deprecate_after_days: float,
    now: datetime,
) -> Check:
    """Judge what becomes of the image that is baked.

    Args:
        policy: The text of the repository's policy; None when it has none.
        image: The image.
        repository: Its repository.
        others: Every image there that can be pulled, where `counts` says that they matter.
        deprecate_after_days: How long the AMI is not deprecated; 0 for always.
        now: What time it is.
    """
    show = (
        f"`aws ecr get-lifecycle-policy --registry-id {repository.account} --repository-name {repository.name} "
        f"--region {repository.region}`"
    )
    if policy is None:
        return Check(NAME, "ok", f"{repository.name} has none: nothing takes the image away")
    try:
        rules = read(policy)
    except ValueError as exc:
        text = f"that of {repository.name} cannot be read: {exc}; whether it takes the image away is not known"
        return Check(NAME, "warn", text, f"Look at it: {show}.")
    is_span = 0 < deprecate_after_days < _LONGEST_DAYS
    horizon = timedelta(days=deprecate_after_days if is_span else _LONGEST_DAYS)
    found = list(_fates(rules, image, others, horizon, now))
    near = [fate.text for fate in found if fate.is_near]
    if not near:
        rest = "; ".join(fate.text for fate in found)
        return Check(NAME, "ok", rest or f"no rule of {repository.name} selects the image")
    fix = (
        "Without the image nothing can be baked from it again, and no other instance can pull it. Put a rule of a "
        'lower number before: tagStatus "tagged", a tagPatternList that fits its tag, and a count that is never '
        f"reached (imageCountMoreThan 9999). The policy: {show}."
    )
    return Check(NAME, "warn", "; ".join(near), fix)


def _fates(
    rules: Sequence[Rule | Unread],
    image: ContainerImage,
    others: Sequence[ContainerImage],
    horizon: timedelta,
    now: datetime,
) -> Iterator[Fate]:
    storage = "archive" if image.status in ("ARCHIVED", "ACTIVATING") else "standard"
    seen: list[int] = []
    for state, when in _states(image):
        rule = _governing(rules, state, storage)
        if rule is None or rule.rule_priority in seen:
            continue
        seen.append(rule.rule_priority)
        if isinstance(rule, Unread):
            text = f"{when}rule {rule.rule_priority} may take it away: this version cannot read it ({rule.problem})"
            yield Fate(text, is_near=True)
            continue
        does = f"{when}rule {rule.rule_priority} {'deletes' if rule.is_deletion else 'archives'} it"
        fate = _KINDS[rule.selection.count_type](rule, state, others, horizon, now)
        yield replace(fate, text=f"{does} {fate.text}{_afterwards(rules, rule, state)}")


def _states(image: ContainerImage) -> Iterator[tuple[ContainerImage, str]]:
    """Yield the image as it is, and as it will be once another one has its moving tag."""
    yield image, ""
    if _MOVES in image.tags:
        left = tuple(tag for tag in image.tags if tag != _MOVES)
        yield replace(image, tags=left), f"once `{_MOVES}` names another image, "


def _governing(rules: Sequence[Rule | Unread], image: ContainerImage, storage: str) -> Rule | Unread | None:
    """Return the rule that decides over *image*: the first that fits its tags, in its storage class."""
    for rule in rules:
        if isinstance(rule, Unread):
            return rule
        if rule.selection.storage_class == storage and rule.selection.selects(image):
            return rule
    return None


def _afterwards(rules: Sequence[Rule | Unread], rule: Rule, image: ContainerImage) -> str:
    """Return what becomes of the image in the archive."""
    if rule.is_deletion:
        return ""
    following = _governing(rules, image, "archive")
    if not isinstance(following, Rule):
        return "; archived it cannot be pulled"
    days = show_count(following.selection.count_number, "day")
    return f"; archived it cannot be pulled, and rule {following.rule_priority} deletes it {days} later"


def _pushed(rule: Rule, image: ContainerImage, _others: object, horizon: timedelta, now: datetime) -> Fate:
    # "If an image was archived and then restored at any point in the past, last_activated_at is used instead".
    return _by_age(rule, image.activated_at or image.pushed_at, "its push", horizon, now)


def _transitioned(rule: Rule, image: ContainerImage, _others: object, horizon: timedelta, now: datetime) -> Fate:
    return _by_age(rule, image.archived_at, "it was archived", horizon, now)


def _by_age(rule: Rule, since: datetime | None, what: str, horizon: timedelta, now: datetime) -> Fate:
    age = timedelta(days=rule.selection.count_number)
    text = f"{show_count(age.days, 'day')} after {what}"
    if since is None:
        return Fate(f"{text}; ECR does not say when that was", is_near=True)
    left = age - (now - since)
    if left > horizon:
        return Fate(text + _late(horizon), is_near=False)
    return Fate(f"{text}: {'within 24 hours' if left <= _NONE else f'on {now + left:%Y-%m-%d}'}", is_near=True)


def _pulled(rule: Rule, image: ContainerImage, _others: object, horizon: timedelta, now: datetime) -> Fate:
    """Judge by the last pull, which for a baked image is the bake's: no instance of the AMI pulls it."""
    limit = timedelta(days=rule.selection.count_number)
    text = f"{show_count(limit.days, 'day')} after its last pull, and no instance of the AMI pulls it"
    # Never pulled, the push counts; brought back from the archive and not pulled since, that does.
    moments = [moment for moment in (image.pulled_at or image.pushed_at, image.activated_at) if moment is not None]
    if moments and now - max(moments) >= limit:
        return Fate(f"{text}: within 24 hours, unless something pulls it before", is_near=True)
    is_near = limit <= horizon
    return Fate(text if is_near else text + _late(horizon), is_near=is_near)


def _counted(
    rule: Rule, image: ContainerImage, others: Sequence[ContainerImage], horizon: timedelta, now: datetime
) -> Fate:
    """Judge by the number of newer images: ECR keeps the newest of all that the rule selects, and they become more."""
    keeps = rule.selection.count_number
    text = f"when it is not among the newest {keeps} that the rule selects"
    theirs = [other for other in others if other.digest != image.digest and rule.selection.selects(other)]
    dates = [other.activated_at or other.pushed_at for other in (image, *theirs)]
    pushed = [date for date in dates if date is not None]
    if len(pushed) < len(dates):
        return Fate(f"{text}; ECR does not say when each was pushed", is_near=True)
    newer = sum(date > pushed[0] for date in pushed[1:])
    if newer >= keeps:
        return Fate(f"{text}: within 24 hours, {newer} are newer", is_near=True)
    if keeps >= _NEVER_REACHED:
        return Fate(f"{text}: {newer} are newer, and so many never come", is_near=False)
    # Where the rule has had nothing to take yet, all that ever came is there; else nobody sees when the first came.
    is_whole = len(dates) < keeps
    if is_whole and (not theirs or now - min(pushed) < _KNOWN_PACE):
        return Fate(f"{text}: {newer} are newer, and the pace is not known yet", is_near=False)
    # How often one comes, by those that are there: in the time that matters, or since the first one if that is less.
    span = min(max(now - min(pushed), timedelta(days=1)), horizon)
    recent = sum(date >= now - span for date in pushed)
    is_near = (keeps - newer) * span.total_seconds() <= recent * horizon.total_seconds()
    pace = f"{newer} are newer, and {recent} came in the last {show_count(span.days, 'day')}"
    return Fate(f"{text}: {pace}{'' if is_near else _late(horizon)}", is_near=is_near)


_NONE = timedelta(0)
_KINDS = {
    _COUNTED: _counted,
    "sinceImagePushed": _pushed,
    "sinceImagePulled": _pulled,
    "sinceImageTransitioned": _transitioned,
}


def _late(horizon: timedelta) -> str:
    return f", which is not within {show_count(horizon.days, 'day')}"


def _literal(prefix: str) -> str:
    """Return *prefix* as a pattern; no tag has a star, so no tag fits a prefix with one."""
    return prefix.replace("*", "\0")


def _fits(pattern: str, tag: str) -> bool:
    """Return whether *tag* fits: ``*`` is any characters, all else stands for itself."""
    return fnmatchcase(tag, pattern.replace("[", "[[]").replace("?", "[?]"))
