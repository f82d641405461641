"""Makes and deletes launch templates, and reads what a version of one says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, making_sense

_UNKNOWN = frozenset(
    {
        "InvalidLaunchTemplateId.NotFound",
        "InvalidLaunchTemplateId.VersionNotFound",
        "InvalidLaunchTemplateName.NotFoundException",
    }
)
# Batch's copies are its own to show.
_HIDDEN_TOO: dict[str, Any] = {"IncludeManagedResources": True}


def data(caller: Caller, template: str, version: str) -> dict[str, Any] | None:
    """Return what a version of a template, by id or name, says of instances; None when EC2 has none such.

    Raises:
        AwsError: EC2 refused for another reason.
    """
    which = "LaunchTemplateId" if template.startswith("lt-") else "LaunchTemplateName"
    try:
        answer = caller.call(
            "ec2", "describe_launch_template_versions", Versions=[version], **{which: template}, **_HIDDEN_TOO
        )
    except RefusedError as exc:
        if exc.code in _UNKNOWN:
            return None
        raise
    with making_sense(f"ec2:DescribeLaunchTemplateVersions {template}"):
        rows = answer["LaunchTemplateVersions"]
        return dict(rows[0]["LaunchTemplateData"]) if rows else None


def as_request(caller: Caller, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a version of a template says as CreateLaunchTemplate takes it.

    EC2 shows more than it takes (MetadataOptions.State, NetworkInterfaces[].Ipv6Addresses[].IsPrimaryIpv6 and others):
    what the request's shape has not is left out at every depth, by the models of the installed botocore.

    Raises:
        AwsError: There are no credentials.
    """
    with caller.access.calling("ec2", caller.region) as client:
        shape = client.meta.service_model.operation_model("CreateLaunchTemplate").input_shape
    fitted: dict[str, Any] = _fitted(content, shape.members["LaunchTemplateData"])
    return fitted


def _fitted(value: Any, shape: Any) -> Any:
    """Return *value* without what botocore's *shape* of a request does not have."""
    if shape.type_name == "structure":
        return {key: _fitted(part, shape.members[key]) for key, part in value.items() if key in shape.members}
    if shape.type_name == "list":
        return [_fitted(part, shape.member) for part in value]
    return value


def rate_of(template_data: Mapping[str, Any]) -> int | None:
    """Return the rate at which EBS fills a volume, MiB/s; None when the template sets none."""
    mappings = template_data.get("BlockDeviceMappings") or []
    rates = [(mapping.get("Ebs") or {}).get("VolumeInitializationRate") for mapping in mappings]
    return next((int(rate) for rate in rates if rate), None)


def create(caller: Caller, name: str, content: Mapping[str, Any], tags: Mapping[str, str], *, token: str) -> str:
    """Make a launch template and return its id.

    Raises:
        AwsError: EC2 refused.
    """
    answer = caller.call(
        "ec2",
        "create_launch_template",
        doing=f"make the launch template {name}",
        LaunchTemplateName=name,
        LaunchTemplateData=dict(content),
        ClientToken=token,
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": [_tag(*one) for one in tags.items()]}],
    )
    with making_sense(f"ec2:CreateLaunchTemplate in {caller.region}"):
        return str(answer["LaunchTemplate"]["LaunchTemplateId"])


def named(caller: Caller, name: str) -> tuple[str, dict[str, str]] | None:
    """Return id and tags of the template *name*; None when EC2 has none.

    Raises:
        AwsError: EC2 refused for another reason, or the list could not be read to its end.
    """
    filters = [{"Name": "launch-template-name", "Values": [name]}]
    rows = caller.pages("ec2", "describe_launch_templates", "LaunchTemplates", Filters=filters, **_HIDDEN_TOO)
    with making_sense(f"ec2:DescribeLaunchTemplates in {caller.region}"):
        for row in rows:
            if row["LaunchTemplateName"] == name:
                return str(row["LaunchTemplateId"]), {one["Key"]: one["Value"] for one in row.get("Tags") or []}
        return None


def delete(caller: Caller, template_id: str) -> None:
    """Delete a template; one that is gone already is a success.

    Raises:
        AwsError: EC2 refused for another reason.
    """
    try:
        caller.call("ec2", "delete_launch_template", LaunchTemplateId=template_id)
    except RefusedError as exc:
        if exc.code not in _UNKNOWN:
            raise


def _tag(key: str, value: str) -> dict[str, str]:
    return {"Key": key, "Value": value}
