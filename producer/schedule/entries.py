"""What each schedule entry does: sweep, changes, refresh, oldest."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from producer.enqueue import Backfill, enqueue_backfill, find_missing, requested_backfills
from producer.schedule.change_tasks import begin_reading, postpone
from producer.schedule.changes import LONGEST_GAP
from producer.schedule.config import ScheduleEntry
from worker.app import MOVIES
from worker.clients import fleet_now, storage
from worker.errors import NotNow
from worker.keys import Cell
from worker.movie_tasks import enqueue_movies
from worker.queues import lengths
from worker.settings import settings
from worker.storage.mongo import AHEAD, Document
from worker.tasks import enqueue_pages

log = structlog.get_logger(__name__)

#: A queue with more messages than this has lost none: a sweep would only enqueue them twice.
SHORT_QUEUE = 100
#: Requested movies enqueued at a time: two minutes' worth of TMDB's limit, eight while pages wait.
MOVIES_ENQUEUED = 4_000
#: A reading of changes whose last page was read longer ago than this has died.
READING_TIMEOUT = timedelta(minutes=5)


def perform(entry: ScheduleEntry, now: datetime) -> str:
    """Do what the entry says, once the caller has claimed it; saves and returns the outcome.

    Makes the entry due again and raises NotNow when it cannot be done now.
    """
    storage().schedule.set_state(entry.name, outcome="begun", backfills=[])
    try:
        outcome = _ACTIONS[entry.do](entry, now)
    except NotNow as error:
        postpone(entry.name, error)
        raise
    log.info("schedule entry done", schedule_entry=entry.name, outcome=outcome)
    return outcome


def is_running(state: Document, incomplete: set[str], now: datetime) -> bool:
    """Whether an entry with that state has not ended: its backfills are `incomplete`, or it reads changes."""
    reading = state.get("reading")
    is_reading = reading is not None and now - READING_TIMEOUT < reading["since"] <= now + AHEAD
    return is_reading or not incomplete.isdisjoint(state.get("backfills", ()))


def sweep() -> int:
    """Enqueue missing pages and requested movies again unless their queues hold enough; returns how many."""
    waiting = lengths()
    sent = enqueue_requested(waiting)
    if sum(number for queue, number in waiting.items() if queue != MOVIES) <= SHORT_QUEUE:
        for backfill, missing in find_missing(storage(), fleet_now()):
            sent += enqueue_pages(missing, backfill.fresh_after_ms)
    if sent:
        log.info("sweep done", sent=sent)
    return sent


def enqueue_requested(waiting: Mapping[str, int]) -> int:
    """Enqueue some of the requested movies unless enough of them wait; returns how many.

    `waiting`: messages by queue.
    """
    if waiting[MOVIES] > SHORT_QUEUE:
        return 0
    return enqueue_movies(storage().movie_requests.first(MOVIES_ENQUEUED))


def full_sweep(now: datetime) -> int:
    """Fetch again what was requested and is older than the change feed reaches; returns the messages sent."""
    return sum(
        enqueue_backfill(
            storage(),
            replace(requested, max_age=LONGEST_GAP, requested_at=now, schedule_entry="sweep"),
            "refresh",
        )
        for requested in requested_backfills(storage())
    )


def changes_since() -> datetime | None:
    """Since when changes are unknown: the last reading, or else the oldest page; None: nothing is stored."""
    return storage().change_feed.read_to() or storage().pages.oldest()


def _sweep(entry: ScheduleEntry, _: datetime) -> str:
    return _save_outcome(entry, f"{sweep():,} sent")


def _changes(entry: ScheduleEntry, now: datetime) -> str:
    since = changes_since()
    if since is None:
        return _save_outcome(entry, "nothing is stored yet")
    outcome = f"reading from {since:%Y-%m-%d %H:%M}"
    if now - since > LONGEST_GAP:
        log.warning("gap in the change feed", since=since.isoformat(), longest_days=LONGEST_GAP.days)
        outcome = f"a gap of {(now - since).days} days: full sweep, {full_sweep(now):,} sent"
    begin_reading(entry.name, since, now, outcome)
    return outcome


def _refresh(entry: ScheduleEntry, now: datetime) -> str:
    """Fetch this year and last year, or the entry's years, in the genres that people requested."""
    genres = {
        id_: name for requested in requested_backfills(storage()) for id_, name in requested.genres.items()
    }
    if not genres:
        return _save_outcome(entry, "nothing was requested yet")
    backfill = Backfill(genres, entry.years or (now.year - 1, now.year), entry.max_age, now, entry.name)
    sent = enqueue_backfill(storage(), backfill, "refresh")
    return _save_outcome(entry, f"{sent:,} sent, backfill {backfill.id}", [backfill.id])


def _oldest(entry: ScheduleEntry, now: datetime) -> str:
    """Fetch what would pass the retention before the run after next, the oldest first.

    Movies that are on none of those pages, and details, are requested one by one if they would pass it
    before the next run.
    """
    retention = settings().reelhaul_retention
    limit, last = (now - max(retention - runs * entry.every, retention / 2) for runs in (2, 1))
    ages = storage().pages.cells_fetched_before(limit)
    for cell in list(ages):  # a year is as old as the oldest window that it was split into
        year = cell._replace(window=cell.window[:4])
        ages[year] = min(ages.get(year, ages[cell]), ages[cell])
    sent, ids = 0, []
    for requested in requested_backfills(storage()):
        backfill = replace(requested, max_age=now - limit, requested_at=now, schedule_entry=entry.name)
        if ages.keys() & set(backfill.cells()):
            sent += enqueue_backfill(storage(), backfill, "refresh", ages)
            ids.append(backfill.id)
    movies = [id_ for id_, page in storage().movies.fetched_before(last) if _cell_of(page) not in ages]
    movies += storage().movies.details_fetched_before(last)
    listed = storage().movie_requests.add(movies, now)
    sent += enqueue_requested(lengths())
    return _save_outcome(entry, f"{sent:,} sent, {listed:,} movies requested", ids)


def _cell_of(page: str) -> Cell | None:
    """The cell of the page on which a movie was seen; None when that was not a cell's page."""
    genre_id, _, rest = page.partition(":")
    return Cell(int(genre_id), rest.rpartition(":")[0]) if genre_id.isdecimal() else None


def _save_outcome(entry: ScheduleEntry, outcome: str, backfills: list[str] | None = None) -> str:
    storage().schedule.set_state(entry.name, outcome=outcome, backfills=backfills or [])
    return outcome


_ACTIONS = {"sweep": _sweep, "changes": _changes, "refresh": _refresh, "oldest": _oldest}
