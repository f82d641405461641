"""boto3 clients and credentials of one invocation, on AWS or the sandbox's local AWS, and one-line error messages."""

from __future__ import annotations

import contextlib
import functools
import http
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from gpu_ami.errors import AwsError
from gpu_ami.foreign_text import LONGEST_REASON, bare_reason, limited, reason
from gpu_ami.process import clean_environment


@dataclass(frozen=True)
class Access:
    """One way to AWS: a region and either the caller's credentials or the sandbox's endpoint.

    Attributes:
        region: The region that clients use unless told otherwise.
        profile: The AWS profile; None leaves the choice to the AWS SDK.
        endpoint_url: The sandbox's local AWS; None is the real one.
        environment: The whole environment for programs that talk to the same AWS; None is our own plus
            the region and the profile.
        credentials: Those of an assumed role, botocore's; None takes the profile's, or the sandbox's.
    """

    region: str
    profile: str | None = None
    endpoint_url: str | None = None
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    credentials: Any = field(default=None, repr=False)

    def client(self, service: str, *, region: str | None = None, retries: bool = True) -> Any:
        """Return a boto3 client of *service* with bounded waits and this access's own credentials.

        Args:
            service: Such as ``ec2``.
            region: Another region than the access's own.
            retries: Whether the SDK retries by itself, adaptively; False for callers that pace each API themselves.

        It signs with the keys that an assumed role has now, until they end: `calling` renews them.
        """
        identity = (self.region, self.profile, self.endpoint_url, self.credentials)
        return _kept((*identity, service, region or self.region, retries))

    @contextlib.contextmanager
    def calling(self, service: str, region: str) -> Iterator[Any]:
        """Yield the client of *service* in *region* that every account shares, with these credentials in this thread.

        A client holds a tenth of a second of work and megabytes of memory, and a connection of its own: one for each
        account would cost a fleet gigabytes. It does not retry; whoever calls paces each API.
        """
        mine = self._own_credentials()
        client = _kept(self._shared_key(service, region))
        before = getattr(_thread, "credentials", None)
        _thread.credentials = mine
        try:
            yield client
        finally:
            _thread.credentials = before

    def prepare(self, service: str, region: str) -> None:
        """Make what `calling` yields for *service* in *region*, so that the first call need not.

        What goes wrong is said by the first call, which tries again.
        """
        with contextlib.suppress(AwsError, ValueError, TypeError, LookupError, AttributeError):
            _kept(self._shared_key(service, region))

    def _shared_key(self, service: str, region: str) -> _Key:
        return (self.region, self.profile, self.endpoint_url, CALLERS, service, region, False)

    def _own_credentials(self) -> Any:
        """Return whose credentials sign, botocore's object: it refreshes itself where it can."""
        from botocore.exceptions import NoCredentialsError

        if self.credentials is not None:
            return self.credentials
        key = (self.region, self.profile, self.endpoint_url is not None)
        found = _own.get(key)
        if found is None:
            with _making, aws_errors("find credentials"):
                found = _own[key] = _session(*key).get_credentials()
        if found is None:
            raise NoCredentialsError
        return found

    def ends_within(self, seconds: float) -> bool:
        """Return whether it is known that the credentials end within *seconds*, and that nothing renews them.

        Known it is of keys in the environment with AWS_CREDENTIAL_EXPIRATION beside them: what a profile, a role or an
        instance has, botocore renews, and of keys without a date nobody but STS knows.

        Raises:
            AwsError: The credentials cannot be read.
            NoCredentialsError: There are none.
        """
        found = self._own_credentials()
        is_needed = getattr(found, "refresh_needed", None)
        return found.method == "env" and is_needed is not None and bool(is_needed(refresh_in=seconds))

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
    user's are set to empty paths under *home*.
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


# EC2's details of a refusal, and botocore's words for XML that does not parse.
_LONGEST_DENIAL = 400
_ENCODED = re.compile(r" Encoded authorization failure message: [\w-]{40,4000}$", re.ASCII)
_PARSER = re.compile(r"Unable to parse response \((?P<why>[^\n]{0,400}?)\), invalid XML")

