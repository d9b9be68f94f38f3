"""What changed at TMDB, day by day, from where the last reading ended.

The feed names ids by day, not by time. So a movie listed for a day that is over must have been asked for
after that day; one listed for today is asked for when it is first seen there, and again once today is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from worker.answers import Changes
from worker.movies import Movies

#: A gap above it means a full sweep (TMDB API reference, changes/movie-list).
LONGEST_GAP = timedelta(days=14)
#: The day before the last reading's is read again: what is cached there may have been late.
OVERLAP = timedelta(days=1)

_DAY = timedelta(days=1)
#: Gets a page of a day's changes from the API.
Ask = Callable[[date, int], Changes]


@dataclass
class Reading:
    """What a day's reading came to."""

    requests: int = 0
    listed: int = 0
    gone: int = 0
    wanted: list[int] = field(default_factory=list)


def days_to_read(since: datetime, now: datetime) -> list[date]:
    """Days in UTC from `since`, less the overlap, to today; never further back than LONGEST_GAP and that."""
    first = (max(since, now - LONGEST_GAP) - OVERLAP).date()
    return [first + number * _DAY for number in range((now.date() - first).days + 1)]


def asked_since(day: date, now: datetime) -> datetime:
    """When a movie listed for the day must have been asked for: once the day was over; for today, now."""
    return min(_midnight(day + _DAY), now)


def read_day(  # noqa: PLR0913 -- a reading's circumstances
    ask: Ask,
    movies: Movies,
    day: date,
    now: datetime,
    *,
    again: bool = False,
    on_page: Callable[[], None] = lambda: None,
) -> Reading:
    """Read what changed on the day and put it on the list of wanted movies; `now`: when the reading began.

    `again`: also what was seen today before, for it may have changed once more. Raises NotNow (read the
    day again) and Forbidden.
    """
    reading, since = Reading(), asked_since(day, now)
    for page in _pages(ask, day):
        reading.requests += 1
        reading.listed += len(page.ids)
        reading.gone += movies.gone(page.gone, page.fetched_at)
        there = set(page.ids).difference(page.gone, reading.wanted)
        if since == now:
            wanted = there if again else movies.not_demanded(there, _midnight(day))
        else:
            wanted = movies.stale(movies.not_demanded(there, since), since)
        movies.want(wanted, since)
        # After the list has them: a reading that dies in between sees to them once more.
        movies.demand(wanted, since)
        reading.wanted += wanted
        on_page()
    movies.forget_demands(now - LONGEST_GAP - 2 * OVERLAP)
    return reading


def _pages(ask: Ask, day: date) -> Iterator[Changes]:
    number = total = 1
    while number <= total:
        page = ask(day, number)
        yield page
        number, total = number + 1, page.total_pages


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
