"""The protocol of a reference source, and the search for AMI and snapshot ids in AWS's answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import msgspec

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# An id inside a longer text; reading too much into a text only keeps an AMI that could have gone.
# Of AWS's two lengths alone: in an id of any other the first eight digits are nobody's.
_IDS = re.compile(r"(?:ami|snap)-(?:[0-9a-f]{17}|[0-9a-f]{8})(?![0-9a-f])", re.IGNORECASE)
# How launch templates and overrides name an SSM parameter instead of an AMI.
ALIAS = "resolve:ssm:"
# In `SourceQuery.listed`: every AMI of the account's own in the region, in whatever state, of a moment ago.
OWN_IMAGES = "own AMIs"
# Tags describe; they do not make anything launch.
_NOT_USED = frozenset({"Tags", "tags", "TagSet", "TagSpecifications", "UserData"})


# As small as can be: a fleet has hundreds of thousands.
class Reference(msgspec.Struct, frozen=True, gc=False):
    """One thing that needs an AMI or a snapshot.

    Attributes:
        target: The id of the AMI or the snapshot.
        source: The source that found it.
        what: What needs it, as the AWS console names it; never a secret value.
        where: What is said behind that: of a fleet, the account. One text for all that it has.
    """

    target: str
    source: str
    what: str
    where: str = ""

    @property
    def detail(self) -> str:
        """What needs it, and where."""
        return self.what + self.where


@dataclass(frozen=True)
class Found:
    """What one query of a source brought.

    Attributes:
        references: What needs an AMI or a snapshot.
        notes: What a reader of the plan should know, such as parameters that cannot be read.
    """

    references: Sequence[Reference] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class SourceQuery:
    """What a source may need to know for its query.

    Attributes:
        images: The account's own AMIs in this region.
        selected: The AMIs that would go; sources that AWS only answers AMI by AMI are queried for these.
        template_versions: How many of a launch template's newest versions count, besides its default; None is all.
        memory: What the source itself kept from its last query of this region, so that a second one reads less.
        fast_restore_usd_per_hour: Returns what fast snapshot restore of one snapshot costs in one zone of this region,
            by the hour; None where that is not known.
        at_once: So many calls of this query may be under way at once; of many places each has few.
        listed: What a source has listed for those that are queried after it (`registry.AFTER`), in the same round; and
            the account's own AMIs, where the round began with all of them (`OWN_IMAGES`).
    """

    images: Collection[Image] = ()
    selected: Collection[str] = ()
    template_versions: int | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    fast_restore_usd_per_hour: Callable[[], Decimal | None] = lambda: None
    at_once: int = 32
    listed: dict[str, Any] = field(default_factory=dict)


def side_by_side(
    work: Callable[[_Item], _Result], items: Sequence[_Item], query: SourceQuery, *, workers: int
) -> list[_Result]:
    """Return what *work* makes of each item, in their order; without threads where they would wait for each other."""
    most = min(workers, query.at_once, len(items))
    if most < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=most) as pool:
        return list(pool.map(work, items))


class Source(Protocol):
    """A kind of thing in an account and region that may need an AMI.

    To add one: write a class with these members in its own module and name it in `references.registry`, in `USES`,
    `OWN` or `PER_IMAGE`. CONTRIBUTING says what else names a source. `AFTER` there is for one that begins with what
    another source lists, `LONGEST` for services that answer several calls one after the other.
    """

    name: str
    """As in the plan and in ``--skip-source``."""
    service: str
    """The AWS service that it queries, as in the public list of each region's services; empty when it queries none."""
    is_essential: bool
    """Whether ``--skip-source`` is refused."""
    is_use: bool
    """Whether what it finds is a use. Otherwise it is a protection, or a mention: an id in a text that people wrote,
    such as a variable or a definition, which may be about anything. Both keep an AMI, and neither proves that uses are
    seen: an account in which only mentions are found still counts as one where nothing needs any AMI."""
    reads: tuple[str, ...]
    """The members of AWS's answers that it reads, as ``service:Operation Member[].Member``: the service by botocore's
    name, ``[]`` after a list, ``{}`` after a map. A source whose members the installed botocore lacks has failed:
    botocore drops members that it does not know without a word. Empty for a source that calls nothing."""

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return everything in the caller's region that this source knows to need an AMI.

        Raises:
            AwsError: AWS refused, or an answer was lost, cut off or malformed. Never returns a part.
        """
        ...


def members(operation: str, *paths: str) -> tuple[str, ...]:
    """Return what a source reads of the answers of *operation*, such as ``ec2:DescribeFleets``, for `Source.reads`."""
    return tuple(f"{operation} {path}" for path in paths)


def ids_in(text: str) -> set[str]:
    """Return every AMI and snapshot id in *text*, wherever it occurs; rather too many than too few."""
    return {match.lower() for match in _IDS.findall(text)}


def strings_in(document: object, path: str = "", *, without: Collection[str] = _NOT_USED) -> Iterator[tuple[str, str]]:
    """Yield each string of a nested *document* with its path, such as ``ec2Configuration[0].imageIdOverride``.

    What stands under a key of *without* is left out: tags and user data, unless people chose the keys themselves.
    """
    if isinstance(document, str):
        yield path, document
    elif isinstance(document, Mapping):
        for key, value in document.items():
            if key not in without:
                yield from strings_in(value, f"{path}.{key}" if path else str(key), without=without)
    elif isinstance(document, (list, tuple)):
        for position, value in enumerate(document):
            yield from strings_in(value, f"{path}[{position}]", without=without)


def relevant(document: object) -> dict[str, str]:
    """Return the strings of *document* that name an AMI, a snapshot or an alias of one, by their path."""
    return {path: text for path, text in strings_in(document) if text.startswith(ALIAS) or ids_in(text)}


def references_in(document: object, source: str, who: str) -> list[Reference]:
    """Return a reference for each id anywhere in *document*, said to be made by *who*."""
    return [
        Reference(target, source, f"{who}: {path}" if path else who)
        for path, text in strings_in(document)
        for target in sorted(ids_in(text))
    ]


def show_name(tags: Sequence[Mapping[str, str]] | None, identifier: str) -> str:
    """Return *identifier* with its Name tag, if it has one."""
    name = next((tag.get("Value") for tag in tags or [] if tag.get("Key") == "Name"), None)
    return f"{identifier} ({name})" if name else identifier
