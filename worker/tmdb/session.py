"""A requests session whose requests end by a deadline, however slowly the response arrives.

requests and urllib3 limit each wait for bytes and each address tried. Here a deadline covers all of it:
connecting, the proxy's response, the status line, the headers, the body. Only the resolver has no deadline.
"""

import http.client
import io
import logging
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from worker.tmdb.credentials import NO_CREDENTIALS, Secrets

#: When this thread's request must have ended, on time.monotonic().
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def ends_by(deadline: float) -> Iterator[None]:
    """Requests made in the block through a `build_session` session end by then, or raise TimeoutError."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def build_session(base_url: str, connections: int, credentials: Secrets = NO_CREDENTIALS) -> requests.Session:
    """A session for many threads: `connections` kept open, no cookies, no retries, proxies looked up once."""
    # It warns about each malformed header, which nobody here can mend.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    session = requests.Session()
    session.proxies = get_environ_proxies(base_url)
    settings = session.merge_environment_settings(base_url, {}, None, None, None)
    session.verify = settings["verify"]
    session.trust_env = False  # or each request would look up proxies and certificates again
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept": "application/json", "User-Agent": "reelhaul"})
    reconnect(session, connections, credentials)
    return session


def reconnect(session: requests.Session, connections: int, credentials: Secrets = NO_CREDENTIALS) -> None:
    """Replace the connections: idle ones close now, busy ones after their response."""
    adapter = _Adapter(credentials, connections)
    # In one assignment, because other threads are sending through the old adapter.
    session.adapters = OrderedDict({"https://": adapter, "http://": adapter})


def _time_left_s(timeout_s: float | None) -> float | None:
    """The smaller of the timeout and the time until the deadline; TimeoutError after the deadline."""
    left_s = _deadline.get() - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the request's deadline has passed")
    shorter_s = min(left_s, math.inf if timeout_s is None else timeout_s)
    return None if shorter_s == math.inf else shorter_s


#: Bytes read at once: a page's response, most of the time.
BUFFER = 65_536


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until the deadline, waiting for bytes no longer than the socket's own timeout."""

    def __init__(self, sock: Any) -> None:
        self._sock, self._timeout_s = sock, sock.gettimeout()
        # A file keeps the socket open if its connection is closed before all is read.
        self._file = sock.makefile("rb", buffering=0)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Stand in for the socket: http.client only calls its `makefile`."""
        return io.BufferedReader(self, BUFFER)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = _time_left_s(self._timeout_s)
        if left_s != self._sock.gettimeout():  # each change is a system call
            self._sock.settimeout(left_s)
        count: int | None = self._file.readinto(buffer)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """A response that is read until the deadline."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(_DeadlineReader(sock), *args, **options)  # type: ignore[arg-type]

    def _read_status(self) -> tuple[str, int, str]:
        """Skip every informational status: http.client skips only 100, and takes a 103 for the response."""
        version, status, reason = super()._read_status()  # type: ignore[misc]
        informational = 100 <= status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, http.HTTPStatus.CONTINUE if informational else status, reason


class _DeadlineConnection(HTTPConnection):
    """Connects and reads until the deadline."""

    response_class = _DeadlineResponse
    #: Set by the pool.
    credentials: Secrets = NO_CREDENTIALS

    def putrequest(self, method: str, url: str, *args: Any, **options: Any) -> None:
        """Write the request's first line and the credentials."""
        super().putrequest(method, self.credentials.address(url), *args, **options)
        for name, value in self.credentials.headers.items():
            self.putheader(name, value)

    def _new_conn(self) -> socket.socket:
        """Try the host's addresses in turn; urllib3 would give each of them the whole timeout."""
        name, timeout_s = self._dns_host, self.timeout
        *others, last = _addresses(name.strip("[]"), self.port) or [name]
        try:
            for address in others:
                with suppress(NewConnectionError, ConnectTimeoutError):
                    return self._connect(address, timeout_s)
            return self._connect(last, timeout_s)
        finally:
            self._dns_host, self.timeout = name, timeout_s

    def _connect(self, address: str, timeout_s: Any) -> socket.socket:
        self._dns_host, self.timeout = address, _time_left_s(timeout_s)
        return super()._new_conn()


def _addresses(name: str, port: int) -> list[str]:
    """The host's addresses; none when it cannot be resolved: urllib3 then raises the error."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _DeadlineHttpsConnection(_DeadlineConnection, HTTPSConnection):
    pass


def _pool(pool: type, connection: type[_DeadlineConnection], credentials: Secrets) -> type:
    """A class of pools whose connections send the credentials."""
    ours = type("_Connection", (connection,), {"credentials": credentials})
    return type("_Pool", (pool,), {"ConnectionCls": ours})


class _Adapter(HTTPAdapter):
    """requests' adapter with these connections, also to proxies and through them."""

    def __init__(self, credentials: Secrets, connections: int) -> None:
        self._pools = {
            "http": _pool(HTTPConnectionPool, _DeadlineConnection, credentials),
            "https": _pool(HTTPSConnectionPool, _DeadlineHttpsConnection, credentials),
        }
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0, pool_block=True)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if isinstance(manager, ProxyManager):  # a SOCKS proxy has connections of its own kind
            manager.pool_classes_by_scheme = self._pools
        return manager
