"""How this invocation reaches AWS, or the sandbox's local one, and how failures are worded."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_ami.errors import AwsError
from gpu_ami.process import clean_environment


@dataclass(frozen=True)
class Identity:
    """Who the credentials belong to, as STS says."""

    account: str
    arn: str


@dataclass(frozen=True)
class Access:
    """One way to AWS: a region and either the caller's credentials or the sandbox's endpoint.

    Attributes:
        region: The region that clients use unless told otherwise.
        profile: The AWS profile; None leaves the choice to the AWS SDK.
        endpoint_url: The sandbox's local AWS; None is the real one.
        environment: The whole environment for programs that talk to the same AWS; None is our own plus
            the region and the profile.
    """

    region: str
    profile: str | None = None
    endpoint_url: str | None = None
    environment: Mapping[str, str] | None = field(default=None, repr=False)

    def client(self, service: str, *, region: str | None = None) -> Any:
        """Return a boto3 client of *service* with adaptive retries and bounded waits."""
        return _client(self.region, self.profile, self.endpoint_url, service, region or self.region)

    def child_environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for Packer and Terraform, with *extra* on top."""
        if self.environment is not None:
            return dict(self.environment) | dict(extra)
        import os

        own = {"AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region}
        if self.profile is not None:
            own["AWS_PROFILE"] = self.profile
        return dict(os.environ) | own | dict(extra)


def sandbox_environment(endpoint_url: str, *, region: str, home: Path) -> dict[str, str]:
    """Return a child environment that can reach the local AWS and nothing else.

    Built from an allow-list; the variables that point SDKs, Packer or Terraform at configuration of the
    user's are set to empty places under *home*.
    """
    empty = home / "empty"
    return clean_environment(
        {
            "HOME": str(home),
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "AWS_CONFIG_FILE": str(empty),
            "AWS_SHARED_CREDENTIALS_FILE": str(empty),
            "AWS_EC2_METADATA_DISABLED": "true",
            "CHECKPOINT_DISABLE": "1",
            "NO_PROXY": "*",
        }
    )


@functools.lru_cache(maxsize=256)
def _client(region: str, profile: str | None, endpoint_url: str | None, service: str, at: str) -> Any:
    import boto3
    import botocore.session
    from botocore.config import Config

    config = Config(
        retries={"mode": "adaptive", "max_attempts": 8},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=32,
        user_agent_extra="gpu-ami-pipeline",
    )
    session: Any  # boto3's typed client() lists every service by name; ours is any of them
    with aws_errors(f"use {service} in {at}"):
        if endpoint_url is None:
            session = boto3.Session(profile_name=profile, region_name=region)
            return session.client(service, region_name=at, config=config)
        # Nothing of the user's AWS configuration may be read: a profile's endpoint_url or
        # AWS_IGNORE_CONFIGURED_ENDPOINT_URLS would lead a sandbox call to the real AWS.
        bare = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
        bare.set_config_variable("config_file", "")
        bare.set_config_variable("credentials_file", "")
        session = boto3.Session(botocore_session=bare, region_name=region)
        return session.client(
            service,
            region_name=at,
            endpoint_url=endpoint_url,
            aws_access_key_id="sandbox",
            aws_secret_access_key="sandbox",  # noqa: S106 - the local AWS takes any
            verify=False,
            config=config.merge(Config(proxies={}, s3={"addressing_style": "path"})),
        )


@contextlib.contextmanager
def aws_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's exceptions inside the block into one line that says what could not be done.

    Raises:
        AwsError: AWS refused, could not be reached, or there are no usable credentials.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except ClientError as exc:
        error = exc.response.get("Error", {})
        msg = f"AWS refused to {doing}: {error.get('Code', 'Unknown')}: {_one_line(error.get('Message'))}"
        raise AwsError(msg) from exc
    except (NoCredentialsError, PartialCredentialsError) as exc:
        msg = f"No AWS credentials to {doing}: set AWS_PROFILE or run `aws sso login`, or add --sandbox."
        raise AwsError(msg) from exc
    except BotoCoreError as exc:
        msg = f"AWS could not be asked to {doing}: {_one_line(str(exc))}"
        raise AwsError(msg) from exc


def error_code(exc: Exception) -> str:
    """Return AWS's code of a botocore ClientError, such as ``InvalidAMIID.NotFound``; empty for others."""
    response = getattr(exc, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def identify(access: Access) -> Identity:
    """Return whose credentials these are.

    Raises:
        AwsError: There are none, or STS refused them.
    """
    with aws_errors("say whose credentials these are"):
        answer = access.client("sts").get_caller_identity()
    return Identity(account=answer["Account"], arn=answer["Arn"])


def _one_line(text: object) -> str:
    return " ".join(str(text or "no message").split())
