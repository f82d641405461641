"""RDS Custom: the AMIs of custom engine versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.aws.references.reading import needed
from gpu_ami.aws.references.source import Found, SourceQuery, members, references_in

# CreateCustomDBEngineVersion's own list (RDS API reference): nobody else's versions have an AMI.
_ENGINES = (
    *("custom-oracle-ee", "custom-oracle-ee-cdb", "custom-oracle-se2", "custom-oracle-se2-cdb"),
    *("custom-sqlserver-ee", "custom-sqlserver-se", "custom-sqlserver-web", "custom-sqlserver-dev"),
)
# How RDS refuses the name of an engine that the region lacks: "Unrecognized engine name: oracle-se"
# (turbot/steampipe-plugin-aws#262).
_UNKNOWN = "InvalidParameterValue"


class CustomEngineVersions:
    """Custom engine versions, without a database too, in every state: inactive ones start restored databases.

    Their databases run as instances of the account, which `instances` sees.
    """

    name = "rds-custom"
    service = "rds"
    is_essential = False
    is_use = True
    reads = members("rds:DescribeDBEngineVersions", "DBEngineVersions[].Image.ImageId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each version that has one."""
        del query
        try:
            rows = _versions(caller, Filters=[{"Name": "engine", "Values": list(_ENGINES)}])
        except RefusedError as exc:
            if exc.code != _UNKNOWN:
                raise
            # Which of them are there is not said: all versions are, AWS's own among them.
            rows = _versions(caller)
        return Found(
            [
                reference
                for row in rows
                if row.get("Image")
                for reference in references_in(row["Image"], self.name, f"RDS engine version {_named(caller, row)}")
            ]
        )


def _versions(caller: Caller, **parameters: Any) -> list[dict[str, Any]]:
    return list(
        caller.pages(
            "rds",
            "describe_db_engine_versions",
            "DBEngineVersions",
            page_key="Marker",
            MaxRecords=100,
            IncludeAll=True,
            **parameters,
        )
    )


def _named(caller: Caller, row: Mapping[str, Any]) -> str:
    who = f"rds:DescribeDBEngineVersions in {caller.region}: an engine version"
    return f"{needed(row, 'Engine', who)} {needed(row, 'EngineVersion', who)}"
