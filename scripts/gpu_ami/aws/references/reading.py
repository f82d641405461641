"""What sources of services that list things and show them one by one have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def each(
    items: Iterable[_Item], read: Callable[[_Item], _Result], *, gone: Iterable[str] = (), workers: int = 8
) -> list[_Result | None]:
    """Return what *read* makes of each item, in their order; None for one that was deleted since it was listed.

    Args:
        items: What was listed.
        read: Reads one.
        gone: How the service refuses what is not there, by its codes.
        workers: How many are read at once.

    Raises:
        AwsError: AWS refused one for another reason, or gave no usable answer.
    """
    todo, codes = list(items), frozenset(gone)
    if not todo:
        return []

    def read_one(item: _Item) -> _Result | None:
        try:
            return read(item)
        except RefusedError as exc:
            if exc.code in codes:
                return None
            raise

    with ThreadPoolExecutor(max_workers=min(workers, len(todo))) as pool:
        return list(pool.map(read_one, todo))


def joined(
    items: Iterable[_Item], read: Callable[[_Item], Sequence[_Result]], *, gone: Iterable[str] = (), workers: int = 8
) -> list[_Result]:
    """Return what *read* makes of each item, joined; see `each`."""
    return [one for some in each(items, read, gone=gone, workers=workers) for one in some or ()]


def needed(answer: Mapping[str, Any], member: str, who: str) -> Any:
    """Return the *member* of *answer* that AWS always gives.

    Raises:
        UnansweredError: It is not there: what *who* names may be cut off with it.
    """
    value = answer.get(member)
    if value is None:
        msg = f"{who} came without {member}: the answer is cut off."
        raise UnansweredError(msg)
    return value


def names(
    caller: Caller, service: str, operation: str, key: str, *, page_key: str = "nextToken", **parameters: Any
) -> list[str]:
    """Return each string of the list *key* from all pages of a listing; see `Caller.pages` for one of rows.

    Raises:
        RefusedError: AWS answered with an error.
        UnansweredError: A page did not come, lacks its list, or leads back to a page that was seen.
    """
    found: list[str] = []
    for answer in caller.whole_pages(service, operation, page_key=page_key, **parameters):
        some = answer.get(key)
        if not isinstance(some, list) or not all(isinstance(name, str) for name in some):
            what = f"{service}:{operation.title().replace('_', '')} in {caller.region}"
            msg = f"{what}: the answer has no list {key}: it is cut off or malformed."
            raise UnansweredError(msg)
        found += some
    return found


def chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Yield *items* by *size* at most."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
