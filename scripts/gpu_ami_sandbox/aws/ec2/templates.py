"""Launch templates in full: every version, filters, and `resolve:ssm:` aliases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from moto.core.responses import ActionResult
from moto.ssm.models import ssm_backends

from gpu_ami_sandbox.aws.ec2.part import ALL_ROWS, EC2Part, tag_values
from gpu_ami_sandbox.aws.image_builder import recipes
from gpu_ami_sandbox.aws.refusals import refuse

_TEMPLATE_FILTERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "create-time": lambda t: [t["CreateTime"].strftime("%Y-%m-%dT%H:%M:%S.000Z")],
    "launch-template-name": lambda t: [t["LaunchTemplateName"]],
}
_VERSION_FILTERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "create-time": _TEMPLATE_FILTERS["create-time"],
    "image-id": lambda v: [v["LaunchTemplateData"].get("ImageId") or ""],
    "instance-type": lambda v: [v["LaunchTemplateData"].get("InstanceType") or ""],
    "is-default-version": lambda v: [str(v["DefaultVersion"]).lower()],
}


class LaunchTemplates(EC2Part):
    """EC2's launch templates; moto cuts listings at 15 rows, gives no token, and mixes own tags into the data."""

    def create_launch_template(self) -> ActionResult:
        """Create a template whose own tags are not handed to what is launched from it."""
        answer = super().create_launch_template()
        for version in self.ec2_backend.launch_templates[answer.result["LaunchTemplate"]["LaunchTemplateId"]].versions:
            given = version.data.pop("TagSpecifications", [])
            if launched := [
                specification for specification in given if specification["ResourceType"] != "launch-template"
            ]:
                version.data["TagSpecifications"] = launched
        return answer

    def describe_launch_templates(self) -> ActionResult:
        """List launch templates, in pages."""
        answer = self._ask_moto(super().describe_launch_templates, without="Filters", MaxResults=ALL_ROWS)
        rows = [row for row in answer["LaunchTemplates"] if not self._hides(row["LaunchTemplateId"])]
        for unknown in set(self._get_param("LaunchTemplateIds", [])) - {row["LaunchTemplateId"] for row in rows}:
            refuse("InvalidLaunchTemplateId.NotFound", f"The specified launch template, with id {unknown} not found.")
        return self._answer_page("LaunchTemplates", self._filtered(rows, self._template_values))

    def describe_launch_template_versions(self) -> ActionResult:
        """List versions, in pages; with ResolveAlias their AMI ids instead of the aliases."""
        answer = self._ask_moto(super().describe_launch_template_versions, without="Filters", MaxResults=ALL_ROWS)
        rows = [row for row in answer["LaunchTemplateVersions"] if not self._hides(row["LaunchTemplateId"])]
        # $Latest may be $Default: EC2 shows a version once.
        versions = list({(row["LaunchTemplateId"], row["VersionNumber"]): row for row in rows}.values())
        if self._get_param("ResolveAlias", False):
            versions = [self._resolved(version) for version in versions]
        return self._answer_page("LaunchTemplateVersions", self._filtered(versions, _version_values))

    def _template_values(self, row: dict[str, Any], name: str) -> list[str] | None:
        values = _TEMPLATE_FILTERS.get(name)
        return values(row) if values else tag_values(self._tags_of(row["LaunchTemplateId"]), name)

    def _resolved(self, version: dict[str, Any]) -> dict[str, Any]:
        data = version["LaunchTemplateData"]
        if not data.get("ImageId"):
            return version
        return version | {"LaunchTemplateData": data | {"ImageId": self._resolved_image(data["ImageId"])}}


def _version_values(row: dict[str, Any], name: str) -> list[str] | None:
    values = _VERSION_FILTERS.get(name)
    return values(row) if values else None


class ImageReferences(EC2Part):
    """DescribeImageReferences: what in this account names an AMI, as far as EC2 knows."""

    def describe_image_references(self) -> ActionResult:
        """List instances (of all states unless some are named), launch templates, recipes and parameters."""
        requested: list[str] = self._get_param("ImageIds", [])
        if len(requested) > 10:
            refuse("InvalidParameterValue", "The maximum number of image ids is 10.")
        options = {t["ResourceType"]: t.get("ResourceTypeOptions", []) for t in self._get_param("ResourceTypes", [])}
        rows = [
            {"ImageId": image_id, "ResourceType": kind, "Arn": arn}
            for kind, arn, image_id in self._named_images(options)
            if image_id in requested and (not options or kind in options)
        ]
        return self._answer_page("ImageReferences", rows)

    def _named_images(self, options: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, str, str]]:
        backend, account = self.ec2_backend, self.current_account
        arn = f"arn:{self.partition}:ec2:{self.region}:{account}"
        states = _option(options.get("ec2:Instance", []), "state-name")
        for instance in backend.all_instances():
            if not states or instance.state in states:
                yield "ec2:Instance", f"{arn}:instance/{instance.id}", instance.image_id
        depth = _version_depth(options.get("ec2:LaunchTemplate", []))
        for template in backend.launch_templates.values():
            for image_id in sorted({version.image_id for version in template.versions[-depth:]}):
                yield "ec2:LaunchTemplate", f"{arn}:launch-template/{template.id}", image_id
        for kind, arns in (("ImageRecipe", "image"), ("ContainerRecipe", "container")):
            for where, recipe in recipes(account, self.region, arns).items():
                for image_id in (recipe.get("parentImage"), recipe.get("instanceConfiguration", {}).get("image")):
                    yield f"imagebuilder:{kind}", where, str(image_id)
        for versions in list(ssm_backends[account][self.region]._parameters.values()):
            name = versions[-1].name if versions[-1].name.startswith("/") else f"/{versions[-1].name}"
            where = f"arn:{self.partition}:ssm:{self.region}:{account}:parameter{name}"
            yield "ssm:Parameter", where, versions[-1].value


def _version_depth(options: list[dict[str, Any]]) -> int:
    """Return how many of a template's newest versions are read: 10 unless requested otherwise."""
    depth = _option(options, "version-depth")
    return int(depth[0]) if depth else 10


def _option(options: list[dict[str, Any]], name: str) -> list[str]:
    return [value for option in options if option["OptionName"] == name for value in option["OptionValues"]]
