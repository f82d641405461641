"""Which values and combinations of values the real Packer accepts: access, copies, sharing and their keys."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.tools import packer_tools

ROOT = Path(__file__).parents[2]
KEY = "arn:aws:kms:ap-northeast-2:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
OTHER = "alias/gpu-ami"
USERS = {"ami_users": ["210987654321"]}
COPY = {"ami_regions": ["us-east-1"]}
DEFAULT_KEY = "Cannot share AMI encrypted with default KMS key"
ACCEPTED: dict[str, dict[str, Any]] = {
    "a copy with the default keys": COPY,
    "a copy with a named key": COPY | {"region_kms_key_ids": {"us-east-1": OTHER}},
    "a copy within 48 hours": COPY | {"snapshot_copy_duration_minutes": 2880},
    "a copy to the own region is none": {"ami_regions": ["ap-northeast-2"], "region_kms_key_ids": {}},
    "shared with a named key": USERS | {"kms_key_id": KEY},
    "a shared copy with named keys": USERS | COPY | {"kms_key_id": KEY, "region_kms_key_ids": {"us-east-1": OTHER}},
}
ACCEPTED |= {
    "by private address, own group": {"ssh_interface": "private_ip", "security_group_id": "sg-0123456789abcdef0"},
    "by private address, for these only": {
        "ssh_interface": "private_ip",
        "security_group_id": "",
        "caller_cidrs": ["10.0.0.7/32"],
    },
    "by Session Manager, an image in the European Sovereign Cloud": {
        "ssh_interface": "session_manager",
        "ecr_repository_url": "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu/app",
    },
    "by Session Manager, own profile": {"ssh_interface": "session_manager", "iam_instance_profile": "builder"},
    "a temporary group for these only": {"security_group_id": "", "caller_cidrs": ["203.0.113.7/32"]},
    "a GPU builder": {"instance_type": "g5.xlarge", "require_gpu": True},
    "a Spot builder": {"spot": True, "spot_allocation_strategy": "capacity-optimized"},
    "protected, an image by IPv6": {
        "deregistration_protection": "with-cooldown",
        "ecr_repository_url": "123456789012.dkr-ecr-fips.us-east-1.on.aws/app",
    },
    "more settings of the agent, and the longest pause between two looks": {
        "ecs_extra_config": {"ECS_RESERVED_MEMORY": "256"},
        "ecs_spot_instance_draining": False,
        "poll_delay_seconds": 120,
    },
    "what the base AMI pins may move, and its MPS must be right": {"update_container_stack": True, "mps_pipe": "fail"},
    "as much throughput as the IOPS allow": {"volume_iops": 3000, "volume_throughput_mib_s": 750},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "shared with an account, default key": (USERS, DEFAULT_KEY),
    "shared with an organization, default key": (
        {"ami_org_arns": ["arn:aws:organizations::123456789012:organization/o-abcde12345"]},
        DEFAULT_KEY,
    ),
    "shared with a unit, default key": (
        {"ami_ou_arns": ["arn:aws:organizations::123456789012:ou/o-abcde12345/ou-ab12-cdef3456"]},
        DEFAULT_KEY,
    ),
    "the copy has a key, the AMI has none": (USERS | COPY | {"region_kms_key_ids": {"us-east-1": OTHER}}, DEFAULT_KEY),
    "the AMI has a key, the copy has none": (USERS | COPY | {"kms_key_id": KEY}, DEFAULT_KEY),
    "not an account": ({"ami_users": ["all"]}, "must be an account id"),
    "neither repaired nor failed": ({"mps_pipe": "ignore"}, "The mps_pipe must be repair or fail."),
    "no word for MPS": ({"mps_pipe": ""}, "The mps_pipe must be repair or fail."),
    "not an organization": ({"ami_org_arns": ["o-abcde12345"]}, "must be like arn:aws:organizations"),
    "not a unit": ({"ami_ou_arns": ["ou-ab12-cdef3456"]}, "must be like arn:aws:organizations"),
    "not a region": ({"ami_regions": ["seoul"]}, "must be an AWS region"),
    "a promise in other steps than EC2's": (
        COPY | {"snapshot_copy_duration_minutes": 20},
        "must be 0, or a multiple of 15",
    ),
    "a promise of less than EC2's": (COPY | {"snapshot_copy_duration_minutes": 7.5}, "must be 0, or a multiple of 15"),
    "a promise of more than EC2's": (COPY | {"snapshot_copy_duration_minutes": 2895}, "from 15 to 2880"),
    "not a key": ({"region_kms_key_ids": {"us-east-1": "mine"}}, "must be a key id"),
    "open to everybody": ({"caller_cidrs": ["0.0.0.0/0"]}, "not the whole internet"),
    "by private address, open to everybody": (
        {"ssh_interface": "private_ip", "security_group_id": "", "caller_cidrs": []},
        "without a security_group_id needs caller_cidrs",
    ),
    "not a way in": ({"ssh_interface": "telnet"}, "must be public_ip, private_ip or session_manager"),
    "a registry's password": (
        {"ecs_extra_config": {"ECS_ENGINE_AUTH_DATA": "{}"}},
        "must not hold a registry's password",
    ),
    "a setting of the agent given twice": (
        {"ecs_extra_config": {"ECS_ENABLE_SPOT_INSTANCE_DRAINING": "false"}},
        "must not hold what has a variable of its own",
    ),
    "a longer pause than the plugin can make": ({"poll_delay_seconds": 121}, "whole number from 1 to 120"),
    "a part of a second": ({"poll_delay_seconds": 1.5}, "whole number from 1 to 120"),
    "more throughput than the IOPS allow": (
        {"volume_iops": 3000},
        "volume_throughput_mib_s above a quarter of volume_iops: raise volume_iops to 4000",
    ),
    "not a protection": ({"deregistration_protection": "yes"}, "must be off, on or with-cooldown"),
    "not a registry": (
        {"ecr_repository_url": "123456789012.dkr.ecr.eu-west-1.on.aws/app"},
        "ecr_repository_url must look like",
    ),
    "not a strategy": ({"spot_allocation_strategy": "cheap"}, "spot_allocation_strategy must be"),
    "not a type": ({"fallback_instance_types": ["big"]}, "must be an EC2 instance type"),
    "not a subnet": ({"fallback_subnet_ids": ["subnet"]}, "must be subnet-"),
    "more tags than EC2 takes": ({"extra_tags": {f"t{n}": "x" for n in range(21)}}, "must be 20 at most"),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the real `packer validate` says to each case; several at a time, one takes a second."""
    folder = tmp_path_factory.mktemp("validate") / "packer"
    shutil.copytree(ROOT / "packer", folder, ignore=shutil.ignore_patterns("*.pkrvars.hcl"))
    shutil.copy2(folder / "variables.auto.pkrvars.hcl.example", folder / "variables.auto.pkrvars.hcl")
    tools = packer_tools()
    env = {**os.environ, "PACKER_PLUGIN_PATH": str(tools.plugin_path), "CHECKPOINT_DISABLE": "1"}

    def verdict(values: dict[str, Any]) -> str:
        file = folder.parent / f"{abs(hash(json.dumps(values)))}.json"
        file.write_text(json.dumps(values))
        command = (str(tools.packer.path), "validate", f"-var-file={file}", ".")
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else " ".join((done.stdout + done.stderr).split())

    cases = ACCEPTED | {name: values for name, (values, _) in REFUSED.items()}
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield dict(zip(cases, pool.map(verdict, cases.values()), strict=True))


