"""uvicorn as the emulator needs it: connections counted and within reach, an address on stdout, a prompt clean end."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.emulator_log import ArrivalLog

#: Where a request finds its Connection: an ASGI extension, scope["extensions"][CONNECTION].
CONNECTION = "reelhaul.connection"


class Connection:
    """The TCP connection of a request: counted from its first request under /3, and open to faults."""

    def __init__(self, transport: asyncio.Transport, log: ArrivalLog) -> None:
        self.transport = transport
        self._log = log
        self._is_counted = False

    def count(self) -> None:
        """Count it, once, as one that uses the API; the control plane's own connections are not."""
        if not self._is_counted:
            self._is_counted = True
            self._log.connect()

    def lost(self) -> None:
        if self._is_counted:
            self._log.disconnect()


class EmulatorProtocol(HttpToolsProtocol):
    """Hands the connection to the application; `log` is set by `serve` on a subclass."""

    log: ArrivalLog
    _connection: Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        super().connection_made(transport)
        self._connection = Connection(transport, self.log)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, dict[object, object]] = {CONNECTION: {"connection": self._connection}}
        self.scope["extensions"] = extensions


class EmulatorServer(uvicorn.Server):
    """Prints its address when it listens, and ends with exit code 0 on SIGTERM or SIGINT."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/3", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Nobody is owed an answer any more, and a request that hangs on purpose must not hold up the end.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own would raise the signal again after a clean end, and so hide exit code 0.
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises OSError, with a reason, when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Listening at once makes a second emulator on this port fail here, not later.
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def serve(app: ASGIApp, listener: socket.socket, log: ArrivalLog) -> None:
    """Serve until SIGTERM or SIGINT."""
    protocol: Any = type("LoggedProtocol", (EmulatorProtocol,), {"log": log})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Idle connections of TMDB's CDN live longer than any pause between two pages.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    EmulatorServer(config).run(sockets=[listener])
