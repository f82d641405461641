"""Runs shell scripts as root on an instance through SSM Run Command, and waits for what came of them.

Systems Manager's guide: output is the first 24,000 characters, errors 8,000, both empty until the end; a status of 194
asks for a reboot and another run; an invocation is unknown for about a second after its command was sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gpu_ami.aws.caller import Caller, RefusedError, making_sense
from gpu_ami.errors import AwsError

DOCUMENT = "AWS-RunShellScript"
LONGEST_OUTPUT = 24_000
# Exit status by which a script asks SSM's agent for a reboot and another run.
REBOOT_STATUS = 194
_OVER = frozenset({"Success", "Failed", "TimedOut", "Cancelled"})
_LONGEST_COMMENT = 100
_KNOWN_WITHIN_S = 30.0
_EVERY_S = 5.0
_FIRST_S = 0.5
# What delivery and the answers take beyond the script's own time.
_MARGIN_S = 60.0
_NOT_READY = "InvalidInstanceId"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of a script.

    Attributes:
        status: SSM's word: ``Success``, ``Failed``, ``TimedOut`` or ``Cancelled``.
        details: The finer word, such as ``DeliveryTimedOut`` or ``Undeliverable``.
        exit_status: The script's; None when it did not start, or did not end.
        output: Its standard output, cut by SSM after 24,000 characters.
        errors: Its standard error, cut after 8,000.
    """

    status: str
    details: str
    exit_status: int | None
    output: str
    errors: str

    @property
    def is_good(self) -> bool:
        """Whether the script ran and ended with 0."""
        return self.status == "Success" and self.exit_status == 0


def is_online(caller: Caller, instance_id: str) -> bool:
    """Return whether the instance's agent has reported to SSM.

    Raises:
        AwsError: SSM refused or gave no usable answer.
    """
    filters = [{"Key": "InstanceIds", "Values": [instance_id]}]
    rows = caller.pages("ssm", "describe_instance_information", "InstanceInformationList", Filters=filters)
    with making_sense(f"ssm:DescribeInstanceInformation in {caller.region}"):
        return any(row["InstanceId"] == instance_id and row["PingStatus"] == "Online" for row in rows)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A way into one instance.

    Attributes:
        caller: Calls its region.
        instance_id: The instance.
        clock: Monotonic seconds.
        sleep: Waits.
    """

    caller: Caller
    instance_id: str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, script: str, *, what: str, within_s: int) -> Ran:
        """Run *script* as root and return what came of it; whatever ends this ends the script, too.

        Args:
            script: Its lines; a first line such as ``#!/bin/bash`` counts.
            what: What it is for, shown in AWS's console.
            within_s: How long it may run.

        Raises:
            AwsError: SSM refused, or did not say in time what came of it.
        """
        command = self._send(script, what, within_s)
        try:
            return self._wait(command, within_s + _MARGIN_S)
        except BaseException:
            self._cancel(command)
            raise

    def _send(self, script: str, what: str, within_s: int) -> str:
        deadline = self.clock() + _KNOWN_WITHIN_S
        while True:
            try:
                answer = self.caller.call(
                    "ssm",
                    "send_command",
                    doing=f"run a script on {self.instance_id}",
                    DocumentName=DOCUMENT,
                    InstanceIds=[self.instance_id],
                    Comment=what[:_LONGEST_COMMENT],
                    TimeoutSeconds=60,
                    Parameters={"commands": script.split("\n"), "executionTimeout": [str(within_s)]},
                )
            except RefusedError as exc:
                # Right after it has reported, not every part of SSM knows the instance.
                if exc.code != _NOT_READY or self.clock() > deadline:
                    raise
                self.sleep(_FIRST_S)
                continue
            with making_sense(f"ssm:SendCommand in {self.caller.region}"):
                return str(answer["Command"]["CommandId"])

    def _wait(self, command: str, within_s: float) -> Ran:
        began, pause_s = self.clock(), _FIRST_S
        while self.clock() - began < within_s:
            self.sleep(pause_s)
            pause_s = min(_EVERY_S, pause_s * 2)
            if (ran := self._look(command, is_young=self.clock() - began < _KNOWN_WITHIN_S)) is not None:
                return ran
        msg = f"SSM did not say within {within_s:.0f} s what came of a script on {self.instance_id}."
        raise AwsError(msg)

    def _look(self, command: str, *, is_young: bool) -> Ran | None:
        try:
            row = self.caller.call("ssm", "get_command_invocation", CommandId=command, InstanceId=self.instance_id)
        except RefusedError as exc:
            if exc.code == "InvocationDoesNotExist" and is_young:
                return None
            raise
        with making_sense(f"ssm:GetCommandInvocation in {self.caller.region}"):
            if row["Status"] not in _OVER:
                return None
            code = int(row.get("ResponseCode", -1))
            return Ran(
                status=str(row["Status"]),
                details=str(row.get("StatusDetails") or row["Status"]),
                exit_status=None if code < 0 else code,
                output=str(row.get("StandardOutputContent") or ""),
                errors=str(row.get("StandardErrorContent") or ""),
            )

    def _cancel(self, command: str) -> None:
        """End the script; that this fails, too, is of no use to anybody: the instance is terminated next."""
        try:
            self.caller.call("ssm", "cancel_command", CommandId=command, InstanceIds=[self.instance_id])
        except AwsError:
            return
