"""uvicorn for the emulator: it exposes connections, announces its address, and ends promptly."""

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: The ASGI extension with a request's Connection: scope["extensions"][CONNECTION].
CONNECTION = "reelhaul.connection"


class Connection:
    """A request's TCP connection, for faults; `on_lost` is called once, when it ends."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.on_lost: Callable[[], None] | None = None


class EmulatorProtocol(HttpToolsProtocol):
    """Passes its connection to the application with every request."""

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
    """Announces its base address once it listens; ends with exit code 0 on SIGTERM or SIGINT."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            self._announce(f"http://{f'[{host}]' if ':' in host else host}:{port}/3")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A request that hangs on purpose must not delay the end.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- uvicorn's signature
        # uvicorn's own raises the signal again after a clean end, which hides exit code 0.
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, for port 0 on a free port; OSError when that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's delay, 40 ms a page, only when the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Listen at once, so that a second emulator on this port fails here.
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
        # TMDB's CDN keeps idle connections for longer than any pause between two pages.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    EmulatorServer(config, announce).run(sockets=[listener])
