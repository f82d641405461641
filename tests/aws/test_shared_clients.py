"""One client for all accounts: each call signs with its own account's credentials, or with none at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.credentials import EnvProvider

from gpu_ami.aws import access as access_module
from gpu_ami.aws.access import CALLERS, Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.sts import assume, enter
from gpu_ami.aws.thread_credentials import ThreadCredentials
from gpu_ami.errors import AwsError
from gpu_ami_sandbox.aws.gate import Call, Environ, Fault, error_answer
from gpu_ami_sandbox.aws.server import LocalAws

REGION = "eu-central-1"
ACCOUNTS = tuple(f"{number:012d}" for number in range(310000000001, 310000000013))


@pytest.fixture
def own(aws_server: LocalAws) -> Access:
    """The way into the empty local AWS."""
    aws_server.reset()
    return Access(region=REGION, endpoint_url=aws_server.endpoint_url)


def role_in(account: str) -> str:
    """Return the ARN of a role there."""
    return f"arn:aws:iam::{account}:role/reader"


def clients_of(access: Access) -> list[Any]:
    """Return the keys of the shared clients of this endpoint."""
    return [key for key in access_module._clients if key[2] == access.endpoint_url and key[3] == CALLERS]


def test_accounts_share_a_client_and_never_an_answer(own: Access) -> None:
    """A client each would cost a fleet gigabytes; an answer of the wrong account would cost it an AMI."""
    callers = {account: Caller(assume(own, role_in(account)), REGION) for account in ACCOUNTS}

    def ask(account: str) -> tuple[str, str]:
        return account, str(callers[account].call("sts", "get_caller_identity")["Account"])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, ACCOUNTS * 10))

    assert [said for _, said in answers] == [account for account, _ in answers]
    assert len([key for key in clients_of(own) if key[4:6] == ("sts", REGION)]) == 1


def test_a_call_within_a_call_signs_with_its_own(own: Access) -> None:
    """Renewing credentials calls STS in the midst of another account's call; what was set is there again after it."""
    theirs = assume(own, role_in(ACCOUNTS[0]))

    with theirs.calling("sts", REGION) as client:
        with own.calling("sts", REGION) as same:
            inner = same.get_caller_identity()["Account"]
        outer = client.get_caller_identity()["Account"]

    assert same is client
    assert (inner, outer) == (identity_of(own), ACCOUNTS[0])


def test_a_shared_client_computes_nothing_for_retries_that_it_has_not(own: Access) -> None:
    """They are a twenty-fifth of a call; a client that does retry, of a build or an apply, keeps them."""
    sent: list[set[str]] = []

    def note(request: Any, **_: object) -> None:
        sent.append({name.lower() for name in request.headers})

    def heads(client: Any) -> set[str]:
        client.meta.events.register("before-send.sts", note)
        try:
            client.get_caller_identity()
        finally:
            client.meta.events.unregister("before-send.sts", note)
        return {name for name in sent.pop() if name.startswith("amz-sdk-")}

    with own.calling("sts", REGION) as client:
        assert not heads(client)
        asked: dict[str, Any] = {"attempts": 1, "response": None, "endpoint": None, "request_dict": {"context": {}}}
        assert not client.meta.events.emit("needs-retry.sts.GetCallerIdentity", caught_exception=None, **asked)
    assert heads(own.client("sts")) == {"amz-sdk-invocation-id", "amz-sdk-request"}


def identity_of(access: Access) -> str:
    """Return whose *access* is."""
    return str(access.client("sts").get_caller_identity()["Account"])


def test_with_nothing_set_nothing_is_sent(own: Access) -> None:
    """A default chain in its place would read one account and take it for another."""
    with own.calling("sts", REGION) as client:
        pass

    with pytest.raises(RuntimeError, match="without credentials"):
        client.get_caller_identity()


def test_another_threads_credentials_are_not_ones_own(own: Access) -> None:
    """Pools do not carry what is set into their threads."""
    failures: list[BaseException] = []

    def ask(client: Any) -> None:
        try:
            client.get_caller_identity()
        except RuntimeError as exc:
            failures.append(exc)

    with own.calling("sts", REGION) as client:
        thread = threading.Thread(target=ask, args=(client,))
        thread.start()
        thread.join()

    assert len(failures) == 1
    assert "nobody" in ThreadCredentials(threading.local()).access_key, "what a log may show of it is no key"