@pytest.mark.parametrize("case", ACCEPTED)
def test_values_that_fit_are_accepted(verdicts: dict[str, str], case: str) -> None:
    """The rules must not refuse a build that works."""
    assert verdicts[case] == ""


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_an_instance_is_paid_for(verdicts: dict[str, str], case: str) -> None:
    """An AMI under EBS's default key can be shared, but nobody else can start it: an hour's bake for nothing."""
    assert REFUSED[case][1] in verdicts[case]


@pytest.mark.parametrize(
    ("region", "host", "partition"),
    [
        ("eusc-de-east-1", "dkr.ecr.eusc-de-east-1.amazonaws.eu", "aws-eusc"),
        ("us-gov-west-1", "dkr-ecr-fips.us-gov-west-1.on.aws", "aws-us-gov"),
    ],
)
def test_the_arns_of_the_temporary_profile_are_of_the_regions_partition(
    tmp_path: Path, region: str, host: str, partition: str
) -> None:
    """An ARN of another partition grants nothing: the builder could not pull its image."""
    # These two of the template's locals alone: of all of them the console evaluates some, in no order.
    template = (ROOT / "packer" / "aws-gpu-ami.pkr.hcl").read_text(encoding="utf-8")
    lines = re.findall(r"^  (?:ecr|partition) += .*$", template, re.MULTILINE)
    text = "\n".join(['variable "region" {}', 'variable "ecr_repository_url" {}', "locals {", *lines, "}", ""])
    (tmp_path / "locals.pkr.hcl").write_text(text, encoding="utf-8")
    url = f"123456789012.{host}/team/app"
    given = ("-var", f"region={region}", "-var", f"ecr_repository_url={url}")
    asked = 'join(" ", [local.partition, local.ecr.registry, local.ecr.account, local.ecr.region, local.ecr.name])\n'

    done = subprocess.run(
        (str(packer_tools().packer.path), "console", *given, "."),
        cwd=tmp_path,
        env={**os.environ, "CHECKPOINT_DISABLE": "1"},
        input=asked,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == [partition, f"123456789012.{host}", "123456789012", region, "team/app"], done.stderr
