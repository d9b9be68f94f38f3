"""What changed at TMDB, day by day, from where the last reading ended.

The feed names ids by day, not by time. So a movie listed for a day that is over must have been asked for
after that day; one listed for today is asked for when it is first seen there, and again once today is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from worker.records import Changes
from worker.storage.database import Storage

#: A gap above it means a full sweep (TMDB API reference, changes/movie-list).
LONGEST_GAP = timedelta(days=14)
#: The day before the last reading's is read again: what is cached there may have been late.
OVERLAP = timedelta(days=1)

_DAY = timedelta(days=1)
#: Gets a page of a day's changes from the API.
Ask = Callable[[date, int], Changes]


@dataclass
class Reading:
    """What reading came to."""

    requests: int = 0
    listed: set[int] = field(default_factory=set)
    wanted: set[int] = field(default_factory=set)

    def add(self, other: Reading) -> None:
        self.requests += other.requests
        self.listed |= other.listed
        self.wanted |= other.wanted


def days_to_read(since: datetime, now: datetime) -> list[date]:
    """Days in UTC from `since`, less the overlap, to today; never further back than LONGEST_GAP and that."""
    first = (min(max(since, now - LONGEST_GAP), now) - OVERLAP).date()
    return [first + number * _DAY for number in range((now.date() - first).days + 1)]


def asked_since(day: date, now: datetime) -> datetime:
    """When a movie listed for the day must have been asked for: once the day was over; for today, now."""
    return min(_midnight(day + _DAY), now)


def read_page(  # noqa: PLR0913 -- a reading's circumstances
    ask: Ask, storage: Storage, day: date, number: int, now: datetime, *, again: bool = False
) -> tuple[Reading, int]:
    """Read a page of what changed on the day and put it on the list of wanted movies; also its day's pages.

    `now`: when the reading began. `again`: also what was seen today before, for it may have changed once
    more. Raises NotNow (read the page again) and KeyRejected.
    """
    page, since = ask(day, number), asked_since(day, now)
    listed = set(page.ids)
    if since == now:
        wanted = listed if again else storage.change_feed.not_handled(listed, _midnight(day))
    else:
        wanted = storage.movies.not_fetched_since(storage.change_feed.not_handled(listed, since), since)
    storage.movie_requests.add(wanted, since)
    # After the list has them: a reading that dies in between sees to them once more.
    storage.change_feed.mark_handled(wanted, since)
    return Reading(1, listed, wanted), page.total_pages


def read_day(ask: Ask, storage: Storage, day: date, now: datetime, *, again: bool = False) -> Reading:
    """All pages of the day, as `read_page` reads one."""
    reading, number, total = Reading(), 1, 1
    while number <= total:
        page, total = read_page(ask, storage, day, number, now, again=again)
        reading.add(page)
        number += 1
    return reading


def end_reading(storage: Storage, now: datetime) -> None:
    """A reading that began at `now` has come to its end: so far all changes have been seen to."""
    storage.change_feed.set_read_to(now)
    storage.change_feed.forget_handled(now - LONGEST_GAP - 2 * OVERLAP)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
