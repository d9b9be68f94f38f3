"""What happens by itself. Beat only says "do what is due"; what is due is claimed in MongoDB.

So two beats, or a missed run, do no harm, and beat keeps no file of its own.
`celery -A producer.schedule.tasks beat` runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import click
import structlog
from celery.exceptions import Reject

from producer.enqueue import Backfill, asked_backfills, begin, lacking, unfinished
from producer.schedule.change_tasks import NEVER, begin_reading
from producer.schedule.changes import LONGEST_GAP
from producer.schedule.config import ScheduleEntry, schedule_entries
from worker.app import MOVIES, app
from worker.clients import fleet_now, storage
from worker.errors import NotNow, UsageError
from worker.keys import Cell
from worker.movie_tasks import enqueue_movies
from worker.queues import lengths
from worker.settings import settings
from worker.storage.mongo import AHEAD, Document
from worker.tasks import enqueue_pages

__all__ = ["app"]

log = structlog.get_logger(__name__)

#: Of the seconds between two looks at what is due: a duty is done that much early, or it would wait for the
#: look after next.
EARLY = 1 / 6
#: Beat's messages are thrown away after this long. Workers tell by their own clocks, which may be an hour
#: ahead of beat's: then none of a shorter life would ever be heeded.
LIFE_S = 7_200
#: A lane with more messages than this has not lost its own: sweeping it would only double them.
SHORT = 100
#: Wanted movies in the broker at a time: two minutes' worth of TMDB's limit, eight while pages wait too.
FED = 4_000
#: A reading of changes whose last page was read this long ago has died.
READING = timedelta(minutes=5)


@app.task(name="reelhaul.tick")
def tick() -> None:
    """Do what is due, each at most once in its period over the whole fleet."""
    early = timedelta(seconds=settings().reelhaul_tick_s * EARLY)
    try:
        now = fleet_now()
        for duty in schedule_entries().values():
            period = duty.every - early
            if _is_due(duty, period, now) and storage().schedule.claim(duty.name, period, now):
                perform(duty, now)
    except NotNow as trouble:
        log.warning("not now", reason=str(trouble))
        raise Reject(str(trouble), requeue=False) from None  # the next tick is not far


def perform(duty: ScheduleEntry, now: datetime) -> str:
    """Do the duty, which the caller has claimed; returns how it went, and keeps it in MongoDB.

    When it cannot be done now it becomes due again, and NotNow is raised.
    """
    storage().schedule.set_state(duty.name, outcome="begun", backfills=[])
    try:
        outcome = _PERFORM[duty.do](duty, now)
    except NotNow as trouble:
        storage().schedule.set_state(duty.name, outcome=f"put off: {trouble}", reading=None, claimed_at=NEVER)
        raise
    log.info("duty done", duty=duty.name, outcome=outcome)
    return outcome


def running(note: Document | None, lacking_ids: set[str], now: datetime) -> bool:
    """Whether a duty's last run, of which `note` is kept, has not ended; `lacking_ids`: see `lacking`."""
    if not note:
        return False
    reading = note.get("reading")
    return bool(lacking_ids & set(note.get("backfills", ()))) or bool(
        reading and now - READING < reading["since"] <= now + AHEAD
    )


def sweep() -> int:
    """Enqueue what unfinished backfills lack and movies that are wanted, unless that waits; how many."""
    waiting = lengths()
    sent = feed(waiting)
    if sum(number for lane, number in waiting.items() if lane != MOVIES) <= SHORT:
        for backfill, missing in unfinished(storage(), fleet_now()):
            sent += enqueue_pages(missing, backfill.fresh_after_ms)
    if sent:
        log.info("swept", sent=sent)
    return sent


def feed(waiting: Mapping[str, int]) -> int:
    """Enqueue some of the movies that are wanted, unless their lane has enough; returns how many."""
    return enqueue_movies(storage().movie_requests.first(FED)) if waiting[MOVIES] <= SHORT else 0


def full_sweep(now: datetime) -> int:
    """Fetch again all that was asked for and is older than changes can tell; returns the messages sent."""
    return sum(
        begin(storage(), replace(asked, max_age=LONGEST_GAP, requested_at=now, duty="sweep"), "refresh")
        for asked in asked_backfills(storage())
    )


