"""Allowed AMIs: the setting by which an account in a region lets AMIs of others be seen and started, and its criteria.

Which rules there are and how they go together is from EC2's guide (Control the discovery and use of AMIs, "How criteria
are evaluated") and from the descriptions of ``ImageCriterion`` in the API: values of one parameter with OR, parameters
of a criterion with AND, criteria with OR. An account's own AMIs are always allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from gpu_ami.aws.caller import Caller, making_sense
from gpu_ami.aws.images import parse_time

DISABLED, ENABLED, AUDIT = "disabled", "enabled", "audit-mode"
_ACCOUNT = re.compile(r"[0-9]{12}")
_ALIASES = frozenset({"amazon", "aws-marketplace", "aws-backup-vault"})
_SEVERITIES = ("informational", "low", "medium", "high", "critical")
# A scan's limits in days: what an AMI has for it.
_FIXES = {f"MaxDaysSince{name.title()}FixAvailable": f"{name.title()}FixAvailableSince" for name in _SEVERITIES}
_SHOWN = 3


@dataclass(frozen=True)
class Settings:
    """The setting of an account in a region.

    Attributes:
        state: ``disabled``, ``audit-mode`` or ``enabled``.
        criteria: Each as EC2 shows it, by the names of the API.
        managed_by: ``account``, or ``declarative-policy`` for an organization's, which the account cannot change.
    """

    state: str
    criteria: tuple[Mapping[str, Any], ...]
    managed_by: str


@dataclass(frozen=True)
class Verdict:
    """Whether an AMI is allowed, and why (not).

    Attributes:
        allowed: None where it cannot be told.
        reason: Why; for people.
    """

    allowed: bool | None
    reason: str = ""


_YES = Verdict(allowed=True)
_Condition = Callable[[Any, Mapping[str, Any], datetime], Verdict]


def settings(caller: Caller) -> Settings:
    """Return the account's setting in the caller's region.

    Raises:
        AwsError: EC2 refused or gave no usable answer.
    """
    answer = caller.call("ec2", "get_allowed_images_settings", doing="read the Allowed AMIs settings")
    with making_sense(f"ec2:GetAllowedImagesSettings in {caller.region}"):
        return Settings(
            state=str(answer["State"]),
            criteria=tuple(answer.get("ImageCriteria") or ()),
            managed_by=str(answer.get("ManagedBy") or "account"),
        )


def evaluate(found: Settings, row: Mapping[str, Any], *, now: datetime) -> Verdict:
    """Return whether the criteria let an AMI of another account in.

    EC2's own word (``ImageAllowed``, in audit mode too) goes before ours; ours says why.

    Args:
        found: The setting.
        row: What DescribeImages says of the AMI.
        now: What time it is.

    Raises:
        AwsError: A criterion or the row makes no sense.
    """
    with making_sense("Allowed AMIs"):
        ours = _any(list(_criteria(found.criteria, row, now)))
    theirs = row.get("ImageAllowed")
    if theirs is None or theirs is ours.allowed:
        return ours
    if theirs:
        return _YES
    against = ours.reason if ours.allowed is None else ""
    return Verdict(allowed=False, reason=f"EC2 says so ({against or 'no reason is seen'})")


def _criteria(
    criteria: tuple[Mapping[str, Any], ...], row: Mapping[str, Any], now: datetime
) -> Iterator[tuple[int, Verdict]]:
    for number, criterion in enumerate(criteria, 1):
        given = {name: value for name, value in criterion.items() if value not in (None, [])}
        yield number, _all([_judge(name, value, row, now) for name, value in given.items()])


def _judge(name: str, value: Any, row: Mapping[str, Any], now: datetime) -> Verdict:
    condition = _CONDITIONS.get(name)
    if condition is None:
        return Verdict(None, f"{name} is not known to this version")
    return condition(value, row, now)


def _all(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict of a criterion; one without any condition that is known here decides nothing."""
    if not verdicts:
        return Verdict(None, "it has no condition that this version knows")
    for outcome in (False, None):
        if against := [verdict for verdict in verdicts if verdict.allowed is outcome]:
            return Verdict(outcome, " and ".join(verdict.reason for verdict in against))
    return _YES


def _any(verdicts: list[tuple[int, Verdict]]) -> Verdict:
    if not verdicts:
        return Verdict(None, "it has no criteria")
    if any(verdict.allowed for _, verdict in verdicts):
        number = next(number for number, verdict in verdicts if verdict.allowed)
        return Verdict(allowed=True, reason=f"by criterion {number}")
    reason = "; ".join(f"criterion {number}: {verdict.reason}" for number, verdict in verdicts)
    is_unknown = any(verdict.allowed is None for _, verdict in verdicts)
    return Verdict(allowed=None if is_unknown else False, reason=reason)


# --- the conditions --------------------------------------------------------------------------------


def _providers(value: Any, row: Mapping[str, Any], _now: datetime) -> Verdict:
    """EC2 shows Amazon's own AMIs and those of verified partners under one alias, ``amazon``."""
    mine = {row.get("OwnerId"), row.get("ImageOwnerAlias")} - {None, ""}
    if mine & set(value):
        return _YES
    said = f"its owner ({', '.join(sorted(map(str, mine)))}) is not among {_some(value)}"
    strange = [name for name in value if name not in _ALIASES and name != "none" and not _ACCOUNT.fullmatch(name)]
    return Verdict(None if strange else False, said)


