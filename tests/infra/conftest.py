"""What the tests of the repository's own files share: a scratch machine, and the workflows' roles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.infra.box import Box
from tests.infra.roles import planned_roles, policies_of


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """Return an empty scratch machine."""
    return Box(tmp_path)


@pytest.fixture(scope="session")
def plan_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Plan the workflows' roles once in a run of the tests, whichever of its processes is the first to ask.

    Each process made its own before, all at the same moment: seconds of the processor each, and where one of them did
    not get through on a busy machine, every test of its process failed with nothing wrong with the roles.
    """
    worker = hasattr(request.config, "workerinput")
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if worker else base

    def planned(name: str, **given: str) -> dict[str, Any]:
        file = folder / f"{name}.json"
        with FileLock(folder / f"{name}.lock"):
            if not file.exists():
                access = request.getfixturevalue("local_aws").access
                file.write_text(json.dumps(planned_roles(access, tmp_path_factory.mktemp(name), **given)))
        return dict(json.loads(file.read_text()))

    return planned


@pytest.fixture(scope="session")
def planned(plan_once: Callable[..., Any]) -> dict[str, Any]:
    """The workflows' roles as Terraform would make them: values by address."""
    return dict(plan_once("roles"))


@pytest.fixture(scope="session")
def copying(plan_once: Callable[..., Any]) -> dict[str, Any]:
    """The build role's policy where the AMI is copied to another region."""
    return dict(policies_of(plan_once("copying", more='ami_regions = ["us-east-1"]'))["build"])


@pytest.fixture(scope="session")
def policies(planned: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each role's policy document, by purpose."""
    return policies_of(planned)
