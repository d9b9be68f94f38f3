"""Windows: intervals of days of primary release, as queries name them, and what is left of a single day."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import NamedTuple

from worker.errors import UsageError

FIRST_YEAR, LAST_YEAR = 1870, 2100

_YEAR = re.compile(r"\d{4}")
_INTERVAL = re.compile(r"(\d{4}-\d\d-\d\d)/(\d{4}-\d\d-\d\d)(?:,([a-z]{2}))?(,desc)?")


class Window(NamedTuple):
    """An interval of days of primary release, both ends included.

    A single day can be narrowed to an original language, and read from its end.
    """

    first: date
    last: date
    #: ISO 639-1, or a code of TMDB's own; "" for all.
    language: str = ""
    #: In descending order of the title.
    descending: bool = False

    @classmethod
    def of_year(cls, year: int) -> Window:
        """The whole year; UsageError outside FIRST_YEAR..LAST_YEAR."""
        if not FIRST_YEAR <= year <= LAST_YEAR:
            raise UsageError(f"year {year}: expected {FIRST_YEAR}..{LAST_YEAR}")
        return cls(date(year, 1, 1), date(year, 12, 31))

    @classmethod
    def parse(cls, text: str) -> Window:
        """Parse `1999` or `1999-01-01/1999-06-30`, within of_year's bounds; UsageError for anything else.

        After a single day may come a language and an order: `1999-01-01/1999-01-01,en,desc`.
        """
        if _YEAR.fullmatch(text):
            return cls.of_year(int(text))
        found = _INTERVAL.fullmatch(text)
        try:
            days = [date.fromisoformat(day) for day in found.groups()[:2]] if found else []
        except ValueError:
            days = []
        window = cls(days[0], days[1], found[3] or "", bool(found[4])) if found and days else None
        if window is None or window.first > window.last or (window.is_narrowed and not window.is_day):
            raise UsageError(f"window {text!r:.60}: expected a year (1999) or days (1999-01-01/1999-06-30)")
        if window.first.year < FIRST_YEAR or window.last.year > LAST_YEAR:
            raise UsageError(f"window {text!r:.60}: expected days within {FIRST_YEAR}..{LAST_YEAR}")
        return window

    def __str__(self) -> str:
        year = self.first.year
        if self == Window(date(year, 1, 1), date(year, 12, 31)):
            return str(year)
        narrowed = f",{self.language}" * bool(self.language) + ",desc" * self.descending
        return f"{self.first.isoformat()}/{self.last.isoformat()}{narrowed}"

    @property
    def is_day(self) -> bool:
        return self.first == self.last

    @property
    def is_narrowed(self) -> bool:
        """Whether it is one language only, or read from its end."""
        return bool(self.language) or self.descending

    def halves(self) -> tuple[Window, ...]:
        """The two halves of this window; none for a single day."""
        if self.is_day:
            return ()
        middle = self.first + (self.last - self.first) // 2
        return Window(self.first, middle), Window(middle + timedelta(days=1), self.last)
