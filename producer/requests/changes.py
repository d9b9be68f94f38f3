"""Readings of TMDB's change feed: the pages of some days, and the movies on them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from producer.coverage import Coverage, CoverageIndex
from producer.requests.request import Progress, Request
from worker.keys import ChangesDay, Fetch, Key, MovieKey
from worker.storage.changes import Scope
from worker.storage.database import Storage

#: TMDB keeps no changes older than this (API reference, changes/movie-list); a longer gap needs a full sweep.
LONGEST_GAP = timedelta(days=14)
#: The day before the first unread one is read again: cached pages may have lacked its latest changes.
OVERLAP = timedelta(days=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Changes(Request):
    """The changes from `first` to the day of `requested_at`, both included (UTC)."""

    kind = "changes"
    _not_in_id = ("first",)
    first: date
    #: Fetch movies listed today though they were fetched since they were first listed.
    again: bool
    #: Fetch also movies that are not stored.
    new: bool
    requested_at: datetime
    schedule_entry: str = ""

    @property
    def days(self) -> list[ChangesDay]:
        number = (self.requested_at.date() - self.first) // _DAY
        return [ChangesDay(f"{self.first + offset * _DAY}") for offset in range(number + 1)]

    @property
    def title(self) -> str:
        return self._title(f"changes since {self.first}")

    def missing(self, storage: Storage) -> Iterator[Fetch[Key]]:
        options = int(self.again), int(self.new)
        for key in storage.pages.missing(self._days(storage), self.requested_at):
            yield Fetch(key, self.requested_at, options)
        for movie_id, moment in storage.changes.changed(self._scope(storage)).lacking.items():
            yield Fetch(MovieKey(movie_id), moment, (None,))

    def progress(self, storage: Storage, index: CoverageIndex) -> Progress:
        progress = Progress(self, Coverage())
        for day in self._days(storage):
            progress.pages.add(index.coverage(day))
        found = storage.changes.changed(self._scope(storage))
        stored = found.movies - len(found.lacking) - found.quarantined
        progress.movies = Coverage(planned=found.movies, stored=stored, quarantined=found.quarantined)
        return progress

    def _days(self, storage: Storage) -> list[ChangesDay]:
        """Those of the days that TMDB still lists: nothing is missing of the others."""
        oldest = f"{(storage.mongo.now() - LONGEST_GAP - OVERLAP).date()}"
        return [day for day in self.days if day.day >= oldest]

    def _scope(self, storage: Storage) -> Scope:
        days = tuple(day.day for day in self._days(storage))
        return Scope(days, self.requested_at if self.again else None, self.new)


def unread_since(
    storage: Storage, readings: Iterable[Changes], now: datetime, since: datetime | None = None
) -> date | None:
    """The first day of which changes may not be known; None when nothing is stored.

    That is the first day, from that of the oldest page, that was not read to its end. With `since`, that day
    instead. Either way not after the first day of an unfinished reading (of `readings`) that TMDB still has.
    """
    listed = (now - LONGEST_GAP).date()
    unfinished = [max(reading.first, listed) for reading in readings if any(reading.missing(storage))]
    oldest = storage.pages.oldest() or storage.movies.oldest()
    if oldest is None:
        return None
    day = storage.changes.first_unread(max(oldest.date(), listed), now.date())
    return min([since.date() if since else day, *unfinished])


def first_day(unread: date, now: datetime) -> date:
    """The first day that a reading has to ask for, as far as TMDB still has it."""
    return min(max(unread, (now - LONGEST_GAP).date()), now.date()) - OVERLAP