def changes_since() -> datetime | None:
    """From when on changes are unknown: the last reading, else the oldest page; None: nothing is stored."""
    return storage().change_feed.read_to() or storage().pages.oldest()


def begun_within(note: Document, period: timedelta, now: datetime) -> bool:
    """Whether a duty, of which `note` is kept, was begun within the period; not in a future that is none."""
    claimed_at: datetime = note.get("claimed_at", NEVER)
    return now - period < claimed_at <= now + AHEAD


def _is_due(duty: ScheduleEntry, period: timedelta, now: datetime) -> bool:
    """Whether it was not begun within the period, and its last run has ended."""
    note = storage().schedule.states().get(duty.name, {})
    if begun_within(note, period, now):
        return False  # at once: what a run lacks takes a look at all pages
    return not running(note, lacking(storage(), note.get("backfills", ())), now)


def _told(duty: ScheduleEntry, outcome: str, **facts: object) -> str:
    storage().schedule.set_state(duty.name, outcome=outcome, **facts)
    return outcome


def _sweep(duty: ScheduleEntry, _: datetime) -> str:
    return _told(duty, f"{sweep():,} sent")


def _changes(duty: ScheduleEntry, now: datetime) -> str:
    since = changes_since()
    if since is None:
        return _told(duty, "nothing is stored yet")
    said = f"reading from {since:%Y-%m-%d %H:%M}"
    if now - since > LONGEST_GAP:
        log.warning("gap", since=since.isoformat(), longest_days=LONGEST_GAP.days)
        said = f"a gap of {(now - since).days} days: full sweep, {full_sweep(now):,} sent"
    begin_reading(duty.name, since, now, said)
    return said


def _refresh(duty: ScheduleEntry, now: datetime) -> str:
    """This year and last year, or the duty's years, in the genres that people asked for."""
    genres = {id_: name for asked in asked_backfills(storage()) for id_, name in asked.genres.items()}
    if not genres:
        return _told(duty, "nothing was asked for yet")
    years = duty.years or (now.year - 1, now.year)
    wanted = Backfill(genres, years, duty.max_age, now, duty.name)
    sent = begin(storage(), wanted, "refresh")
    return _told(duty, f"{sent:,} sent, backfill {wanted.id}", backfills=[wanted.id])


def _oldest(duty: ScheduleEntry, now: datetime) -> str:
    """What would pass the retention before the run after next, the oldest first.

    Movies that stand on none of those pages, and details, are asked for one by one before the next run.
    """
    retention = settings().reelhaul_retention
    limit, last = (now - max(retention - times * duty.every, retention / 2) for times in (2, 1))
    ages = storage().pages.cells_fetched_before(limit)
    for cell in list(ages):  # a half's age is its year's
        year = cell._replace(window=cell.window[:4])
        ages[year] = min(ages.get(year, ages[cell]), ages[cell])
    sent, ids = 0, []
    for asked in asked_backfills(storage()):
        wanted = replace(asked, max_age=now - limit, requested_at=now, duty=duty.name)
        if ages.keys() & set(wanted.cells()):
            sent += begin(storage(), wanted, "refresh", ages)
            ids.append(wanted.id)
    single = (id_ for id_, page in storage().movies.fetched_before(last) if _cell_of(page) not in ages)
    listed = storage().movie_requests.add(single, now) + storage().movie_requests.add(
        storage().movies.details_fetched_before(last), now
    )
    sent += feed(lengths())
    return _told(duty, f"{sent:,} sent, {listed:,} movies wanted", backfills=ids)


def _cell_of(page: str) -> Cell | None:
    """The cell of the page where a movie was seen; None where it was no cell's."""
    genre_id, _, rest = page.partition(":")
    return Cell(int(genre_id), rest.rpartition(":")[0]) if genre_id.isdecimal() else None


_PERFORM = {"sweep": _sweep, "changes": _changes, "refresh": _refresh, "oldest": _oldest}


def _beat() -> dict[str, Any]:
    """Beat's one entry; click.UsageError, which Celery shows as one line, for a schedule that is none."""
    try:
        schedule_entries()
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    every = settings().reelhaul_tick_s
    entry = {"task": tick.name, "schedule": every, "options": {"expires": LIFE_S}}
    return {"beat_schedule": {"tick": entry}, "beat_scheduler": "celery.beat:Scheduler"}


app.add_defaults(_beat)
