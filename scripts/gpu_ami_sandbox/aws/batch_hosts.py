"""The hosts of a Batch environment: asked for through its group, launched from a copy of its template, registered.

What Batch makes, and how it is named: an Auto Scaling group ``AWSBatch-<environment>-asg-<uuid>`` and a launch template
of its own, which hosts name in their tags, as seen in public accounts; which settings Batch copies is in no document:
here all, with the environment's AMI.
"""

from __future__ import annotations

import base64
import re
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from typing import Any

from gpu_ami_sandbox.aws.auto_scaling import ScalingGroup, scaling_groups
from gpu_ami_sandbox.aws.batch_amis import image_of, template_data
from gpu_ami_sandbox.aws.batch_environments import Host, fleet, number_of
from gpu_ami_sandbox.aws.ec2.service import SandboxEC2
from gpu_ami_sandbox.guest.userdata import read_user_data

# ``systemd-run --on-active=45min … poweroff``, ``OnBootSec=45min`` of a timer for it, and ``shutdown -h +45``.
_TIMER = re.compile(r"(?:--on-active[= ]|\bOnBootSec=)(\d{1,6})(s|sec|m|min|h)?\b")
_SHUTDOWN = re.compile(r"\bshutdown\b[^\n]*?\s\+(\d{1,6})\b")
_UNITS_S = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, None: 1}


def ask(backend: Any, environment: Any, at: datetime) -> dict[str, Any]:
    """Return the scaling activity of a host that is asked for at the time *at*; it is under way."""
    name = fleet(environment).group
    group = scaling_groups(backend.account_id, backend.region_name).setdefault(name, ScalingGroup())
    number = str(number_of(name, str(len(group.activities))))
    where = f"arn:aws:autoscaling:{backend.region_name}:{backend.account_id}:autoScalingGroup"
    cause = "an instance was started in response to a difference between desired and actual capacity"
    subnet = environment.compute_resources["subnets"][0]
    zone = backend.ec2_backend.get_subnet(subnet).availability_zone
    activity = {
        "ActivityId": number,
        "AutoScalingGroupName": name,
        "Description": "Launching a new EC2 instance",
        "Cause": f"At {_zulu(at)} {cause}, increasing the capacity from 0 to 1.",
        "StartTime": _naive(at),
        "StatusCode": "InProgress",
        "Progress": 30,
        "Details": f'{{"Subnet ID":"{subnet}","Availability Zone":"{zone}"}}',
        "AutoScalingGroupARN": f"{where}:{number_of(name)}:autoScalingGroupName/{name}",
    }
    group.activities.append(activity)
    return activity


def settle(activity: dict[str, Any], at: datetime, failure: str = "") -> None:
    """Note that a scaling *activity* is over, because of the *failure* where there is one."""
    status = {"StatusCode": "Failed", "StatusMessage": failure} if failure else {"StatusCode": "Successful"}
    activity.update(status | {"EndTime": _naive(at), "Progress": 100})


def launch(
    backend: Any, environment: Any, activity: dict[str, Any], at: datetime, faults: frozenset[str] = frozenset()
) -> Host:
    """Launch a host of *environment*, as of the time *at*.

    Raises:
        Exception: One of `REFUSALS`: EC2 refuses.
    """
    made = fleet(environment)
    image = image_of(backend, environment)
    if not made.template_id:
        made.template_id = _copy_template(backend, environment, image, with_rate="rate-dropped" not in faults)
    data = deepcopy(backend.ec2_backend.launch_templates[made.template_id].versions[-1].data)
    if "rate-ignored" in faults:
        _drop_rates(data)
    instance = _run(backend, environment, data)
    instance.add_tags(
        {
            "AWSBatchServiceTag": "batch",
            "aws:autoscaling:groupName": made.group,
            "aws:ec2launchtemplate:id": made.template_id,
            "aws:ec2launchtemplate:version": "1",
        }
    )
    date(backend, instance, at)
    activity["Description"] = f"Launching a new EC2 instance: {instance.id}"
    activity["Progress"] = 60
    host = Host(instance, activity)
    made.hosts.append(host)
    return host


def date(backend: Any, instance: Any, at: datetime) -> None:
    """Let *instance*, its interfaces and its volumes be of the time *at*."""
    instance.launch_time = _naive(at).replace(microsecond=0)
    for nic in instance.nics.values():
        nic.attach_time = instance.launch_time
    for _, attached in instance.get_block_device_mapping:
        volume = backend.ec2_backend.get_volume(attached.volume_id)
        volume.create_time = _naive(at + timedelta(milliseconds=417))
        attached.attach_time = instance.launch_time
        if volume.attachment is not None:
            volume.attachment.attach_time = instance.launch_time


