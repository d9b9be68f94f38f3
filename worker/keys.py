"""Keys of what is fetched: pages of cells, of other lists and of days of changes, totals, single movies.

A list is what has pages: a cell (genre, window), the popular movies, the changes of a day.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from worker.errors import UsageError
from worker.languages import LANGUAGES
from worker.windows import Window

#: TMDB rejects a higher page of any query: HTTP 400 with code 22 (HTTP 422 from about 2019 to 2022).
MAX_PAGE = 500
PAGES = range(1, MAX_PAGE + 1)
#: How many pages a day's first pages and its last pages have in common, when it has more than MAX_PAGE:
#: movies of one title, whose order TMDB does not document, may be ordered alike from both ends.
OVERLAP = 5
#: The pages of a day that can be had from both of its ends.
BOTH_ENDS = 2 * MAX_PAGE - OVERLAP
#: Movies on a full page (TMDB API reference, discover/movie).
PAGE_SIZE = 20
#: In place of a genre, for queries that name none.
ANY_GENRE = 0
#: A signed 32-bit integer; TMDB's largest genre id is 10770.
LAST_GENRE = 2**31 - 1
#: The largest integer that MongoDB holds, so that every stored movie can be requested.
LAST_MOVIE = 2**63 - 1
#: The genres of 2026 (TMDB API, /3/genre/movie/list), from which similar pages are chosen. One that TMDB
#: has dropped since does no harm: its pages are empty.
GENRE_IDS = (
    28, 12, 16, 35, 80, 99, 18, 10751, 14, 36, 27, 10402, 9648, 10749, 878, 10770, 53, 10752, 37,
)  # fmt: skip
#: Years with many movies in every genre.
BUSY_YEARS = range(1950, 2026)
#: The range of movie ids in 2026; many are unused.
USED_MOVIE_IDS = range(1, 1_700_001)

T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def another(value: T, choices: Sequence[T]) -> T:
    """Choose at random from the choices other than `value`."""
    while (other := random.choice(choices)) == value:  # noqa: S311 -- spreads requests, no secret
        pass
    return other


class Cell(NamedTuple):
    """One query with its pages: a genre in a window."""

    genre_id: int
    window: str

    @property
    def id(self) -> str:
        return f"{self.genre_id}:{self.window}"

    def page(self, number: int) -> PageKey:
        return PageKey(self.genre_id, self.window, number)

    def pages(self, total_pages: int) -> range:
        """The numbers of its own pages that are needed once page 1 has reported `total_pages`.

        Above MAX_PAGE these are page 1 alone where its days can be halved, all that TMDB shows of a single
        day, and of a day that is read from its end what its beginning does not reach.
        """
        window, last = Window.parse(self.window), max(1, min(total_pages, MAX_PAGE))
        if window.descending:
            last = max(1, min(total_pages - MAX_PAGE + OVERLAP, MAX_PAGE))
        elif total_pages > MAX_PAGE and not window.is_day:
            last = 1
        return range(1, last + 1)

    def parts(self, total_pages: int) -> tuple[Cell, ...]:
        """The cells that it is split into: none up to MAX_PAGE, else both halves of its days.

        For a single day, the same day from its end and, when that does not reach either, each language.
        """
        window = Window.parse(self.window)
        if total_pages <= MAX_PAGE or window.descending:
            return ()
        parts = window.halves()
        if window.is_day:
            parts = (window._replace(descending=True),)
            if self.is_beyond_reach(total_pages):
                parts += tuple(window._replace(language=language) for language in LANGUAGES)
        return tuple(Cell(self.genre_id, str(part)) for part in parts)

    def contains(self, other: Cell) -> bool:
        """Whether the other is of the same genre and within its days."""
        days, within = Window.parse(self.window), Window.parse(other.window)
        is_within = days.first <= within.first and within.last <= days.last
        return self.genre_id == other.genre_id and is_within

    def is_beyond_reach(self, total_pages: int) -> bool:
        """Whether it is a whole day of which both ends together do not show every page."""
        window = Window.parse(self.window)
        return window.is_day and not window.is_narrowed and total_pages > BOTH_ENDS

    def shows_all(self, total_pages: int) -> bool:
        """Whether its pages and its parts are meant to list all of its movies.

        A day from its end does not, nor does a language of a day that both ends do not show.
        """
        window = Window.parse(self.window)
        return not window.descending and (not window.language or total_pages <= BOTH_ENDS)

    def rest(self, total_pages: int) -> list[PageKey]:
        """The pages still to fetch once page 1 has reported `total_pages`: its own, page 1 of its parts."""
        own = [self.page(number) for number in self.pages(total_pages)[1:]]
        return own + [part.page(1) for part in self.parts(total_pages)]


class PopularList(NamedTuple):
    """The first `length` pages of all movies, the most popular first."""

    length: int

    @property
    def id(self) -> str:
        return "popular"

    def page(self, number: int) -> PopularKey:
        return PopularKey(number)

    def pages(self, total_pages: int) -> range:
        """As of a cell, but of the first `length` pages."""
        return range(1, max(1, min(total_pages, self.length)) + 1)

    def parts(self, total_pages: int) -> tuple[Cell, ...]:  # noqa: ARG002 -- as of a cell
        """It is not split."""
        return ()


class ChangesDay(NamedTuple):
    """The movies that TMDB lists as changed on a day (UTC), an ISO 8601 date."""

    day: str

    @property
    def id(self) -> str:
        return f"changes:{self.day}"

    def page(self, number: int) -> ChangesKey:
        return ChangesKey(self.day, number)

    def pages(self, total_pages: int) -> range:
        """As of a cell."""
        return range(1, max(1, min(total_pages, MAX_PAGE)) + 1)

    def parts(self, total_pages: int) -> tuple[Cell, ...]:  # noqa: ARG002 -- as of a cell
        """It is not split."""
        return ()


class PageKey(NamedTuple):
    """The identity of a cell's page; its `id` is used in MongoDB, in the log and in Flower."""

    genre_id: int
    window: str
    page: int

    @property
    def id(self) -> str:
        return f"{self.genre_id}:{self.window}:{self.page}"

    @property
    def cell(self) -> Cell:
        return Cell(self.genre_id, self.window)

    def similar(self) -> tuple[PageKey, ...]:
        """Three other random pages, each with two of genre, window and page the same; first another page."""
        years = [str(year) for year in BUSY_YEARS]
        return (
            self._replace(page=another(self.page, PAGES)),
            self._replace(window=another(self.window, years)),
            self._replace(genre_id=another(self.genre_id, GENRE_IDS)),
        )


