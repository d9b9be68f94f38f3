"""requests as the API's client needs it: a request ends by its deadline, however slowly the answer drips.

requests and urllib3 bound each wait for bytes and each address that is tried; here all of it together is
bounded: connecting, a proxy's answer, the status line, the headers, the body. What is left out is the
resolver, which takes no deadline.
"""

from __future__ import annotations

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

#: When the request of this thread must have ended, on time.monotonic().
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def ends_by(deadline: float) -> Iterator[None]:
    """What the block asks for through a session of `build_session` ends by then, or with TimeoutError."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def build_session(token: str | None, connections: int, base_url: str) -> requests.Session:
    """A session for many threads: `connections` kept open, no cookies, no retries, proxies read once."""
    # It warns of headers that it cannot read, in a text with the whole address, and with it a key.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    session = requests.Session()
    session.proxies = get_environ_proxies(base_url)
    settings = session.merge_environment_settings(base_url, {}, None, None, None)
    session.verify = settings["verify"]
    session.trust_env = False  # what it would look up for each request is known now
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept": "application/json", "User-Agent": "reelhaul"})
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    reconnect(session, connections)
    return session


def reconnect(session: requests.Session, connections: int) -> None:
    """Let go of the open connections: idle ones close now, busy ones after their answer."""
    adapter = _Adapter(pool_connections=1, pool_maxsize=connections, max_retries=0, pool_block=True)
    # In one assignment: other threads are sending through the old one at this moment.
    session.adapters = OrderedDict({"https://": adapter, "http://": adapter})


def _bounded(timeout_s: float | None) -> float | None:
    """The timeout, or what is left until the deadline if that is less; TimeoutError when nothing is."""
    left_s = _deadline.get() - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the request's deadline has passed")
    shorter_s = min(left_s, math.inf if timeout_s is None else timeout_s)
    return None if shorter_s == math.inf else shorter_s


class _Reader(io.RawIOBase):
    """Reads a socket; waits for bytes as long as the socket's own timeout says, not beyond the deadline."""

    def __init__(self, sock: Any) -> None:
        self._sock, self._timeout_s = sock, sock.gettimeout()
        # A file of the socket's: so the socket stays open when its connection is closed before all is read.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_bounded(self._timeout_s))
        count: int | None = self._file.readinto(buffer)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Source:
    """What http.client takes for a socket: all that it does with one is to make a file of it."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock))


class _Response(http.client.HTTPResponse):
    """An answer that is read until the deadline."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(_Source(sock), *args, **options)  # type: ignore[arg-type]

    def _read_status(self) -> tuple[str, int, str]:
        """http.client skips 100 alone: it takes 103 for the answer, and the answer for the next request's."""
        version, status, reason = super()._read_status()  # type: ignore[misc]
        informational = 100 <= status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, http.HTTPStatus.CONTINUE if informational else status, reason


class _Bounded(HTTPConnection):
    """Connects and reads until the deadline."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        """Try the host's addresses one by one: urllib3 gives each of them the whole time."""
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
        self._dns_host, self.timeout = address, _bounded(timeout_s)
        return super()._new_conn()


def _addresses(name: str, port: int) -> list[str]:
    """All of the host's; none when that cannot be said: urllib3 tries, and words the error."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _BoundedHttps(_Bounded, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedHttps


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class _Adapter(HTTPAdapter):
    """requests' adapter with these connections, also to a proxy and through one."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if isinstance(manager, ProxyManager):  # not so for SOCKS, whose connections are of another kind
            manager.pool_classes_by_scheme = _POOLS
        return manager
