"""SSM Run Command: shell scripts that run for real, as root, in the instance's guest.

Members, limits and states: SSM's API reference and the guide "Understanding command statuses". What moto has runs
nothing and says Success for instances that do not exist.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ssm.responses import SimpleSystemManagerResponse

from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.policies import attached, decide
from gpu_ami_sandbox.aws.refusals import refuse
from gpu_ami_sandbox.guest.script import Ran, Script

# From the launch until the agent is online, and from SendCommand until the invocation is known.
ONLINE_AFTER_S = 1.0
KNOWN_AFTER_S = 0.3
_SHELL = "AWS-RunShellScript"
_LONGEST_OUTPUT, _LONGEST_ERRORS, _LONGEST_LISTED = 24_000, 8_000, 2_500
_DELIVERED_WITHIN_S = 3600
_PLUGIN = "aws:runShellScript"
_AGENT = ("ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:OpenControlChannel")
_OVER = frozenset({"Success", "Failed", "TimedOut", "Cancelled"})
_PAGE = 50


class Runner(Protocol):
    """Starts scripts in the instances of one account."""

    def start(self, region: str, instance_id: str, script: str) -> Script:
        """Start *script* as root, at once or when the instance has booted."""
        ...


# By account: who runs scripts there. Without one no agent ever comes online.
RUNNERS: dict[str, Runner] = {}


@dataclass
class Invocation:
    """One command on one instance.

    Attributes:
        command_id: The command.
        instance_id: The instance.
        comment: As given.
        requested: When SSM took it.
        known_from: From then on the invocation can be seen, in clock seconds.
        deliver_until: By then it has begun or never does, in clock seconds.
        run_for_s: How long the script may run.
        running: The script; None until the instance has taken it.
        began: When it began, in clock seconds.
        status: SSM's word, and the finer one in `details`.
        ran: What came of it.
    """

    command_id: str
    instance_id: str
    comment: str
    script: str
    requested: datetime
    known_from: float
    deliver_until: float
    run_for_s: float
    running: Script | None = None
    began: float = 0.0
    status: str = "Pending"
    details: str = "Pending"
    ran: Ran | None = None
    ended: datetime | None = None
    started: datetime | None = field(default=None)

    def end(self, status: str, details: str, ran: Ran | None = None) -> None:
        """Note how it ended."""
        self.status, self.details, self.ran, self.ended = status, details, ran, clock.now()

    def document(self) -> dict[str, Any]:
        """Return it as GetCommandInvocation shows it: no output before the end."""
        is_over = self.status in _OVER
        ran = self.ran or Ran(None, "", "")
        code = ran.status if is_over and ran.status is not None else -1
        return {
            "CommandId": self.command_id,
            "InstanceId": self.instance_id,
            "Comment": self.comment,
            "DocumentName": _SHELL,
            "DocumentVersion": "$DEFAULT",
            "PluginName": _PLUGIN,
            "ResponseCode": code,
            "ExecutionStartDateTime": _shown(self.started),
            "ExecutionElapsedTime": _elapsed(self.started, self.ended),
            "ExecutionEndDateTime": _shown(self.ended if self.started else None),
            "Status": self.status,
            "StatusDetails": self.details,
            "StandardOutputContent": ran.output[:_LONGEST_OUTPUT] if is_over else "",
            "StandardOutputUrl": "",
            "StandardErrorContent": ran.errors[:_LONGEST_ERRORS] if is_over else "",
            "StandardErrorUrl": "",
        }

    def row(self) -> dict[str, Any]:
        """Return it as ListCommandInvocations does, with its one plugin."""
        ran = self.ran or Ran(None, "", "")
        plugin = {
            "Name": _PLUGIN,
            "Status": self.status,
            "StatusDetails": self.details,
            "ResponseCode": -1 if ran.status is None else ran.status,
            "Output": (ran.output + ran.errors)[:_LONGEST_LISTED] if self.status in _OVER else "",
        }
        return {
            "CommandId": self.command_id,
            "InstanceId": self.instance_id,
            "Comment": self.comment,
            "DocumentName": _SHELL,
            "RequestedDateTime": self.requested,
            "Status": self.status,
            "StatusDetails": self.details,
            "CommandPlugins": [plugin],
        }


def _shown(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _elapsed(since: datetime | None, until: datetime | None) -> str:
    return "" if since is None or until is None else f"PT{(until - since).total_seconds():.3f}S"


class RunCommand(SimpleSystemManagerResponse):
    """SSM's actions about commands and the agents that take them."""

    def describe_instance_information(self) -> ActionResult:
        """List the instances whose agent is online."""
        given = [*(self._get_param("Filters") or []), *(self._get_param("InstanceInformationFilterList") or [])]
        wanted: set[str] | None = None
        for condition in given:
            if (condition.get("Key") or condition.get("key")) != "InstanceIds":
                refuse("InvalidFilterKey", "The specified key isn't valid.")
            values = set(condition.get("Values") or condition.get("valueSet") or [])
            wanted = values if wanted is None else wanted & values
        rows = [
            _agent(instance)
            for instance in self._ec2.all_instances()
            if (wanted is None or instance.id in wanted) and self._is_online(instance)
        ]
        shown, token = page(rows, self._get_param("NextToken"), int(self._get_param("MaxResults") or _PAGE))
        return ActionResult({"InstanceInformationList": shown, "NextToken": token})

    def send_command(self) -> ActionResult:
        """Take a shell script for instances that are online."""
        document = str(self._get_param("DocumentName"))
        if document.rpartition("/")[2] != _SHELL:
            refuse("InvalidDocument", f"Document with name {document} does not exist.")
        ids: list[str] = self._get_param("InstanceIds") or []
        if not ids:
            refuse("InvalidParameters", "The sandbox sends commands to InstanceIds only.")
        instances = {instance.id: instance for instance in self._ec2.all_instances()}
        for instance_id in ids:
            if instance_id not in instances or not self._is_online(instances[instance_id]):
                refuse("InvalidInstanceId", f"Instances [[{instance_id}]] not in a valid state for account")
        parameters = self._get_param("Parameters") or {}
        script = "\n".join(parameters.get("commands") or [])
        now, wait_s = clock.seconds(), float(self._get_param("TimeoutSeconds") or _DELIVERED_WITHIN_S)
        run_for_s = float((parameters.get("executionTimeout") or ["3600"])[0])
        total_s = wait_s + run_for_s  # the guide's total timeout, until which a command can be delivered
        command_id, comment = str(uuid.uuid4()), str(self._get_param("Comment") or "")
        for instance_id in ids:
            invocation = Invocation(
                command_id, instance_id, comment, script, clock.now(), now + KNOWN_AFTER_S, now + total_s, run_for_s
            )
            self._commands[command_id, instance_id] = invocation
            self._advance(invocation)
        answer = {
            "CommandId": command_id,
            "DocumentName": document,
            "DocumentVersion": "$DEFAULT",
            "Comment": comment,
            "ExpiresAfter": clock.now() + timedelta(seconds=total_s),
            "Parameters": parameters,
            "InstanceIds": ids,
            "Targets": [],
            "RequestedDateTime": clock.now(),
            "Status": "Pending",
            "StatusDetails": "Pending",
            "TimeoutSeconds": int(wait_s),
            "TargetCount": len(ids),
            "CompletedCount": 0,
            "ErrorCount": 0,
        }
        return ActionResult({"Command": answer})

    def get_command_invocation(self) -> ActionResult:
        """Show how a command went on one instance; for a moment after it was sent nobody knows it."""
        command_id, instance_id = str(self._get_param("CommandId")), str(self._get_param("InstanceId"))
        if not any(key[0] == command_id for key in self._commands):
            refuse("InvalidCommandId", "")
        found = self._commands.get((command_id, instance_id))
        if found is None or clock.seconds() < found.known_from:
            refuse("InvocationDoesNotExist", "")
        self._advance(found)
        return ActionResult(found.document())

    def list_command_invocations(self) -> ActionResult:
        """List invocations; those that nobody knows yet are left out."""
        command_id, instance_id = self._get_param("CommandId"), self._get_param("InstanceId")
        known = [
            invocation
            for invocation in self._commands.values()
            if command_id in (None, invocation.command_id)
            and instance_id in (None, invocation.instance_id)
            and clock.seconds() >= invocation.known_from
        ]
        for invocation in known:
            self._advance(invocation)
        size = int(self._get_param("MaxResults") or _PAGE)
        shown, token = page([invocation.row() for invocation in known], self._get_param("NextToken"), size)
        return ActionResult({"CommandInvocations": shown, "NextToken": token})

    def cancel_command(self) -> ActionResult:
        """End the command where it runs."""
        command_id, ids = str(self._get_param("CommandId")), self._get_param("InstanceIds") or []
        found = [invocation for key, invocation in self._commands.items() if key[0] == command_id]
        if not found:
            refuse("InvalidCommandId", "")
        for invocation in found:
            self._advance(invocation)
            if invocation.status not in _OVER and (not ids or invocation.instance_id in ids):
                if invocation.running is not None:
                    invocation.running.kill()
                invocation.end("Cancelled", "Cancelled")
        return ActionResult({})

    @property
    def _ec2(self) -> Any:
        return ec2_backends[self.current_account][self.region]

    @property
    def _commands(self) -> dict[tuple[str, str], Invocation]:
        kept: dict[tuple[str, str], Invocation] = vars(self._ec2).setdefault("sandbox_commands", {})
        return kept

    def _is_online(self, instance: Any) -> bool:
        """Return whether the instance's agent has reported: it runs, has booted, and its profile lets it."""
        since = vars(instance).setdefault("sandbox_since", clock.seconds())
        is_up = instance.state == "running" and clock.seconds() - since >= ONLINE_AFTER_S
        return is_up and self.current_account in RUNNERS and _may_report(self._ec2, self.current_account, instance)

    def _advance(self, invocation: Invocation) -> None:
        """Bring *invocation* up to date: it is taken, runs, ends, or its time is over."""
        if invocation.status in _OVER:
            return
        if invocation.running is None:
            self._deliver(invocation)
            return
        ran = invocation.running.result()
        if ran is not None:
            is_good = ran.status == 0
            invocation.end("Success" if is_good else "Failed", "Success" if is_good else "Failed", ran)
        elif clock.seconds() - invocation.began > invocation.run_for_s:
            invocation.running.kill()
            invocation.end("TimedOut", "ExecutionTimedOut", Ran(None, "", ""))

    def _deliver(self, invocation: Invocation) -> None:
        instance = self._ec2.get_instance_by_id(invocation.instance_id)
        if instance is None or instance.state in ("terminated", "shutting-down"):
            invocation.end("Failed", "Undeliverable")
        elif self._is_online(instance):
            runner = RUNNERS[self.current_account]
            invocation.running = runner.start(self.region, invocation.instance_id, invocation.script)
            invocation.began, invocation.started = clock.seconds(), clock.now()
            invocation.status = invocation.details = "InProgress"
        elif clock.seconds() > invocation.deliver_until:
            invocation.end("TimedOut", "DeliveryTimedOut")


def _may_report(ec2: Any, account: str, instance: Any) -> bool:
    association = ec2.iam_instance_profile_associations.get(instance.id)
    roles = association.iam_instance_profile.roles if association is not None else []
    policies = [policy for role in roles for policy in attached(account, role.arn) or []]
    return bool(policies) and all(decide(policies, action, None, {}).verdict == "allowed" for action in _AGENT)


def _agent(instance: Any) -> dict[str, Any]:
    return {
        "InstanceId": instance.id,
        "PingStatus": "Online",
        "LastPingDateTime": clock.now(),
        "AgentVersion": "3.3.3050.0",
        "IsLatestVersion": True,
        "PlatformType": "Linux",
        "PlatformName": "Amazon Linux",
        "PlatformVersion": "2023",
        "ResourceType": "EC2Instance",
        "IPAddress": instance.private_ip,
        "ComputerName": instance.private_dns_name,
    }
