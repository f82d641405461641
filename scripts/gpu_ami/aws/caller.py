"""Calls AWS: counts, paces and retries requests, follows pages, and refuses malformed answers."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from gpu_ami.aws.access import Access, error_code, explain, malformed, refusal
from gpu_ami.aws.throttle import Pace
from gpu_ami.errors import AwsError
from gpu_ami.foreign_text import bare_reason, reason

THROTTLING = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "KmsThrottlingException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthFailure", "UnauthorizedOperation", "UnauthorizedException"}
)
# The credentials are over: nobody's second try is better.
_OVER = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "RequestExpired",
        "UnrecognizedClientException",
    }
)
# EC2 has no room just there: another zone or type may do; quotas, which hold for the whole region, are not among them.
# With some of them comes status 500 (EC2's "Error codes": InsufficientInstanceCapacity is a server error). They are
# refusals all the same: nothing was started, and the same request would be refused again.
NO_ROOM = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientFreeAddressesInSubnet",
        "Unsupported",
        "UnfulfillableCapacity",
    }
)
# What IAM says: "User: arn:… is not authorized to perform: states:ListStateMachines on resource: …"; to EC2's callers,
# too.
_DENIAL = re.compile(
    r"(?:User: )?(?P<principal>arn:[^\s:]+:[\w-]+::\d*:\S{1,600}) is not authorized to perform: "
    r"(?P<action>[\w-]{1,60}:\w{1,120})",
    re.ASCII,
)
# Final for nobody but the request that timed out; botocore's own retries know them too.
_TRANSIENT = frozenset({"RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete"})
_TRIES = 4
_PATIENT_TRIES = 8
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 20.0
# Throttled for so long without a single answer, an API is taken for unreachable.
_STARVED_S = 180.0


class RefusedError(AwsError):
    """AWS answered with an error.

    Attributes:
        code: AWS's name for it, such as ``InvalidAMIID.NotFound``.
        is_explicit: Whether AWS says that something denies the action outright.
        action: What was requested, as IAM calls it, such as ``states:ListStateMachines``; empty where not known.
        principal: Who is denied it, by ARN; empty where AWS does not say.
        may_have_acted: Whether an earlier try of the same request went without a usable answer: AWS may have done it.
    """

    may_have_acted = False

    def __init__(
        self, message: str, code: str, *, is_explicit: bool = False, action: str = "", principal: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.is_explicit = is_explicit
        self.action = action
        self.principal = principal

    @property
    def is_denied(self) -> bool:
        """Whether the credentials lack the permission."""
        return self.code in DENIED

    @property
    def is_hopeless(self) -> bool:
        """Whether no second try is better: the permission is lacking, or the credentials are over."""
        return self.is_denied or self.code in _OVER


class UnansweredError(AwsError):
    """No usable answer came: no connection, no credentials, a breakdown of AWS (5xx), or an answer that was cut off."""


class Caller:
    """Calls one region of one account.

    Args:
        access: The way to AWS.
        region: The region to call; None is the access's own.
        paces: The pace of each API in each region; shared by all callers of the same account.
        sleep: Waits between two tries.
        tries: How often a request is sent whose answer is lost or a breakdown of AWS.
    """

    def __init__(
        self,
        access: Access,
        region: str | None = None,
        *,
        paces: dict[tuple[str, str, str], Pace] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = _TRIES,
    ) -> None:
        self.access = access
        self.region = region or access.region
        self._paces: dict[tuple[str, str, str], Pace] = {} if paces is None else paces
        self._sleep = sleep
        self._tries = tries
        self._passing: frozenset[str] = frozenset()  # refusals, by their codes, that are tried again
        self._lock = threading.Lock()
        self.calls = 0
        self.answered = 0
        self.aws_time: datetime | None = None

    def counting(self) -> Caller:
        """Return a caller for the same account and region, at the same pace, with a count of its own."""
        return Caller(self.access, self.region, paces=self._paces, sleep=self._sleep, tries=self._tries)

    def elsewhere(self, region: str) -> Caller:
        """Return a caller for another region of the same account."""
        return Caller(self.access, region, paces=self._paces, sleep=self._sleep, tries=self._tries)

    def patient(self) -> Caller:
        """Return a caller that sits a breakdown of AWS out, half a minute of it: for what must not be lost."""
        return Caller(self.access, self.region, paces=self._paces, sleep=self._sleep, tries=_PATIENT_TRIES)

    def expecting(self, *codes: str) -> Caller:
        """Return a patient caller for what was made a moment ago, of which not every part of AWS knows yet.

        Args:
            codes: How AWS refuses meanwhile, such as ``InvalidAMIID.NotFound``; after half a minute it is the answer.
        """
        made = self.patient()
        made._passing = frozenset(codes)
        return made

    def prepare(self, service: str) -> None:
        """Make what calls of *service* need before the first of them; see `Access.prepare`."""
        self.access.prepare(service, self.region)

    def call(self, service: str, operation: str, *, doing: str = "", **parameters: Any) -> dict[str, Any]:
        """Return AWS's answer to one request, tried again when it was throttled or lost.

        Args:
            service: Such as ``ec2``.
            operation: Such as ``describe_images``.
            doing: What an error says could not be done, such as ``look up ami-1``; without it the operation's name.
            parameters: The request's parameters.

        Raises:
            RefusedError: AWS answered with an error.
            UnansweredError: No usable answer came.
        """
        pace = self._pace(service, operation)
        tries = 0
        while True:
            sent_at = pace.wait()
            problem, is_throttled, is_final = self._try(service, operation, doing, parameters)
            if isinstance(problem, dict):
                pace.succeeded()
                with self._lock:
                    self.answered += 1
                return problem
            if is_throttled:
                pace.throttled(sent_at)
                if sent_at - pace.progress_at < _STARVED_S:
                    continue
            else:
                pace.succeeded()
                tries += 1
                if not is_final and tries < self._tries:
                    self._sleep(min(_FIRST_PAUSE_S * 2 ** (tries - 1), _LONGEST_PAUSE_S))
                    continue
            if isinstance(problem, RefusedError):
                problem.may_have_acted = tries > (0 if is_throttled else 1)
            raise problem

    def _pace(self, service: str, operation: str) -> Pace:
        key = (self.region, service, operation)
        # One that two threads make at once is the first one's.
        return self._paces.get(key) or self._paces.setdefault(key, Pace(sleep=self._sleep))

    def _try(
        self, service: str, operation: str, doing: str, parameters: dict[str, Any]
    ) -> tuple[dict[str, Any] | AwsError, bool, bool]:
        """Return the answer or what is wrong, whether that is throttling, and whether another try is pointless."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NotConnectedError
        from botocore.parsers import ResponseParserError

        def said(exc: Exception, plain: str) -> str:
            return explain(exc, doing) if doing else f"{service}:{_title(operation)} in {self.region}: {plain}"

        with self._lock:
            self.calls += 1
        try:
            with self.access.calling(service, self.region) as client:
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
            self._note_time(answer)
        except ClientError as exc:
            code = error_code(exc)
            status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            message = str(exc.response.get("Error", {}).get("Message"))
            if status < 500:  # a breakdown's page may be of something in between, which has a clock of its own
                self._note_time(exc.response)
            is_explicit = "explicit deny" in message
            principal, action = _denied(message) or ("", _action(client, operation))
            problem = RefusedError(
                said(exc, refusal(exc.response)), code, is_explicit=is_explicit, action=action, principal=principal
            )
            if status >= 500 and code not in THROTTLING and not (service == "ec2" and code in NO_ROOM):
                # Not a refusal: AWS, or something in between, broke down when it may have acted already.
                return UnansweredError(str(problem)), False, False
            return problem, code in THROTTLING or status == 429, code not in _TRANSIENT | self._passing
        except (HTTPClientError, NotConnectedError) as exc:
            return UnansweredError(said(exc, f"no answer: {reason(exc)}")), False, False
        except BotoCoreError as exc:
            return UnansweredError(said(exc, reason(exc))), False, True
        except (ResponseParserError, ValueError, TypeError, LookupError, AttributeError) as exc:
            # What botocore raises when it cannot make sense of an answer depends on where it stumbles.
            return UnansweredError(said(exc, f"the answer is cut off or malformed: {malformed(exc)}")), False, False
        return answer, False, True

    def pages(
        self,
        service: str,
        operation: str,
        key: str,
        *,
        page_key: str = "NextToken",
        next_key: str = "",
        doing: str = "",
        **parameters: Any,
    ) -> Iterator[dict[str, Any]]:
        """Yield each row of the list *key* from all pages of a listing.

        Args:
            service: Such as ``ec2``.
            operation: Such as ``describe_images``.
            key: The answer's list. An answer without it is not an empty one: it is cut off.
            page_key: What the request calls the page token.
            next_key: What the answer calls it; empty when that is the same.
            doing: See `call`.
            parameters: The request's parameters.

        Raises:
            RefusedError: AWS answered with an error.
            UnansweredError: A page did not come, lacks its list, or leads back to a page that was seen.
        """
        for answer in self.whole_pages(
            service, operation, page_key=page_key, next_key=next_key, doing=doing, **parameters
        ):
            rows = answer.get(key)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                what = f"{service}:{_title(operation)} in {self.region}"
                msg = f"{what}: the answer has no list {key}: it is cut off or malformed."
                raise UnansweredError(msg)
            yield from rows

    def whole_pages(
        self,
        service: str,
        operation: str,
        *,
        page_key: str = "NextToken",
        next_key: str = "",
        doing: str = "",
        **parameters: Any,
    ) -> Iterator[dict[str, Any]]:
        """Yield the whole answer of each page of a listing, for one whose rows `pages` does not take.

        Args:
            service: Such as ``s3``.
            operation: Such as ``list_objects_v2``.
            page_key: What the request calls the page token.
            next_key: What the answer calls it; empty when that is the same.
            doing: See `call`.
            parameters: The request's parameters.

        Raises:
            RefusedError: AWS answered with an error.
            UnansweredError: A page did not come, leads back to a page that was seen, or announces one without a token.
        """
        seen: set[str] = set()
        while True:
            answer = self.call(service, operation, doing=doing, **parameters)
            yield answer
            following = answer.get(next_key or page_key)
            what = f"{service}:{_title(operation)} in {self.region}"
            if not following:
                if any(answer.get(flag) is True for flag in ("IsTruncated", "Truncated")):
                    msg = f"{what}: more is announced and no page token came: the list cannot be read to its end."
                    raise UnansweredError(msg)
                return
            if following in seen:
                msg = f"{what}: the page token repeats: the list cannot be read to its end."
                raise UnansweredError(msg)
            seen.add(following)
            parameters[page_key] = following

    def _note_time(self, answer: Mapping[str, Any]) -> None:
        said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if said and self.aws_time is None:
            # A date that cannot be read says as little as a missing one. So does one without a zone, as -0000 is: AWS's
            # has one; of two dates, where a proxy adds its own, nobody knows whose is whose.
            with contextlib.suppress(ValueError, TypeError, OverflowError):
                moment = parsedate_to_datetime(said)
                self.aws_time = moment.astimezone(timezone.utc) if moment.tzinfo else None


@contextlib.contextmanager
def making_sense(what: str) -> Iterator[None]:
    """Turn what Python raises over an answer of an unexpected shape into one error.

    Raises:
        UnansweredError: The block stumbled over *what*.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        msg = f"{what}: the answer makes no sense ({bare_reason(exc)}): it is malformed."
        raise UnansweredError(msg) from exc


def _denied(message: str) -> tuple[str, str] | None:
    """Return who is denied which action, as the message of a denial says; None where it does not say."""
    found = _DENIAL.search(message)
    return (found["principal"], found["action"]) if found else None


def _action(client: Any, operation: str) -> str:
    """Return what IAM calls an operation: a service's signing name is its name there, such as ``elasticmapreduce``."""
    name = client.meta.method_to_api_mapping.get(operation, _title(operation))
    return f"{client.meta.service_model.signing_name}:{name}"


def _title(operation: str) -> str:
    return "".join(part.capitalize() for part in operation.split("_"))
