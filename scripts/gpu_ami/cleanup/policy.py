"""What a clean-up may touch and what it must keep, as the settings and the flags say."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, get_args

from gpu_ami.aws.images import Image
from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.errors import UsageError
from gpu_ami.records.tags import FAMILY_TAG
from gpu_ami.settings import Settings
from gpu_ami.units import parse_duration

Mode = Literal["delete", "disable", "deprecate"]
MODES: tuple[Mode, ...] = get_args(Mode)

# Sources on this machine, beside those on AWS.
LOCAL_SOURCES = ("terraform-code", "terraform-variables", "terraform-state", "workflows", "manifests", "receipts")

# All that says what needs an AMI.
SOURCE_NAMES = frozenset({*(source.name for source in SOURCES), *LOCAL_SOURCES})
# Where the settings name what is left out.
SETTING = "cleanup.skip_sources in pipeline.yaml"

# What the name of a family's AMI ends with: a date or time, a Unix time, a version. Taking too little of a name
# for the ending makes small families, and a family's newest AMIs stay.
_RUN = r"20\d{2}-?[01]\d-?[0-3]\d[\w.:+-]*|1\d{9}|1\d{12}|v?\d+(?:\.\d+){0,3}"
_FAMILY_NAME = re.compile(rf"^(?P<family>.+?)[-_. /]+(?:{_RUN})$")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which of the account's own AMIs may be considered at all.

    Attributes:
        family: The tag that this pipeline's AMIs carry; None when something else is requested.
        name: A pattern of names, with ``*`` and ``?``; a bracket is itself, as EC2's names may have some.
        tags: Tags that must all be there, with these values.
    """

    family: str | None = None
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def covers(self, name: str, tags: Mapping[str, str]) -> bool:
        """Return whether an AMI or snapshot of this name and these tags may be considered."""
        if self.family is not None and tags.get(FAMILY_TAG) != self.family:
            return False
        if self.name is not None and not fnmatchcase(name, self.name.replace("[", "[[]")):
            return False
        return all(tags.get(key) == value for key, value in self.tags.items())

    def document(self) -> dict[str, Any]:
        """Return the scope as JSON-ready values."""
        return {"family": self.family, "name": self.name, "tags": dict(self.tags)}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Everything that decides, but the facts.

    Attributes:
        older_than: Younger AMIs stay.
        keep: The newest AMIs of each family that stay.
        scope: Which AMIs may be considered.
        mode: What happens to an AMI that nothing needs.
        include_shared: Whether being shared with another account is no reason to stay.
        usage_reports: Whether a shared AMI goes only when EC2's report says that no other account uses it.
        max_deletions: At most so many in one run, the oldest first; None is no limit.
        skip_sources: Sources that are not queried.
        allow_no_references: Whether an account in which nothing at all needs any AMI is believed.
        template_versions: See `SourceQuery.template_versions`.
    """

    older_than: timedelta
    keep: int
    scope: Scope = Scope()
    mode: Mode = "delete"
    include_shared: bool = False
    usage_reports: bool = False
    max_deletions: int | None = None
    skip_sources: frozenset[str] = frozenset()
    allow_no_references: bool = False
    template_versions: int | None = None

    def document(self) -> dict[str, Any]:
        """Return the policy as JSON-ready values."""
        return {
            "older_than_s": int(self.older_than.total_seconds()),
            "keep": self.keep,
            "scope": self.scope.document(),
            "mode": self.mode,
            "include_shared": self.include_shared,
            "max_deletions": self.max_deletions,
            "skip_sources": sorted(self.skip_sources),
            "allow_no_references": self.allow_no_references,
            "template_versions": self.template_versions,
            # Said only where it is so: an earlier version refuses a policy that it does not know whole.
            **({"usage_reports": True} if self.usage_reports else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the caller of ``invoke cleanup`` typed; None where nothing was."""

    older_than: str | None = None
    keep: str | None = None
    name: str | None = None
    tag: Sequence[str] = ()
    all_owned: bool = False
    mode: str | None = None
    include_shared: bool = False
    usage_reports: bool = False
    max_deletions: str | None = None
    skip_source: Sequence[str] = ()
    allow_no_references: bool = False
    template_versions: str | None = None


def policy_from(settings: Settings, flags: Flags) -> Policy:
    """Return the policy of the settings with the flags before them.

    Raises:
        UsageError: A flag's value makes no sense, or flags contradict each other.
    """
    chosen = settings.cleanup
    older_than = chosen.older_than if flags.older_than is None else flags.older_than
    limit = flags.max_deletions if flags.max_deletions is not None else chosen.max_deletions
    named = {"--skip-source": _skipped(flags.skip_source), SETTING: left_out(settings)}
    _check_usage_reports(flags.usage_reports, shared=flags.include_shared, skipped=named)
    return Policy(
        older_than=parse_duration(older_than, name="--older-than"),
        keep=chosen.keep if flags.keep is None else _whole(flags.keep, "--keep", least=0),
        scope=_scope(settings.family, flags),
        mode=_mode(flags.mode),
        include_shared=flags.include_shared,
        usage_reports=flags.usage_reports,
        max_deletions=None if limit is None else _whole(limit, "--max-deletions", least=1),
        skip_sources=frozenset().union(*named.values()),
        allow_no_references=flags.allow_no_references,
        template_versions=_template_versions(flags.template_versions),
    )


def left_out(settings: Settings) -> frozenset[str]:
    """Return the sources that the settings leave out of every query.

    Raises:
        UsageError: One of them is none, or may not be left out.
    """
    return _skipped(settings.cleanup.skip_sources, f"{SETTING}:")


