"""Keys of what is fetched: windows of days, cells (genre, window), their pages, and single movies."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple, TypeVar

from worker.errors import UsageError

#: TMDB rejects a higher page of any query: HTTP 400 with code 22 (HTTP 422 from about 2019 to 2022).
MAX_PAGE = 500
PAGES = range(1, MAX_PAGE + 1)
#: Movies on a full page (TMDB API reference, discover/movie).
PAGE_SIZE = 20
#: In place of a genre, for queries that name none.
ANY_GENRE = 0
FIRST_YEAR, LAST_YEAR = 1870, 2100
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

_YEAR = re.compile(r"\d{4}")
_INTERVAL = re.compile(r"(\d{4}-\d\d-\d\d)/(\d{4}-\d\d-\d\d)")
_MOVIE = "movie:"
_MOVIE_ID = re.compile(_MOVIE + r"([1-9][0-9]{0,18})")


def another(value: T, choices: Sequence[T]) -> T:
    """Choose at random from the choices other than `value`."""
    while (other := random.choice(choices)) == value:  # noqa: S311 -- spreads requests, no secret
        pass
    return other


class Window(NamedTuple):
    """An interval of days of primary release, both ends included."""

    first: date
    last: date

    @classmethod
    def of_year(cls, year: int) -> Window:
        """The whole year; UsageError outside FIRST_YEAR..LAST_YEAR."""
        if not FIRST_YEAR <= year <= LAST_YEAR:
            raise UsageError(f"year {year}: expected {FIRST_YEAR}..{LAST_YEAR}")
        return cls(date(year, 1, 1), date(year, 12, 31))

    @classmethod
    def parse(cls, text: str) -> Window:
        """Parse `1999` or `1999-01-01/1999-06-30`, within of_year's bounds; UsageError for anything else."""
        if _YEAR.fullmatch(text):
            return cls.of_year(int(text))
        ends = _INTERVAL.fullmatch(text)
        try:
            window = cls(*map(date.fromisoformat, ends.groups())) if ends else None
        except ValueError:
            window = None
        if window is None or window.first > window.last:
            raise UsageError(f"window {text!r:.60}: expected a year (1999) or days (1999-01-01/1999-06-30)")
        if window.first.year < FIRST_YEAR or window.last.year > LAST_YEAR:
            raise UsageError(f"window {text!r:.60}: expected days within {FIRST_YEAR}..{LAST_YEAR}")
        return window

    def __str__(self) -> str:
        year = self.first.year
        if self == (date(year, 1, 1), date(year, 12, 31)):
            return str(year)
        return f"{self.first.isoformat()}/{self.last.isoformat()}"

    def halves(self) -> tuple[Window, ...]:
        """The two halves of this window; none for a single day."""
        if self.first == self.last:
            return ()
        middle = self.first + (self.last - self.first) // 2
        return Window(self.first, middle), Window(middle + timedelta(days=1), self.last)


class Cell(NamedTuple):
    """One query with its pages: a genre in a window."""

    genre_id: int
    window: str

    @property
    def id(self) -> str:
        return f"{self.genre_id}:{self.window}"

    def page(self, number: int) -> PageKey:
        return PageKey(self.genre_id, self.window, number)

    def halves(self) -> tuple[Cell, ...]:
        return tuple(Cell(self.genre_id, str(half)) for half in Window.parse(self.window).halves())

    def rest(self, total_pages: int) -> list[PageKey]:
        """The pages still to fetch once page 1 has reported `total_pages`.

        Pages 2..N of the cell or, above MAX_PAGE, the first pages of both halves. A single day cannot be
        halved: only its first MAX_PAGE pages can be had.
        """
        halves = self.halves() if total_pages > MAX_PAGE else ()
        if halves:
            return [half.page(1) for half in halves]
        return [self.page(number) for number in range(2, min(total_pages, MAX_PAGE) + 1)]


class MovieKey(NamedTuple):
    """The identity of a single movie's details, as PageKey is a page's."""

    movie_id: int

    @property
    def id(self) -> str:
        return f"{_MOVIE}{self.movie_id}"

    def similar(self) -> tuple[MovieKey, ...]:
        """Three other random movies, the first with an id near this one's; TMDB may lack them."""
        near = range(max(1, self.movie_id - 50), min(self.movie_id + 50, LAST_MOVIE))
        return tuple(MovieKey(another(self.movie_id, ids)) for ids in (near, USED_MOVIE_IDS, USED_MOVIE_IDS))


class PageKey(NamedTuple):
    """The identity of a page; its `id` is used in MongoDB, in the log and in Flower."""

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
        """Three other random pages, each with two of genre, window and page the same."""
        years = [str(year) for year in BUSY_YEARS]
        return (
            self._replace(page=another(self.page, PAGES)),
            self._replace(window=another(self.window, years)),
            self._replace(genre_id=another(self.genre_id, GENRE_IDS)),
        )

    @classmethod
    def parse(cls, text: str) -> PageKey:
        """The key whose `id` is `text`; UsageError when there is none or it is out of bounds."""
        try:
            genre_id, window, page = text.split(":")
            key = cls(int(genre_id), str(Window.parse(window)), int(page))
        except ValueError:
            key = None
        if key and key.id == text and 0 <= key.genre_id <= LAST_GENRE and 1 <= key.page <= MAX_PAGE:
            return key
        raise UsageError(
            f"page key {text!r:.60}: expected GENRE:WINDOW:PAGE, for instance 18:1999:3, with a genre in "
            f"0..{LAST_GENRE} and a page in 1..{MAX_PAGE}"
        )


def parse_key(text: str) -> PageKey | MovieKey:
    """The key of a page or movie whose `id` is `text`; UsageError when there is none."""
    if not text.startswith(_MOVIE):
        return PageKey.parse(text)
    found = _MOVIE_ID.fullmatch(text)
    if found and int(found[1]) <= LAST_MOVIE:
        return MovieKey(int(found[1]))
    raise UsageError(
        f"movie key {text!r:.60}: expected movie:ID, an id in 1..{LAST_MOVIE}, for instance movie:603"
    )
