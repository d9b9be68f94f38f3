"""The ASGI application: every request under /3 is logged, limited, authorised, answered; /_emulator is the control."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.emulator_api import TmdbApi
from sandbox.emulator_limit import RequestLimit
from sandbox.emulator_log import ArrivalLog
from sandbox.emulator_replies import Reply, error_reply, too_many_requests
from sandbox.emulator_requests import ApiRequest, read_request
from sandbox.emulator_server import CONNECTION, Connection

#: The one key that is never accepted when no keys are named, so that a test can be refused.
WRONG_KEY = "wrong"


@dataclass
class Service:
    """What serves a request and what the control plane may change while it serves."""

    api: TmdbApi
    log: ArrivalLog = field(default_factory=ArrivalLog)
    limit: RequestLimit = field(default_factory=RequestLimit)
    latency_ms: float = 0.0
    #: Accepted keys; empty accepts any but WRONG_KEY.
    keys: frozenset[str] = frozenset()


class EmulatorApp:
    """Routes by path; pure ASGI, since a framework would cost more than the answer."""

    def __init__(self, service: Service, control: ASGIApp) -> None:
        self._service = service
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/3/"):
            await self._serve(scope, send)
        elif path.startswith("/_emulator/"):
            await self._control(scope, receive, send)
        else:
            await send_reply(error_reply(34), send)

    async def _serve(self, scope: Scope, send: Send) -> None:
        service = self._service
        now_s = time.monotonic()
        connection: Connection = scope["extensions"][CONNECTION]["connection"]
        connection.count()
        request = read_request(scope["path"], scope["query_string"])
        arrival = service.log.arrive(request.kind, request.key, now_s)
        reply = self._answer(scope, request, now_s)
        if service.latency_ms:
            await asyncio.sleep(service.latency_ms / 1000)
        await send_reply(reply, send)
        service.log.finish(arrival, reply.status, None, time.monotonic())

    def _answer(self, scope: Scope, request: ApiRequest, now_s: float) -> Reply:
        limit = self._service.limit
        if not limit.admit(now_s):
            return too_many_requests(int(limit.burst) + limit.refused_in_a_row, int(limit.burst))
        if not self._is_authorised(scope, request):
            return error_reply(7)
        if scope["method"] not in ("GET", "HEAD"):
            return error_reply(42)
        return self._service.api.answer(request)

    def _is_authorised(self, scope: Scope, request: ApiRequest) -> bool:
        """By `api_key` or by `Authorization: Bearer` (TMDB, "Authentication")."""
        key = request.params.get("api_key", "")
        for name, value in scope["headers"]:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                key = value[7:].decode("latin-1").strip()
        return key in self._service.keys if self._service.keys else key not in ("", WRONG_KEY)


async def send_reply(reply: Reply, send: Send) -> None:
    """Send a reply whole, with its length."""
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
