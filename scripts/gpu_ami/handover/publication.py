"""Validates that an SSM parameter may be set to an AMI, and describes a publication as a JSON document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_ami.errors import SafetyError, UsageError
from gpu_ami.records.tags import AMI_ID

if TYPE_CHECKING:
    from gpu_ami.aws.parameters import Parameter

# Letters, digits and . - _ in up to 15 levels; the names that begin so are Amazon's.
_NAME = re.compile(r"/?[A-Za-z0-9_.-]+|(?:/[A-Za-z0-9_.-]+){2,15}")
_RESERVED = re.compile(r"/?(?:aws|ssm)", re.IGNORECASE)
_LONGEST = 1011
_IMAGE = "aws:ec2:image"


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What publishing did, or would do, in one region.

    Attributes:
        parameter: The parameter.
        region: Its region.
        old: The AMI before; None when there was no parameter.
        new: The AMI then.
        version: The parameter's version; None when nothing was put.
        receipt: The receipt's file, as a person would type it; None when nothing was put.
        error: Why the parameter is not proved to hold the new AMI; None when it is, or was not to be put.
    """

    parameter: str
    region: str
    old: str | None
    new: str
    version: int | None = None
    receipt: str | None = None
    error: str | None = None

    @property
    def changed(self) -> bool:
        """Whether the value is, or would be, another one."""
        return self.error is None and self.old != self.new

    def document(self) -> dict[str, Any]:
        """Return it as the ``publish`` task prints it; only what failed has an error."""
        failed = {} if self.error is None else {"error": self.error}
        return failed | {
            "parameter": self.parameter,
            "region": self.region,
            "old": self.old,
            "new": self.new,
            "changed": self.changed,
            "version": self.version,
            "receipt": self.receipt,
        }


def checked_name(name: str) -> str:
    """Return *name* when SSM would take it.

    Raises:
        UsageError: It would not.
    """
    if _NAME.fullmatch(name) is None or _RESERVED.match(name) or len(name) > _LONGEST:
        msg = (
            f"{name[:100]!r} is no parameter name: give /path/to/name of letters, digits and . - _ that does not begin "
            "with aws or ssm."
        )
        raise UsageError(msg)
    return name


def address(region: str, name: str) -> str:
    """Return what receipts call the parameter *name* of *region*."""
    return f"ssm:{region}:{name}"


def old_ami(region: str, found: Parameter | None) -> str | None:
    """Return the AMI that a parameter holds and that may be replaced; None when there is no parameter yet.

    Raises:
        SafetyError: It is somebody's other parameter, or of a data type that SSM never changes.
    """
    if found is None:
        return None
    shown = f"The parameter {found.name} in {region}"
    if found.type != "String":
        msg = f"{shown} is a {found.type}, so it holds something else than one AMI id: publish under another name."
        raise SafetyError(msg)
    if AMI_ID.fullmatch(found.value) is None:
        msg = f"{shown} holds {found.value[:60]!r}, no AMI id: it is somebody's other parameter; choose another name."
        raise SafetyError(msg)
    if found.data_type != _IMAGE:
        msg = (
            f"{shown} has the data type {found.data_type}, which SSM never changes to {_IMAGE}: publish under another "
            "name, or delete it first."
        )
        raise SafetyError(msg)
    return found.value
