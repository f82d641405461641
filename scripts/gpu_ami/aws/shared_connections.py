"""Connections of the clients that all accounts share: one set of them, which reads the list of authorities once.

A client has connections of its own, as many as there were ever calls of it at once. A fleet has a client for each of
thirty services in each region: thousands of connections that nobody uses any more, and urllib3 reads the list of
authorities for each of them, in 20 ms (urllib3.util.ssl_.ssl_wrap_socket).
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import Any

from botocore.httpsession import URLLib3Session as _Plain
from botocore.httpsession import get_cert_path

# So many hosts have connections that are kept; those used longest ago are closed first.
_HOSTS = 64
_AT_ONCE = 256
_lock = threading.Lock()
# Without type information: most of it is botocore's own business.
_URLLib3Session: Any = _Plain


class SharedConnections(_URLLib3Session):  # type: ignore[misc]
    """botocore's connections, for many hosts."""

    _has_authorities = False

    def _get_pool_manager_kwargs(self, **extra: Any) -> Any:
        return super()._get_pool_manager_kwargs(num_pools=_HOSTS, **extra)

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()
        # A file that cannot be read is named, as ever, by the first call.
        with contextlib.suppress(OSError, ssl.SSLError):
            if self._verify:
                context.load_verify_locations(get_cert_path(self._verify))
                self._has_authorities = True
        return context

    def _setup_ssl_cert(self, conn: Any, url: str, verify: Any) -> None:
        if not (verify and self._has_authorities and url.lower().startswith("https")):
            super()._setup_ssl_cert(conn, url, verify)
            return
        conn.cert_reqs = "CERT_REQUIRED"
        conn.ca_certs = None  # they are loaded by now


def share(client: Any, kept: dict[Any, SharedConnections], key: Any) -> None:
    """Let a botocore *client* use the connections in *kept* that belong to *key*; the first makes them.

    Where a proxy or a client certificate is set it keeps its own: which hosts these are for is botocore's to decide.
    """
    endpoint = client._endpoint
    own = endpoint.http_session
    if type(own) is not _URLLib3Session or own._proxy_config._proxies or own._cert_file is not None:
        return
    with _lock:
        whose = (key, own._verify, own._timeout.connect_timeout, own._timeout.read_timeout)
        if whose not in kept:
            kept[whose] = SharedConnections(
                verify=own._verify,
                timeout=whose[2:],
                max_pool_connections=_AT_ONCE,
                socket_options=own._socket_options,
            )
        endpoint.http_session = kept[whose]
    own.close()
