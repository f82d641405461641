"""Rarer ways in which something in an account needs an AMI, one function each; the demo account does without them."""

from __future__ import annotations

import json

from moto.ssm.models import FakeMaintenanceWindow

from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from gpu_ami_sandbox.aws.held import rows, things
from gpu_ami_sandbox.demo.factory import Maker
from gpu_ami_sandbox.demo.uses import Use

# By the function's name without its underscore, in the order below.
RARE_USES: dict[str, Use] = {}


def _use(function: Use) -> Use:
    RARE_USES[function.__name__.lstrip("_")] = function
    return function


@_use
def _stack_resolved_parameter(make: Maker, image: SandboxAmi) -> None:
    # The SSM parameter has another value by now; a stack keeps what it resolved to until its next update.
    resolved = {"ParameterKey": "GpuImage", "ParameterValue": "/video/gone", "ResolvedValue": image.id}
    make.stack("resolved", Parameters=[resolved])


@_use
def _stack_output(make: Maker, image: SandboxAmi) -> None:
    make.stack("baked", Outputs=[{"OutputKey": "GpuImage", "OutputValue": image.id}])


@_use
def _lambda_published_version(make: Maker, image: SandboxAmi) -> None:
    make.function("launcher", {"GPU_AMI": make.filler()})
    make.function("launcher", {"GPU_AMI": image.id}, version="7")


@_use
def _state_machine_version(make: Maker, image: SandboxAmi) -> None:
    make.state_machine("nightly", make.definition(make.filler()), {"3": make.definition(image.id)})


@_use
def _schedule_input(make: Maker, image: SandboxAmi) -> None:
    where = (make.location.account_id, make.location.region, "scheduler")
    target = {
        "Arn": "arn:aws:scheduler:::aws-sdk:ec2:runInstances",
        "RoleArn": f"arn:aws:iam::{make.location.account_id}:role/scheduler",
        "Input": json.dumps({"ImageId": image.id, "MinCount": 1, "MaxCount": 1}),
    }
    shown = {"Name": "nightly", "GroupName": "default", "State": "ENABLED", "LastModificationDate": make.now}
    rows(*where, "ListSchedules").append({**shown, "Target": {"Arn": target["Arn"]}})
    things(*where, "GetSchedule")["nightly"] = {**shown, "Target": target}


@_use
def _maintenance_window_task(make: Maker, image: SandboxAmi) -> None:
    window = FakeMaintenanceWindow("patching", "", 2, 0, "cron(0 2 ? * SUN *)", "", 0, "", "")
    make.ssm.windows[window.id] = window
    automation = {"DocumentVersion": "1", "Parameters": {"SourceAmiId": [image.id]}}
    optional = dict.fromkeys(
        ("priority", "max_concurrency", "max_errors", "logging_info", "name", "description", "cutoff_behavior")
    )
    make.ssm.register_task_with_maintenance_window(
        window_id=window.id,
        targets=[],
        task_arn="AWS-UpdateLinuxAmi",
        service_role_arn=None,
        task_type="AUTOMATION",
        task_parameters=None,
        task_invocation_parameters={"Automation": automation},
        alarm_configurations=None,
        **optional,
    )
