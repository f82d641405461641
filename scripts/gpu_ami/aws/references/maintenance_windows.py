"""SSM maintenance windows: what the parameters of their tasks name, as of a runbook that patches an AMI."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.source import Found, SourceQuery, members
from gpu_ami.aws.references.texts import Mentions, looked_up, mentioned, mentions_in, reading

_WORKERS = 8
_GONE = "DoesNotExistException"
_PAGE = 100


@dataclass(frozen=True)
class _Task:
    window_id: str
    task_id: str
    who: str


class MaintenanceWindows:
    """All tasks of all maintenance windows, disabled ones too.

    The listing of tasks has only the parameters of an early, deprecated form (``TaskParameters``); what is passed to
    runbooks, commands, functions and state machines stands in each task alone. None of it says when it was changed, so
    a second query reads all again. A task may have no parameters at all (API reference of GetMaintenanceWindowTask).
    """

    name = "maintenance-windows"
    service = "ssm"
    is_essential = False
    is_use = False
    reads = members(
        "ssm:GetMaintenanceWindowTask",
        "TaskInvocationParameters.Automation.Parameters{}[]",
        "TaskInvocationParameters.RunCommand.Parameters{}[]",
        "TaskInvocationParameters.StepFunctions.Input",
        "TaskInvocationParameters.Lambda.Payload",
        "TaskParameters{}.Values[]",
    )

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what each task names."""
        del query
        windows = list(caller.pages("ssm", "describe_maintenance_windows", "WindowIdentities", MaxResults=_PAGE))
        if not windows:
            return Found()
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            listed = pool.map(lambda window: _tasks(caller, window), windows)
            tasks = [task for some in listed for task in some]
            read = list(pool.map(lambda task: _read(caller, task), tasks))
        return looked_up(
            caller,
            [
                reference
                for task, mentions in zip(tasks, read, strict=True)
                for reference in mentioned(mentions, self.name, task.who)
            ],
        )


def _tasks(caller: Caller, window: Mapping[str, Any]) -> list[_Task]:
    """Return the tasks of a window; none when it was deleted meanwhile."""
    window_id = window["WindowId"]
    who = f"maintenance window {window.get('Name') or window_id}"
    try:
        with reading(who):
            rows = list(
                caller.pages("ssm", "describe_maintenance_window_tasks", "Tasks", WindowId=window_id, MaxResults=_PAGE)
            )
    except RefusedError as exc:
        if exc.code == _GONE:
            return []
        raise
    return [
        _Task(window_id, row["WindowTaskId"], f"{who} task {row.get('Name') or row['WindowTaskId']}") for row in rows
    ]


def _read(caller: Caller, task: _Task) -> Mentions:
    """Return what a task names; nothing when it was deleted meanwhile."""
    try:
        with reading(task.who):
            answer = caller.call(
                "ssm", "get_maintenance_window_task", WindowId=task.window_id, WindowTaskId=task.task_id
            )
    except RefusedError as exc:
        if exc.code == _GONE:
            return ()
        raise
    if answer.get("WindowTaskId") != task.task_id:
        msg = f"{task.who}: what came is not this task: the answer is cut off or malformed."
        raise UnansweredError(msg)
    passed = answer.get("TaskInvocationParameters") or {}
    function = passed.get("Lambda") or {}
    payload = function.get("Payload") or b""
    texts = {**passed, "Lambda": {**function, "Payload": payload.decode("utf-8", "replace")}}
    return mentions_in({"TaskInvocationParameters": texts, "TaskParameters": answer.get("TaskParameters") or {}})
