"""Reads what the launch templates of a region launch now: their default and their latest version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.aws.references.aliases import resolve
from gpu_ami.aws.references.source import ALIAS
from gpu_ami.records.tags import AMI_ID

_PAGE = 200
# What a request without a version number launches (EC2: LaunchTemplateSpecification.Version).
_LAUNCHED = ("$Default", "$Latest")
_GONE = frozenset({"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException"})


@dataclass(frozen=True, kw_only=True)
class LaunchedVersion:
    """A version of a launch template that is launched now.

    Attributes:
        name: The template's name.
        number: The version.
        ami_id: Its AMI, which a parameter may have named.
        created: When the version was made; None when EC2 does not say.
    """

    name: str
    number: int
    ami_id: str
    created: datetime | None


def launched_versions(caller: Caller) -> list[LaunchedVersion]:
    """Return the default and the latest version of every launch template that names an AMI.

    Raises:
        AwsError: EC2 or SSM refused, or a list could not be read to its end.
    """
    templates = caller.pages(
        "ec2", "describe_launch_templates", "LaunchTemplates", IncludeManagedResources=True, MaxResults=_PAGE
    )
    with making_sense(f"launch templates in {caller.region}"):
        rows = {
            (str(row["LaunchTemplateId"]), int(row["VersionNumber"])): row
            for template in templates
            for row in _versions(caller, str(template["LaunchTemplateId"]))
        }
        named = {key: str(row["LaunchTemplateData"].get("ImageId") or "") for key, row in rows.items()}
        aliases = {text.removeprefix(ALIAS) for text in named.values() if text.startswith(ALIAS)}
        values = resolve(caller, aliases) if aliases else {}
        found = {key: values.get(text.removeprefix(ALIAS), text) for key, text in named.items()}
        return [_version(rows[key], ami) for key, ami in found.items() if AMI_ID.fullmatch(ami)]


def _versions(caller: Caller, template_id: str) -> Iterator[dict[str, Any]]:
    try:
        yield from caller.pages(
            "ec2",
            "describe_launch_template_versions",
            "LaunchTemplateVersions",
            LaunchTemplateId=template_id,
            Versions=list(_LAUNCHED),
            IncludeManagedResources=True,
        )
    except RefusedError as exc:
        # It was deleted meanwhile.
        if exc.code not in _GONE:
            raise


def _version(row: Mapping[str, Any], ami_id: str) -> LaunchedVersion:
    made = row.get("CreateTime")
    created = made.astimezone(timezone.utc) if isinstance(made, datetime) else None
    return LaunchedVersion(
        name=str(row["LaunchTemplateName"]), number=int(row["VersionNumber"]), ami_id=ami_id, created=created
    )
