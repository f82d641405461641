"""ECR: which hosts are a repository for the bake, and what it says of an image and of the repository."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws.caller import RefusedError
from gpu_ami.aws.ecr import (
    REPOSITORY_URL,
    ContainerImage,
    RepositoryUrl,
    container_image,
    lifecycle_policy,
    parse_repository_url,
)
from gpu_ami.errors import AwsError, UsageError
from tests.support.fake_caller import FakeCaller

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
ROOT = Path(__file__).parents[2]
HOSTS = {
    "dkr.ecr.ap-northeast-2.amazonaws.com": "ap-northeast-2",
    "dkr.ecr.cn-north-1.amazonaws.com.cn": "cn-north-1",
    "dkr.ecr.eusc-de-east-1.amazonaws.eu": "eusc-de-east-1",
    "dkr.ecr-fips.us-gov-west-1.amazonaws.com": "us-gov-west-1",
    "dkr-ecr.eu-west-1.on.aws": "eu-west-1",
    "dkr-ecr-fips.us-east-1.on.aws": "us-east-1",
    "dkr-ecr.cn-north-1.on.amazonwebservices.com.cn": "cn-north-1",
    "dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu": "eusc-de-east-1",
}
NONE = (
    "dkr.ecr.eu-west-1.on.aws",
    "dkr-ecr.eu-west-1.amazonaws.com",
    "dkr.ecr.eu-west-1.amazonaws.com.evil.example",
    "dkr.ecr.eu-west-1.amazonaws.de",
    "ecr.eu-west-1.amazonaws.com",
)
# As they are written in HCL, where a backslash is two.
RULE = re.compile(r'can\(regex\("(?P<rule>\^\[0-9\]\{12\}.*?)", var\.ecr_repository_url\)\)')


@pytest.mark.parametrize("host", HOSTS)
def test_every_host_of_a_registry_is_taken(host: str) -> None:
    """The European Sovereign Cloud, China, FIPS and dual-stack have hosts of their own."""
    found = parse_repository_url(f"123456789012.{host}/team/app")

    assert found == RepositoryUrl(account="123456789012", region=HOSTS[host], name="team/app")


@pytest.mark.parametrize("host", NONE)
def test_another_host_is_refused(host: str) -> None:
    """A login there would send ECR's token to somebody else."""
    with pytest.raises(UsageError, match="is not an ECR repository"):
        parse_repository_url(f"123456789012.{host}/app")


@pytest.mark.parametrize("file", ["packer/variables.pkr.hcl", "terraform/modules/bake/variables.tf"])
def test_template_and_module_have_the_same_rule(file: str) -> None:
    """What `init` writes Packer takes, and what Terraform takes `init` writes."""
    (rule,) = RULE.findall((ROOT / file).read_text())
    theirs = re.compile(rule.replace("\\\\", "\\"))

    for url in (
        f"123456789012.{host}/{name}" for host in (*HOSTS, *NONE) for name in ("app", "a/b.c", "App", "a:v1", "")
    ):
        assert bool(theirs.search(url)) == bool(REPOSITORY_URL.fullmatch(url)), url


# --- what is there ---------------------------------------------------------------------------------

REPOSITORY = RepositoryUrl(account="123456789012", region="eu-west-1", name="app")
ROW = {"imageDigest": "sha256:1", "imageSizeInBytes": 10, "imageTags": ["v1"], "imagePushedAt": NOW}
FOUND = ContainerImage("sha256:1", 10, tags=("v1",), pushed_at=NOW)
NO_IMAGE = RefusedError("x", "ImageNotFoundException")


def looks(*answers: Any) -> FakeCaller:
    """Return a caller whose DescribeImages answers so, one look after the other."""
    return FakeCaller({"describe_images": [{"imageDetails": a} if isinstance(a, list) else a for a in answers]})


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([[ROW]], FOUND),
        # As the guide says: an archived image is described like any other.
        ([[ROW | {"imageStatus": "ARCHIVED"}]], replace(FOUND, status="ARCHIVED")),
        # As the API's reference says: only where a filter asks for it.
        ([NO_IMAGE, [ROW | {"imageStatus": "ARCHIVED"}]], replace(FOUND, status="ARCHIVED")),
        ([[], [ROW | {"imageStatus": "ACTIVATING"}]], replace(FOUND, status="ACTIVATING")),
        ([NO_IMAGE, NO_IMAGE], None),
        ([[], []], None),
        ([RefusedError("x", "RepositoryNotFoundException"), RefusedError("x", "RepositoryNotFoundException")], None),
        # An ECR of a partition that has no archive.
        ([NO_IMAGE, RefusedError("x", "InvalidParameterException")], None),
    ],
)
def test_an_image_is_found_in_the_archive_too(answers: list[Any], found: ContainerImage | None) -> None:
    """Pushing it again is the wrong advice for an image that only has to be brought back."""
    assert container_image(looks(*answers), REPOSITORY, tag="v1", digest="") == found


@pytest.mark.parametrize(
    "answers",
    [
        [RefusedError("x", "AccessDeniedException")],
        [NO_IMAGE, RefusedError("x", "AccessDeniedException")],
        [{}],
        [[{"imageSizeInBytes": 1}]],
        [[ROW | {"imageSizeInBytes": "many"}]],
    ],
)
def test_an_answer_that_is_none_is_an_error(answers: list[Any]) -> None:
    """It must not pass for an image that is gone."""
    with pytest.raises(AwsError):
        container_image(looks(*answers), REPOSITORY, tag="v1", digest="")


def test_a_repository_without_a_policy_has_none() -> None:
    """Anything else that ECR answers is an error."""

    def policy(answer: Any) -> str | None:
        return lifecycle_policy(FakeCaller({"get_lifecycle_policy": [answer]}), REPOSITORY)

    assert policy({"lifecyclePolicyText": "{}"}) == "{}"
    assert policy(RefusedError("x", "LifecyclePolicyNotFoundException")) is None
    assert policy(RefusedError("x", "RepositoryNotFoundException")) is None
    wrongs: list[Any] = [{}, RefusedError("x", "AccessDeniedException")]
    for wrong in wrongs:
        with pytest.raises(AwsError):
            policy(wrong)
