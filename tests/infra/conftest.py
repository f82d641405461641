"""What the tests of the repository's own files share: a scratch machine, and the workflows' roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_ami_sandbox.session import Sandbox
from tests.infra.box import Box
from tests.infra.roles import planned_roles, policies_of


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """Return an empty scratch machine."""
    return Box(tmp_path)


@pytest.fixture(scope="session")
def planned(local_aws: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The workflows' roles as Terraform would make them: values by address."""
    return planned_roles(local_aws.access, tmp_path_factory.mktemp("roles"))


@pytest.fixture(scope="session")
def copying(local_aws: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The build role's policy where the AMI is copied to another region."""
    folder = tmp_path_factory.mktemp("copying")
    build: dict[str, Any] = policies_of(planned_roles(local_aws.access, folder, more='ami_regions = ["us-east-1"]'))[
        "build"
    ]
    return build


@pytest.fixture(scope="session")
def policies(planned: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each role's policy document, by purpose."""
    return policies_of(planned)