def test_a_roles_credentials_are_renewed_in_time(own: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chained role's last an hour at most; a fleet's apply may take longer."""
    soon: list[Callable[[], datetime]] = [lambda: datetime.now(timezone.utc) + timedelta(minutes=5)]
    made: list[int] = []

    def assume_role(**_: str) -> dict[str, Any]:
        made.append(1)
        when = soon.pop()() if soon else datetime.now(timezone.utc) + timedelta(hours=1)
        keys = {"AccessKeyId": f"ASIA{len(made)}", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": when}
        return {"Credentials": keys}

    monkeypatch.setattr(Access, "client", lambda *_, **__: SimpleNamespace(assume_role=assume_role))
    theirs = assume(own, role_in(ACCOUNTS[0]))

    assert theirs.credentials.get_frozen_credentials().access_key == "ASIA2"
    assert theirs.credentials.get_frozen_credentials().access_key == "ASIA2"
    assert len(made) == 2


def test_a_role_behind_a_role_is_renewed_with_what_the_first_has_by_then(own: Access, aws_server: LocalAws) -> None:
    """Chained roles last an hour: from then on the hub's first keys are refused, and a fleet's apply ended half-way."""
    hub = assume(own, role_in(ACCOUNTS[0]))
    theirs = enter(hub, role_in(ACCOUNTS[1]), ACCOUNTS[1])
    ended = hub.credentials.get_frozen_credentials().access_key

    def answer(_call: Call, environ: Environ) -> tuple[int, dict[str, str], bytes] | None:
        key = environ["HTTP_AUTHORIZATION"].partition("Credential=")[2].partition("/")[0]
        return error_answer(environ, "ExpiredToken", "It has ended.", 403) if key == ended else None

    aws_server.gate.add(Fault(answer))
    for credentials in (hub.credentials, theirs.credentials):
        credentials._expiry_time = datetime.now(timezone.utc)

    assert Caller(theirs, REGION).call("sts", "get_caller_identity")["Account"] == ACCOUNTS[1]


def test_entering_accounts_makes_no_client_for_each(own: Access) -> None:
    """To ask whose the credentials are must not cost a client and a connection an account, either."""
    enter(own, role_in(ACCOUNTS[0]), ACCOUNTS[0])
    before = len(access_module._clients)

    for account in ACCOUNTS[1:]:
        enter(own, role_in(account), account)

    assert len(access_module._clients) == before


def test_credentials_that_cannot_be_renewed_fail_the_call(own: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, as any refusal; never the answer of somebody else."""
    theirs = assume(own, role_in(ACCOUNTS[0]))
    monkeypatch.setattr(theirs.credentials, "_expiry_time", datetime.now(timezone.utc))

    def refuse(*_: object, **__: object) -> Any:
        msg = "AWS refused to assume the role: AccessDenied"
        raise AwsError(msg)

    monkeypatch.setattr(theirs.credentials, "_refresh_using", refuse)

    with pytest.raises(AwsError, match="refused to assume"):
        Caller(theirs, REGION).call("ec2", "describe_regions")


def test_only_an_end_that_nothing_puts_off_is_told() -> None:
    """Keys in the environment end by the date beside them; a role's are renewed, and of others nobody knows."""
    when = (datetime.now(timezone.utc) + timedelta(minutes=30)).isoformat()
    keys = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s"}
    plain, dated = (EnvProvider(keys | more).load() for more in ({}, {"AWS_CREDENTIAL_EXPIRATION": when}))

    assert not Access(region=REGION, credentials=plain).ends_within(3600)
    assert Access(region=REGION, credentials=dated).ends_within(3600)
    assert not Access(region=REGION, credentials=dated).ends_within(60)


def test_an_answer_without_credentials_is_one_line(own: Access, aws_server: LocalAws) -> None:
    """A proxy's page in between must not end in a traceback."""
    aws_server.gate.reply(b"<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>", action="AssumeRole")

    with pytest.raises(AwsError, match="makes no sense"):
        assume(own, role_in(ACCOUNTS[0]))


def test_a_role_that_leads_elsewhere_is_not_entered(own: Access) -> None:
    """What is read there would count as the account's that was asked for."""
    with pytest.raises(AwsError, match=f"led into account {ACCOUNTS[0]}, not into {ACCOUNTS[1]}"):
        enter(own, role_in(ACCOUNTS[0]), ACCOUNTS[1])


def test_a_profile_without_credentials_says_so(own: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's words, as before: what to do about it is said where the invocation begins."""
    monkeypatch.setattr(access_module, "_own", {})
    monkeypatch.setattr(access_module, "_session", lambda *_, **__: SimpleNamespace(get_credentials=lambda: None))
    monkeypatch.setattr(access_module, "_own", {})  # other tests of this process have found some

    with pytest.raises(AwsError, match="Unable to locate credentials"):
        Caller(own, REGION, sleep=lambda _: time.sleep(0)).call("ec2", "describe_regions")
