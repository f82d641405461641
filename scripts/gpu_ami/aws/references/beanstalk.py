"""AWS Elastic Beanstalk: the AMI and the block devices of environments, saved configurations and custom platforms."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.reading import each, joined, needed
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, references_in

_GONE = "Terminated"
# Options of instances: ImageId, and BlockDeviceMappings, which may name snapshots. Other options' values are not read:
# an environment's variables hold secrets.
_NAMESPACE = "aws:autoscaling:launchconfiguration"
_PLATFORM_OVER = "Deleted"
# There is no code for what is not there: "No Environment found for EnvironmentName = 'x'.", "No Configuration Template
# named 'app/x' found.", "No Platform named 'arn:…' found.", "No Solution Stack named '64bit …' found.". What is named
# first is what it is about; an application version is no application.
_NOT_THERE = re.compile(r"\bNo (?P<kind>[A-Z]\w*(?: [A-Z]\w*)*) (?:named|found)\b")
# What AWS retires: settings that stand on it are refused from then on, although they themselves are there
# (hashicorp/terraform-provider-aws#29856).
_RETIRED = frozenset({"Platform", "Solution Stack"})


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
        configured = [
            *each(saved, lambda one: _saved(caller, *one)),
            *each(running, lambda one: _configured(caller, *one, gone=("Environment", "Application"))),
        ]
        references = [reference for found in configured if isinstance(found, list) for reference in found]
        return Found(
            [*references, *joined(_own_platforms(caller), lambda arn: _platform(caller, arn))],
            [note for note in configured if isinstance(note, str)],
        )


def _saved(caller: Caller, application: str, kind: str, name: str) -> list[Reference] | str:
    """Return what a saved configuration names; a note where it stands on a platform that AWS has retired.

    Retired platforms stay retired, and nothing starts from such a configuration as it is. An environment on one still
    replaces its instances, so that one has failed instead.
    """
    try:
        return _configured(caller, application, kind, name, gone=("Configuration Template", "Application"))
    except RefusedError as exc:
        if _missing(exc) in _RETIRED:
            which = f"Elastic Beanstalk saved configuration {name} of {application}"
            return f"{which} is on a retired platform: AWS does not show its settings, and no AMI in it was seen"
        raise


def _configured(caller: Caller, application: str, kind: str, name: str, *, gone: Collection[str]) -> list[Reference]:
    what = "saved configuration" if kind == "TemplateName" else "environment"
    who = f"Elastic Beanstalk {what} {name} of {application}"
    which = {"ApplicationName": application, kind: name}
    answer = _there(lambda: caller.call("elasticbeanstalk", "describe_configuration_settings", **which), gone)
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
    answer = _there(
        lambda: caller.call("elasticbeanstalk", "describe_platform_version", PlatformArn=arn), ("Platform",)
    )
    if answer is None:
        return []
    images = needed(answer, "PlatformDescription", who).get("CustomAmiList") or []
    return references_in({"CustomAmiList": images}, BeanstalkConfigurations.name, who)


def _there(call: Callable[[], dict[str, Any]], gone: Collection[str]) -> dict[str, Any] | None:
    """Return the answer of *call* about one thing; None when that, one of the kinds *gone*, was deleted meanwhile."""
    try:
        return call()
    except RefusedError as exc:
        if _missing(exc) in gone:
            return None
        raise


def _missing(problem: RefusedError) -> str:
    """Return the kind of what is said not to be there, such as ``Environment``; empty where nothing is."""
    found = _NOT_THERE.search(str(problem)) if problem.code == "InvalidParameterValue" else None
    return found["kind"] if found else ""