class TotalsKey(NamedTuple):
    """The totals of a cell: its page 1, requested only to see whether the cell has changed."""

    genre_id: int
    window: str

    @property
    def id(self) -> str:
        return f"totals:{self.genre_id}:{self.window}"

    @property
    def cell(self) -> Cell:
        return Cell(self.genre_id, self.window)

    def similar(self) -> tuple[TotalsKey, ...]:
        """The totals of three other cells, each with the genre or the window the same."""
        years = [str(year) for year in BUSY_YEARS]
        other_windows = (self._replace(window=another(self.window, years)) for _ in range(2))
        return (*other_windows, self._replace(genre_id=another(self.genre_id, GENRE_IDS)))


class PopularKey(NamedTuple):
    """A page of the most popular movies."""

    page: int

    @property
    def id(self) -> str:
        return f"popular:{self.page}"

    def similar(self) -> tuple[PopularKey, ...]:
        """Three other random pages."""
        return tuple(PopularKey(another(self.page, PAGES)) for _ in range(3))


class ChangesKey(NamedTuple):
    """A page of the changes of a day (UTC), an ISO 8601 date."""

    day: str
    page: int

    @property
    def id(self) -> str:
        return f"changes:{self.day}:{self.page}"

    @property
    def changed_on(self) -> date:
        return date.fromisoformat(self.day)

    def similar(self) -> tuple[ChangesKey, ...]:
        """Another page of the same day, then the first pages of the days before; TMDB keeps two weeks."""
        days = (self.changed_on - timedelta(days=number) for number in (1, 2))
        return (self._replace(page=another(self.page, PAGES)), *(ChangesKey(str(day), 1) for day in days))


class MovieKey(NamedTuple):
    """The identity of a single movie's details, as PageKey is a page's."""

    movie_id: int

    @property
    def id(self) -> str:
        return f"movie:{self.movie_id}"

    def similar(self) -> tuple[MovieKey, ...]:
        """Three other random movies; TMDB may lack them. The last has an id near this one's."""
        near = range(max(1, self.movie_id - 50), min(self.movie_id + 50, LAST_MOVIE))
        return tuple(MovieKey(another(self.movie_id, ids)) for ids in (USED_MOVIE_IDS, USED_MOVIE_IDS, near))


#: The name of a thing to fetch: `id`, and `similar()`, three keys of the same kind.
Key = PageKey | TotalsKey | PopularKey | ChangesKey | MovieKey
#: What has pages, and the keys of these.
PagedList = Cell | PopularList | ChangesDay
ListKey = PageKey | PopularKey | ChangesKey


def parse_key(text: str) -> Key:
    """The key whose `id` is `text`; UsageError when there is none or it is out of bounds."""
    key: Key | None = None
    with suppress(ValueError, UsageError):
        match text.split(":"):
            case "totals", genre_id, window:
                key = TotalsKey(int(genre_id), str(Window.parse(window)))
            case "popular", page:
                key = PopularKey(int(page))
            case "changes", day, page:
                key = ChangesKey(str(date.fromisoformat(day)), int(page))
            case "movie", movie_id:
                key = MovieKey(int(movie_id))
            case genre_id, window, page:
                key = PageKey(int(genre_id), str(Window.parse(window)), int(page))
    if key and key.id == text and _is_within_bounds(key):
        return key
    raise UsageError(
        f"key {text!r:.60}: expected, for instance, 18:1999:3 (genre, window, page in 1..{MAX_PAGE}), "
        "popular:3, changes:2026-03-01:2 or movie:603"
    )


def _is_within_bounds(key: Key) -> bool:
    if isinstance(key, MovieKey):
        return 1 <= key.movie_id <= LAST_MOVIE
    has_genre = not isinstance(key, PageKey | TotalsKey) or 0 <= key.genre_id <= LAST_GENRE
    return has_genre and (isinstance(key, TotalsKey) or key.page in PAGES)


K_co = TypeVar("K_co", bound=Key, covariant=True)


class Fetch(NamedTuple, Generic[K_co]):
    """What one message asks for."""

    key: K_co
    #: What was requested before that moment is requested again; None: whatever is stored will do.
    fresh_after: datetime | None = None
    #: The further arguments of the key's task.
    options: tuple[Any, ...] = ()
    #: The id of the request that asks for it; "" for what is fetched in any case.
    request: str = ""

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments of the key's task: the key, milliseconds since 1970 or 0, the options."""
        fresh_after_ms = (self.fresh_after - _EPOCH) // timedelta(milliseconds=1) if self.fresh_after else 0
        return *self.key, max(0, fresh_after_ms), *self.options  # a retention may be longer than since 1970
