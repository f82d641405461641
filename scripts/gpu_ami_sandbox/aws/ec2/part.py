"""What every part of the local EC2 shares: refusing, filtering and paging as EC2 does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response

from gpu_ami_sandbox.aws.paging import PAGE_SIZES, page
from gpu_ami_sandbox.aws.refusals import refuse
from gpu_ami_sandbox.aws.ssm import parameter_value

Row = TypeVar("Row")
_ALIAS = "resolve:ssm:"
_WILD = frozenset("*?[")
# More rows than any listing of moto's has: ours are cut into pages afterwards.
ALL_ROWS = 10**9


def matches(found: Iterable[str], expected: Iterable[str]) -> bool:
    """Return whether one of the values *found* fits one of the patterns *expected* (``*`` and ``?``)."""
    return _fits(found, *_exact_and_patterns(expected))


def _exact_and_patterns(expected: Iterable[str]) -> tuple[set[str], list[str]]:
    """Return the values that fit as they are, and the patterns: a request may name hundreds, for thousands of rows."""
    values = set(expected)
    patterns = [value for value in values if set(value) & _WILD]
    return values, patterns


def _fits(found: Iterable[str], values: set[str], patterns: list[str]) -> bool:
    return any(value in values or any(fnmatchcase(value, pattern) for pattern in patterns) for value in found)


def tag_values(tags: dict[str, str], filter_name: str) -> list[str] | None:
    """Return what a tag filter compares in *tags*; None when *filter_name* is no tag filter."""
    if filter_name.startswith("tag:"):
        key = filter_name.removeprefix("tag:")
        return [tags[key]] if key in tags else []
    if filter_name == "tag-key":
        return list(tags)
    return list(tags.values()) if filter_name == "tag-value" else None


def managed(backend: Any) -> set[str]:
    """Return the ids of what AWS services manage in a backend of moto's; one may add to them.

    The account's managed resource visibility is ``hidden``: listings leave them out unless requested.
    """
    found: set[str] = vars(backend).setdefault("sandbox_managed", set())
    return found


class EC2Part(EC2Response):
    """A part of the local EC2: moto's answers, and those of the subclasses before them."""

    params: dict[str, Any]

    def _ask_moto(self, action: Callable[[], ActionResult], *, without: str, **changed: Any) -> Any:
        """Return what moto's *action* answers when the parameter *without* is left out and others are changed."""
        before = self.params
        self.params = {name: value for name, value in before.items() if name != without} | changed
        try:
            return action().result
        finally:
            self.params = before

    def _hides(self, resource_id: str) -> bool:
        """Return whether the request's listing leaves a resource out because an AWS service manages it."""
        return resource_id in managed(self.ec2_backend) and not self._get_param("IncludeManagedResources", False)

    def _answer_page(self, key: str, rows: Sequence[Any]) -> ActionResult:
        """Return the page of *rows* that the request asks for, as the list *key*."""
        size = self._get_param("MaxResults") or PAGE_SIZES[self._get_action()]
        shown, token = page(rows, self._get_param("NextToken"), int(size))
        return ActionResult({key: shown, "NextToken": token})

    def _filtered(self, rows: Iterable[Row], values: Callable[[Row, str], list[str] | None]) -> list[Row]:
        """Return the rows that pass each filter of the request.

        Args:
            rows: What is there.
            values: Returns what the named filter compares in a row; None for a filter EC2 does not have.
        """
        kept = list(rows)
        for requested in self._get_param("Filters", []):
            name, (exact, patterns) = requested["Name"], _exact_and_patterns(requested.get("Values", []))
            passed = []
            for row in kept:
                found = values(row, name)
                if found is None:
                    refuse("InvalidParameterValue", f"The filter '{name}' is invalid")
                if _fits(found, exact, patterns):
                    passed.append(row)
            kept = passed
        return kept

    def _resolved_image(self, image_id: str) -> str:
        """Return the AMI id that *image_id* is, or refers to as ``resolve:ssm:NAME[:VERSION|LABEL]``."""
        if not image_id.startswith(_ALIAS):
            return image_id
        found = parameter_value(self.current_account, self.region, image_id.removeprefix(_ALIAS))
        if found is None:
            refuse("InvalidParameterValue", f"The SSM parameter that {image_id} names does not exist.")
        return found

    def _tags_of(self, resource_id: str) -> dict[str, str]:
        return dict(self.ec2_backend.tags.get(resource_id, {}))
