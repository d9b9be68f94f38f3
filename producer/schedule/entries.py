"""What each schedule entry does: sweep, changes, refresh, totals, oldest, ids."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from producer.daily_ids import load_latest
from producer.enqueue import (
    enqueue_request,
    enqueue_some,
    find_missing,
    requested_backfills,
    save_request,
    unfinished_requests,
)
from producer.queues import MOVIES, lengths
from producer.requests.backfills import Backfill, TotalsCheck
from producer.requests.changes import LONGEST_GAP, OVERLAP, Changes, first_day, unread_since
from producer.requests.movies import AgingMovies, Details
from producer.requests.request import Request
from producer.schedule.config import ScheduleEntry
from worker.clients import fleet_now, storage
from worker.errors import NotNow, UsageError
from worker.keys import Fetch, Key, MovieKey
from worker.settings import settings

log = structlog.get_logger(__name__)

#: A queue with more messages than this has lost none: a sweep would only enqueue them twice.
SHORT_QUEUE = 100
#: The outcome while an entry runs.
BEGUN = "begun"
#: An entry that was claimed at this time is due at once.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def perform(entry: ScheduleEntry, now: datetime) -> str:
    """Do what the entry says, once the caller has claimed it; saves and returns the outcome.

    Makes the entry due again and raises NotNow when it cannot be done now. Raises UsageError.
    """
    storage().schedule.set_state(entry.name, outcome=BEGUN, requests=[])
    try:
        outcome, requests = _ACTIONS[entry.do](entry, now)
    except NotNow as error:
        storage().schedule.set_state(entry.name, outcome=f"postponed: {error}", claimed_at=NEVER)
        raise
    except UsageError as error:
        storage().schedule.set_state(entry.name, outcome=f"failed: {error}")
        raise
    storage().schedule.set_state(entry.name, outcome=outcome, requests=[request.id for request in requests])
    log.info("schedule entry done", schedule_entry=entry.name, outcome=outcome)
    return outcome


def sweep() -> int:
    """Enqueue what is missing again, unless the queues hold enough; returns how many messages."""
    waiting = lengths()
    send_movies = waiting.pop(MOVIES) <= SHORT_QUEUE
    send_pages = sum(waiting.values()) <= SHORT_QUEUE
    sent = 0
    if send_movies or send_pages:
        for missing in find_missing(storage(), fleet_now()):
            sent += enqueue_some(_of_kinds(missing, movies=send_movies, pages=send_pages))
    if sent:
        log.info("sweep done", sent=sent)
    return sent


def full_sweep(now: datetime) -> int:
    """Fetch again what was requested and is older than the change feed reaches; returns the messages sent."""
    return sum(
        enqueue_request(
            storage(),
            replace(requested, max_age=LONGEST_GAP, requested_at=now, schedule_entry="sweep"),
            "refresh",
        )
        for requested in requested_backfills(storage())
    )


def new_reading(
    now: datetime, *, since: datetime | None = None, again: bool = False, new: bool = False, name: str = ""
) -> tuple[Changes, str] | None:
    """A reading of the change feed, and what else had to be done; None when nothing is stored.

    It begins at `since`, or else where changes may be unknown. A longer gap than TMDB's feed covers also
    begins a full sweep.
    """
    readings = [reading for reading in unfinished_requests(storage()) if isinstance(reading, Changes)]
    first = unread_since(storage(), readings, now, since)
    if first is None:
        return None
    swept, gap = "", now.date() - first
    if gap > LONGEST_GAP:
        log.warning("gap in the change feed", days=gap.days, longest_days=LONGEST_GAP.days)
        swept = (
            f"{gap.days} days of changes are needed, TMDB keeps {LONGEST_GAP.days}: "
            f"full sweep, {full_sweep(now):,} messages sent"
        )
    storage().changes.forget((now - LONGEST_GAP - 2 * OVERLAP).date())
    return Changes(first_day(first, now), again, new, now, name), swept


_Outcome = tuple[str, list[Request]]


def _sweep(_: ScheduleEntry, __: datetime) -> _Outcome:
    return f"{sweep():,} sent", []


def _changes(entry: ScheduleEntry, now: datetime) -> _Outcome:
    found = new_reading(now, new=entry.new, name=entry.name)
    if found is None:
        return "nothing is stored yet", []
    reading, swept = found
    enqueue_request(storage(), reading, "refresh")
    return swept or f"changes since {reading.first}", [reading]


def _refresh(entry: ScheduleEntry, now: datetime) -> _Outcome:
    """Fetch the entry's years again, or this year and last year where a backfill asked for them."""
    recent = (now.year - 1, now.year)
    backfills = dict[str, Backfill]()
    for requested in requested_backfills(storage()):
        if years := entry.years or tuple(year for year in recent if year in requested.years):
            backfill = Backfill(requested.genres, years, entry.max_age, now, entry.name)
            backfills[backfill.id] = backfill
    if not backfills:
        return "no backfill asked for these years", []
    sent = sum(enqueue_request(storage(), backfill, "refresh") for backfill in backfills.values())
    return f"{sent:,} sent", [*backfills.values()]


