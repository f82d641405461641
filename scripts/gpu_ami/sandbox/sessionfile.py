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

from gpu_ami.errors import SafetyError
from gpu_ami.sandbox.account import ALIVE_PATH, TOKEN_HEADER
from gpu_ami.workspace import Workspace

_SESSION_FILE = "session.json"
_LOCK_FILE = "lock"
_ANSWER_WITHIN_S = 2.0


@dataclass(frozen=True)
class Session:
    """What `.sandbox/session.json` says of a running sandbox."""

    endpoint_url: str
    pid: int
    token: str
    guest_port: int | None
    region: str
    account: dict[str, Any]

    def as_json(self) -> str:
        """Return the file's content."""
        return json.dumps(vars(self), indent=2, sort_keys=True) + "\n"

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
        session = Session(**json.loads(session_path(workspace).read_text(encoding="utf-8")))
        return session if session.is_alive() else None
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def only_one(workspace: Workspace) -> Iterator[None]:
    """Hold the folder's lock: two sandboxes of one folder would overwrite each other's files.

    Who holds it knows that a session file there is a dead sandbox's, and removes it.
    """
    from filelock import FileLock, Timeout

    workspace.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.state / _LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        place = workspace.shown(workspace.state)
        msg = f"Another invocation is using {place}/: wait for it, or run `invoke sandbox` once and let both attach."
        raise SafetyError(msg) from exc
    try:
        session_path(workspace).unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def session_path(workspace: Workspace) -> Path:
    """Return where a running sandbox says how to attach to it."""
    return workspace.state / _SESSION_FILE
