"""STS: whose the credentials are, and the credentials of roles in this and other accounts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from gpu_ami.aws.access import Access, aws_errors
from gpu_ami.aws.caller import Caller
from gpu_ami.errors import AwsError
from gpu_ami.foreign_text import limited


@dataclass(frozen=True)
class Identity:
    """Who the credentials belong to, as STS says."""

    account: str
    arn: str


def _sts(access: Access, operation: str, doing: str, **parameters: str) -> dict[str, Any]:
    """Return STS's answer.

    A role's credentials end within the hour and are renewed; a client of its own would go on signing with the first
    ones, so that a role that was entered through another one could not be renewed any more.

    Raises:
        AwsError: STS refused, or gave no usable answer.
    """
    if access.credentials is not None:
        return Caller(access).call("sts", operation, doing=doing, **parameters)
    with aws_errors(doing):
        answer: dict[str, Any] = getattr(access.client("sts"), operation)(**parameters)
    return answer


def identify(access: Access) -> Identity:
    """Return whose credentials these are.

    Raises:
        AwsError: There are none, STS refused them, or its answer makes no sense.
    """
    try:
        answer = _sts(access, "get_caller_identity", "say whose credentials these are")
        return Identity(account=answer["Account"], arn=answer["Arn"])
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        # What botocore raises over a login page with status 200 depends on where it stumbles.
        msg = "AWS was asked whose credentials these are, but its answer makes no sense: is a proxy in between?"
        raise AwsError(msg) from exc


def assume(access: Access, role_arn: str, *, session_name: str = "gpu-ami-cleanup") -> Access:
    """Return an access with temporary credentials of the role *role_arn*; they are renewed before their hour is over.

    Raises:
        AwsError: STS refused, or its answer makes no sense.
    """
    from botocore.credentials import RefreshableCredentials

    def assumed() -> dict[str, str]:
        try:
            doing = f"assume the role {role_arn}"
            answer = _sts(access, "assume_role", doing, RoleArn=role_arn, RoleSessionName=session_name)
            given = answer["Credentials"]
            return {
                "access_key": given["AccessKeyId"],
                "secret_key": given["SecretAccessKey"],
                "token": given["SessionToken"],
                "expiry_time": given["Expiration"].isoformat(),
            }
        except (LookupError, TypeError, ValueError, AttributeError) as exc:
            msg = f"AWS was asked to assume the role {role_arn}, but its answer makes no sense: is a proxy in between?"
            raise AwsError(msg) from exc

    first = assumed()
    credentials = RefreshableCredentials(
        first["access_key"],
        first["secret_key"],
        first["token"],
        datetime.fromisoformat(first["expiry_time"]),
        assumed,
        "sts-assume-role",
        # botocore's own clock asks for the time zone of the machine, before each request.
        time_fetcher=lambda: datetime.now(timezone.utc),
    )
    return dataclasses.replace(access, credentials=credentials)


def enter(access: Access, role_arn: str, account: str) -> Access:
    """Return an access with the credentials of the role *role_arn*, after STS has said that they are *account*'s.

    Raises:
        AwsError: STS refused, or these are another account's: what is read there must not count as this one's.
    """
    entered = assume(access, role_arn)
    found = identify(entered).account
    if found != account:
        msg = f"The role {role_arn} led into account {limited(found)}, not into {account}: nothing was read there."
        raise AwsError(msg)
    return entered
