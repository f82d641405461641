"""Parameters: the account's own are listed whole, Amazon's are real JSON and never among them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws import ssm as sandbox_ssm
from gpu_ami_sandbox.aws.base_image import NAME, PARAMETER
from tests.support.resources import BASE, refused, the_image

GLOBAL = "/aws/service/global-infrastructure/services"


@pytest.fixture
def ssm(access: Access) -> Any:
    """A client of SSM."""
    return access.client("ssm")


def test_the_recommended_image_is_json_and_exists(ssm: Any, ec2: Any) -> None:
    """Moto's has single quotes and another root volume."""
    value = json.loads(ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"])

    assert (value["image_id"], value["image_name"]) == (BASE, NAME)
    assert value["os"] == "Amazon Linux 2023"
    image = the_image(ec2, value["image_id"])
    assert image["Name"] == value["image_name"]
    assert image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 30


def test_single_facts_have_parameters_of_their_own(ssm: Any) -> None:
    """Packer's data source reads the id alone."""
    answer = ssm.get_parameter(Name=f"{PARAMETER}/image_id")["Parameter"]

    assert (answer["Value"], answer["DataType"]) == (BASE, "aws:ec2:image")
    assert ssm.get_parameter(Name=f"{PARAMETER}/ecs_agent_version")["Parameter"]["Value"] == "1.106.2"


def test_own_and_public_parameters_in_one_call(ssm: Any) -> None:
    """In any mixture, with the unknown ones named."""
    ssm.put_parameter(Name="/gpu/ami-id", Value=BASE, Type="String")
    ssm.put_parameter(Name="/gpu/secret", Value="hidden", Type="SecureString")
    names = ["/gpu/ami-id", "/gpu/secret", f"{PARAMETER}/image_id", "/aws/service/none", "/none"]

    answer = ssm.get_parameters(Names=names, WithDecryption=True)

    assert {p["Name"]: p["Value"] for p in answer["Parameters"]} == {
        "/gpu/ami-id": BASE,
        "/gpu/secret": "hidden",
        f"{PARAMETER}/image_id": BASE,
    }
    assert sorted(answer["InvalidParameters"]) == ["/aws/service/none", "/none"]


def test_the_listing_is_only_the_accounts_own(ssm: Any) -> None:
    """Moto shows 30,000 public parameters after the first query of one, ten a page."""
    ssm.get_parameters_by_path(Path=f"{GLOBAL}/batch/regions")
    ssm.get_parameter(Name=PARAMETER)
    for number in range(25):
        ssm.put_parameter(Name=f"/gpu/{number}", Value="v", Type="String")

    pages = list(ssm.get_paginator("describe_parameters").paginate())

    assert [len(p["Parameters"]) for p in pages] == [10, 10, 5]
    assert all("Value" not in row for p in pages for row in p["Parameters"])
    assert len(ssm.describe_parameters(MaxResults=50)["Parameters"]) == 25


def test_the_listing_can_be_narrowed_to_images(ssm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moto refuses the key that AWS has for it."""
    monkeypatch.setattr(sandbox_ssm, "VALIDATION_S", 0.0)
    ssm.put_parameter(Name="/gpu/ami-id", Value=BASE, Type="String", DataType="aws:ec2:image")
    ssm.put_parameter(Name="/gpu/other", Value="text", Type="String")

    images = ssm.describe_parameters(ParameterFilters=[{"Key": "DataType", "Values": ["aws:ec2:image"]}])
    named = ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Option": "BeginsWith", "Values": ["/gpu/o"]}])

    assert [p["Name"] for p in images["Parameters"]] == ["/gpu/ami-id"]
    assert [p["Name"] for p in named["Parameters"]] == ["/gpu/other"]


def test_regions_of_a_service(ssm: Any) -> None:
    """The one source that may say that a service doesn't exist in a region."""
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=f"{GLOBAL}/batch/regions")

    regions = {p["Value"] for page in pages for p in page["Parameters"]}

    assert {"ap-northeast-2", "us-east-1", "eu-central-1"} <= regions
    assert len(regions) > 20


def test_a_public_parameter_of_an_image_that_is_not_there_is_not_there(ssm: Any) -> None:
    """A name that resolves to an AMI that DescribeImages refuses would lead nowhere."""
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name="/aws/service/ami-amazon-linux-latest/al2023-ami-minimal-kernel-default-x86_64")


