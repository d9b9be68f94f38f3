"""uvicorn as the emulator needs it: connections within reach, the address told, a prompt and clean end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Where a request finds its Connection: an ASGI extension, scope["extensions"][CONNECTION].
CONNECTION = "reelhaul.connection"


class Connection:
    """The TCP connection of a request, within reach of faults; `on_lost` is called once, when it ends."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.on_lost: Callable[[], None] | None = None


class EmulatorProtocol(HttpToolsProtocol):
    """Hands its connection to the application with every request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._connection = Connection(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection.on_lost is not None:
            self._connection.on_lost()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: {"connection": self._connection}}


class EmulatorServer(uvicorn.Server):
    """Tells its base address once it listens, and ends with exit code 0 on SIGTERM or SIGINT."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            self._announce(f"http://{f'[{host}]' if ':' in host else host}:{port}/3")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Nobody is owed an answer any more, and a request that hangs on purpose must not hold up the end.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- uvicorn's signature
        # uvicorn's own would raise the signal again after a clean end, and so hide exit code 0.
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises OSError, with a reason, when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named; with it a page takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Listening at once makes a second emulator on this port fail here, not later.
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def serve(app: ASGIApp, listener: socket.socket, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the base address, e.g. http://127.0.0.1:8080/3."""
    config = uvicorn.Config(
        app,
        http=EmulatorProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # Idle connections of TMDB's CDN live longer than any pause between two pages.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    EmulatorServer(config, announce).run(sockets=[listener])
