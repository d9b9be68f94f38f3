"""TMDB's endpoints: the path, the query and the parser of each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from worker.keys import ANY_GENRE, ChangesKey, MovieKey, PageKey, PopularKey, TotalsKey
from worker.records import Details, Page, Response
from worker.tmdb.responses import (
    parse_any_answer,
    parse_changes,
    parse_configuration,
    parse_details,
    parse_genre_names,
    parse_page,
)
from worker.windows import Window

T_co = TypeVar("T_co", covariant=True)

#: Mostly stable while movies are edited and added; popularity, the default, changes every minute.
SORT, SORT_FROM_END = "original_title.asc", "original_title.desc"


@dataclass(frozen=True)
class ApiRequest(Generic[T_co]):
    """One GET and the parser of its response; `parse` also takes the time of the request."""

    #: For metrics.
    kind: str
    path: str
    query: Mapping[str, Any]
    parse: Callable[[Response, datetime], T_co]

    def probe(self) -> ApiRequest[None]:
        """The same request, only to see whether TMDB answers."""
        return ApiRequest(self.kind, self.path, self.query, parse_any_answer(self.parse))


#: A request that succeeds with every valid key.
KEY_CHECK = ApiRequest("configuration", "/configuration", {}, parse_configuration)


def discover(key: PageKey) -> ApiRequest[Page]:
    """A page of a cell's movies."""
    return ApiRequest("page", "/discover/movie", _discover_query(key), parse_page(key.page))


def totals(key: TotalsKey) -> ApiRequest[Page]:
    """Page 1 of a cell."""
    return replace(discover(key.cell.page(1)), kind="totals")


def popular(key: PopularKey) -> ApiRequest[Page]:
    """A page of all movies, the most popular first."""
    return ApiRequest("popular", "/movie/popular", {"page": key.page}, parse_page(key.page))


def changes(key: ChangesKey) -> ApiRequest[Page]:
    """A page of the ids that changed on the day (UTC)."""
    # Ends a day later: whether the last day is included is not documented.
    end = key.changed_on + timedelta(days=1)
    query = {"start_date": key.day, "end_date": end.isoformat(), "page": key.page}
    return ApiRequest("changes", "/movie/changes", query, parse_changes(key.page))


def details(key: MovieKey, append: Iterable[str] = ()) -> ApiRequest[Details]:
    """One movie, with the parts appended."""
    parts = tuple(append)
    query = {"append_to_response": ",".join(parts)} if parts else {}
    return ApiRequest("movie", f"/movie/{key.movie_id}", query, parse_details(key.movie_id, parts))


def search(title: str, page: int) -> ApiRequest[Page]:
    """A page of the movies with a similar title."""
    return ApiRequest("search", "/search/movie", {"query": title, "page": page}, parse_page(page))


def genres() -> ApiRequest[dict[int, str]]:
    """The names by genre id, in English."""
    return ApiRequest("genres", "/genre/movie/list", {}, parse_genre_names)


def _discover_query(key: PageKey) -> dict[str, Any]:
    window = Window.parse(key.window)
    query: dict[str, Any] = {} if key.genre_id == ANY_GENRE else {"with_genres": key.genre_id}
    if window.language:
        query["with_original_language"] = window.language
    return query | {
        "primary_release_date.gte": window.first.isoformat(),
        "primary_release_date.lte": window.last.isoformat(),
        "sort_by": SORT_FROM_END if window.descending else SORT,
        "page": key.page,
    }