def test_an_amis_parameter_shows_its_value_after_the_answer(ssm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS answers first and checks the AMI afterwards; who does not read back sees the old value."""
    image = {"Name": "/gpu/ami-id", "Type": "String", "DataType": "aws:ec2:image"}
    monkeypatch.setattr(sandbox_ssm, "VALIDATION_S", 3600.0)
    assert ssm.put_parameter(**image, Value=BASE)["Version"] == 1
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name="/gpu/ami-id")

    monkeypatch.setattr(sandbox_ssm, "VALIDATION_S", 0.0)
    ssm.put_parameter(**image, Value=BASE)

    found = ssm.get_parameter(Name="/gpu/ami-id")["Parameter"]
    assert (found["Value"], found["DataType"], found["Version"]) == (BASE, "aws:ec2:image", 1)


@pytest.mark.parametrize("value", ["ami-0123456789abcdef0", "ami-x", "text"])
def test_what_is_no_ami_of_the_account_is_dropped_in_silence(
    ssm: Any, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """The call succeeds with a version all the same, as AWS documents it."""
    monkeypatch.setattr(sandbox_ssm, "VALIDATION_S", 0.0)
    image = {"Name": "/gpu/ami-id", "Type": "String", "DataType": "aws:ec2:image"}
    ssm.put_parameter(**image, Value=BASE)

    answer = ssm.put_parameter(**image, Value=value, Overwrite=True)

    assert answer["Version"] == 2
    found = ssm.get_parameter(Name="/gpu/ami-id")["Parameter"]
    assert (found["Value"], found["Version"]) == (BASE, 1)


def test_a_data_type_never_changes(ssm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update without one keeps the old one; another one is refused."""
    monkeypatch.setattr(sandbox_ssm, "VALIDATION_S", 0.0)
    ssm.put_parameter(Name="/text", Value="a", Type="String")
    with refused("ValidationException"):
        ssm.put_parameter(Name="/text", Value=BASE, Type="String", DataType="aws:ec2:image", Overwrite=True)

    ssm.put_parameter(Name="/image", Value=BASE, Type="String", DataType="aws:ec2:image")
    ssm.put_parameter(Name="/image", Value=BASE, Overwrite=True)

    found = ssm.get_parameter(Name="/image")["Parameter"]
    assert (found["DataType"], found["Version"]) == ("aws:ec2:image", 2)


def test_only_a_task_itself_shows_what_a_window_passes_to_it(ssm: Any) -> None:
    """As on AWS: the listing of tasks has the parameters of an early form alone."""
    window = ssm.create_maintenance_window(
        Name="patching", Schedule="rate(7 days)", Duration=2, Cutoff=0, AllowUnassociatedTargets=True
    )["WindowId"]
    passed = {"Automation": {"DocumentVersion": "1", "Parameters": {"SourceAmiId": [BASE]}}}
    task = ssm.register_task_with_maintenance_window(
        WindowId=window, TaskArn="AWS-UpdateLinuxAmi", TaskType="AUTOMATION", TaskInvocationParameters=passed
    )["WindowTaskId"]

    assert [row["WindowId"] for row in ssm.describe_maintenance_windows()["WindowIdentities"]] == [window]
    (row,) = ssm.describe_maintenance_window_tasks(WindowId=window)["Tasks"]
    assert (row["WindowTaskId"], row["Type"]) == (task, "AUTOMATION")
    assert BASE not in json.dumps(row)
    shown = ssm.get_maintenance_window_task(WindowId=window, WindowTaskId=task)
    assert shown["TaskInvocationParameters"] == passed


def test_a_window_or_task_that_is_gone_is_refused(ssm: Any) -> None:
    """Clean-up tells what was deleted meanwhile from what it may not read by AWS's word for it."""
    window = ssm.create_maintenance_window(
        Name="patching", Schedule="rate(7 days)", Duration=2, Cutoff=0, AllowUnassociatedTargets=True
    )["WindowId"]
    nobody = "00000000-0000-0000-0000-000000000000"

    with refused("DoesNotExistException"):
        ssm.get_maintenance_window_task(WindowId=window, WindowTaskId=nobody)
    ssm.delete_maintenance_window(WindowId=window)
    with refused("DoesNotExistException"):
        ssm.describe_maintenance_window_tasks(WindowId=window)
