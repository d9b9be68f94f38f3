"""A Redis whose clock can be set, and a proxy that delays Redis' replies."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest
import redis

from sandbox.embedded import HOST
from sandbox.servers import EmbeddedRedis

#: From Debian's package faketime, which `.ci/run` installs where it can.
FAKETIME = next(Path("/usr/lib").glob("*-linux-gnu/faketime/libfaketimeMT.so.1"), None)
needs_faketime = pytest.mark.skipif(
    FAKETIME is None, reason="libfaketime is not installed: apt-get install faketime"
)
#: Seconds within which a connection or a clock must have followed.
PATIENCE_S = 10.0
#: How far Redis' clock may be from what it was set to: the time of a round trip.
CLOCK_TOLERANCE_S = 0.2


class LeapingRedis(EmbeddedRedis):
    """Valkey under libfaketime: `leap_to` moves its clock, TIME in scripts included, while it runs.

    As when an administrator sets the clock, only the time of day changes: timeouts use the monotonic clock.
    It needs libfaketime: mark tests with `needs_faketime`.
    """

    def _command(self, port: int, folder: Path) -> list[str]:
        self._set(0.0)
        faked = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return ["env", *(f"{name}={value}" for name, value in faked.items()), *super()._command(port, folder)]

    @property
    def _clock(self) -> Path:
        return self.folder.resolve() / "clock"

    def _set(self, offset_s: float) -> None:
        """Replace the file whole: the server may read it at any time."""
        written = self._clock.with_suffix(".new")
        written.write_text(f"{offset_s:+f}\n", encoding="ascii")
        written.replace(self._clock)

    def leap_to(self, offset_s: float) -> None:
        """Set the clock to the machine's plus `offset_s`; returns when Redis has noticed.

        It reads the clock again mostly after the next command.
        """
        self._set(offset_s)
        deadline = time.monotonic() + PATIENCE_S
        with redis.Redis.from_url(self.url) as client:
            while abs(_clock_of(client) - time.time() - offset_s) > CLOCK_TOLERANCE_S:
                assert time.monotonic() < deadline, f"Redis' clock did not follow to {offset_s:+g} s"
                time.sleep(0.001)


def _clock_of(client: redis.Redis) -> float:
    seconds, micros = client.time()
    return float(seconds) + micros / 1e6


class DelayingProxy:
    """A port on loopback in front of Redis: requests pass at once, replies come `delay_s` late.

    A new `delay_s` applies to all connections, but not to replies that are already held. Replies behind a
    held one wait for it, as on a slow network. With `proxy.only = "EVALSHA"`, replies to other commands pass
    at once.
    """

    def __init__(self, redis_url: str) -> None:
        address = urlsplit(redis_url)
        self._redis_port = address.port or 6379
        self.delay_s = 0.0
        self.only = ""
        #: Replies held so far, including those being held.
        self.held = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        #: `redis_url` with the proxy's port.
        self.url = redis_url.replace(f":{self._redis_port}", f":{self.port}")

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Cut all connections."""
        self._over.set()
        with self._lock:
            for end in (self._listener, *self._open):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((HOST, self._redis_port), PATIENCE_S)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open += [client, server]
                matched = threading.Event()
                self._start(self._requests, client, server, matched)
                self._start(self._replies, server, client, matched)

    def _requests(self, client: socket.socket, server: socket.socket, matched: threading.Event) -> None:
        with suppress(OSError):
            while chunk := client.recv(65_536):
                if self.only.encode() in chunk:
                    matched.set()
                server.sendall(chunk)
        shut_down(server)

    def _replies(self, server: socket.socket, client: socket.socket, matched: threading.Event) -> None:
        with suppress(OSError):
            while chunk := server.recv(65_536):
                if self.delay_s > 0 and (not self.only or matched.is_set()):
                    self.held += 1
                    self._over.wait(self.delay_s)
                matched.clear()
                client.sendall(chunk)
        shut_down(client)


def shut_down(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
