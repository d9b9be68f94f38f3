"""Reads TMDB's change feed page by page, from the day where the last reading ended to today.

The feed lists ids by day, without times. A movie listed for a past day is fetched again unless it was fetched
after that day; a movie listed for today is fetched when it is first listed, and once more when today is over.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Self

from worker.records import Changes
from worker.storage.database import Storage

#: TMDB keeps no changes older than this (API reference, changes/movie-list); a longer gap needs a full sweep.
LONGEST_GAP = timedelta(days=14)
#: The day before the last reading is read again: cached pages may have lacked its latest changes.
OVERLAP = timedelta(days=1)
_DAY = timedelta(days=1)


class Place(NamedTuple):
    """A page of the change feed, and when the reading that gets it began; JSON scalars, for messages."""

    started_ms: int
    day: str
    page: int

    @classmethod
    def first(cls, since: datetime, now: datetime) -> Self:
        """Where a reading that begins now starts, if all changes before `since` are handled."""
        day = (min(max(since, now - LONGEST_GAP), now) - OVERLAP).date()
        return cls(int(now.timestamp() * 1000), day.isoformat(), 1)

    def following(self, total_pages: int) -> Self | None:
        """The next page, of the same day or of the next day; None after today's last page."""
        if self.page < total_pages:
            return self._replace(page=self.page + 1)
        if self.listed_on >= self.started.date():
            return None
        return self._replace(day=(self.listed_on + _DAY).isoformat(), page=1)

    @property
    def started(self) -> datetime:
        return datetime.fromtimestamp(self.started_ms / 1000, UTC)

    @property
    def listed_on(self) -> date:
        return date.fromisoformat(self.day)


class ChangesPage(NamedTuple):
    """The ids on one page of the feed, and those of them that were requested."""

    listed: set[int]
    requested: set[int]
    total_pages: int


def read_page(
    ask: Callable[[date, int], Changes], storage: Storage, place: Place, *, again: bool = False
) -> ChangesPage:
    """Get a page of the feed with `ask(day, page)`, and request the movies on it that may have changed.

    `again`: request movies listed today even if this was done before, for they may have changed once more.
    Raises as `ask` does, MongoUnavailable.
    """
    page = ask(place.listed_on, place.page)
    listed = set(page.ids)
    since = fetched_since(place)
    if since < place.started:  # the day is over
        requested = storage.movies.not_fetched_since(storage.change_feed.not_handled(listed, since), since)
    elif again:
        requested = listed
    else:
        requested = storage.change_feed.not_handled(listed, _midnight(place.listed_on))
    storage.movie_requests.add(requested, since)
    # After the requests: a reading that dies in between makes them again.
    storage.change_feed.mark_handled(requested, since)
    return ChangesPage(listed, requested, page.total_pages)


def fetched_since(place: Place) -> datetime:
    """From when on a listed movie must have been fetched: the end of the day; for today, now."""
    return min(_midnight(place.listed_on + _DAY), place.started)


def end_reading(storage: Storage, started: datetime) -> None:
    """All changes up to `started`, when the reading began, are handled."""
    storage.change_feed.set_read_to(started)
    storage.change_feed.forget_handled(started - LONGEST_GAP - 2 * OVERLAP)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
