"""AWS Elastic Beanstalk: the AMI and the block devices of environments, saved configurations and custom platforms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.reading import joined, needed
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, references_in

_GONE = "Terminated"
# Options of instances: ImageId, and BlockDeviceMappings, which may name snapshots. Other options' values are not read:
# an environment's variables hold secrets.
_NAMESPACE = "aws:autoscaling:launchconfiguration"
_PLATFORM_OVER = "Deleted"
_NOT_THERE = re.compile(r"\bNo [A-Z].* found\b")


class BeanstalkConfigurations:
    """Environments that are not terminated, every application's saved configurations, and own platforms.

    Without an application there is nothing to launch, so nothing more is queried then. Elastic Beanstalk lists only
    what the caller may see, without a word about the rest (its API reference): the permission must be on ``*``.
    """

    name = "beanstalk"
    service = "elasticbeanstalk"
    is_essential = False
    is_use = True
    reads = (
        *members("elasticbeanstalk:DescribeConfigurationSettings", "ConfigurationSettings[].OptionSettings[].Value"),
        *members("elasticbeanstalk:DescribePlatformVersion", "PlatformDescription.CustomAmiList[].ImageId"),
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what each configuration names, deployed or still a draft, and the AMIs of each own platform."""
        del query
        answer = caller.call("elasticbeanstalk", "describe_applications")
        applications = needed(answer, "Applications", f"elasticbeanstalk:DescribeApplications in {caller.region}")
        if not applications:
            return Found()
        saved = [
            (str(row["ApplicationName"]), "TemplateName", str(name))
            for row in applications
            for name in row.get("ConfigurationTemplates") or ()
        ]
        running = [
            (str(row["ApplicationName"]), "EnvironmentName", str(row["EnvironmentName"]))
            for row in caller.pages(
                "elasticbeanstalk", "describe_environments", "Environments", IncludeDeleted=False, MaxRecords=1000
            )
            if row.get("Status") != _GONE
        ]
        configured = joined([*saved, *running], lambda one: _configured(caller, *one))
        return Found([*configured, *joined(_own_platforms(caller), lambda arn: _platform(caller, arn))])


def _configured(caller: Caller, application: str, kind: str, name: str) -> list[Reference]:
    what = "saved configuration" if kind == "TemplateName" else "environment"
    who = f"Elastic Beanstalk {what} {name} of {application}"
    which = {"ApplicationName": application, kind: name}
    answer = _there(lambda: caller.call("elasticbeanstalk", "describe_configuration_settings", **which))
    if answer is None:
        return []
    rows = needed(answer, "ConfigurationSettings", who)
    if not rows:
        msg = f"{who} came without settings: the answer is cut off, or not everything of it may be seen."
        raise UnansweredError(msg)
    return [reference for row in rows for reference in _options(needed(row, "OptionSettings", who), who)]


def _options(options: Iterable[Mapping[str, Any]], who: str) -> Iterable[Reference]:
    for option in options:
        if option.get("Namespace") == _NAMESPACE:
            value = {str(option.get("OptionName")): option.get("Value")}
            yield from references_in(value, BeanstalkConfigurations.name, who)


def _own_platforms(caller: Caller) -> list[str]:
    own = [{"Type": "PlatformOwner", "Operator": "=", "Values": ["self"]}]
    rows = caller.pages("elasticbeanstalk", "list_platform_versions", "PlatformSummaryList", Filters=own)
    return [str(row["PlatformArn"]) for row in rows if row.get("PlatformStatus") != _PLATFORM_OVER]


def _platform(caller: Caller, arn: str) -> list[Reference]:
    who = f"Elastic Beanstalk platform {arn.rpartition('platform/')[2]}"
    answer = _there(lambda: caller.call("elasticbeanstalk", "describe_platform_version", PlatformArn=arn))
    if answer is None:
        return []
    images = needed(answer, "PlatformDescription", who).get("CustomAmiList") or []
    return references_in({"CustomAmiList": images}, BeanstalkConfigurations.name, who)


def _there(call: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Return the answer of *call* about one thing; None when that was deleted meanwhile."""
    try:
        return call()
    except RefusedError as exc:
        # There is no code for it: "No Environment found for EnvironmentName = 'x'.".
        if exc.code == "InvalidParameterValue" and _NOT_THERE.search(str(exc)):
            return None
        raise
