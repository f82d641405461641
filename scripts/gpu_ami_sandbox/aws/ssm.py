"""Parameters: the account's own, and Amazon's public ones kept apart from them; AMI ids checked as SSM does."""

from __future__ import annotations

import time
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ssm.models import Parameter, SimpleSystemManagerBackend, ssm_backends

from gpu_ami_sandbox.aws.base_image import base_image_id, base_parameters
from gpu_ami_sandbox.aws.paging import page
from gpu_ami_sandbox.aws.refusals import refuse
from gpu_ami_sandbox.aws.run_command import RunCommand

_PUBLIC = "/aws/service/"
_PAGE = 10
_WINDOWS_PAGE = 50
_IMAGE = "aws:ec2:image"
# How long SSM checks an AMI id after it has answered.
VALIDATION_S = 0.2


class SandboxSSM(RunCommand):
    """SSM; moto mixes 30,000 public parameters into the account's own, misquotes JSON and shows no window's task."""

    @property
    def ssm_backend(self) -> Any:
        """The account's own parameters, or Amazon's when the request names those."""
        own = super().ssm_backend
        _settle(own)
        named = str(self._get_param("Name") or self._get_param("Path") or "")
        return _amazons(own) if named.startswith(_PUBLIC) else own

    def put_parameter(self) -> ActionResult:
        """Set a parameter; one of an AMI shows its new value later, or never when there is no such AMI.

        The answer is the same in both cases, as AWS documents it. A data type never changes.
        """
        own, name = self.ssm_backend, str(self._get_param("Name"))
        before = own.get_parameter(name)
        data_type = self._get_param("DataType") or (before.data_type if before else "text")
        if before is not None and self._get_param("Overwrite") and before.data_type != data_type:
            refuse("ValidationException", f"The data type of the parameter {name} cannot be changed.")
        answer = super().put_parameter()
        made = own._parameters[name][-1]
        made.data_type = data_type
        if data_type == _IMAGE:
            own._parameters[name].pop()
            if not own._parameters[name]:
                del own._parameters[own._parameters.normalize_name(name)]
            vars(own).setdefault("sandbox_unchecked", []).append((time.monotonic() + VALIDATION_S, made))
        return answer

    def get_parameters(self) -> ActionResult:
        """Show several parameters, public and own ones mixed."""
        names: list[str] = self._get_param("Names", [])
        own = self.ssm_backend
        found: dict[str, Any] = {}
        for backend, public in ((own, False), (_amazons(own), True)):
            found |= backend.get_parameters([name for name in names if name.startswith(_PUBLIC) == public])
        decrypt = self._get_param("WithDecryption")
        shown = [parameter.response_object(decrypt, self.region) for parameter in found.values()]
        return ActionResult({"Parameters": shown, "InvalidParameters": [n for n in names if n not in found]})

    def describe_parameters(self) -> ActionResult:
        """List the account's own parameters, in pages of the requested size; also by DataType."""
        given = self._get_param("ParameterFilters") or []
        types = [f.get("Values", []) for f in given if f["Key"] == "DataType"]
        others = [f for f in given if f["Key"] != "DataType"]
        rows = self.ssm_backend.describe_parameters(self._get_param("Filters"), others)
        rows = [row for row in rows if all(row.data_type in accepted for accepted in types)]
        start, size = int(self._get_param("NextToken") or 0), int(self._get_param("MaxResults") or _PAGE)
        shown = [row.describe_response_object(False) for row in rows[start : start + size]]
        token = str(start + size) if start + size < len(rows) else None
        return ActionResult({"Parameters": shown, "NextToken": token})

    def describe_maintenance_windows(self) -> ActionResult:
        """List the maintenance windows in pages, as AWS does."""
        windows = self.ssm_backend.describe_maintenance_windows(self._get_param("Filters"))
        return self._page("WindowIdentities", [window.to_json() for window in windows])

    def describe_maintenance_window_tasks(self) -> ActionResult:
        """List the tasks of a window without what is passed to them, as AWS does."""
        tasks = [task.to_json() for task in self._window().tasks.values()]
        shown = [{**row, "Type": row["TaskType"]} for row in tasks]
        for row in shown:
            del row["TaskInvocationParameters"]
        return self._page("Tasks", shown)

    def get_maintenance_window_task(self) -> ActionResult:
        """Show a task with what is passed to it; moto lacks it."""
        task = self._window().tasks.get(str(self._get_param("WindowTaskId")))
        if task is None:
            refuse("DoesNotExistException", f"Maintenance window task {self._get_param('WindowTaskId')} does not exist")
        return ActionResult(task.to_json())

    def _window(self) -> Any:
        window = self.ssm_backend.windows.get(str(self._get_param("WindowId")))
        if window is None:
            refuse("DoesNotExistException", f"Maintenance window {self._get_param('WindowId')} does not exist")
        return window

    def _page(self, key: str, rows: list[dict[str, Any]]) -> ActionResult:
        shown, token = page(rows, self._get_param("NextToken"), int(self._get_param("MaxResults") or _WINDOWS_PAGE))
        return ActionResult({key: shown, "NextToken": token})


def parameter_value(account_id: str, region: str, name: str) -> str | None:
    """Return the value of the parameter ``NAME[:VERSION|LABEL]``, own or public; None when there is none."""
    own = ssm_backends[account_id][region]
    _settle(own)
    found = (_amazons(own) if name.startswith(_PUBLIC) else own).get_parameter(name)
    return None if found is None else str(found.value)


def _settle(own: Any) -> None:
    """Let the parameters of AMIs that have been checked show their values; forget those of AMIs that are not there."""
    waiting: list[tuple[float, Any]] = vars(own).get("sandbox_unchecked", [])
    ready = [row for row in waiting if row[0] <= time.monotonic()]
    for row in ready:
        waiting.remove(row)
        made = row[1]
        image = ec2_backends[own.account_id][own.region_name].amis.get(made.value)
        is_there = image is not None and image.state == "available"
        # EC2 gets the AMI that builds start from with its first call.
        if is_there or made.value == base_image_id(own.region_name):
            before = own._parameters[made.name]
            made.version = before[-1].version + 1 if before else 1
            before.append(made)


def _amazons(own: Any) -> Any:
    """Return the backend that holds Amazon's public parameters, for the account and region of *own*."""
    if "sandbox_public" not in vars(own):
        public = SimpleSystemManagerBackend(own.region_name, own.account_id)
        # Of AMIs only those are named that the local AWS has.
        public._parameters.latest_ecs_amis_loaded = True
        public._parameters.latest_amis_loaded = True
        for name, value in base_parameters(own.region_name).items():
            data_type = "aws:ec2:image" if name.endswith("/image_id") else "text"
            parameter = Parameter(own.account_id, name, value, "String", None, None, None, utcnow(), 1, data_type)
            public._parameters[name] = [parameter]
        own.sandbox_public = public
    return own.sandbox_public
