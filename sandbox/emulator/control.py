"""The control plane, through which tests read and change the emulator; outside /3, without a key."""

import json
import time
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.emulator.app import Service
from sandbox.emulator.catalog import Movie
from sandbox.emulator.export import items_reply
from sandbox.emulator.faults import FaultPlan, parse_fault
from sandbox.emulator.items import encode, to_movie
from sandbox.emulator.limit import RequestLimit


class _Change(BaseModel):
    """A JSON object whose keys are all optional; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    async def read(cls, request: Request) -> Self:
        """The request's body; ValueError names the first invalid key."""
        # Not model_validate_json: it rejects lone surrogates, which TMDB's bodies may hold.
        content = json.loads(await request.body())
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from error


class ConfigChange(_Change):
    """Body of POST /_emulator/config."""

    rate: PositiveFloat | None = None
    capacity: Annotated[float, Field(ge=1)] | None = None
    latency_ms: NonNegativeFloat = 0.0
    drift: PositiveInt | None = None
    faults: list[str] = []
    clock_offset_s: float = 0.0


class Move(_Change):
    """A movie's new release date."""

    id: int
    release_date: str


class MoviesChange(_Change):
    """Body of POST /_emulator/movies."""

    upsert: list[dict[str, Any]] = []
    move: list[Move] = []
    delete: list[int] = []


class ControlPlane:
    """Handlers for one Service; `app()` is the ASGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def app(self) -> Starlette:
        """The routes under /_emulator; an invalid request is 400 `{"error": ...}` and changes nothing."""
        handlers = [
            ("GET", "log", self.read_log),
            ("GET", "stats", self.read_stats),
            ("POST", "reset", self.reset_log),
            ("GET", "config", self.read_config),
            ("POST", "config", self.change_config),
            ("GET", "movies", self.read_movies),
            ("POST", "movies", self.change_movies),
        ]
        routes = [
            Route(f"/_emulator/{name}", handler, methods=[method]) for method, name, handler in handlers
        ]
        return Starlette(routes=routes, exception_handlers={ValueError: _error_reply})

    async def read_log(self, request: Request) -> Response:
        """Arrivals from number `since` on, by default all that are kept."""
        since = request.query_params.get("since", "0")
        if not since.isdecimal():
            raise ValueError(f"since must be a number, got {since!r:.40}")
        return _json(self._service.log.since(int(since)))

    async def read_stats(self, _: Request) -> Response:
        return _json(self._service.log.stats())

    async def reset_log(self, _: Request) -> Response:
        self._service.log.reset()
        return _json(self._service.log.stats())

    async def read_config(self, _: Request) -> Response:
        """The configuration, which can be posted back, the emulator's day, and the number of movies."""
        service = self._service
        config = {
            "rate": service.limit.rate,
            "capacity": service.limit.capacity,
            "latency_ms": service.latency_ms,
            "drift": service.drift.every,
            "faults": [str(fault) for fault in service.faults.faults],
            "clock_offset_s": service.clock.offset_s,
        }
        today, movies = service.clock.today().isoformat(), len(service.catalog)
        return _json({"config": config, "today": today, "movies": movies})

    async def change_config(self, request: Request) -> Response:
        """Change the keys that are given: null ends limit or drift; new faults replace all and begin now."""
        change = await ConfigChange.read(request)
        service, given = self._service, change.model_fields_set
        if "faults" in given:
            faults = [parse_fault(spec) for spec in change.faults]
            service.faults = FaultPlan(faults, service.seed, began_s=time.monotonic())
        if given & {"rate", "capacity"}:
            rate = change.rate if "rate" in given else service.limit.rate
            capacity = change.capacity if "capacity" in given else service.limit.capacity
            service.limit = RequestLimit(rate, capacity)
        if "latency_ms" in given:
            service.latency_ms = change.latency_ms
        if "drift" in given:
            service.drift.every = change.drift
        if "clock_offset_s" in given:
            service.clock.offset_s = change.clock_offset_s
        return await self.read_config(request)

    async def read_movies(self, _: Request) -> Response:
        return items_reply(self._service.catalog.movies())

    async def change_movies(self, request: Request) -> Response:
        """Upsert, move and delete as one change of the emulator's day, listed in /3/movie/changes."""
        change = await MoviesChange.read(request)
        service = self._service
        upserted = [to_movie(item, encode(item)) for item in change.upsert]
        upserted += [self._moved(move) for move in change.move]
        deleted = [self._known(movie_id).id for movie_id in change.delete]
        day = service.clock.today().isoformat()
        service.catalog.replace(upserted, deleted, day)
        counts = {"upserted": len(upserted), "deleted": len(deleted), "movies": len(service.catalog)}
        return _json({"day": day, **counts})

    def _moved(self, move: Move) -> Movie:
        item = json.loads(self._known(move.id).raw)
        item["release_date"] = move.release_date
        return to_movie(item, encode(item))

    def _known(self, movie_id: int) -> Movie:
        movie = self._service.catalog.get(movie_id)
        if movie is None:
            raise ValueError(f"there is no movie {movie_id}")
        return movie


async def _error_reply(_: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400)


def _json(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")
