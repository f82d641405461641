"""The least that any boto3 program must do to verify an AMI: ``python -m tests.bench.bare_verify < request.json``.

It makes the calls of a verification that goes well, in their order, and asks as often as that does in the sandbox. It
judges nothing, writes no record, survives no fault, and whoever interrupts it leaves the instance.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

# As `target.Sandbox.poll_s` has it.
_EVERY_S = 0.1
_OVER = ("Success", "Failed", "Cancelled", "TimedOut")


def _until(query: Callable[[], Any]) -> Any:
    while not (found := query()):
        time.sleep(_EVERY_S)
    return found


def _run(ssm: Any, instance: str, script: str) -> None:
    """Run a script; right after it was sent, its invocation is not known."""
    answer = ssm.send_command(
        DocumentName="AWS-RunShellScript", InstanceIds=[instance], Parameters={"commands": script.split("\n")}
    )
    asked = {"CommandId": answer["Command"]["CommandId"], "InstanceId": instance}

    def ended() -> Any:
        try:
            row = ssm.get_command_invocation(**asked)
        except ssm.exceptions.InvocationDoesNotExist:
            return None
        return row if row["Status"] in _OVER else None

    row = _until(ended)
    if row["Status"] != "Success":
        raise RuntimeError(row["StandardOutputContent"] + row["StandardErrorContent"])


def _look_up(session: Any, ec2: Any, ami: str) -> None:
    """Read what a verification reads before it starts anything."""
    session.client("sts").get_caller_identity()
    for _ in range(2):
        ec2.describe_images(ImageIds=[ami])
    for row in session.client("batch").describe_compute_environments()["computeEnvironments"]:
        if template := row.get("computeResources", {}).get("launchTemplate"):
            version = template.get("version", "$Default")
            ec2.describe_launch_template_versions(LaunchTemplateId=template["launchTemplateId"], Versions=[version])


def main(request: dict[str, Any]) -> None:
    """Start, check and end one instance."""
    import boto3

    session = boto3.Session()
    ec2, ssm = session.client("ec2"), session.client("ssm")
    _look_up(session, ec2, request["ImageId"])
    instance = ec2.run_instances(MinCount=1, MaxCount=1, ClientToken=secrets.token_hex(8), **request["launch"])
    number = instance["Instances"][0]["InstanceId"]

    def row() -> Any:
        return ec2.describe_instances(InstanceIds=[number])["Reservations"][0]["Instances"][0]

    filters = [{"Key": "InstanceIds", "Values": [number]}]
    _until(lambda: row()["State"]["Name"] == "running")
    _until(lambda: ssm.describe_instance_information(Filters=filters)["InstanceInformationList"])
    for script in request["scripts"]:
        _run(ssm, number, script)
    (volume,) = ec2.describe_volumes(VolumeIds=[row()["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"]

    def filled() -> bool:
        (found,) = ec2.describe_volume_status(VolumeIds=[volume["VolumeId"]])["VolumeStatuses"]
        details = found["VolumeStatus"].get("Details", [])
        return "completed" in [detail["Status"] for detail in details] or not volume.get("VolumeInitializationRate")

    _until(filled)
    ec2.terminate_instances(InstanceIds=[number])
    _until(lambda: row()["State"]["Name"] == "terminated")
    _until(lambda: not ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [volume["VolumeId"]]}])["Volumes"])
    ec2.create_tags(Resources=[request["ImageId"]], Tags=[{"Key": "bench:verified", "Value": "yes"}])


if __name__ == "__main__":
    main(json.load(sys.stdin))
