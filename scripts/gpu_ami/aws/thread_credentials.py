"""Credentials of whoever calls: the clients that all accounts share have none of their own."""

from __future__ import annotations

import threading
from typing import Any

from botocore.credentials import Credentials


class ThreadCredentials(Credentials):
    """Signs each request with what the calling thread has set; with nothing set it refuses.

    botocore asks for them once per request, in the thread that calls (its signers.py). Never is there a fall-back: a
    chain of defaults would read one account and take it for another.

    Args:
        thread: Where a thread's credentials are, as ``credentials``.
    """

    def __init__(self, thread: threading.local) -> None:
        super().__init__("nobody's", "nobody's")
        self._thread = thread

    def load_credentials(self) -> ThreadCredentials:
        """Return itself: it is its own provider."""
        return self

    def get_frozen_credentials(self) -> Any:
        """Return the calling thread's credentials.

        Raises:
            RuntimeError: It has set none.
        """
        found = getattr(self._thread, "credentials", None)
        if found is None:
            msg = "a client that all accounts share was called without credentials"
            raise RuntimeError(msg)
        return found.get_frozen_credentials()
