"""The control plane: what tests read and change while the emulator serves; outside /3, without a key."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sandbox.emulator.app import Service
from sandbox.emulator.catalog import Movie
from sandbox.emulator.faults import FaultPlan, parse_fault
from sandbox.emulator.items import encode, to_movie
from sandbox.emulator.limit import RequestLimit

#: Movies in one chunk of the catalogue's stream.
_CHUNK = 500


class _Change(BaseModel):
    """A JSON object in which every key is optional and none is unknown."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ConfigChange(_Change):
    """Body of POST /_emulator/config; what is left out stays as it is."""

    rate: PositiveFloat | None = None
    capacity: Annotated[float, Field(ge=1)] | None = None
    latency_ms: NonNegativeFloat = 0.0
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


AnyChange = TypeVar("AnyChange", bound=_Change)


class ControlPlane:
    """Handlers over one Service; `app()` is the ASGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def app(self) -> Starlette:
        """The routes under /_emulator; what makes no sense is 400 `{"error": ...}` and changes nothing."""
        return Starlette(
            routes=[
                Route("/_emulator/log", self.read_log, methods=["GET"]),
                Route("/_emulator/stats", self.read_stats, methods=["GET"]),
                Route("/_emulator/reset", self.reset_log, methods=["POST"]),
                Route("/_emulator/config", self.read_config, methods=["GET"]),
                Route("/_emulator/config", self.change_config, methods=["POST"]),
                Route("/_emulator/movies", self.read_movies, methods=["GET"]),
                Route("/_emulator/movies", self.change_movies, methods=["POST"]),
            ],
            exception_handlers={ValueError: _say_error},
        )

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
        """What is in force, in the form in which it can be posted back, and the day and size it leads to."""
        service = self._service
        config = {
            "rate": service.limit.rate,
            "capacity": service.limit.capacity,
            "latency_ms": service.latency_ms,
            "faults": [str(fault) for fault in service.faults.faults],
            "clock_offset_s": service.clock.offset_s,
        }
        return _json(
            {"config": config, "today": service.clock.today().isoformat(), "movies": len(service.catalog)}
        )

    async def change_config(self, request: Request) -> Response:
        """Change the keys that are given: null lifts the limit; new faults replace all and begin now."""
        change = await _read_change(request, ConfigChange)
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
        if "clock_offset_s" in given:
            service.clock.offset_s = change.clock_offset_s
        return await self.read_config(request)

    async def read_movies(self, _: Request) -> Response:
        """The whole catalogue as it is now, as JSON Lines of list items."""
        return StreamingResponse(
            _json_lines(self._service.catalog.movies()), media_type="application/x-ndjson"
        )

    async def change_movies(self, request: Request) -> Response:
        """Upsert, move and delete as one change of the emulator's day, for /3/movie/changes to report."""
        change = await _read_change(request, MoviesChange)
        service = self._service
        upserted = [to_movie(item, encode(item)) for item in change.upsert]
        upserted += [self._moved(move) for move in change.move]
        deleted = [self._known(movie_id).id for movie_id in change.delete]
        day = service.clock.today().isoformat()
        service.catalog.replace(upserted, deleted, day)
        return _json(
            {"day": day, "upserted": len(upserted), "deleted": len(deleted), "movies": len(service.catalog)}
        )

    def _moved(self, move: Move) -> Movie:
        item = json.loads(self._known(move.id).raw)
        item["release_date"] = move.release_date
        return to_movie(item, encode(item))

    def _known(self, movie_id: int) -> Movie:
        movie = self._service.catalog.get(movie_id)
        if movie is None:
            raise ValueError(f"there is no movie {movie_id}")
        return movie


async def _read_change(request: Request, form: type[AnyChange]) -> AnyChange:
    """The body as `form`. Raises ValueError that names the first key at fault."""
    # Not model_validate_json: that refuses lone surrogates, which TMDB's bodies may hold.
    content = json.loads(await request.body())
    try:
        return form.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from error


async def _say_error(_: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400)


def _json_lines(movies: Sequence[Movie]) -> Iterator[bytes]:
    for start in range(0, len(movies), _CHUNK):
        yield b"".join(movie.raw + b"\n" for movie in movies[start : start + _CHUNK])


def _json(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")
