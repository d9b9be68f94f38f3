"""How a reply reaches the client: whole, or late, in drops, cut short, or never."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.types import Receive, Send

from sandbox.emulator.faults import Fault
from sandbox.emulator.replies import Reply
from sandbox.emulator.server import Connection

#: Pieces of a dripping body.
_DROPS = 20
#: Between a first half and the reset, so that it arrives: a reset discards what was not read yet.
_BEFORE_RESET_S = 0.05


async def send_reply(reply: Reply, send: Send) -> None:
    """Send a reply whole, with its length."""
    await _send_head(reply, send)
    await send({"type": "http.response.body", "body": reply.body})


async def pause(receive: Receive, seconds: float) -> None:
    """Wait, but no longer than the client does."""
    try:
        await asyncio.wait_for(_until_gone(receive), seconds)
    except TimeoutError:
        return


class Exchange(NamedTuple):
    """A reply on its way: what to send, the fault's value, and where to."""

    reply: Reply
    value: str
    connection: Connection
    receive: Receive
    send: Send


async def deliver(reply: Reply, fault: Fault, connection: Connection, receive: Receive, send: Send) -> int:
    """Send a reply as the fault wants it; returns the status that went out, 0 for none.

    Ends early when the client leaves.
    """
    spoiled_delivery = _DELIVERIES.get(fault.kind)
    if spoiled_delivery is not None:
        return await spoiled_delivery(Exchange(reply, fault.value, connection, receive, send))
    await send_reply(reply, send)
    return reply.status


async def _send_head(reply: Reply, send: Send) -> None:
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def _send_part(reply: Reply, send: Send, length: int) -> None:
    """The head, which promises the whole body, and the first `length` bytes of it."""
    await _send_head(reply, send)
    await send({"type": "http.response.body", "body": reply.body[:length], "more_body": True})


async def _hang(exchange: Exchange) -> int:
    await _until_gone(exchange.receive)
    return 0


async def _close(exchange: Exchange) -> int:
    return await _cut(exchange, 0)


async def _truncate(exchange: Exchange) -> int:
    await _send_part(exchange.reply, exchange.send, len(exchange.reply.body) // 2)
    return await _cut(exchange, exchange.reply.status)


async def _reset(exchange: Exchange) -> int:
    status = 0
    if exchange.value != "start":
        length = len(exchange.reply.body) // 2 if exchange.value == "body" else 0
        await _send_part(exchange.reply, exchange.send, length)
        await asyncio.sleep(_BEFORE_RESET_S)
        status = exchange.reply.status
    # With a linger of zero seconds the kernel ends a connection by RST, not FIN (socket(7), SO_LINGER).
    client: socket.socket = exchange.connection.transport.get_extra_info("socket")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return await _cut(exchange, status)


async def _late(exchange: Exchange) -> int:
    await pause(exchange.receive, float(exchange.value))
    await send_reply(exchange.reply, exchange.send)
    return exchange.reply.status


async def _drip(exchange: Exchange) -> int:
    body, send = exchange.reply.body, exchange.send
    await _send_head(exchange.reply, send)
    size = -(-len(body) // _DROPS) or 1
    begun_s, length_s = time.monotonic(), float(exchange.value)
    for start in range(0, len(body), size):
        await _until(exchange, begun_s + length_s * (start + size) / len(body))
        await send({"type": "http.response.body", "body": body[start : start + size], "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return exchange.reply.status


async def _until(exchange: Exchange, time_s: float) -> None:
    """Wait by the clock: so many pauses, each of them rounded, would add up to another time."""
    await pause(exchange.receive, time_s - time.monotonic())


async def _drip_head(exchange: Exchange) -> int:
    """Status line and headers byte by byte, past the server, which can only send them whole."""
    reply, transport = exchange.reply, exchange.connection.transport
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
    lines = [b"HTTP/1.1 %d Dripping" % reply.status, *(b"%b: %b" % header for header in headers), b"", b""]
    head = b"\r\n".join(lines)
    begun_s, length_s = time.monotonic(), float(exchange.value)
    for place in range(len(head)):
        await _until(exchange, begun_s + length_s * (place + 1) / len(head))
        transport.write(head[place : place + 1])
    transport.write(reply.body)
    return await _cut(exchange, reply.status)


async def _early_hints(exchange: Exchange) -> int:
    """An informational answer before the real one (RFC 8297)."""
    exchange.connection.transport.write(
        b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
    )
    return await _late(exchange)


async def _cut(exchange: Exchange, status: int) -> int:
    """Close after what was written, and wait until the server has seen it: then it misses no response."""
    exchange.connection.transport.close()
    await _until_gone(exchange.receive)
    return status


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


#: Faults that change how a reply is sent; all others send it whole.
_DELIVERIES: dict[str, Callable[[Exchange], Awaitable[int]]] = {
    "hang": _hang,
    "close": _close,
    "truncate": _truncate,
    "reset": _reset,
    "latency": _late,
    "drip": _drip,
    "drip-head": _drip_head,
    "early-hints": _early_hints,
}