# A sandbox that nobody refers to any more ends in the midst of anything, also while its thread makes a client here.
_making = threading.RLock()
# Region, profile, endpoint, credentials, service, the client's region, and whether it retries.
_Key: TypeAlias = "tuple[str, str | None, str | None, Any, str, str, bool]"
_clients: dict[_Key, Any] = {}
_waiting: dict[_Key, threading.RLock] = {}
_connections: dict[Any, Any] = {}
# In a client's key: it is shared by all accounts, and signs with what the calling thread has set.
CALLERS = "the caller's"
_thread = threading.local()
# Region, profile and whether it is the sandbox, to whose credentials those are.
_own: dict[tuple[str, str | None, bool], Any] = {}


def _kept(key: _Key) -> Any:
    if (made := _clients.get(key)) is not None:
        return made
    # Whoever needs a client that is made already does not queue behind those who make others.
    with _waiting.setdefault(key, threading.RLock()):
        found = _clients.get(key)
        if found is None:
            # A session must not make two clients at once.
            with _making:
                found = _clients[key] = _client(*key)
        return found


def drop_clients(endpoint_url: str) -> None:
    """Close the connections to a local AWS that has ended: its clients would keep them for good."""
    with _making:
        for key in [key for key in _clients if key[2] == endpoint_url]:
            _clients.pop(key).close()
            _waiting.pop(key, None)
        for whose in [whose for whose in _connections if whose[0][2] == endpoint_url]:
            _connections.pop(whose).close()


def _client(
    own: str,
    profile: str | None,
    endpoint_url: str | None,
    credentials: Any,
    service: str,
    region: str,
    retries: bool,
) -> Any:
    from botocore.config import Config

    config = Config(
        retries={"mode": "adaptive", "max_attempts": 8} if retries else {"mode": "standard", "total_max_attempts": 1},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=32,
        user_agent_extra="gpu-ami-pipeline",
    )
    local: dict[str, Any] = {}
    if endpoint_url is not None:
        local = {"endpoint_url": endpoint_url, "verify": False}
        settled: dict[str, Any] = {"proxies": {}, "defaults_mode": "legacy", "s3": {"addressing_style": "path"}}
        config = config.merge(Config(**settled))
    with aws_errors(f"use {service} in {region}"):
        is_shared = credentials == CALLERS
        session = _session(own, profile, endpoint_url is not None, is_shared=is_shared)
        if credentials is not None and not is_shared:
            keys = credentials.get_frozen_credentials()
            names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
            local |= dict(zip(names, keys[:3], strict=True))
        made = session.client(service, region_name=region, config=config, **local)
        if is_shared:
            from gpu_ami.aws import shared_connections

            shared_connections.share(made, _connections, (own, profile, endpoint_url))
            _spare_retries(made)
        return made


def _spare_retries(client: Any) -> None:
    """Take botocore's retries away from a *client* that tries once: a twenty-fifth of what a call computes.

    They judge each answer, and add to each request which try of how many it is. They go by the names under which
    botocore registers them (its retries/standard.py, handlers.py); what has another name one day stays.
    """
    from botocore import handlers

    events, service = client.meta.events, client.meta.service_model.service_id.hyphenize()
    events.unregister(f"needs-retry.{service}", unique_id=f"retry-config-{service}")
    events.unregister(f"request-created.{service}", unique_id=f"seed-max-attempts-{service}")
    if (headers := getattr(handlers, "add_retry_headers", None)) is not None:
        events.unregister("request-created", headers)


