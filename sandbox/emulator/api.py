"""TMDB's endpoints, answered from a catalogue: a request in, a reply out, no I/O."""

import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

from sandbox.emulator.catalog import GENRES, PAGE_SIZE, Catalog, Movie, Query
from sandbox.emulator.clock import EmulatorClock
from sandbox.emulator.replies import Reply, TmdbError, error_reply, json_reply, old_page_error
from sandbox.emulator.requests import ApiRequest, discover_query, read_day, search_query

#: TMDB answers higher pages with an error, whatever total_pages is (TMDB API reference, discover/movie).
LAST_PAGE = 500
#: Ids on a page of /3/movie/changes, and the longest range of days (TMDB API reference, changes/movie-list).
CHANGES_PAGE_SIZE = 100
CHANGES_DAYS = 14
#: Most parts in append_to_response (TMDB API reference, append-to-response).
APPENDED_PARTS = 20

_GENRES_REPLY = json_reply({"genres": [{"id": genre_id, "name": name} for genre_id, name in GENRES.items()]})
_CONFIGURATION_REPLY = json_reply(
    {
        "change_keys": ["adult", "general", "genres", "overview", "release_date", "title", "video"],
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
    """Answers GET requests as TMDB does; with `old_page_error` as it did from 2019 to 2022."""

    def __init__(self, catalog: Catalog, clock: EmulatorClock, *, old_page_error: bool = False) -> None:
        self._catalog = catalog
        self._clock = clock
        self._old_page_error = old_page_error
        self._endpoints: dict[str, Callable[[ApiRequest], Reply]] = {
            "details": self._details,
            "changes": self._changes,
            "genres": lambda _: _GENRES_REPLY,
            "configuration": lambda _: _CONFIGURATION_REPLY,
        }

    def answer(self, request: ApiRequest, *, shift: int = 0, stale: bool = False) -> Reply:
        """The reply or TMDB's error; unknown paths are 404, code 34.

        Pages after the first begin `shift` movies earlier, as when new movies enter a selection between two
        requests. A stale page is as it was before the latest change of the catalogue, as from a cache.
        """
        try:
            if request.kind in _PAGE_QUERIES:
                query = _PAGE_QUERIES[request.kind](request.params)
                catalog = self._catalog.old() if stale else self._catalog
                return self._movies_page(catalog.select(query), request.params, shift)
            endpoint = self._endpoints.get(request.kind)
            return endpoint(request) if endpoint else error_reply(34)
        except TmdbError as error:
            return error.reply

    def _movies_page(self, selection: Sequence[Movie], params: dict[str, str], shift: int) -> Reply:
        page = self._page_number(params)
        start = max(0, (page - 1) * PAGE_SIZE - shift)
        rows = b",".join([movie.raw for movie in selection[start : start + PAGE_SIZE]])
        body = b'{"page":%d,"results":[%b],"total_pages":%d,"total_results":%d}'
        return Reply(200, body % (page, rows, _pages(len(selection), PAGE_SIZE), len(selection)))

    def _details(self, request: ApiRequest) -> Reply:
        movie = self._catalog.get(int(request.path.rpartition("/")[2]))
        if movie is None:
            return error_reply(34)
        parts = [part for part in request.params.get("append_to_response", "").split(",") if part]
        if len(parts) > APPENDED_PARTS:
            return error_reply(27)
        details = _details_of(movie)
        details.update({part: _PARTS[part](movie) for part in parts if part in _PARTS})
        return json_reply(details)

    def _changes(self, request: ApiRequest) -> Reply:
        page = self._page_number(request.params)
        first, last = self._days(request.params)
        rows = self._catalog.changes(first.isoformat(), last.isoformat())
        shown = rows[(page - 1) * CHANGES_PAGE_SIZE : page * CHANGES_PAGE_SIZE]
        return json_reply(
            {
                "results": [row._asdict() for row in shown],
                "page": page,
                "total_pages": _pages(len(rows), CHANGES_PAGE_SIZE),
                "total_results": len(rows),
            }
        )

    def _page_number(self, params: dict[str, str]) -> int:
        """1 to 500; TmdbError for anything else."""
        try:
            page = int(params.get("page", "1"))
        except ValueError as error:
            raise TmdbError(error_reply(22)) from error
        if not 1 <= page <= LAST_PAGE:
            raise TmdbError(old_page_error(page) if self._old_page_error else error_reply(22))
        return page

    def _days(self, params: dict[str, str]) -> tuple[date, date]:
        """First and last day, by default yesterday and today; TmdbError for too long a range."""
        last = read_day(params["end_date"]) if params.get("end_date") else self._clock.today()
        first = read_day(params["start_date"]) if params.get("start_date") else last - timedelta(days=1)
        if not timedelta(0) <= last - first <= timedelta(days=CHANGES_DAYS):
            raise TmdbError(error_reply(20))
        return first, last


def _pages(rows: int, page_size: int) -> int:
    return max(1, -(-rows // page_size))


def _details_of(movie: Movie) -> dict[str, Any]:
    """The list item with genres by name and the fields of details; keys sorted, as recorded."""
    item: dict[str, Any] = json.loads(movie.raw)
    item.pop("genre_ids", None)
    item |= {
        "belongs_to_collection": None,
        "budget": int(movie.revenue) // 3,
        # Old items have ids of genres that TMDB has abandoned.
        "genres": [{"id": genre_id, "name": GENRES.get(genre_id, "Foreign")} for genre_id in movie.genre_ids],
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


#: The endpoints that answer with a page of movies: their parameters as a query.
_PAGE_QUERIES: dict[str, Callable[[dict[str, str]], Query]] = {
    "discover": discover_query,
    "popular": lambda _: Query(),
    "search": search_query,
}
#: The parts that append_to_response adds; others are ignored.
_PARTS = {"credits": _credits, "keywords": _keywords}
