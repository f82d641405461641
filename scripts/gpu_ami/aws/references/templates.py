"""Launch templates: all versions of each, or those that somebody pins where only the newest count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.aliases import with_aliases
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, relevant, side_by_side

_WORKERS = 16
_MOST_VERSIONS = 200
_GONE = frozenset({"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException"})

# Who made each document, and what of it matters.
_Versions = list[tuple[str, object]]


class LaunchTemplates:
    """All launch templates, attached to something or not.

    A version never changes, so a second query reads only templates that have new versions.
    """

    name = "launch-templates"
    service = "ec2"
    is_essential = True
    is_use = True
    reads = members(
        "ec2:DescribeLaunchTemplateVersions",
        "LaunchTemplateVersions[].LaunchTemplateData.ImageId",
        "LaunchTemplateVersions[].LaunchTemplateData.BlockDeviceMappings[].Ebs.SnapshotId",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI and the mapped snapshots of each version."""
        listed = caller.pages(
            "ec2", "describe_launch_templates", "LaunchTemplates", IncludeManagedResources=True, MaxResults=200
        )
        templates = list(listed)
        stamps = {_id(row): (row["LatestVersionNumber"], row["DefaultVersionNumber"]) for row in templates}
        known: dict[str, tuple[object, _Versions]] = query.memory.setdefault("templates", {})
        stale = [row for row in templates if known.get(_id(row), (None,))[0] != stamps[_id(row)]]
        read = side_by_side(lambda row: _versions(caller, row, query.template_versions), stale, query, workers=_WORKERS)
        for row, versions in zip(stale, read, strict=True):
            known.pop(_id(row), None)
            if versions is not None:
                known[_id(row)] = (stamps[_id(row)], versions)
        named = [document for key in stamps if key in known for document in known[key][1]]
        return with_aliases(caller, self.name, named)


def _versions(caller: Caller, template: Mapping[str, Any], depth: int | None) -> _Versions | None:
    newest = int(template["LatestVersionNumber"])
    default = int(template["DefaultVersionNumber"])
    rows = _read(caller, {"LaunchTemplateId": _id(template)})
    if rows is None:
        return None
    # The default version cannot be deleted, so a list without it is not the whole list.
    if default not in {row["VersionNumber"] for row in rows}:
        msg = f"ec2:DescribeLaunchTemplateVersions in {caller.region}: {_id(template)} came without version {default}."
        raise UnansweredError(msg)
    return [
        (_who(row), relevant(row["LaunchTemplateData"]))
        for row in rows
        if depth is None or row["VersionNumber"] > newest - depth or row["VersionNumber"] == default
    ]


def _read(caller: Caller, template: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """Return all versions of a template; None when it was deleted meanwhile.

    Raises:
        AwsError: AWS refused, or named no version of a template that exists: each has its default version at least.
    """
    try:
        rows = list(_version_pages(caller, template))
    except RefusedError as exc:
        if exc.code in _GONE:
            return None
        raise
    if not rows:
        key = next(iter(template.values()))
        msg = f"ec2:DescribeLaunchTemplateVersions in {caller.region}: {key} came without any version."
        raise UnansweredError(msg)
    return rows


def _version_pages(caller: Caller, template: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    return caller.pages(
        "ec2",
        "describe_launch_template_versions",
        "LaunchTemplateVersions",
        IncludeManagedResources=True,
        MaxResults=_MOST_VERSIONS,
        **template,
    )


def _id(template: Mapping[str, Any]) -> str:
    return str(template["LaunchTemplateId"])


def _who(row: Mapping[str, Any]) -> str:
    return f"launch template {row['LaunchTemplateName']} version {row['VersionNumber']}"


def template_references(
    caller: Caller,
    query: SourceQuery,
    source: str,
    named: Sequence[tuple[str, object]],
    *,
    every_version: bool = False,
) -> list[Reference]:
    """Return what the launch templates named in the documents need, when launch-templates does not read all versions.

    Args:
        caller: Calls the account and region.
        query: The query under way; it says whether all versions are read anyway.
        source: The source that found the documents.
        named: Who made each document, and the document.
        every_version: Whether every version of a named template counts, not only the one that is named.
    """
    if query.template_versions is None:
        return []
    references: list[Reference] = []
    for who, document in named:
        for name, key, version in sorted(_specified(document)):
            rows = [
                (f"{who}: {_who(row)}", row["LaunchTemplateData"])
                for row in _read(caller, {name: key}) or ()
                if every_version or version in ("", "$Latest", "$Default", str(row["VersionNumber"]))
            ]
            references += with_aliases(caller, source, rows).references
    return references


def _specified(document: object) -> set[tuple[str, str, str]]:
    """Return each launch template in *document*: which parameter names it, its id or name, and the version.

    Which it is, only the field says: a template may be named like an id.
    """
    if isinstance(document, (list, tuple)):
        return set().union(*(_specified(item) for item in document))
    if not isinstance(document, Mapping):
        return set()
    lowered = {str(key).lower(): value for key, value in document.items()}
    found = set().union(*(_specified(value) for value in document.values()))
    for name in ("LaunchTemplateId", "LaunchTemplateName"):
        key = lowered.get(name.lower())
        if isinstance(key, str) and key:
            found.add((name, key, str(lowered.get("version") or "")))
            break
    return found