@functools.lru_cache(maxsize=64)
def _session(own: str, profile: str | None, sandbox: bool, *, is_shared: bool = False) -> Any:
    """Return a session; its clients share the service models, which take most of a client's time and memory.

    Args:
        own: Its region.
        profile: The AWS profile; None leaves the choice to the AWS SDK.
        sandbox: Whether it is for the local AWS, and so for nothing of the user's configuration.
        is_shared: Whether its clients sign with the calling thread's credentials, and have none themselves.
    """
    import boto3
    import botocore.session

    if not sandbox:
        theirs = botocore.session.get_session()
        _prepare(theirs, is_shared=is_shared)
        return boto3.Session(botocore_session=theirs, profile_name=profile, region_name=own)
    # Nothing of the user's AWS configuration may be read: a profile's endpoint_url or
    # AWS_IGNORE_CONFIGURED_ENDPOINT_URLS would lead a sandbox call to the real AWS.
    bare = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    bare.set_config_variable("config_file", "")
    bare.set_config_variable("credentials_file", "")
    _prepare(bare, is_shared=is_shared)
    keys = {} if is_shared else {"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}
    return boto3.Session(botocore_session=bare, region_name=own, **keys)


def _prepare(session: Any, *, is_shared: bool) -> None:
    """Give a botocore *session* what makes it start and read fast, and, for shared clients, nobody's credentials."""
    from gpu_ami.aws import client_classes
    from gpu_ami.aws.describe_images_parser import ParserFactory
    from gpu_ami.aws.service_models import service_models

    session.register_component("response_parser_factory", ParserFactory())
    session.register_component("data_loader", service_models(session.get_config_variable("data_path")))
    client_classes.share(session)
    if is_shared:
        from gpu_ami.aws.thread_credentials import ThreadCredentials

        session.register_component("credential_provider", ThreadCredentials(_thread))


@contextlib.contextmanager
def aws_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's exceptions inside the block into one line that says what could not be done.

    Raises:
        AwsError: AWS refused, could not be reached, or there are no usable credentials.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (ClientError, BotoCoreError, ResponseParserError) as exc:
        # A traceback would print the whole of an answer that is none.
        is_no_answer = isinstance(exc, ResponseParserError) or error_code(exc).isdigit()
        raise AwsError(explain(exc, doing)) from (None if is_no_answer else exc)


def explain(exc: Exception, doing: str) -> str:
    """Return the one line that says why *doing* (such as ``look up ami-1``) failed with the SDK's *exc*."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    if isinstance(exc, ClientError):
        return f"AWS refused to {doing}: {refusal(exc.response)}"
    if isinstance(exc, (NoCredentialsError, PartialCredentialsError)):
        return f"No AWS credentials to {doing}: set AWS_PROFILE or run `aws sso login`, or add --sandbox."
    if isinstance(exc, BotoCoreError):
        return f"AWS could not be asked to {doing}: {reason(exc)}"
    return f"AWS was asked to {doing}, but its answer is cut off or malformed: is a proxy in between?"


def refusal(response: Mapping[str, Any]) -> str:
    """Return the code and the message of AWS's error answer *response*, in one line.

    The message is 200 characters at most, or 400 where it says who may not do what, to what and by which policy: two
    ARNs are long, and of no use in part. Nor is what EC2 has encoded for `aws sts decode-authorization-message`.
    """
    error = response.get("Error", {})
    code = str(error.get("Code") or "Unknown")
    message = " ".join(str(error.get("Message") or "no message").split())
    if code.isdigit():
        # No error of AWS's, which has a name: where botocore finds none, it takes the whole body for the message.
        phrases = {str(status.value): status.phrase for status in http.HTTPStatus}
        message = phrases.get(code, "no message")
    encoded = _ENCODED.search(message)
    plain = message[: encoded.start()] if encoded else message
    said = limited(plain, _LONGEST_DENIAL if "is not authorized to perform" in plain else LONGEST_REASON)
    return f"{limited(code)}: {said}{encoded[0] if encoded else ''}"


def malformed(exc: Exception) -> str:
    """Return what is wrong with an answer over which botocore's parsers raised *exc*, and nothing of the answer."""
    # Of XML that does not parse, botocore's text has the whole answer behind it.
    found = _PARSER.match(str(exc)) if type(exc).__name__ == "ResponseParserError" else None
    return limited(found["why"]) if found else bare_reason(exc)


def error_code(exc: Exception) -> str:
    """Return AWS's code of a botocore ClientError, such as ``InvalidAMIID.NotFound``; empty for others."""
    response = getattr(exc, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
