"""The endpoints of TMDB that Reelhaul knows, answered from a catalogue. No I/O: a request in, a reply out."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

from sandbox.catalog import PAGE_SIZE, Catalog, Movie, Query
from sandbox.emulator_clock import EmulatorClock
from sandbox.emulator_items import encode
from sandbox.emulator_replies import Reply, TmdbError, error_reply, json_reply, old_page_error
from sandbox.emulator_requests import ApiRequest, discover_query, read_day, search_query
from sandbox.emulator_synthetic import GENRES

#: Pages above it are refused, however many total_pages says there are (TMDB API reference, discover/movie).
LAST_PAGE = 500
#: Ids a page of /3/movie/changes, and the longest range of days (TMDB API reference, changes/movie-list).
CHANGES_PAGE_SIZE = 100
CHANGES_DAYS = 14
#: Parts that append_to_response may name (TMDB API reference, append-to-response).
APPENDED_PARTS = 20

_GENRES_REPLY = json_reply(
    {"genres": [{"id": genre_id, "name": name} for genre_id, (name, _) in GENRES.items()]}
)
_CONFIGURATION_REPLY = json_reply(
    {
        "change_keys": [
            "adult",
            "general",
            "genres",
            "original_title",
            "overview",
            "release_date",
            "title",
            "video",
        ],
        "images": {
            "base_url": "http://image.tmdb.org/t/p/",
            "secure_base_url": "https://image.tmdb.org/t/p/",
            "backdrop_sizes": ["w300", "w780", "w1280", "original"],
            "logo_sizes": ["w45", "w92", "w154", "w185", "w300", "w500", "original"],
            "poster_sizes": ["w92", "w154", "w185", "w342", "w500", "w780", "original"],
            "profile_sizes": ["w45", "w185", "h632", "original"],
            "still_sizes": ["w92", "w185", "w300", "original"],
        },
    }
)


class TmdbApi:
    """Answers GET requests as TMDB does; `old_page_error` chooses the refusal of 2019 to 2022 for pages above 500."""

    def __init__(self, catalog: Catalog, clock: EmulatorClock, *, old_page_error: bool = False) -> None:
        self._catalog = catalog
        self._clock = clock
        self._old_page_error = old_page_error

    def answer(self, request: ApiRequest) -> Reply:
        """The reply, errors included; what TMDB does not have is 404, code 34."""
        try:
            match request.kind:
                case "discover":
                    return self._movies_page(discover_query(request.params), request.params)
                case "popular":
                    return self._movies_page(Query(), request.params)
                case "search":
                    return self._movies_page(search_query(request.params), request.params)
                case "details":
                    return self._details(int(request.path.rpartition("/")[2]), request.params)
                case "changes":
                    return self._changes(request.params)
                case "genres":
                    return _GENRES_REPLY
                case "configuration":
                    return _CONFIGURATION_REPLY
            return error_reply(34)
        except TmdbError as error:
            return error.reply

    def _movies_page(self, query: Query, params: dict[str, str]) -> Reply:
        page = _page_number(params)
        if not 1 <= page <= LAST_PAGE:
            return old_page_error(page) if self._old_page_error else error_reply(22)
        selection = self._catalog.select(query)
        rows = b",".join([movie.raw for movie in selection[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]])
        total_pages = max(1, -(-len(selection) // PAGE_SIZE))
        body = b'{"page":%d,"results":[%b],"total_pages":%d,"total_results":%d}'
        return Reply(200, body % (page, rows, total_pages, len(selection)))

    def _details(self, movie_id: int, params: dict[str, str]) -> Reply:
        movie = self._catalog.get(movie_id)
        if movie is None:
            return error_reply(34)
        parts = [part for part in params.get("append_to_response", "").split(",") if part]
        if len(parts) > APPENDED_PARTS:
            return error_reply(27)
        details = _details_of(movie)
        details.update({part: _PARTS[part](movie) for part in parts if part in _PARTS})
        return Reply(200, encode(details))

    def _changes(self, params: dict[str, str]) -> Reply:
        page = _page_number(params)
        if not 1 <= page <= LAST_PAGE:
            return old_page_error(page) if self._old_page_error else error_reply(22)
        first, last = self._days(params)
        rows = self._catalog.changes(first.isoformat(), last.isoformat())
        shown = rows[(page - 1) * CHANGES_PAGE_SIZE : page * CHANGES_PAGE_SIZE]
        return json_reply(
            {
                "results": [row._asdict() for row in shown],
                "page": page,
                "total_pages": max(1, -(-len(rows) // CHANGES_PAGE_SIZE)),
                "total_results": len(rows),
            }
        )

    def _days(self, params: dict[str, str]) -> tuple[date, date]:
        """The days asked for, by default yesterday and today. Raises TmdbError 20 for too long or reversed a range."""
        last = read_day(params["end_date"]) if params.get("end_date") else self._clock.today()
        first = read_day(params["start_date"]) if params.get("start_date") else last - timedelta(days=1)
        if not timedelta(0) <= last - first <= timedelta(days=CHANGES_DAYS):
            raise TmdbError(20)
        return first, last


def _page_number(params: dict[str, str]) -> int:
    """Raises TmdbError 22 when `page` is no integer."""
    try:
        return int(params.get("page", "1"))
    except ValueError as error:
        raise TmdbError(22) from error


def _details_of(movie: Movie) -> dict[str, Any]:
    """The list item with genres by name and the fields that only details have; keys sorted, as recorded."""
    item: dict[str, Any] = json.loads(movie.raw)
    item.pop("genre_ids", None)
    item |= {
        "belongs_to_collection": None,
        "budget": int(movie.revenue) // 3,
        "genres": [
            {"id": genre_id, "name": GENRES[genre_id][0]}
            for genre_id in movie.genre_ids
            if genre_id in GENRES
        ],
        "homepage": "",
        "imdb_id": f"tt{movie.id:07d}",
        "origin_country": ["US"],
        "production_companies": [],
        "production_countries": [{"iso_3166_1": "US", "name": "United States of America"}],
        "revenue": int(movie.revenue),
        "runtime": 60 + movie.id % 90,
        "spoken_languages": [{"english_name": "English", "iso_639_1": "en", "name": "English"}],
        "status": "Released",
        "tagline": "",
    }
    return dict(sorted(item.items()))


def _credits(movie: Movie) -> dict[str, Any]:
    people = [movie.id * 3 + number for number in range(3)]
    cast = [
        {"id": person, "name": f"Actor {person}", "character": f"Role {order}", "order": order}
        for order, person in enumerate(people[:2])
    ]
    return {"cast": cast, "crew": [{"id": people[2], "name": f"Director {people[2]}", "job": "Director"}]}


def _keywords(movie: Movie) -> dict[str, Any]:
    return {"keywords": [{"id": genre_id, "name": f"keyword {genre_id}"} for genre_id in movie.genre_ids]}


#: The parts that append_to_response adds; others are ignored.
_PARTS = {"credits": _credits, "keywords": _keywords}
