"""TMDB's endpoints: the path, the query and the parser of each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Generic, TypeVar

from worker.keys import ANY_GENRE, PageKey, Window
from worker.records import Changes, Details, Page, Response
from worker.tmdb.responses import (
    parse_any_answer,
    parse_changes,
    parse_configuration,
    parse_details,
    parse_genre_names,
    parse_page,
)

T_co = TypeVar("T_co", covariant=True)

#: Mostly stable while movies are edited and added; popularity, the default, changes every minute.
SORT = "original_title.asc"


@dataclass(frozen=True)
class ApiRequest(Generic[T_co]):
    """One GET and the parser of its response; `parse` also takes the time of the request."""

    path: str
    query: Mapping[str, Any]
    parse: Callable[[Response, datetime], T_co]

    def probe(self) -> ApiRequest[None]:
        """The same request, only to see whether TMDB answers."""
        return ApiRequest(self.path, self.query, parse_any_answer(self.parse))


#: A request that succeeds with every valid key.
KEY_CHECK = ApiRequest("/configuration", {}, parse_configuration)


def discover(key: PageKey) -> ApiRequest[Page]:
    """A page of a cell's movies."""
    window = Window.parse(key.window)
    query: dict[str, Any] = {} if key.genre_id == ANY_GENRE else {"with_genres": key.genre_id}
    query |= {
        "primary_release_date.gte": window.first.isoformat(),
        "primary_release_date.lte": window.last.isoformat(),
        "sort_by": SORT,
        "page": key.page,
    }
    return ApiRequest("/discover/movie", query, parse_page(key.page))


def details(movie_id: int, append: Iterable[str]) -> ApiRequest[Details]:
    """One movie, with the parts appended."""
    parts = ",".join(append)
    query = {"append_to_response": parts} if parts else {}
    return ApiRequest(f"/movie/{movie_id}", query, parse_details(movie_id))


def changes(day: date, page: int) -> ApiRequest[Changes]:
    """A page of the ids that changed on the day (UTC)."""
    # Ends a day later: whether the last day is included is not documented.
    end = day + timedelta(days=1)
    query = {"start_date": day.isoformat(), "end_date": end.isoformat(), "page": page}
    return ApiRequest("/movie/changes", query, parse_changes(page))


def popular(page: int) -> ApiRequest[Page]:
    """A page of all movies, the most popular first."""
    return ApiRequest("/movie/popular", {"page": page}, parse_page(page))


def search(title: str, page: int) -> ApiRequest[Page]:
    """A page of the movies with a similar title."""
    return ApiRequest("/search/movie", {"query": title, "page": page}, parse_page(page))


def genres(number: int) -> ApiRequest[Any]:
    """For 0 the names by genre id, in English; for other numbers, a probe's, a page of movies."""
    return popular(number) if number else ApiRequest("/genre/movie/list", {}, parse_genre_names)