def _names(value: Any, row: Mapping[str, Any], _now: datetime) -> Verdict:
    name = row.get("Name") or ""
    if any(_fits(pattern, name) for pattern in value):
        return _YES
    return Verdict(allowed=False, reason=f"its name fits none of {_some(value)}")


def _product_codes(value: Any, row: Mapping[str, Any], _now: datetime) -> Verdict:
    codes = {entry.get("ProductCodeId") for entry in row.get("ProductCodes") or []}
    return _YES if codes & set(value) else Verdict(allowed=False, reason=f"it has no product code of {_some(value)}")


def _created(value: Any, row: Mapping[str, Any], now: datetime) -> Verdict:
    limit = int(value["MaximumDaysSinceCreated"])
    created = parse_time(row.get("CreationDate"))
    if created is None:
        return Verdict(None, "EC2 gives no date of its creation")
    return _within("it was made", created, limit, now)


def _deprecated(value: Any, row: Mapping[str, Any], now: datetime) -> Verdict:
    limit = int(value["MaximumDaysSinceDeprecated"])
    since = parse_time(row.get("DeprecationTime"))
    if since is None:
        return Verdict(None, "its deprecation date is no date") if row.get("DeprecationTime") else _YES
    return _YES if since > now else _within("it was deprecated", since, limit, now)


def _watermarks(value: Any, row: Mapping[str, Any], now: datetime) -> Verdict:
    marks = row.get("ImageWatermarks") or []
    if not marks:
        # EC2 says nowhere whether it shows others those of an AMI.
        return Verdict(None, "EC2 shows no watermark of it")
    found = [_all([*_watermark(wanted, mark, now)]) for wanted in value for mark in marks]
    if any(verdict.allowed for verdict in found):
        return _YES
    said = f"none of its watermarks ({_some(mark.get('WatermarkKey', '') for mark in marks)}) is as it must be"
    return Verdict(None if any(verdict.allowed is None for verdict in found) else False, said)


def _watermark(wanted: Mapping[str, Any], mark: Mapping[str, Any], now: datetime) -> Iterator[Verdict]:
    dates = {
        "MaximumDaysSinceSourceImageCreated": "SourceImageCreationTime",
        "MaximumDaysSinceWatermarkCreated": "WatermarkCreationTime",
    }
    for name, value in wanted.items():
        if value is None:
            continue
        if name in ("WatermarkKey", "SourceImageRegion"):
            yield Verdict(allowed=_fits(str(value), str(mark.get(name) or "")))
        elif name in dates:
            moment = parse_time(mark.get(dates[name]))
            yield Verdict(None) if moment is None else Verdict(allowed=now - moment <= timedelta(days=int(value)))
        else:
            yield Verdict(None)


def _scanned(value: Any, row: Mapping[str, Any], now: datetime) -> Verdict:
    """EC2 shows the results to whoever may use the AMI; one that was never scanned is not allowed."""
    scan = row.get("ScanResults")
    if not scan:
        return Verdict(allowed=False, reason="Amazon Inspector has not scanned it")
    return _all([_limit(name, limit, scan, now) for name, limit in value.items() if limit is not None])


def _limit(name: str, limit: Any, scan: Mapping[str, Any], now: datetime) -> Verdict:
    if name == "MaximumSeverityLabel":
        return _severity(str(limit), scan.get("HighestFindingSeverityLabel"))
    if name == "MaxDaysSinceLastFindingScan":
        scanned = parse_time(scan.get("FindingScanDate"))
        if scanned is None:
            return Verdict(None, "EC2 does not say when it was scanned")
        return _within("it was scanned", scanned, int(limit), now)
    if name not in _FIXES:
        return Verdict(None, f"{name} is not known to this version")
    fixed = parse_time(scan.get(_FIXES[name]))
    return _YES if fixed is None else _within("a fix for one of its findings came", fixed, int(limit), now)


def _severity(limit: str, highest: str | None) -> Verdict:
    if highest is None:
        return _YES
    if limit not in _SEVERITIES or highest not in _SEVERITIES:
        return Verdict(None, f"the severities {limit} and {highest} cannot be compared")
    if _SEVERITIES.index(highest) <= _SEVERITIES.index(limit):
        return _YES
    return Verdict(allowed=False, reason=f"its findings are up to {highest}, at most {limit} is allowed")


_CONDITIONS: dict[str, _Condition] = {
    "ImageProviders": _providers,
    "ImageNames": _names,
    "MarketplaceProductCodes": _product_codes,
    "CreationDateCondition": _created,
    "DeprecationTimeCondition": _deprecated,
    "ImageWatermarks": _watermarks,
    "ScanResultCondition": _scanned,
}


def _within(what: str, moment: datetime, days: int, now: datetime) -> Verdict:
    age = now - moment
    if age <= timedelta(days=days):
        return _YES
    return Verdict(allowed=False, reason=f"{what} {age.days} days ago, at most {days} are allowed")


def _fits(pattern: str, text: str) -> bool:
    """Return whether *text* fits: ``*`` is any characters, ``?`` is one, all else stands for itself."""
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _some(values: Any) -> str:
    listed = [str(value) for value in values]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"{', '.join(listed[:_SHOWN])}{more}"
