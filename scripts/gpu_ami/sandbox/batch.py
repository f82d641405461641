"""Batch as compute environments really behave: service-linked role, updates that stick, pages."""

from __future__ import annotations

import json

from moto.batch.responses import BatchResponse
from moto.iam.models import SERVICE_NAME_CONVERSION, iam_backends

from gpu_ami.sandbox.paging import PAGE_SIZES, page

_SERVICE = "batch.amazonaws.com"
_ROLE = "AWSServiceRoleForBatch"
# moto would write "batch" in the role's name.
SERVICE_NAME_CONVERSION["batch"] = "Batch"


class SandboxBatch(BatchResponse):
    """Batch; moto demands a role, forgets updates of compute resources and knows no pages."""

    body: str

    def createcomputeenvironment(self) -> str:
        """Create an environment, with Batch's service-linked role when none is given."""
        if not self._get_param("serviceRole"):
            asked = json.loads(self.body)
            self.body = json.dumps(asked | {"serviceRole": service_linked_role(self.current_account)})
        return str(super().createcomputeenvironment())

    def updatecomputeenvironment(self) -> str:
        """Update an environment, its AMI and launch template included."""
        answer = str(super().updatecomputeenvironment())  # refuses an unknown one
        environment = self.batch_backend.get_compute_environment(self._get_param("computeEnvironment"))
        environment.compute_resources.update(self._get_param("computeResources") or {})
        return answer

    def describecomputeenvironments(self) -> str:
        """List environments, in pages."""
        return self._paged(super().describecomputeenvironments(), "computeEnvironments", "DescribeComputeEnvironments")

    def describejobqueues(self) -> str:
        """List job queues, in pages."""
        return self._paged(super().describejobqueues(), "jobQueues", "DescribeJobQueues")

    def _paged(self, answer: str, key: str, operation: str) -> str:
        size = int(self._get_param("maxResults") or PAGE_SIZES[operation])
        rows, token = page(json.loads(answer)[key], self._get_param("nextToken"), size)
        return json.dumps({key: rows, "nextToken": token} if token else {key: rows})


def service_linked_role(account: str) -> str:
    """Return the ARN of Batch's service-linked role, made on first use as Batch does."""
    iam = iam_backends[account]["aws"]
    existing = next((role for role in iam.roles.values() if role.name == _ROLE), None)
    if existing is None:
        existing = iam.create_service_linked_role(_SERVICE, "", "")
    return str(existing.arn)
