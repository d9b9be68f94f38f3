"""The emulator's movies: what discover selects, in which order, and what has changed on which day.

A movie is kept as the exact bytes of its list item plus the few fields that queries look at, so that a page
is a join of bytes and never a re-encoding.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

#: The 19 movie genres, in TMDB's order (TMDB API reference, genre/movie/list).
GENRES: dict[int, str] = {
    28: "Action",
    12: "Adventure",
    16: "Animation",
    35: "Comedy",
    80: "Crime",
    99: "Documentary",
    18: "Drama",
    10751: "Family",
    14: "Fantasy",
    36: "History",
    27: "Horror",
    10402: "Music",
    9648: "Mystery",
    10749: "Romance",
    878: "Science Fiction",
    10770: "TV Movie",
    53: "Thriller",
    10752: "War",
    37: "Western",
}
#: Movies a page, fixed by TMDB (TMDB API reference, discover/movie).
PAGE_SIZE = 20
#: The order of a query that names none, or one that TMDB does not know (TMDB API reference, discover/movie).
DEFAULT_SORT = "popularity.desc"
#: At most so many references to movies stay in sorted lists: 80 MB of pointers.
CACHED_REFERENCES = 10_000_000


class Movie(NamedTuple):
    """One list item: its bytes as they are served, and the fields by which it is selected and sorted."""

    id: int
    raw: bytes
    genre_ids: tuple[int, ...]
    release_date: str
    title: str
    original_title: str
    popularity: float
    vote_average: float
    vote_count: float
    revenue: float
    adult: bool | None

    @property
    def release_dates(self) -> tuple[str, ...]:
        """The primary date first, then re-releases: every tenth id came out again a year later.

        TMDB's `year` looks at every release date and so puts one movie into several years; a client that
        partitions by it must see that here too.
        """
        if self.id % 10 or not self.release_date[:4].isdigit():
            return (self.release_date,)
        return (self.release_date, f"{int(self.release_date[:4]) + 1:04d}{self.release_date[4:]}")


class DateRange(NamedTuple):
    """Days from first to last, both included, ISO 8601. The empty date is in no range."""

    first: str = "0"
    last: str = "9"

    def has(self, day: str) -> bool:
        return self.first <= day <= self.last


class Query(NamedTuple):
    """What to select: `genres` is an AND of ORs; None and "" mean no such condition."""

    genres: tuple[frozenset[int], ...] = ()
    primary: DateRange | None = None
    released: DateRange | None = None
    title: str = ""
    sort_by: str = DEFAULT_SORT


class ChangedMovie(NamedTuple):
    """A row of /3/movie/changes: `adult` is None for a movie that is gone, and for some that are not."""

    id: int
    adult: bool | None


#: sort_by's words (TMDB API reference, discover/movie) and the field each one reads.
SORT_FIELDS: dict[str, Callable[[Movie], Any]] = {
    "original_title": lambda movie: movie.original_title,
    "popularity": lambda movie: movie.popularity,
    "revenue": lambda movie: movie.revenue,
    "primary_release_date": lambda movie: movie.release_date,
    "title": lambda movie: movie.title,
    "vote_average": lambda movie: movie.vote_average,
    "vote_count": lambda movie: movie.vote_count,
}


class Catalog:
    """All movies, by genre and primary date; every selection is sorted once and kept until a change."""

    def __init__(self, movies: Iterable[Movie]) -> None:
        self._movies = {movie.id: movie for movie in movies}
        #: None: all movies; else the genre's; each list by (release_date, id), so that a range is a slice.
        self._by_date: dict[int | None, list[Movie]] = {}
        self._selections: OrderedDict[Query, Sequence[Movie]] = OrderedDict()
        self._references = 0
        #: ISO date to the ids changed that day, in order of their last change.
        self._changed: dict[str, dict[int, None]] = {}
        self._rebuild()

    def __len__(self) -> int:
        return len(self._movies)

    def get(self, movie_id: int) -> Movie | None:
        """The movie, or None when TMDB would answer 404."""
        return self._movies.get(movie_id)

    def movies(self) -> list[Movie]:
        """All movies as they are now, in the order of the file."""
        return list(self._movies.values())

    def select(self, query: Query) -> Sequence[Movie]:
        """The movies that match, sorted; ties by id, so that pages partition the selection."""
        selection = self._selections.get(query)
        if selection is not None:
            self._selections.move_to_end(query)
            return selection
        selection = sort_movies(self._matching(query), query.sort_by)
        self._selections[query] = selection
        self._references += len(selection)
        while self._references > CACHED_REFERENCES and len(self._selections) > 1:
            _, oldest = self._selections.popitem(last=False)
            self._references -= len(oldest)
        return selection

    def replace(self, upserted: Iterable[Movie], deleted: Iterable[int], day: str) -> None:
        """Put movies in and take ids out, as one change of that day (ISO 8601). Unknown ids are ignored."""
        changed = self._changed.setdefault(day, {})
        for movie in upserted:
            self._movies[movie.id] = movie
            changed.pop(movie.id, None)
            changed[movie.id] = None
        for movie_id in deleted:
            if self._movies.pop(movie_id, None) is not None:
                changed.pop(movie_id, None)
                changed[movie_id] = None
        self._rebuild()

    def changes(self, first: str, last: str) -> list[ChangedMovie]:
        """Ids changed on the days first to last, both included, newest change first, each id once."""
        ids: dict[int, None] = {}
        for day in sorted((day for day in self._changed if first <= day <= last), reverse=True):
            ids.update(dict.fromkeys(reversed(self._changed[day])))
        return [
            ChangedMovie(movie_id, movie.adult if (movie := self.get(movie_id)) else None) for movie_id in ids
        ]

    def _rebuild(self) -> None:
        by_date = sorted(self._movies.values(), key=attrgetter("release_date", "id"))
        self._by_date = {None: by_date}
        for movie in by_date:
            for genre_id in dict.fromkeys(movie.genre_ids):
                self._by_date.setdefault(genre_id, []).append(movie)
        self._selections.clear()
        self._references = 0

    def _matching(self, query: Query) -> list[Movie]:
        narrow = [group for group in query.genres if len(group) == 1]
        start = min((next(iter(group)) for group in narrow), key=self._count, default=None)
        found = self._by_date.get(start, [])
        if query.primary is not None:
            low = bisect_left(found, query.primary.first, key=attrgetter("release_date"))
            found = found[low : bisect_right(found, query.primary.last, key=attrgetter("release_date"))]
        for group in query.genres:
            found = [movie for movie in found if not group.isdisjoint(movie.genre_ids)]
        if (released := query.released) is not None:
            found = [movie for movie in found if any(released.has(day) for day in movie.release_dates)]
        if query.title:
            found = [movie for movie in found if has_title(movie, query.title)]
        return found

    def _count(self, genre_id: int) -> int:
        return len(self._by_date.get(genre_id, ()))


def has_title(movie: Movie, words: str) -> bool:
    """Whether the title or the original title holds the words, whatever their case."""
    wanted = words.casefold()
    return wanted in movie.title.casefold() or wanted in movie.original_title.casefold()


def sort_movies(movies: Iterable[Movie], sort_by: str) -> list[Movie]:
    """Sorted by `field.asc` or `field.desc`, equals by ascending id; an unknown order means DEFAULT_SORT."""
    field, _, direction = sort_by.partition(".")
    if field not in SORT_FIELDS or direction not in ("asc", "desc"):
        return sort_movies(movies, DEFAULT_SORT)
    by_id = sorted(movies, key=attrgetter("id"))
    # list.sort is stable in both directions, so the ids stay ascending among equals.
    by_id.sort(key=SORT_FIELDS[field], reverse=direction == "desc")
    return by_id