def _totals(entry: ScheduleEntry, now: datetime) -> _Outcome:
    """Ask for the totals of every cell that a backfill asked for, and that was not fetched lately."""
    checks: list[Request] = [
        TotalsCheck(requested.genres, requested.years, entry.max_age, now, entry.name)
        for requested in requested_backfills(storage())
    ]
    sent = sum(enqueue_request(storage(), check, "refresh") for check in checks)
    return f"{sent:,} sent" if checks else "nothing was requested yet", checks


def _oldest(entry: ScheduleEntry, now: datetime) -> _Outcome:
    """Fetch what would pass the retention before the run after next, the oldest first.

    Movies that are on none of those pages, and details, are fetched one by one if they would pass it before
    the next run.
    """
    retention = settings().reelhaul_retention
    limit, last = (now - max(retention - runs * entry.every, retention / 2) for runs in (2, 1))
    ages = storage().pages.cells_fetched_before(limit)
    for cell in list(ages):  # a year is as old as the oldest window that it was split into
        year = cell._replace(window=cell.window[:4])
        ages[year] = min(ages.get(year, ages[cell]), ages[cell])
    sent, requests = 0, list[Request]()
    for requested in requested_backfills(storage()):
        backfill = replace(requested, max_age=now - limit, requested_at=now, schedule_entry=entry.name)
        if ages.keys() & set(backfill.cells()):
            save_request(storage(), backfill)
            sent += enqueue_some(backfill.fetches(backfill.missing(storage(), ages)), "refresh")
            requests.append(backfill)
    aging = AgingMovies(last, limit, now, entry.name)
    movies = 0
    if any(aging.missing(storage())):
        movies = enqueue_request(storage(), aging)
        requests.append(aging)
    return f"{sent:,} pages and {movies:,} movies sent", requests


def _ids(entry: ScheduleEntry, now: datetime) -> _Outcome:
    """Load TMDB's newest list of ids, and fetch the movies on it that are not stored."""
    movies, name = load_latest(storage(), settings().reelhaul_ids_url, now)
    details = Details((), None, listed=True, requested_at=now, schedule_entry=entry.name)
    sent = enqueue_request(storage(), details)
    return f"{movies:,} ids loaded from {name}, {sent:,} sent", [details]


def _of_kinds(missing: Iterator[Fetch[Key]], *, movies: bool, pages: bool) -> Iterator[Fetch[Key]]:
    """Those of what is missing that are single movies, or pages, or both."""
    return (fetch for fetch in missing if (movies if isinstance(fetch.key, MovieKey) else pages))


_ACTIONS = {
    "sweep": _sweep,
    "changes": _changes,
    "refresh": _refresh,
    "totals": _totals,
    "oldest": _oldest,
    "ids": _ids,
}
