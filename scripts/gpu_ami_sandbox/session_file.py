"""Which sandbox runs in a folder: the session file that others attach by, and the lock that keeps it the only one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gpu_ami import __version__
from gpu_ami.errors import SafetyError
from gpu_ami.records import unfinished_build
from gpu_ami.workspace import Workspace
from gpu_ami_sandbox.account import ALIVE_PATH, TOKEN_HEADER

_SESSION_FILE = "session.json"
_LOCK_FILE = "lock"
_ANSWER_WITHIN_S = 2.0


@dataclass(frozen=True)
class Session:
    """What `.sandbox/session.json` says of a running sandbox.

    Attributes:
        endpoint_url: Its AWS.
        pid: Its process.
        token: What its AWS knows us by.
        guest_port: The build instance's SSH; None without a guest.
        region: The region of its demo account.
        account: What is in its demo account.
        version: The version of this package that runs it; None of one that did not say yet.
        is_lasting: Whether it goes on when who attaches has ended; else it is lent to those only.
    """

    endpoint_url: str
    pid: int
    token: str
    guest_port: int | None
    region: str
    account: dict[str, Any]
    version: str | None = __version__
    is_lasting: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether it is of this version: what another one's demo account holds, and how it is reached, is a guess."""
        return self.version == __version__

    def as_json(self) -> str:
        """Return the file's content."""
        # Said only where it is not so: what goes on is as it always was.
        said = {name: value for name, value in vars(self).items() if name != "is_lasting" or not value}
        return json.dumps(said, indent=2, sort_keys=True) + "\n"

    def is_alive(self) -> bool:
        """Return whether the process lives and its endpoint knows the token."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it lives, as another user's
        address = urlsplit(self.endpoint_url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ANSWER_WITHIN_S)
        try:
            connection.request("GET", ALIVE_PATH, headers={TOKEN_HEADER: self.token})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def running_session(workspace: Workspace) -> Session | None:
    """Return the session of the sandbox that runs in this folder; None when there is none, or its file is stale."""
    try:
        session = _session_of(json.loads(session_path(workspace).read_text(encoding="utf-8")))
        return session if session.is_alive() else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _session_of(document: dict[str, Any]) -> Session:
    """Return the session in *document*; of another version's only what tells whether it lives."""
    version = document.get("version")
    if version == __version__:
        return Session(**document)
    endpoint_url, pid, token = (document[name] for name in ("endpoint_url", "pid", "token"))
    return Session(endpoint_url, pid, token, guest_port=None, region="", account={}, version=version)


@contextlib.contextmanager
def only_one(workspace: Workspace) -> Iterator[None]:
    """Hold the folder's lock: two sandboxes of one folder would overwrite each other's files.

    Who holds it knows that a session file there is of a sandbox that has ended, and removes it; so are the notes of
    builds that were killed: what they left went with their sandbox.

    Raises:
        SafetyError: Another process holds it.
        OSError: The folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    workspace.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.state / _LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        folder = workspace.shown(workspace.state)
        msg = (
            f"Another invocation is using {folder}/: wait for it (`invoke sandbox` says when it is up), or run "
            "`invoke sandbox` once and let both attach."
        )
        raise SafetyError(msg) from exc
    try:
        session_path(workspace).unlink(missing_ok=True)
        unfinished_build.forget(unfinished_build.cut_off(workspace.logs))
        yield
    finally:
        lock.release()


def session_path(workspace: Workspace) -> Path:
    """Return where a running sandbox says how to attach to it."""
    return workspace.state / _SESSION_FILE
