"""Parses requests under /3: the endpoint, the key for the log, the query of movies."""

import re
from datetime import date
from typing import NamedTuple
from urllib.parse import parse_qsl

from sandbox.emulator.catalog import DEFAULT_SORT, DateRange, Query
from sandbox.emulator.replies import TmdbError, error_reply

#: Kinds in the log, by path; /3/movie/{id} is "details", unknown paths are "other".
KINDS: dict[str, str] = {
    "/3/configuration": "configuration",
    "/3/discover/movie": "discover",
    "/3/genre/movie/list": "genres",
    "/3/movie/changes": "changes",
    "/3/movie/popular": "popular",
    "/3/search/movie": "search",
}
#: The kinds that answer with a page of movies.
PAGE_KINDS = frozenset({"discover", "popular", "search"})
_DETAILS = re.compile(r"/3/movie/\d{1,18}")
_GENRE_ID = re.compile(r"\d{1,18}")
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class ApiRequest(NamedTuple):
    """A request under /3, its query decoded; of a repeated parameter the last value counts."""

    kind: str
    path: str
    params: dict[str, str]

    @property
    def key(self) -> str:
        """The key in the log: `18:1999:3` for a discover page, otherwise an id, or a text and a page."""
        params, page = self.params, self.params.get("page", "1")
        if self.kind == "discover":
            return f"{params.get('with_genres', '')}:{self._window()}{self._narrowed()}:{page}"
        if self.kind == "details":
            return self.path.rpartition("/")[2]
        if self.kind == "changes":
            return f"{params.get('start_date', '')}/{params.get('end_date', '')}:{page}"
        if self.kind == "search":
            return f"{params.get('query', '')}:{page}"
        return page if self.kind == "popular" else self.path

    def _window(self) -> str:
        first = self.params.get("primary_release_date.gte", "")
        last = self.params.get("primary_release_date.lte", "")
        return f"{first}/{last}" if first or last else self.params.get("primary_release_year", "")

    def _narrowed(self) -> str:
        """The language, and `desc` for a descending order."""
        language = self.params.get("with_original_language", "")
        return (f",{language}" if language else "") + ",desc" * self.params.get("sort_by", "").endswith(
            ".desc"
        )


def read_request(path: str, query_string: bytes) -> ApiRequest:
    """Parse a request; bytes that cannot be decoded are replaced."""
    kind = KINDS.get(path) or ("details" if _DETAILS.fullmatch(path) else "other")
    return ApiRequest(kind, path, dict(parse_qsl(query_string.decode("latin-1"), errors="replace")))


def discover_query(params: dict[str, str]) -> Query:
    """The query of /3/discover/movie; unknown filters are ignored. TmdbError for a malformed date."""
    return Query(
        genres=_genre_groups(params.get("with_genres", "")),
        primary=_date_range(params, "primary_release_year", "primary_release_date"),
        released=_date_range(params, "year", "release_date"),
        languages=frozenset(filter(None, params.get("with_original_language", "").split("|"))),
        sort_by=params.get("sort_by", DEFAULT_SORT),
    )


def search_query(params: dict[str, str]) -> Query:
    """The query of /3/search/movie; TmdbError 5 without `query`."""
    if not params.get("query", "").strip():
        raise TmdbError(error_reply(5))
    return Query(
        title=params["query"].strip(),
        primary=_date_range(params, "primary_release_year", None),
        released=_date_range(params, "year", None),
    )


def read_day(text: str) -> date:
    """The day in YYYY-MM-DD; TmdbError 23 for anything else."""
    if not _ISO_DAY.fullmatch(text):
        raise TmdbError(error_reply(23))
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise TmdbError(error_reply(23)) from error


def _genre_groups(text: str) -> tuple[frozenset[int], ...]:
    """`18,35` is AND, `18|35` is OR (TMDB API reference, discover/movie); anything but an id is ignored."""
    groups = (
        frozenset(int(word) for word in group.split("|") if _GENRE_ID.fullmatch(word.strip()))
        for group in text.split(",")
    )
    return tuple(sorted((group for group in groups if group), key=sorted))


def _date_range(params: dict[str, str], year_filter: str, date_filter: str | None) -> DateRange | None:
    """The overlap of a year and a pair of dates; None when neither is given."""
    firsts, lasts = [], []
    if (year := params.get(year_filter, "")).isdecimal():
        firsts.append(f"{year:0>4}-01-01")
        lasts.append(f"{year:0>4}-12-31")
    if date_filter and (first := params.get(f"{date_filter}.gte")):
        firsts.append(read_day(first).isoformat())
    if date_filter and (last := params.get(f"{date_filter}.lte")):
        lasts.append(read_day(last).isoformat())
    if not firsts and not lasts:
        return None
    return DateRange(max(firsts, default=DateRange().first), min(lasts, default=DateRange().last))