def root_volume(backend: Any, host: Host) -> Any:
    """Return the volume that *host* starts from."""
    image = backend.ec2_backend.amis[host.instance.image_id]
    devices = dict(host.instance.get_block_device_mapping)
    return backend.ec2_backend.get_volume(devices[image.root_device_name].volume_id)


def register(backend: Any, environment: Any, host: Host, at: datetime) -> None:
    """Let the agent of *host* register with the environment's cluster."""
    host.container = backend.ecs_backend.register_container_instance(environment.ecs_name, host.instance.id)
    host.container.registered_at = _naive(at)
    host.container.version_info = {
        "agentVersion": "1.106.2",
        "agentHash": "*3f2c1d8a",
        "dockerVersion": "DockerVersion: 25.0.16",
    }


def switches_off_after_s(host: Host) -> float | None:
    """Return how many seconds after its boot *host* switches itself off; None where its user data has no such timer."""
    scripts = read_user_data(base64.b64decode(str(host.instance.user_data or ""))).scripts
    text = "\n".join(script.content.decode("utf-8", "replace") for script in scripts).replace("\\\n", " ")
    found = _TIMER.findall(text) if "poweroff" in text else []
    timers = [int(number) * _UNITS_S[unit or None] for number, unit in found]
    timers += [int(minutes) * 60 for minutes in _SHUTDOWN.findall(text)]
    return float(min(timers)) if timers else None


def _copy_template(backend: Any, environment: Any, image: Any, *, with_rate: bool) -> str:
    """Make Batch's own template of an environment, and return its id."""
    data = deepcopy(dict(template_data(backend, environment)))
    if image is not None:
        data["ImageId"] = image.id
    if not with_rate:
        _drop_rates(data)
    name = f"Batch-lt-{number_of(environment.ecs_arn, 'template')}"
    tags = {"launch-template": {"AWSBatchServiceTag": "batch"}}
    return str(backend.ec2_backend.create_launch_template(name, "", data, tags).id)


def _drop_rates(data: dict[str, Any]) -> None:
    for mapping in data.get("BlockDeviceMappings") or []:
        mapping.get("Ebs", {}).pop("VolumeInitializationRate", None)


def _run(backend: Any, environment: Any, data: dict[str, Any]) -> Any:
    """Run one instance as RunInstances does, from a template's *data* and the environment's own settings."""
    resources = environment.compute_resources
    named = str(resources["instanceRole"])
    profile = {"Arn": named} if named.startswith("arn:") else {"Name": named}
    own = {
        "InstanceType": resources["instanceTypes"][0],
        "SubnetId": resources["subnets"][0],
        "SecurityGroupIds": list(resources["securityGroupIds"]),
        "IamInstanceProfile": profile,
        "TagSpecifications": _tags(data.pop("TagSpecifications", None) or [], resources.get("tags") or {}),
    }
    data.pop("NetworkInterfaces", None)
    data["UserData"] = str(data["UserData"]) if data.get("UserData") else None
    if resources["type"] == "SPOT":
        own["InstanceMarketOptions"] = {"MarketType": "spot"}
    ec2 = SandboxEC2()
    ec2.current_account, ec2.region, ec2.partition = backend.account_id, backend.region_name, "aws"
    ec2.uri_match = {}
    ec2.params = {"Action": "RunInstances", "MinCount": 1, "MaxCount": 1} | data | own
    return ec2.run_instances().result.instances[0]


def _tags(given: list[dict[str, Any]], of_hosts: dict[str, str]) -> list[dict[str, Any]]:
    """Return a template's tags with those that the environment gives its hosts: where both have one, its wins."""
    kinds = {entry["ResourceType"]: {tag["Key"]: tag["Value"] for tag in entry.get("Tags", [])} for entry in given}
    kinds["instance"] = kinds.get("instance", {}) | of_hosts
    return [
        {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        for kind, tags in kinds.items()
        if kind in ("instance", "volume", "network-interface") and tags
    ]


def _naive(at: datetime) -> datetime:
    """Return *at* as moto keeps time."""
    return at.astimezone(timezone.utc).replace(tzinfo=None)


def _zulu(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
