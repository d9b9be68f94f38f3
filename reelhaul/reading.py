"""Stored movies as Arrow record batches and tables."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any

import pyarrow as pa

from reelhaul.errors import InvalidArgument, NothingStored, StaleData
from reelhaul.fetching import fetch as fetch_missing
from reelhaul.freshness import limits, measure
from reelhaul.schema import Layout
from reelhaul.source import Source, checked_years, moment, translated
from worker.durations import format_duration
from worker.keys import MAX_PAGE, PAGE_SIZE
from worker.storage.selection import ALL, IDS, POPULAR_PAGES, Selection, popular_ids

Genres = str | int | Iterable[str | int] | None
Years = int | Iterable[int] | None
Columns = Iterable[str] | None

#: Movies in a record batch: about 4 MB of list items, and four times that as Python's objects.
BATCH = 4_096
#: Details in a record batch: with all parts, one may take 100 kB.
DETAILS_BATCH = 256


def movies(  # noqa: PLR0913 -- all but the first are optional
    url: str,
    genres: Genres = None,
    years: Years = None,
    columns: Columns = None,
    since: datetime | date | str | None = None,
    *,
    details: bool = False,
    max_age: str | timedelta | None = None,
    fetch: bool = False,
    raw: bool = False,
) -> pa.Table:
    """The stored movies of any of the genres (names or ids) and of the years of first release, by id.

    ::

        drama = reelhaul.movies("mongodb://127.0.0.1/reelhaul", genres=["Drama"], years=range(1990, 2027))
        drama.to_pandas()
        polars.from_arrow(drama)
        duckdb.sql("SELECT year(release_date), avg(vote_average) FROM drama GROUP BY ALL")

    `columns`: names, in your order; all without it. `since`: only movies that were requested from TMDB
    since then: a date, a datetime, or either in ISO 8601. `details`: whole documents, as `reelhaul details`
    fetched them, instead of list items. `raw`: one more column, the fields that have none, as JSON. Movies
    that TMDB no longer has are left out.

    `max_age` ("7d"): raise StaleData when pages of these genres and years (without both: of all that was
    requested) are missing or older. `fetch`: fetch those first, which needs the extra `fleet`, running
    workers and the fleet's settings.

    Raises UnknownGenre, UnknownColumn and other kinds of InvalidArgument, NothingStored, StaleData,
    FetchFailed, Unavailable.
    """
    reading = _Reading(
        url, genres, years, columns, since, details=details, max_age=max_age, fetch=fetch, raw=raw
    )
    return _table(reading)


def iter_movies(  # noqa: PLR0913 -- as movies
    url: str,
    genres: Genres = None,
    years: Years = None,
    columns: Columns = None,
    since: datetime | date | str | None = None,
    *,
    details: bool = False,
    max_age: str | timedelta | None = None,
    fetch: bool = False,
    raw: bool = False,
) -> Iterator[pa.RecordBatch]:
    """What `movies` returns, in record batches, for what does not fit into memory.

    Arguments are checked at once, not when the first batch is read.
    """
    reading = _Reading(
        url, genres, years, columns, since, details=details, max_age=max_age, fetch=fetch, raw=raw
    )
    return iter(reading)


def details(  # noqa: PLR0913 -- as movies
    url: str,
    genres: Genres = None,
    years: Years = None,
    columns: Columns = None,
    since: datetime | date | str | None = None,
    *,
    raw: bool = False,
) -> pa.Table:
    """The stored details, by id: `movies` with `details=True`.

    Nested parts are lists of structs: `cast`, `crew`, `keywords`, `production_companies`, ... A part that was
    not requested (`reelhaul details --append credits,keywords`) is null.
    """
    return movies(url, genres, years, columns, since, details=True, raw=raw)


def popular(
    url: str, top: int = 1000, columns: Columns = None, *, details: bool = False, raw: bool = False
) -> pa.Table:
    """The most popular movies as `reelhaul popular` fetched them, in order of `rank`, the first column.

    A movie that stands on two pages counts once, at its better rank. Movies that TMDB no longer has are left
    out. Warns (UserWarning) when the stored pages hold fewer than `top`. Raises as `movies` does.
    """
    reading = _Popular(url, top, columns, details=details, raw=raw)
    if reading.known < top:
        pages = min(MAX_PAGE, -(-top // PAGE_SIZE) + 1)  # a movie may stand on two pages
        warnings.warn(
            f"the stored pages name {reading.known:,} of the {top:,} most popular movies: "
            f"`reelhaul popular --pages {pages}`",
            stacklevel=2,
        )
    return _table(reading)


def iter_popular(
    url: str, top: int = 1000, columns: Columns = None, *, details: bool = False, raw: bool = False
) -> Iterator[pa.RecordBatch]:
    """What `popular` returns, in record batches."""
    return iter(_Popular(url, top, columns, details=details, raw=raw))


class _Reading:
    """A checked request for movies or details; iterating reads them and ends its connection."""

    def __init__(  # noqa: PLR0913 -- as movies
        self,
        url: str,
        genres: Genres,
        years: Years,
        columns: Columns,
        since: datetime | date | str | None,
        *,
        details: bool,
        max_age: str | timedelta | None,
        fetch: bool,
        raw: bool,
    ) -> None:
        wanted_years, since, age = checked_years(years), moment(since), limits(max_age)
        if genres is not None and not isinstance(genres, str | int):
            genres = list(genres)
        if columns is not None:
            columns = [columns] if isinstance(columns, str) else list(columns)
        Layout(columns, details=details, raw=raw)  # before anything is fetched
        if fetch:
            fetch_missing(url, genres, wanted_years, None if max_age is None else format_duration(age))
        with ExitStack() as stack:
            source = stack.enter_context(Source(url))
            genre_ids = source.genre_ids(genres)
            if max_age is not None or fetch:
                _require_fresh(source, genre_ids, wanted_years, age)
            hint = "`reelhaul details --help`" if details else "`reelhaul backfill --help`"
            source.require_any(_collection(details=details), hint)
            self.layout = Layout(columns, details=details, raw=raw, names=source.genre_names)
            self._selection = Selection(genre_ids, wanted_years, since)
            self._stack = stack.pop_all()
        self._source, self._details = source, details

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with self._stack, translated():
            if self._selection.is_filter and not self._details:
                self._source.create_index()
            found = self._source.database[_collection(details=self._details)].find(
                self._selection.query(details=self._details), self.layout.projection
            )
            size = _batch_size(details=self._details)
            # Without batch_size, a server sends 16 MB at a time.
            documents = found.sort("_id", 1).allow_disk_use(True).batch_size(size)
            while batch := list(islice(documents, size)):
                yield self.layout.batch(batch)


class _Popular:
    """A checked request for the most popular movies."""

    def __init__(self, url: str, top: int, columns: Columns, *, details: bool, raw: bool) -> None:
        if type(top) is not int or top < 1:
            raise InvalidArgument(f"top: expected a number from 1, got {top!r:.60}")
        chosen = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
        Layout(chosen, details=details, raw=raw, ranked=True)
        with ExitStack() as stack:
            source = stack.enter_context(Source(url))
            with translated():
                records = source.database["pages"].find(POPULAR_PAGES, {"movie_ids": 1})
                self._ids = popular_ids(records)[:top]
            if not self._ids:
                raise NothingStored("the list of popular movies is not stored yet: `reelhaul popular`")
            #: Movies on the stored pages, `top` at most.
            self.known = len(self._ids)
            self.layout = Layout(chosen, details=details, raw=raw, ranked=True, names=source.genre_names)
            self._stack = stack.pop_all()
        self._source, self._details = source, details

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with self._stack, translated():
            for first in range(0, len(self._ids), IDS):
                documents = self._ranked(first, self._ids[first : first + IDS])
                if documents:
                    yield self.layout.batch(documents)

    def _ranked(self, first: int, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Those that are stored and not gone, each with its `rank`."""
        query = {**ALL.query(), "_id": {"$in": list(ids)}}
        stored = self._source.database[_collection(details=self._details)]
        found = {movie["_id"]: movie for movie in stored.find(query, self.layout.projection)}
        ranks = enumerate(ids, start=first + 1)
        return [{**found[id_], "rank": rank} for rank, id_ in ranks if id_ in found]


def _require_fresh(
    source: Source, genre_ids: tuple[int, ...] | None, years: tuple[int, ...] | None, max_age: timedelta
) -> None:
    found = measure(source, genre_ids, years, max_age)
    if found.stale:
        raise StaleData(found.stale, found.takes_s, max_age)


def _table(reading: _Reading | _Popular) -> pa.Table:
    return pa.Table.from_batches(list(reading), reading.layout.schema)


def _collection(*, details: bool) -> str:
    return "details" if details else "movies"


def _batch_size(*, details: bool) -> int:
    return DETAILS_BATCH if details else BATCH
