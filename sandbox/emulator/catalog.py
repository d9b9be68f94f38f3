"""The emulator's movies: selected, sorted, and their changes by day.

A movie is kept as the exact bytes of its list item, beside the fields that queries use: a page joins bytes
and encodes nothing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

#: The 19 movie genres, in TMDB's order (TMDB API reference, genre/movie/list).
GENRES: dict[int, str] = {
    28: "Action", 12: "Adventure", 16: "Animation", 35: "Comedy", 80: "Crime", 99: "Documentary", 18: "Drama",
    10751: "Family", 14: "Fantasy", 36: "History", 27: "Horror", 10402: "Music", 9648: "Mystery",
    10749: "Romance", 878: "Science Fiction", 10770: "TV Movie", 53: "Thriller", 10752: "War", 37: "Western",
}  # fmt: skip
#: Movies on a page (TMDB API reference, discover/movie).
PAGE_SIZE = 20
#: The order without sort_by, or with an unknown one (TMDB API reference, discover/movie).
DEFAULT_SORT = "popularity.desc"
#: Most references to movies in the sorted lists that are kept: 80 MB of pointers.
CACHED_REFERENCES = 10_000_000


class Movie(NamedTuple):
    """One list item: its bytes, and the fields by which it is selected and sorted."""

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
    original_language: str = ""

    @property
    def release_dates(self) -> tuple[str, ...]:
        """The primary date, and for every tenth id a second one a year later.

        TMDB's `year` matches every release date, so that one movie is in several years: clients that
        partition by it must meet that here too.
        """
        if self.id % 10 or not self.release_date[:4].isdigit():
            return (self.release_date,)
        return (self.release_date, f"{int(self.release_date[:4]) + 1:04d}{self.release_date[4:]}")


class DateRange(NamedTuple):
    """Days from first to last inclusive, ISO 8601; the empty date is in no range."""

    first: str = "0"
    last: str = "9"

    def has(self, day: str) -> bool:
        return self.first <= day <= self.last


class Query(NamedTuple):
    """A selection of movies: `genres` is an AND of ORs; None and "" are no condition."""

    genres: tuple[frozenset[int], ...] = ()
    primary: DateRange | None = None
    released: DateRange | None = None
    title: str = ""
    #: Any of these; empty: no condition.
    languages: frozenset[str] = frozenset()
    sort_by: str = DEFAULT_SORT


class ChangedMovie(NamedTuple):
    """A row of /3/movie/changes: `adult` is None for deleted movies, and for a few others."""

    id: int
    adult: bool | None


#: The values of sort_by (TMDB API reference, discover/movie), and the field of each.
SORT_FIELDS: dict[str, Callable[[Movie], Any]] = {
    "primary_release_date": attrgetter("release_date"),
    **{
        name: attrgetter(name)
        for name in ("original_title", "popularity", "revenue", "title", "vote_average", "vote_count")
    },
}


class Catalog:
    """All movies; every selection is sorted once and kept until a change."""

    def __init__(self, movies: Iterable[Movie]) -> None:
        self._movies = {movie.id: movie for movie in movies}
        #: The movies of each genre, all movies for None; by (release_date, id), so that a range is a slice.
        self._by_date: dict[int | None, list[Movie]] = {}
        self._selections: dict[Query, Sequence[Movie]] = {}
        self._references = 0
        #: The ids changed on each ISO day, in the order of their last change.
        self._changed: dict[str, dict[int, None]] = {}
        #: As they were before the latest change; the same as a catalogue, once somebody asks for that.
        self._before: list[Movie] | None = None
        self._old: Catalog | None = None
        self._rebuild()

    def __len__(self) -> int:
        return len(self._movies)

    def get(self, movie_id: int) -> Movie | None:
        """The movie; None where TMDB answers 404."""
        return self._movies.get(movie_id)

    def movies(self) -> list[Movie]:
        """All movies as they are now, in the file's order."""
        return list(self._movies.values())

    def select(self, query: Query) -> Sequence[Movie]:
        """The movies that match, sorted, equals by id, so that pages partition the selection."""
        if query not in self._selections:
            selection = sort_movies(self._matching(query), query.sort_by)
            self._references += len(selection)
            if self._references > CACHED_REFERENCES:
                self._selections.clear()
                self._references = len(selection)
            self._selections[query] = selection
        return self._selections[query]

    def replace(self, upserted: Iterable[Movie], deleted: Iterable[int], day: str) -> None:
        """Add or replace movies and delete ids, as one change of that ISO day; unknown ids are ignored."""
        self._before, self._old = self.movies(), None
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

    def old(self) -> "Catalog":
        """The catalogue as it was before the latest change."""
        if self._before is None:
            return self
        if self._old is None:
            self._old = Catalog(self._before)
        return self._old

    def changes(self, first: str, last: str) -> list[ChangedMovie]:
        """The ids changed on the days first to last inclusive, newest change first, each id once."""
        ids: dict[int, None] = {}
        for day in sorted((day for day in self._changed if first <= day <= last), reverse=True):
            ids.update(dict.fromkeys(reversed(self._changed[day])))
        movies = ((movie_id, self.get(movie_id)) for movie_id in ids)
        return [ChangedMovie(movie_id, movie.adult if movie else None) for movie_id, movie in movies]

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
        if query.languages:
            found = [movie for movie in found if movie.original_language in query.languages]
        if query.title:
            found = [movie for movie in found if has_title(movie, query.title)]
        return found

    def _count(self, genre_id: int) -> int:
        return len(self._by_date.get(genre_id, ()))


def has_title(movie: Movie, text: str) -> bool:
    """Whether the title or the original title contains the text, whatever its case."""
    wanted = text.casefold()
    return wanted in movie.title.casefold() or wanted in movie.original_title.casefold()


def sort_movies(movies: Iterable[Movie], sort_by: str) -> list[Movie]:
    """The movies by `field.asc` or `field.desc`, equals by ascending id; DEFAULT_SORT if that is unknown."""
    field, _, direction = sort_by.partition(".")
    if field not in SORT_FIELDS or direction not in ("asc", "desc"):
        return sort_movies(movies, DEFAULT_SORT)
    by_id = sorted(movies, key=attrgetter("id"))
    # list.sort is stable, with reverse too: among equals the ids stay ascending.
    by_id.sort(key=SORT_FIELDS[field], reverse=direction == "desc")
    return by_id
