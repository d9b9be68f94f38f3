"""The ASGI application: it logs, limits, authorises and answers the requests under /3.

The daily id export and the control plane stand beside it.
"""

import time
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.emulator.api import TmdbApi
from sandbox.emulator.bodies import Shown, spoil
from sandbox.emulator.catalog import Catalog
from sandbox.emulator.clock import EmulatorClock
from sandbox.emulator.delivery import deliver, pause, send_reply
from sandbox.emulator.drift import Drift
from sandbox.emulator.export import export_reply, is_export
from sandbox.emulator.faults import Fault, FaultPlan
from sandbox.emulator.limit import RequestLimit
from sandbox.emulator.log import ArrivalLog
from sandbox.emulator.replies import Reply, error_reply, too_many_requests
from sandbox.emulator.requests import PAGE_KINDS, ApiRequest, read_request
from sandbox.emulator.server import CONNECTION, Connection

#: When no keys are named, every key is accepted but those that begin like this.
WRONG_KEY = "wrong"


@dataclass
class Service:
    """The emulator's state, which the control plane changes while it serves."""

    catalog: Catalog
    clock: EmulatorClock
    api: TmdbApi
    limit: RequestLimit
    faults: FaultPlan
    drift: Drift
    #: Seed of the faults' probabilities.
    seed: int
    latency_ms: float = 0.0
    #: Accepted keys; empty for any that does not begin with WRONG_KEY.
    keys: frozenset[str] = frozenset()
    log: ArrivalLog = field(default_factory=ArrivalLog)


class EmulatorApp:
    """Routes by path; plain ASGI, since a framework would take longer than the answer."""

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
            # Counted here, with its first request: the control plane's connections do not use the API.
            log.connect()
            connection.on_lost = log.disconnect
        request = read_request(scope["path"], scope["query_string"])
        shown = Shown(f"{request.path}?{scope['query_string'].decode('latin-1')}", _authorization(scope))
        arrival = log.arrive(request.kind, request.key, now_s)
        reply, fault = self._decide(scope["method"], request, shown, now_s)
        if service.latency_ms:
            await pause(receive, service.latency_ms / 1000)
        status = reply.status
        if fault is None:
            await send_reply(reply, send)
        else:
            status = await deliver(spoil(reply, fault, shown), fault, connection, receive, send)
        log.finish(arrival, status, fault.kind if fault else None, time.monotonic())

    def _decide(
        self, method: str, request: ApiRequest, shown: Shown, now_s: float
    ) -> tuple[Reply, Fault | None]:
        """The reply and the fault that strikes it. The limit comes first: a 429 meets no fault and no key."""
        limit, faults = self._service.limit, self._service.faults
        if not limit.admit(now_s):
            return too_many_requests(int(limit.burst) + limit.refused_in_a_row, int(limit.burst)), None
        fault = None
        if faults.faults:
            fault = faults.pick(shown.target, is_page=request.kind in PAGE_KINDS, now_s=now_s)
        if not self._is_authorised(request, shown.authorization):
            return error_reply(7), fault
        if method not in ("GET", "HEAD"):
            return error_reply(42), fault
        shift = int(fault.value) if fault and fault.kind == "shift" else 0
        stale = fault is not None and fault.kind == "stale"
        reply = self._service.api.answer(request, shift=shift, stale=stale)
        if request.kind in PAGE_KINDS:
            self._service.drift.page_served(self._service.clock.today().isoformat())
        return reply, fault

    def _is_authorised(self, request: ApiRequest, authorization: str) -> bool:
        """By `api_key` or by `Authorization: Bearer` (TMDB, "Authentication")."""
        key = request.params.get("api_key", "")
        if authorization[:7].lower() == "bearer ":
            key = authorization[7:].strip()
        if self._service.keys:
            return key in self._service.keys
        return key != "" and not key.startswith(WRONG_KEY)


def _authorization(scope: Scope) -> str:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    return values[-1] if values else ""
