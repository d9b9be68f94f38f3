"""What can be wrong when data is read.

::

    Error                   str() is one line for a person
    ├── InvalidArgument     an address, year or length of time that is none
    │   ├── UnknownGenre
    │   └── UnknownColumn
    ├── NothingStored       nothing was fetched yet
    ├── StaleData           too old or incomplete: `pages`, `takes_s`
    ├── FetchFailed         fetch=True could not fetch
    └── Unavailable         MongoDB does not answer
"""

from datetime import timedelta

from worker.durations import format_duration, format_seconds


class Error(Exception):
    """Root of all errors of this package."""


class InvalidArgument(Error):
    """The text names the argument and what was expected."""


class UnknownGenre(InvalidArgument):
    """No such genre; the text lists the known ones."""


class UnknownColumn(InvalidArgument):
    """No such column; the text lists the known ones."""


class NothingStored(Error):
    """The database holds nothing of what was asked for."""


class StaleData(Error):
    """`pages` are missing or too old; fetching them takes `takes_s` seconds at the fleet's limit."""

    def __init__(self, pages: int, takes_s: float, max_age: timedelta) -> None:
        noun, verb = ("page", "is") if pages == 1 else ("pages", "are")
        super().__init__(
            f"{pages:,} {noun} {verb} missing or older than {format_duration(max_age)}, at least "
            f"{format_seconds(max(1, takes_s))} at the limit; fetch=True or `reelhaul backfill` fetches"
        )
        self.pages, self.takes_s, self.max_age = pages, takes_s, max_age


class FetchFailed(Error):
    """`fetch=True` could not fetch; the text says why."""


class Unavailable(Error):
    """MongoDB does not answer, or refuses."""
