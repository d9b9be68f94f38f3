"""The ASGI application: what is under /3 is logged, limited, authorised and answered.

Beside it stand the daily list of ids and the control plane.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.emulator.api import TmdbApi
from sandbox.emulator.bodies import Asked, spoil
from sandbox.emulator.catalog import Catalog
from sandbox.emulator.clock import EmulatorClock
from sandbox.emulator.delivery import deliver, pause, send_reply
from sandbox.emulator.export import export_reply, is_export
from sandbox.emulator.faults import Fault, FaultPlan
from sandbox.emulator.limit import RequestLimit
from sandbox.emulator.log import ArrivalLog
from sandbox.emulator.replies import Reply, error_reply, too_many_requests
from sandbox.emulator.requests import PAGE_KINDS, ApiRequest, read_request
from sandbox.emulator.server import CONNECTION, Connection

#: How a key begins that is never accepted when no keys are named, so that a test can be refused.
WRONG_KEY = "wrong"


@dataclass
class Service:
    """What serves a request; the control plane changes it while it serves."""

    catalog: Catalog
    clock: EmulatorClock
    api: TmdbApi
    limit: RequestLimit
    faults: FaultPlan
    #: Seed of the faults' chances.
    seed: int
    latency_ms: float = 0.0
    #: Accepted keys; empty accepts any that does not begin with WRONG_KEY.
    keys: frozenset[str] = frozenset()
    log: ArrivalLog = field(default_factory=ArrivalLog)


class EmulatorApp:
    """Routes by path; pure ASGI, since a framework would cost more than the answer."""

    def __init__(self, service: Service, control: ASGIApp) -> None:
        self._service = service
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/3/"):
            await self._serve(scope, receive, send)
        elif path.startswith("/_emulator/") and ip_address(scope["client"][0]).is_loopback:
            await self._control(scope, receive, send)
        elif is_export(path) and scope["method"] == "GET":
            await export_reply(self._service.catalog.movies())(scope, receive, send)
        else:
            await send_reply(error_reply(34), send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, log = self._service, self._service.log
        now_s = time.monotonic()
        connection: Connection = scope["extensions"][CONNECTION]["connection"]
        if connection.on_lost is None:
            # Counted with its first request here: the control plane's connections do not use the API.
            log.connect()
            connection.on_lost = log.disconnect
        request = read_request(scope["path"], scope["query_string"])
        arrival = log.arrive(request.kind, request.key, now_s)
        reply, fault = self._decide(scope, request, now_s)
        if service.latency_ms:
            await pause(receive, service.latency_ms / 1000)
        status = reply.status
        if fault is None:
            await send_reply(reply, send)
        else:
            spoiled = spoil(reply, fault, _asked(scope, request))
            status = await deliver(spoiled, fault, connection, receive, send)
        log.finish(arrival, status, fault.kind if fault else None, time.monotonic())

    def _decide(self, scope: Scope, request: ApiRequest, now_s: float) -> tuple[Reply, Fault | None]:
        """The limit stands in front: what it refuses meets no fault and no key check."""
        limit = self._service.limit
        if not limit.admit(now_s):
            return too_many_requests(int(limit.burst) + limit.refused_in_a_row, int(limit.burst)), None
        fault = None
        if self._service.faults.faults:
            is_page = request.kind in PAGE_KINDS
            fault = self._service.faults.pick(_target(scope, request), is_page=is_page, now_s=now_s)
        if not self._is_authorised(scope, request):
            return error_reply(7), fault
        if scope["method"] not in ("GET", "HEAD"):
            return error_reply(42), fault
        shift = int(fault.value) if fault and fault.kind == "shift" else 0
        return self._service.api.answer(request, shift=shift), fault

    def _is_authorised(self, scope: Scope, request: ApiRequest) -> bool:
        """By `api_key` or by `Authorization: Bearer` (TMDB, "Authentication")."""
        key = request.params.get("api_key", "")
        authorization = _authorization(scope)
        if authorization[:7].lower() == "bearer ":
            key = authorization[7:].strip()
        if self._service.keys:
            return key in self._service.keys
        return key != "" and not key.startswith(WRONG_KEY)


def _target(scope: Scope, request: ApiRequest) -> str:
    return f"{request.path}?{scope['query_string'].decode('latin-1')}"


def _asked(scope: Scope, request: ApiRequest) -> Asked:
    return Asked(_target(scope, request), _authorization(scope))


def _authorization(scope: Scope) -> str:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    return values[-1] if values else ""
