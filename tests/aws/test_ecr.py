"""ECR's hosts: what the bake takes for a repository, and what it does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpu_ami.aws.ecr import REPOSITORY_URL, RepositoryUrl, parse_repository_url
from gpu_ami.errors import UsageError

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
