"""Runs shell scripts as root on an instance through SSM Run Command, and waits for what came of them.

Systems Manager's guide: output is the first 24,000 characters, errors 8,000, both empty until the end; a status of 194
asks for a reboot and another run; an invocation is unknown for about a second after its command was sent.
A command whose agent says no more is DeliveryTimedOut for SSM after its total timeout, TimeoutSeconds and
executionTimeout together, also while it is InProgress (API reference, Command.ExpiresAfter).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError, making_sense
from gpu_ami.errors import AwsError

DOCUMENT = "AWS-RunShellScript"
LONGEST_OUTPUT, LONGEST_ERRORS = 24_000, 8_000
# Exit status by which a script asks SSM's agent for a reboot and another run.
REBOOT_STATUS = 194
# In `Ran.details`: SSM took the script and did not say in time what came of it.
UNSAID = "Unsaid"
_OVER = frozenset({"Success", "Failed", "TimedOut", "Cancelled"})
_LONGEST_COMMENT = 100
_KNOWN_WITHIN_S = 30.0
_EVERY_S = 5.0
_FIRST_S = 0.5
# TimeoutSeconds; for a script that was not begun or did not end, it counts on top of the script's own time.
_TAKEN_WITHIN_S = 60
# So long after the script's own time SSM has given it up by itself, 120 s before.
_MARGIN_S = 180.0
_NOT_READY = "InvalidInstanceId"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of a script.

    Attributes:
        status: SSM's word: ``Success``, ``Failed``, ``TimedOut`` or ``Cancelled``.
        details: The finer word, such as ``DeliveryTimedOut`` or ``Undeliverable``; ``InvalidInstanceId`` where SSM no
            longer knew the instance, `UNSAID` where it said nothing.
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

    @property
    def is_cut(self) -> bool:
        """Whether SSM may have left out the end of what the script said."""
        return len(self.output) >= LONGEST_OUTPUT or len(self.errors) >= LONGEST_ERRORS


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

        An agent that is gone, before the script or in it, is an answer: the instance may have died of what it ran.

        Args:
            script: Its lines; a first line such as ``#!/bin/bash`` counts. Where the answer to the request was lost it
                may run twice, one after the other.
            what: What it is for, shown in AWS's console.
            within_s: How long it may run.

        Raises:
            AwsError: SSM refused, or could not be asked.
        """
        command = self._send_known(script, what, within_s)
        if command is None:
            return Ran(status="Failed", details=_NOT_READY, exit_status=None, output="", errors="")
        try:
            ran = self._wait(command, within_s + _MARGIN_S)
        except BaseException:
            self._cancel(command)
            raise
        if ran is None:
            self._cancel(command)
            return Ran(status="TimedOut", details=UNSAID, exit_status=None, output="", errors="")
        return ran

    def _send_known(self, script: str, what: str, within_s: int) -> str | None:
        """Return the command's id; None where SSM does not know the instance (any more)."""
        try:
            return self._send(script, what, within_s)
        except UnansweredError:
            # SSM may have taken it, and has no token to send it again by. It has expired after this, whatever came of
            # it; two at once would start containers of one name.
            self.sleep(_TAKEN_WITHIN_S + within_s)
            return self._send(script, what, within_s)

    def _send(self, script: str, what: str, within_s: int) -> str | None:
        deadline, pause_s = self.clock() + _KNOWN_WITHIN_S, _FIRST_S
        once = Caller(self.caller.access, self.caller.region, tries=1)
        while True:
            try:
                answer = once.call(
                    "ssm",
                    "send_command",
                    doing=f"run a script on {self.instance_id}",
                    DocumentName=DOCUMENT,
                    InstanceIds=[self.instance_id],
                    Comment=what[:_LONGEST_COMMENT],
                    TimeoutSeconds=_TAKEN_WITHIN_S,
                    Parameters={"commands": script.split("\n"), "executionTimeout": [str(within_s)]},
                )
            except RefusedError as exc:
                # Right after it has reported, not every part of SSM knows the instance.
                if exc.code != _NOT_READY:
                    raise
                if self.clock() > deadline:
                    return None
                self.sleep(pause_s)
                pause_s = min(_EVERY_S, pause_s * 2)
                continue
            with making_sense(f"ssm:SendCommand in {self.caller.region}"):
                return str(answer["Command"]["CommandId"])

    def _wait(self, command: str, within_s: float) -> Ran | None:
        began, pause_s = self.clock(), _FIRST_S
        while self.clock() - began < within_s:
            self.sleep(pause_s)
            pause_s = min(_EVERY_S, pause_s * 2)
            if (ran := self._look(command, is_young=self.clock() - began < _KNOWN_WITHIN_S)) is not None:
                return ran
        return None

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
