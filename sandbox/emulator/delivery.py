"""Sends a reply: whole, late, piece by piece, cut short, or never."""

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import Receive, Send

from sandbox.emulator.faults import Fault
from sandbox.emulator.replies import Reply
from sandbox.emulator.server import Connection

#: Pieces of a dripping body.
_DROPS = 20
#: Before a reset, which discards what the client has not read yet.
_BEFORE_RESET_S = 0.05


async def send_reply(reply: Reply, send: Send) -> None:
    """Send a reply whole."""
    await _send_head(reply, send)
    await send({"type": "http.response.body", "body": reply.body})


async def _send_head(reply: Reply, send: Send) -> None:
    """Send status line and headers, with the length of the whole body."""
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def pause(receive: Receive, seconds: float) -> None:
    """Wait, but only while the client stays connected."""
    until_s = time.monotonic() + seconds
    # More than once, since uvloop's timers fire early on a busy loop.
    while (left_s := until_s - time.monotonic()) > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(_disconnected(receive), left_s)
            return


async def deliver(reply: Reply, fault: Fault, connection: Connection, receive: Receive, send: Send) -> int:
    """Send a reply as the fault demands; return the status that was sent, 0 for none.

    Ends early when the client disconnects.
    """
    delivery = _Delivery(reply, fault.value, connection.transport, receive, send)
    method = _DELIVERIES.get(fault.kind)
    if method is not None:
        return await method(delivery)
    await send_reply(reply, send)
    return reply.status


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass
class _Delivery:
    """A reply to send, the fault's value, and the connection; each method sends it and returns the status."""

    reply: Reply
    value: str
    transport: asyncio.Transport
    receive: Receive
    send: Send

    async def hang(self) -> int:
        await _disconnected(self.receive)
        return 0

    async def close(self) -> int:
        return await self._cut(0)

    async def truncate(self) -> int:
        await self._send_part(len(self.reply.body) // 2)
        return await self._cut(self.reply.status)

    async def reset(self) -> int:
        status = 0
        if self.value != "start":
            await self._send_part(len(self.reply.body) // 2 if self.value == "body" else 0)
            await asyncio.sleep(_BEFORE_RESET_S)
            status = self.reply.status
        # With a linger of zero the kernel closes the connection by RST, not FIN (socket(7), SO_LINGER).
        client: socket.socket = self.transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return await self._cut(status)

    async def late(self) -> int:
        await pause(self.receive, float(self.value))
        await send_reply(self.reply, self.send)
        return self.reply.status

    async def drip(self) -> int:
        """Send the body in pieces."""
        body = self.reply.body
        await _send_head(self.reply, self.send)
        size = -(-len(body) // _DROPS) or 1
        started_s = time.monotonic()
        for start in range(0, len(body), size):
            await self._wait_until(started_s, (start + size) / len(body))
            await self._send_body(body[start : start + size])
        await self._send_body(b"", more_body=False)
        return self.reply.status

    async def drip_head(self) -> int:
        """Write status line and headers byte by byte, past uvicorn, which sends them whole."""
        reply = self.reply
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
        lines = [b"HTTP/1.1 %d Dripping" % reply.status, *(b"%b: %b" % header for header in headers)]
        head = b"\r\n".join([*lines, b"", b""])
        started_s = time.monotonic()
        for place in range(len(head)):
            await self._wait_until(started_s, (place + 1) / len(head))
            self.transport.write(head[place : place + 1])
        self.transport.write(reply.body)
        return await self._cut(reply.status)

    async def early_hints(self) -> int:
        """Send an informational response before the real one (RFC 8297)."""
        self.transport.write(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
        return await self.late()

    async def _send_part(self, length: int) -> None:
        """Send the head and the first `length` bytes of the body."""
        await _send_head(self.reply, self.send)
        await self._send_body(self.reply.body[:length])

    async def _send_body(self, body: bytes, *, more_body: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more_body})

    async def _wait_until(self, started_s: float, share: float) -> None:
        """Wait for a share of the fault's time, by the clock: the errors of short pauses would add up."""
        await pause(self.receive, started_s + share * float(self.value) - time.monotonic())

    async def _cut(self, status: int) -> int:
        """Close after what was written; wait until uvicorn notices, so that it expects no response."""
        self.transport.close()
        await _disconnected(self.receive)
        return status


#: Faults that change how a reply is sent; after all others it is sent whole.
_DELIVERIES: dict[str, Callable[[_Delivery], Awaitable[int]]] = {
    "hang": _Delivery.hang,
    "close": _Delivery.close,
    "truncate": _Delivery.truncate,
    "reset": _Delivery.reset,
    "latency": _Delivery.late,
    "drip": _Delivery.drip,
    "drip-head": _Delivery.drip_head,
    "early-hints": _Delivery.early_hints,
}
