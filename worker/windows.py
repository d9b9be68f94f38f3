"""Windows: intervals of days of primary release, as queries name them."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import NamedTuple

from worker.errors import UsageError

FIRST_YEAR, LAST_YEAR = 1870, 2100

_YEAR = re.compile(r"\d{4}")
_INTERVAL = re.compile(r"(\d{4}-\d\d-\d\d)/(\d{4}-\d\d-\d\d)")


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