def policy_of(document: Mapping[str, Any]) -> Policy:
    """Return the policy of which `Policy.document` made *document*; a file may hold anything by now.

    Raises:
        UsageError: No flags could have made such a policy.
        ValueError: Likewise; and LookupError or TypeError when it has another shape.
    """
    given, scope = dict(document), document["scope"]
    hours, rest = divmod(given["older_than_s"], 3600)
    limit, versions = given["max_deletions"], given["template_versions"]
    policy = Policy(
        older_than=parse_duration(f"{hours}h", name="--older-than"),
        keep=_whole(given["keep"], "--keep", least=0),
        scope=Scope(family=scope["family"], name=scope["name"], tags=dict(scope["tags"])),
        mode=MODES[MODES.index(given["mode"])],
        include_shared=given["include_shared"] is True,
        usage_reports=given.get("usage_reports") is True,
        max_deletions=None if limit is None else _whole(limit, "--max-deletions", least=1),
        skip_sources=_skipped(given["skip_sources"]),
        allow_no_references=given["allow_no_references"] is True,
        template_versions=None if versions is None else _whole(versions, "--template-versions", least=1),
    )
    named = {"the plan's skip_sources": policy.skip_sources}
    _check_usage_reports(policy.usage_reports, shared=policy.include_shared, skipped=named)
    names = [name for name in (policy.scope.family, policy.scope.name, *policy.scope.tags) if name is not None]
    is_text = all(isinstance(text, str) for text in (*names, *policy.scope.tags.values()))
    # Whatever was taken for something else, such as the text "false" for true, does not come back as it was.
    if rest or policy.document() != given or not is_text or "" in names:
        msg = f"no flags make this policy: {given}"
        raise ValueError(msg)
    return policy


def _check_usage_reports(reports: bool, *, shared: bool, skipped: Mapping[str, Collection[str]]) -> None:
    """Refuse usage reports where they would say nothing, or not be made on what is shared.

    Args:
        reports: Whether they are requested.
        shared: Whether being shared is no reason to stay.
        skipped: The sources that are left out, by what names them, such as ``--skip-source``.

    Raises:
        UsageError: It is so.
    """
    if reports and not shared:
        msg = "--usage-reports is about the AMIs that --include-shared lets go: add --include-shared, or leave it out."
        raise UsageError(msg)
    for where, names in skipped.items():
        if reports and (unseen := sorted({"launch-permissions", "public-snapshots"} & set(names))):
            way = f"leave out {where} {unseen[0]}" if where.startswith("--") else f"take it out of {where}"
            msg = f"--usage-reports asks about the AMIs that {unseen[0]} finds: {way}."
            raise UsageError(msg)


class FamilyKey(NamedTuple):
    """The AMIs that take each other's place: one family's of one account in one region.

    A tuple, as clean-up makes one for each of thousands of AMIs.
    """

    account: str
    family: str
    region: str


def family_key(image: Image) -> FamilyKey:
    """Return which AMIs could take the place of *image*: a copy in another region or account launches nothing here."""
    return FamilyKey(image.account, family_of(image), image.region)


def family_of(image: Image) -> str:
    """Return the name of the family of *image*: its tag, else its name without the date or version at the end.

    An AMI without either is a family of its own.
    """
    if tagged := image.tags.get(FAMILY_TAG):
        return tagged
    match = _FAMILY_NAME.match(image.name)
    return match["family"] if match else image.name or image.image_id


def _scope(family: str, flags: Flags) -> Scope:
    if flags.all_owned:
        if flags.name is not None or flags.tag:
            msg = "--all-owned takes every AMI: leave out --name and --tag, or --all-owned."
            raise UsageError(msg)
        return Scope()
    if flags.name == "":
        msg = "--name is empty: give a pattern such as 'gpu-*'."
        raise UsageError(msg)
    tags = dict(_tag(argument) for argument in flags.tag)
    if len(tags) < len(flags.tag):
        msg = "--tag is given twice for one key: an AMI has one value per key."
        raise UsageError(msg)
    is_own = flags.name is None and not tags
    return Scope(family=family if is_own else None, name=flags.name, tags=tags)


def _tag(argument: str) -> tuple[str, str]:
    key, equals, value = argument.partition("=")
    if not equals or not key:
        msg = f"--tag {argument!r} is not KEY=VALUE, such as --tag team=video."
        raise UsageError(msg)
    return key, value


def _mode(text: str | None) -> Mode:
    for mode in MODES:
        if text == mode:
            return mode
    if text is None:
        return "delete"
    msg = f"--mode {text!r} is not known: give one of {', '.join(MODES)}."
    raise UsageError(msg)


def _whole(value: str | int, name: str, *, least: int) -> int:
    text = str(value).strip()
    if not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) < least:
        msg = f"{name} {value!r} is not a whole number of {least} or more."
        raise UsageError(msg)
    return int(text)


def _template_versions(text: str | None) -> int | None:
    return None if text in (None, "all") else _whole(str(text), "--template-versions", least=1)


def _skipped(names: Sequence[str], flag: str = "--skip-source") -> frozenset[str]:
    essential = {source.name for source in SOURCES if source.is_essential}
    allowed = sorted({source.name for source in SOURCES} - essential) + list(LOCAL_SOURCES)
    for name in names:
        if name in essential:
            msg = f"{flag} {name} is refused: without it AMIs in use would be deleted. Grant the permission."
            raise UsageError(msg)
        if name not in allowed:
            msg = f"{flag} {name!r} is not a source that may be skipped: {', '.join(allowed)}."
            raise UsageError(msg)
    return frozenset(names)
