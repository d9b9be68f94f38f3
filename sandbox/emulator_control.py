"""The control plane: what tests read and change while the emulator serves. Outside /3, without a key, for loopback."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.emulator_app import Service
from sandbox.emulator_items import encode


class ControlPlane:
    """Handlers over one Service; `app()` is the ASGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/_emulator/log", self.log, methods=["GET"]),
                Route("/_emulator/stats", self.stats, methods=["GET"]),
                Route("/_emulator/reset", self.reset, methods=["POST"]),
            ]
        )

    async def log(self, request: Request) -> Response:
        since = request.query_params.get("since", "0")
        if not since.isdecimal():
            return _json({"error": f"since must be a number, got {since!r:.40}"}, 400)
        return _json(self._service.log.since(int(since)))

    async def stats(self, _: Request) -> Response:
        return _json(self._service.log.stats())

    async def reset(self, _: Request) -> Response:
        self._service.log.reset()
        return _json(self._service.log.stats())


def _json(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")
